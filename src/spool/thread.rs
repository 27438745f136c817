//! The log on its own thread, and the handle to it.
//!
//! Batches come through an inbox of bounded size; the thread takes all that waits, writes it in as few writes as it can, and
//! tells the index. Drains never wait for it. A publisher does, for at most [`PATIENCE`] at a time: when the inbox is full
//! because the disk is slower than the app. Then, when the disk refuses, and while there is no way to open the directory, the
//! spool is *degraded*: said once, nobody waits any more, what has no room in the inbox stays in the drains' memory alone
//! (under `--when-full`), and it is tried again. When it works, what the drains still hold of that time is appended first.
//!
//! A directory that is moved, removed or replaced while it is in use is noticed before anything is called spooled. What only it
//! had is lost to this run, and counted; what the drains still hold goes to another one, at the path that was asked for, under a
//! lock of its own.

use super::{
    index::Index,
    keeper::Keeper,
    log::Log,
    shared::{PATIENCE, Shared, State, cost_of},
};
use crate::{
    config::SpoolSync,
    drain::inbox::Inbox,
    format::Instance,
    line::Batch,
    report::{SpoolReport, Unreadable},
    sys,
};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, MutexGuard, PoisonError, mpsc::sync_channel},
    thread,
    time::Duration,
};

/// How long after it could not be opened the directory is tried again, at first and at most.
const OPEN_AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// A drain, as the spool sees it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) identity: String,
    pub(crate) inbox: Arc<Inbox>,
}

/// The handle. Cheap to clone; every call is bounded.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    shared: Arc<Shared>,
}

/// A log that is open.
pub(crate) struct Opened {
    pub(crate) dir: PathBuf,
    pub(crate) log: Log,
    pub(crate) index: Arc<Index>,
    pub(crate) unreadable: Unreadable,
    /// Lives as long as the log: the lock on the directory.
    pub(crate) keep: Box<dyn Send>,
}

