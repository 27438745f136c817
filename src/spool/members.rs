//! The drains as the spool's thread sees them: what it asks of their queues, and tells them.

use super::{
    cursor::Place,
    index::Index,
    log::Log,
    recovery::Segment,
    shared::{QUIET, Shared},
    thread::Member,
};
use crate::{clock, drain::queue::Low, format::thousands, line::Batch};
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// All drains with a queue.
pub(super) struct Members {
    members: Vec<Member>,
    shared: Arc<Shared>,
    /// When the loss of lines for a drain that is not configured was last spoken of.
    mourned_at: Option<Instant>,
}

impl Members {
    pub(super) const fn new(members: Vec<Member>, shared: Arc<Shared>) -> Self {
        Self { members, shared, mourned_at: None }
    }

    /// Batches of this run that they hold and that begin with a unit in `from..to`, in order.
    pub(super) fn held(&self, from: u64, to: u64) -> Vec<Arc<Batch>> {
        let held = self.members.iter().flat_map(|member| member.inbox.held_between(from, to));
        let held: BTreeMap<u64, _> = held.map(|batch| (batch.first_seq(), batch)).collect();
        held.into_values().collect()
    }

    /// Where each stands in the log, and whether any has something to settle.
    pub(super) fn places(&self, index: &Index, log: &Log) -> (Vec<(String, Place)>, bool) {
        let mut open = false;
        let places = self.members.iter().map(|member| {
            let low = member.inbox.low();
            open |= low != Low::Nothing;
            (member.identity.clone(), place_of(low, index, log))
        });
        let places = places.collect();
        (places, open)
    }

    /// The index has more.
    pub(super) fn appended(&self) {
        for member in &self.members {
            member.inbox.appended();
        }
    }

    /// Somebody else removed these segments, or all of the spool (None): what was only there is lost.
    pub(super) fn vanished(&self, segments: impl IntoIterator<Item = Option<u64>> + Clone) {
        for member in &self.members {
            let lost: u64 = segments.clone().into_iter().map(|segment| member.inbox.vanished(segment)).sum();
            if lost > 0 {
                let (drain, lost) = (&member.identity, thousands(lost));
                self.shared.say(format_args!("{lost} lines for {drain} that were in it alone are lost to this run"));
            }
        }
    }

    /// These segments made room: what was only there is lost.
    pub(super) fn evicted(&mut self, segments: Vec<Segment>) {
        for segment in segments {
            for member in &self.members {
                member.inbox.evicted(segment.number);
            }
            self.mourn(&segment);
        }
    }

    /// Drains that are not configured have no account that would say it.
    fn mourn(&mut self, segment: &Segment) {
        let known = |identity: &str| self.members.iter().any(|member| member.identity == identity);
        for owed in segment.drains.iter().filter(|owed| !known(&owed.identity)) {
            let now = clock::now();
            if self.mourned_at.is_some_and(|at| now < at + QUIET) {
                return;
            }
            self.mourned_at = Some(now);
            let units = owed.stream.map_or(segment.units.iter().sum(), |stream| segment.units[stream as usize]);
            let (drain, units) = (&owed.identity, thousands(units));
            self.shared.say(format_args!("full; old lines for {drain} are lost, up to {units} just now"));
        }
    }
}

/// `batches`, which are to be appended, and before them what was left out from the unit `next` on, as far as it is `held` yet.
pub(crate) fn complete<I: IntoIterator<Item = Arc<Batch>>>(
    next: u64,
    batches: Vec<Arc<Batch>>,
    held: impl FnOnce(u64, u64) -> I,
) -> Vec<Arc<Batch>> {
    let Some(first) = batches.first().map(|batch| batch.first_seq()).filter(|&first| first > next) else {
        return batches;
    };
    let missing: BTreeMap<u64, _> = held(next, first).into_iter().map(|batch| (batch.first_seq(), batch)).collect();
    missing.into_values().chain(batches).collect()
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
