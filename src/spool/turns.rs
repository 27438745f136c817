//! The thread, turn by turn: a test is the thread, in a time that passes when it is told to.

use super::{
    codec::{Owed, testing::header},
    disk::Disk,
    index::Index,
    keeper::{Keeper, Turn},
    load::Loader,
    log::Log,
    recovery::recover,
    sim::{Faults, Op, SimDisk},
    thread::{Member, Opened, Settings, Spool},
};
use crate::{
    clock,
    config::{SpoolSync, WhenFull},
    drain::{
        inbox::Inbox,
        testing::{batch, limits},
    },
    format::Instance,
    ledger::Grade,
    report::Unreadable,
    transport::Progress,
};
use std::{sync::Arc, time::Duration};

/// How long the thread waits for work, if there is something to look after.
pub(super) const TURN: Duration = Duration::from_millis(200);

/// A spool of four segments for one drain, whose thread is the caller.
pub(super) struct Turns {
    pub(super) disk: Arc<SimDisk>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) index: Arc<Index>,
    pub(super) spool: Spool,
    pub(super) keeper: Keeper,
}

impl Turns {
    pub(super) fn new(memory: usize, capacity: usize) -> Self {
        Self::that_syncs(SpoolSync::Interval, memory, capacity)
    }

    pub(super) fn that_syncs(sync: SpoolSync, memory: usize, capacity: usize) -> Self {
        let disk = Arc::new(SimDisk::default());
        let inbox = Arc::new(Inbox::new(WhenFull::DropOldest, memory));
        let mut header = header();
        header.drains = vec![Owed { identity: "all".into(), stream: None }];
        let log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header, 400, 1600, recover(&*disk));
        let index = Arc::new(Index::default());
        let loader = Loader::new(Arc::clone(&disk) as Arc<dyn Disk>, Arc::clone(&index), "run".into());
        inbox.attach(&index, capacity, Vec::new(), loader);
        let unreadable = Unreadable { files: 1, bytes: 10, lines: 2, files_without_count: 0 };
        let opened =
            Opened { dir: "spool/second-1".into(), log, index: Arc::clone(&index), unreadable, keep: Box::new(()) };
        let settings = Settings { dir: "spool".into(), capacity, sync, instance: Instance::known("1") };
        let member = Member { identity: "all".into(), inbox: Arc::clone(&inbox) };
        let (spool, keeper) = Spool::idle(opened, vec![member], settings);
        Self { disk, inbox, index, spool, keeper }
    }

    pub(super) fn push(&self, first: u64, len: u64) {
        let batch = batch(first, len);
        self.inbox.push(&batch);
        self.spool.push(&batch);
    }

    /// The drain delivers all that it can.
    pub(super) fn deliver(&self) {
        self.inbox.change(|queue| {
            while queue.seal(&limits()) {
                let run = queue.unsent().cloned().unwrap();
                queue.place(run.id(), (1..=run.open_items() as u32).collect());
                queue.mark_sent(run.id());
                queue.progress(Progress { epoch: 1, upto: u64::MAX, grade: Grade::Confirmed });
            }
        });
    }

    pub(super) fn turn(&mut self) -> Turn {
        let work = self.keeper.take();
        self.keeper.turn(work)
    }

    pub(super) async fn pass(&mut self, time: Duration) {
        let end = clock::now() + time;
        // As the thread, which is woken by batches, and else looks again when this is over.
        while clock::now() < end {
            tokio::time::advance(TURN).await;
            self.turn();
        }
    }

    /// Until nothing is to be looked after any more.
    pub(super) async fn rest(&mut self) {
        for _ in 0..100 {
            if self.keeper.patience().is_none() && self.spool.has_nothing_to_do() {
                return;
            }
            self.pass(TURN).await;
        }
        panic!("it looks after something for ever");
    }

    pub(super) fn fill(&self, yes: bool) {
        self.disk.set_faults(Faults { room: yes.then_some(0), ..Faults::default() });
    }

    /// How many files were made safe so far.
    pub(super) fn syncs(&self) -> usize {
        self.disk.ops().iter().filter(|op| matches!(op, Op::Sync(_))).count()
    }

    /// Numbers of the lines that are on the disk.
    pub(super) fn there(&self) -> Vec<u64> {
        self.index.extents().iter().flat_map(|extent| extent.first_seq..extent.end_seq).collect()
    }
}

pub(super) fn in_simulated_time(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let _simulated = clock::simulated::begin();
        test().await;
    });
}
