//! The thread with a disk that is well; and the whole with much on it.

use super::{
    codec::testing::header,
    disk::{Disk, RealDisk},
    log::{Log, SEGMENT_BYTES},
    recovery::recover,
    rig::{Rig, kept, rig, rig_that, until},
    sim::{Faults, SimDisk},
};
use crate::{
    clock,
    config::WhenFull,
    drain::{
        pack::Limits,
        queue::Queue,
        testing::{batch, limits},
    },
    ledger::{Grade, Loss},
    line::{Batch, Lines, Stamp, Stream},
    transport::Progress,
};
use std::{sync::Arc, time::Duration};

#[test]
fn a_dead_drains_lines_are_in_the_spool_and_not_lost() {
    let disk = Arc::new(SimDisk::default());
    let rig = rig(Arc::clone(&disk) as Arc<dyn Disk>, 2000, 3000);
    rig.push(&batch(1, 3));
    rig.push(&batch(4, 3));
    until("it to be on the disk", || rig.index.segment_of(4, 7).is_some());
    // One is delivered, two more are on their way, when the drain's thread dies.
    rig.inbox.change(|queue| queue.seal(&Limits { items: 3, ..limits() }));
    let run = rig.inbox.lock().queue.unsent().cloned().unwrap();
    rig.inbox.change(|queue| queue.place(run.id(), vec![1, 2, 3].into()));
    rig.inbox.progress(Progress { epoch: 1, upto: 1, grade: Grade::Confirmed });
    rig.inbox.change(Queue::die);
    for seq in 0..500 {
        rig.push(&batch(7 + 3 * seq, 3));
    }
    rig.spool.settle(Duration::from_secs(20));
    // And what the disk does not take dies with it.
    disk.set_faults(Faults { room: Some(0), ..Faults::default() });
    rig.push(&batch(1507, 2));
    rig.spool.settle(Duration::from_secs(20));
    assert!(rig.inbox.lock().queue.close_books());
    let counts = rig.inbox.counts();
    assert_eq!((counts.read, counts.confirmed, counts.spooled), (1508, 1, 1505), "{counts:?}");
    assert_eq!((counts.lost.of(Loss::DrainDied), counts.lost.total()), (2, 2));
    disk.set_faults(Faults::default());
    rig.finish();
    let kept = kept(&disk);
    assert!(kept.iter().copied().eq(2..1507) || kept.iter().copied().eq(2..1509), "{kept:?}");
}

/// Closes the books of a drain that sent nothing.
#[track_caller]
fn all_1500_are_spooled(rig: &Rig) {
    rig.spool.settle(Duration::from_secs(20));
    assert!(rig.inbox.lock().queue.close_books());
    let counts = rig.inbox.counts();
    assert_eq!((counts.read, counts.spooled, counts.lost.total()), (1500, 1500, 0));
}

#[test]
fn with_block_a_drain_that_is_down_blocks_nobody_while_the_disk_takes_it_all() {
    let disk = Arc::new(SimDisk::default());
    let rig = rig_that(WhenFull::Block, Arc::clone(&disk) as Arc<dyn Disk>, 2000, 3000);
    for seq in 0..500 {
        rig.inbox.wait_for_room(30);
        rig.push(&batch(1 + 3 * seq, 3));
    }
    all_1500_are_spooled(&rig);
    rig.finish();
}

#[test]
fn with_a_memory_of_nothing_all_is_on_the_disk_and_nothing_is_lost() {
    let disk = Arc::new(SimDisk::default());
    let rig = rig(Arc::clone(&disk) as Arc<dyn Disk>, 2000, 1000);
    for seq in 0..500 {
        rig.push(&batch(1 + 3 * seq, 3));
    }
    all_1500_are_spooled(&rig);
    rig.finish();
}

#[test]
fn what_is_settled_leaves_no_segment_behind() {
    let disk = Arc::new(SimDisk::default());
    let rig = rig(Arc::clone(&disk) as Arc<dyn Disk>, 1 << 20, 1 << 20);
    rig.push(&batch(1, 3));
    until("it to be on the disk", || rig.index.segment_of(1, 4).is_some());
    let run = rig.inbox.change(|queue| {
        queue.seal(&limits());
        queue.unsent().cloned().unwrap()
    });
    rig.inbox.change(|queue| queue.place(run.id(), vec![1, 2, 3].into()));
    rig.inbox.progress(Progress { epoch: 1, upto: 3, grade: Grade::Confirmed });
    rig.inbox.lock().queue.close_books();
    assert!(rig.finish());
    assert!(disk.files().keys().all(|name| name.ends_with(".cur")), "{:?}", disk.files().keys());
    assert!(recover(&*disk).owed(&*disk, "all").is_empty());
}

/// A gigabyte would be slow to write here; a tenth of it, and a tenth of the time.
#[test]
fn many_sealed_segments_open_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path().to_owned()));
    let mut log = Log::new(Arc::clone(&disk), header(), SEGMENT_BYTES, 1 << 40, recover(&*disk));
    let (mut data, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..1000 {
        data.extend_from_slice(&[b'x'; 255]);
        data.push(b'\n');
        ends.push(data.len() as u32);
    }
    let lines = Lines { data: data.into(), ends, parts: Vec::new() };
    let mut seq = 1;
    while seq < 400_000 {
        let batch = Batch::new(Stream::Stdout, seq, Stamp(1), lines.clone());
        seq = batch.end_seq();
        log.append(&[Arc::new(batch)], &mut Vec::new()).unwrap();
    }
    log.advance(&[], true).unwrap();
    let start = clock::now();
    let found = recover(&*disk);
    let took = clock::now() - start;
    assert!(found.segments.len() >= 12 && found.notes.is_empty(), "{:?}", found.notes);
    assert_eq!(found.owed(&*disk, "all").iter().map(|range| range.units).sum::<u64>(), seq - 1);
    assert!(took < Duration::from_millis(50), "{took:?} for {} segments", found.segments.len());
}
