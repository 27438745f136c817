//! Drains: each a thread with its own queue, runtime, transport and accounts, isolated from all others.
//!
//! ```text
//! reader ─▶ inbox (queue + accounts under one lock) ─▶ pack + format ─▶ transport ─▶ progress ─▶ accounts
//! ```
//!
//! - [`sealed`], [`queue`]: what is where, and the accounts; pure.
//! - [`inbox`]: the same behind a lock, with the waking.
//! - [`pack`], [`backoff`], [`health`]: how much, when again, what to say; pure.
//! - [`worker`]: the loop.
//!
//! A panic in a drain's thread is caught at its root: the drain is dead, its lines are counted, nothing else stops.

mod backoff;
mod health;
mod inbox;
mod pack;
mod queue;
#[cfg(test)]
mod queue_model;
mod sealed;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
mod worker;

use self::{inbox::Inbox, pack::Limits, worker::Worker};
use crate::{
    clock,
    config::{Config, DrainSpec, Target},
    event::{Bell, Event},
    format::{Encoder, Origin},
    ledger::{Counts, DrainReport},
    line::{Batch, Stream},
    say::say,
    transport::{Transport, file, http, tcp, udp},
};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// All drains of a run, as the readers and the supervisor see them. Cheap to clone; every call returns at once, except
/// [`Drains::wait_for_room`].
#[derive(Clone, Debug)]
pub struct Drains {
    drains: Arc<[Drain]>,
}

/// One drain, seen from outside its thread.
#[derive(Debug)]
struct Drain {
    name: String,
    url: String,
    stream: Option<Stream>,
    inbox: Arc<Inbox>,
}

impl Drains {
    /// Starts one thread a drain. `bell` gets one `DrainDone` from each: after [`Drains::close`], or when it dies. The
    /// memory is shared out evenly.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(specs: &[DrainSpec], config: &Config, bell: &Bell) -> io::Result<Self> {
        let memory = config.memory / specs.len().max(1);
        let mut drains = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let inbox = Arc::new(Inbox::new(config.when_full, memory));
            let thread = DrainThread {
                index,
                spec: spec.clone(),
                origin: config.origin.clone(),
                seed: config.seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                limits: Limits::new(spec, memory),
                inbox: Arc::clone(&inbox),
                bell: bell.clone(),
            };
            thread::Builder::new().name(format!("drain-{index}")).spawn(move || thread.run())?;
            drains.push(Drain { name: spec.name.clone(), url: spec.url.clone(), stream: spec.stream, inbox });
        }
        Ok(Self { drains: drains.into() })
    }

    /// Hands a batch to every drain that wants its stream; full queues follow `--when-full`.
    pub fn publish(&self, batch: &Arc<Batch>) {
        for drain in self.drains.iter().filter(|drain| drain.wants(batch.stream())) {
            drain.inbox.push(batch);
        }
    }

    /// With `--when-full block`: waits until every queue has room for `bytes`, or the drains are hurried past waiting
    /// ([`Drains::close`], a dead drain, or the end that [`Drains::hurry`] set). Else returns at once.
    pub fn wait_for_room(&self, bytes: usize) {
        for drain in self.drains.iter() {
            drain.inbox.wait_for_room(bytes);
        }
    }

    /// A stop was asked for: leave every back-off, linger 0, retry at least every second until `end_at`.
    pub fn hurry(&self, end_at: Instant) {
        for drain in self.drains.iter() {
            drain.inbox.order(|state| {
                state.orders.hurried = true;
                state.orders.end_at = Some(end_at);
            });
        }
    }

    /// No more batches will come: send all, finish the transport, then ring `DrainDone`. Blocked publishers return. A
    /// drain gives up a moment before `end_at`.
    pub fn close(&self, end_at: Instant) {
        let now = clock::now();
        for drain in self.drains.iter() {
            drain.inbox.order(|state| {
                state.orders.closed = true;
                state.orders.end_at = Some(end_at);
                state.closed_at.get_or_insert(now);
            });
        }
    }

    /// Moves `end_at` of an earlier `hurry` or `close` (a stop during the flush shortens it).
    pub fn set_end(&self, end_at: Instant) {
        for drain in self.drains.iter() {
            drain.inbox.order(|state| state.orders.end_at = Some(end_at));
        }
    }

    /// Units settled over all drains: grows while there is progress.
    pub fn settled(&self) -> u64 {
        self.drains.iter().map(|drain| drain.inbox.counts().settled()).sum()
    }

    /// Live accounts: (name, counts).
    pub fn counts(&self) -> Vec<(String, Counts)> {
        self.drains.iter().map(|drain| (drain.name.clone(), drain.inbox.counts())).collect()
    }

    /// Freezes every account: what is pending becomes lost(deadline), later news is ignored. Asserts the identity.
    /// Returns the report; waits for no thread.
    pub fn close_books(&self) -> Vec<DrainReport> {
        let now = clock::now();
        self.drains.iter().map(|drain| drain.close_books(now)).collect()
    }
}

