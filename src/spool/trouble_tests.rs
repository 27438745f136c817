//! The thread with a disk that hangs, that is full, that does not sync, that is not there.

use super::{
    disk::Disk,
    rig::{Hanging, kept, open, rig, start, until},
    sim::{Faults, Op, SimDisk},
    thread::Open,
};
use crate::{
    budget::Shares,
    clock,
    config::WhenFull,
    drain::{
        Drains,
        inbox::Inbox,
        testing::{batch, limits},
    },
    ledger::{Grade, Loss},
    transport::Progress,
};
use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

#[test]
fn a_disk_that_hangs_costs_one_short_wait_and_is_used_again_when_it_goes_on() {
    let disk = Arc::new(Hanging::default());
    let rig = rig(Arc::clone(&disk) as Arc<dyn Disk>, 2000, 1 << 20);
    disk.hang(true);
    rig.push(&batch(1, 1));
    let start = clock::now();
    for seq in 2..200 {
        rig.push(&batch(seq, 1));
    }
    let waited = clock::now() - start;
    assert!(waited >= Duration::from_millis(200), "{waited:?}: it did not wait at all");
    assert!(waited < Duration::from_secs(2), "{waited:?}: it waited more than once");
    let start = clock::now();
    rig.spool.settle(Duration::from_millis(50));
    assert!(clock::now() - start < Duration::from_secs(2), "the end waits no longer than it is told to");
    disk.hang(false);
    until("the last to be on the disk", || rig.index.segment_of(199, 200).is_some());
    rig.push(&batch(200, 2));
    until("it to go on as before", || rig.index.segment_of(200, 202).is_some());
    assert!(rig.inbox.lock().queue.close_books());
    let counts = rig.inbox.counts();
    assert_eq!((counts.spooled, counts.lost.total()), (201, 0), "what had no room in the inbox was in memory");
    assert!(rig.finish());
    assert_eq!(kept(&disk.disk), (1..202).collect::<Vec<_>>());
}

#[test]
fn a_disk_that_hangs_keeps_the_report_from_its_reader_no_longer_than_the_stop_leaves() {
    let disk = Arc::new(Hanging::default());
    let rig = rig(Arc::clone(&disk) as Arc<dyn Disk>, 2000, 1 << 20);
    let drains = Drains::idle(&[], Some(rig.spool.clone()));
    disk.hang(true);
    rig.push(&batch(1, 1));
    let closing = |limit| {
        let start = clock::now();
        drains.close_books_within(limit);
        clock::now() - start
    };
    let (patient, short) = (Duration::from_secs(10), Shares::of(Duration::from_secs(3)).last_words());
    assert!(closing(patient) >= Duration::from_millis(200), "it did not hang");
    let waited = (0..3).map(|_| closing(short)).min().unwrap();
    assert!(waited >= short && waited < short + Duration::from_millis(80), "{waited:?} of {short:?}");
    disk.hang(false);
}

#[test]
fn what_a_full_disk_did_not_take_is_appended_in_order_when_it_works_again() {
    let disk = Arc::new(SimDisk::default());
    let rig = rig(Arc::clone(&disk) as Arc<dyn Disk>, 2000, 1 << 20);
    rig.push(&batch(1, 2));
    until("the first batch to be on the disk", || rig.index.segment_of(1, 3).is_some());
    disk.set_faults(Faults { room: Some(0), ..Faults::default() });
    rig.push(&batch(3, 2));
    until("the disk to refuse", || disk.failed() > 0);
    for seq in 1..200 {
        rig.push(&batch(3 + 2 * seq, 2));
    }
    rig.spool.settle(Duration::from_secs(20));
    assert!(!rig.spool.works() && rig.index.segment_of(3, 4).is_none());
    // The app falls silent; nothing but the thread itself finds out that there is room.
    disk.set_faults(Faults::default());
    until("it to work", || rig.spool.works());
    assert!(rig.inbox.lock().queue.close_books());
    let counts = rig.inbox.counts();
    assert_eq!((counts.spooled, counts.lost.total()), (402, 0));
    assert!(rig.finish());
    assert_eq!(kept(&disk), (1..403).collect::<Vec<_>>());
}

