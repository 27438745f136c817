//! The thread that writes: its loop, and what it does when the disk refuses.

use super::{
    cursor::Place,
    index::Index,
    log::{Extent, Log},
    shared::{QUIET, Shared, State, cost_of},
    thread::{Member, Settings},
};
use crate::{clock, config::SpoolSync, drain::queue::Low, format::thousands, line::Batch};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How often cursors are taken down while they move.
const CURSORS: Duration = Duration::from_millis(200);
/// How often `--spool-sync interval` syncs.
const SYNC: Duration = Duration::from_secs(1);
/// How long after a refusal the disk is asked again.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// The thread's side.
pub(crate) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) log: Log,
    pub(super) index: Arc<Index>,
    pub(super) members: Vec<Member>,
    pub(super) settings: Settings,
    /// Where the drains stood at the last look.
    pub(super) last: Vec<(String, Place)>,
    pub(super) synced_at: Instant,
    /// When the drains were last looked at, and whether any has something to settle.
    pub(super) looked_at: Instant,
    pub(super) moving: bool,
    /// When the loss of lines for a drain that is not configured was last spoken of.
    pub(super) mourned_at: Option<Instant>,
}

/// What there is to do.
#[derive(Debug)]
pub(crate) struct Work {
    batches: Vec<Arc<Batch>>,
    closing: bool,
    sync: bool,
}

/// How a turn went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Well,
    /// The disk refused: it is to have some time.
    Refused,
    /// It was the last one.
    Over,
}

impl Keeper {
    /// The thread: waits for work, does it.
    pub(super) fn run(&mut self) {
        loop {
            self.wait();
            let work = self.take();
            match self.turn(work) {
                Turn::Well => {}
                Turn::Refused => self.rest(),
                Turn::Over => return,
            }
        }
    }

    /// Does what there is to do. Drains that are new are known from the first look on; whatever fails is tried again.
    pub(crate) fn turn(&mut self, work: Work) -> Turn {
        let Work { batches, closing, sync } = work;
        let (mut well, mut worked) = (true, false);
        if !batches.is_empty() {
            well = self.append(batches, closing);
            worked = well;
            self.moving = true;
        }
        let due = self.settings.sync == SpoolSync::Always
            || self.settings.sync == SpoolSync::Interval && (sync || clock::now() >= self.synced_at + SYNC);
        if due && well && self.log.is_dirty() {
            well = self.sync();
            worked |= well;
        }
        if closing && (!well || self.shared.lock().waiting.is_empty()) {
            self.last_look();
            return Turn::Over;
        }
        if clock::now() >= self.looked_at + CURSORS {
            self.looked_at = clock::now();
            self.moving = self.look();
        }
        if worked {
            self.shared.recover();
        }
        if well { Turn::Well } else { Turn::Refused }
    }

