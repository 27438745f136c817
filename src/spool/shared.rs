//! What the handle and the thread of the spool share: the inbox, and whether the disk is well.

use crate::{clock, drain::sealed::charge, format::thousands, line::Batch, say::say};
use std::{
    collections::VecDeque,
    fmt,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a publisher waits for a disk that is slower than the app, before it is not waited for.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);
/// Trouble is not spoken of more often than this.
pub(super) const QUIET: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) wake: Condvar,
    /// Batches were taken, or all is done.
    pub(super) moved: Condvar,
    pub(super) capacity: usize,
    pub(super) dir: PathBuf,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) waiting: VecDeque<Arc<Batch>>,
    pub(super) bytes: usize,
    /// Batches that the thread has in hand.
    pub(super) in_hand: usize,
    pub(super) sync: bool,
    pub(super) closing: bool,
    /// Where the drains stand is on the disk.
    pub(super) noted: bool,
    pub(super) finished: bool,
    /// Why nobody waits for the disk, if so; and since when.
    pub(super) degraded: Option<Degraded>,
    /// When trouble was last spoken of.
    pub(super) said: Option<Instant>,
    /// Units that were left out.
    pub(super) left_out: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Degraded {
    pub(super) since: Instant,
    /// It was said, so its end is worth a word, too.
    pub(super) said: bool,
}

impl State {
    /// Neither batches nor an order wait.
    pub(super) fn has_nothing_to_do(&self) -> bool {
        self.waiting.is_empty() && !self.closing && !self.sync
    }

    /// A publisher waits. One batch is taken whatever its size, and nobody waits for a disk that is not well.
    pub(super) fn is_full_for(&self, cost: usize, capacity: usize) -> bool {
        self.bytes > 0 && self.bytes + cost > capacity && self.degraded.is_none() && !self.finished
    }

    /// Something may yet be written.
    pub(super) fn is_unsettled(&self) -> bool {
        (self.in_hand > 0 || !self.waiting.is_empty()) && self.degraded.is_none() && !self.finished
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn degrade(&self, why: &str) {
        let mut state = self.lock();
        if state.degraded.is_some() {
            return;
        }
        let now = clock::now();
        let said = state.said.is_none_or(|at| now >= at + QUIET);
        state.degraded = Some(Degraded { since: now, said });
        if said {
            state.said = Some(now);
        }
        drop(state);
        self.moved.notify_all();
        if said {
            self.say(format_args!("{why}; drains go on from memory, and it is tried again"));
        }
    }

    /// The disk was waited for, in vain.
    pub(super) fn lose_patience(&self) {
        self.degrade(&format!("the disk takes nothing for {} ms", PATIENCE.as_millis()));
    }

    /// The thread is gone.
    pub(super) fn end(&self) {
        self.lock().finished = true;
        self.moved.notify_all();
    }

    pub(super) fn recover(&self) {
        let mut state = self.lock();
        let Some(Degraded { since, said }) = state.degraded.take() else { return };
        if !said {
            return;
        }
        let left_out = std::mem::take(&mut state.left_out);
        drop(state);
        let time = (clock::now() - since).as_secs_f64();
        let without = match left_out {
            0 => "; nothing was left out".to_owned(),
            units => format!("; {} lines are not in it", thousands(units)),
        };
        self.say(format_args!("works again after {time:.1} s{without}"));
    }

    pub(super) fn say(&self, words: fmt::Arguments<'_>) {
        say(format_args!("spool {}: {words}", self.dir.display()));
    }
}

/// What a batch counts as in the inbox: the same as in a queue.
pub(super) fn cost_of(batch: &Batch) -> usize {
    charge(batch.lines().data.len(), batch.len())
}