#[test]
fn what_waits_for_a_disk_at_the_end_gets_one_more_try_at_once() {
    let disk = Arc::new(SimDisk::default());
    let rig = rig(Arc::clone(&disk) as Arc<dyn Disk>, 1 << 20, 1 << 20);
    for round in 0..20 {
        disk.set_faults(Faults { room: Some(0), ..Faults::default() });
        let before = disk.failed();
        rig.push(&batch(1 + 2 * round, 2));
        until("the disk to refuse", || disk.failed() > before);
        disk.set_faults(Faults::default());
        rig.spool.settle(Duration::from_secs(20));
        assert!(rig.index.segment_of(1 + 2 * round, 3 + 2 * round).is_some(), "round {round}");
    }
    assert!(rig.finish());
}

#[test]
fn a_sync_that_fails_is_not_repeated_on_that_file_and_the_spool_works_again_though_the_app_is_silent() {
    let disk = Arc::new(SimDisk::default());
    let rig = rig(Arc::clone(&disk) as Arc<dyn Disk>, 1 << 20, 1 << 20);
    rig.push(&batch(1, 2));
    until("it to be synced", || disk.ops().iter().any(|op| matches!(op, Op::Sync(_))));
    rig.push(&batch(3, 2));
    until("it to be on the disk", || rig.index.segment_of(3, 5).is_some());
    let syncs = |file: usize| disk.ops().iter().filter(|op| **op == Op::Sync(file)).count();
    let (before, failed) = (syncs(0), disk.failed());
    disk.set_faults(Faults { syncs_fail: true, ..Faults::default() });
    rig.spool.hurry();
    until("a sync to fail", || disk.failed() > failed);
    until("trouble", || !rig.spool.works());
    disk.set_faults(Faults::default());
    until("it to work again", || rig.spool.works());
    rig.push(&batch(5, 2));
    rig.spool.hurry();
    until("the next file to be synced", || {
        rig.index.segment_of(5, 7).is_some_and(|it| it > 1) && {
            let last =
                disk.ops().iter().filter_map(|op| if let Op::Create(_, file) = op { Some(*file) } else { None }).max();
            last.is_some_and(|last| syncs(last) > 0)
        }
    });
    assert_eq!(syncs(0), before, "the kernel may have dropped what it could not write, and would say that all is well");
    assert!(rig.finish());
    assert_eq!(kept(&disk), (1..7).collect::<Vec<_>>());
}

#[test]
fn a_directory_that_cant_be_opened_is_tried_again_and_gets_all_that_is_not_settled() {
    let disk = Arc::new(SimDisk::default());
    let earlier = rig(Arc::clone(&disk) as Arc<dyn Disk>, 2000, 1 << 20);
    earlier.push(&batch(1, 3));
    until("the first run's lines to be on the disk", || earlier.index.segment_of(1, 4).is_some());
    assert!(earlier.finish());

    let inbox = Arc::new(Inbox::new(WhenFull::DropOldest, 1 << 20));
    let (well, tries) = (Arc::new(Mutex::new(false)), Arc::new(Mutex::new(0)));
    let again: Open = Box::new({
        let (disk, inbox, well, tries) =
            (Arc::clone(&disk) as Arc<dyn Disk>, Arc::clone(&inbox), Arc::clone(&well), Arc::clone(&tries));
        move |_| {
            *tries.lock().unwrap() += 1;
            if *well.lock().unwrap() { Ok(open(&disk, &inbox, 2000).0) } else { Err(io::ErrorKind::NotFound.into()) }
        }
    });
    let rig = start(Err(io::ErrorKind::NotFound.into()), again, inbox, Arc::default(), 2000);
    for seq in 0..100 {
        rig.push(&batch(1 + 2 * seq, 2));
    }
    until("another try", || *tries.lock().unwrap() > 0);
    assert!(!rig.spool.works());
    *well.lock().unwrap() = true;
    until("it to work", || rig.spool.works());
    assert!(rig.inbox.lock().queue.close_books());
    let counts = rig.inbox.counts();
    assert_eq!((counts.adopted, counts.read, counts.spooled), (3, 200, 203), "{counts:?}");
    assert!(rig.finish());
    assert_eq!(kept(&disk), (1..4).chain(1..201).collect::<Vec<_>>(), "the old ones first");
}

