//! A byte stream: the two kernels of a TCP connection and the application at its far end, in memory. Above it, lastword's
//! own transport: window, replay, end of file.

use super::{
    receiver::Receiver,
    weather::{Fault, Weather},
};
use crate::{
    config::HostPort,
    transport::{
        Failure, Verdict,
        tcp::{
            pipe::{Counters, Ending},
            wire::{Dial, Wire},
        },
    },
};
use rand::RngExt;
use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, ErrorKind},
    rc::Rc,
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// The kernel gives up on a peer that takes nothing for so long (`TCP_USER_TIMEOUT`).
const USER_TIMEOUT: Duration = Duration::from_secs(15);
/// What was acknowledged so long ago has left the replay window, though it may be unread.
const AGE: Duration = Duration::from_secs(5);

const FITS: &[Fault] = &[
    Fault::ResetBefore,
    Fault::ResetAfter,
    Fault::BlackHole,
    Fault::HalfOpen,
    Fault::Slow,
    Fault::Stall,
    Fault::Cut,
    Fault::Close,
];

/// Makes connections.
#[derive(Debug)]
pub(super) struct Dialer {
    receiver: Rc<RefCell<Receiver>>,
    weather: Rc<RefCell<Weather>>,
    peer: HostPort,
    tls: bool,
    /// Bytes of our kernel's buffer, and of the peer's.
    buffers: (usize, usize),
}

impl Dialer {
    pub(super) fn new(
        receiver: &Rc<RefCell<Receiver>>,
        weather: &Rc<RefCell<Weather>>,
        tls: bool,
        buffers: (usize, usize),
    ) -> Self {
        let peer = HostPort { host: "peer".into(), port: 1 };
        let (receiver, weather) = (Rc::clone(receiver), Rc::clone(weather));
        Self { receiver, weather, peer, tls, buffers }
    }
}

impl Dial for Dialer {
    type Wire = Line;

    async fn connect(&mut self, base: u64) -> Result<Line, Failure> {
        let fault = self.weather.borrow_mut().look(&[Fault::Refuse, Fault::BlackHole]);
        let time = match fault {
            Some(Fault::BlackHole) => Duration::from_secs(10),
            _ => Duration::from_millis(self.weather.borrow_mut().rng.random_range(0..4)),
        };
        tokio::time::sleep(time).await;
        if fault.is_some() {
            return Err(Failure {
                verdict: Verdict::Retry { resend_from: base, after: None },
                reason: "no way".into(),
            });
        }
        let shared = Rc::new(Shared {
            state: RefCell::new(State {
                receiver: Rc::clone(&self.receiver),
                weather: Rc::clone(&self.weather),
                tls: self.tls,
                ours: VecDeque::new(),
                ours_size: self.buffers.0,
                acked: 0,
                theirs: Vec::new(),
                theirs_size: self.buffers.1,
                ages: VecDeque::new(),
                torn: Vec::new(),
                our_end: false,
                their_end: None,
                broken: None,
                gone: false,
                host_gone: false,
                moved: Instant::now(),
            }),
            client: Notify::new(),
            peer: Notify::new(),
        });
        super::spawn(peer(Rc::clone(&shared)));
        Ok(Line(shared))
    }

    fn failure(&mut self, ending: &Ending, resend_from: u64) -> Failure {
        Failure { verdict: Verdict::Retry { resend_from, after: None }, reason: format!("{ending:?}") }
    }

    fn peer(&self) -> &HostPort {
        &self.peer
    }
}

/// One connection, from our side.
#[derive(Debug)]
pub(super) struct Line(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    state: RefCell<State>,
    client: Notify,
    peer: Notify,
}

#[derive(Debug)]
struct State {
    receiver: Rc<RefCell<Receiver>>,
    weather: Rc<RefCell<Weather>>,
    tls: bool,
    /// In our kernel: written, not acknowledged.
    ours: VecDeque<u8>,
    ours_size: usize,
    acked: u64,
    /// In the peer's kernel: acknowledged, not read.
    theirs: Vec<u8>,
    theirs_size: usize,
    /// When how many bytes came into `theirs`.
    ages: VecDeque<(usize, Instant)>,
    /// In the application: read, of a line without an end.
    torn: Vec<u8>,
    our_end: bool,
    /// The peer's end of file; true if it was an orderly one.
    their_end: Option<bool>,
    broken: Option<ErrorKind>,
    /// We closed the connection.
    gone: bool,
    /// The peer's machine is no more, and nobody tells us.
    host_gone: bool,
    /// When our kernel last got rid of anything, or had nothing to get rid of.
    moved: Instant,
}

