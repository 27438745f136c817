//! The queue and its spool: what is on the disk leaves the memory, and comes back when it stands first.

use super::{Queue, State};
use crate::{
    drain::sealed::{Piece, Sealed},
    ledger::Loss,
    line::{Batch, Stamp},
    spool::{cursor::Place, index::Index, load::Loaded, recovery::Range},
};
use std::sync::Arc;

/// What a queue knows of the spool.
#[derive(Debug)]
pub(super) struct OnDisk {
    pub(super) index: Arc<Index>,
    /// Bytes that memory may be passed by: what the spool may have in hand.
    pub(super) grace: usize,
    /// The index as it was when the last look for something to unload found too little.
    pub(super) in_vain: u64,
    /// What earlier runs left is in segments below this, while there is any.
    pub(super) adopted_below: u64,
    /// Where the drain stood when it died or its books were closed.
    pub(super) stood: Option<Low>,
}

/// The first unit that is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Low {
    /// In a known segment.
    At(Place),
    /// This unit of the present run.
    Live(u64),
    /// There is none: all is settled.
    Nothing,
}

impl Queue {
    /// Unloads to a spool from now on. `adopted` is what earlier runs left: it goes before all that is not on its way.
    pub(crate) fn attach(&mut self, index: Arc<Index>, grace: usize, adopted: Vec<Range>) {
        if self.is_frozen() {
            return;
        }
        let adopted_below = adopted.iter().map(|range| range.segment + 1).max().unwrap_or(0);
        self.log = Some(OnDisk { index, grace, in_vain: u64::MAX, adopted_below, stood: None });
        for range in adopted.into_iter().rev() {
            self.counts.adopted += range.units;
            self.prepend(Piece::OnLog(range));
        }
        self.check();
    }

    /// The range that stands first and is to be loaded.
    pub(crate) fn to_load(&self) -> Option<Range> {
        match self.waiting.front() {
            Some(Piece::OnLog(range)) if self.state == State::Open => Some(*range),
            _ => None,
        }
    }

    /// Takes what was read for the front of `asked`: all its units before `upto`. What is missing there is lost for `reason`.
    /// Changes nothing if the range is not in front any more.
    pub(crate) fn load(&mut self, asked: Range, loaded: Loaded, now: Stamp) {
        let Loaded { batches, upto, reason, holes } = loaded;
        let Some(range) = self.to_load().filter(|it| (it.segment, it.from) == (asked.segment, asked.from)) else {
            return;
        };
        self.remove_waiting(0);
        let mut pieces = Vec::new();
        for batch in batches {
            let index = |seq: u64| (seq.clamp(batch.first_seq(), batch.end_seq()) - batch.first_seq()) as usize;
            let (from, to) = (index(range.from), index(upto.min(range.to)));
            if from < to {
                pieces.push(Piece::Units { batch: Arc::new(batch), from, to });
            }
        }
        let got = pieces.iter().map(Piece::units).sum::<usize>() as u64;
        // A damaged file may have more than it said.
        self.counts.adopted += got.saturating_sub(range.units);
        let open = range.units.saturating_sub(got);
        // What is missing before `upto` is passed now: who exits now must not call it spooled.
        let behind = range.to.saturating_sub(upto).min(open.saturating_sub(holes));
        if behind > 0 {
            self.prepend(Piece::OnLog(Range { from: upto, units: behind, ..range }));
        }
        if open > behind {
            let gap = self.lose_units(open - behind, now, reason);
            self.insert_gap(0, gap);
        }
        pieces.into_iter().rev().for_each(|piece| self.prepend(piece));
        self.check();
    }

    /// A segment was deleted to make room: what of it is not in memory is lost.
    pub(crate) fn evict(&mut self, segment: u64, now: Stamp) {
        self.lose_ranges(|range| range.segment == segment, Loss::Overflow, now);
    }

