//! A byte stream: the two kernels of a TCP connection and the application at its far end, in memory. Above it, lastword's
//! own transport: window, replay, end of file.

mod peer;

use super::{
    receiver::Receiver,
    weather::{Fault, Weather},
};
use crate::{
    config::HostPort,
    transport::{
        Failure, Verdict,
        tcp::{
            pipe::{Counters, Ending},
            wire::{Dial, Wire},
        },
    },
};
use rand::RngExt;
use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, ErrorKind},
    rc::Rc,
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// The kernel gives up on a peer that takes nothing for so long (`TCP_USER_TIMEOUT`).
const USER_TIMEOUT: Duration = Duration::from_secs(15);
/// What was acknowledged so long ago has left the replay window, though it may be unread.
const AGE: Duration = Duration::from_secs(5);

const FITS: &[Fault] = &[
    Fault::ResetBefore,
    Fault::ResetAfter,
    Fault::BlackHole,
    Fault::HalfOpen,
    Fault::Slow,
    Fault::Stall,
    Fault::Cut,
    Fault::Close,
];

/// Makes connections.
#[derive(Debug)]
pub(super) struct Dialer {
    receiver: Rc<RefCell<Receiver>>,
    weather: Rc<RefCell<Weather>>,
    peer: HostPort,
    tls: bool,
    /// Bytes of our kernel's buffer, and of the peer's.
    buffers: (usize, usize),
}

impl Dialer {
    pub(super) fn new(
        receiver: &Rc<RefCell<Receiver>>,
        weather: &Rc<RefCell<Weather>>,
        tls: bool,
        buffers: (usize, usize),
    ) -> Self {
        let peer = HostPort { host: "peer".into(), port: 1 };
        let (receiver, weather) = (Rc::clone(receiver), Rc::clone(weather));
        Self { receiver, weather, peer, tls, buffers }
    }
}

impl Dial for Dialer {
    type Wire = Line;

    async fn connect(&mut self, base: u64) -> Result<Line, Failure> {
        let fault = self.weather.borrow_mut().look(&[Fault::Refuse, Fault::BlackHole]);
        let time = match fault {
            Some(Fault::BlackHole) => Duration::from_secs(10),
            _ => Duration::from_millis(self.weather.borrow_mut().rng.random_range(0..4)),
        };
        tokio::time::sleep(time).await;
        if fault.is_some() {
            return Err(Failure {
                verdict: Verdict::Retry { resend_from: base, after: None },
                reason: "no way".into(),
            });
        }
        let shared = Rc::new(Shared {
            state: RefCell::new(State {
                receiver: Rc::clone(&self.receiver),
                weather: Rc::clone(&self.weather),
                tls: self.tls,
                ours: VecDeque::new(),
                ours_size: self.buffers.0,
                acked: 0,
                theirs: Vec::new(),
                theirs_size: self.buffers.1,
                ages: VecDeque::new(),
                torn: Vec::new(),
                our_end: false,
                their_end: None,
                broken: None,
                gone: false,
                host_gone: false,
                moved: Instant::now(),
            }),
            client: Notify::new(),
            peer: Notify::new(),
        });
        super::spawn(peer::peer(Rc::clone(&shared)));
        Ok(Line(shared))
    }

    fn failure(&mut self, ending: &Ending, resend_from: u64) -> Failure {
        Failure { verdict: Verdict::Retry { resend_from, after: None }, reason: format!("{ending:?}") }
    }

    fn peer(&self) -> &HostPort {
        &self.peer
    }
}

/// One connection, from our side.
#[derive(Debug)]
pub(super) struct Line(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    state: RefCell<State>,
    client: Notify,
    peer: Notify,
}

