//! The inbox: a drain's queue and its orders under one lock, between the readers, the supervisor and the drain's
//! thread.
//!
//! One lock a batch, never one a line; nobody holds it across a wait, an encoding or a system call, so readers are
//! never delayed by a drain. The drain's thread says, before it waits, how much must be there for a push to wake it
//! (`wake_at`): a drain that is busy, backing off or gathering is not woken by every push.

pub(crate) use super::gate::NEVER;

use super::{
    gate::{Bell, Gate, Gated},
    queue::{Low, Queue},
};
use crate::{
    clock,
    config::WhenFull,
    ledger::Counts,
    line::Batch,
    spool::{index::Index, load::Loader, recovery::Range},
    sync::MutexGuard,
    transport::{Progress, Pulse},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How long before the end a drain looks at its transport for the last time.
const LAST_CALL: Duration = Duration::from_millis(20);

/// What the supervisor asked for, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// A stop was asked for.
    pub(crate) hurried: bool,
    /// No more batches will come.
    pub(crate) closed: bool,
    /// Publishers wait no longer, whatever `--when-full` says.
    pub(crate) unblocked: bool,
    /// The queue was given room for what is in the pipes at an app's end.
    pub(crate) roomy: bool,
    /// When the last byte must be out.
    pub(crate) end_at: Option<Instant>,
    /// Grows with each order, so that a wait can tell that there is a new one.
    pub(crate) turn: u32,
}

impl Orders {
    /// No back-off lasts, and nothing is gathered for.
    pub(crate) fn urgent(&self) -> bool {
        self.hurried || self.closed
    }

    /// When a closed drain gives up, which is early enough to tell what it knows before the books are closed. An end
    /// that was set while the app lives is only the stop's: it may live past it.
    pub(crate) fn last_call(&self) -> Option<Instant> {
        self.end_at.filter(|_| self.closed).map(|end| end.checked_sub(LAST_CALL).unwrap_or(end))
    }

    /// The time for trying is over.
    pub(crate) fn over(&self, now: tokio::time::Instant) -> bool {
        self.last_call().is_some_and(|end| now.into_std() >= end)
    }
}

/// Why a send is broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The time for trying is over.
    Over,
    /// There is time for one more try.
    Halfway,
}

/// What the lock protects.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) queue: Queue,
    pub(crate) orders: Orders,
    /// What the drain last complained of, if it has not recovered.
    pub(crate) trouble: Option<String>,
    /// Since when, and whether a person has to mend it.
    pub(crate) trouble_since: Option<Instant>,
    pub(crate) held: bool,
    /// When anything was settled or went out last, or the first line came after a time without any.
    moved_at: Instant,
    /// How far the transport is, from within a send, and how much of that is noticed.
    pub(crate) pulse: Pulse,
    furthest: u64,
    /// When the drain was closed, and when it had nothing more to do.
    pub(crate) closed_at: Option<Instant>,
    pub(crate) done_at: Option<Instant>,
    /// Reads what waits in the spool; the drain's thread takes it when there is something to read.
    pub(crate) loader: Option<Loader>,
}

impl State {
    /// A publisher of so many bytes need not wait.
    fn admits(&mut self, bytes: usize) -> bool {
        self.orders.closed || self.orders.unblocked || self.queue.makes_room(bytes)
    }

    /// For how long nothing has moved, though there are lines and nothing failed. Bytes that went out count from when they
    /// are noticed, which is here.
    pub(crate) fn unmoved(&mut self, now: Instant) -> Option<Duration> {
        let furthest = self.pulse.furthest();
        if std::mem::replace(&mut self.furthest, furthest) != furthest {
            self.moved_at = now;
        }
        let waits = self.trouble_since.is_none() && self.queue.counts().pending() > 0;
        waits.then(|| now.saturating_duration_since(self.moved_at))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbox(Gate<State, Notify>);

impl Bell for Notify {
    fn ring(&self) {
        self.notify_one();
    }
}

impl Inbox {
    pub(crate) fn new(policy: WhenFull, memory: usize) -> Self {
        let state = State {
            queue: Queue::new(policy, memory),
            orders: Orders::default(),
            trouble: None,
            trouble_since: None,
            held: false,
            moved_at: now(),
            pulse: Pulse::default(),
            furthest: 0,
            closed_at: None,
            done_at: None,
            loader: None,
        };
        Self(Gate::new(state, Notify::new()))
    }

    /// The queue and the rest.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Gated<State>> {
        self.0.lock()
    }

    /// A reader has a batch.
    pub(crate) fn push(&self, batch: &Arc<Batch>) {
        self.0.push(|state| {
            if state.queue.is_empty() {
                state.moved_at = now();
            }
            state.queue.push(batch);
            state.queue.ready()
        });
    }

    /// Waits until the queue has room for `bytes`, the drain is closed or dead, or the end that was set is over.
    pub(crate) fn wait_for_room(&self, bytes: usize) {
        let left = |state: &State| state.orders.end_at.map(|end| end.saturating_duration_since(clock::now()));
        self.0.wait(|state| state.admits(bytes), left);
    }

    /// Gives an order, and wakes whoever waits for one.
    pub(crate) fn order(&self, change: impl FnOnce(&mut State)) {
        self.0.order(|state| {
            change(state);
            state.orders.turn = state.orders.turn.wrapping_add(1);
        });
    }

    /// Books progress, and lets blocked publishers go on. Returns how many units it settled.
    pub(crate) fn progress(&self, progress: Progress) -> u64 {
        let mut state = self.lock();
        let settled = state.queue.progress(progress);
        if settled > 0 {
            state.moved_at = now();
        }
        self.0.let_in(state);
        settled
    }

    /// Changes the queue in a way that may make room.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Queue) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state.queue);
        self.0.let_in(state);
        result
    }

