//! What are threads elsewhere: the spool's, and the readers'.

use super::{Life, PATIENCE};
use crate::{
    config::{SpoolSync, WhenFull},
    drain::sealed::charge,
    event::Event as Rung,
    ledger::Loss,
    line::{Framer, Lines, Stream},
    sim::{app::Family, trace},
    spool::{
        keeper::{Keeper, RETRY, Turn},
        log::Extent,
        recovery::segment_name,
    },
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{rc::Rc, time::Duration};
use tokio::time::timeout;

impl Life {
    /// The spool's thread.
    pub(super) async fn keep(self: Rc<Self>, mut keeper: Keeper) {
        let spool = self.spool.clone().unwrap();
        loop {
            while !spool.look().0 {
                match keeper.patience() {
                    None => self.spool_wakes.notified().await,
                    Some(limit) if timeout(limit, self.spool_wakes.notified()).await.is_err() => break,
                    Some(_) => {}
                }
            }
            let work = keeper.take();
            let latency = self.world.disk.latency();
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            let overflowed = || self.inboxes.iter().map(|inbox| inbox.counts().lost.of(Loss::Overflow)).sum::<u64>();
            let before = overflowed();
            let turn = keeper.turn(work);
            if overflowed() > before {
                self.hit("spool: a segment is evicted");
            }
            trace(|| format!("spool: {turn:?}, {} bytes in segments", self.world.disk.used()));
            if self.world.disk.is_dead() {
                return self.world.die();
            }
            self.look_at_disk(&keeper);
            self.spool_moved.notify_waiters();
            match turn {
                Turn::Well => {}
                Turn::Refused => {
                    let rest = async {
                        while !spool.is_at_once() {
                            self.spool_wakes.notified().await;
                        }
                    };
                    drop(timeout(RETRY, rest).await);
                }
                Turn::Vanished => panic!("the simulated directory stays where it is"),
                Turn::Over => {
                    spool.ended();
                    self.spool_moved.notify_waiters();
                    return;
                }
            }
        }
    }

    fn look_at_disk(&self, keeper: &Keeper) {
        let Some(knobs) = &self.knobs.spool else { return };
        let extents = self.index.as_ref().map(|index| index.extents()).unwrap_or_default();
        let units = |extent: &Extent| (extent.segment, extent.first_seq..extent.end_seq);
        self.appended.borrow_mut().extend(extents.iter().map(units));
        if knobs.sync != SpoolSync::Never && !keeper.is_dirty() {
            // Where a sync failed, whatever for, no other is made: of such a segment that is safe which was before.
            let unsynced = self.world.disk.unsynced();
            let made = extents.iter().filter(|extent| !unsynced.contains(&segment_name(extent.segment)));
            self.safe.borrow_mut().extend(made.map(units));
            self.synced.set(true);
        }
        let segment = knobs.max_bytes / 4;
        let largest_write = (knobs.capacity + 3 * self.knobs.max_line * 12) as u64 * 2 + 2_000;
        let (used, limit) = (self.world.disk.used(), knobs.max_bytes + segment + largest_write);
        assert!(used <= limit || self.world.disk.failed() > 0, "the spool has {used} bytes of {limit}");
    }

    /// Hands lines to the drains, as a reader's thread does.
    async fn publish(&self, stream: Stream, lines: Lines, at_end: bool) {
        let (bytes, units) = (lines.data.len(), lines.ends.len());
        let begun = crate::clock::now();
        let mut waited = Duration::ZERO;
        loop {
            let room = self.inboxes.iter().all(|inbox| inbox.admits(bytes));
            let full = self.spool.as_ref().is_some_and(|spool| spool.would_wait(bytes, units));
            if room && !full {
                break;
            }
            if room && waited >= PATIENCE {
                self.hit("spool: it is not waited for any more");
                self.spool.as_ref().unwrap().lose_patience();
                continue;
            }
            let step = Duration::from_millis(5);
            drop(timeout(step, self.spool_moved.notified()).await);
            waited = if room { crate::clock::now() - begun } else { waited };
        }
        if self.knobs.when_full != WhenFull::Block {
            let limit = PATIENCE + Duration::from_millis(20);
            assert!(crate::clock::now() - begun <= limit, "the app's write waited for a drain");
        }
        trace(|| format!("{units} lines of {}", stream.name()));
        self.world.truth.borrow_mut().now().publishes(stream, &lines, self.knobs.max_line, at_end);
        let before: Vec<_> = self.inboxes.iter().map(|inbox| inbox.lock().queue.charged()).collect();
        self.publisher.publish(stream, lines);
        self.check_memory(&before, charge(bytes, units));
        self.spool_wakes.notify_one();
    }

    fn check_memory(&self, before: &[usize], batch: usize) {
        let grace = self.knobs.spool.as_ref().map_or(0, |spool| 2 * spool.capacity);
        let residue = 1 << 20;
        for (inbox, before) in self.inboxes.iter().zip(before) {
            let state = inbox.lock();
            let roomy = if state.orders.roomy { residue } else { 0 };
            let limit = self.knobs.memory + grace + roomy + batch + self.knobs.memory / 4 + 600;
            let charged = state.queue.charged();
            assert!(charged <= limit.max(before + 256), "{charged} bytes are charged, {limit} allowed");
        }
    }

    /// A reader's thread.
    pub(super) async fn read(self: Rc<Self>, stream: Stream, family: &Family) {
        let pipe = &family.pipes[stream as usize];
        let mut framer = Framer::new(self.knobs.max_line);
        let mut rng = StdRng::seed_from_u64(self.knobs.seed ^ 9);
        loop {
            let finished = async {
                while !self.finish.0.get() {
                    self.finish.1.notified().await;
                }
            };
            let finishes = tokio::select! {
                biased;
                () = finished => true,
                () = pipe.readable() => false,
            };
            let mut left = if finishes { pipe.pending() } else { rng.random_range(1..3_000) };
            let mut ended = finishes;
            loop {
                let bytes = pipe.read(left.min(3_000));
                ended |= bytes.is_empty();
                left -= bytes.len().min(left);
                if let Some(lines) = framer.push(&bytes) {
                    self.publish(stream, lines, false).await;
                }
                if !finishes || left == 0 || bytes.is_empty() {
                    break;
                }
            }
            if ended {
                break;
            }
        }
        if let Some(rest) = framer.finish() {
            self.hit("a partial last line");
            self.publish(stream, rest, true).await;
        }
        self.ring(Rung::ReaderDone(stream));
    }
}
