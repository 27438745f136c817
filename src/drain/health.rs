//! What lastword says about a drain on stderr: one line when its state changes, not one a failure.

use crate::{format::thousands, ledger::Loss};
use std::time::Duration;
use tokio::time::Instant;

/// No two lines about retries come closer than this.
const QUIET: Duration = Duration::from_secs(10);
/// Overflow, and refusal of single lines, is spoken of again this often while it goes on.
const OVERFLOW: Duration = Duration::from_secs(60);
/// A drain that is held is named again this often: a person has to act.
const REMINDER: Duration = Duration::from_secs(300);

/// Whether the drain is well, and what was last said about it. Pure.
#[derive(Debug, Default)]
pub(crate) struct Health {
    trouble: Option<Trouble>,
    last_said: Option<Instant>,
    overflow: Option<(u64, Instant)>,
    gave_up: Option<Instant>,
    /// Since when nothing moves, if that was said.
    stalled: Option<Instant>,
    said_stalled: Option<Instant>,
}

#[derive(Debug)]
struct Trouble {
    since: Instant,
    failures: u32,
    reason: String,
    held: bool,
    said: Option<Instant>,
}

impl Health {
    /// What is wrong, if anything is.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.reason.as_str())
    }

    /// A try failed. Returns what to say: nothing for a first failure (most pass), a line for the second.
    pub(crate) fn failed(&mut self, reason: &str, held: bool, now: Instant) -> Option<String> {
        let recent = self.last_said.is_some_and(|at| now < at + QUIET);
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            since: now,
            failures: 0,
            reason: String::new(),
            held: false,
            said: None,
        });
        trouble.failures += 1;
        let news = trouble.said.is_none() || (held && (!trouble.held || trouble.reason != reason));
        let due = trouble.said.is_some_and(|at| held && now >= at + REMINDER);
        reason.clone_into(&mut trouble.reason);
        trouble.held = held;
        if !(due || news && (held || trouble.failures > 1) && (held || !recent)) {
            return None;
        }
        (trouble.said, self.last_said) = (Some(now), Some(now));
        Some(if held {
            format!("{reason}; this needs mending; lines are kept, and it is tried again every half minute")
        } else {
            format!("{reason}; trying again, lines are kept")
        })
    }

    /// Nothing has moved for `time`, and nothing failed. Returns what to say: a line, unless there was one in this stall or
    /// within a minute.
    pub(crate) fn stalled(&mut self, time: Duration, waiting: u64, now: Instant) -> Option<String> {
        if self.stalled.is_some() || self.said_stalled.is_some_and(|at| now < at + OVERFLOW) {
            return None;
        }
        self.stalled = now.checked_sub(time);
        (self.said_stalled, self.last_said) = (Some(now), Some(now));
        let (lines, seconds) = (thousands(waiting), time.as_secs());
        Some(format!("stalled: nothing was taken for {seconds} s, though nothing failed; lines are kept ({lines})"))
    }

    /// A single line was refused for good. Returns what to say: not each one's name, the report has their count.
    pub(crate) fn gave_up(&mut self, reason: &str, loss: Loss, now: Instant) -> Option<String> {
        if self.gave_up.is_some_and(|at| now < at + OVERFLOW) {
            return None;
        }
        self.gave_up = Some(now);
        Some(format!("{reason}; the line is lost ({}), and counted", loss.name()))
    }

    /// So many lines were lost to overflow so far. Returns what to say: a line when it begins, and once a minute after.
    pub(crate) fn overflowed(&mut self, lost: u64, now: Instant) -> Option<String> {
        let (known, at) = self.overflow.map_or((0, None), |(known, at)| (known, Some(at)));
        if lost == known || at.is_some_and(|at| now < at + OVERFLOW) {
            return None;
        }
        self.overflow = Some((lost, now));
        Some(format!("its memory is full; {} lines lost so far (overflow)", thousands(lost)))
    }

    /// The receiver took something. Returns what to say: a line if trouble, or a stall, was announced.
    pub(crate) fn recovered(&mut self, now: Instant) -> Option<String> {
        let trouble = self.trouble.take().filter(|trouble| trouble.said.is_some()).map(|trouble| trouble.since);
        let since = trouble.into_iter().chain(self.stalled.take()).min()?;
        self.last_said = Some(now);
        let after = now.duration_since(since).as_secs_f64();
        Some(format!("well again after {after:.1} s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_speaks_once_an_outage_and_once_at_its_end() {
        let start = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.failed("refused", false, start), None);
        assert_eq!(health.recovered(start), None, "a single failure is not worth a line");
        assert_eq!(health.failed("refused", false, start), None);
        assert!(health.failed("refused", false, start).unwrap().starts_with("refused; trying"));
        assert_eq!(health.failed("refused", false, start + QUIET), None);
        assert_eq!(health.trouble(), Some("refused"));
        let end = start + Duration::from_millis(2500);
        assert_eq!(health.recovered(end).unwrap(), "well again after 2.5 s");
        assert_eq!(health.trouble(), None);
        assert_eq!(health.failed("refused", false, end), None);
        assert_eq!(health.failed("refused", false, end), None, "a flapping drain does not flood stderr");
        assert!(health.failed("refused", false, end + QUIET).is_some());
    }

    #[test]
    fn overflow_is_mentioned_when_it_begins_and_once_a_minute() {
        let start = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.overflowed(0, start), None);
        assert!(health.overflowed(1200, start).unwrap().contains("1,200 lines lost"));
        assert_eq!(health.overflowed(1300, start), None);
        assert!(health.overflowed(1400, start + OVERFLOW).is_some());
        assert_eq!(health.overflowed(1400, start + 2 * OVERFLOW), None, "it is over");
    }

    #[test]
    fn a_refused_line_is_mentioned_but_not_each() {
        let start = Instant::now();
        let mut health = Health::default();
        let said = health.gave_up("400 Bad Request", Loss::Rejected, start).unwrap();
        assert_eq!(said, "400 Bad Request; the line is lost (rejected), and counted");
        assert_eq!(health.gave_up("400 Bad Request", Loss::Rejected, start + QUIET), None);
        assert!(health.gave_up("413 Too Large", Loss::Oversize, start + OVERFLOW).is_some());
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn a_stall_is_told_when_it_begins_and_ends_and_not_again_within_a_minute() {
        let start = Instant::now() + OVERFLOW;
        let mut health = Health::default();
        let said = health.stalled(QUIET, 1234, start).unwrap();
        assert_eq!(said, "stalled: nothing was taken for 10 s, though nothing failed; lines are kept (1,234)");
        assert_eq!(health.stalled(2 * QUIET, 2000, start + QUIET), None);
        assert_eq!(health.recovered(start + QUIET).unwrap(), "well again after 20.0 s");
        assert_eq!(health.stalled(QUIET, 1, start + 3 * QUIET), None);
        assert_eq!(health.recovered(start + 3 * QUIET), None, "what was not said needs no end");
        assert!(health.stalled(QUIET, 1, start + OVERFLOW).is_some());
    }

    #[test]
    fn a_held_drain_is_loud_at_once_and_reminds() {
        let start = Instant::now();
        let mut health = Health::default();
        assert!(health.failed("401 Unauthorized", true, start).unwrap().contains("needs mending"));
        assert_eq!(health.failed("401 Unauthorized", true, start + QUIET), None);
        assert!(health.failed("403 Forbidden", true, start + QUIET).is_some());
        assert!(health.failed("403 Forbidden", true, start + QUIET + REMINDER).is_some());
    }
}