    /// Somebody else removed a segment, or all of the spool: what of it is not in memory is lost. Returns how many units.
    pub(crate) fn vanish(&mut self, segment: Option<u64>, now: Stamp) -> u64 {
        if let (None, false, Some(log)) = (segment, self.is_frozen(), &mut self.log) {
            // Until there is another spool nothing is on a disk.
            log.index = Arc::default();
            log.in_vain = u64::MAX;
        }
        self.lose_ranges(|range| segment.is_none_or(|segment| range.segment == segment), Loss::SpoolError, now)
    }

    /// How far the drain has come: what earlier runs left comes before the lines of this one, wherever they stand (a spool that
    /// opens late finds lines of this run on their way).
    pub(crate) fn low(&mut self) -> Low {
        if let Some(stood) = self.log.as_ref().and_then(|log| log.stood) {
            return stood;
        }
        let below = self.log.as_ref().map_or(0, |log| log.adopted_below);
        let is_adopted = |low: &Low| matches!(low, Low::At(place) if place.segment < below);
        let first = self.open_places().next().unwrap_or(Low::Nothing);
        if below == 0 || is_adopted(&first) {
            return first;
        }
        let adopted = self.open_places().find(is_adopted);
        if let (None, Some(log)) = (adopted, &mut self.log) {
            log.adopted_below = 0;
        }
        adopted.unwrap_or(first)
    }

    /// The first unit of each piece that is not settled, in the order of sending.
    fn open_places(&self) -> impl Iterator<Item = Low> {
        let unit = |batch: &Batch, index: usize| {
            let seq = batch.first_seq() + index as u64;
            batch.source().map_or(Low::Live(seq), |source| Low::At(Place { segment: source.segment, seq }))
        };
        let window = self.window.iter().filter_map(Sealed::first_open).map(move |(batch, index)| unit(batch, index));
        let waiting = self.waiting.iter().filter_map(move |piece| match piece {
            Piece::Units { batch, from, .. } => Some(unit(batch, *from)),
            Piece::OnLog(range) => Some(Low::At(Place { segment: range.segment, seq: range.from })),
            Piece::Gap(_) => None,
        });
        window.chain(waiting)
    }

    /// Batches of this run that are in memory and not settled, and begin with a unit in `from..to`. A batch is on the disk as a
    /// whole or not at all, so these are what a spool that missed these units can still get.
    pub(crate) fn held_between(&self, from: u64, to: u64) -> Vec<Arc<Batch>> {
        let window = self.window.iter().flat_map(Sealed::open_pieces);
        let own = |piece: Piece| match piece {
            Piece::Units { batch, .. } if batch.source().is_none() => Some(batch),
            _ => None,
        };
        let held = window.chain(self.waiting.iter().cloned()).filter_map(own);
        held.filter(|batch| (from..to).contains(&batch.first_seq())).collect()
    }

    /// As [`Queue::has_room`], after letting go what is on the disk.
    pub(crate) fn makes_room(&mut self, bytes: usize) -> bool {
        if self.has_room(bytes) {
            return true;
        }
        self.unload();
        self.has_room(bytes)
    }

    /// Lets batches that are on the disk go, newest first, but for the one in front: what was just loaded is to be sent.
    pub(crate) fn unload(&mut self) {
        let Some(log) = &self.log else { return };
        let version = log.index.version();
        if log.in_vain == version {
            return;
        }
        let target = self.memory - self.memory / 8;
        let mut at = self.waiting.len();
        while at > 1 && self.charged() > target {
            at -= 1;
            self.let_go(at);
        }
        if self.charged() > target
            && let Some(log) = &mut self.log
        {
            log.in_vain = version;
        }
    }

    /// Lets one batch go, if it is on the disk. False if it is not, or is no batch.
    pub(super) fn let_go(&mut self, at: usize) -> bool {
        if !matches!(self.waiting[at], Piece::Units { .. }) {
            return false;
        }
        let Some(range) = self.on_disk(&self.waiting[at]) else { return false };
        let charge = self.waiting[at].charge();
        self.waiting[at] = Piece::OnLog(range);
        self.waiting_charge -= charge;
        self.join_ranges(at);
        if at > 0 {
            self.join_ranges(at - 1);
        }
        true
    }
}

