//! How long a life may last once its app was told to stop, or is gone. While the app lives and nobody stops it, it may go on.

use super::plan::Knobs;
use crate::{
    config::{Budget, Leftovers},
    lifecycle::{Event, State},
};
use std::time::{Duration, Instant};

/// Leftovers of an app have its share of the budget; on a guess they have two last calls, of 2 s at most, after a late
/// app's exit. Then comes the KILL, and what outlives it is given up.
const LEFTOVERS: Duration = Duration::from_millis(2 * 2_000 + 500);
/// The books are closed: what the spool is waited for, at most.
const LAST_WORDS: Duration = Duration::from_millis(3 * 80);

/// See the module.
#[derive(Debug)]
pub(super) struct Patience {
    budget: Budget,
    flush_timeout: Duration,
    leftovers: Leftovers,
    /// The first stop.
    stop: Option<Instant>,
    /// The last run's app ended.
    exited: Option<Instant>,
    /// And all that it left behind, or they were given up.
    gone: Option<Instant>,
}

impl Patience {
    pub(super) fn new(knobs: &Knobs) -> Self {
        let Knobs { budget, flush_timeout, leftovers, .. } = *knobs;
        Self { budget, flush_timeout, leftovers, stop: None, exited: None, gone: None }
    }

    /// The machine took an event.
    pub(super) fn sees(&mut self, event: Event, before: State, after: State, now: Instant) {
        let is_over = |state| matches!(state, State::Closing(..) | State::Flushing(..) | State::Exit(_));
        match event {
            Event::Stop(_) if before != State::Spawning => drop(self.stop.get_or_insert(now)),
            Event::AppExited { .. } => drop(self.exited.get_or_insert(now)),
            _ => {}
        }
        if is_over(after) && !is_over(before) {
            self.gone = Some(now);
        }
        if matches!(after, State::BackOff(_)) {
            (self.exited, self.gone) = (None, None);
        }
    }

    /// The process exits now.
    pub(super) fn check(&self, now: Instant) {
        let total = self.budget.duration();
        let since = |then: Instant| now.saturating_duration_since(then);
        if let (Budget::Stated(_), Some(stop)) = (self.budget, self.stop) {
            assert!(since(stop) <= total, "the platform's SIGKILL came {:?} after the stop", since(stop));
        }
        let Some(gone) = self.gone else { return };
        let most = total.max(self.flush_timeout) + LAST_WORDS;
        assert!(since(gone) <= most, "the exit came {:?} after the last of them", since(gone));
        // Who is waited for has the time that he wants.
        if let Some(exited) = self.exited.filter(|_| self.leftovers != Leftovers::Wait) {
            let stayed = gone.saturating_duration_since(exited);
            assert!(stayed <= total + LEFTOVERS, "leftovers stayed for {stayed:?}");
        }
    }
}
