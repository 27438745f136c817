//! Segments' numbers ascend for ever: whatever a directory says, no run comes to the end of them.

use super::{
    codec::testing::header,
    cursor::{Cursor, Place},
    disk::Disk,
    log::Log,
    recovery::{recover, segment_name},
    rig::kept,
    sim::{Faults, SimDisk},
};
use crate::drain::testing::batch;
use nix::libc::{EIO, EROFS};
use std::sync::Arc;

/// What names no segment, a number below, and the highest that a file's name is read as.
const HIGHEST: u64 = u64::MAX >> 1;
const REACHED: u64 = 1 << 48;

/// A run that writes two lines, numbered from `first` on.
fn run(disk: &Arc<SimDisk>, first: u64) {
    let mut log = Log::new(Arc::clone(disk) as Arc<dyn Disk>, header(), 600, 1 << 30, recover(&**disk));
    log.append(&[batch(first, 2)], &mut Vec::new()).unwrap();
}

/// A segment of two lines, the only one, under another number.
fn forged(number: u64) -> Arc<SimDisk> {
    let disk = Arc::new(SimDisk::default());
    run(&disk, 1);
    if number != 1 {
        disk.rename(&segment_name(1), &segment_name(number)).unwrap();
    }
    disk
}

/// The run after a forged cursor numbered its segments by that, and the next one did not know them for segments any more.
#[test]
fn a_cursor_that_names_a_number_near_the_highest_costs_no_line_of_the_runs_that_follow() {
    for segment in [HIGHEST - 1, HIGHEST, REACHED - 1, REACHED, REACHED + 1] {
        let disk = forged(1);
        Cursor::new("all").store(&*disk, Place { segment, seq: 0 }).unwrap();
        run(&disk, 3);
        run(&disk, 5);
        let kept = kept(&disk);
        assert!([3, 4, 5, 6].iter().all(|line| kept.contains(line)), "{segment:x}: {kept:?}");
    }
}

/// So did a torn slot beside a whole one that is as far as a run can come.
#[test]
fn a_torn_cursor_at_the_last_number_that_a_run_reaches_is_no_cursor() {
    let disk = forged(1);
    let mut cursor = Cursor::new("all");
    cursor.store(&*disk, Place { segment: REACHED - 1, seq: 0 }).unwrap();
    cursor.store(&*disk, Place { segment: REACHED, seq: 0 }).unwrap();
    disk.edit(&Cursor::file_name("all"), |bytes| bytes[8..20].fill(7));
    let found = recover(&*disk);
    assert_eq!((found.cursors.len(), found.next_number), (0, 2), "{:?}", found.notes);
    assert!(found.notes[0].contains("it names a segment that no run reaches"), "{:?}", found.notes);
}

/// A file's name did the same as a cursor.
#[test]
fn a_segment_named_by_a_number_near_the_highest_costs_no_line_and_keeps_its_place_in_their_order() {
    for number in [HIGHEST - 1, HIGHEST, REACHED, REACHED + 1] {
        let disk = forged(number);
        run(&disk, 3);
        run(&disk, 5);
        assert_eq!(kept(&disk), [1, 2, 3, 4, 5, 6], "{number:x}");
        let files = disk.files();
        let found = recover(&*disk);
        assert_eq!(
            (found.notes.len(), disk.files() == files),
            (0, true),
            "{number:x}: once is enough: {:?}",
            found.notes
        );
    }
}

#[test]
fn segments_that_no_run_numbered_stay_in_order_behind_what_a_cursor_has_settled() {
    let disk = forged(HIGHEST);
    run(&disk, 3);
    // The first is renamed in that run.
    disk.rename(&segment_name(1), &segment_name(HIGHEST - 5)).unwrap();
    disk.rename(&segment_name(2), &segment_name(HIGHEST - 4)).unwrap();
    Cursor::new("all").store(&*disk, Place { segment: 9, seq: 0 }).unwrap();
    assert_eq!(kept(&disk), [1, 2, 3, 4]);
    let names: Vec<_> = disk.files().into_keys().filter(|name| name.ends_with(".seg")).collect();
    assert_eq!(names, [segment_name(10), segment_name(11)]);
}

#[test]
fn a_segment_that_cannot_be_renamed_is_left_for_another_time_and_who_only_looks_sees_it_as_it_is() {
    // Listing, header, rename.
    let at_the_rename = |errno| Faults { fail_at: Some((2, errno)), ..Faults::default() };
    let disk = forged(HIGHEST);
    disk.set_faults(at_the_rename(EIO));
    let found = recover(&*disk);
    assert_eq!((disk.failed(), found.segments.len(), found.unreadable.files, found.next_number), (1, 0, 1, 1));
    assert!(found.notes[0].contains("left alone, with"), "{:?}", found.notes);
    assert_eq!(kept(&disk), [1, 2], "another time");

    let disk = forged(HIGHEST);
    disk.set_faults(at_the_rename(EROFS));
    let found = recover(&*disk);
    assert_eq!((disk.failed(), found.segments[0].number, found.next_number), (1, HIGHEST, 1), "{:?}", found.notes);
}

#[test]
fn what_is_no_segment_keeps_the_name_that_no_run_gives() {
    let disk = SimDisk::default();
    disk.create(&segment_name(HIGHEST)).unwrap();
    disk.write(&segment_name(HIGHEST), 0, b"not a segment of anyone's that we know").unwrap();
    let before = disk.files();
    let found = recover(&disk);
    assert_eq!((disk.files() == before, found.next_number), (true, 1), "{:?}", found.notes);
}
