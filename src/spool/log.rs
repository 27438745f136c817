//! The log: appends batches to the newest segment, and seals it. [`room`] is about what leaves it.
//!
//! Invariants: what [`Log::append`] answers for is in the file, whole and checksummed; within a segment the sequence has
//! no hole; after any failed write or sync a segment is never written to again (what was written before stays readable);
//! the files together stay within `max_bytes`, or pass it by one segment.

mod room;

use super::{
    codec::{Footer, Header, encode_footer, encode_frame, encode_header},
    cursor::{Cursor, Place, forget},
    disk::{Disk, probe},
    index::Index,
    recovery::{Found, Segment, segment_name},
    syncer::{Synced, sync},
};
use crate::{
    format::{Instance, Origin},
    line::{Batch, Source},
};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
};

/// A sealed segment has about this many bytes.
pub(crate) const SEGMENT_BYTES: u64 = 8 << 20;
/// One write takes about this many bytes at most.
const WRITE_BYTES: usize = 256 << 10;

/// Units of this run that are on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Extent {
    pub(crate) first_seq: u64,
    pub(crate) end_seq: u64,
    pub(crate) segment: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    header: Header,
    segment_bytes: u64,
    max_bytes: u64,
    /// Not written to any more, oldest first.
    segments: VecDeque<Segment>,
    current: Option<Current>,
    next_number: u64,
    cursors: BTreeMap<String, Cursor>,
    /// Files of cursors that are not known: they are to be gone before anything is written.
    doubtful: Vec<String>,
    unsafe_: Unsafe,
    buffer: Vec<u8>,
    evicted: Vec<Segment>,
    /// Cursors could not be written: those on the disk are behind those here.
    stale: bool,
    index: Option<Arc<Index>>,
}

/// What takes the disk its time: what a crash of the machine may undo, and files that nobody needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unsafe {
    /// Segments that nobody is owed. A crash that leaves them costs nothing: the cursors are behind them.
    pub(crate) remove: Vec<u64>,
    /// Segments that were written to.
    pub(crate) segments: Vec<u64>,
    /// Names were made or removed.
    pub(crate) dir: bool,
}

/// The segment that is written to.
#[derive(Debug)]
struct Current {
    /// What it will be when it is sealed; `bytes` is what is written and known to be good.
    segment: Segment,
    dirty: bool,
}

impl Log {
    /// A log that goes on behind what was found. `header` is what new segments say.
    pub(crate) fn new(disk: Arc<dyn Disk>, header: Header, segment_bytes: u64, max_bytes: u64, found: Found) -> Self {
        // Whoever wrote what was found may have been killed before it was synced.
        let unsafe_ = Unsafe {
            segments: found.segments.iter().map(|segment| segment.number).collect(),
            dir: !found.segments.is_empty(),
            remove: Vec::new(),
        };
        Self {
            disk,
            header,
            segment_bytes,
            max_bytes,
            segments: found.segments.into(),
            current: None,
            next_number: found.next_number,
            cursors: found.cursors,
            doubtful: found.doubtful,
            unsafe_,
            buffer: Vec::new(),
            evicted: Vec::new(),
            stale: false,
            index: None,
        }
    }

    /// Whatever is deleted to make room leaves this index first: a reader that misses the file can tell why.
    pub(crate) fn tell(&mut self, index: Arc<Index>) {
        self.index = Some(index);
    }

    /// The app's instance, once it is known; segments that exist keep theirs.
    pub(crate) fn set_instance(&mut self, instance: &str) {
        instance.clone_into(&mut self.header.instance);
    }

