//! What outlives a life: the disk, the receivers, the weather, the truth; and the running of a schedule.

use super::{
    disk::WeakDisk,
    judge::{self, Past},
    life::Life,
    plan::{End, Plan},
    receiver::{Receiver, life_of},
    seen::Seen,
    shell::Shell,
    truth::Truth,
    weather::Weather,
};
use crate::spool::recovery::{Segment, segment_name};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::LocalSet,
    time::{sleep, timeout},
};

/// An app that still runs then, or again, or waits for its drains in a write, is stopped. Nothing of lastword's ends before:
/// a script is sixty pauses of seven seconds, four times, and with `--when-full block` as long as the drains take.
const WEARY: Duration = Duration::from_secs(300);
/// No life lasts longer: after that stop an app that ignores it, and may not be killed on an assumed budget, ends its
/// script, for which it waits no more; then come its leftovers and the flush. How long these may take says
/// [`super::patience`]; this is for what never ends.
const LONGEST: Duration = Duration::from_secs(1_000);
/// When all is well again, all is delivered so soon.
const CATCH_UP: Duration = Duration::from_secs(150);

/// See the module.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) disk: Arc<WeakDisk>,
    pub(super) truth: Rc<RefCell<Truth>>,
    pub(super) receivers: Vec<Rc<RefCell<Receiver>>>,
    pub(super) weathers: Vec<Rc<RefCell<Weather>>>,
    pub(super) seen: Rc<RefCell<Seen>>,
    /// Which units each segment has that an earlier life left.
    segments: RefCell<BTreeMap<u64, (usize, Range<u64>)>>,
    /// Units of earlier lives that a crash of the machine may have taken, for nobody ever synced them.
    pub(super) shaken: RefCell<BTreeSet<(usize, u64)>>,
    dead: Notify,
}