impl State {
    fn is_over(&self) -> bool {
        self.gone || self.broken.is_some() || self.their_end.is_some()
    }

    fn idle(&self) -> bool {
        self.ours.is_empty() && !self.our_end && (self.theirs.is_empty() || self.host_gone)
    }

    /// Our kernel's bytes go over, as far as there is room.
    fn carry(&mut self, most: usize) {
        let count = self.ours.len().min(self.theirs_size.saturating_sub(self.theirs.len())).min(most);
        if count > 0 {
            self.theirs.extend(self.ours.drain(..count));
            self.acked += count as u64;
            self.ages.push_back((count, Instant::now()));
        }
        if count > 0 || self.ours.is_empty() {
            self.moved = Instant::now();
        }
    }

    /// The application reads.
    fn read(&mut self, most: usize) {
        let count = self.theirs.len().min(most);
        self.torn.extend(self.theirs.drain(..count));
        let mut left = count;
        while let Some((bytes, _)) = self.ages.front_mut().filter(|_| left > 0) {
            let part = left.min(*bytes);
            (*bytes, left) = (*bytes - part, left - part);
            if *bytes == 0 {
                self.ages.pop_front();
            }
        }
        let read = self.receiver.borrow_mut().read(&self.torn);
        self.torn.drain(..read);
    }

    /// The application dies with what it has not read. What of it is too old for the replay window is the documented gap.
    fn dies(&mut self) {
        let now = Instant::now();
        let old: usize =
            self.ages.iter().filter(|(_, at)| now.duration_since(*at) + AGE / 50 >= AGE).map(|it| it.0).sum();
        if old > 0 {
            let lost = [&self.torn[..], &self.theirs[..old]].concat();
            self.receiver.borrow_mut().forgive(&lost);
            self.weather.borrow().seen.borrow_mut().hit("the documented gap of plain TCP");
        }
        self.theirs.clear();
        self.ages.clear();
        self.torn.clear();
        self.receiver.borrow_mut().may_repeat();
    }

    /// One step of the far end, which has something to do.
    fn step(&mut self) {
        let fault = self.weather.borrow_mut().look(FITS);
        if let Some(fault) = fault {
            super::trace(|| format!("{}: {fault:?}", self.receiver.borrow().name));
        }
        let random = |state: &Self, most: usize| state.weather.borrow_mut().rng.random_range(0..=most);
        if self.host_gone && self.weather.borrow().is_quiet() {
            // It is there again, and knows nothing of the connection.
            self.broken = Some(ErrorKind::ConnectionReset);
            return;
        }
        if self.host_gone {
            return self.give_up();
        }
        match fault {
            Some(Fault::ResetBefore) => {
                self.dies();
                self.broken = Some(ErrorKind::ConnectionReset);
            }
            Some(Fault::ResetAfter) => {
                let some = random(self, self.ours.len());
                self.carry(some);
                let some = random(self, self.theirs.len());
                self.read(some);
                self.dies();
                self.broken = Some(ErrorKind::ConnectionReset);
            }
            Some(Fault::Cut) => {
                self.carry(usize::MAX);
                let some = random(self, self.theirs.len());
                self.read(some);
                if self.tls && self.our_end {
                    // All is acknowledged, and nothing more will come: that is what *accepted* means at an exit.
                    self.ages.iter_mut().for_each(|(_, at)| *at -= AGE);
                }
                self.dies();
                if self.tls {
                    self.their_end = Some(false);
                } else {
                    self.broken = Some(ErrorKind::ConnectionReset);
                }
            }
            Some(Fault::HalfOpen) => {
                let some = random(self, self.ours.len());
                self.carry(some);
                // A machine that stops: what its kernel has, its application never reads, and nobody says so.
                self.ages.iter_mut().for_each(|(_, at)| *at -= AGE);
                self.dies();
                self.host_gone = true;
            }
            Some(Fault::Close) => {
                self.read(usize::MAX);
                self.receiver.borrow_mut().may_repeat();
                self.torn.clear();
                self.their_end = Some(true);
            }
            Some(Fault::BlackHole) => self.give_up(),
            Some(Fault::Stall) => {
                self.carry(usize::MAX);
                self.give_up();
            }
            Some(Fault::Slow) => {
                self.carry(usize::MAX);
                self.read(1);
                self.give_up();
            }
            _ => {
                self.carry(usize::MAX);
                let most = self.theirs.len();
                let count = if random(self, 3) == 0 { random(self, most) } else { most };
                self.read(count);
                if self.our_end && self.ours.is_empty() && self.theirs.is_empty() {
                    self.their_end = Some(true);
                }
            }
        }
    }