    /// Appends batches, which ascend. On an error, some at the front are appended all the same: `done` gets them. So it is
    /// if there is no room, and none may be made, since the books are closed: what is not appended is booked as lost.
    ///
    /// # Errors
    /// What the disk says. Calling again with what is missing begins a new segment.
    pub(crate) fn append(&mut self, batches: &[Arc<Batch>], done: &mut Vec<Extent>) -> io::Result<()> {
        let mut left = batches;
        while let Some(first) = left.first() {
            self.make_current(first)?;
            let Some(current) = &mut self.current else { return Ok(()) };
            let (salt, mut units) = (current.segment.salt, current.segment.units);
            let (mut taken, mut next) = (0, first.first_seq());
            self.buffer.clear();
            while let Some(batch) = left.get(taken)
                && batch.first_seq() == next
                && (taken == 0
                    || self.buffer.len() < WRITE_BYTES
                        && current.segment.bytes + (self.buffer.len() as u64) < self.segment_bytes)
            {
                encode_frame(batch, units, salt, &mut self.buffer);
                units[batch.stream() as usize] += batch.len() as u64;
                (taken, next) = (taken + 1, batch.end_seq());
            }
            let name = segment_name(current.segment.number);
            if let Err(error) = self.disk.write(&name, current.segment.bytes, &self.buffer) {
                self.give_up_current(true);
                return Err(error);
            }
            current.dirty = true;
            current.segment.bytes += self.buffer.len() as u64;
            (current.segment.end_seq, current.segment.units) = (next, units);
            let extent = Extent { first_seq: first.first_seq(), end_seq: next, segment: current.segment.number };
            done.push(extent);
            left = &left[taken..];
        }
        Ok(())
    }

    /// Makes what was appended safe against a crash of the machine.
    ///
    /// # Errors
    /// What the disk says: see [`Log::synced`].
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let work = self.take_unsafe();
        let synced = sync(&*self.disk, &work);
        self.synced(synced)
    }

    /// What is not safe yet. It is taken to be from now on; [`Log::synced`] must follow.
    pub(crate) fn take_unsafe(&mut self) -> Unsafe {
        let mut work = std::mem::take(&mut self.unsafe_);
        if let Some(current) = self.current.as_mut().filter(|current| current.dirty) {
            current.dirty = false;
            work.segments.push(current.segment.number);
        }
        work
    }

    /// What became of it. A segment that could not be synced is not written to again, and not synced again: the kernel may
    /// have dropped what it could not write, and would say that all is well the second time.
    ///
    /// # Errors
    /// The result, unchanged.
    pub(super) fn synced(&mut self, Synced { left, result }: Synced) -> io::Result<()> {
        // Names are not forgotten by a failed sync.
        self.unsafe_.dir |= left.dir;
        // One that was sealed meanwhile.
        self.unsafe_.segments.retain(|number| !left.segments.contains(number));
        match &mut self.current {
            Some(current) if !left.segments.contains(&current.segment.number) => {}
            Some(current) if planted!(fsync_retried) => current.dirty = true,
            Some(_) => self.give_up_current(false),
            None => {}
        }
        result
    }

    /// The disk, for who syncs beside us.
    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// Asks the disk whether it takes anything, with a file that is removed again.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn probe(&self, sync: bool) -> io::Result<()> {
        probe(&*self.disk, sync)
    }

    /// Whether [`Log::sync`] has anything to do.
    pub(crate) fn is_dirty(&self) -> bool {
        self.unsafe_.dir
            || !self.unsafe_.segments.is_empty()
            || self.current.as_ref().is_some_and(|current| current.dirty)
    }

    /// [`Log::note`], [`Log::release`], and the removing, one after the other.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn advance(&mut self, places: &[(String, Place)], closing: bool) -> io::Result<Vec<u64>> {
        let mut result = self.note(places);
        let deleted = self.release(closing);
        for number in self.take_removals().remove {
            result = result.and(self.disk.remove(&segment_name(number)));
        }
        result.map(|()| deleted)
    }

    /// Takes down how far the drains are.
    ///
    /// # Errors
    /// The first thing that the disk refused; the rest was tried all the same.
    pub(crate) fn note(&mut self, places: &[(String, Place)]) -> io::Result<()> {
        forget(&*self.disk, &mut self.doubtful)?;
        let mut result = Ok(());
        for (identity, place) in places {
            let cursor = self.cursors.entry(identity.clone()).or_insert_with(|| Cursor::new(identity));
            if cursor.place < *place || self.stale {
                result = result.and(cursor.store(&*self.disk, *place));
            }
        }
        self.stale = result.is_err();
        result
    }

    /// Whether nobody is owed anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.current.is_none()
    }

    /// Where a drain stands that has settled everything appended so far.
    pub(crate) fn end(&self) -> Place {
        match &self.current {
            Some(current) => Place { segment: current.segment.number, seq: current.segment.end_seq },
            // The next segment's number is above; its sequence numbers do not matter.
            None => Place { segment: self.next_number, seq: 0 },
        }
    }

    /// Where the next segment's numbers begin.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_number
    }
}

