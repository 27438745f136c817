//! What recovery says: what is odd, to the byte, and nothing where nothing is.

use super::{
    codec::{FOOTER_LEN, FRAME_FIXED, HEADER_FIXED, HEADER_MAX, Header, Owed, encode_header, testing::header},
    cursor::{Cursor, Place},
    disk::Disk,
    log::Log,
    recovery::{Found, recover, segment_name},
    sim::{Faults, SimDisk},
};
use crate::{drain::testing::batch, line::Stream, report::Unreadable};
use nix::libc::{EIO, EROFS};
use std::sync::Arc;

/// A segment of four lines.
fn four(sealed: bool) -> Arc<SimDisk> {
    let disk = Arc::new(SimDisk::default());
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), 1 << 20, 1 << 30, recover(&*disk));
    for first in [1, 3] {
        log.append(&[batch(first, 2)], &mut Vec::new()).unwrap();
    }
    if sealed {
        log.advance(&[], true).unwrap();
    }
    disk
}

#[test]
fn a_run_that_was_killed_between_two_appends_left_nothing_that_is_worth_a_word() {
    let disk = four(false);
    let found = recover(&*disk);
    assert!(found.notes.is_empty(), "{:?}", found.notes);
    assert_eq!(found.segments[0].units, [4, 0, 0]);
    assert_eq!(disk.files(), four(true).files(), "and it is as if it had been sealed");
}

#[test]
fn what_is_cut_off_is_said_to_the_byte_wherever_it_stands() {
    for sealed in [true, false] {
        let disk = four(sealed);
        let before = disk.files();
        disk.edit(&segment_name(1), |bytes| bytes.extend([b'x'; 1234]));
        let found = recover(&*disk);
        let name = segment_name(1);
        assert_eq!(found.notes, [format!("{name}: torn; its last 1,234 bytes are no whole lines")]);
        assert_eq!(disk.files(), four(true).files(), "{before:?}");
        assert_eq!(found.segments[0].bytes, disk.files()[&name].len() as u64);
    }
}

#[test]
fn a_file_that_holds_nothing_and_cant_be_removed_is_named_unless_nothing_was_to_be_changed() {
    for (errno, notes) in [(EIO, 1), (EROFS, 0)] {
        let disk = SimDisk::default();
        disk.create(&segment_name(1)).unwrap();
        // The list, the header, then the removing.
        disk.set_faults(Faults { fail_at: Some((2, errno)), ..Faults::default() });
        let found = recover(&disk);
        assert_eq!((found.notes.len(), disk.failed()), (notes, 1), "{:?}", found.notes);
        assert!(found.notes.iter().all(|note| note.contains("empty, and can't be removed: ")), "{:?}", found.notes);
    }
}

#[test]
fn an_append_that_was_cut_short_is_cleared_away_and_what_may_have_been_a_promise_is_set_aside() {
    // What is behind the header: whole frames were promised, and so may be what is no frame at all.
    let disk = four(false);
    let frames = disk.files().remove(&segment_name(1)).unwrap();
    let frames = frames[recover(&*disk).segments[0].body as usize..].to_vec();
    let first = frames.len() / 2;
    let mut bad = frames[..first].to_vec();
    bad[first - 1] ^= 4;
    let long = [&bad[..], b"x"].concat();
    for (behind, is_promise) in [
        (&frames[..first - 1], false),
        (&frames[..FRAME_FIXED], false),
        (&frames[..FRAME_FIXED - 1], false),
        (&[b'x'; FRAME_FIXED - 1], false),
        (&[0; 4096], false),
        (&[b'x'; FRAME_FIXED], true),
        (&bad, true),
        (&long, true),
    ] {
        let disk = four(false);
        disk.edit(&segment_name(1), |bytes| {
            bytes.truncate(bytes.len() - frames.len());
            bytes.extend_from_slice(behind);
        });
        let found = recover(&*disk);
        assert!(found.segments.is_empty());
        let left: Vec<_> = disk.files().into_keys().collect();
        let aside = format!("{}.bad-no-valid-frame", segment_name(1));
        assert_eq!(left, if is_promise { vec![aside] } else { vec![] }, "{} bytes: {:?}", behind.len(), found.notes);
        assert_eq!(found.notes.len(), usize::from(is_promise), "{:?}", found.notes);
    }
}

#[test]
fn a_header_that_is_cut_short_is_set_aside_as_what_was_behind_it_may_have_been_lines() {
    let disk = four(true);
    let body = recover(&*disk).segments[0].body as usize;
    for len in [1, 8, 20, body - 1] {
        let disk = four(true);
        disk.edit(&segment_name(1), |bytes| bytes.truncate(len));
        let found = recover(&*disk);
        let unreadable = Unreadable { files: 1, bytes: len as u64, lines: 0, files_without_count: 1 };
        assert_eq!(found.unreadable, unreadable, "{len}");
        assert_eq!(disk.files().into_keys().collect::<Vec<_>>(), [format!("{}.bad-torn-header", segment_name(1))]);
    }
}