impl Queue {
    /// What may be charged before anything is dropped.
    pub(super) fn limit(&self) -> usize {
        self.memory + self.log.as_ref().map_or(0, |log| log.grace)
    }

    /// Where on the disk the units of a piece are, if all are.
    pub(super) fn on_disk(&self, piece: &Piece) -> Option<Range> {
        let index = &self.log.as_ref()?.index;
        match piece {
            Piece::Units { batch, from, to } => {
                let (first, end) = (batch.first_seq() + *from as u64, batch.first_seq() + *to as u64);
                let segment = match batch.source() {
                    Some(source) => index.is_alive(source.segment).then_some(source.segment)?,
                    None => index.segment_of(first, end)?,
                };
                let stream = Some(batch.stream());
                Some(Range { segment, from: first, to: end, stream, units: end - first })
            }
            Piece::OnLog(range) => index.is_alive(range.segment).then_some(*range),
            Piece::Gap(_) => None,
        }
    }

    /// Makes one range of two neighbours in a segment, at `at` and behind it.
    fn join_ranges(&mut self, at: usize) {
        let (Some(Piece::OnLog(one)), Some(Piece::OnLog(two))) = (self.waiting.get(at), self.waiting.get(at + 1))
        else {
            return;
        };
        if one.segment != two.segment || one.to > two.from {
            return;
        }
        // Between the two lie only units of a stream that this drain does not get, or none.
        let stream = one.stream.filter(|_| one.stream == two.stream);
        let joined = Range { to: two.to, stream, units: one.units + two.units, ..*one };
        if stream.is_none() && joined.units < joined.to - joined.from {
            return;
        }
        self.waiting.remove(at + 1);
        self.waiting[at] = Piece::OnLog(joined);
    }

    /// Returns how many units those are.
    fn lose_ranges(&mut self, gone: impl Fn(&Range) -> bool, reason: Loss, now: Stamp) -> u64 {
        let before = self.counts.lost.total();
        let gone = |piece: &Piece| matches!(piece, Piece::OnLog(range) if gone(range));
        while let Some(at) = self.waiting.iter().position(gone) {
            self.lose_range(at, reason, now);
        }
        self.check();
        self.counts.lost.total() - before
    }

