//! Plain TCP: bytes in order, with the evidence that a kernel can give.
//!
//! The grades, from weak to strong:
//! - *accepted*: the peer's kernel acknowledged the bytes (`SIOCOUTQ`, `tcpi_bytes_acked`), and they have left the
//!   replay window (see window.rs), so that its application had the time to read them, or newer bytes show that it did;
//! - *confirmed*: after our end of file the peer's came, and no reset: its application has read everything. (Linux
//!   resets if an application closes, or dies, with unread bytes.) A proxy that ends the connection answers for itself.
//!
//! Where the kernel does not count acknowledgements (gVisor), bytes that leave the window are *sent* only, until the
//! end of file confirms them.
//!
//! When a connection ends, everything from the start of the window is to be sent again; duplicates are the price of
//! not losing. A clean end of file with nothing unacknowledged is the exception: nothing is replayed, because Linux
//! would have reset had anything been unread. (A peer that shuts down its sending side only, and dies before it has
//! read the rest, is the gap in that rule.) A torn line is never continued on another connection.
//!
//! A peer that accepts and never reads: `send` waits for room. After 15 s with a closed window, or with anything
//! unacknowledged, the kernel gives up (`TCP_USER_TIMEOUT`) and the result is a retry on a new connection. At the
//! end, what it has not acknowledged lies behind the reported position, to the byte.
//!
//! Over TLS the same, with what pipe.rs adds: positions end at records, nothing counts before the peer is known to have
//! taken our side of the handshake, a connection that ended with an alert makes nothing safe, and one that ended without a
//! goodbye (close_notify) is no orderly close, and confirms nothing. Nor does an orderly close that was not asked for
//! make the window safe: what the peer's TLS library had taken out of the socket, its application may not have read.
//!
//! For the drain:
//! - A payload that does not begin where the last one ended starts a new connection; so does the first after a failure.
//! - After a failure, [`Transport::progress`] still speaks of the connection that ended, and its `upto` equals
//!   `resend_from`; a new epoch then starts at its first payload's position, which may be lower.
//! - `after: Some(0)` marks an orderly close of a connection that had carried bytes and owes none: no trouble, dial
//!   again when there is something to send.
//! - The window holds ¾ of the in-flight cap at most, unless the peer's application does not read. A drain that makes
//!   payloads of at most ⅛ of the cap, and sends while at most ⅞ of it is in flight, is held up by a peer that does not
//!   read, and by nothing else.
//! - At the deadline, a pending `send` or `watch` may be dropped; [`Transport::finish`] with a deadline that has passed
//!   then settles what is acknowledged, window included, because no replay will follow.

pub(super) mod dial;
mod link;
pub(super) mod pipe;
#[cfg(test)]
mod tls_tests;
mod window;

use self::{
    dial::{Connector, Peer},
    link::{Finish, Link},
    pipe::Ending,
    window::Policy,
};
use super::{Failure, Payload, Progress, Pulse, Transport, Verdict};
use crate::{config::TcpTarget, ledger::Grade};
use std::time::Duration;
use tokio::time::Instant;

/// See the module's documentation.
#[derive(Debug)]
pub struct Tcp {
    connector: Connector,
    policy: Policy,
    link: Option<Link>,
    /// Counts connections; that of `link`, or of the last one.
    epoch: u32,
    /// Final state of the connection that ended last.
    last: Option<Progress>,
    pulse: Pulse,
}

impl Tcp {
    /// A transport that connects at the first payload. `in_flight_cap`, in bytes, bounds what the drain keeps for this
    /// transport: unacknowledged and replayable bytes together.
    pub fn new(target: &TcpTarget, in_flight_cap: u64) -> Self {
        let policy = Policy { fixed: target.replay, cap: in_flight_cap };
        let connector = Connector::new(target.peer.clone(), target.tls.clone());
        Self { connector, policy, link: None, epoch: 0, last: None, pulse: Pulse::default() }
    }

    /// The connection that `payload` continues, or a new one.
    async fn link_for(&mut self, payload: &Payload) -> Result<&mut Link, Failure> {
        if self.link.as_ref().is_some_and(|link| link.written() != payload.position) {
            self.retire();
        }
        let link = match self.link.take() {
            Some(link) => link,
            None => self.connect(payload.position).await?,
        };
        Ok(self.link.insert(link))
    }

    /// A new connection, and with it a new epoch.
    async fn connect(&mut self, base: u64) -> Result<Link, Failure> {
        let pipe = self.connector.connect(base).await?;
        self.epoch += 1;
        Ok(Link::new(pipe, self.policy, base, self.pulse.clone()))
    }

    /// Closes the connection, keeping what is known of it.
    fn retire(&mut self) {
        if let Some(mut link) = self.link.take() {
            // Unread input would turn the close into a reset. How the connection ended is known already.
            let _ = link.glance();
            self.last = Some(Progress { epoch: self.epoch, upto: link.safe(), grade: link.grade() });
        }
    }

    /// Reads a dead connection's counters for the last time, closes it, and says what must be sent again.
    fn bury(&mut self, ending: Ending) -> Failure {
        let mut after = None;
        let mut resend_from = 0;
        if let Some(link) = self.link.as_mut() {
            link.poll_at_end(Instant::now());
            if matches!(ending, Ending::Closed) && link.carried() && link.unacked() == 0 {
                if link.end_tells_all() {
                    link.release();
                }
                // A peer that closes on young bytes again and again gets them with a back-off.
                after = (link.safe() == link.written()).then_some(Duration::ZERO);
            }
            resend_from = link.safe();
        }
        self.retire();
        let mut failure = self.connector.failure(&ending, resend_from);
        if let Verdict::Retry { after: when, .. } = &mut failure.verdict {
            *when = after;
        }
        failure
    }
}

impl Transport for Tcp {
    fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    async fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        // A fast peer would never let the runtime see its timers.
        tokio::task::consume_budget().await;
        match self.link_for(payload).await?.write(&payload.body).await {
            Ok(()) => Ok(()),
            Err(ending) => Err(self.bury(ending)),
        }
    }

    fn progress(&mut self, now: Instant) -> Option<Progress> {
        let Some(link) = &mut self.link else { return self.last };
        link.poll_if_due(now);
        Some(Progress { epoch: self.epoch, upto: link.safe(), grade: link.grade() })
    }

    async fn watch(&mut self) -> Result<(), Failure> {
        let Some(link) = &mut self.link else { return std::future::pending().await };
        match link.watch().await {
            Ok(()) => Ok(()),
            Err(ending) => Err(self.bury(ending)),
        }
    }

    async fn finish(&mut self, deadline: Instant) -> Result<(), Failure> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let end = link.written();
        match link.finish(deadline).await {
            Ok(Finish::Confirmed) => {
                self.link = None;
                self.last = Some(Progress { epoch: self.epoch, upto: end, grade: Grade::Confirmed });
                Ok(())
            }
            Ok(Finish::Unanswered) => {
                link.release();
                self.retire();
                Ok(())
            }
            Ok(Finish::Unacknowledged) => {
                link.release();
                let (resend_from, bytes) = (link.safe(), link.unacked());
                self.retire();
                let reason =
                    format!("{} did not acknowledge the last {bytes} bytes in time", Peer(self.connector.peer()));
                Err(Failure { verdict: Verdict::Retry { resend_from, after: None }, reason })
            }
            Err(ending) => {
                let failure = self.bury(ending);
                let owes = !matches!(failure.verdict, Verdict::Retry { resend_from, .. } if resend_from >= end);
                if owes { Err(failure) } else { Ok(()) }
            }
        }
    }
}