    /// How long to wait for batches or an order; None is for ever, as there is nothing to look after.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let dirty = self.settings.sync != SpoolSync::Never && self.log.is_dirty();
        (self.moving || dirty).then_some(CURSORS)
    }

    /// Whether a crash of the machine may take what was appended.
    #[cfg(test)]
    pub(crate) fn is_dirty(&self) -> bool {
        self.log.is_dirty()
    }

    fn wait(&self) {
        let nothing = |state: &mut State| state.has_nothing_to_do();
        let (wake, state) = (&self.shared.wake, self.shared.lock());
        match self.patience() {
            Some(limit) => drop(wake.wait_timeout_while(state, limit, nothing)),
            None => drop(wake.wait_while(state, nothing)),
        }
    }

    /// Takes in hand what there is to do.
    pub(crate) fn take(&self) -> Work {
        let mut state = self.shared.lock();
        let batches: Vec<_> = std::mem::take(&mut state.waiting).into();
        state.in_hand = batches.len();
        Work { batches, closing: state.closing, sync: std::mem::take(&mut state.sync) }
    }

    /// False if the disk refused; what is not appended goes back to the inbox.
    fn append(&mut self, batches: Vec<Arc<Batch>>, closing: bool) -> bool {
        self.log.set_instance(self.settings.instance.wait());
        let mut done: Vec<Extent> = Vec::new();
        let result = self.log.append(&batches, &mut done);
        let upto = done.last().map_or(0, |extent| extent.end_seq);
        done.into_iter().for_each(|extent| self.index.add(extent));
        self.tell_evicted();
        for member in &self.members {
            member.inbox.appended();
        }
        let mut state = self.shared.lock();
        state.in_hand = 0;
        state.bytes -= batches.iter().map(|batch| cost_of(batch)).sum::<usize>();
        if result.is_err() && !closing {
            for batch in batches.into_iter().rev().take_while(|batch| batch.first_seq() >= upto) {
                state.bytes += cost_of(&batch);
                state.waiting.push_front(batch);
            }
            while state.bytes > self.shared.capacity
                && let Some(oldest) = state.waiting.pop_front()
            {
                state.bytes -= cost_of(&oldest);
                state.left_out += oldest.len() as u64;
            }
        }
        drop(state);
        if let Err(error) = result {
            self.shared.degrade(&error.to_string());
            return false;
        }
        self.shared.moved.notify_all();
        true
    }

    fn tell_evicted(&mut self) {
        for segment in self.log.take_evicted() {
            for member in &self.members {
                member.inbox.evicted(segment.number);
            }
            let known = |identity: &str| self.members.iter().any(|member| member.identity == identity);
            for owed in segment.drains.iter().filter(|owed| !known(&owed.identity)) {
                let now = clock::now();
                if self.mourned_at.is_some_and(|at| now < at + QUIET) {
                    continue;
                }
                self.mourned_at = Some(now);
                let units = owed.stream.map_or(segment.units.iter().sum(), |stream| segment.units[stream as usize]);
                let (drain, units) = (&owed.identity, thousands(units));
                self.shared.say(format_args!("full; old lines for {drain} are lost, up to {units} just now"));
            }
        }
    }

    fn sync(&mut self) -> bool {
        self.synced_at = clock::now();
        match self.log.sync() {
            Ok(()) => true,
            Err(error) => {
                self.shared.degrade(&format!("the disk did not sync: {error}"));
                false
            }
        }
    }

    /// Takes down the cursors. True if any drain has something to settle.
    fn look(&mut self) -> bool {
        let (places, open) = self.places();
        if places != self.last {
            match self.log.advance(&places, false) {
                Ok(deleted) => deleted.into_iter().for_each(|segment| self.index.remove(segment)),
                Err(error) => {
                    self.shared.degrade(&error.to_string());
                    return true;
                }
            }
            self.last = places;
        }
        open
    }

    fn last_look(&mut self) {
        let (places, _) = self.places();
        let result = self.log.advance(&places, true);
        self.shared.lock().noted = result.is_ok();
        self.shared.moved.notify_all();
        if self.settings.sync != SpoolSync::Never && self.log.is_dirty() {
            self.sync();
        }
        if let Err(error) = result {
            self.shared.degrade(&error.to_string());
        }
    }

    fn places(&self) -> (Vec<(String, Place)>, bool) {
        let mut open = false;
        let places = self.members.iter().map(|member| {
            let low = member.inbox.low();
            open |= low != Low::Nothing;
            (member.identity.clone(), place_of(low, &self.index, &self.log))
        });
        let places = places.collect();
        (places, open)
    }

    /// The disk has refused: gives it time.
    fn rest(&self) {
        let closing = |state: &mut State| !state.closing;
        drop(self.shared.wake.wait_timeout_while(self.shared.lock(), RETRY, closing));
    }
}

/// Where a drain stands in the log.
pub(crate) fn place_of(low: Low, index: &Index, log: &Log) -> Place {
    match low {
        Low::At(place) => place,
        Low::Nothing => log.end(),
        Low::Live(seq) => match index.at_or_behind(seq) {
            Some(extent) => Place { segment: extent.segment, seq: seq.max(extent.first_seq) },
            // Not on the disk yet: all that is, is settled.
            None => log.end(),
        },
    }
}
