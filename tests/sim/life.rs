//! One life of lastword: everything is wired as `run` does it, but for Disk, Transport, app, and the threads, which are tasks.

mod threads;

use super::{
    app::{Family, Manner, Script},
    plan::{Drain, Knobs},
    receiver::run_of,
    requests::Requests,
    stream::Dialer,
    world::World,
};
use crate::{
    budget::Shares,
    config::{Config, DrainSpec, FileTarget, HostPort, SpoolSpec, Target, TcpTarget},
    drain::{Drains, inbox::Inbox, pack::Limits, worker::Worker},
    event::Event as Rung,
    format::{Encoder, Format, Instance, Origin},
    ledger::DrainReport,
    lifecycle::Event,
    line::Stream,
    publisher::Publisher,
    signals::Signal,
    spool::{disk::Disk, index::Index, keeper::Keeper, open, thread::Spool},
    transport::{
        Transport,
        tcp::{carrier::Carrier, window::Policy},
    },
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    ops::Range,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time::timeout};

/// As `run` waits for the spool's last writes.
const LAST_WORDS: Duration = Duration::from_millis(80);
/// As a publisher waits for the disk.
const PATIENCE: Duration = Duration::from_millis(250);

/// See the module.
pub(super) struct Life {
    pub(super) world: Rc<World>,
    pub(super) knobs: Knobs,
    pub(super) drains: Drains,
    pub(super) inboxes: Vec<Arc<Inbox>>,
    publisher: Publisher,
    spool: Option<Spool>,
    /// What is on the disk.
    pub(super) index: Option<Arc<Index>>,
    /// What ever was, and what of that was safe from a crash of the machine: the units of each segment.
    pub(super) appended: RefCell<BTreeMap<u64, Range<u64>>>,
    pub(super) safe: RefCell<BTreeMap<u64, Range<u64>>>,
    /// Segments of earlier lives have been synced, too.
    pub(super) synced: Cell<bool>,
    /// The spool has something to do; there is room in it, or it has ended.
    spool_wakes: Notify,
    spool_moved: Notify,
    pub(super) noted: Cell<bool>,
    pub(super) signals: RefCell<VecDeque<(Instant, Event)>>,
    pub(super) rings: Rc<Notify>,
    rung: RefCell<VecDeque<Rung>>,
    /// The readers are to read what is there, and end.
    finish: Rc<(Cell<bool>, Notify)>,
    family: RefCell<Option<Rc<Family>>>,
    restarted: Cell<u32>,
}

fn spec_of(index: usize, drain: &Drain) -> DrainSpec {
    let target = if drain.stream {
        Target::Tcp(TcpTarget::new(HostPort { host: "peer".into(), port: 1 }))
    } else {
        Target::File(FileTarget::new(PathBuf::from("requests")))
    };
    let name = format!("drain-{index}");
    DrainSpec { url: format!("sim://{name}"), name, format: Format::Ndjson, target, stream: drain.wants }
}

