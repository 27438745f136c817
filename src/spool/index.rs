//! The index: which units are on the disk now. Asked by the drains' queues, told by the spool's thread; never held
//! across a system call.

use super::log::Extent;
use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Index {
    state: Mutex<State>,
    /// Grows with every change, so that a queue can tell whether asking again may help.
    version: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Units of this run, ascending; one extent a segment.
    extents: Vec<Extent>,
    /// Segments that exist, those of earlier runs too.
    alive: BTreeSet<u64>,
    /// None of them makes room any more.
    kept: bool,
    /// Segments that did.
    #[cfg(test)]
    evicted: BTreeSet<u64>,
}

impl Index {
    pub(crate) fn new(alive: impl IntoIterator<Item = u64>) -> Self {
        let state = State { alive: alive.into_iter().collect(), ..State::default() };
        Self { state: Mutex::new(state), version: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// More is on the disk.
    pub(crate) fn add(&self, extent: Extent) {
        let mut state = self.state();
        state.alive.insert(extent.segment);
        match state.extents.last_mut() {
            Some(last) if last.segment == extent.segment && last.end_seq == extent.first_seq => {
                last.end_seq = extent.end_seq;
            }
            _ => state.extents.push(extent),
        }
        drop(state);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// A segment is gone.
    pub(crate) fn remove(&self, segment: u64) {
        self.remove_from(self.state(), segment);
    }

    /// A segment is to make room, and is gone from here. False if it stays: the books are closed, by [`Self::keep`].
    pub(crate) fn evict(&self, segment: u64) -> bool {
        let state = self.state();
        if state.kept {
            return false;
        }
        self.remove_from(state, segment);
        #[cfg(test)]
        self.state().evicted.insert(segment);
        true
    }

    /// Books are being closed: what is on the disk counts as spooled, so it must be there for the next run.
    pub(crate) fn keep(&self) {
        self.state().kept = true;
    }

    fn remove_from(&self, mut state: MutexGuard<'_, State>, segment: u64) {
        state.alive.remove(&segment);
        state.extents.retain(|extent| extent.segment != segment);
        drop(state);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// See the field.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The segment that holds these units of this run, all of them.
    pub(crate) fn segment_of(&self, first_seq: u64, end_seq: u64) -> Option<u64> {
        let state = self.state();
        let at = state.extents.partition_point(|extent| extent.end_seq < end_seq);
        state.extents.get(at).filter(|extent| extent.first_seq <= first_seq).map(|extent| extent.segment)
    }

    /// The first extent of this run that ends behind `seq`.
    pub(crate) fn at_or_behind(&self, seq: u64) -> Option<Extent> {
        let state = self.state();
        let at = state.extents.partition_point(|extent| extent.end_seq <= seq);
        state.extents.get(at).copied()
    }

    /// Which units of this run are on the disk.
    #[cfg(test)]
    pub(crate) fn extents(&self) -> Vec<Extent> {
        self.state().extents.clone()
    }

    /// Segments that made room.
    #[cfg(test)]
    pub(crate) fn evicted(&self) -> BTreeSet<u64> {
        self.state().evicted.clone()
    }

    /// Whether a segment is there.
    pub(crate) fn is_alive(&self, segment: u64) -> bool {
        self.state().alive.contains(&segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(segment: u64, first_seq: u64, end_seq: u64) -> Extent {
        Extent { first_seq, end_seq, segment }
    }

    #[test]
    fn units_are_known_as_far_as_they_are_on_the_disk_in_one_extent_a_segment() {
        let index = Index::new([1]);
        for (segment, first, end) in [(2, 1, 5), (2, 5, 9), (3, 9, 12), (3, 20, 22)] {
            index.add(extent(segment, first, end));
        }
        assert_eq!(index.extents(), [extent(2, 1, 9), extent(3, 9, 12), extent(3, 20, 22)]);
        let all: Vec<_> = [(1, 9), (4, 6), (8, 9), (9, 12), (8, 10), (12, 13), (20, 22), (20, 23)]
            .map(|(first, end)| index.segment_of(first, end))
            .into();
        assert_eq!(all, [Some(2), Some(2), Some(2), Some(3), None, None, Some(3), None]);
        let behind = [1, 8, 9, 12, 21, 22].map(|seq| index.at_or_behind(seq).map(|it| it.first_seq));
        assert_eq!(behind, [Some(1), Some(1), Some(9), Some(20), Some(20), None]);
    }

    #[test]
    fn a_segment_that_is_gone_is_known_no_more_and_each_change_can_be_told() {
        let index = Index::new([1, 2]);
        let mut versions = vec![index.version()];
        index.add(extent(3, 1, 5));
        versions.push(index.version());
        index.remove(1);
        versions.push(index.version());
        assert!(index.evict(3));
        versions.push(index.version());
        assert!(versions.is_sorted_by(|one, two| one < two), "{versions:?}");
        assert_eq!([1, 2, 3].map(|segment| index.is_alive(segment)), [false, true, false]);
        assert_eq!(index.segment_of(1, 5), None);
        index.keep();
        assert!(!index.evict(2) && index.is_alive(2), "it counts as spooled");
    }
}
