//! What `--spool-sync` promises, where syncing is easily forgotten: behind a failure, and behind a death.

use super::{
    codec::{Owed, testing::header},
    cursor::Place,
    disk::Disk,
    index::Index,
    keeper::Keeper,
    load::Loader,
    log::Log,
    recovery::{recover, segment_name},
    sim::{Faults, Op, SimDisk, crash_states},
    syncer::sync,
    thread::{Member, Opened, Settings, Spool},
};
use crate::{
    clock,
    config::{SpoolSync, WhenFull},
    drain::{inbox::Inbox, testing::batch},
    format::Instance,
    report::Unreadable,
};
use nix::libc::EIO;
use std::{sync::Arc, time::Duration};

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

/// A spool of four segments for one drain, whose thread is the caller.
fn small(disk: &Arc<SimDisk>, inbox: &Arc<Inbox>) -> (Spool, Keeper, Arc<Index>) {
    let found = recover(&**disk);
    let mut header = header();
    header.drains = vec![Owed { identity: "all".into(), stream: None }];
    let log = Log::new(Arc::clone(disk) as Arc<dyn Disk>, header, 400, 1600, found);
    let index = Arc::new(Index::default());
    let loader = Loader::new(Arc::clone(disk) as Arc<dyn Disk>, Arc::clone(&index), "run".into());
    inbox.attach(&index, 1 << 20, Vec::new(), loader);
    let (dir, unreadable) = ("spool".into(), Unreadable::default());
    let opened = Opened { dir, log, index: Arc::clone(&index), unreadable, keep: Box::new(()) };
    let settings =
        Settings { dir: "spool".into(), capacity: 1 << 20, sync: SpoolSync::Interval, instance: Instance::known("1") };
    let member = Member { identity: "all".into(), inbox: Arc::clone(inbox) };
    let (spool, keeper) = Spool::idle(opened, vec![member], settings);
    (spool, keeper, index)
}

fn turn(keeper: &mut Keeper) {
    let work = keeper.take();
    keeper.turn(work);
}

#[test]
fn a_spool_with_nothing_to_do_wakes_nobody() {
    let inbox = Arc::new(Inbox::new(WhenFull::DropOldest, 1 << 20));
    let disk = Arc::new(SimDisk::default());
    let (spool, mut keeper, _) = small(&disk, &inbox);
    until_idle(&mut keeper);
    assert!(spool.has_nothing_to_do());
    spool.push(&batch(1, 5));
    assert!(!spool.has_nothing_to_do());
    // What was written is made safe, and where the drains stand is noted, without being asked.
    turn(&mut keeper);
    assert!(keeper.patience().is_some());
    until_idle(&mut keeper);
    assert!(!keeper.is_dirty());
    // The drain had no part in those lines: it stands behind them.
    assert_eq!(recover(&*disk).cursors["all"].place, Place { segment: 1, seq: 6 });
}

fn until_idle(keeper: &mut Keeper) {
    let end = clock::now() + Duration::from_secs(20);
    while keeper.patience().is_some() {
        assert!(clock::now() < end, "it looks after something for ever");
        turn(keeper);
        std::thread::yield_now();
    }
}

/// An append that is larger than the whole spool evicts segments that it has only just begun.
#[test]
fn what_an_append_evicts_of_its_own_is_not_called_spooled() {
    let disk = Arc::new(SimDisk::default());
    let inbox = Arc::new(Inbox::new(WhenFull::DropOldest, 1 << 20));
    let (spool, mut keeper, index) = small(&disk, &inbox);
    (0..40).for_each(|number| spool.push(&batch(1 + 5 * number, 5)));
    turn(&mut keeper);
    let there = disk.files();
    let known = index.extents();
    assert!(!known.is_empty() && known[0].first_seq > 1, "nothing was evicted: {known:?}");
    assert!(known.iter().all(|extent| there.contains_key(&segment_name(extent.segment))), "{known:?}");
}

/// The last turn of the thread comes after the books are closed.
#[test]
fn what_counts_as_spooled_makes_no_room_for_what_comes_to_the_disk_after_the_books_are_closed() {
    let disk = Arc::new(SimDisk::default());
    let inbox = Arc::new(Inbox::new(WhenFull::DropOldest, 1 << 20));
    let (spool, mut keeper, _) = small(&disk, &inbox);
    let push = |number: u64| {
        let batch = batch(1 + 5 * number, 5);
        inbox.push(&batch);
        spool.push(&batch);
    };
    (0..40).for_each(push);
    turn(&mut keeper);
    // The disk refuses these, and no time is left to ask it again.
    (40..80).for_each(push);
    assert!(inbox.lock().queue.close_books());
    let spooled = inbox.counts().spooled;
    assert!((5..200).contains(&spooled), "{spooled}: the spool is not full");
    spool.begin_end();
    turn(&mut keeper);
    let found = recover(&*disk);
    let owed: Vec<u64> = found.owed(&*disk, "all").iter().flat_map(|range| range.from..range.to).collect();
    // What found room without making any is sent again, though it is booked as lost.
    assert!(
        owed.starts_with(&(201 - spooled..201).collect::<Vec<_>>()),
        "the next run adopts what this one spooled: {owed:?}"
    );
}
