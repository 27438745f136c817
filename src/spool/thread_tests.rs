//! The thread with a disk that hangs, that is full, that does not sync; and the whole with a gigabyte.

use super::{
    codec::{Owed, testing::header},
    disk::{Disk, RealDisk},
    index::Index,
    load::Loader,
    log::{Log, SEGMENT_BYTES},
    recovery::recover,
    sim::{Faults, Op, SimDisk},
    thread::{Member, Open, Opened, Settings, Spool},
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
    let inbox = Arc::new(Inbox::new(policy, memory));
    let (opened, index) = open(&disk, &inbox, capacity);
    start(Ok(opened), Box::new(|| panic!("it is open")), inbox, index, capacity)
}

/// A log on a disk, with the only drain attached.
fn open(disk: &Arc<dyn Disk>, inbox: &Inbox, capacity: usize) -> (Opened, Arc<Index>) {
    let mut header = header();
    header.drains = vec![Owed { identity: "all".into(), stream: None }];
    let found = recover(&**disk);
    let index = Arc::new(Index::new(found.segments.iter().map(|segment| segment.number)));
    let loader = Loader::new(Arc::clone(disk), Arc::clone(&index), header.run.clone());
    inbox.attach(&index, 2 * capacity, found.owed(&**disk, "all"), loader);
    let log = Log::new(Arc::clone(disk), header, SEGMENT_BYTES, 1 << 30, found);
    (Opened { dir: "spool".into(), log, index: Arc::clone(&index), keep: Box::new(()) }, index)
}

fn start(first: io::Result<Opened>, again: Open, inbox: Arc<Inbox>, index: Arc<Index>, capacity: usize) -> Rig {
    let members = vec![Member { identity: "all".into(), inbox: Arc::clone(&inbox) }];
    let settings =
        Settings { dir: "spool".into(), capacity, sync: SpoolSync::Interval, instance: Instance::known("1") };
    let spool = Spool::start(first, again, members, settings).unwrap();
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
    assert!(rig.spool.finish(Duration::from_secs(20)));
    assert_eq!(kept(&disk.disk), (1..202).collect::<Vec<_>>());
}

/// Numbers of the lines that the drain is owed, in the order in which the next run sends them.
fn kept(disk: &SimDisk) -> Vec<u64> {
    let found = recover(disk);
    found.owed(disk, "all").iter().flat_map(|range| range.from..range.to).collect()
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
    assert!(rig.spool.finish(Duration::from_secs(20)));
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
    assert!(rig.spool.finish(Duration::from_secs(20)));
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
    assert!(rig.spool.finish(Duration::from_secs(20)));
    assert_eq!(kept(&disk), (1..7).collect::<Vec<_>>());
}

#[test]
fn a_directory_that_cant_be_opened_is_tried_again_and_gets_all_that_is_not_settled() {
    let disk = Arc::new(SimDisk::default());
    let earlier = rig(Arc::clone(&disk) as Arc<dyn Disk>, 2000, 1 << 20);
    earlier.push(&batch(1, 3));
    until("the first run's lines to be on the disk", || earlier.index.segment_of(1, 4).is_some());
    assert!(earlier.spool.finish(Duration::from_secs(20)));

    let inbox = Arc::new(Inbox::new(WhenFull::DropOldest, 1 << 20));
    let (well, tries) = (Arc::new(Mutex::new(false)), Arc::new(Mutex::new(0)));
    let again: Open = Box::new({
        let (disk, inbox, well, tries) =
            (Arc::clone(&disk) as Arc<dyn Disk>, Arc::clone(&inbox), Arc::clone(&well), Arc::clone(&tries));
        move || {
            *tries.lock().unwrap() += 1;
            if *well.lock().unwrap() { Ok(open(&disk, &inbox, 2000).0) } else { Err(io::ErrorKind::NotFound.into()) }
        }
    });
    let rig = start(Err(io::ErrorKind::NotFound.into()), again, inbox, Arc::default(), 2000);
    for seq in 0..100 {
        rig.push(&batch(1 + 2 * seq, 2));
    }
    until("a second try", || *tries.lock().unwrap() > 1);
    assert!(!rig.spool.works());
    *well.lock().unwrap() = true;
    until("it to work", || rig.spool.works());
    assert!(rig.inbox.lock().queue.close_books());
    let counts = rig.inbox.counts();
    assert_eq!((counts.adopted, counts.read, counts.spooled), (3, 200, 203), "{counts:?}");
    assert!(rig.spool.finish(Duration::from_secs(20)));
    assert_eq!(kept(&disk), (1..4).chain(1..201).collect::<Vec<_>>(), "the old ones first");
}

#[test]
fn a_spool_that_was_never_opened_ends_at_once() {
    let inbox = Arc::new(Inbox::new(WhenFull::DropOldest, 1 << 20));
    let again: Open = Box::new(|| Err(io::ErrorKind::NotFound.into()));
    let rig = start(Err(io::ErrorKind::NotFound.into()), again, inbox, Arc::default(), 2000);
    rig.push(&batch(1, 2));
    rig.spool.settle(Duration::from_secs(20));
    assert!(rig.inbox.lock().queue.close_books());
    assert_eq!(rig.inbox.counts().lost.of(Loss::Deadline), 2);
    assert!(rig.spool.finish(Duration::from_secs(20)), "no word of a slow disk");
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
