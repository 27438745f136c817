//! The thread that waits for the disk, so that nobody else does.

use super::{
    disk::Disk,
    log::Unsafe,
    recovery::segment_name,
    rig::{Hanging, kept, rig, until},
    sim::{Faults, Op, SimDisk},
    syncer::Syncer,
};
use crate::{clock, drain::testing::batch};
use std::{sync::Arc, time::Duration};

fn work(segment: u64) -> Unsafe {
    Unsafe { segments: vec![segment], ..Unsafe::default() }
}

#[test]
fn it_is_busy_from_when_it_gets_work_until_the_outcome_is_taken_and_ends_with_its_owner() {
    let disk = Arc::new(Hanging::default());
    (1..4).for_each(|segment| disk.disk.create(&segment_name(segment)).unwrap());
    let mut syncer = Syncer::new(Arc::clone(&disk) as Arc<dyn Disk>);
    assert!(!syncer.is_busy() && syncer.outcome().is_none());
    for segment in 1..4 {
        disk.hang_syncs(true);
        syncer.give(work(segment));
        assert!(syncer.is_busy() && syncer.outcome().is_none());
        disk.hang_syncs(false);
        syncer.wait();
        assert!(syncer.is_busy(), "its outcome was not taken");
        let synced = syncer.outcome().unwrap();
        assert!(synced.result.is_ok() && !syncer.is_busy() && syncer.outcome().is_none());
    }
    assert_eq!(disk.disk.ops().iter().filter(|op| matches!(op, Op::Sync(_))).count(), 3);
    // It, its one thread, and we.
    assert_eq!(Arc::strong_count(&disk), 3);
    drop(syncer);
    until("the thread to end", || Arc::strong_count(&disk) == 1);
}

#[test]
fn what_could_not_be_made_safe_is_told_and_what_is_gone_need_not_be() {
    let disk = Arc::new(SimDisk::default());
    disk.create(&segment_name(1)).unwrap();
    disk.create(&segment_name(2)).unwrap();
    let all = Unsafe { segments: vec![1, 2, 3], dir: true, remove: vec![2] };
    let synced = super::syncer::sync(&*disk, &all);
    assert!(synced.result.is_ok() && synced.left == Unsafe::default(), "{synced:?}");
    assert_eq!(disk.files().into_keys().collect::<Vec<_>>(), [segment_name(1)]);
    disk.set_faults(Faults { syncs_fail: true, ..Faults::default() });
    let synced = super::syncer::sync(&*disk, &all);
    assert_eq!(synced.left, Unsafe { segments: vec![1], ..Unsafe::default() });
    assert!(synced.result.is_err());
}

#[test]
fn a_disk_that_takes_its_time_to_sync_keeps_no_append_waiting_and_no_exit_that_needs_none() {
    let disk = Arc::new(Hanging::default());
    let rig = rig(Arc::clone(&disk) as Arc<dyn Disk>, 1 << 20, 1 << 20);
    disk.hang_syncs(true);
    rig.push(&batch(1, 2));
    rig.spool.hurry();
    until("a sync to begin", || disk.syncs_that_hang() > 0);
    for seq in 2..50 {
        rig.push(&batch(1 + 2 * seq, 2));
        until("it to be on the disk", || rig.index.segment_of(1 + 2 * seq, 3 + 2 * seq).is_some());
    }
    assert!(rig.spool.works());
    assert!(rig.inbox.lock().queue.close_books());
    let begun = clock::now();
    assert!(rig.spool.finish(Duration::from_secs(20)), "where the drains stand is noted all the same");
    assert!(clock::now() - begun < Duration::from_secs(10), "and nobody waits for more");
    assert!(!rig.spool.look().2, "and what is left is being made safe");
    disk.hang_syncs(false);
    rig.spool.tidy(Duration::from_secs(20));
    assert!(rig.spool.look().2 && !rig.spool.works(), "it has ended, and takes nothing more");
    assert_eq!(kept(&disk.disk).len(), 98);
}
