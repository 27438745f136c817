//! Transports: how bytes travel, and what confirms them.
//!
//! A drain hands over sealed [`Payload`]s in order. Each has a *position*: its offset in the stream of all wire bytes
//! that the drain ever sealed. A transport answers in positions, so that one drain loop serves request-response
//! protocols (a whole payload is confirmed at once) and byte streams (a position inside a payload is acknowledged)
//! alike; the drain's queue knows where each unit ends.
//!
//! Positions ascend, and follow on one another without a hole until a payload is cut anew ([`Verdict::Split`],
//! [`Verdict::Reject`]): its parts, and what comes later, then start behind all positions that were given out before.

pub mod file;
pub mod http;
mod pulse;
pub mod relp;
pub mod tcp;
pub(crate) mod tls;
pub mod udp;
pub mod unix;

pub use pulse::Pulse;

use crate::ledger::Grade;
use bytes::Bytes;
use std::{future::Future, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A sealed run of units, encoded. Identical over all retries.
#[derive(Clone, Debug)]
pub struct Payload {
    /// Offset of the first byte in the drain's stream of wire bytes.
    pub position: u64,
    /// The encoded units.
    pub body: Bytes,
    /// How many units are in it (gap lines not counted).
    pub units: usize,
    /// Names the payload for receivers that remove duplicates; equal on every retry.
    pub key: String,
    /// Where each unit or gap line ends in `body`: the borders that datagrams are cut at, and short writes are told by.
    pub ends: Arc<[u32]>,
}

impl Payload {
    /// Position just behind the last byte.
    pub fn end(&self) -> u64 {
        self.position + self.body.len() as u64
    }
}

/// What a transport knows of the bytes that it took.
///
/// Positions never go back within an epoch. `Confirmed` covers everything of this epoch up to `upto`, also what was
/// reported as accepted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Grows with each new connection (or file): evidence reaches no further back than this.
    pub epoch: u32,
    /// All bytes before this position have at least `grade`.
    pub upto: u64,
    /// How sure that is.
    pub grade: Grade,
}

/// Why a payload (or a connection with payloads in it) did not make it, grouped by what the drain does about it.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Weather: send again, from position `resend_from` on, after a back-off (or after `after`, if the receiver named
    /// a time).
    Retry {
        /// First byte that is not known to be safe. Units that end before it, and are not covered by what
        /// [`Transport::progress`] says after the failure, count as accepted.
        resend_from: u64,
        /// The receiver's own wish (Retry-After). Zero: an orderly end of the connection, which is no trouble; send again
        /// at once.
        after: Option<Duration>,
    },
    /// Too large for the receiver (413): halve; a single unit is lost as oversize.
    Split,
    /// The receiver refuses the content: bisect down to the unit, which is lost as rejected.
    Reject,
    /// Nothing is wrong with the lines, but with the endpoint or the credentials: slow retry, loud, never dropped
    /// for time.
    Hold,
    /// The receiver spoke of each item (or said how many it refused): a verdict an item of the payload, in their order.
    /// What is to be tried again travels as a payload of its own, after a back-off or after `after`, as in `Retry`.
    Items {
        /// As many as the payload has items.
        items: Vec<ItemVerdict>,
        /// See [`Verdict::Retry`]. Zero: at once.
        after: Option<Duration>,
    },
}

/// What became of one item of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemVerdict {
    /// Confirmed.
    Stored,
    /// Refused for good: a unit is lost as rejected.
    Rejected,
    /// So many were refused, and nobody knows which: each of these stands for one, whichever it is.
    SomeRejected,
    /// Not stored, but it may be.
    Retry,
}

/// A verdict with its reason, in words fit for "drain NAME: {reason}".
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What the drain does about it.
    pub verdict: Verdict,
    /// What happened, without credentials.
    pub reason: String,
}

/// How bytes travel. Real ones live in this folder; tests have simulated ones.
///
/// A drain uses its transport from one task: calls never overlap, except that `watch` is dropped when a payload comes.
pub trait Transport {
    /// A `send` may be dropped and its payload sent again whole: the receiver sees two requests, not a torn stream.
    const REPEATABLE: bool = false;

    /// Where the transport tells how far it is, for those who wonder about a `send` that lasts. Asked for once, before the
    /// first. One that stays at 0 belongs to a transport whose sends are short, or that cannot tell.
    fn pulse(&self) -> Pulse {
        Pulse::default()
    }

    /// Delivers one payload, connecting first if need be. `Ok` means that the transport took all of it; what became of
    /// it is [`Transport::progress`]'s to say. It is asked after a failure too, before the verdict is obeyed: what it
    /// covers is settled, and the verdict is about the rest. Not cancelled before the exit: then the future is dropped,
    /// and just [`Transport::progress`] is called once more.
    fn send(&mut self, payload: &Payload) -> impl Future<Output = Result<(), Failure>>;

    /// What is known now. Cheap; called after every `send` and `watch`.
    fn progress(&mut self, now: Instant) -> Option<Progress>;

    /// Waits until there may be new progress, or the connection ended. Pending for ever where neither can happen.
    /// Must be cancel-safe.
    fn watch(&mut self) -> impl Future<Output = Result<(), Failure>>;

    /// All payloads were sent and no more will come: get the strongest evidence there is before `deadline`
    /// (half-close and wait for the peer's end of file, sync the file). Dropped like `send` if the exit comes first.
    fn finish(&mut self, deadline: Instant) -> impl Future<Output = Result<(), Failure>>;
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the tests of the transports share.

    use super::Payload;

    /// A payload of these items.
    pub(crate) fn payload(position: u64, items: &[&str]) -> Payload {
        let mut ends = Vec::new();
        let mut body = String::new();
        for item in items {
            body += item;
            ends.push(u32::try_from(body.len()).unwrap());
        }
        Payload { position, body: body.into(), units: items.len(), key: format!("key-{position}"), ends: ends.into() }
    }
}