#[derive(Debug)]
struct State {
    receiver: Rc<RefCell<Receiver>>,
    weather: Rc<RefCell<Weather>>,
    tls: bool,
    /// In our kernel: written, not acknowledged.
    ours: VecDeque<u8>,
    ours_size: usize,
    acked: u64,
    /// In the peer's kernel: acknowledged, not read.
    theirs: Vec<u8>,
    theirs_size: usize,
    /// When how many bytes came into `theirs`.
    ages: VecDeque<(usize, Instant)>,
    /// In the application: read, of a line without an end.
    torn: Vec<u8>,
    our_end: bool,
    /// The peer's end of file; true if it was an orderly one.
    their_end: Option<bool>,
    broken: Option<ErrorKind>,
    /// We closed the connection.
    gone: bool,
    /// The peer's machine is no more, and nobody tells us.
    host_gone: bool,
    /// When our kernel last got rid of anything, or had nothing to get rid of.
    moved: Instant,
}

impl Drop for Line {
    /// The kernel goes on sending what it has, and the application reads on; unless the peer is gone, or sends a reset.
    fn drop(&mut self) {
        let mut state = self.0.state.borrow_mut();
        if !state.is_over() && !state.host_gone && !std::thread::panicking() {
            let some = state.ours.len();
            let reached = if state.weather.borrow_mut().rng.random() { some } else { some / 2 };
            state.read(usize::MAX);
            state.carry(reached);
            state.read(usize::MAX);
        }
        state.receiver.borrow_mut().may_repeat();
        state.gone = true;
        drop(state);
        self.0.peer.notify_one();
    }
}

impl Line {
    fn end(&self) -> Result<(), Ending> {
        let state = self.0.state.borrow();
        match (state.broken, state.their_end) {
            (Some(kind), _) => Err(Ending::Broken(kind.into())),
            (None, Some(true)) => Err(Ending::Closed),
            (None, Some(false)) => Err(Ending::Truncated),
            (None, None) => Ok(()),
        }
    }
}

impl Wire for Line {
    fn is_counted(&self) -> bool {
        true
    }

    fn may_be_refused(&self) -> bool {
        false
    }

    fn said_goodbye(&self) -> bool {
        let state = self.0.state.borrow();
        state.tls && state.their_end == Some(true)
    }

    fn is_tls(&self) -> bool {
        self.0.state.borrow().tls
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state.borrow_mut();
        if let Some(kind) = state.broken {
            return Err(kind.into());
        }
        if state.receiver.borrow().deaf {
            return Err(ErrorKind::WouldBlock.into());
        }
        let room = state.ours_size.saturating_sub(state.ours.len()).min(bytes.len());
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        if state.ours.is_empty() {
            state.moved = Instant::now();
        }
        state.ours.extend(&bytes[..room]);
        drop(state);
        self.0.peer.notify_one();
        Ok(room)
    }

    fn try_flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn say_goodbye(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn half_close(&self) -> io::Result<()> {
        self.0.state.borrow_mut().our_end = true;
        self.0.peer.notify_one();
        Ok(())
    }

    fn counters(&mut self) -> Option<Counters> {
        let state = self.0.state.borrow();
        let window = u32::try_from(state.theirs_size.saturating_sub(state.theirs.len())).ok();
        Some(Counters { acked: state.acked, window })
    }

    fn all_acked(&self) -> bool {
        self.0.state.borrow().ours.is_empty()
    }

    fn glance(&mut self) -> Result<(), Ending> {
        self.end()
    }

    fn input(&mut self) -> Result<(), Ending> {
        self.end()
    }

    async fn readable(&self) -> Result<(), Ending> {
        while self.end().is_ok() {
            self.0.client.notified().await;
        }
        Ok(())
    }

    async fn ready(&self) -> Result<bool, Ending> {
        let has_room = || {
            let state = self.0.state.borrow();
            state.ours.len() < state.ours_size
        };
        while self.end().is_ok() {
            if has_room() {
                return Ok(false);
            }
            self.0.client.notified().await;
        }
        Ok(true)
    }

    async fn see_end(&mut self) -> Ending {
        self.end().err().unwrap_or(Ending::Closed)
    }
}
