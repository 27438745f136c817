//! The log on its own thread, and the handle to it.
//!
//! Batches come through an inbox of bounded size; the thread takes all that waits, writes it in as few writes as it can, and
//! tells the index. Drains never wait for it. A publisher does, for at most [`PATIENCE`] at a time: when the inbox is full
//! because the disk is slower than the app. Then, and when the disk refuses a write, the spool is *degraded*: said once,
//! nobody waits any more, what has no room in the inbox is left out of the log (and stays in the drains' memory, under
//! `--when-full`), and writing is tried again until it works.

use super::{
    codec::Header,
    cursor::Place,
    index::Index,
    log::{Extent, Log},
};
use crate::{
    clock,
    config::SpoolSync,
    drain::{inbox::Inbox, queue::Low, sealed::charge},
    format::{Instance, thousands},
    line::Batch,
    say::say,
};
use std::{
    collections::VecDeque,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long a publisher waits for a disk that is slower than the app, before it is not waited for.
const PATIENCE: Duration = Duration::from_millis(250);
/// How often cursors are taken down while they move.
const CURSORS: Duration = Duration::from_millis(200);
/// How often `--spool-sync interval` syncs.
const SYNC: Duration = Duration::from_secs(1);
/// Trouble is not spoken of more often than this.
const QUIET: Duration = Duration::from_secs(10);
/// How long after a refusal the disk is asked again.
const RETRY: Duration = Duration::from_millis(500);

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

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// Batches were taken, or all is done.
    moved: Condvar,
    capacity: usize,
    dir: PathBuf,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Batch>>,
    bytes: usize,
    /// Batches that the thread has in hand.
    in_hand: usize,
    sync: bool,
    closing: bool,
    /// Where the drains stand is on the disk.
    noted: bool,
    finished: bool,
    /// Why nobody waits for the disk, if so; and since when.
    degraded: Option<Degraded>,
    /// When trouble was last spoken of.
    said: Option<Instant>,
    /// Units that were left out.
    left_out: u64,
}

