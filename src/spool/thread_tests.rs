//! The thread with a disk that hangs, that is full, that does not sync; and the whole with a gigabyte.

use super::{
    codec::{Owed, testing::header},
    disk::{Disk, RealDisk},
    index::Index,
    log::{Log, SEGMENT_BYTES},
    recovery::recover,
    sim::{Faults, SimDisk},
    thread::{Member, Settings, Spool},
};
use crate::{
    clock,
    config::{SpoolSync, WhenFull},
    drain::{
        inbox::Inbox,
        testing::{batch, limits},
    },
    format::Instance,
    ledger::{Grade, Loss},
    line::{Batch, Lines, Stamp, Stream},
    transport::Progress,
};
use std::{
    io,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

/// A disk whose writes wait while it is told to hang.
#[derive(Debug, Default)]
struct Hanging {
    disk: SimDisk,
    hangs: Mutex<bool>,
    goes_on: Condvar,
}

impl Hanging {
    fn hang(&self, yes: bool) {
        *self.hangs.lock().unwrap() = yes;
        self.goes_on.notify_all();
    }
}

impl Disk for Hanging {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.disk.list()
    }
    fn len(&self, name: &str) -> io::Result<u64> {
        self.disk.len(name)
    }
    fn read(&self, name: &str, offset: u64, max: usize, out: &mut Vec<u8>) -> io::Result<()> {
        self.disk.read(name, offset, max, out)
    }
    fn create(&self, name: &str) -> io::Result<()> {
        self.disk.create(name)
    }
    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        drop(self.goes_on.wait_while(self.hangs.lock().unwrap(), |hangs| *hangs).unwrap());
        self.disk.write(name, offset, bytes)
    }
    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        self.disk.truncate(name, len)
    }
    fn sync(&self, name: &str) -> io::Result<()> {
        self.disk.sync(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
}

struct Rig {
    spool: Spool,
    inbox: Arc<Inbox>,
    index: Arc<Index>,
}

fn rig(disk: Arc<dyn Disk>, capacity: usize, memory: usize) -> Rig {
    rig_that(WhenFull::DropOldest, disk, capacity, memory)
}

fn rig_that(policy: WhenFull, disk: Arc<dyn Disk>, capacity: usize, memory: usize) -> Rig {
    let mut header = header();
    header.drains = vec![Owed { identity: "all".into(), stream: None }];
    let found = recover(&*disk);
    let index = Arc::new(Index::default());
    let log = Log::new(disk, header, SEGMENT_BYTES, 1 << 30, found);
    let inbox = Arc::new(Inbox::new(policy, memory));
    inbox.lock().queue.attach(Arc::clone(&index), 2 * capacity, Vec::new());
    let members = vec![Member { identity: "all".into(), inbox: Arc::clone(&inbox) }];
    let settings =
        Settings { dir: "spool".into(), capacity, sync: SpoolSync::Interval, instance: Instance::known("1") };
    let spool = Spool::start(log, Arc::clone(&index), members, settings, ()).unwrap();
    Rig { spool, inbox, index }
}

impl Rig {
    fn push(&self, batch: &Arc<Batch>) {
        self.inbox.push(batch);
        self.spool.push(batch);
    }
}

#[track_caller]
fn until(what: &str, met: impl Fn() -> bool) {
    let end = clock::now() + Duration::from_secs(20);
    while !met() {
        assert!(clock::now() < end, "in vain: {what}");
        std::thread::yield_now();
    }
}

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
    rig.spool.settle(Duration::from_secs(20));
    disk.hang(false);
    until("the first batch to be on the disk", || rig.index.segment_of(1, 2).is_some());
    until("the last to be there, too", || rig.index.segment_of(199, 200).is_some());
    assert!(rig.index.segment_of(100, 101).is_none(), "the inbox has a limit");
    rig.push(&batch(200, 2));
    until("it to go on as before", || rig.index.segment_of(200, 202).is_some());
    assert!(rig.inbox.lock().queue.close_books());
    let counts = rig.inbox.counts();
    assert_eq!(counts.spooled + counts.lost.of(Loss::Deadline), 201);
    assert!(counts.spooled >= 4 && counts.lost.of(Loss::Deadline) > 100, "{counts:?}");
    assert!(rig.spool.finish(Duration::from_secs(20)));
    let found = recover(&disk.disk);
    let owed: u64 = found.owed(&disk.disk, "all").iter().map(|range| range.units).sum();
    assert_eq!(owed, counts.spooled);
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
    assert!(rig.spool.finish(Duration::from_secs(20)));
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
    rig.spool.finish(Duration::from_secs(20));
}

#[test]
fn with_block_a_drain_that_is_down_blocks_nobody_while_the_disk_takes_it_all() {
    let disk = Arc::new(SimDisk::default());
    let rig = rig_that(WhenFull::Block, Arc::clone(&disk) as Arc<dyn Disk>, 2000, 3000);
    for seq in 0..500 {
        rig.inbox.wait_for_room(30);
        rig.push(&batch(1 + 3 * seq, 3));
    }
    rig.spool.settle(Duration::from_secs(20));
    assert!(rig.inbox.lock().queue.close_books());
    let counts = rig.inbox.counts();
    assert_eq!((counts.read, counts.spooled, counts.lost.total()), (1500, 1500, 0));
    rig.spool.finish(Duration::from_secs(20));
}

#[test]
fn with_a_memory_of_nothing_all_is_on_the_disk_and_nothing_is_lost() {
    let disk = Arc::new(SimDisk::default());
    let rig = rig(Arc::clone(&disk) as Arc<dyn Disk>, 2000, 1000);
    for seq in 0..500 {
        rig.push(&batch(1 + 3 * seq, 3));
    }
    rig.spool.settle(Duration::from_secs(20));
    assert!(rig.inbox.lock().queue.close_books());
    let counts = rig.inbox.counts();
    assert_eq!((counts.read, counts.spooled, counts.lost.total()), (1500, 1500, 0));
    rig.spool.finish(Duration::from_secs(20));
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
    assert!(rig.spool.finish(Duration::from_secs(20)));
    assert!(disk.files().keys().all(|name| name.ends_with(".cur")), "{:?}", disk.files().keys());
    assert!(recover(&*disk).owed(&*disk, "all").is_empty());
}

/// A gigabyte would be slow to write here; a tenth of it, and a tenth of the time.
#[test]
fn many_sealed_segments_open_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path().to_owned()));
    let mut log = Log::new(Arc::clone(&disk), header(), SEGMENT_BYTES, 1 << 40, recover(&*disk));
    log.never_sync();
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