    /// Nothing came of it for a while: does our kernel's patience end?
    fn give_up(&mut self) {
        if self.ours.is_empty() && !self.our_end {
            self.moved = Instant::now();
        }
        if self.moved.elapsed() >= USER_TIMEOUT {
            self.dies();
            self.broken = Some(ErrorKind::TimedOut);
        }
    }
}

/// The far end.
async fn peer(shared: Rc<Shared>) {
    loop {
        if shared.state.borrow().is_over() {
            return;
        }
        if shared.state.borrow().idle() {
            shared.peer.notified().await;
            continue;
        }
        let slow = {
            let state = shared.state.borrow();
            let weather = state.weather.borrow();
            !weather.is_quiet() && (state.host_gone || state.moved.elapsed() > Duration::from_millis(100))
        };
        let most = if slow { 1000 } else { 6 };
        let pause = shared.state.borrow().weather.borrow_mut().rng.random_range(most / 2..=most);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if shared.state.borrow().is_over() {
            return;
        }
        shared.state.borrow_mut().step();
        shared.client.notify_waiters();
    }
}

impl Drop for Line {
    /// The kernel goes on sending what it has, and the application reads on; unless the peer is gone, or sends a reset.
    fn drop(&mut self) {
        let mut state = self.0.state.borrow_mut();
        if !state.is_over() && !state.host_gone && !std::thread::panicking() {
            let some = state.ours.len();
            let reached = if state.weather.borrow_mut().rng.random() { some } else { some / 2 };
            state.read(usize::MAX);
            state.carry(reached);
            state.read(usize::MAX);
        }
        state.receiver.borrow_mut().may_repeat();
        state.gone = true;
        drop(state);
        self.0.peer.notify_one();
    }
}

impl Line {
    fn end(&self) -> Result<(), Ending> {
        let state = self.0.state.borrow();
        match (state.broken, state.their_end) {
            (Some(kind), _) => Err(Ending::Broken(kind.into())),
            (None, Some(true)) => Err(Ending::Closed),
            (None, Some(false)) => Err(Ending::Truncated),
            (None, None) => Ok(()),
        }
    }
}

impl Wire for Line {
    fn is_counted(&self) -> bool {
        true
    }

    fn may_be_refused(&self) -> bool {
        false
    }

    fn said_goodbye(&self) -> bool {
        let state = self.0.state.borrow();
        state.tls && state.their_end == Some(true)
    }

    fn is_tls(&self) -> bool {
        self.0.state.borrow().tls
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state.borrow_mut();
        if let Some(kind) = state.broken {
            return Err(kind.into());
        }
        if state.receiver.borrow().deaf {
            return Err(ErrorKind::WouldBlock.into());
        }
        let room = state.ours_size.saturating_sub(state.ours.len()).min(bytes.len());
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        if state.ours.is_empty() {
            state.moved = Instant::now();
        }
        state.ours.extend(&bytes[..room]);
        drop(state);
        self.0.peer.notify_one();
        Ok(room)
    }

    fn try_flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn say_goodbye(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn half_close(&self) -> io::Result<()> {
        self.0.state.borrow_mut().our_end = true;
        self.0.peer.notify_one();
        Ok(())
    }

    fn counters(&mut self) -> Option<Counters> {
        let state = self.0.state.borrow();
        let window = u32::try_from(state.theirs_size.saturating_sub(state.theirs.len())).ok();
        Some(Counters { acked: state.acked, window })
    }

    fn all_acked(&self) -> bool {
        self.0.state.borrow().ours.is_empty()
    }

    fn glance(&mut self) -> Result<(), Ending> {
        self.end()
    }

    fn input(&mut self) -> Result<(), Ending> {
        self.end()
    }

    async fn readable(&self) -> Result<(), Ending> {
        while self.end().is_ok() {
            self.0.client.notified().await;
        }
        Ok(())
    }

    async fn ready(&self) -> Result<bool, Ending> {
        let has_room = || {
            let state = self.0.state.borrow();
            state.ours.len() < state.ours_size
        };
        while self.end().is_ok() {
            if has_room() {
                return Ok(false);
            }
            self.0.client.notified().await;
        }
        Ok(true)
    }

    async fn see_end(&mut self) -> Ending {
        self.end().err().unwrap_or(Ending::Closed)
    }
}
