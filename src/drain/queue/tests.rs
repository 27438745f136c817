//! What the models of the queue do not ask.

use super::*;
use crate::{
    drain::{
        pack::Limits,
        testing::{batch, limits},
    },
    line::{Lines, Source, Stream},
    spool::{index::Index, load::Loaded, log::Extent, recovery::Range},
};

/// What one line takes of the memory.
fn line() -> usize {
    charge(batch(10, 1).bytes_between(0, 1), 1)
}

#[test]
fn with_drop_newest_a_line_is_taken_if_the_disk_can_take_others_off_the_memory() {
    let index = Arc::new(Index::default());
    let mut queue = Queue::new(WhenFull::DropNewest, 3 * line());
    queue.attach(Arc::clone(&index), 0, Vec::new());
    for seq in 11..=19 {
        queue.push(&batch(seq, 1));
        index.add(Extent { first_seq: seq, end_seq: seq + 1, segment: 1 });
    }
    assert_eq!((queue.counts().lost.total(), queue.held()), (0, 9));
    queue.recount();
}

#[test]
fn lines_leave_the_memory_when_another_does_not_fit_newest_first_and_down_to_seven_eighths() {
    let index = Arc::new(Index::default());
    let mut queue = Queue::new(WhenFull::DropOldest, 8 * line());
    queue.attach(Arc::clone(&index), 0, Vec::new());
    for seq in 11..=18 {
        queue.push(&batch(seq, 1));
        index.add(Extent { first_seq: seq, end_seq: seq + 1, segment: 1 });
    }
    assert_eq!(queue.charged(), 8 * line(), "all fits");
    for seq in 19..=22 {
        queue.push(&batch(seq, 1));
        assert_eq!(queue.charged(), 8 * line(), "one went for {seq}");
        assert!(queue.to_load().is_none(), "the first in line stays");
    }
    assert_eq!(queue.counts().lost.total(), 0);
}

/// What waits after two batches, of stdout and of stderr, went to the disk from behind a line.
fn on_disk(stdout: std::ops::Range<u64>, stderr: std::ops::Range<u64>) -> Vec<Range> {
    let index = Arc::new(Index::default());
    let mut queue = Queue::new(WhenFull::DropOldest, 1);
    queue.attach(Arc::clone(&index), 1 << 20, Vec::new());
    queue.push(&batch(1, 1));
    let data = |range: std::ops::Range<u64>| batch(range.start, range.end - range.start);
    queue.push(&data(stdout.clone()));
    let lines = Lines { data: b"a\nb\n".to_vec().into(), ends: vec![2, 4], parts: Vec::new() };
    queue.push(&Arc::new(Batch::new(Stream::Stderr, stderr.start, Stamp(0), lines)));
    for range in [stdout, stderr] {
        index.add(Extent { first_seq: range.start, end_seq: range.end, segment: 1 });
    }
    queue.unload();
    let ranges = queue.contents().1.into_iter().filter_map(|piece| match piece {
        Piece::OnLog(range) => Some(range),
        _ => None,
    });
    ranges.collect()
}

#[test]
fn ranges_on_the_disk_become_one_where_it_is_known_what_lies_between() {
    let range = |from, to, stream, units| Range { segment: 1, from, to, stream, units };
    assert_eq!(on_disk(100..103, 103..105), [range(100, 105, None, 5)]);
    let (out, err) = (Some(Stream::Stdout), Some(Stream::Stderr));
    assert_eq!(on_disk(100..103, 110..112), [range(100, 103, out, 3), range(110, 112, err, 2)]);
}

#[test]
fn books_that_are_closed_twice_keep_what_is_left_for_the_fallback() {
    let mut queue = Queue::new(WhenFull::DropOldest, 1 << 20);
    queue.keep_left();
    queue.push(&batch(1, 3));
    for _ in 0..2 {
        assert!(queue.close_books());
        assert_eq!(queue.left().iter().map(Piece::units).sum::<usize>(), 3);
    }
    queue.save_left(3);
    assert_eq!(queue.counts().lost.total(), 0);
}

#[test]
fn gaps_that_become_one_say_among_how_many_lines_only_if_one_of_them_did() {
    let gap = |lines, among| {
        let mut lost = Losses::default();
        lost.add(Loss::Overflow, lines);
        Gap { lost, first: Stamp(lines.cast_signed()), last: Stamp(lines.cast_signed() + 1), among }
    };
    for (one, other, among) in [(0, 0, 0), (10, 0, 13), (0, 10, 12), (10, 20, 30)] {
        let mut merged = gap(2, one);
        merge(&mut merged, &gap(3, other));
        assert_eq!((merged.lost.total(), merged.among), (5, among));
        assert_eq!((merged.first, merged.last), (Stamp(2), Stamp(4)));
    }
    let mut nothing = gap(0, 0);
    merge(&mut nothing, &gap(3, 0));
    assert_eq!(nothing, gap(3, 0), "a gap of nothing has no time of its own");
}