    /// The times of a range are in the spool, where they can't be read any more: the gap says when it was found out.
    fn lose_range(&mut self, at: usize, reason: Loss, now: Stamp) {
        let Some(piece) = self.remove_waiting(at) else { return };
        let gap = self.lose_units(piece.units() as u64, now, reason);
        self.insert_gap(at, gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::WhenFull,
        drain::{
            sealed::GAP_BYTES,
            testing::{batch, limits, origin},
        },
        line::{Source, Stream},
        spool::log::Extent,
    };

    fn queue(range: Range) -> Queue {
        let mut queue = Queue::new(WhenFull::DropOldest, 1 << 20);
        queue.attach(Arc::new(Index::new([1])), 0, vec![range]);
        queue
    }

    #[test]
    fn what_is_damaged_is_lost_when_it_is_passed_so_that_an_exit_does_not_call_it_spooled() {
        for stream in [None, Some(Stream::Stdout), Some(Stream::Stderr)] {
            passes_damage_of(stream);
        }
    }

    fn passes_damage_of(stream: Option<Stream>) {
        let range = Range { segment: 1, from: 1, to: 101, stream, units: 100 };
        let mut queue = queue(range);
        // Of the units 1 to 50, 11 to 50 can't be read.
        let source = Arc::new(Source { origin: origin(), segment: 1 });
        let batches = vec![Batch::clone(&batch(1, 10)).from_source(source)];
        queue.load(range, Loaded { batches, upto: 51, reason: Loss::Corrupt, holes: 40 }, Stamp(1));
        assert_eq!((queue.counts().lost.of(Loss::Corrupt), queue.counts().pending()), (40, 60));
        queue.recount();
        assert!(queue.close_books());
        assert_eq!((queue.counts().spooled, queue.counts().lost.total()), (60, 40));
    }

    #[test]
    fn a_spool_that_opens_late_does_not_take_what_it_finds_for_settled_because_a_later_line_is_on_its_way() {
        let mut queue = Queue::new(WhenFull::DropOldest, 1 << 20);
        queue.push(&batch(1, 1));
        assert!(queue.seal(&limits()));
        let left = Range { segment: 7, from: 5, to: 9, stream: None, units: 4 };
        queue.attach(Arc::new(Index::new([7])), 0, vec![left]);
        assert_eq!(queue.low(), Low::At(Place { segment: 7, seq: 5 }));
        assert_eq!(queue.vanish(Some(7), Stamp(1)), 4);
        assert_eq!(queue.low(), Low::Live(1));
    }

    #[test]
    fn what_earlier_runs_left_on_the_disk_takes_no_room_from_the_lines_of_this_one() {
        let line = Piece::Units { batch: batch(1, 1), from: 0, to: 1 }.charge();
        let left = |segment| Range { segment, from: 1, to: 2, stream: None, units: 1 };
        for policy in [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Block] {
            let mut queue = Queue::new(policy, 3 * line);
            queue.attach(Arc::new(Index::new(1..=1_000)), 0, (1..=1_000).map(left).collect());
            assert!(queue.ready() > 0, "there is something to send");
            for seq in 1..=3 {
                assert!(queue.has_room(1), "{policy:?}: an app need not wait");
                queue.push(&batch(seq, 1));
            }
            queue.recount();
            assert_eq!((queue.counts().lost.total(), queue.held()), (0, 1_003), "{policy:?}");
        }
    }

    #[test]
    fn the_batch_in_front_is_let_go_rather_than_lost_if_it_is_on_the_disk() {
        let index = Arc::new(Index::default());
        let size = Piece::Units { batch: batch(100, 60), from: 0, to: 60 }.charge();
        let mut queue = Queue::new(WhenFull::DropOldest, size);
        queue.attach(Arc::clone(&index), size + size / 2, Vec::new());
        queue.push(&batch(100, 60));
        index.add(Extent { first_seq: 100, end_seq: 160, segment: 1 });
        // What the spool has in hand, and what comes: not on the disk yet, and too much together with the first.
        queue.push(&batch(160, 60));
        queue.push(&batch(220, 60));
        assert_eq!((queue.counts().lost.total(), queue.held()), (0, 180));
        assert!(queue.to_load().is_some_and(|range| (range.from, range.to) == (100, 160)));
        queue.push(&batch(280, 60));
        assert_eq!(queue.counts().lost.total(), 60, "what is not on the disk has a limit");
    }

    /// A disk that refused now and then, under a drain that was down: each range on it kept two announcements apart, and those took
    /// the memory from the lines.
    #[test]
    fn announcements_between_ranges_on_the_disk_take_no_room_from_lines() {
        let index = Arc::new(Index::default());
        let size = Piece::Units { batch: batch(100, 1), from: 0, to: 1 }.charge();
        let memory = 20 * size;
        let mut queue = Queue::new(WhenFull::DropOldest, memory);
        queue.attach(Arc::clone(&index), 0, Vec::new());
        for seq in 100..1000 {
            queue.push(&batch(seq, 1));
            // Of thirty lines in a row ten are on the disk; of the others those are lost that the memory does not hold.
            if seq % 30 < 10 {
                index.add(Extent { first_seq: seq, end_seq: seq + 1, segment: seq });
            }
            assert!(queue.recount() <= memory, "{}", queue.charged());
        }
        let (_, waiting) = queue.contents();
        let gaps = waiting.iter().filter(|piece| matches!(piece, Piece::Gap(_))).count();
        assert!(gaps * GAP_BYTES > memory, "{gaps} gaps are too few");
        let in_memory = waiting.iter().filter(|piece| matches!(piece, Piece::Units { .. })).count();
        assert_eq!(in_memory, 20);
    }
}
