//! The app: a script that writes into two pipes, takes signals, leaves descendants and strangers behind, and ends.

use super::{text, truth::Truth};
use crate::{exit::Status, signals::Signal};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};
use tokio::sync::Notify;

/// One of the two pipes.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    bytes: RefCell<VecDeque<u8>>,
    writers: Cell<usize>,
    changed: Notify,
}

/// A pipe's capacity.
const CAPACITY: usize = 4096;

impl Pipe {
    /// Bytes, or the end, are there.
    pub(super) async fn readable(&self) {
        while self.bytes.borrow().is_empty() && self.writers.get() > 0 {
            self.changed.notified().await;
        }
    }

    /// None at the end of file.
    pub(super) fn read(&self, most: usize) -> Vec<u8> {
        let mut bytes = self.bytes.borrow_mut();
        let count = most.min(bytes.len());
        let read = bytes.drain(..count).collect();
        self.changed.notify_waiters();
        read
    }

    pub(super) fn pending(&self) -> usize {
        self.bytes.borrow().len()
    }

    pub(super) fn open(&self) {
        self.writers.set(self.writers.get() + 1);
    }

    pub(super) fn close(&self) {
        self.writers.set(self.writers.get() - 1);
        self.changed.notify_waiters();
    }
}

/// What the processes have to say to the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The app was reaped; whether others are there.
    Exited(Status),
    /// Nobody is left.
    Gone,
}

/// What an app does about a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Writes last words for a while and exits.
    Catches,
    /// Dies at once.
    Dies,
    /// Goes on.
    Ignores,
}

/// What a run of the app does.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) life: usize,
    /// Chunks that it writes before it ends by itself; None: it goes on until it is stopped.
    pub(super) chunks: Option<u32>,
    /// The longest pause between two.
    pub(super) pause: u64,
    pub(super) lines: u32,
    pub(super) manner: Manner,
    pub(super) code: u8,
    /// A descendant that outlives it.
    pub(super) child: Option<Manner>,
    /// A stranger who holds the pipes for good.
    pub(super) stranger: bool,
    pub(super) long: usize,
    pub(super) seed: u64,
}

/// The processes of one run, and the pipes that they write to.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) pipes: [Pipe; 2],
    truth: Rc<RefCell<Truth>>,
    news: RefCell<VecDeque<News>>,
    rings: Rc<Notify>,
    members: RefCell<Vec<Rc<Member>>>,
    numbers: [Cell<u64>; 2],
    hushed: Cell<bool>,
}

/// One process.
#[derive(Debug)]
struct Member {
    is_app: bool,
    manner: Manner,
    told: Cell<bool>,
    killed: Cell<bool>,
    alive: Cell<bool>,
    /// Signals that it got after its end, which must be none.
    signalled: Notify,
    stops: Cell<u32>,
}

impl Member {
    fn is_disturbed(&self) -> bool {
        self.killed.get() || self.told.get() && self.manner != Manner::Ignores
    }

    /// Sleeps, unless a signal ends that.
    async fn rest(&self, millis: u64) {
        if !self.is_disturbed() {
            tokio::select! {
                biased;
                () = tokio::time::sleep(Duration::from_millis(millis)) => {}
                () = self.signalled.notified() => {}
            }
        }
    }
}

impl Family {
    pub(super) fn new(truth: Rc<RefCell<Truth>>, rings: Rc<Notify>) -> Rc<Self> {
        Rc::new(Self {
            pipes: Default::default(),
            truth,
            news: RefCell::default(),
            rings,
            members: RefCell::default(),
            numbers: Default::default(),
            hushed: Cell::default(),
        })
    }

    /// Starts the app.
    pub(super) fn start(self: &Rc<Self>, script: Script) {
        self.pipes.iter().for_each(Pipe::open);
        if script.stranger {
            self.pipes.iter().for_each(Pipe::open);
        }
        let app = self.member(true, script.manner);
        if let Some(manner) = script.child {
            self.pipes.iter().for_each(Pipe::open);
            let child = self.member(false, manner);
            let (family, script) = (Rc::clone(self), script.clone());
            super::spawn(async move { family.descend(child, script).await });
        }
        let family = Rc::clone(self);
        super::spawn(async move { family.run(app, script).await });
    }

    fn member(&self, is_app: bool, manner: Manner) -> Rc<Member> {
        let member = Rc::new(Member {
            is_app,
            manner,
            told: Cell::new(false),
            killed: Cell::new(false),
            alive: Cell::new(true),
            signalled: Notify::new(),
            stops: Cell::new(0),
        });
        self.members.borrow_mut().push(Rc::clone(&member));
        member
    }

    pub(super) fn take_news(&self) -> Option<News> {
        self.news.borrow_mut().pop_front()
    }

    pub(super) fn app_lives(&self) -> bool {
        self.members.borrow().iter().any(|member| member.is_app && member.alive.get())
    }

    pub(super) fn others(&self) -> usize {
        self.members.borrow().iter().filter(|member| !member.is_app && member.alive.get()).count()
    }