impl World {
    pub(super) fn new(seed: u64) -> Rc<Self> {
        let plan = Plan::of(seed);
        let rng = |salt: u64| StdRng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(salt));
        let (truth, seen): (Rc<RefCell<Truth>>, Rc<RefCell<Seen>>) = (Rc::default(), Rc::default());
        let receiver = |(index, drain): (usize, &super::plan::Drain)| {
            let name = format!("drain-{index}");
            let receiver = Receiver::new(name, drain.wants, drain.itemized, Rc::clone(&truth), Rc::clone(&seen));
            Rc::new(RefCell::new(receiver))
        };
        let weather = |index: usize| {
            let (faults, seen) = (plan.network.clone(), Rc::clone(&seen));
            let weather = Weather::new(faults, plan.network_rate, plan.longest_spell, rng(index as u64), seen);
            Rc::new(RefCell::new(weather))
        };
        Rc::new(Self {
            disk: Arc::new(WeakDisk::new(rng(100), plan.disk.clone(), plan.disk_rate)),
            receivers: plan.drains.iter().enumerate().map(receiver).collect(),
            weathers: (0..plan.drains.len()).map(weather).collect(),
            truth,
            seen,
            segments: RefCell::default(),
            shaken: RefCell::default(),
            dead: Notify::new(),
            plan,
        })
    }

    /// The process died in the midst of a call to the disk: what it did after that, it did not.
    pub(super) fn die(&self) {
        self.receivers.iter().for_each(|receiver| receiver.borrow_mut().deaf = true);
        self.dead.notify_one();
    }

    /// Runs all lives, and judges them.
    pub(super) async fn run(self: Rc<Self>) {
        let mut past: Vec<Past> = Vec::new();
        for number in 0..self.plan.lives.len() {
            self.truth.borrow_mut().begin_life();
            for receiver in &self.receivers {
                let mut receiver = receiver.borrow_mut();
                receiver.deaf = false;
                receiver.may_repeat();
            }
            let set = LocalSet::new();
            let mut lived = set.run_until(Rc::clone(&self).live(number)).await;
            super::check_tasks().await;
            drop(set);
            lived.settle(&self);
            self.after(number, &lived);
            for (receiver, counts) in self.receivers.iter().zip(&lived.counts) {
                // Of an earlier life, too: a crash of the machine may bring back an older note of where the drain stood. A
                // note that was made is no help either: it is a place, and behind it there may be lines that overflowed
                // while the disk was in trouble, and were written when it was well again.
                let mut receiver = receiver.borrow_mut();
                receiver.gave_up |= counts.lost.total() > 0;
                if receiver.gave_up {
                    receiver.forget_order();
                }
            }
            past.push(lived);
        }
        judge::judge(&self, &past);
        let mut seen = self.seen.borrow_mut();
        seen.merge(&self.disk.take_seen());
        seen.hit(["", "one life", "two lives", "three lives", "four lives"][past.len()]);
    }

    /// One life, to its end.
    async fn live(self: Rc<Self>, number: usize) -> Past {
        let knobs = &self.plan.lives[number];
        let mut rng = StdRng::seed_from_u64(knobs.seed);
        let calls = if let End::AtCall { calls, .. } = knobs.end { Some(calls) } else { None };
        // What recovery does is a part of the life; a disk that does not answer it is for other tests.
        self.disk.begin_life(calls.filter(|_| rng.random_bool(0.5)));
        let enabled = self.disk.pause();
        let life = Life::begin(&self, number);
        self.disk.resume(enabled);
        self.disk.begin_calls(calls);
        super::trace(|| format!("life {number} begins: {knobs:?}"));
        for inbox in &life.inboxes {
            let adopted = inbox.counts().adopted;
            life.world.seen.borrow_mut().add("an adopted unit", adopted);
        }
        let mut shell = Shell::new(&life);
        let end = knobs.end;
        let dies = async {
            match end {
                End::Killed { .. } => sleep(Duration::from_millis(rng.random_range(0..=knobs.storm))).await,
                End::AtCall { .. } => self.dead.notified().await,
                End::Orderly => std::future::pending().await,
                End::Quiet => {
                    self.clear_up(&life).await;
                    std::future::pending::<()>().await;
                }
            }
        };
        let wearies = async {
            sleep(WEARY).await;
            life.hit("process: a stop after minutes");
            life.stop_now();
            std::future::pending::<()>().await;
        };
        let lived = async {
            tokio::select! {
                biased;
                () = dies => None,
                () = wearies => None,
                reports = shell.run() => Some(reports),
            }
        };
        let Ok(reports) = timeout(LONGEST, lived).await else {
            super::check_tasks().await;
            panic!("life {number} does not end: {:?}", life.drains.counts());
        };
        let died_at_call = self.disk.is_dead();
        let extents = || life.index.as_ref().map(|index| index.extents());
        super::trace(|| format!("life {number} ends: {:?}, on the disk {:?}", life.drains.counts(), extents()));
        // Who dies in the last call has told nobody anything.
        let reports = reports.filter(|_| !died_at_call);
        Past::of(&life, reports, shell.unread)
    }

    /// The storm passes; then all is well, and all is delivered; then a stop.
    async fn clear_up(&self, life: &Life) {
        sleep(Duration::from_millis(life.knobs.storm)).await;
        self.weathers.iter().for_each(|weather| weather.borrow_mut().quiet());
        self.disk.quiet();
        life.hush();
        super::trace(|| "quiet".to_owned());
        let begun = tokio::time::Instant::now();
        while life.inboxes.iter().any(|inbox| inbox.counts().pending() > 0) {
            if begun.elapsed() > CATCH_UP {
                super::check_tasks().await;
                panic!("not all was delivered in quiet weather: {:?}", life.drains.statuses());
            }
            sleep(Duration::from_millis(500)).await;
        }
        life.stop_now();
    }

    /// Between two lives.
    fn after(&self, number: usize, lived: &Past) {
        let what = match self.plan.lives[number].end {
            End::Killed { machine: false } => "self: SIGKILL",
            End::Killed { machine: true } => "self: the machine crashes",
            End::AtCall { .. } if self.disk.is_dead() => "self: SIGKILL in the midst of a disk call",
            End::AtCall { .. } => "",
            End::Orderly | End::Quiet => "self: an orderly exit",
        };
        if lived.reports.is_none() && !what.is_empty() {
            self.seen.borrow_mut().hit(what);
        }
        let machine =
            matches!(self.plan.lives[number].end, End::Killed { machine: true } | End::AtCall { machine: true, .. });
        self.disk.begin_life(None);
        let files = self.disk.files();
        // Whoever exits in time is not there when the machine crashes.
        if lived.reports.is_none() {
            self.shake(machine, lived);
            if machine {
                self.disk.crash();
            }
        }
        self.recover_twice();
        let segments = self.segments.borrow();
        let returned = segments.iter().filter(|&(&number, _)| !files.contains_key(&segment_name(number)));
        for (_, (life, units)) in returned {
            for receiver in &self.receivers {
                receiver.borrow_mut().returned.extend(units.clone().map(|seq| (*life, seq)));
            }
        }
    }

    /// A death takes what an earlier life left: what was evicted, and was in memory yet; and with the machine, what nobody
    /// ever synced, or not with success.
    fn shake(&self, machine: bool, lived: &Past) {
        let unsynced = self.disk.unsynced();
        let taken = |number: u64| {
            let name = segment_name(number);
            let may_lack = machine && self.disk.has(&name) && !self.disk.is_safe(&name);
            lived.evicted.contains(&number) || may_lack && (!lived.synced || unsynced.contains(&name))
        };
        let segments = self.segments.borrow();
        let taken = segments.iter().filter(|&(&number, _)| taken(number));
        let units = taken.flat_map(|(_, (life, units))| units.clone().map(|seq| (*life, seq)));
        self.shaken.borrow_mut().extend(units);
    }

    /// Each copy of a unit is sent.
    fn find_twofold(&self, segments: &[Segment]) {
        for two in segments.windows(2).filter(|two| two[0].source.origin.run == two[1].source.origin.run) {
            let life = life_of(&two[0].source.origin.run);
            for receiver in &self.receivers {
                receiver.borrow_mut().twofold.extend((two[1].first_seq..two[0].end_seq).map(|seq| (life, seq)));
            }
        }
    }

    /// Recovery yields the same twice, and the second time changes nothing.
    fn recover_twice(&self) {
        let enabled = self.disk.pause();
        let first = crate::spool::recovery::recover(&*self.disk);
        let files = self.disk.files();
        let second = crate::spool::recovery::recover(&*self.disk);
        assert_eq!(files, self.disk.files(), "a second recovery changed the disk");
        assert_eq!(first.segments, second.segments, "a second recovery found something else");
        assert_eq!(first.cursors, second.cursors, "a second recovery found other cursors");
        let place = |it: &Segment| (it.number, (life_of(&it.source.origin.run), it.first_seq..it.end_seq));
        self.segments.replace(first.segments.iter().map(place).collect());
        self.find_twofold(&first.segments);
        if first.notes.iter().any(|note| note.contains("kept as")) {
            self.seen.borrow_mut().hit("recovery: a quarantined file");
        }
        if first.notes.iter().any(|note| note.contains("torn")) {
            self.seen.borrow_mut().hit("recovery: a torn tail");
        }
        if first.notes.iter().any(|note| note.contains("damaged")) {
            self.seen.borrow_mut().hit("recovery: a damaged frame");
        }
        self.disk.resume(enabled);
    }
}