#[derive(Clone, Copy, Debug)]
struct Degraded {
    since: Instant,
    /// It was said, so its end is worth a word, too.
    said: bool,
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
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            moved: Condvar::new(),
            capacity: settings.capacity,
            dir: settings.dir.clone(),
        });
        let spool = Self { shared: Arc::clone(&shared) };
        let mut log = log;
        log.tell(Arc::clone(&index));
        let mut keeper = Keeper {
            shared,
            log,
            index,
            members,
            settings,
            last: Vec::new(),
            synced_at: clock::now(),
            mourned_at: None,
        };
        thread::Builder::new().name("spool".into()).spawn(move || {
            let _keep = keep;
            if catch_unwind(AssertUnwindSafe(|| keeper.run())).is_err() {
                keeper.shared.degrade("the spool died of a bug in lastword");
            }
            let mut state = keeper.shared.lock();
            state.finished = true;
            keeper.shared.moved.notify_all();
        })?;
        Ok(spool)
    }

    /// Takes a batch. Called after the drains have it.
    pub(crate) fn push(&self, batch: &Arc<Batch>) {
        let shared = &*self.shared;
        let cost = cost_of(batch);
        let mut state = shared.lock();
        // One batch is taken whatever its size.
        let full = |state: &mut State| {
            state.bytes > 0 && state.bytes + cost > shared.capacity && state.degraded.is_none() && !state.finished
        };
        if full(&mut state) {
            let waited = shared.moved.wait_timeout_while(state, PATIENCE, full);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if timeout.timed_out() && state.degraded.is_none() {
                drop(state);
                shared.degrade(&format!("the disk takes nothing for {} ms", PATIENCE.as_millis()));
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
        let open = |state: &mut State| {
            (state.in_hand > 0 || !state.waiting.is_empty()) && state.degraded.is_none() && !state.finished
        };
        drop(self.shared.moved.wait_timeout_while(self.shared.lock(), limit, open));
    }

    /// The books are closed: takes down where each drain stands, deletes what nobody is owed, and ends. Waits at most
    /// this long; false if it took longer: then the next run may send some lines again.
    pub(crate) fn finish(&self, limit: Duration) -> bool {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
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

    /// Where the lines are.
    pub(crate) fn dir(&self) -> &PathBuf {
        &self.shared.dir
    }
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn degrade(&self, why: &str) {
        let mut state = self.lock();
        if state.degraded.is_some() || planted!(enospc_retried_for_ever) {
            return;
        }
        let now = clock::now();
        let said = state.said.is_none_or(|at| now >= at + QUIET);
        state.degraded = Some(Degraded { since: now, said });
        if said {
            state.said = Some(now);
        }
        drop(state);
        self.moved.notify_all();
        if said {
            self.say(format_args!("{why}; drains go on from memory, and it is tried again"));
        }
    }

    fn recover(&self) {
        let mut state = self.lock();
        let Some(Degraded { since, said }) = state.degraded.take() else { return };
        if !said {
            return;
        }
        let left_out = std::mem::take(&mut state.left_out);
        drop(state);
        let time = (clock::now() - since).as_secs_f64();
        let without = match left_out {
            0 => "; nothing was left out".to_owned(),
            units => format!("; {} lines are not in it", thousands(units)),
        };
        self.say(format_args!("works again after {time:.1} s{without}"));
    }

    fn say(&self, words: fmt::Arguments<'_>) {
        say(format_args!("spool {}: {words}", self.dir.display()));
    }
}

/// The thread's side.
struct Keeper {
    shared: Arc<Shared>,
    log: Log,
    index: Arc<Index>,
    members: Vec<Member>,
    settings: Settings,
    /// Where the drains stood at the last look.
    last: Vec<(String, Place)>,
    synced_at: Instant,
    /// When the loss of lines for a drain that is not configured was last spoken of.
    mourned_at: Option<Instant>,
}

impl Keeper {
    fn run(&mut self) {
        // Drains that are new are known from here on; whatever fails is tried again.
        let mut looked_at = clock::now();
        let mut moving = true;
        loop {
            let dirty = self.settings.sync != SpoolSync::Never && self.log.is_dirty();
            let (batches, closing, sync) = self.take(moving || dirty);
            let (mut well, mut worked) = (true, false);
            if !batches.is_empty() {
                well = self.append(batches, closing);
                worked = well;
                moving = true;
            }
            let due = self.settings.sync == SpoolSync::Always
                || self.settings.sync == SpoolSync::Interval && (sync || clock::now() >= self.synced_at + SYNC);
            if due && well && self.log.is_dirty() {
                well = self.sync();
                worked |= well;
            }
            if closing && (!well || self.shared.lock().waiting.is_empty()) {
                self.last_look();
                return;
            }
            if clock::now() >= looked_at + CURSORS {
                looked_at = clock::now();
                moving = self.look();
            }
            if worked {
                self.shared.recover();
            }
            if !well {
                self.rest();
            }
        }
    }

    /// Waits for batches or an order; not for ever if there is something to look after.
    fn take(&self, busy: bool) -> (Vec<Arc<Batch>>, bool, bool) {
        let nothing = |state: &mut State| state.waiting.is_empty() && !state.closing && !state.sync;
        let state = self.shared.lock();
        let mut state = if busy {
            self.shared.wake.wait_timeout_while(state, CURSORS, nothing).unwrap_or_else(PoisonError::into_inner).0
        } else {
            self.shared.wake.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner)
        };
        let batches: Vec<_> = std::mem::take(&mut state.waiting).into();
        state.in_hand = batches.len();
        let orders = (state.closing, std::mem::take(&mut state.sync));
        drop(state);
        (batches, orders.0, orders.1)
    }

    /// False if the disk refused; what is not appended goes back to the inbox.
    fn append(&mut self, batches: Vec<Arc<Batch>>, closing: bool) -> bool {
        self.log.set_instance(self.settings.instance.wait());
        let mut done: Vec<Extent> = Vec::new();
        let result = self.log.append(&batches, &mut done);
        let upto = done.last().map_or(0, |extent| extent.end_seq);
        done.into_iter().for_each(|extent| self.index.add(extent));
        self.tell_evicted();
        for member in &self.members {
            member.inbox.appended();
        }
        let mut state = self.shared.lock();
        state.in_hand = 0;
        state.bytes -= batches.iter().map(|batch| cost_of(batch)).sum::<usize>();
        if result.is_err() && !closing {
            for batch in batches.into_iter().rev().take_while(|batch| batch.first_seq() >= upto) {
                state.bytes += cost_of(&batch);
                state.waiting.push_front(batch);
            }
            while state.bytes > self.shared.capacity
                && let Some(oldest) = state.waiting.pop_front()
            {
                state.bytes -= cost_of(&oldest);
                state.left_out += oldest.len() as u64;
            }
        }
        drop(state);
        if let Err(error) = result {
            self.shared.degrade(&error.to_string());
            return false;
        }
        self.shared.moved.notify_all();
        true
    }

    fn tell_evicted(&mut self) {
        for segment in self.log.take_evicted() {
            for member in &self.members {
                member.inbox.evicted(segment.number);
            }
            let known = |identity: &str| self.members.iter().any(|member| member.identity == identity);
            for owed in segment.drains.iter().filter(|owed| !known(&owed.identity)) {
                let now = clock::now();
                if self.mourned_at.is_some_and(|at| now < at + QUIET) {
                    continue;
                }
                self.mourned_at = Some(now);
                let units = owed.stream.map_or(segment.units.iter().sum(), |stream| segment.units[stream as usize]);
                let (drain, units) = (&owed.identity, thousands(units));
                self.shared.say(format_args!("full; old lines for {drain} are lost, up to {units} just now"));
            }
        }
    }

    fn sync(&mut self) -> bool {
        self.synced_at = clock::now();
        match self.log.sync() {
            Ok(()) => true,
            Err(error) => {
                self.shared.degrade(&format!("the disk did not sync: {error}"));
                false
            }
        }
    }

    /// Takes down the cursors. True if any drain has something to settle.
    fn look(&mut self) -> bool {
        let (places, open) = self.places();
        if places != self.last {
            match self.log.advance(&places, false) {
                Ok(deleted) => deleted.into_iter().for_each(|segment| self.index.remove(segment)),
                Err(error) => {
                    self.shared.degrade(&error.to_string());
                    return true;
                }
            }
            self.last = places;
        }
        open
    }

    fn last_look(&mut self) {
        let (places, _) = self.places();
        let result = self.log.advance(&places, true);
        self.shared.lock().noted = result.is_ok();
        self.shared.moved.notify_all();
        if self.settings.sync != SpoolSync::Never && self.log.is_dirty() {
            self.sync();
        }
        if let Err(error) = result {
            self.shared.degrade(&error.to_string());
        }
    }

    fn places(&self) -> (Vec<(String, Place)>, bool) {
        let mut open = false;
        let places = self.members.iter().map(|member| {
            let low = member.inbox.low();
            open |= low != Low::Nothing;
            (member.identity.clone(), place_of(low, &self.index, &self.log))
        });
        let places = places.collect();
        (places, open)
    }

    /// The disk has refused: gives it time.
    fn rest(&self) {
        let closing = |state: &mut State| !state.closing;
        drop(self.shared.wake.wait_timeout_while(self.shared.lock(), RETRY, closing));
    }
}

/// Where a drain stands in the log.
pub(crate) fn place_of(low: Low, index: &Index, log: &Log) -> Place {
    match low {
        Low::At(place) => place,
        Low::Nothing => log.end(),
        Low::Live(seq) => match index.at_or_behind(seq) {
            Some(extent) => Place { segment: extent.segment, seq: seq.max(extent.first_seq) },
            // Not on the disk yet: all that is, is settled.
            None => log.end(),
        },
    }
}

/// What a batch counts as in the inbox: the same as in a queue.
fn cost_of(batch: &Batch) -> usize {
    charge(batch.lines().data.len(), batch.len())
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
