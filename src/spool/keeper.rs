//! The thread that writes: its loop, and what it does when the disk refuses.
//!
//! The log has the lines of a run in their order. While the disk refused, the inbox may have left some out: before anything
//! behind them is appended, the drains' queues are asked for what they still hold of them.

use super::{
    cursor::Place,
    index::Index,
    log::{Extent, Log},
    members::{Members, complete},
    recovery::Segment,
    shared::{Shared, State, cost_of},
    syncer::{Syncer, sync},
    thread::{Member, Settings},
};
use crate::{clock, config::SpoolSync, line::Batch};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

/// How often cursors are taken down while they move.
const CURSORS: Duration = Duration::from_millis(200);
/// How often `--spool-sync interval` syncs.
const SYNC: Duration = Duration::from_secs(1);
/// How often it is looked whether the segments are there.
const SEARCH: Duration = Duration::from_secs(1);
/// How long after a refusal the disk is asked again.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// The thread's side.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    log: Log,
    index: Arc<Index>,
    members: Members,
    settings: Settings,
    /// The unit behind the last one that was appended.
    next: u64,
    /// Where the drains stood at the last look.
    last: Vec<(String, Place)>,
    syncer: Syncer,
    synced_at: Instant,
    /// When the drains were last looked at, and whether any has something to settle.
    looked_at: Instant,
    moving: bool,
    /// When it was last looked whether the segments are there.
    searched_at: Instant,
    /// There was another spool before this one, which vanished: what the drains hold is to be appended anew.
    behind: bool,
    /// What is before this unit was appended there.
    was_there: u64,
    /// An order to sync that the syncer could not take yet.
    hurried: bool,
}

/// What there is to do.
#[derive(Debug)]
pub(crate) struct Work {
    batches: Vec<Arc<Batch>>,
    closing: bool,
    sync: bool,
    degraded: bool,
    asked: bool,
}

/// How a turn went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Well,
    /// The disk refused: it is to have some time.
    Refused,
    /// What was written is not where it was: another directory is to be opened.
    Vanished,
    /// It was the last one.
    Over,
}

impl Keeper {
    pub(super) fn new(
        shared: Arc<Shared>,
        mut log: Log,
        index: Arc<Index>,
        members: Vec<Member>,
        settings: Settings,
    ) -> Self {
        log.tell(Arc::clone(&index));
        let syncer = Syncer::new(log.disk());
        let (members, now) = (Members::new(members, Arc::clone(&shared)), clock::now());
        Self {
            shared,
            log,
            index,
            members,
            settings,
            // Sequence numbers begin at 1.
            next: 1,
            last: Vec::new(),
            syncer,
            synced_at: now,
            looked_at: now,
            moving: true,
            searched_at: now,
            behind: false,
            was_there: 0,
            hurried: false,
        }
    }

    /// Goes on where `next` was the next unit to append, in another directory.
    pub(super) fn resume(&mut self, next: u64) {
        (self.behind, self.was_there) = (true, next);
        self.next = self.members.held(1, next).iter().map(|batch| batch.first_seq()).min().unwrap_or(next);
    }

    /// Until the books are closed: waits for work, does it. False if the directory vanished.
    pub(super) fn run(&mut self) -> bool {
        loop {
            self.wait();
            let work = self.take();
            match self.turn(work) {
                Turn::Well => {}
                Turn::Refused => drop(self.shared.rest(RETRY)),
                Turn::Vanished => return false,
                Turn::Over => return true,
            }
        }
    }

    /// Does what there is to do, if all is where it was. Once the books are closed it is too late to ask.
    pub(crate) fn turn(&mut self, work: Work) -> Turn {
        let asked = work.asked;
        if !work.closing && !self.is_there(asked || work.degraded) {
            self.shared.hand_back(work.batches);
            return Turn::Vanished;
        }
        let turn = self.work_off(work);
        if asked {
            self.shared.answered();
        }
        turn
    }

