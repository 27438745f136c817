//! Pieces of batches, and sealed runs of them: what one payload is made of.
//!
//! An *item* is whatever has wire bytes of its own: a unit, or a gap line. A sealed run never changes its items, so it
//! encodes to the same bytes on every retry; only the count of settled items in front of it grows. The end of each
//! item on the wire is kept (4 bytes an item), so that a position finds its unit without encoding again.

use crate::{
    format::Gap,
    line::{Batch, Source},
    spool::recovery::Range,
};
use std::sync::Arc;

/// What a gap line is charged as, in memory and on the wire.
pub(crate) const GAP_BYTES: usize = 256;

/// Consecutive units of one batch, or the announcement of lost ones.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// The units `from..to` of a batch; never empty.
    Units { batch: Arc<Batch>, from: usize, to: usize },
    /// Lines that were lost at this place.
    Gap(Gap),
    /// Units that are in the spool alone. They wait; a sealed run never has any.
    OnLog(Range),
}

impl Piece {
    /// Things with wire bytes of their own.
    pub(crate) fn items(&self) -> usize {
        match self {
            Self::Units { from, to, .. } => to - from,
            Self::Gap(_) => 1,
            Self::OnLog(range) => range.units as usize,
        }
    }

    /// Units, which are what the accounts count.
    pub(crate) fn units(&self) -> usize {
        match self {
            Self::Units { from, to, .. } => to - from,
            Self::Gap(_) => 0,
            Self::OnLog(range) => range.units as usize,
        }
    }

    /// Memory that the piece stands for: text, line ends here and on the wire, and its share of the overhead. A range on the
    /// disk stands for none: it takes no room from lines, however many segments earlier runs left. There are few, for
    /// neighbours are joined: one for each segment, and for what is charged and stands between two.
    pub(crate) fn charge(&self) -> usize {
        match self {
            Self::Units { batch, from, to } => charge(batch.bytes_between(*from, *to), to - from),
            Self::Gap(_) => GAP_BYTES,
            Self::OnLog(_) => 0,
        }
    }

    /// Where its lines come from: an earlier run, or none. None for a gap, which may stand among any lines.
    pub(crate) fn source(&self) -> Option<Option<&Arc<Source>>> {
        match self {
            Self::Units { batch, .. } => Some(batch.source()),
            Self::Gap(_) | Self::OnLog(_) => None,
        }
    }

    /// The items `from..to` of the piece.
    fn slice(&self, from: usize, to: usize) -> Self {
        match self {
            Self::Units { batch, from: first, .. } => {
                Self::Units { batch: Arc::clone(batch), from: first + from, to: first + to }
            }
            Self::Gap(gap) => Self::Gap(gap.clone()),
            Self::OnLog(range) => Self::OnLog(*range),
        }
    }
}

/// What `units` units of `bytes` bytes in one batch cost in memory.
pub(crate) fn charge(bytes: usize, units: usize) -> usize {
    bytes + 8 * units + Batch::OVERHEAD_BYTES
}

/// Where a sealed run lies in the drain's stream of wire bytes.
#[derive(Clone, Debug)]
struct Wire {
    position: u64,
    /// End of each item, counted from `position`.
    ends: Arc<[u32]>,
}

/// A run of items that travels as one payload. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    id: u64,
    pieces: Arc<[Piece]>,
    /// Whose lines they are, if an earlier run's.
    source: Option<Arc<Source>>,
    items: usize,
    done: usize,
    wire: Option<Wire>,
}

impl Sealed {
    pub(crate) fn new(id: u64, pieces: Vec<Piece>) -> Self {
        let items = pieces.iter().map(Piece::items).sum();
        let source = pieces.iter().find_map(Piece::source).flatten().cloned();
        Self { id, pieces: pieces.into(), source, items, done: 0, wire: None }
    }

    /// Where the lines come from, if an earlier run left them. All of a run come from one: formats may say the origin in
    /// front of them all.
    pub(crate) fn source(&self) -> Option<&Source> {
        self.source.as_deref()
    }

    /// Names the run for ever; a re-cut one has another id.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Memory that the run stands for.
    pub(crate) fn charge(&self) -> usize {
        self.pieces.iter().map(Piece::charge).sum()
    }

    /// Items that are not settled.
    pub(crate) fn open_items(&self) -> usize {
        self.items - self.done
    }

    /// Units that are not settled.
    pub(crate) fn open_units(&self) -> usize {
        self.units_between(self.done, self.items)
    }

    /// The pieces that are not settled, in order.
    pub(crate) fn open_pieces(&self) -> Vec<Piece> {
        self.slice(self.done, self.items)
    }

    /// Sets where the run lies. `ends` has an end for each item.
    pub(crate) fn place(&mut self, position: u64, ends: Arc<[u32]>) {
        debug_assert_eq!(ends.len(), self.items);
        self.wire = Some(Wire { position, ends });
    }