#[test]
fn what_an_earlier_run_left_may_be_more_than_was_thought() {
    let mut queue = Queue::new(WhenFull::DropOldest, 1 << 20);
    let range = Range { segment: 1, from: 1, to: 11, stream: None, units: 7 };
    queue.attach(Arc::new(Index::new([1])), 0, vec![range]);
    assert_eq!(queue.counts().adopted, 7);
    let source = Arc::new(Source { origin: crate::drain::testing::origin(), segment: 1 });
    let batches = vec![Batch::clone(&batch(1, 10)).from_source(source)];
    queue.load(range, Loaded { batches, upto: 11, reason: Loss::Corrupt, holes: 0 }, Stamp(1));
    assert_eq!((queue.counts().adopted, queue.held(), queue.counts().lost.total()), (10, 10, 0));
}

#[test]
fn a_gap_line_that_has_no_room_in_a_payload_is_in_the_next() {
    for (bytes, items) in [(GAP_BYTES, 10), (1 << 20, 1)] {
        let mut queue = Queue::new(WhenFull::DropNewest, line());
        queue.push(&batch(10, 1));
        queue.push(&batch(11, 1));
        let limits = Limits { bytes, items, ..limits() };
        assert!(queue.seal(&limits));
        let (window, waiting) = queue.contents();
        assert_eq!((window.len(), window[0].len(), waiting.len()), (1, 1, 1));
    }
}

#[test]
fn what_stands_first_stays_in_memory_however_little_there_is_or_it_would_be_read_again_for_ever() {
    let index = Arc::new(Index::default());
    let mut queue = Queue::new(WhenFull::DropOldest, 1);
    queue.attach(Arc::clone(&index), 1 << 20, Vec::new());
    for seq in 11..=13 {
        queue.push(&batch(seq, 1));
        index.add(Extent { first_seq: seq, end_seq: seq + 1, segment: 1 });
    }
    queue.unload();
    let (_, waiting) = queue.contents();
    assert!(matches!(waiting[..], [Piece::Units { .. }, Piece::OnLog(Range { from: 12, to: 14, .. })]), "{waiting:?}");
}

#[test]
fn a_gap_of_lines_that_were_on_the_disk_bears_the_time_at_which_that_was_found_out() {
    let range = Range { segment: 1, from: 1, to: 11, stream: None, units: 10 };
    let whole = |queue: &mut Queue| queue.evict(1, Stamp(77));
    let front = |queue: &mut Queue| {
        let loaded = Loaded { batches: Vec::new(), upto: 11, reason: Loss::Corrupt, holes: 0 };
        queue.load(range, loaded, Stamp(77));
    };
    for lose in [&whole as &dyn Fn(&mut Queue), &front] {
        let mut queue = Queue::new(WhenFull::DropOldest, 1 << 20);
        queue.attach(Arc::new(Index::new([1])), 0, vec![range]);
        lose(&mut queue);
        let (_, waiting) = queue.contents();
        let [Piece::Gap(gap)] = &waiting[..] else { panic!("{waiting:?}") };
        assert_eq!((gap.lost.total(), gap.first, gap.last), (10, Stamp(77), Stamp(77)));
    }
}

#[test]
fn lines_that_are_read_back_whole_or_in_part_are_announced_as_nothing() {
    let range = Range { segment: 1, from: 1, to: 11, stream: None, units: 10 };
    for (upto, left) in [(11, 0), (5, 6)] {
        let mut queue = Queue::new(WhenFull::DropOldest, 1 << 20);
        queue.attach(Arc::new(Index::new([1])), 0, vec![range]);
        let source = Arc::new(Source { origin: crate::drain::testing::origin(), segment: 1 });
        let batches = vec![Batch::clone(&batch(1, upto - 1)).from_source(source)];
        queue.load(range, Loaded { batches, upto, reason: Loss::Corrupt, holes: 0 }, Stamp(1));
        let (_, waiting) = queue.contents();
        assert!(waiting.iter().all(|piece| !matches!(piece, Piece::Gap(_))), "{waiting:?}");
        let on_disk =
            waiting.iter().filter_map(|piece| if let Piece::OnLog(range) = piece { Some(range.units) } else { None });
        assert_eq!((on_disk.sum::<u64>(), queue.held()), (left, 10));
    }
}
