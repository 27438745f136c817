//! One test for each way in which a spool is known to break, named as the sentence that must hold.

use super::{
    codec::{Header, Owed, encode_frame, encode_header, testing::header},
    cursor::{Cursor, Place},
    disk::Disk,
    log::Log,
    recovery::{Found, recover, segment_name},
    sim::{Faults, SimDisk},
};
use crate::{drain::testing::batch, line::Stream, report::Unreadable};
use std::sync::Arc;

const SEGMENT: u64 = 600;

/// Segments of ten batches of two lines each, sealed; the last one is not.
fn spool(batches: u64) -> Arc<SimDisk> {
    let disk = Arc::new(SimDisk::default());
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), SEGMENT, 1 << 30, recover(&*disk));
    for index in 0..batches {
        log.append(&[batch(1 + 2 * index, 2)], &mut Vec::new()).unwrap();
    }
    disk
}

fn owed(disk: &SimDisk, found: &Found) -> u64 {
    found.owed(disk, "all").iter().map(|range| range.units).sum()
}

fn files(disk: &SimDisk) -> Vec<String> {
    disk.files().into_keys().collect()
}

#[test]
fn a_torn_tail_is_cut_off_and_the_frames_before_it_are_kept() {
    let disk = spool(3);
    let name = segment_name(1);
    let whole = disk.files()[&name].len();
    disk.edit(&name, |bytes| bytes.truncate(whole - 5));
    let found = recover(&*disk);
    assert_eq!(owed(&disk, &found), 4);
    assert!(found.notes[0].contains("torn; its last"), "{:?}", found.notes);
    let again = recover(&*disk);
    assert_eq!((owed(&disk, &again), again.notes.len()), (4, 0), "it is mended");
}

#[test]
fn a_tail_of_zeroes_as_file_systems_leave_it_is_cut_off() {
    let disk = spool(3);
    disk.edit(&segment_name(1), |bytes| bytes.resize(bytes.len() + 4096, 0));
    assert_eq!(owed(&disk, &recover(&*disk)), 6);
}

#[test]
fn a_bad_frame_in_the_middle_costs_its_own_lines_and_is_counted() {
    let disk = spool(3);
    let name = segment_name(1);
    let body = recover(&SimDisk::with(&disk.files())).segments[0].body as usize;
    let middle = (body + disk.files()[&name].len()) / 2;
    disk.flip(&name, middle);
    let found = recover(&*disk);
    assert!(found.notes.iter().any(|note| note.contains("damaged; 2 lines of 6")), "{:?}", found.notes);
    assert_eq!(found.segments[0].units, [6, 0, 0], "the drain finds out what is missing when it reads");
}

#[test]
fn a_bad_length_does_not_swallow_the_frames_behind_it() {
    let disk = spool(3);
    let name = segment_name(1);
    let body = recover(&SimDisk::with(&disk.files())).segments[0].body as usize;
    for byte in 4..8 {
        let disk = SimDisk::with(&disk.files());
        disk.edit(&name, |bytes| bytes[body + byte] = 0xff);
        let found = recover(&disk);
        assert_eq!(
            (found.segments[0].first_seq, owed(&disk, &found)),
            (1, 6),
            "the second frame is found, and the first missed"
        );
    }
}

#[test]
fn a_file_with_a_bad_header_is_quarantined_with_the_reason_in_its_name() {
    let disk = spool(30);
    disk.flip(&segment_name(2), 30);
    let before = recover(&SimDisk::with(&spool(30).files())).segments.len();
    let found = recover(&*disk);
    assert_eq!(found.segments.len(), before - 1);
    assert!(files(&disk).contains(&format!("{}.bad-bad-header", segment_name(2))), "{:?}", files(&disk));
    let len = disk.files()[&format!("{}.bad-bad-header", segment_name(2))].len() as u64;
    let lines = found.segments[1].first_seq - found.segments[0].end_seq;
    assert!(found.notes[0].contains(&format!("its {lines} lines ({len} bytes) are lost")), "{:?}", found.notes);
    assert_eq!(found.unreadable, Unreadable { files: 1, bytes: len, lines, files_without_count: 0 });
    let again = recover(&*disk);
    assert!(again.notes.is_empty() && again.unreadable == Unreadable::default(), "said and counted once");
    assert_eq!(again.set_aside, [(format!("{}.bad-bad-header", segment_name(2)), len)]);
}

#[test]
fn how_many_lines_a_bad_header_costs_is_told_by_the_footer_by_the_frames_or_by_nothing() {
    let disk = spool(3);
    // Not sealed: its frames tell, and the torn one is not counted.
    disk.edit(&segment_name(1), |bytes| bytes.truncate(bytes.len() - 1));
    disk.flip(&segment_name(1), 30);
    let len = disk.files()[&segment_name(1)].len() as u64;
    let unreadable = recover(&SimDisk::with(&disk.files())).unreadable;
    assert_eq!(unreadable, Unreadable { files: 1, bytes: len, lines: 4, files_without_count: 0 });
    // Without the header's checksum no frame can be told from chance.
    disk.flip(&segment_name(1), 17);
    let found = recover(&*disk);
    assert_eq!(found.unreadable, Unreadable { files: 1, bytes: len, lines: 0, files_without_count: 1 });
    assert!(found.notes[0].contains("how many is not known"), "{:?}", found.notes);
}