impl Life {
    /// Opens the spool and starts all tasks. Called in a `LocalSet`.
    pub(super) fn begin(world: &Rc<World>, number: usize) -> Rc<Self> {
        let knobs = world.plan.lives[number].clone();
        let origin = Origin {
            host: "host".into(),
            app: "app".into(),
            instance: Instance::known("1"),
            run: run_of(number),
            labels: Vec::new(),
        };
        let memory = knobs.memory * knobs.drains.len();
        let config = Config { memory, when_full: knobs.when_full, ..Config::defaults(origin, knobs.seed) };
        let specs: Vec<_> = knobs.drains.iter().enumerate().map(|(index, drain)| spec_of(index, drain)).collect();
        let inboxes: Vec<_> = specs.iter().map(|_| Arc::new(Inbox::new(knobs.when_full, knobs.memory))).collect();
        let (spool, keeper) = knobs
            .spool
            .as_ref()
            .map(|spool| {
                let spec = SpoolSpec {
                    dir: "spool".into(),
                    max_bytes: spool.max_bytes,
                    sync: spool.sync,
                    required: false,
                    existing: false,
                };
                let disk: Arc<dyn Disk> = Arc::clone(&world.disk) as Arc<dyn Disk>;
                open::Plan::new(&spec, &specs, &config).with_capacity(spool.capacity).start_idle(disk, &inboxes)
            })
            .unzip();
        let index = keeper.as_ref().map(Keeper::index);
        let pairs: Vec<_> = specs.iter().cloned().zip(inboxes.iter().cloned()).collect();
        let drains = Drains::idle(&pairs, spool.clone());
        let life = Rc::new(Self {
            world: Rc::clone(world),
            publisher: Publisher::new(drains.clone()),
            drains,
            inboxes,
            spool,
            index,
            appended: RefCell::default(),
            safe: RefCell::default(),
            synced: Cell::new(false),
            spool_wakes: Notify::new(),
            spool_moved: Notify::new(),
            noted: Cell::new(false),
            signals: RefCell::default(),
            rings: Rc::default(),
            rung: RefCell::default(),
            finish: Rc::default(),
            family: RefCell::default(),
            restarted: Cell::new(0),
            knobs,
        });
        life.plan_signals();
        if let Some(keeper) = keeper {
            let life = Rc::clone(&life);
            super::spawn(async move { life.keep(keeper).await });
        }
        specs.iter().enumerate().for_each(|(index, spec)| life.start_drain(index, spec, &config));
        life
    }

    fn plan_signals(&self) {
        let begun = crate::clock::now();
        let mut rng = StdRng::seed_from_u64(self.knobs.seed ^ 5);
        let mut signals = self.signals.borrow_mut();
        for &at in &self.knobs.stops {
            let event = match rng.random_range(0..8) {
                0 => Event::SoftStop(Signal::QUIT),
                1 => Event::Interrupt,
                2 => Event::Other(Signal::HUP),
                _ => Event::Stop(Signal::TERM),
            };
            signals.push_back((begun + Duration::from_millis(at), event));
        }
    }

    fn start_drain(self: &Rc<Self>, index: usize, spec: &DrainSpec, config: &Config) {
        let drain = &self.knobs.drains[index];
        let mut limits = Limits::new(spec, self.knobs.memory);
        limits.items = limits.items.min(self.knobs.items);
        limits.linger = Duration::from_millis(self.knobs.linger);
        limits.load = 2_000;
        let encoder = Encoder::new(spec.format, config.origin.clone());
        let key = format!("{}-{index}", config.origin.run);
        let (receiver, weather) = (&self.world.receivers[index], &self.world.weathers[index]);
        let seed = self.knobs.seed ^ index as u64;
        if drain.stream {
            let cap = limits.in_flight as u64;
            let theirs = usize::try_from((cap * drain.buffer / 100).max(64)).unwrap_or(64);
            let dialer = Dialer::new(receiver, weather, drain.tls, (2_000, theirs));
            let carrier = Carrier::new(dialer, Policy { fixed: drain.replay, cap });
            self.start_worker(index, carrier, encoder, limits, seed, key);
        } else {
            let requests = Requests::new(receiver, weather, drain.itemized);
            self.start_worker(index, requests, encoder, limits, seed, key);
        }
    }

    fn start_worker(
        self: &Rc<Self>,
        index: usize,
        transport: impl Transport + 'static,
        encoder: Encoder,
        limits: Limits,
        seed: u64,
        key: String,
    ) {
        let life = Rc::clone(self);
        super::spawn(async move {
            let inbox = Arc::clone(&life.inboxes[index]);
            let say = |line: &str| {
                if line.contains("mending") {
                    life.hit("a drain is held");
                }
                super::trace(|| format!("drain {index}: {line}"));
            };
            Worker::new(&inbox, transport, encoder, limits, seed, key, &say).run().await;
            inbox.lock().done_at = Some(crate::clock::now());
            life.ring(Rung::DrainDone(index));
        });
    }

