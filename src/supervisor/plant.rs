//! What the supervisor works with: the plant that it drives, what it is told at the start, and what it tells at the end.

use super::{FlushEnd, Notice};
use crate::{
    config::{Budget, Leftovers, RelayTo},
    event::{Bell, Event},
    exit::Ending,
    restart::Policy,
    signals::{Inherited, Received},
};
use std::{
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

/// Readers, pass-through and drains, as the supervisor sees them. Every call returns at once.
pub trait Plant {
    /// Starts the readers on the stdout and stderr of the app's next run; each rings `ReaderDone` once. Those of a run
    /// before have done so. Not called for `tee`.
    ///
    /// # Errors
    /// If a thread cannot be had: the app is not started then.
    fn attach(&mut self, readers: [OwnedFd; 2]) -> io::Result<()>;

    /// Whether what the app writes in another run would find room. Asked before each run but the first, and again a
    /// moment later if not.
    fn may_run_again(&mut self) -> bool;

    /// The app runs and has this pid.
    fn started(&mut self, pid: i32);

    /// A stop is under way: drains leave every back-off and send without linger, until `end_at`.
    fn hurry(&mut self, end_at: Instant);

    /// The app outlives an assumed budget: what is buffered must be out or on disk soon. Lines keep flowing.
    fn interim(&mut self);

    /// The app is gone, and so are leftovers that go on in its stead: readers no longer wait for the drains or the
    /// pass-through, until the next `attach`. May be told again.
    fn app_exited(&mut self);

    /// Nobody is left to write: readers read what is in the pipes now, publish it, and ring `ReaderDone`.
    fn close_intake(&mut self);

    /// No more batches will come: drains send all until `end_at`, and each rings `DrainDone`.
    fn flush(&mut self, end_at: Instant);

    /// Moves the end of an earlier `flush`.
    fn set_end(&mut self, end_at: Instant);

    /// What rings when `flush` is done: every drain and every pass-through.
    fn outlets(&self) -> Vec<Event>;

    /// Units settled over all drains.
    fn settled(&self) -> u64;

    /// Grows while anything gets on, units settled or not.
    fn signs_of_life(&self) -> u64;

    /// Something that the user may want to know.
    fn notify(&mut self, notice: &Notice);
}

/// What the supervisor needs to know.
#[derive(Debug)]
pub struct Setup {
    /// The app and its arguments, or None to read until the end of a single stream that the plant has (`tee`).
    pub command: Option<Vec<OsString>>,
    /// Time until the platform's SIGKILL.
    pub budget: Budget,
    /// Where that comes from, for the start line.
    pub budget_why: String,
    /// Whether the app is run again.
    pub restart: Policy,
    /// Seed of the jitter between runs.
    pub seed: u64,
    /// How long to flush after an app that ended by itself.
    pub flush_timeout: Duration,
    /// What is not delivered is in a spool: a flush without progress is not waited for as long.
    pub spooled: bool,
    /// Signals that count as a stop beside TERM and INT.
    pub stop_signals: Vec<i32>,
    /// Who gets our signals.
    pub relay: RelayTo,
    /// What becomes of some of them on the way.
    pub rewrites: Vec<(i32, Option<i32>)>,
    /// Quiet time of leftovers, if stated.
    pub linger: Option<Duration>,
    /// What becomes of leftovers.
    pub leftovers: Leftovers,
    /// The app is in our process group, for it shares a terminal with us.
    pub shared: bool,
    /// Bytes of the app's pipes.
    pub pipe_size: usize,
    /// What [`crate::signals::block_all`] returned.
    pub inherited: Inherited,
    /// What readers and drains ring.
    pub bell: Bell,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How the last run ended; its `code` is ours.
    pub ending: Ending,
    /// How often the app was started.
    pub runs: u32,
    /// The first stop, if one came.
    pub stop: Option<Received>,
    /// Processes that got a KILL from us, in the last run.
    pub killed: usize,
    /// Processes were left behind.
    pub gave_up: bool,
    /// The readers did not get to the end of what was in the pipes.
    pub unread: bool,
    /// From the end of the intake to the exit.
    pub flush: Duration,
    /// How the flush ended.
    pub flush_end: FlushEnd,
    /// When all must be written that is written after it.
    pub last_words_by: Instant,
}