#[test]
fn a_file_whose_first_block_was_lost_in_a_crash_is_set_aside_once_and_counted() {
    let disk = spool(1);
    disk.edit(&segment_name(1), |bytes| bytes[..24].fill(0));
    let found = recover(&*disk);
    assert_eq!(found.unreadable.files, 1, "{:?}", found.notes);
    assert!(!disk.files().contains_key(&segment_name(1)), "it is not announced at each start");
    assert_eq!(recover(&*disk).unreadable.files, 0);
}

#[test]
fn a_newer_version_and_a_foreign_file_are_left_alone() {
    let disk = spool(1);
    disk.edit(&segment_name(1), |bytes| bytes[8] = 9);
    disk.create("0000000000000007.seg").unwrap();
    disk.write("0000000000000007.seg", 0, b"not a segment of anyone's that we know").unwrap();
    let before = disk.files();
    let found = recover(&*disk);
    assert_eq!(disk.files(), before);
    assert!(found.segments.is_empty());
    assert_eq!(found.next_number, 8, "and their numbers are not used again");
    assert!(
        found.notes[0].contains("(format 9, this one reads 2); left alone") && found.notes[1].contains("not a file of"),
        "{:?}",
        found.notes
    );
}

#[test]
fn a_file_whose_name_only_reads_like_a_segments_number_is_left_alone() {
    let disk = spool(3);
    let bytes = disk.files()[&segment_name(1)].clone();
    let odd = ["+000000000000001.seg", "00000000000000AB.seg", "0000000000000001.seg.seg", "ffffffffffffffff.seg"];
    for name in odd {
        disk.create(name).unwrap();
        disk.write(name, 0, &bytes).unwrap();
    }
    let found = recover(&*disk);
    assert_eq!((found.segments.len(), owed(&disk, &found)), (1, 6), "what is counted on can be read");
    assert!(odd.iter().all(|name| disk.files()[*name] == bytes));
    assert!(found.next_number < 1 << 32, "and the numbers are not used up");
}

#[test]
fn frames_that_do_not_ascend_cost_at_most_themselves() {
    let disk = spool(1);
    let (bytes, salt) = encode_header(&header());
    disk.edit(&segment_name(1), |file| {
        *file = bytes;
        for first in [5, 1] {
            encode_frame(&batch(first, 2), [0; 3], salt, file);
        }
    });
    let found = recover(&*disk);
    assert_eq!((found.segments[0].first_seq, found.segments[0].end_seq), (1, 7));
    assert_eq!(owed(&disk, &found), 6, "what is missing is found out by the drain that reads");
}

/// A full disk tears a store, and again; a crash of the machine brings back what the first one left, which was whole but for
/// its end, and that is the same in each.
#[test]
fn what_a_torn_slot_of_a_cursor_held_settles_nothing_that_was_written_since() {
    let disk = Arc::new(SimDisk::default());
    let (mut cursor, name) = (Cursor::new("all"), Cursor::file_name("all"));
    cursor.store(&*disk, Place { segment: 8, seq: 76 }).unwrap();
    cursor.store(&*disk, Place { segment: 10, seq: 0 }).unwrap();
    let ghost = disk.files()[&name].clone();
    disk.edit(&name, |bytes| bytes[8..20].fill(7));
    assert_eq!(recover(&*disk).cursors["all"].place, Place { segment: 8, seq: 76 });
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), SEGMENT, 1 << 30, recover(&*disk));
    log.append(&[batch(1, 2)], &mut Vec::new()).unwrap();
    disk.edit(&name, |bytes| *bytes = ghost);
    let found = recover(&*disk);
    assert_eq!(found.cursors["all"].place, Place { segment: 10, seq: 0 }, "it is back");
    assert_eq!(owed(&disk, &found), 2);
}

#[test]
fn a_cursor_beyond_every_number_is_no_cursor() {
    let disk = spool(3);
    Cursor::new("all").store(&*disk, Place { segment: u64::MAX, seq: u64::MAX }).unwrap();
    let found = recover(&*disk);
    assert_eq!((owed(&disk, &found), found.next_number), (6, 2), "duplicates, no loss");
}

#[test]
fn an_empty_file_and_a_bare_header_are_cleared_away() {
    let disk = spool(1);
    let name = segment_name(1);
    let body = recover(&SimDisk::with(&disk.files())).segments[0].body as usize;
    for len in [0, body, body + 20] {
        let disk = SimDisk::with(&disk.files());
        disk.edit(&name, |bytes| bytes.truncate(len));
        let found = recover(&disk);
        assert!(found.segments.is_empty() && files(&disk).is_empty(), "{len}: {:?}", files(&disk));
    }
}

