//! The seams below [`super::Tcp`]: a connection, and who makes it. The real ones are [`Pipe`] and [`Connector`]; the
//! simulation has others.

use super::{
    dial::Connector,
    pipe::{Counters, Ending, Pipe},
};
use crate::{
    config::HostPort,
    transport::{Failure, Pulse},
};
use std::{fmt::Debug, io};

/// The bytes of one connection. [`Pipe`] says what each call is.
pub(crate) trait Wire: Debug {
    fn is_counted(&self) -> bool;
    fn may_be_refused(&self) -> bool;
    fn said_goodbye(&self) -> bool;
    fn is_tls(&self) -> bool;
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    fn try_flush(&mut self) -> io::Result<bool>;
    fn say_goodbye(&mut self) -> io::Result<()>;
    fn half_close(&self) -> io::Result<()>;
    fn counters(&mut self) -> Option<Counters>;
    fn all_acked(&self) -> bool;
    /// Throws away what came, past the runtime's notion of readiness.
    fn glance(&mut self) -> Result<(), Ending>;
    /// Throws away what the runtime says is there.
    fn input(&mut self) -> Result<(), Ending>;
    async fn readable(&self) -> Result<(), Ending>;
    async fn ready(&self) -> Result<bool, Ending>;
    async fn see_end(&mut self) -> Ending;
}

/// Makes connections to one peer.
pub(crate) trait Dial: Debug {
    type Wire: Wire;

    /// A fresh connection, ready to carry what is to be sent from `base` on.
    async fn connect(&mut self, base: u64) -> Result<Self::Wire, Failure>;

    /// What a connection that ended means, and says.
    fn failure(&mut self, ending: &Ending, resend_from: u64) -> Failure;

    /// The peer.
    fn peer(&self) -> &HostPort;

    /// Where it tells what it waits for.
    fn pulse(&self) -> Pulse {
        Pulse::default()
    }
}

impl Wire for Pipe {
    fn is_counted(&self) -> bool {
        self.is_counted()
    }

    fn may_be_refused(&self) -> bool {
        self.may_be_refused()
    }

    fn said_goodbye(&self) -> bool {
        self.said_goodbye()
    }

    fn is_tls(&self) -> bool {
        self.is_tls()
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn try_flush(&mut self) -> io::Result<bool> {
        self.try_flush()
    }

    fn say_goodbye(&mut self) -> io::Result<()> {
        self.say_goodbye()
    }

    fn half_close(&self) -> io::Result<()> {
        self.half_close()
    }

    fn counters(&mut self) -> Option<Counters> {
        self.counters()
    }

    fn all_acked(&self) -> bool {
        self.all_acked()
    }

    fn glance(&mut self) -> Result<(), Ending> {
        self.glance(&mut |_| {})
    }

    fn input(&mut self) -> Result<(), Ending> {
        self.input(&mut |_| {})
    }

    async fn readable(&self) -> Result<(), Ending> {
        self.readable().await
    }

    async fn ready(&self) -> Result<bool, Ending> {
        self.ready().await
    }

    async fn see_end(&mut self) -> Ending {
        self.see_end().await
    }
}

impl Dial for Connector {
    type Wire = Pipe;

    async fn connect(&mut self, base: u64) -> Result<Pipe, Failure> {
        self.connect(base).await
    }

    fn failure(&mut self, ending: &Ending, resend_from: u64) -> Failure {
        self.failure(ending, resend_from)
    }

    fn peer(&self) -> &HostPort {
        self.peer()
    }

    fn pulse(&self) -> Pulse {
        self.pulse().clone()
    }
}