    pub(super) fn nobody(&self) -> bool {
        self.members.borrow().iter().all(|member| !member.alive.get())
    }

    /// A stop for the app alone; it must live.
    pub(super) fn stop_app(&self) {
        let members = self.members.borrow();
        let app = members.iter().find(|member| member.is_app && member.alive.get());
        let app = app.expect("a signal was relayed after the app's reaping");
        app.told.set(true);
        app.stops.set(app.stops.get() + 1);
        app.signalled.notify_one();
    }

    /// A stop for everybody else (or everybody) who was not told.
    pub(super) fn stop_others(&self) {
        for member in self.members.borrow().iter().filter(|member| member.alive.get() && !member.told.get()) {
            member.told.set(true);
            member.signalled.notify_one();
        }
    }

    pub(super) fn kill(&self) -> usize {
        let members = self.members.borrow();
        let alive = members.iter().filter(|member| member.alive.get() && !member.killed.get());
        alive
            .map(|member| {
                member.killed.set(true);
                member.signalled.notify_one();
            })
            .count()
    }

    async fn run(self: Rc<Self>, member: Rc<Member>, script: Script) {
        let mut rng = StdRng::seed_from_u64(script.seed);
        let mut left = script.chunks;
        while left != Some(0) && !member.is_disturbed() {
            self.write(&member, &script, &mut rng).await;
            member.rest(rng.random_range(0..=script.pause)).await;
            left = left.map(|left| left - 1);
        }
        if member.told.get() && !member.killed.get() && member.manner == Manner::Catches {
            for _ in 0..rng.random_range(0..4) {
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..600))).await;
                if member.killed.get() {
                    break;
                }
                self.write(&member, &script, &mut rng).await;
            }
            if rng.random() && !member.killed.get() {
                self.put(&member, 1, b"the last bytes, without a newline").await;
            }
        }
        let status = if member.killed.get() {
            Status::Signaled(Signal::KILL)
        } else if member.told.get() && member.manner == Manner::Dies {
            Status::Signaled(Signal::TERM)
        } else {
            Status::Exited(script.code)
        };
        self.ends(&member, News::Exited(status));
    }

    /// A descendant writes now and then, and for some time after the app's end.
    async fn descend(self: Rc<Self>, member: Rc<Member>, script: Script) {
        let mut rng = StdRng::seed_from_u64(script.seed ^ 77);
        let mut after = rng.random_range(0..5_u32);
        while after > 0 && !member.is_disturbed() {
            member.rest(rng.random_range(100..2000)).await;
            if !member.killed.get() {
                self.write(&member, &script, &mut rng).await;
            }
            after -= u32::from(!self.app_lives());
        }
        if member.told.get() && !member.killed.get() && member.manner == Manner::Catches {
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..800))).await;
            if !member.killed.get() {
                self.write(&member, &script, &mut rng).await;
            }
        }
        self.ends(&member, News::Gone);
    }

    fn ends(&self, member: &Member, news: News) {
        member.alive.set(false);
        self.pipes.iter().for_each(Pipe::close);
        if let News::Exited(_) = news {
            self.news.borrow_mut().push_back(news);
        } else if self.nobody() {
            self.news.borrow_mut().push_back(News::Gone);
        }
        self.rings.notify_one();
    }

    /// Nobody writes any more.
    pub(super) fn hush(&self) {
        self.hushed.set(true);
    }

    /// A few lines to one of the streams, in pieces that know nothing of lines.
    async fn write(&self, member: &Member, script: &Script, rng: &mut StdRng) {
        if self.hushed.get() && !member.told.get() {
            return;
        }
        let stream = usize::from(rng.random_bool(0.3));
        let mut bytes = Vec::new();
        for _ in 0..rng.random_range(1..=script.lines) {
            let number = self.numbers[stream].get() + 1;
            self.numbers[stream].set(number);
            bytes.extend(text::line(script.life, stream, number, script.long, rng));
            bytes.push(b'\n');
        }
        if rng.random_bool(0.2) {
            let middle = rng.random_range(0..=bytes.len());
            self.put(member, stream, &bytes[..middle]).await;
            member.rest(rng.random_range(0..50)).await;
            // Who is told in the midst of a line ends it; who is killed does not.
            if !member.killed.get() {
                self.put(member, stream, &bytes[middle..]).await;
            }
        } else {
            self.put(member, stream, &bytes).await;
        }
    }

    /// `write(2)`: waits while the pipe is full, unless a KILL ends that.
    async fn put(&self, member: &Member, stream: usize, mut bytes: &[u8]) {
        let pipe = &self.pipes[stream];
        while !bytes.is_empty() && !member.killed.get() {
            let room = CAPACITY - pipe.pending();
            if room == 0 {
                tokio::select! {
                    biased;
                    () = pipe.changed.notified() => {}
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                }
                continue;
            }
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            pipe.bytes.borrow_mut().extend(now);
            self.truth.borrow_mut().now().wrote(stream, now);
            pipe.changed.notify_waiters();
            bytes = rest;
        }
    }
}
