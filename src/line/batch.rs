//! A batch: many units of one stream in one shared buffer.
//!
//! Invariants: `ends` ascends strictly; its last element equals `data.len()`; `parts` ascends by index and holds just
//! the units that are parts. A unit is `data[ends[i-1]..ends[i]]`, with its newline if it had one. An empty batch does
//! not exist.

use super::{Part, Stamp, Stream, Unit};
use crate::format::Origin;
use bytes::Bytes;
use std::sync::Arc;

/// Framed units that have no sequence numbers yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The bytes of all units, newlines included.
    pub data: Bytes,
    /// End of each unit in `data`, newline included.
    pub ends: Vec<u32>,
    /// The units that are parts of over-long lines: (index, place).
    pub parts: Vec<(u32, Part)>,
}

impl Lines {
    /// Puts a newline behind the last unit, if it has none.
    pub fn end(&mut self) {
        let Some(end) = self.ends.last_mut().filter(|_| self.data.last() != Some(&b'\n')) else { return };
        self.data = [&self.data[..], b"\n"].concat().into();
        *end += 1;
    }
}

/// Units of one stream, read together, numbered without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    stream: Stream,
    first_seq: u64,
    time: Stamp,
    lines: Lines,
    source: Option<Arc<Source>>,
}

/// Where an adopted batch comes from: a segment that an earlier run left in the spool.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Who wrote the lines.
    pub origin: Origin,
    /// The segment that holds them.
    pub segment: u64,
}

impl Batch {
    /// What a batch costs beside its bytes and line ends: the `Arc`, this struct, two queue slots, allocator headers.
    pub const OVERHEAD_BYTES: usize = 256;

    /// Numbers `lines` from `first_seq`.
    ///
    /// # Panics
    /// If `lines` is empty: a batch has at least one unit.
    pub fn new(stream: Stream, first_seq: u64, time: Stamp, lines: Lines) -> Self {
        assert!(!lines.ends.is_empty(), "a batch has at least one unit");
        debug_assert_eq!(lines.ends.last().map(|&end| end as usize), Some(lines.data.len()));
        Self { stream, first_seq, time, lines, source: None }
    }

    /// The same batch, as a line of another run.
    #[must_use]
    pub fn from_source(mut self, source: Arc<Source>) -> Self {
        self.source = Some(source);
        self
    }

    /// The earlier run's segment that the batch was read from; none for lines of this run.
    pub fn source(&self) -> Option<&Arc<Source>> {
        self.source.as_ref()
    }

    /// The bytes, ends and parts of all units.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Sequence number behind the last unit's.
    pub fn end_seq(&self) -> u64 {
        self.first_seq + self.len() as u64
    }

    /// Number of units.
    #[expect(clippy::len_without_is_empty, reason = "an empty batch does not exist")]
    pub fn len(&self) -> usize {
        self.lines.ends.len()
    }

    /// The stream that all units were written to.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// Sequence number of the first unit.
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// When the batch was read.
    pub fn time(&self) -> Stamp {
        self.time
    }

    /// Bytes of the units `from..to`, newlines included.
    pub fn bytes_between(&self, from: usize, to: usize) -> usize {
        self.offset(to) - self.offset(from)
    }

    /// The unit at `index`.
    ///
    /// # Panics
    /// If `index` is not below [`Batch::len`].
    pub fn unit(&self, index: usize) -> Unit<'_> {
        let raw = &self.lines.data[self.offset(index)..self.lines.ends[index] as usize];
        let newline = raw.last() == Some(&b'\n');
        Unit {
            seq: self.first_seq + index as u64,
            stream: self.stream,
            time: self.time,
            text: if newline { &raw[..raw.len() - 1] } else { raw },
            part: self.part(index),
            newline,
            index: index as u32,
        }
    }

    /// All units, in order.
    pub fn units(&self) -> impl Iterator<Item = Unit<'_>> {
        (0..self.len()).map(|index| self.unit(index))
    }

    fn offset(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.lines.ends[index - 1] as usize }
    }

    fn part(&self, index: usize) -> Option<Part> {
        if self.lines.parts.is_empty() {
            return None;
        }
        let found = self.lines.parts.binary_search_by_key(&(index as u32), |&(at, _)| at).ok()?;
        Some(self.lines.parts[found].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_carry_sequence_text_and_part() {
        let lines = Lines {
            data: Bytes::from_static(b"one\n\nlong-part"),
            ends: vec![4, 5, 14],
            parts: vec![(2, Part { number: 1, last: false })],
        };
        let batch = Batch::new(Stream::Stderr, 7, Stamp(5), lines);
        let units: Vec<_> = batch.units().collect();
        assert_eq!(units.iter().map(|unit| unit.seq).collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!(units.iter().map(|unit| unit.text).collect::<Vec<_>>(), [&b"one"[..], b"", b"long-part"]);
        assert_eq!(units[2].part, Some(Part { number: 1, last: false }));
        assert_eq!(units[1].part, None);
        assert!(units[0].newline && !units[2].newline);
        assert_eq!(batch.bytes_between(0, 2), 5);
        assert_eq!(batch.bytes_between(1, 3), 10);
    }
}
