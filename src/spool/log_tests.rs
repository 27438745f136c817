//! What the log writes, and what it need not.

use super::{
    codec::testing::header,
    cursor::{Cursor, Place},
    disk::Disk,
    log::Log,
    recovery::{recover, segment_name},
    sim::{Faults, Op, SimDisk},
};
use crate::drain::testing::batch;
use std::sync::Arc;

fn log(disk: &Arc<SimDisk>) -> Log {
    Log::new(Arc::clone(disk) as Arc<dyn Disk>, header(), 400, 1 << 30, recover(&**disk))
}

#[test]
fn a_cursor_is_written_when_its_drain_has_moved_and_only_then() {
    let disk = Arc::new(SimDisk::default());
    let mut log = log(&disk);
    log.append(&[batch(1, 5)], &mut Vec::new()).unwrap();
    let writes = || disk.ops().iter().filter(|op| matches!(op, Op::Write(..))).count();
    let mut note = |all, err| {
        let before = writes();
        let place = |seq| Place { segment: 1, seq };
        log.note(&[("all".to_owned(), place(all)), ("err".to_owned(), place(err))]).unwrap();
        let stored = |name| Cursor::load(&*disk, &Cursor::file_name(name)).unwrap().unwrap().place.seq;
        assert_eq!([stored("all"), stored("err")], [all, err]);
        writes() - before
    };
    assert_eq!([note(1, 1), note(2, 1), note(2, 1), note(5, 5)], [2, 1, 0, 2]);
}

/// How many bytes what is in a segment takes, and the segments there are.
fn segments(disk: &SimDisk) -> Vec<(u64, u64)> {
    recover(&SimDisk::with(&disk.files())).segments.iter().map(|it| (it.first_seq, it.end_seq)).collect()
}

#[test]
fn a_segment_takes_batches_until_it_has_so_many_bytes_however_they_come() {
    // What three batches take, header included.
    let disk = Arc::new(SimDisk::default());
    let mut sizes = Vec::new();
    let mut probe = log(&disk);
    for first in [11, 13, 15] {
        probe.append(&[batch(first, 2)], &mut Vec::new()).unwrap();
        sizes.push(disk.files()[&segment_name(1)].len() as u64);
    }
    for (segment_bytes, batches) in [(sizes[1], 2), (sizes[1] + 1, 3), (sizes[2], 3)] {
        for at_once in [false, true] {
            let disk = Arc::new(SimDisk::default());
            let found = recover(&*disk);
            let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), segment_bytes, 1 << 30, found);
            let all: Vec<_> = (0..8).map(|number| batch(11 + 2 * number, 2)).collect();
            for some in all.chunks(if at_once { 8 } else { 1 }) {
                log.append(some, &mut Vec::new()).unwrap();
            }
            assert_eq!(segments(&disk)[0], (11, 11 + 2 * batches), "{segment_bytes} bytes, at once: {at_once}");
            assert_eq!(segments(&disk).last().unwrap().1, 27);
        }
    }
}

#[test]
fn what_comes_at_once_is_written_in_few_writes_that_are_not_too_large() {
    let disk = Arc::new(SimDisk::default());
    let found = recover(&*disk);
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), 8 << 20, 1 << 30, found);
    let batches: Vec<_> = (0..100).map(|number| batch(10_000 + 1000 * number, 1000)).collect();
    log.append(&batches, &mut Vec::new()).unwrap();
    let writes =
        disk.ops().into_iter().filter_map(|op| if let Op::Write(_, _, bytes) = op { Some(bytes.len()) } else { None });
    let writes: Vec<_> = writes.collect();
    let (all, longest) = (writes.iter().sum::<usize>(), writes.iter().max().unwrap());
    assert!((256 << 10..300 << 10).contains(longest) && writes.len() <= 2 + all / (256 << 10), "{writes:?}");
}

/// How the segment before ended.
#[derive(Clone, Copy, Debug)]
enum End {
    Sealed,
    WriteFailed,
    SyncFailed,
    Found,
}

#[test]
fn room_is_made_when_another_segment_would_not_fit_and_not_before() {
    for end in [End::Sealed, End::WriteFailed, End::SyncFailed, End::Found] {
        for (left, evicted) in [(400, 0), (399, 1)] {
            let disk = Arc::new(SimDisk::default());
            // What the file will have, by a try; then to the byte.
            let used = make_room_behind(&disk, end, 1 << 30).1;
            assert_eq!(disk.files()[&segment_name(1)].len() as u64, used, "{end:?}");
            let disk = Arc::new(SimDisk::default());
            assert_eq!(make_room_behind(&disk, end, used + left).0, evicted, "{end:?}, {left} left");
        }
    }
}