impl Log {
    /// Sees to it that there is a segment that `first` may go to.
    fn make_current(&mut self, first: &Batch) -> io::Result<()> {
        if let Some(Current { segment, .. }) = &self.current {
            if segment.end_seq == first.first_seq() && segment.bytes < self.segment_bytes {
                return Ok(());
            }
            self.seal_current();
        }
        if !self.make_room() {
            return Ok(());
        }
        forget(&*self.disk, &mut self.doubtful)?;
        let (header, salt) = encode_header(&self.header);
        let number = self.next_number;
        let name = segment_name(number);
        self.next_number += 1;
        self.disk.create(&name)?;
        self.unsafe_.dir = true;
        if let Err(error) = self.disk.write(&name, 0, &header) {
            let _ = self.disk.remove(&name);
            return Err(error);
        }
        let Header { run, host, app, instance, labels, drains } = self.header.clone();
        let origin = Origin { run, host, app, instance: Instance::known(instance), labels };
        let seq = first.first_seq();
        let segment = Segment {
            number,
            bytes: header.len() as u64,
            body: header.len() as u64,
            salt,
            first_seq: seq,
            end_seq: seq,
            units: [0; 3],
            source: Arc::new(Source { origin, segment: number }),
            drains: drains.into(),
        };
        self.current = Some(Current { segment, dirty: true });
        Ok(())
    }

    /// A footer that can't be written is left to recovery.
    fn seal_current(&mut self) {
        let Some(Current { mut segment, .. }) = self.current.take() else { return };
        let name = segment_name(segment.number);
        if segment.first_seq == segment.end_seq {
            let _ = self.disk.remove(&name);
            return;
        }
        if self.disk.write(&name, segment.bytes, &footer(&segment)).is_ok() {
            segment.bytes += super::codec::FOOTER_LEN as u64;
        }
        self.unsafe_.segments.push(segment.number);
        self.segments.push_back(segment);
    }

    /// The disk refused a write or a sync: this file gets no more appends.
    fn give_up_current(&mut self, torn: bool) {
        let Some(Current { mut segment, .. }) = self.current.take() else { return };
        let name = segment_name(segment.number);
        if segment.first_seq == segment.end_seq {
            let _ = self.disk.remove(&name);
            return;
        }
        // Cutting makes room, and the footer takes less than was cut; else recovery does it.
        if torn
            && self.disk.truncate(&name, segment.bytes).is_ok()
            && self.disk.write(&name, segment.bytes, &footer(&segment)).is_ok()
        {
            segment.bytes += super::codec::FOOTER_LEN as u64;
        }
        // What was appended before the write that failed is owed its sync yet.
        if torn {
            self.unsafe_.segments.push(segment.number);
        }
        self.segments.push_back(segment);
    }
}

fn footer(segment: &Segment) -> [u8; super::codec::FOOTER_LEN] {
    let Segment { first_seq, end_seq, units, bytes, .. } = *segment;
    encode_footer(&Footer { first_seq, end_seq, units, offset: bytes })
}