#[test]
fn a_spool_that_was_never_opened_ends_at_once() {
    let inbox = Arc::new(Inbox::new(WhenFull::DropOldest, 1 << 20));
    let again: Open = Box::new(|_| Err(io::ErrorKind::NotFound.into()));
    let rig = start(Err(io::ErrorKind::NotFound.into()), again, inbox, Arc::default(), 2000);
    rig.push(&batch(1, 2));
    rig.spool.settle(Duration::from_secs(20));
    assert!(rig.inbox.lock().queue.close_books());
    assert_eq!(rig.inbox.counts().lost.of(Loss::Deadline), 2);
    assert!(rig.finish(), "no word of a slow disk");
}

#[test]
fn a_full_disk_is_tried_again_and_nothing_is_left_out_if_it_did_not_last() {
    let disk = Arc::new(SimDisk::default());
    let rig = rig(Arc::clone(&disk) as Arc<dyn Disk>, 1 << 20, 1 << 20);
    rig.push(&batch(1, 2));
    until("the first batch to be on the disk", || rig.index.segment_of(1, 3).is_some());
    disk.set_faults(Faults { room: Some(0), ..Faults::default() });
    for seq in 0..50 {
        rig.push(&batch(3 + 2 * seq, 2));
    }
    until("the disk to refuse", || disk.failed() > 1);
    disk.set_faults(Faults::default());
    until("everything to be on the disk", || rig.index.segment_of(101, 103).is_some());
    assert!((1..102).all(|seq| rig.index.segment_of(seq, seq + 1).is_some()));
    assert!(rig.finish());
}

#[test]
fn a_disk_that_stays_full_keeps_nothing_but_the_drain_goes_on() {
    let disk = Arc::new(SimDisk::default());
    let rig = rig(Arc::clone(&disk) as Arc<dyn Disk>, 1 << 20, 1 << 20);
    disk.set_faults(Faults { room: Some(0), ..Faults::default() });
    rig.push(&batch(1, 3));
    until("the disk to refuse", || disk.failed() > 0);
    let run = rig.inbox.change(|queue| {
        assert!(queue.seal(&limits()));
        queue.unsent().cloned().unwrap()
    });
    rig.inbox.change(|queue| queue.place(run.id(), vec![1, 2, 3].into()));
    rig.inbox.change(|queue| queue.mark_sent(run.id()));
    assert_eq!(rig.inbox.progress(Progress { epoch: 1, upto: 2, grade: Grade::Confirmed }), 2);
    rig.spool.settle(Duration::from_secs(20));
    assert!(rig.inbox.lock().queue.close_books());
    let counts = rig.inbox.counts();
    assert_eq!((counts.confirmed, counts.spooled, counts.lost.of(Loss::Deadline)), (2, 0, 1));
    rig.finish();
}

#[test]
fn a_disk_that_is_slow_for_less_than_the_patience_is_no_trouble() {
    let disk = Arc::new(Hanging::default());
    let rig = rig(Arc::clone(&disk) as Arc<dyn Disk>, 2000, 1 << 20);
    let fills = |from: u64| {
        disk.hang(true);
        let mut seq = from;
        // What the thread has in hand counts, so it has at least one of these.
        while !rig.spool.would_wait(10, 1) {
            rig.push(&batch(seq, 1));
            seq += 1;
        }
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| rig.push(&batch(seq, 1)));
            disk.hang(false);
            waits.join().unwrap();
        });
        until("it to be on the disk", || rig.index.segment_of(seq, seq + 1).is_some());
        seq + 1
    };
    // On a machine that is busy it may be more, once or twice.
    let mut next = 1;
    let well = (0..20).any(|_| {
        let before = rig.spool.report().troubles;
        next = fills(next);
        until("it to work", || rig.spool.works());
        rig.spool.report().troubles == before
    });
    assert!(well, "{:?}", rig.spool.report());
    assert!(rig.finish());
}

#[test]
fn a_thread_that_sleeps_is_woken_by_what_comes() {
    let disk = Arc::new(SimDisk::default());
    let rig = rig(Arc::clone(&disk) as Arc<dyn Disk>, 1 << 20, 1 << 20);
    for seq in 1..3 {
        rig.spool.hurry();
        until("it to fall asleep", || rig.spool.sleeps());
        rig.spool.push(&batch(seq, 1));
        until("it to be on the disk", || rig.index.segment_of(seq, seq + 1).is_some());
    }
    rig.spool.hurry();
    until("it to fall asleep", || rig.spool.sleeps());
    assert!(rig.finish());
}