    /// Drains that are new are known from the first look on; whatever fails is tried again.
    fn work_off(&mut self, work: Work) -> Turn {
        let Work { batches, closing, sync, degraded, .. } = work;
        self.hurried |= sync;
        let (mut well, mut worked) = (true, false);
        if !batches.is_empty() || self.behind {
            well = self.append(batches);
            worked = well;
            self.moving = true;
        }
        if well && let Some(synced) = self.sync() {
            well = synced.is_ok();
        }
        if closing && (!well || self.shared.lock().waiting.is_empty()) {
            self.last_look();
            return Turn::Over;
        }
        // Also on a full disk: what is settled is deleted here, which makes room.
        if clock::now() >= self.looked_at + CURSORS {
            self.looked_at = clock::now();
            let looked = self.look();
            well &= looked.is_ok();
            self.moving = looked.unwrap_or(true);
        }
        if degraded && well && !worked {
            // There is nothing to write that would show whether it works.
            worked = self.log.probe(self.settings.sync != SpoolSync::Never).is_ok();
            well = worked;
        }
        if well && worked {
            self.shared.recover(self.next);
        }
        if well { Turn::Well } else { Turn::Refused }
    }

    /// How long to wait for batches or an order; None is for ever, as there is nothing to look after.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let degraded = self.shared.lock().degraded.is_some();
        let dirty = self.settings.sync != SpoolSync::Never && self.log.is_dirty();
        (self.moving || dirty || degraded || self.syncer.is_busy()).then_some(CURSORS)
    }

    fn wait(&self) {
        let nothing = |state: &mut State| state.has_nothing_to_do();
        let patience = self.patience();
        let (wake, state) = (&self.shared.wake, self.shared.lock());
        match patience {
            Some(limit) => drop(wake.wait_timeout_while(state, limit, nothing)),
            None => {
                #[cfg(test)]
                self.shared.sleeps.store(true, std::sync::atomic::Ordering::SeqCst);
                drop(wake.wait_while(state, nothing));
            }
        }
    }

    /// Whether a crash of the machine may take what was appended.
    #[cfg(test)]
    pub(crate) fn is_dirty(&self) -> bool {
        self.log.is_dirty() || self.syncer.is_busy()
    }

    /// The log's index.
    #[cfg(test)]
    pub(crate) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index)
    }

    /// Takes in hand what there is to do.
    pub(crate) fn take(&self) -> Work {
        let mut state = self.shared.lock();
        let batches: Vec<_> = std::mem::take(&mut state.waiting).into();
        state.in_hand = batches.len();
        state.at_once = false;
        let (closing, degraded, asked) = (state.closing, state.degraded.is_some(), state.asked);
        Work { batches, closing, sync: std::mem::take(&mut state.sync), degraded, asked }
    }

    /// False if what was written is not where it was. Segments that somebody removed while others are left are given up alone.
    fn is_there(&mut self, at_once: bool) -> bool {
        let (disk, now) = (self.log.disk(), clock::now());
        if !disk.is_there() {
            return false;
        }
        if self.log.is_empty() || !at_once && now < self.searched_at + SEARCH {
            return true;
        }
        self.searched_at = now;
        // A disk that does not tell has its trouble said when it refuses to write.
        let Ok(files) = disk.list() else { return true };
        let (gone, some_left) = self.log.miss(&files);
        if gone.is_empty() || !some_left {
            return gone.is_empty();
        }
        gone.iter().for_each(|&segment| self.index.remove(segment));
        self.members.vanished(gone.iter().copied().map(Some));
        let what = format!("files removed by somebody else: {}", gone.len());
        self.shared.vanished(&what, "what the drains still hold of those files is in memory alone");
        true
    }

    /// The spool is not what it was: what was only there is lost. Returns where the next one goes on: the segment and the unit.
    pub(super) fn give_up(&mut self) -> (u64, u64) {
        self.members.vanished([None]);
        self.shared.vanished("it was moved, removed or replaced", "all that the drains still hold is in it");
        (self.log.next_number(), self.next)
    }

    /// False if the disk refused; what is not appended goes back to the inbox.
    fn append(&mut self, batches: Vec<Arc<Batch>>) -> bool {
        self.log.set_instance(self.settings.instance.wait());
        let taken: usize = batches.iter().map(|batch| cost_of(batch)).sum();
        let mut batches = complete(self.next, batches, |from, to| self.members.held(from, to));
        if self.behind {
            // What the drains hold may come through the inbox, too.
            let behind = batches.last().map_or(self.next, |last| last.end_seq());
            batches.extend(self.members.held(behind, u64::MAX));
        }
        let mut next = self.next;
        batches.retain(|batch| {
            let is_new = batch.first_seq() >= next;
            next = next.max(batch.end_seq());
            is_new
        });
        let mut done: Vec<Extent> = Vec::new();
        let result = self.log.append(&batches, &mut done);
        self.behind &= result.is_err();
        let evicted = self.log.take_evicted();
        let past = self.note(done, &evicted);
        self.members.evicted(evicted);
        self.members.appended();
        let mut state = self.shared.lock();
        state.in_hand = 0;
        state.bytes -= taken;
        state.past += past;
        if result.is_err() {
            let left = batches.partition_point(|batch| batch.first_seq() < self.next);
            state.put_back(batches.split_off(left), self.shared.capacity);
        }
        drop(state);
        self.shared.moved.notify_all();
        if let Err(error) = &result {
            self.shared.degrade(&error.to_string());
        }
        result.is_ok()
    }

    /// These are on the disk, but for what made room in the same append. Returns how many units before them never will be.
    fn note(&mut self, done: Vec<Extent>, evicted: &[Segment]) -> u64 {
        let mut past = 0;
        for extent in done {
            past += extent.first_seq.saturating_sub(self.next.max(self.was_there));
            self.next = extent.end_seq;
            if !evicted.iter().any(|segment| segment.number == extent.segment) {
                self.index.add(extent);
            }
        }
        past
    }

    /// Has made safe and removed what is due. What came of it, or of what was given to the syncer before, if that is known.
    fn sync(&mut self) -> Option<io::Result<()>> {
        let dirty = self.log.is_dirty();
        if dirty && self.settings.sync == SpoolSync::Always {
            return Some(self.sync_here());
        }
        let outcome = self.outcome();
        let due = self.hurried || clock::now() >= self.synced_at + SYNC;
        if self.syncer.is_busy() {
            // Its turn comes.
        } else if dirty && due && self.settings.sync == SpoolSync::Interval {
            (self.synced_at, self.hurried) = (clock::now(), false);
            self.syncer.give(self.log.take_unsafe());
        } else if self.log.has_removals() {
            self.syncer.give(self.log.take_removals());
        }
        outcome
    }

    /// What the syncer did.
    fn outcome(&mut self) -> Option<io::Result<()>> {
        let synced = self.syncer.outcome()?;
        let result = self.log.synced(synced);
        Some(self.heed(result))
    }

    fn sync_here(&mut self) -> io::Result<()> {
        let result = self.log.sync();
        self.heed(result)
    }

    fn heed(&self, result: io::Result<()>) -> io::Result<()> {
        result.inspect_err(|error| self.shared.unsynced(error))
    }

    /// Takes down the cursors. Whether any drain has something to settle, if the disk did it.
    fn look(&mut self) -> io::Result<bool> {
        let (places, open) = self.members.places(&self.index, &self.log);
        if places != self.last {
            let noted = self.log.note(&places);
            self.log.release(false).into_iter().for_each(|segment| self.index.remove(segment));
            noted.inspect_err(|error| self.shared.degrade(&error.to_string()))?;
            self.last = places;
        }
        Ok(open)
    }

    fn last_look(&mut self) {
        let (places, _) = self.members.places(&self.index, &self.log);
        let result = self.log.note(&places);
        self.shared.lock().noted = result.is_ok();
        self.shared.moved.notify_all();
        self.log.release(true);
        self.syncer.wait();
        let synced = self.outcome().unwrap_or(Ok(()));
        // What is not owed to anyone need not be safe.
        if self.settings.sync == SpoolSync::Never || self.log.is_empty() || synced.is_err() {
            let _ = sync(&*self.log.disk(), &self.log.take_removals());
        } else {
            let _ = self.sync_here();
        }
        if let Err(error) = result {
            self.shared.degrade(&error.to_string());
        }
    }
}