    /// Forgets where the run lies: runs before it were cut anew.
    pub(crate) fn displace(&mut self) {
        debug_assert_eq!(self.done, 0, "a run that is partly settled stays where it is");
        self.wire = None;
    }

    /// Position of the first open item and the ends of the open items, counted from there. `None` before encoding.
    pub(crate) fn open_wire(&self) -> Option<(u64, Arc<[u32]>)> {
        let wire = self.wire.as_ref()?;
        if self.done == 0 {
            return Some((wire.position, Arc::clone(&wire.ends)));
        }
        let skipped = wire.ends[self.done - 1];
        let ends = wire.ends[self.done..].iter().map(|end| end - skipped).collect();
        Some((wire.position + u64::from(skipped), ends))
    }

    /// Position of the first open byte, and behind the last; `None` before encoding.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        let wire = self.wire.as_ref()?;
        let at = |items: usize| if items == 0 { 0 } else { u64::from(wire.ends[items - 1]) };
        Some((wire.position + at(self.done), wire.position + at(self.items)))
    }

    /// Position behind the first open item; `None` before encoding.
    pub(crate) fn first_end(&self) -> Option<u64> {
        let wire = self.wire.as_ref()?;
        wire.ends.get(self.done).map(|&end| wire.position + u64::from(end))
    }

    /// Settles the items that end at or before `upto`; returns how many units that were.
    pub(crate) fn settle(&mut self, upto: u64) -> usize {
        let Some(wire) = &self.wire else { return 0 };
        let before = self.done;
        let reached = wire.ends.partition_point(|&end| wire.position + u64::from(end) <= upto);
        self.done = reached.max(before);
        self.units_between(before, self.done)
    }

    /// The first unit that is not settled; None if there are gap lines alone.
    pub(crate) fn first_open(&self) -> Option<(&Arc<Batch>, usize)> {
        if planted!(cursor_before_settled) {
            return None;
        }
        self.overlaps(self.done, self.items).find_map(|(piece, first, _)| match piece {
            Piece::Units { batch, from, .. } => Some((batch, from + first)),
            Piece::Gap(_) | Piece::OnLog(_) => None,
        })
    }

    /// Cuts the open items in two halves (the first takes the odd one); `None` if there is just one.
    pub(crate) fn halves(&self) -> Option<(Vec<Piece>, Vec<Piece>)> {
        if self.open_items() < 2 {
            return None;
        }
        let middle = self.done + self.open_items().div_ceil(2);
        Some((self.slice(self.done, middle), self.slice(middle, self.items)))
    }

    /// The open items `from..to`, counted from the first open one.
    pub(crate) fn open_between(&self, from: usize, to: usize) -> Vec<Piece> {
        self.slice(self.done + from, self.done + to)
    }

    fn units_between(&self, from: usize, to: usize) -> usize {
        self.overlaps(from, to).map(|(piece, first, last)| if piece.units() == 0 { 0 } else { last - first }).sum()
    }

    fn slice(&self, from: usize, to: usize) -> Vec<Piece> {
        self.overlaps(from, to).map(|(piece, first, last)| piece.slice(first, last)).collect()
    }

    /// Each piece that has items in `from..to`, with the range of its own items.
    fn overlaps(&self, from: usize, to: usize) -> impl Iterator<Item = (&Piece, usize, usize)> {
        let mut start = 0;
        self.pieces.iter().filter_map(move |piece| {
            let (first, last) = (start, start + piece.items());
            start = last;
            let (low, high) = (first.max(from), last.min(to));
            (low < high).then(|| (piece, low - first, high - first))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::testing::batch;

    fn sealed() -> Sealed {
        let pieces = vec![
            Piece::Units { batch: batch(1, 3), from: 1, to: 3 },
            Piece::Gap(Gap::default()),
            Piece::Units { batch: batch(4, 2), from: 0, to: 2 },
        ];
        Sealed::new(9, pieces)
    }

    #[test]
    fn positions_find_their_units_and_gaps_count_as_none() {
        let mut sealed = sealed();
        sealed.place(100, vec![10, 20, 30, 40, 50].into());
        assert_eq!(sealed.settle(119), 1);
        assert_eq!(sealed.span(), Some((110, 150)));
        assert_eq!(sealed.settle(130), 1, "the second unit and the gap");
        assert_eq!(sealed.settle(110), 0, "positions do not go back");
        assert_eq!((sealed.open_items(), sealed.open_units()), (2, 2));
        let (position, ends) = sealed.open_wire().unwrap();
        assert_eq!((position, &ends[..]), (130, &[10, 20][..]));
    }

    #[test]
    fn halving_ends_at_single_items_and_keeps_the_order() {
        let (left, right) = sealed().halves().unwrap();
        assert_eq!(left.iter().map(Piece::items).sum::<usize>(), 3);
        assert_eq!(right.iter().map(Piece::units).sum::<usize>(), 2);
        assert!(Sealed::new(1, vec![Piece::Gap(Gap::default())]).halves().is_none());
    }
}
