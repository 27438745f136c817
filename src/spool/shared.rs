//! What the handle and the thread of the spool share: the inbox, and whether the disk is well.

use crate::{clock, drain::sealed::charge, format::thousands, line::Batch, report::Unreadable, say::say};
use std::{
    collections::VecDeque,
    fmt, io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a publisher waits for a disk that is slower than the app, before it is not waited for.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);
/// Trouble is not spoken of more often than this.
pub(super) const QUIET: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) wake: Condvar,
    /// Batches were taken, or all is done.
    pub(super) moved: Condvar,
    pub(super) capacity: usize,
    /// The thread had nothing to look after once, and waits until it is woken.
    #[cfg(test)]
    pub(super) sleeps: std::sync::atomic::AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) waiting: VecDeque<Arc<Batch>>,
    pub(super) bytes: usize,
    /// Batches that the thread has in hand.
    pub(super) in_hand: usize,
    pub(super) sync: bool,
    /// A disk that refused is to be asked again without a pause.
    pub(super) at_once: bool,
    /// Whether all that counts as kept is there is to be looked at, before the books are closed.
    pub(super) asked: bool,
    pub(super) closing: bool,
    /// Where the drains stand is on the disk.
    pub(super) noted: bool,
    pub(super) finished: bool,
    /// Why nobody waits for the disk, if so; and since when.
    pub(super) degraded: Option<Degraded>,
    /// When trouble was last spoken of.
    pub(super) said: Option<Instant>,
    /// Units that were never appended: no drain held them any more when the disk worked again.
    pub(super) past: u64,
    /// How many times there was trouble.
    pub(super) troubles: u64,
    /// The directory that was asked for, until one is open.
    pub(super) dir: PathBuf,
    /// What was found in it and can't be read.
    pub(super) unreadable: Unreadable,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Degraded {
    pub(super) since: Instant,
    /// It was said, so its end is worth a word, too.
    pub(super) said: bool,
    /// What [`State::past`] was.
    pub(super) past: u64,
    /// A sync failed: what it was to make safe stays unsafe.
    pub(super) unsynced: bool,
    /// Files vanished: what is to be said then of what is in the spool.
    pub(super) instead: Option<&'static str>,
}

impl Degraded {
    /// What is said when it is over: what is in the spool now, when `past` units went past it.
    pub(super) fn ending(&self, past: u64, now: Instant) -> String {
        let time = (now - self.since).as_secs_f64();
        let without = match past {
            _ if let Some(words) = self.instead => words.to_owned(),
            0 => "nothing is missing in it".to_owned(),
            units => format!("{} lines that no drain holds any more went past it", thousands(units)),
        };
        let unsafe_ = if self.unsynced { ", but a crash of the machine may take what did not sync" } else { "" };
        format!("works again after {time:.1} s; {without}{unsafe_}")
    }
}

impl State {
    /// Neither batches nor an order wait.
    pub(super) fn has_nothing_to_do(&self) -> bool {
        self.waiting.is_empty() && !self.closing && !self.sync && !self.asked
    }

    /// A publisher waits. One batch is taken whatever its size, and nobody waits for a disk that is not well.
    pub(super) fn is_full_for(&self, cost: usize, capacity: usize) -> bool {
        self.bytes > 0 && self.bytes + cost > capacity && self.degraded.is_none() && !self.finished
    }

    /// Something is on its way to the disk, or will be tried without a pause.
    pub(super) fn is_unsettled(&self) -> bool {
        let tries = self.at_once || self.degraded.is_none();
        !self.finished && (self.asked || self.in_hand > 0 || tries && !self.waiting.is_empty())
    }

    /// Puts a batch behind the others. The oldest make room; while the drains hold them, [`super::keeper`] finds them.
    pub(super) fn add(&mut self, batch: Arc<Batch>, capacity: usize) {
        self.bytes += cost_of(&batch);
        self.waiting.push_back(batch);
        self.trim(capacity);
    }

