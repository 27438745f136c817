//! Drains: each a thread with its own queue, runtime, transport and accounts, isolated from all others.
//!
//! ```text
//! reader ─▶ inbox (queue + accounts under one lock) ─▶ pack + format ─▶ transport ─▶ progress ─▶ accounts
//! ```

use crate::{
    config::{Config, DrainSpec},
    event::Bell,
    ledger::{Counts, DrainReport},
    line::Batch,
};
use std::{sync::Arc, time::Instant};

/// All drains of a run, as the readers and the supervisor see them. Cheap to clone; every call returns at once, except
/// [`Drains::wait_for_room`].
#[derive(Clone)]
pub struct Drains {}

impl Drains {
    /// Starts one thread a drain. `bell` gets one `DrainDone` from each, after [`Drains::close`].
    pub fn start(_specs: &[DrainSpec], _config: &Config, _bell: &Bell) -> std::io::Result<Self> {
        unimplemented!()
    }

    /// Hands a batch to every drain that wants its stream; full queues follow `--when-full`.
    pub fn publish(&self, _batch: &Arc<Batch>) {}

    /// With `--when-full block`: waits until every queue has room for `bytes`, or the drains are hurried past waiting
    /// ([`Drains::close`], or a dead drain). Else returns at once.
    pub fn wait_for_room(&self, _bytes: usize) {}

    /// A stop was asked for: leave every back-off, linger 0, retry at least every second until `end_at`.
    pub fn hurry(&self, _end_at: Instant) {}

    /// No more batches will come: send all, finish the transport, then ring `DrainDone`. Blocked publishers return.
    pub fn close(&self, _end_at: Instant) {}

    /// Moves `end_at` of an earlier `hurry` or `close` (a stop during the flush shortens it).
    pub fn set_end(&self, _end_at: Instant) {}

    /// Units settled over all drains: grows while there is progress.
    pub fn settled(&self) -> u64 {
        0
    }

    /// Live accounts: (name, counts).
    pub fn counts(&self) -> Vec<(String, Counts)> {
        Vec::new()
    }

    /// Freezes every account: what is pending becomes lost(deadline), later news is ignored. Asserts the identity.
    /// Returns the report; waits for no thread.
    pub fn close_books(&self) -> Vec<DrainReport> {
        Vec::new()
    }
}
