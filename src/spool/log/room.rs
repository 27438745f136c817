//! What leaves the log: segments that nobody is owed, that make room for new ones, or that somebody else removed.

use super::{
    super::{
        cursor::{Cursor, Place},
        recovery::{Segment, segment_name},
    },
    Log, Unsafe,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

impl Log {
    /// Segments that nobody is owed any more; their files are to be removed ([`Log::take_removals`]). `closing`: nothing
    /// more will come.
    pub(crate) fn release(&mut self, closing: bool) -> Vec<u64> {
        if closing {
            self.seal_current();
        }
        let (keep, done): (Vec<_>, Vec<_>) =
            self.segments.drain(..).partition(|segment| is_owed(segment, &self.cursors));
        self.segments = keep.into();
        let done: Vec<u64> = done.iter().map(|segment| segment.number).collect();
        self.unsafe_.dir |= !done.is_empty();
        self.unsafe_.segments.retain(|number| !done.contains(number));
        self.unsafe_.remove.extend_from_slice(&done);
        done
    }

    /// What is to be removed, and nothing else.
    pub(crate) fn take_removals(&mut self) -> Unsafe {
        Unsafe { remove: std::mem::take(&mut self.unsafe_.remove), ..Unsafe::default() }
    }

    /// Whether there are files to remove.
    pub(crate) fn has_removals(&self) -> bool {
        !self.unsafe_.remove.is_empty()
    }

    /// Segments that are not among these files, though they should be; and whether there is any that is. They are not counted
    /// on any more.
    pub(crate) fn miss(&mut self, files: &[(String, u64)]) -> (Vec<u64>, bool) {
        let names: BTreeSet<&str> = files.iter().map(|(name, _)| &**name).collect();
        let is_gone = |segment: &Segment| !names.contains(&*segment_name(segment.number));
        let current = self.current.take_if(|current| is_gone(&current.segment)).map(|current| current.segment);
        let (gone, left): (Vec<_>, Vec<_>) = self.segments.drain(..).partition(is_gone);
        self.segments = left.into();
        let gone: Vec<u64> = gone.iter().chain(&current).map(|segment| segment.number).collect();
        self.unsafe_.segments.retain(|number| !gone.contains(number));
        (gone, !self.is_empty())
    }

    /// Segments that were deleted to make room since the last call.
    pub(crate) fn take_evicted(&mut self) -> Vec<Segment> {
        std::mem::take(&mut self.evicted)
    }

    /// False if there is none.
    pub(super) fn make_room(&mut self) -> bool {
        let used = |segments: &VecDeque<Segment>| segments.iter().map(|segment| segment.bytes).sum::<u64>();
        while used(&self.segments) + self.segment_bytes > self.max_bytes
            && let Some(oldest) = self.segments.pop_front()
        {
            if self.index.as_ref().is_some_and(|index| !index.evict(oldest.number)) {
                self.segments.push_front(oldest);
                return false;
            }
            self.unsafe_.segments.retain(|&number| number != oldest.number);
            // One that can't be removed is not counted on any more; the next run finds it.
            let _ = self.disk.remove(&segment_name(oldest.number));
            self.unsafe_.dir = true;
            self.evicted.push(oldest);
        }
        true
    }
}

/// Whether any drain is not done with a segment. A drain without a cursor has done nothing.
fn is_owed(segment: &Segment, cursors: &BTreeMap<String, Cursor>) -> bool {
    let done = Place { segment: segment.number, seq: segment.end_seq };
    segment.drains.iter().any(|owed| {
        let streams = owed.stream.map_or(1, |stream| segment.units[stream as usize]);
        streams > 0 && cursors.get(&owed.identity).is_none_or(|cursor| cursor.place < done)
    })
}
