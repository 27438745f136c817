//! What `--spool-sync` promises, where syncing is easily forgotten: behind a failure, and behind a death.

use super::{
    codec::testing::header,
    disk::Disk,
    index::Index,
    log::Log,
    recovery::{recover, segment_name},
    sim::{Faults, Op, SimDisk, crash_states},
    thread::{Opened, Settings, Spool},
};
use crate::{config::SpoolSync, drain::testing::batch, format::Instance, report::Unreadable};
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

/// An append that is larger than the whole spool evicts segments that it has only just begun.
#[test]
fn what_an_append_evicts_of_its_own_is_not_called_spooled() {
    let disk = Arc::new(SimDisk::default());
    let found = recover(&*disk);
    let log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), 400, 1600, found);
    let index = Arc::new(Index::default());
    let (dir, unreadable) = ("spool".into(), Unreadable::default());
    let opened = Opened { dir, log, index: Arc::clone(&index), unreadable, keep: Box::new(()) };
    let settings =
        Settings { dir: "spool".into(), capacity: 1 << 20, sync: SpoolSync::Interval, instance: Instance::known("1") };
    let (spool, mut keeper) = Spool::idle(opened, Vec::new(), settings);
    (0..40).for_each(|number| spool.push(&batch(1 + 5 * number, 5)));
    let work = keeper.take();
    keeper.turn(work);
    let there = disk.files();
    let known = index.extents();
    assert!(!known.is_empty() && known[0].first_seq > 1, "nothing was evicted: {known:?}");
    assert!(known.iter().all(|extent| there.contains_key(&segment_name(extent.segment))), "{known:?}");
}