#[test]
fn a_missing_segment_in_the_middle_costs_its_own_lines() {
    let disk = spool(30);
    let all = recover(&SimDisk::with(&disk.files()));
    disk.remove(&segment_name(2)).unwrap();
    let found = recover(&*disk);
    assert_eq!(found.segments.len(), all.segments.len() - 1);
    assert_eq!(owed(&disk, &found), 60 - (all.segments[1].end_seq - all.segments[1].first_seq));
}

#[test]
fn with_both_cursor_slots_bad_a_drain_gets_its_lines_again() {
    let disk = spool(3);
    let mut cursor = Cursor::new("all");
    cursor.store(&*disk, Place { segment: 1, seq: 3 }).unwrap();
    assert_eq!(owed(&disk, &recover(&*disk)), 4);
    disk.edit(&Cursor::file_name("all"), |bytes| bytes.fill(0xee));
    let found = recover(&*disk);
    assert_eq!(owed(&disk, &found), 6, "duplicates, no loss");
    assert!(found.notes[0].contains("both slots are bad"), "{:?}", found.notes);
}

/// What an exit in the midst of the segment calls spooled, the next run must adopt.
#[test]
fn what_one_stream_is_owed_of_a_damaged_segment_is_the_same_from_its_front_and_from_its_midst() {
    let disk = Arc::new(SimDisk::default());
    let mut header = header();
    header.drains = vec![Owed { identity: "all".into(), stream: Some(Stream::Stdout) }];
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header, 1 << 20, 1 << 30, recover(&*disk));
    (0..10).for_each(|at| log.append(&[batch(1 + 2 * at, 2)], &mut Vec::new()).unwrap());
    disk.flip(&segment_name(1), disk.files()[&segment_name(1)].len() * 3 / 4);
    assert_eq!(owed(&disk, &recover(&*disk)), 20, "two of them are damaged");
    for seq in 1..=5 {
        Cursor::new("all").store(&*disk, Place { segment: 1, seq }).unwrap();
        assert_eq!(owed(&disk, &recover(&*disk)), 21 - seq, "from {seq} on");
    }
}

/// The disk had a moment, and nothing else tells where the numbers stood.
#[test]
fn a_cursor_that_can_be_read_again_later_does_not_take_new_lines_for_settled() {
    let disk = Arc::new(SimDisk::default());
    let mut cursor = Cursor::new("all");
    (1..9).for_each(|seq| cursor.store(&*disk, Place { segment: 40, seq }).unwrap());
    let files = disk.files();
    for fault in [false, true] {
        let disk = Arc::new(SimDisk::with(&files));
        // Reading the list, then the cursor.
        disk.set_faults(Faults { fail_at: Some((1, nix::libc::EIO)), ..Faults::default() });
        let found = recover(&*disk);
        assert!(found.cursors.is_empty() && found.segments.is_empty(), "{:?}", found.notes);
        let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), SEGMENT, 1 << 30, found);
        if fault {
            disk.set_faults(Faults { fail_at: Some((1, nix::libc::EIO)), ..Faults::default() });
            log.append(&[batch(1, 2)], &mut Vec::new()).unwrap_err();
            assert!(disk.files().keys().all(|name| !name.ends_with(".seg")), "the name is not known to be gone");
        }
        disk.set_faults(Faults::default());
        log.append(&[batch(1, 2)], &mut Vec::new()).unwrap();
        assert_eq!(owed(&disk, &recover(&*disk)), 2);
    }
}

#[test]
fn a_drain_that_was_not_configured_then_is_owed_nothing() {
    let disk = spool(3);
    assert!(recover(&*disk).owed(&*disk, "new").is_empty());
    assert!(recover(&*disk).owed(&*disk, "err").is_empty(), "nothing was written to its stream");
}

#[test]
fn a_directory_that_cant_be_read_is_a_note_and_no_more() {
    let disk = spool(3);
    for at in 0..4 {
        disk.set_faults(Faults { fail_at: Some((at, nix::libc::EIO)), for_good: true, ..Faults::default() });
        let found = recover(&*disk);
        assert!(!found.notes.is_empty());
        assert_eq!(found.listed, at > 0, "who knows no file knows no number that is free");
        assert!(disk.calls() < 20, "it is not tried over and over");
    }
    disk.set_faults(Faults::default());
    assert_eq!(owed(&disk, &recover(&*disk)), 6, "and nothing is thrown away because of it");
}

#[test]
fn a_segment_keeps_who_wrote_it_and_for_whom() {
    let disk = spool(1);
    let found = recover(&*disk);
    let Header { run, host, app, .. } = header();
    let origin = &found.segments[0].source.origin;
    assert_eq!((&origin.run, &origin.host, &origin.app, origin.instance.wait()), (&run, &host, &app, "4121"));
    assert_eq!(found.segments[0].drains[..], header().drains[..]);
}
