//! Drains: each a thread with its own queue, runtime, transport and accounts, isolated from all others.
//!
//! ```text
//! reader ─▶ inbox (queue + accounts under one lock) ─▶ pack + format ─▶ transport ─▶ progress ─▶ accounts
//! ```
//!
//! - [`sealed`], [`queue`]: what is where, and the accounts; pure.
//! - [`inbox`]: the same behind a lock; [`gate`]: who waits for room, or for work.
//! - [`pack`], [`backoff`], [`health`]: how much, when again, what to say; pure. [`status`]: how it is doing, for those who ask.
//! - [`worker`]: the loop; [`thread`]: what it runs on. [`books`]: the end; [`fallback`]: where the rest goes then.
//!
//! A panic in a drain's thread is caught at its root: the drain is dead, its lines are counted, nothing else stops.

mod backoff;
#[doc(hidden)]
pub mod bench;
mod books;
mod fallback;
mod gate;
#[cfg(test)]
mod hanging_tests;
mod health;
pub(crate) mod inbox;
#[cfg(test)]
mod inbox_tests;
pub(crate) mod pack;
pub(crate) mod queue;
#[cfg(test)]
mod queue_model;
pub(crate) mod sealed;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod spool_model;
mod status;
#[cfg(test)]
mod tcp_tests;
#[cfg(test)]
pub(crate) mod testing;
mod thread;
pub(crate) mod worker;

pub use status::{Condition, DrainStatus};

use self::{inbox::Inbox, pack::Limits, thread::DrainThread};
use crate::{
    clock,
    config::{Config, DrainSpec, Fallback},
    event::Bell,
    ledger::Counts,
    line::{Batch, Stream},
    report::SpoolReport,
    spool::{open::Plan, thread::Spool},
    sys,
};
use std::{io, sync::Arc, time::Instant};

/// One part in so many of `--memory` is left to the holes that batches of all sizes leave between them.
const HOLES: usize = 8;

/// Room in bytes for what is in the pipes when the app exits: two of them, and what the framer holds.
const RESIDUE: usize = 1 << 20;

/// All drains of a run, as the readers and the supervisor see them. Cheap to clone; every call returns at once, except
/// [`Drains::wait_for_room`].
#[derive(Clone, Debug)]
pub struct Drains {
    drains: Arc<[Drain]>,
    spool: Option<Spool>,
    fallback: Option<Fallback>,
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
    /// If the system has no thread left, or there is no spool and `--spool-required` asks for one.
    pub fn start(specs: &[DrainSpec], config: &Config, bell: &Bell) -> io::Result<Self> {
        let memory = config.memory / HOLES * (HOLES - 1) / specs.len().max(1);
        let inboxes: Vec<_> = specs.iter().map(|_| Arc::new(Inbox::new(config.when_full, memory))).collect();
        let spool = start_spool(specs, config, &inboxes)?;
        let mut drains = Vec::with_capacity(specs.len());
        for (index, (spec, inbox)) in specs.iter().zip(inboxes).enumerate() {
            if config.fallback.is_some() {
                inbox.lock().queue.keep_left();
            }
            let thread = DrainThread {
                index,
                spec: spec.clone(),
                origin: config.origin.clone(),
                seed: config.seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                limits: Limits::new(spec, memory),
                inbox: Arc::clone(&inbox),
                bell: bell.clone(),
            };
            std::thread::Builder::new().name(format!("drain-{index}")).spawn(move || {
                sys::wait_our_turn();
                thread.run();
            })?;
            drains.push(Drain { name: spec.name.clone(), url: spec.url.clone(), stream: spec.stream, inbox });
        }
        Ok(Self { drains: drains.into(), spool, fallback: config.fallback.clone() })
    }

    /// Whether what is not delivered is kept on a disk, as far as is known.
    pub fn have_spool(&self) -> bool {
        self.spool.as_ref().is_some_and(Spool::works)
    }

    /// What became of the spool, if there is to be one.
    pub fn spool_report(&self) -> Option<SpoolReport> {
        self.spool.as_ref().map(Spool::report)
    }

    /// Hands a batch to every drain that wants its stream; full queues follow `--when-full`.
    pub fn publish(&self, batch: &Arc<Batch>) {
        for drain in self.drains.iter().filter(|drain| drain.wants(batch.stream())) {
            drain.inbox.push(batch);
        }
        // The drains have it, so what is on the disk and in no queue is settled.
        if let Some(spool) = &self.spool {
            spool.push(batch);
        }
    }

