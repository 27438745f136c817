//! Closing the books: at the end every line has one fate, which stands in the report, whatever disks and threads do then.

use super::{
    Drain, Drains,
    fallback::{Writing, Written},
    sealed::Piece,
};
use crate::{clock, config::Fallback, format::thousands, ledger::DrainReport, say::say};
use std::time::{Duration, Instant};

/// How long the spool is waited for at a time, when the books are closed: three times.
const LAST_WORDS: Duration = Duration::from_millis(80);

impl Drains {
    /// [`Self::close_books_within`] a quarter of a second.
    pub fn close_books(&self) -> Vec<DrainReport> {
        self.close_books_within(3 * LAST_WORDS)
    }

    /// Freezes every account: what is pending becomes spooled, written to the fallback or lost(deadline), later news is ignored.
    /// Asserts the identity. Returns the report; waits for no thread but those of spool and fallback, and for them at most
    /// `limit`, for a disk that hangs must not keep the report from its reader.
    pub fn close_books_within(&self, limit: Duration) -> Vec<DrainReport> {
        let end = clock::now() + limit;
        let left = || end.saturating_duration_since(clock::now());
        let patience = || LAST_WORDS.min(left());
        if let Some(spool) = &self.spool {
            // What a disk that hangs does not take is the fallback's.
            let limit = if self.fallback.is_some() { left() / 2 } else { left() };
            spool.settle(LAST_WORDS.min(limit));
        }
        let mut reports = self.freeze();
        let fallback = self.fallback.as_ref().and_then(|fallback| self.fall_back(fallback));
        if let Some(spool) = &self.spool {
            let spooled: u64 = reports.iter().map(|report| report.counts.spooled).max().unwrap_or(0);
            let dir = spool.dir();
            let dir = dir.display();
            if !spool.finish(patience()) {
                say(format_args!("spool {dir}: the disk is slow to end; the next run may send some lines again"));
            }
            spool.tidy(patience());
            if spooled > 0 {
                say(format_args!("what was not delivered is in {dir}; the next run with this --spool sends it first"));
            }
        }
        if let Some((left, writing)) = fallback {
            self.book_fallback(&left, writing.end(end), &mut reports);
        }
        reports
    }

    /// The books alone.
    pub(super) fn freeze(&self) -> Vec<DrainReport> {
        let now = clock::now();
        self.drains.iter().map(|drain| drain.close_books(now)).collect()
    }

    /// What each drain left is being written; None if nothing was left.
    fn fall_back(&self, fallback: &Fallback) -> Option<(Vec<Vec<Piece>>, Writing)> {
        let left: Vec<_> = self.drains.iter().map(|drain| drain.inbox.lock().queue.left().to_vec()).collect();
        let all = left.concat();
        (!all.is_empty()).then(|| (left, Writing::start(&all, fallback)))
    }

    fn book_fallback(&self, left: &[Vec<Piece>], written: Written, reports: &mut [DrainReport]) {
        for ((drain, left), report) in self.drains.iter().zip(left).zip(reports) {
            let units = written.units_of(left);
            drain.inbox.change(|queue| queue.save_left(units));
            report.counts = drain.inbox.counts();
        }
        if let (Some(fallback), Some((why, lost))) = (&self.fallback, written.trouble) {
            say(format_args!("--fallback {fallback}: {why}; {} lines are lost", thousands(lost as u64)));
        }
    }
}

impl Drain {
    pub(super) fn close_books(&self, now: Instant) -> DrainReport {
        let mut state = self.inbox.lock();
        let balanced = state.queue.close_books();
        let end = state.done_at.unwrap_or(now);
        let report = DrainReport {
            name: self.name.clone(),
            url: self.url.clone(),
            counts: *state.queue.counts(),
            flush: state.closed_at.map_or(Duration::ZERO, |from| end.saturating_duration_since(from)),
            trouble: state.trouble.clone().or_else(|| state.pulse.missing(now)),
        };
        drop(state);
        self.inbox.order(|_| {});
        debug_assert!(balanced, "the accounts of drain {} do not balance: {report:?}", self.name);
        if !balanced {
            // Never a panic here: this may be PID 1.
            say(format_args!("drain {}: the accounts do not balance; this is a bug in lastword", self.name));
        }
        report
    }
}