/// How many segments made room for a second one, and what the first one took.
fn make_room_behind(disk: &Arc<SimDisk>, end: End, max: u64) -> (usize, u64) {
    let mut log = Log::new(Arc::clone(disk) as Arc<dyn Disk>, header(), 400, max, recover(&**disk));
    log.append(&[batch(1, 20)], &mut Vec::new()).unwrap();
    let fails = || disk.set_faults(Faults { fail_at: Some((0, nix::libc::EIO)), ..Faults::default() });
    match end {
        End::Sealed => {}
        End::WriteFailed => {
            fails();
            // It is not full yet, so that is tried in this one.
            log.append(&[batch(21, 2)], &mut Vec::new()).unwrap_err();
        }
        End::SyncFailed => {
            fails();
            log.sync().unwrap_err();
        }
        End::Found => log = Log::new(Arc::clone(disk) as Arc<dyn Disk>, header(), 400, max, recover(&**disk)),
    }
    let before = disk.files().get(&segment_name(1)).map(Vec::len);
    log.append(&[batch(31, 2)], &mut Vec::new()).unwrap();
    let after = disk.files().get(&segment_name(1)).map(Vec::len).or(before);
    let evicted = log.take_evicted();
    // What made room needs no sync; all else does, but what could not be synced.
    let segments = log.take_unsafe().segments;
    assert_eq!(segments.contains(&1), evicted.is_empty() && !matches!(end, End::SyncFailed), "{end:?}");
    assert!(segments.contains(&2));
    (evicted.len(), after.unwrap_or_default() as u64)
}

#[test]
fn what_nobody_is_owed_is_removed_and_not_synced_and_all_else_is_synced_and_stays() {
    let disk = Arc::new(SimDisk::default());
    let mut log = log(&disk);
    // Holes in the numbers begin other segments.
    for first in [1, 11, 21, 31] {
        log.append(&[batch(first, 2)], &mut Vec::new()).unwrap();
    }
    // Nothing of stderr was written: who gets that alone is owed none of it.
    log.note(&[("all".to_owned(), Place { segment: 2, seq: 13 })]).unwrap();
    assert!(!log.has_removals());
    assert_eq!(log.release(false), [1, 2]);
    assert!(log.has_removals() && log.is_dirty());
    let removals = log.take_removals();
    assert_eq!((removals.remove, removals.segments, removals.dir), (vec![1, 2], vec![], false));
    assert!(!log.has_removals());
    let work = log.take_unsafe();
    assert_eq!((work.segments, work.dir), (vec![3, 4], true));
    assert!(!log.is_dirty());
    // Somebody removes one of the two that are left, which is then nobody's to sync.
    log.append(&[batch(33, 2), batch(41, 2)], &mut Vec::new()).unwrap();
    disk.remove(&segment_name(4)).unwrap();
    assert_eq!(log.miss(&disk.list().unwrap()), (vec![4], true));
    assert_eq!(log.take_unsafe().segments, [5]);
    disk.remove(&segment_name(5)).unwrap();
    disk.remove(&segment_name(3)).unwrap();
    assert_eq!(log.miss(&disk.list().unwrap()), (vec![3, 5], false));
    assert!(log.is_empty());
}

#[test]
fn a_drain_that_stands_one_line_before_the_end_of_a_segment_keeps_it() {
    for (seq, released) in [(2, vec![]), (3, vec![1])] {
        let disk = Arc::new(SimDisk::default());
        let mut log = log(&disk);
        log.append(&[batch(1, 2), batch(11, 2)], &mut Vec::new()).unwrap();
        log.note(&[("all".to_owned(), Place { segment: 1, seq })]).unwrap();
        assert_eq!(log.release(false), released);
    }
}

#[test]
fn cursors_that_could_not_be_written_are_written_again_though_nobody_has_moved() {
    let disk = Arc::new(SimDisk::default());
    let mut log = log(&disk);
    let places = [("all".to_owned(), Place { segment: 1, seq: 7 })];
    log.note(&[("all".to_owned(), Place { segment: 1, seq: 1 })]).unwrap();
    disk.set_faults(Faults { fail_at: Some((0, nix::libc::EIO)), ..Faults::default() });
    log.note(&places).unwrap_err();
    log.note(&places).unwrap();
    let name = Cursor::file_name("all");
    assert_eq!(Cursor::load(&*disk, &name).unwrap().unwrap().place, places[0].1);
    let ops = disk.ops().len();
    log.note(&places).unwrap();
    assert_eq!(disk.ops().len(), ops, "now it stands there");
}

#[test]
fn a_segment_says_which_instance_of_the_app_wrote_it() {
    let disk = Arc::new(SimDisk::default());
    let mut log = log(&disk);
    log.append(&[batch(1, 2)], &mut Vec::new()).unwrap();
    log.set_instance("another");
    log.append(&[batch(11, 2)], &mut Vec::new()).unwrap();
    let found = recover(&*disk);
    let instances: Vec<_> = found.segments.iter().map(|it| it.source.origin.instance.wait().to_owned()).collect();
    assert_eq!(instances, [header().instance, "another".to_owned()]);
}
