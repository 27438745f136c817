//! What `--spool-sync` promises, where syncing is easily forgotten: behind a failure, and behind a death.

use super::{
    codec::testing::header,
    disk::Disk,
    log::Log,
    recovery::{recover, segment_name},
    sim::{Faults, Op, SimDisk, crash_states},
    syncer::sync,
};
use crate::drain::testing::batch;
use nix::libc::EIO;
use std::sync::Arc;

fn log(disk: &Arc<SimDisk>) -> Log {
    let found = recover(&**disk);
    Log::new(Arc::clone(disk) as Arc<dyn Disk>, header(), 400, 1 << 30, found)
}

/// Units that are there after every crash of the machine that could come now.
fn survive(disk: &SimDisk) -> u64 {
    let units = |files| {
        let disk = SimDisk::with(files);
        recover(&disk).segments.iter().map(|segment| segment.end_seq - segment.first_seq).sum()
    };
    crash_states(&disk.ops()).iter().map(units).min().unwrap()
}

fn fail(disk: &SimDisk, call: usize) {
    disk.set_faults(Faults { fail_at: Some((call, EIO)), ..Faults::default() });
}

#[test]
fn names_that_a_sync_did_not_make_safe_are_made_safe_by_the_next() {
    let disk = Arc::new(SimDisk::default());
    let mut log = log(&disk);
    log.append(&[batch(1, 3)], &mut Vec::new()).unwrap();
    // The file, then the directory.
    fail(&disk, 1);
    log.sync().unwrap_err();
    assert!(log.is_dirty());
    log.sync().unwrap();
    assert_eq!(survive(&disk), 3);
}

#[test]
fn what_was_appended_before_a_write_that_failed_is_synced_all_the_same() {
    let disk = Arc::new(SimDisk::default());
    let mut log = log(&disk);
    log.append(&[batch(1, 3)], &mut Vec::new()).unwrap();
    fail(&disk, 0);
    log.append(&[batch(4, 3)], &mut Vec::new()).unwrap_err();
    log.sync().unwrap();
    assert!(survive(&disk) >= 3);
}

#[test]
fn a_file_whose_sync_failed_is_not_synced_again() {
    let disk = Arc::new(SimDisk::default());
    let mut log = log(&disk);
    log.append(&[batch(1, 3)], &mut Vec::new()).unwrap();
    fail(&disk, 0);
    log.sync().unwrap_err();
    log.sync().unwrap();
    assert!(!disk.ops().iter().any(|op| matches!(op, Op::Sync(_))));
}

/// The syncer works while lines are appended.
#[test]
fn what_came_while_the_directory_was_not_synced_is_made_safe_by_the_next_sync() {
    let disk = Arc::new(SimDisk::default());
    let mut log = log(&disk);
    log.append(&[batch(1, 3)], &mut Vec::new()).unwrap();
    let work = log.take_unsafe();
    log.append(&[batch(4, 3)], &mut Vec::new()).unwrap();
    // The file, then the directory.
    fail(&disk, 1);
    log.synced(sync(&*disk, &work)).unwrap_err();
    assert!(log.is_dirty());
    log.sync().unwrap();
    assert_eq!(survive(&disk), 6);
}

#[test]
fn a_file_that_was_sealed_while_its_sync_failed_is_not_synced_again() {
    let disk = Arc::new(SimDisk::default());
    let mut log = log(&disk);
    log.append(&[batch(1, 3)], &mut Vec::new()).unwrap();
    let work = log.take_unsafe();
    // Behind a hole comes another segment.
    log.append(&[batch(9, 3)], &mut Vec::new()).unwrap();
    fail(&disk, 0);
    log.synced(sync(&*disk, &work)).unwrap_err();
    log.sync().unwrap();
    assert_eq!(disk.ops().iter().filter(|op| matches!(op, Op::Sync(_))).collect::<Vec<_>>(), [&Op::Sync(1)]);
}

#[test]
fn what_a_killed_run_left_is_made_safe_by_the_next() {
    let disk = Arc::new(SimDisk::default());
    log(&disk).append(&[batch(1, 3)], &mut Vec::new()).unwrap();
    assert_eq!(survive(&disk), 0, "the killed run had no time to sync");
    let mut next = log(&disk);
    assert!(next.is_dirty());
    next.sync().unwrap();
    assert_eq!(survive(&disk), 3);
}

#[test]
fn what_was_settled_and_removed_does_not_come_back_with_a_crash_behind_the_next_sync() {
    let disk = Arc::new(SimDisk::default());
    let mut log = log(&disk);
    // A hole in the numbers begins another segment.
    log.append(&[batch(1, 3), batch(11, 3)], &mut Vec::new()).unwrap();
    log.sync().unwrap();
    log.advance(&[], false).unwrap();
    assert!(!log.is_dirty(), "nothing was settled");
    log.advance(&[("all".to_owned(), log.end())], false).unwrap();
    log.sync().unwrap();
    for files in crash_states(&disk.ops()) {
        assert!(!files.contains_key(&segment_name(1)) && files.contains_key(&segment_name(2)));
    }
}