/// Recovery once read as much of a header as it believes the whole of it to be, less what stands before its body.
#[test]
fn a_header_that_is_longer_than_what_is_read_at_first_is_read_to_its_end() {
    for len in [3_000, 4_000, 4_096, 10_000, HEADER_MAX - 10, HEADER_MAX] {
        let disk = Arc::new(SimDisk::default());
        // Labels share it; none has room for the longest.
        let label = |number: usize| (format!("{number:02}"), "x".repeat((len / 20).saturating_sub(20)));
        let mut header = Header { labels: (0..20).map(label).collect(), ..header() };
        let missing = len + HEADER_FIXED - encode_header(&header).0.len();
        header.labels[0].1.push_str(&"x".repeat(missing));
        assert_eq!(encode_header(&header).0.len(), HEADER_FIXED + len);
        let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header.clone(), 1 << 22, 1 << 30, recover(&*disk));
        log.append(&[batch(1, 2)], &mut Vec::new()).unwrap();
        let found = recover(&*disk);
        assert!(found.notes.is_empty(), "{len}: {:?}", found.notes);
        assert_eq!(found.segments[0].source.origin.labels, header.labels, "{len}");
    }
}

#[test]
fn who_only_looks_is_told_of_what_is_odd_and_not_that_it_could_not_be_changed() {
    type Change = fn(&mut Vec<u8>);
    let odd: [(Change, &str); 2] = [
        (|bytes| bytes.extend(*b"xyz"), "torn; its last 3 bytes"),
        (|bytes| bytes[30] ^= 1, "bad-header; its 4 lines"),
    ];
    for (change, what) in odd {
        for (errno, excuses) in [(EROFS, 0), (EIO, 1)] {
            let disk = four(true);
            disk.edit(&segment_name(1), change);
            let before = disk.files();
            // All that changes anything comes behind all that is read.
            let reads = {
                let disk = SimDisk::with(&before);
                recover(&disk);
                disk.calls() - disk.ops().len()
            };
            disk.set_faults(Faults { fail_at: Some((reads, errno)), for_good: true, ..Faults::default() });
            let found = recover(&*disk);
            assert_eq!(disk.files(), before);
            let notes = found.notes.join("; ");
            assert_eq!(notes.matches(what).count(), 1 - usize::from(what.contains("bad") && excuses > 0), "{notes}");
            assert_eq!(notes.matches("can't be").count(), excuses, "{notes}");
        }
    }
}

#[test]
fn a_footer_counts_for_more_than_what_is_left_before_it() {
    let disk = four(true);
    let name = segment_name(1);
    let whole = recover(&*disk).segments;
    // The last frame is damaged, and something was written behind the footer.
    let end = disk.files()[&name].len() - FOOTER_LEN;
    disk.flip(&name, end - 1);
    disk.edit(&name, |bytes| bytes.extend(*b"xyz"));
    let found = recover(&*disk);
    assert_eq!(found.segments, whole);
    assert!(found.notes.join("; ").contains("damaged; 2 lines of 4 lost"), "{:?}", found.notes);
    assert_eq!(recover(&*disk).segments, whole, "and it is as it was");
}

#[test]
fn what_a_drain_is_owed_that_has_settled_nothing_is_told_by_the_footer_alone() {
    let disk = four(true);
    let found = recover(&*disk);
    disk.set_faults(Faults::default());
    let mut drains = found.segments[0].drains.to_vec();
    drains[1].stream = Some(Stream::Stdout);
    let mut segment = found.segments[0].clone();
    segment.drains = drains.into();
    let found = Found { segments: vec![segment], ..found };
    for identity in ["all", "err"] {
        assert_eq!(found.owed(&*disk, identity)[0].units, 4);
    }
    assert_eq!(disk.calls(), 0);
}

/// What an exit in the midst of a frame that can't be read calls spooled, the next run must adopt.
#[test]
fn wherever_a_drain_stopped_it_is_owed_each_line_behind_that_of_which_the_footer_tells() {
    for damaged in 0..2 {
        let disk = four(true);
        let name = segment_name(1);
        let found = recover(&*disk);
        let (body, end) = (found.segments[0].body as usize, disk.files()[&name].len() - FOOTER_LEN);
        disk.flip(&name, body + (damaged + 1) * (end - body) / 2 - 1);
        let mut segment = found.segments[0].clone();
        segment.drains = [Owed { identity: "out".into(), stream: Some(Stream::Stdout) }].into();
        let mut found = Found { segments: vec![segment], ..found };
        for (seq, more) in (0..6).map(|seq| (seq, 0)).chain([(2, 100), (3, 100), (4, 100)]) {
            // A footer that tells of more lines than there are numbers is believed no further than those.
            found.segments[0].units[0] = 4 + more;
            let mut cursor = Cursor::new("out");
            cursor.place = Place { segment: 1, seq };
            found.cursors.insert("out".into(), cursor);
            let owed: Vec<_> =
                found.owed(&*disk, "out").iter().map(|range| (range.from, range.to, range.units)).collect();
            let from = seq.max(1);
            assert_eq!(owed, if from < 5 { vec![(from, 5, 5 - from)] } else { vec![] }, "{damaged}, {seq}");
        }
    }
}