    /// With `--when-full block`: waits until every queue has room for `bytes`, or the drains are hurried past waiting
    /// ([`Drains::close`], a dead drain, or the end that [`Drains::hurry`] set). Else returns at once.
    pub fn wait_for_room(&self, bytes: usize) {
        for drain in self.drains.iter() {
            drain.inbox.wait_for_room(bytes);
        }
    }

    /// Publishers wait no longer: the app is gone, or hangs in a write for want of room. Its last bytes, which are in the
    /// pipes, get [`RESIDUE`] of room beside the configured memory.
    pub fn unblock(&self) {
        for drain in self.drains.iter() {
            drain.inbox.order(|state| {
                state.orders.unblocked = true;
                if !std::mem::replace(&mut state.orders.roomy, true) {
                    state.queue.add_memory(RESIDUE);
                }
            });
        }
    }

    /// The app is to run again: publishers wait as `--when-full` says, and the room of [`Drains::unblock`] is taken back.
    /// Says whether every queue has room: a run that began while one is full might end before its first line is in, and
    /// there would be no room for what such runs leave in the pipes.
    pub fn block_again(&self) -> bool {
        let mut room = true;
        for drain in self.drains.iter() {
            drain.inbox.order(|state| {
                state.orders.unblocked = false;
                if std::mem::take(&mut state.orders.roomy) {
                    state.queue.take_memory(RESIDUE);
                }
                room &= state.queue.makes_room(1);
            });
        }
        room
    }