    /// The live accounts.
    pub(crate) fn counts(&self) -> Counts {
        *self.lock().queue.counts()
    }

    /// Sets how much must wait for a push to wake the drain; called with the lock, before [`Inbox::woken`].
    pub(crate) fn arm(state: &mut Gated<State>, wake_at: usize) {
        state.arm(wake_at);
    }

    /// Waits for a push that passes the mark, or an order. May return early; the caller looks again. Cancel-safe.
    pub(crate) async fn woken(&self) {
        self.0.bell().notified().await;
    }

    /// Pending until a send should be broken off: the time is over, or, if it `may_repeat` and was under way when the
    /// stop came, half of the time that the stop left is. A request that hangs must not take all of it. Cancel-safe; may
    /// use up a call to [`Inbox::woken`].
    pub(crate) async fn cut(&self, may_repeat: bool) -> Cut {
        let may_repeat = may_repeat && !self.lock().orders.urgent();
        let mut stopped = None;
        loop {
            let orders = self.lock().orders;
            let now = tokio::time::Instant::now();
            let over = orders.last_call().map(|end| (tokio::time::Instant::from_std(end), Cut::Over));
            let half = orders.end_at.filter(|_| may_repeat && orders.urgent()).map(|end| {
                let since = *stopped.get_or_insert(now);
                let left = tokio::time::Instant::from_std(end).saturating_duration_since(since);
                (since + left / 2, Cut::Halfway)
            });
            match over.into_iter().chain(half).min_by_key(|&(at, _)| at) {
                None => self.woken().await,
                Some((at, cut)) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(at) => return cut,
                    () = self.woken() => {}
                },
            }
        }
    }

    /// Pending until the time for trying is over. Cancel-safe; may use up a call to [`Inbox::woken`], so the caller
    /// looks at the queue before it waits.
    pub(crate) async fn over(&self) {
        loop {
            let last_call = self.lock().orders.last_call();
            match last_call.map(tokio::time::Instant::from_std) {
                None => self.woken().await,
                Some(end) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(end) => return,
                    () = self.woken() => {}
                },
            }
        }
    }

    /// The spool has more on its disk: whoever waits for memory looks whether that can leave it.
    pub(crate) fn appended(&self) {
        self.0.let_in(self.lock());
    }

    /// The spool deleted a segment to make room.
    pub(crate) fn evicted(&self, segment: u64) {
        self.change(|queue| queue.evict(segment, clock::stamp()));
    }

    /// A segment of the spool, or all of it, is gone: see [`Queue::vanish`].
    pub(crate) fn vanished(&self, segment: Option<u64>) -> u64 {
        self.change(|queue| queue.vanish(segment, clock::stamp()))
    }

    /// How far the drain has come.
    pub(crate) fn low(&self) -> Low {
        self.lock().queue.low()
    }

    /// There is a spool: see [`Queue::attach`]. `loader` reads it for the drain's thread.
    pub(crate) fn attach(&self, index: &Arc<Index>, grace: usize, adopted: Vec<Range>, loader: Loader) {
        self.order(|state| {
            state.queue.attach(Arc::clone(index), grace, adopted);
            state.loader = Some(loader);
        });
    }

    /// See [`Queue::held_between`].
    pub(crate) fn held_between(&self, from: u64, to: u64) -> Vec<Arc<Batch>> {
        self.lock().queue.held_between(from, to)
    }
}

/// The clock of the drain's runtime, which tests may pause; elsewhere the one that everybody reads.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
impl Inbox {
    /// [`Self::wait_for_room`] would return at once.
    pub(crate) fn admits(&self, bytes: usize) -> bool {
        let mut state = self.lock();
        state.admits(bytes) || state.orders.end_at.is_some_and(|end| clock::now() >= end)
    }
}
