//! What the tests of the thread share: a spool with one drain on a disk for tests.

use super::{
    codec::{Owed, testing::header},
    disk::Disk,
    index::Index,
    load::Loader,
    log::{Log, SEGMENT_BYTES},
    recovery::recover,
    sim::SimDisk,
    thread::{Member, Open, Opened, Settings, Spool},
};
use crate::{
    clock,
    config::{SpoolSync, WhenFull},
    drain::inbox::Inbox,
    format::Instance,
    line::Batch,
};
use std::{
    io,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A disk whose writes or syncs wait while it is told to hang, and that vanishes when it is told to.
#[derive(Debug, Default)]
pub(super) struct Hanging {
    pub(super) disk: SimDisk,
    /// Its names lead elsewhere.
    pub(super) gone: AtomicBool,
    hangs: Mutex<Hangs>,
    goes_on: Condvar,
}

#[derive(Debug, Default)]
struct Hangs {
    writes: bool,
    syncs: bool,
    /// How many syncs hang now.
    waiting: usize,
}

impl Hanging {
    pub(super) fn hang(&self, yes: bool) {
        self.hangs.lock().unwrap().writes = yes;
        self.goes_on.notify_all();
    }

    pub(super) fn hang_syncs(&self, yes: bool) {
        self.hangs.lock().unwrap().syncs = yes;
        self.goes_on.notify_all();
    }

    pub(super) fn syncs_that_hang(&self) -> usize {
        self.hangs.lock().unwrap().waiting
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
        drop(self.goes_on.wait_while(self.hangs.lock().unwrap(), |hangs| hangs.writes).unwrap());
        self.disk.write(name, offset, bytes)
    }
    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        self.disk.truncate(name, len)
    }
    fn sync(&self, name: &str) -> io::Result<()> {
        let mut hangs = self.hangs.lock().unwrap();
        hangs.waiting += 1;
        self.goes_on.wait_while(hangs, |hangs| hangs.syncs).unwrap().waiting -= 1;
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
    fn is_there(&self) -> bool {
        !self.gone.load(Ordering::SeqCst)
    }
}

pub(super) struct Rig {
    pub(super) spool: Spool,
    pub(super) inbox: Arc<Inbox>,
    pub(super) index: Arc<Index>,
}

pub(super) fn rig(disk: Arc<dyn Disk>, capacity: usize, memory: usize) -> Rig {
    rig_that(WhenFull::DropOldest, disk, capacity, memory)
}

pub(super) fn rig_that(policy: WhenFull, disk: Arc<dyn Disk>, capacity: usize, memory: usize) -> Rig {
    let inbox = Arc::new(Inbox::new(policy, memory));
    let (opened, index) = open(&disk, &inbox, capacity);
    start(Ok(opened), Box::new(|_| panic!("it is open")), inbox, index, capacity)
}

/// A log on a disk, with the only drain attached.
pub(super) fn open(disk: &Arc<dyn Disk>, inbox: &Inbox, capacity: usize) -> (Opened, Arc<Index>) {
    let mut header = header();
    header.drains = vec![Owed { identity: "all".into(), stream: None }];
    let found = recover(&**disk);
    let index = Arc::new(Index::new(found.segments.iter().map(|segment| segment.number)));
    let loader = Loader::new(Arc::clone(disk), Arc::clone(&index), header.run.clone());
    inbox.attach(&index, 2 * capacity, found.owed(&**disk, "all"), loader);
    let unreadable = found.unreadable;
    let log = Log::new(Arc::clone(disk), header, SEGMENT_BYTES, 1 << 30, found);
    (Opened { dir: "spool".into(), log, index: Arc::clone(&index), unreadable, keep: Box::new(()) }, index)
}

pub(super) fn start(
    first: io::Result<Opened>,
    again: Open,
    inbox: Arc<Inbox>,
    index: Arc<Index>,
    capacity: usize,
) -> Rig {
    let members = vec![Member { identity: "all".into(), inbox: Arc::clone(&inbox) }];
    let settings =
        Settings { dir: "spool".into(), capacity, sync: SpoolSync::Interval, instance: Instance::known("1") };
    let spool = Spool::start_with(first, again, members, settings).unwrap();
    Rig { spool, inbox, index }
}

impl Rig {
    /// To the very end; whether the cursors are on the disk.
    pub(super) fn finish(&self) -> bool {
        let noted = self.spool.finish(Duration::from_secs(20));
        self.spool.tidy(Duration::from_secs(20));
        noted
    }

    pub(super) fn push(&self, batch: &Arc<Batch>) {
        self.inbox.push(batch);
        self.spool.push(batch);
    }
}

#[track_caller]
pub(super) fn until(what: &str, met: impl Fn() -> bool) {
    let end = clock::now() + Duration::from_secs(20);
    while !met() {
        assert!(clock::now() < end, "in vain: {what}");
        std::thread::yield_now();
    }
}

/// Numbers of the lines that the drain is owed, in the order in which the next run sends them.
pub(super) fn kept(disk: &SimDisk) -> Vec<u64> {
    let found = recover(disk);
    found.owed(disk, "all").iter().flat_map(|range| range.from..range.to).collect()
}
