//! What recovery says: what is odd, to the byte, and nothing where nothing is.

use super::{
    codec::testing::header,
    disk::Disk,
    log::Log,
    recovery::{recover, segment_name},
    sim::{Faults, SimDisk},
};
use crate::drain::testing::batch;
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
