//! Signs of life from within a send, which may last: a slow receiver is not a stalled one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How far a transport ever came: a mark that grows with the positions of what went out, or was acknowledged. It moves
/// during a send; a receiver that is sent the same bytes again and again does not move it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The transport is here, if it was not further already.
    pub fn reach(&self, mark: u64) {
        self.0.fetch_max(mark, Ordering::Relaxed);
    }

    /// The furthest mark.
    pub fn furthest(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