    /// Puts batches before all others.
    pub(super) fn put_back(&mut self, batches: Vec<Arc<Batch>>, capacity: usize) {
        for batch in batches.into_iter().rev() {
            self.bytes += cost_of(&batch);
            self.waiting.push_front(batch);
        }
        self.trim(capacity);
    }

    /// One batch is kept whatever its size.
    fn trim(&mut self, capacity: usize) {
        while self.bytes > capacity
            && self.waiting.len() > 1
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.bytes -= cost_of(&oldest);
        }
    }
}

impl Shared {
    pub(super) fn new(capacity: usize, dir: PathBuf) -> Self {
        let state = State { dir, ..State::default() };
        Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            moved: Condvar::new(),
            capacity,
            #[cfg(test)]
            sleeps: false.into(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked for was looked at, or there is nothing to look at.
    pub(super) fn answered(&self) {
        self.lock().asked = false;
        self.moved.notify_all();
    }

    /// What was in hand is to be written to another directory.
    pub(super) fn hand_back(&self, batches: Vec<Arc<Batch>>) {
        let mut state = self.lock();
        state.in_hand = 0;
        state.bytes -= batches.iter().map(|batch| cost_of(batch)).sum::<usize>();
        state.put_back(batches, self.capacity);
    }

    /// There is a directory, and this was found in it.
    pub(super) fn opened(&self, dir: PathBuf, unreadable: Unreadable) {
        let mut state = self.lock();
        state.dir = dir;
        state.unreadable.merge(&unreadable);
    }

    /// The disk refuses, or is too slow: nobody waits for it any more.
    pub(super) fn degrade(&self, why: &str) {
        self.is_news(why);
    }

    /// [`Self::degrade`], and whether it was said.
    fn is_news(&self, why: &str) -> bool {
        let mut state = self.lock();
        if state.degraded.is_some() || planted!(enospc_retried_for_ever) {
            return false;
        }
        let now = clock::now();
        let said = state.said.is_none_or(|at| now >= at + QUIET);
        state.degraded = Some(Degraded { since: now, said, past: state.past, unsynced: false, instead: None });
        state.troubles += 1;
        if said {
            state.said = Some(now);
        }
        drop(state);
        self.moved.notify_all();
        if said {
            self.say(format_args!("{why}; drains go on from memory, and it is tried again"));
        }
        said
    }

    /// The disk did not sync.
    pub(super) fn unsynced(&self, error: &io::Error) {
        self.degrade(&format!("the disk did not sync: {error}"));
        if let Some(degraded) = &mut self.lock().degraded {
            degraded.unsynced = true;
        }
    }

    /// What was written is not where it was: that is always said. `instead`: see the field.
    pub(super) fn vanished(&self, what: &str, instead: &'static str) {
        if !self.is_news(what) {
            self.say(format_args!("{what}"));
        }
        if let Some(degraded) = &mut self.lock().degraded {
            degraded.instead = Some(instead);
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

    /// The disk did what it was asked, and has all that there is up to `next`, the next unit to append.
    pub(super) fn recover(&self, next: u64) {
        let mut state = self.lock();
        // What waits may begin behind a hole; it is filled first.
        if state.waiting.front().is_some_and(|batch| batch.first_seq() > next) {
            return;
        }
        let Some(degraded) = state.degraded.take() else { return };
        let past = state.past - degraded.past;
        drop(state);
        if degraded.said {
            self.say(format_args!("{}", degraded.ending(past, clock::now())));
        }
    }

    /// The disk has refused: gives it time, unless there is none. True if the books are closed.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let patient = |state: &mut State| !state.closing && !state.at_once;
        let waited = self.wake.wait_timeout_while(self.lock(), time, patient);
        waited.unwrap_or_else(PoisonError::into_inner).0.closing
    }

    pub(super) fn say(&self, words: fmt::Arguments<'_>) {
        let dir = self.lock().dir.clone();
        say(format_args!("spool {}: {words}", dir.display()));
    }
}

/// What a batch counts as in the inbox: the same as in a queue.
pub(super) fn cost_of(batch: &Batch) -> usize {
    charge(batch.lines().data.len(), batch.len())
}
