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

pub(crate) mod carrier;
pub(super) mod dial;
mod link;
mod marks;
pub(crate) mod pipe;
#[cfg(test)]
mod tls_tests;
pub(crate) mod window;
pub(crate) mod wire;

use self::{carrier::Carrier, dial::Connector, window::Policy};
use super::{Failure, Payload, Progress, Pulse, Transport};
use crate::config::TcpTarget;
use tokio::time::Instant;

/// See the module's documentation.
#[derive(Debug)]
pub struct Tcp(Carrier<Connector>);

impl Tcp {
    /// A transport that connects at the first payload. `in_flight_cap`, in bytes, bounds what the drain keeps for this
    /// transport: unacknowledged and replayable bytes together.
    pub fn new(target: &TcpTarget, in_flight_cap: u64) -> Self {
        let policy = Policy { fixed: target.replay, cap: in_flight_cap };
        Self(Carrier::new(Connector::new(target.peer.clone(), target.tls.clone()), policy))
    }
}

impl Transport for Tcp {
    fn pulse(&self) -> Pulse {
        self.0.pulse()
    }

    async fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        self.0.send(payload).await
    }

    fn progress(&mut self, now: Instant) -> Option<Progress> {
        self.0.progress(now)
    }

    async fn watch(&mut self) -> Result<(), Failure> {
        self.0.watch().await
    }

    async fn finish(&mut self, deadline: Instant) -> Result<(), Failure> {
        self.0.finish(deadline).await
    }
}