impl Drain {
    fn wants(&self, stream: Stream) -> bool {
        self.stream.is_none_or(|wanted| wanted == stream)
    }

    fn close_books(&self, now: Instant) -> DrainReport {
        let mut state = self.inbox.lock();
        let balanced = state.queue.close_books();
        let end = state.done_at.unwrap_or(now);
        let report = DrainReport {
            name: self.name.clone(),
            url: self.url.clone(),
            counts: *state.queue.counts(),
            flush: state.closed_at.map_or(Duration::ZERO, |from| end.saturating_duration_since(from)),
            trouble: state.trouble.clone(),
        };
        drop(state);
        self.inbox.order(|_| {});
        debug_assert!(balanced, "the accounts of drain {} do not balance: {report:?}", self.name);
        if !balanced {
            // Never a panic here: this may be PID 1.
            say(format_args!("drain {}: the accounts do not balance; this is a bug in lastword", self.name));
        }
        report
    }
}

/// What the thread of a drain starts with.
struct DrainThread {
    index: usize,
    spec: DrainSpec,
    origin: Origin,
    seed: u64,
    limits: Limits,
    inbox: Arc<Inbox>,
    bell: Bell,
}

impl DrainThread {
    /// The thread's life.
    fn run(self) {
        let limits = self.limits;
        match self.spec.target.clone() {
            Target::Http(target) => self.live(move |encoder| http::Http::new(target, encoder.content_type())),
            Target::Tcp(target) => self.live(move |_| tcp::Tcp::new(&target, limits.in_flight as u64)),
            Target::Udp(peer) => self.live(move |_| udp::Udp::new(peer)),
            Target::File(path) => self.live(move |_| file::File::new(path)),
        }
    }

    /// Runs the loop to its end, and tells the supervisor. A panic kills the drain, not the process.
    fn live<T: Transport>(&self, transport: impl FnOnce(&Encoder) -> T) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.drain(transport)));
        if !matches!(ended, Ok(Ok(()))) {
            let reason = match ended {
                Ok(Err(error)) => error.to_string(),
                _ => "died of a bug in lastword".to_owned(),
            };
            say(format_args!("drain {}: {reason}; its lines are lost from here on", self.spec.name));
            self.inbox.order(|state| {
                state.queue.die();
                state.trouble = Some(reason);
            });
        }
        self.inbox.lock().done_at = Some(clock::now());
        self.bell.ring(Event::DrainDone(self.index));
    }

    fn drain<T: Transport>(&self, transport: impl FnOnce(&Encoder) -> T) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let encoder = Encoder::new(self.spec.format, self.origin.clone());
        let key = format!("{}-{}", self.origin.run, self.index);
        let speak = |line: &str| say(format_args!("drain {}: {line}", self.spec.name));
        let transport = transport(&encoder);
        let worker = Worker::new(&self.inbox, transport, encoder, self.limits, self.seed, key, &speak);
        runtime.block_on(worker.run());
        // A name lookup that hangs on a blocking thread is not waited for.
        runtime.shutdown_background();
        Ok(())
    }
}
