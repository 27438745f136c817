//! The log on its own thread, and the handle to it.
//!
//! Batches come through an inbox of bounded size; the thread takes all that waits, writes it in as few writes as it can, and
//! tells the index. Drains never wait for it. A publisher does, for at most [`PATIENCE`] at a time: when the inbox is full
//! because the disk is slower than the app. Then, and when the disk refuses a write, the spool is *degraded*: said once,
//! nobody waits any more, what has no room in the inbox is left out of the log (and stays in the drains' memory, under
//! `--when-full`), and writing is tried again until it works.

use super::{
    codec::Header,
    index::Index,
    keeper::Keeper,
    log::Log,
    shared::{PATIENCE, Shared, State, cost_of},
};
use crate::{clock, config::SpoolSync, drain::inbox::Inbox, format::Instance, line::Batch};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// A drain, as the spool sees it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) identity: String,
    pub(crate) inbox: Arc<Inbox>,
}

/// The handle. Cheap to clone; every call is bounded.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    shared: Arc<Shared>,
}

/// How the thread works.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dir: PathBuf,
    pub(crate) capacity: usize,
    pub(crate) sync: SpoolSync,
    /// Known once the app runs; part of each segment's header.
    pub(crate) instance: Instance,
}

impl Spool {
    /// Starts the thread. `capacity` is the inbox's, in bytes. The lock on the directory goes along with `keep`.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn start(
        log: Log,
        index: Arc<Index>,
        members: Vec<Member>,
        settings: Settings,
        keep: impl Send + 'static,
    ) -> io::Result<Self> {
        let (spool, mut keeper) = Self::idle(log, index, members, settings);
        thread::Builder::new().name("spool".into()).spawn(move || {
            let _keep = keep;
            if catch_unwind(AssertUnwindSafe(|| keeper.run())).is_err() {
                keeper.shared.degrade("the spool died of a bug in lastword");
            }
            keeper.shared.end();
        })?;
        Ok(spool)
    }

    /// The handle and what the thread would run.
    pub(crate) fn idle(mut log: Log, index: Arc<Index>, members: Vec<Member>, settings: Settings) -> (Self, Keeper) {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            moved: Condvar::new(),
            capacity: settings.capacity,
            dir: settings.dir.clone(),
        });
        let spool = Self { shared: Arc::clone(&shared) };
        log.tell(Arc::clone(&index));
        let (now, last) = (clock::now(), Vec::new());
        let keeper = Keeper {
            shared,
            log,
            index,
            members,
            settings,
            last,
            synced_at: now,
            looked_at: now,
            moving: true,
            mourned_at: None,
        };
        (spool, keeper)
    }

    /// Takes a batch. Called after the drains have it.
    pub(crate) fn push(&self, batch: &Arc<Batch>) {
        let shared = &*self.shared;
        let cost = cost_of(batch);
        let mut state = shared.lock();
        let full = |state: &mut State| state.is_full_for(cost, shared.capacity);
        if full(&mut state) {
            let waited = shared.moved.wait_timeout_while(state, PATIENCE, full);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if timeout.timed_out() && state.degraded.is_none() {
                drop(state);
                shared.lose_patience();
                state = shared.lock();
            }
        }
        while state.bytes + cost > shared.capacity
            && let Some(oldest) = state.waiting.pop_front()
        {
            state.bytes -= cost_of(&oldest);
            state.left_out += oldest.len() as u64;
        }
        state.bytes += cost;
        state.waiting.push_back(Arc::clone(batch));
        let idle = state.in_hand == 0 && state.waiting.len() == 1;
        drop(state);
        if idle {
            shared.wake.notify_one();
        }
    }

    /// What was appended is made safe at once: a stop has begun, or the end is near.
    pub(crate) fn hurry(&self) {
        self.shared.lock().sync = true;
        self.shared.wake.notify_one();
    }

    /// Waits until all that was pushed is on the disk, or refused, at most this long. Then the index says the truth.
    pub(crate) fn settle(&self, limit: Duration) {
        let open = |state: &mut State| state.is_unsettled();
        drop(self.shared.moved.wait_timeout_while(self.shared.lock(), limit, open));
    }

    /// The books are closed: takes down where each drain stands, deletes what nobody is owed, and ends. Waits at most
    /// this long; false if it took longer: then the next run may send some lines again.
    pub(crate) fn finish(&self, limit: Duration) -> bool {
        self.order_end();
        let wait = |met: fn(&mut State) -> bool| {
            let waited = self.shared.moved.wait_timeout_while(self.shared.lock(), limit, met);
            let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            state.noted
        };
        let noted = wait(|state| !state.noted && !state.finished);
        if noted {
            // The last sync is for a crash of the machine alone.
            wait(|state| !state.finished);
        }
        noted
    }

    /// Nothing more will come.
    fn order_end(&self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
    }

    /// Where the lines are.
    pub(crate) fn dir(&self) -> &PathBuf {
        &self.shared.dir
    }
}

/// What the segments of a run say of it.
pub(crate) fn header(origin: &crate::format::Origin, drains: Vec<super::codec::Owed>) -> Header {
    Header {
        run: origin.run.clone(),
        host: origin.host.clone(),
        app: origin.app.clone(),
        instance: String::new(),
        labels: origin.labels.clone(),
        drains,
    }
}

#[cfg(test)]
impl Spool {
    /// [`Self::push`] would wait for the disk.
    pub(crate) fn would_wait(&self, bytes: usize, units: usize) -> bool {
        let cost = crate::drain::sealed::charge(bytes, units);
        self.shared.lock().is_full_for(cost, self.shared.capacity)
    }

    /// It has waited in vain.
    pub(crate) fn lose_patience(&self) {
        self.shared.lose_patience();
    }

    /// [`Self::settle`] would wait.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.shared.lock().is_unsettled()
    }

    /// The front half of [`Self::finish`].
    pub(crate) fn begin_end(&self) {
        self.order_end();
    }

    /// Whether a thread would have something to do at once, has noted where the drains stand, and has ended.
    pub(crate) fn look(&self) -> (bool, bool, bool) {
        let state = self.shared.lock();
        (!state.has_nothing_to_do(), state.noted, state.finished)
    }

    /// The thread's end.
    pub(crate) fn ended(&self) {
        self.shared.end();
    }

    /// Nobody waits for the disk.
    pub(crate) fn is_degraded(&self) -> bool {
        self.shared.lock().degraded.is_some()
    }
}
