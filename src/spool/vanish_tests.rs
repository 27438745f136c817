//! The thread with a directory that vanishes, or files of it.

use super::{
    disk::Disk,
    recovery::segment_name,
    rig::{Hanging, Rig, kept, open, start, until},
    sim::SimDisk,
};
use crate::{
    clock,
    config::WhenFull,
    drain::{inbox::Inbox, testing::batch},
    ledger::Loss,
};
use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// A spool on the first disk, with the second for when that vanishes, if there is to be one.
fn on_two_disks(first: &Arc<Hanging>, second: Option<&Arc<SimDisk>>, memory: usize) -> Rig {
    let inbox = Arc::new(Inbox::new(WhenFull::DropOldest, memory));
    let (opened, index) = open(&(Arc::clone(first) as Arc<dyn Disk>), &inbox, 2000);
    let again = {
        let (inbox, second) = (Arc::clone(&inbox), second.map(Arc::clone));
        move |after: Option<u64>| {
            assert!(after.is_some_and(|number| number > 1), "{after:?}: segments of the two could be mistaken");
            let disk = second.clone().ok_or(io::ErrorKind::NotFound)?;
            Ok(open(&(disk as Arc<dyn Disk>), &inbox, 2000).0)
        }
    };
    start(Ok(opened), Box::new(again), inbox, index, 2000)
}

/// Pushes batches of two lines until so many are on the first disk.
fn fill(rig: &Rig, lines: u64) {
    for seq in (1..lines).step_by(2) {
        rig.push(&batch(seq, 2));
    }
    until("the last to be on the disk", || rig.index.segment_of(lines, lines + 1).is_some());
}

/// As at the exit: no time passes between the end of the app and that of the books.
fn close(rig: &Rig) -> crate::ledger::Counts {
    rig.spool.settle(Duration::from_secs(20));
    assert!(rig.inbox.lock().queue.close_books());
    let counts = rig.inbox.counts();
    assert_eq!(counts.read, counts.spooled + counts.lost.total(), "{counts:?}");
    counts
}

#[test]
fn a_directory_that_vanished_is_noticed_before_the_books_are_closed_and_memory_is_written_anew() {
    let (one, two) = (Arc::new(Hanging::default()), Arc::new(SimDisk::default()));
    let rig = on_two_disks(&one, Some(&two), 1 << 20);
    fill(&rig, 100);
    one.gone.store(true, Ordering::SeqCst);
    let counts = close(&rig);
    assert_eq!((counts.spooled, counts.lost.total()), (100, 0), "{counts:?}");
    assert!(rig.finish());
    assert_eq!(kept(&two), (1..101).collect::<Vec<_>>(), "each once, though the inbox may have had some, too");
}

/// Such lines were once in the report twice: as lost with the directory, and as never written to it.
#[test]
fn what_only_the_vanished_directory_had_is_lost_and_all_else_is_in_the_next_one() {
    let (one, two) = (Arc::new(Hanging::default()), Arc::new(SimDisk::default()));
    let rig = on_two_disks(&one, Some(&two), 3000);
    fill(&rig, 400);
    rig.inbox.change(|queue| queue.unload());
    one.gone.store(true, Ordering::SeqCst);
    rig.push(&batch(401, 2));
    let counts = close(&rig);
    let lost = counts.lost.of(Loss::SpoolError);
    assert!(lost > 100 && lost == counts.lost.total() && counts.spooled >= 2, "{counts:?}");
    assert!(rig.finish());
    assert_eq!(kept(&two).len() as u64, counts.spooled);
    assert_eq!(rig.spool.report().went_past, 0, "what was lost had been in it");
}

#[test]
fn without_another_directory_nothing_is_called_spooled_and_the_end_does_not_wait() {
    let one = Arc::new(Hanging::default());
    let rig = on_two_disks(&one, None, 1 << 20);
    fill(&rig, 100);
    one.gone.store(true, Ordering::SeqCst);
    let start = clock::now();
    let counts = close(&rig);
    assert_eq!((counts.spooled, counts.lost.of(Loss::Deadline)), (0, 100), "{counts:?}");
    rig.finish();
    assert!(clock::now() - start < Duration::from_secs(5), "it waited for a directory");
}

#[test]
fn a_segment_that_somebody_removes_is_not_counted_on_and_the_others_are() {
    let one = Arc::new(Hanging::default());
    let rig = on_two_disks(&one, None, 1 << 20);
    fill(&rig, 10);
    // A hole in the numbers begins another segment.
    rig.push(&batch(21, 2));
    until("a second segment", || rig.index.segment_of(21, 23).is_some_and(|number| number > 1));
    assert!(one.disk.files().len() >= 2);
    one.disk.remove(&segment_name(1)).unwrap();
    let counts = close(&rig);
    assert_eq!((counts.spooled, counts.lost.of(Loss::Deadline)), (2, 10), "{counts:?}");
    rig.finish();
    assert_eq!(kept(&one.disk), [21, 22]);
}