    /// A line of lastword's own.
    pub(super) fn say(&self, text: &str) {
        self.world.truth.borrow_mut().now().says(text);
        // On one thread nobody makes room while this waits: the 250 ms are over, and need not pass on the wall's clock.
        let bytes = "lastword: \n".len() + text.len();
        if let Some(spool) = &self.spool
            && spool.would_wait(bytes, 1)
        {
            spool.lose_patience();
        }
        self.publisher.say(text);
        self.spool_wakes.notify_one();
    }

    pub(super) fn hit(&self, what: &'static str) {
        self.world.seen.borrow_mut().hit(what);
    }

    fn ring(&self, rung: Rung) {
        self.rung.borrow_mut().push_back(rung);
        self.rings.notify_one();
    }

    pub(super) fn take_rings(&self) -> Vec<Rung> {
        self.rung.borrow_mut().drain(..).collect()
    }

    pub(super) fn may_restart(&self) -> bool {
        self.restarted.set(self.restarted.get() + 1);
        self.restarted.get() <= 3
    }

    /// What the next run of the app does; None if it can't be started.
    pub(super) fn script(&self) -> Option<Script> {
        if self.knobs.stop_during_spawn && self.restarted.get() == 0 {
            self.hit("process: a stop during the spawn");
        }
        let seed = self.knobs.script.seed ^ u64::from(self.restarted.get());
        self.knobs.starts.then(|| Script { seed, ..self.knobs.script.clone() })
    }

    pub(super) fn manner(&self) -> Manner {
        self.knobs.script.manner
    }

    /// Starts the app, and the readers of its pipes.
    pub(super) fn attach(self: &Rc<Self>, script: Script) -> Rc<Family> {
        self.drains.block_again();
        self.finish.0.set(false);
        if script.stranger {
            self.hit("process: a stranger holds the pipes");
        }
        let family = Family::new(Rc::clone(&self.world.truth), Rc::clone(&self.rings));
        family.start(script);
        for stream in Stream::ALL {
            let (life, family) = (Rc::clone(self), Rc::clone(&family));
            super::spawn(async move { life.read(stream, &family).await });
        }
        self.family.replace(Some(Rc::clone(&family)));
        family
    }

    pub(super) fn finish_intake(&self) {
        self.finish.0.set(true);
        self.finish.1.notify_waiters();
    }

    pub(super) fn hurry(&self, end_at: Instant) {
        self.drains.hurry(end_at);
        self.spool_wakes.notify_one();
    }

    pub(super) fn flush(&self, end_at: Instant) {
        self.drains.close(end_at);
        self.spool_wakes.notify_one();
    }

    /// The app writes no more.
    pub(super) fn hush(&self) {
        if let Some(family) = &*self.family.borrow() {
            family.hush();
        }
    }

    /// A stop comes now.
    pub(super) fn stop_now(&self) {
        self.signals.borrow_mut().push_back((crate::clock::now(), Event::Stop(Signal::TERM)));
        self.rings.notify_one();
    }

    /// The books are closed, and the spool ends: what [`Drains::close_books_within`] does.
    pub(super) async fn close(&self) -> Vec<DrainReport> {
        let end = crate::clock::now() + Shares::of(self.knobs.budget.duration()).last_words();
        if let Some(spool) = &self.spool {
            spool.begin_settling();
            self.spool_wakes.notify_one();
            self.wait_for(end, || !spool.is_unsettled()).await;
        }
        let reports = self.drains.close_books_at_once();
        if let Some(spool) = &self.spool {
            spool.begin_end();
            self.spool_wakes.notify_one();
            self.wait_for(end, || spool.look().1 || spool.look().2).await;
            self.noted.set(spool.look().1);
            self.wait_for(end, || spool.look().2).await;
        }
        reports
    }

    async fn wait_for(&self, end: Instant, met: impl Fn() -> bool) {
        let wait = async {
            while !met() {
                self.spool_moved.notified().await;
            }
        };
        drop(timeout(LAST_WORDS.min(end.saturating_duration_since(crate::clock::now())), wait).await);
    }
}
