//! The publisher: gives each line its number, over all streams of a run, and hands it to the drains in that order.
//!
//! - A number is given once, from 1 on, without a hole: drains and spool get batches under one lock, in that order.
//! - Stamps ascend strictly line by line within a stream, also where the wall clock steps back.
//! - The app's lines wait for room, as `--when-full` says, and for a line of our own that is to stand before them
//!   ([`Publisher::hold`]); lines of our own wait for nothing.

use crate::{
    clock,
    drain::Drains,
    line::{Batch, Lines, Stamp, Stream},
};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A line of our own is cut here, in bytes: it may quote what was typed.
const MAX_OWN: usize = 4000;

/// See the module's documentation. One lock a batch.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    drains: Drains,
}

#[derive(Debug)]
struct Shared {
    numbers: Mutex<Numbers>,
    opened: Condvar,
}

/// What the next batch gets.
#[derive(Debug)]
struct Numbers {
    next: u64,
    /// Per stream: the earliest time. A batch takes a nanosecond a unit, so that each unit has a time of its own, strictly
    /// ascending, also where the wall clock steps back.
    earliest: [i64; 3],
    /// The app's lines wait for one of ours that is to stand before them.
    held: bool,
}

impl Publisher {
    /// Sequence numbers begin at 1.
    pub fn new(drains: Drains) -> Self {
        let numbers = Numbers { next: 1, earliest: [i64::MIN; 3], held: false };
        let shared = Shared { numbers: Mutex::new(numbers), opened: Condvar::new() };
        Self { shared: Arc::new(shared), drains }
    }

    /// Publishes `lines` to all drains.
    pub fn publish(&self, stream: Stream, lines: Lines) {
        self.drains.wait_for_room(lines.data.len());
        let mut numbers = self.lock();
        while numbers.held {
            numbers = self.shared.opened.wait(numbers).unwrap_or_else(PoisonError::into_inner);
        }
        self.number(numbers, stream, lines);
    }

    /// Publishes a line of our own, which must not have a newline in it. Waits neither for room nor for [`Self::open`].
    pub fn say(&self, text: &str) {
        let mut data = format!("lastword: {text}").into_bytes();
        data.truncate(MAX_OWN);
        data.push(b'\n');
        let ends = vec![data.len() as u32];
        self.number(self.lock(), Stream::Own, Lines { data: data.into(), ends, parts: Vec::new() });
    }

    /// Lets the app's lines wait: one of our own will come first. [`Self::open`] must follow.
    pub fn hold(&self) {
        self.lock().held = true;
    }

    /// The app's lines wait no longer.
    pub fn open(&self) {
        self.lock().held = false;
        self.shared.opened.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.shared.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stamp is taken under the lock, so stamps ascend with the sequence unless the wall clock steps.
    fn number(&self, mut numbers: MutexGuard<'_, Numbers>, stream: Stream, lines: Lines) {
        let batch = Arc::new(numbers.give(stream, clock::stamp(), lines));
        self.drains.publish(&batch);
    }
}

impl Numbers {
    fn give(&mut self, stream: Stream, now: Stamp, lines: Lines) -> Batch {
        let earliest = &mut self.earliest[stream as usize];
        let time = now.0.max(*earliest);
        let batch = Batch::new(stream, self.next, Stamp(time), lines);
        self.next += batch.len() as u64;
        *earliest = time.saturating_add(batch.len() as i64);
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_ascend_line_by_line_though_the_clock_steps_back_an_hour_or_on_a_day_48() {
        let mut numbers = Numbers { next: 1, earliest: [i64::MIN; 3], held: false };
        let three = || Lines { data: "a\nb\nc\n".into(), ends: vec![2, 4, 6], parts: Vec::new() };
        let (start, hour) = (1_000_000_000_000_000_000, 3_600_000_000_000);
        let (mut last, mut next) = (0, 1);
        for now in [start, start, start - hour, start - hour + 1, start + 24 * hour, start + hour] {
            let batch = numbers.give(Stream::Stdout, Stamp(now), three());
            // A unit's own time is its place in the batch later.
            assert!(batch.time().0 > last && batch.first_seq() == next, "{now}: {batch:?}");
            (last, next) = (batch.time().0 + 2, batch.end_seq());
        }
        let other = numbers.give(Stream::Stderr, Stamp(start), three());
        assert_eq!(other.time().0, start, "each stream has its own");
    }
}