    /// A stop was asked for: leave every back-off, linger 0, retry at least every second until `end_at`.
    pub fn hurry(&self, end_at: Instant) {
        for drain in self.drains.iter() {
            drain.inbox.order(|state| {
                state.orders.hurried = true;
                state.orders.end_at = Some(end_at);
            });
        }
        if let Some(spool) = &self.spool {
            spool.hurry();
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

    /// Units settled over all drains.
    pub fn settled(&self) -> u64 {
        self.drains.iter().map(|drain| drain.inbox.counts().settled()).sum()
    }

    /// Grows while anything gets on: what is settled, and bytes that go out from within a send.
    pub fn signs_of_life(&self) -> u64 {
        let signs = |drain: &Drain| {
            let state = drain.inbox.lock();
            state.queue.counts().settled() + state.pulse.furthest()
        };
        self.drains.iter().map(signs).sum()
    }

    /// Live accounts: (name, counts).
    pub fn counts(&self) -> Vec<(String, Counts)> {
        self.drains.iter().map(|drain| (drain.name.clone(), drain.inbox.counts())).collect()
    }

    /// How each drain is doing.
    pub fn statuses(&self) -> Vec<DrainStatus> {
        let now = clock::now();
        let look = |drain: &Drain| status::of(&drain.name, &drain.url, &mut drain.inbox.lock(), now);
        self.drains.iter().map(look).collect()
    }
}

#[cfg(test)]
impl Drains {
    /// Drains whose threads the caller is.
    pub(crate) fn idle(drains: &[(DrainSpec, Arc<Inbox>)], spool: Option<Spool>) -> Self {
        let drain = |(spec, inbox): &(DrainSpec, Arc<Inbox>)| Drain {
            name: spec.name.clone(),
            url: spec.url.clone(),
            stream: spec.stream,
            inbox: Arc::clone(inbox),
        };
        Self { drains: drains.iter().map(drain).collect(), spool, fallback: None }
    }

    /// [`Self::close_books`] without what waits.
    pub(crate) fn close_books_at_once(&self) -> Vec<crate::ledger::DrainReport> {
        self.freeze()
    }
}

impl Drain {
    fn wants(&self, stream: Stream) -> bool {
        self.stream.is_none_or(|wanted| wanted == stream)
    }
}

/// The spool of the run, if it is to have one. One that can't be opened is tried again later, unless it is required.
fn start_spool(specs: &[DrainSpec], config: &Config, inboxes: &[Arc<Inbox>]) -> io::Result<Option<Spool>> {
    let Some(spec) = config.spool.as_ref().filter(|_| !specs.is_empty()) else { return Ok(None) };
    Plan::new(spec, specs, config).start(inboxes.to_vec()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::{
        testing::{batch, config},
        *,
    };
    use crate::{
        config::{FileTarget, Target, WhenFull},
        event::Event,
        format::Format,
        ledger::Loss,
        transport::{Failure, Payload, Progress, Transport},
    };
    use std::{path::PathBuf, thread, time::Duration};

    fn spec(path: PathBuf, stream: Option<Stream>) -> DrainSpec {
        DrainSpec {
            name: "one".into(),
            url: "file:x".into(),
            format: Format::Raw,
            target: Target::File(FileTarget::new(path)),
            stream,
        }
    }

    fn wait_for(bell: &Bell, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        let end = clock::now() + Duration::from_secs(20);
        while events.len() < count {
            assert!(clock::now() < end, "no event; so far {events:?}");
            events.extend(bell.take());
            thread::yield_now();
        }
        events
    }

    #[test]
    fn each_drain_gets_the_streams_it_asked_for_and_reports_for_itself() {
        let dir = tempfile::tempdir().unwrap();
        let [all, none] = ["all", "none"].map(|name| dir.path().join(name));
        let specs = [spec(all.clone(), None), spec(none.clone(), Some(Stream::Stderr))];
        let bell = Bell::new().unwrap();
        let drains = Drains::start(&specs, &config(2 << 20, WhenFull::DropOldest), &bell).unwrap();
        drains.publish(&batch(1, 3));
        drains.close(clock::now() + Duration::from_secs(10));
        wait_for(&bell, 2);
        assert_eq!(drains.settled(), 3);
        let reports = drains.close_books();
        assert_eq!(reports[0].counts.confirmed, 3);
        assert_eq!(reports[1].counts, Counts::default());
        assert_eq!(std::fs::read_to_string(all).unwrap(), "line 1\nline 2\nline 3\n");
        assert!(!none.exists());
        assert_eq!(drains.close_books(), reports, "the books stay closed");
    }

    struct Bug;

    impl Transport for Bug {
        async fn send(&mut self, _payload: &Payload) -> Result<(), Failure> {
            panic!("a bug in a transport, on purpose")
        }

        fn progress(&mut self, _now: tokio::time::Instant) -> Option<Progress> {
            None
        }

        async fn watch(&mut self) -> Result<(), Failure> {
            std::future::pending().await
        }

        async fn finish(&mut self, _deadline: tokio::time::Instant) -> Result<(), Failure> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_costs_the_drain_and_its_lines_are_counted() {
        let spec = spec("unused".into(), None);
        let inbox = Arc::new(Inbox::new(WhenFull::Block, 700));
        let bell = Bell::new().unwrap();
        let mut thread = DrainThread {
            index: 0,
            limits: Limits::new(&spec, 1 << 20),
            spec,
            origin: testing::origin(),
            seed: 1,
            inbox: Arc::clone(&inbox),
            bell: bell.clone(),
        };
        inbox.push(&batch(1, 4));
        let thread = thread::spawn(move || thread.live(|_| Bug));
        assert_eq!(wait_for(&bell, 1), [Event::DrainDone(0)]);
        thread.join().unwrap();
        inbox.push(&batch(5, 3));
        inbox.wait_for_room(1_000_000);
        let drain = Drain { name: "one".into(), url: String::new(), stream: None, inbox };
        let report = drain.close_books(clock::now());
        assert_eq!(report.counts.lost.of(Loss::DrainDied), 7);
        assert_eq!(report.counts.pending(), 0);
        assert!(report.trouble.unwrap().contains("bug"));
    }

    #[test]
    fn closing_the_books_waits_for_no_thread() {
        let fifo = tempfile::tempdir().unwrap();
        let path = fifo.path().join("nobody-reads");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let bell = Bell::new().unwrap();
        let drains = Drains::start(&[spec(path, None)], &config(2 << 20, WhenFull::DropOldest), &bell).unwrap();
        drains.publish(&batch(1, 9));
        drains.close(clock::now() + Duration::from_secs(3600));
        let reports = drains.close_books();
        assert_eq!(reports[0].counts.lost.of(Loss::Deadline), 9);
        assert_eq!(wait_for(&bell, 1), [Event::DrainDone(0)], "and the thread sees that it is over");
    }
}