/// Opens the log and attaches the drains to it. After one that vanished: in a directory that has no lines in it (they would come
/// between those that the drains hold), with numbers of segments from this on, so that no segment is taken for an old one.
pub(crate) type Open = Box<dyn FnMut(Option<u64>) -> io::Result<Opened> + Send>;

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
    /// Starts the thread, which opens the log, and waits for that at most `patience`: a disk that hangs must not keep the app from
    /// starting. What came of it; what failed, or takes longer, is tried again, or waited for, there.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn start(
        mut open: Open,
        members: Vec<Member>,
        settings: Settings,
        patience: Duration,
    ) -> io::Result<(Self, io::Result<()>)> {
        let shared = Arc::new(Shared::new(settings.capacity, settings.dir.clone()));
        let (tell, told) = sync_channel(1);
        let first = move |open: &mut Open| {
            let (opened, outcome) = match open(None) {
                Ok(opened) => (Some(opened), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // Nobody may be waiting any more.
            let _ = tell.send(outcome);
            opened
        };
        Self::spawn(&shared, move |shared| {
            let first = first(&mut open);
            live(shared, first, &mut open, &members, &settings)
        })?;
        let late = || Err(io::Error::other(format!("the disk does not answer within {} s", patience.as_secs())));
        let outcome = told.recv_timeout(patience).unwrap_or_else(|_| late());
        Ok((Self { shared }, outcome))
    }

    /// Says that there is no log yet, and why. Nobody waits for it from here on.
    pub(crate) fn begin_without(&self, error: &io::Error) {
        self.shared.degrade(&error.to_string());
    }

    fn spawn(shared: &Arc<Shared>, life: impl FnOnce(&Arc<Shared>) -> Option<()> + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(shared);
        thread::Builder::new().name("spool".into()).spawn(move || {
            sys::wait_our_turn();
            let ended = catch_unwind(AssertUnwindSafe(|| life(&shared)));
            if ended.is_err() {
                shared.degrade("the spool died of a bug in lastword");
            }
            shared.end();
        })?;
        Ok(())
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
        state.add(Arc::clone(batch), shared.capacity);
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

    /// Waits until all that was pushed is on the disk, or refused once more, at most this long. Then the index says the truth.
    pub(crate) fn settle(&self, limit: Duration) {
        self.order_settling();
        let open = |state: &mut State| state.is_unsettled();
        drop(self.shared.moved.wait_timeout_while(self.shared.lock(), limit, open));
    }

    /// The books are closed: takes down where each drain stands, and ends. Waits at most this long; false if it took longer: then the next run may send some lines again.
    pub(crate) fn finish(&self, limit: Duration) -> bool {
        self.order_end();
        self.wait(limit, |state| !state.noted && !state.finished).noted
    }

    /// After [`Spool::finish`]: waits until files that nobody is owed are gone, and what is left is safe against a crash of the
    /// machine, too, or this long.
    pub(crate) fn tidy(&self, limit: Duration) {
        drop(self.wait(limit, |state| !state.finished));
    }

    fn wait(&self, limit: Duration, unmet: fn(&mut State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.shared.moved.wait_timeout_while(self.shared.lock(), limit, unmet);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// All that was pushed is to be on the disk soon.
    fn order_settling(&self) {
        let mut state = self.shared.lock();
        (state.at_once, state.asked) = (true, true);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Nothing more will come.
    fn order_end(&self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
    }

    /// Where the lines are.
    pub(crate) fn dir(&self) -> PathBuf {
        self.shared.lock().dir.clone()
    }

    /// What became of it so far.
    pub(crate) fn report(&self) -> SpoolReport {
        let state = self.shared.lock();
        SpoolReport {
            dir: state.dir.clone(),
            works: state.degraded.is_none(),
            troubles: state.troubles,
            went_past: state.past,
            unreadable: state.unreadable,
        }
    }

    /// Whether the disk takes what it is given, as far as is known.
    pub(crate) fn works(&self) -> bool {
        let state = self.shared.lock();
        state.degraded.is_none() && !state.finished
    }
}

/// The thread's life, from one directory to the next; None once the books are closed.
fn live(
    shared: &Arc<Shared>,
    first: Option<Opened>,
    again: &mut Open,
    members: &[Member],
    settings: &Settings,
) -> Option<()> {
    let mut opened = first.or_else(|| open_in_time(shared, again, OPEN_AGAIN.0, None))?;
    let mut resume = None;
    loop {
        // The directory stays ours until all is done in it.
        let Opened { dir, log, index, unreadable, keep } = opened;
        shared.opened(dir, unreadable);
        let mut keeper = Keeper::new(Arc::clone(shared), log, index, members.to_vec(), settings.clone());
        resume.into_iter().for_each(|next| keeper.resume(next));
        if keeper.run() {
            return None;
        }
        let (number, next) = keeper.give_up();
        resume = Some(next);
        drop((keeper, keep));
        opened = open_in_time(shared, again, Duration::ZERO, Some(number))?;
    }
}

/// Tries to open the log until it works, with growing pauses; None once the books are closed.
fn open_in_time(shared: &Shared, open: &mut Open, first: Duration, after: Option<u64>) -> Option<Opened> {
    let mut pause = first;
    while !shared.rest(pause) {
        match open(after) {
            Ok(opened) => return Some(opened),
            Err(error) => tracing::debug!(%error, "the spool can't be opened"),
        }
        shared.lock().at_once = false;
        shared.answered();
        pause = (2 * pause).clamp(OPEN_AGAIN.0, OPEN_AGAIN.1);
    }
    // There is no place to note anything at.
    shared.lock().noted = true;
    shared.answered();
    None
}

#[cfg(test)]
impl Spool {
    /// On a log that is open, or with the reason why it is not; then `again` is asked for one.
    pub(crate) fn start_with(
        first: io::Result<Opened>,
        mut again: Open,
        members: Vec<Member>,
        settings: Settings,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(settings.capacity, settings.dir.clone()));
        if let Err(error) = &first {
            shared.degrade(&error.to_string());
        }
        Self::spawn(&shared, move |shared| live(shared, first.ok(), &mut again, &members, &settings))?;
        Ok(Self { shared })
    }

    /// The handle, and what its thread would run: the caller is that thread.
    pub(crate) fn idle(opened: Opened, members: Vec<Member>, settings: Settings) -> (Self, Keeper) {
        let shared = Arc::new(Shared::new(settings.capacity, settings.dir.clone()));
        shared.opened(opened.dir, opened.unreadable);
        let spool = Self { shared: Arc::clone(&shared) };
        (spool, Keeper::new(shared, opened.log, opened.index, members, settings))
    }

    /// [`Self::push`] would wait for the disk.
    pub(crate) fn would_wait(&self, bytes: usize, units: usize) -> bool {
        let cost = crate::drain::sealed::charge(bytes, units);
        self.shared.lock().is_full_for(cost, self.shared.capacity)
    }

    /// It has waited in vain.
    pub(crate) fn lose_patience(&self) {
        self.shared.lose_patience();
    }

    /// The front half of [`Self::settle`].
    pub(crate) fn begin_settling(&self) {
        self.order_settling();
    }

    /// [`Self::settle`] would wait.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.shared.lock().is_unsettled()
    }

    /// The front half of [`Self::finish`].
    pub(crate) fn begin_end(&self) {
        self.order_end();
    }

    /// Whether there is something to do at once, where the drains stand is noted, the thread has ended.
    pub(crate) fn look(&self) -> (bool, bool, bool) {
        let state = self.shared.lock();
        (!state.has_nothing_to_do(), state.noted, state.finished)
    }

    /// Neither batches nor an order wait for the thread.
    pub(crate) fn has_nothing_to_do(&self) -> bool {
        self.shared.lock().has_nothing_to_do()
    }

    /// A disk that refused is to be asked again without a pause.
    pub(crate) fn is_at_once(&self) -> bool {
        let state = self.shared.lock();
        state.at_once || state.closing
    }

    /// Whether the thread has fallen asleep since this was asked last: nothing but an order or a batch wakes it.
    pub(super) fn sleeps(&self) -> bool {
        self.shared.sleeps.swap(false, std::sync::atomic::Ordering::SeqCst)
    }

    /// The thread's end.
    pub(crate) fn ended(&self) {
        self.shared.end();
    }
}
