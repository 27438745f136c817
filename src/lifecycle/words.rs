//! The machine's alphabet: what happens, what is to be done, and where a run can stand.

use crate::{exit::Ending, signals::Signal};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The readers and drains stand ready.
    Begin,
    /// The app runs (for `tee`: standard input is being read).
    Spawned,
    /// It does not.
    SpawnFailed(Ending),
    /// A process asked us to stop (TERM, INT, `--stop-signal`).
    Stop(Signal),
    /// A stop that went to every process: the app has it already.
    Broadcast(Signal),
    /// A signal that stops some apps and means other things to others (QUIT, WINCH, RTMIN+3).
    SoftStop(Signal),
    /// Any other signal for the app.
    Other(Signal),
    /// Ctrl-C on the terminal that the app shares with us: the kernel has told the app already.
    Interrupt,
    /// The app was reaped.
    AppExited {
        /// How it ended.
        ending: Ending,
        /// Whom it left behind.
        left: Left,
    },
    /// The app was reaped earlier, and a look at its leftovers shows that some remain.
    Remaining {
        /// All of them are filters: they read a pipe and do not catch the signal that was passed on.
        only_filters: bool,
    },
    /// Nobody is left: `waitpid` says ECHILD.
    Gone,
    /// The readers published all that was in the pipes when the intake was closed.
    IntakeDone {
        /// `--restart` would have the app run again.
        again: bool,
    },
    /// Every drain has closed its books.
    FlushDone,
    /// A timer fired.
    Fired(Timer),
}

impl Event {
    /// The event as it is kept over the spawn: a broadcast may have come before the app was there.
    pub const fn kept(self) -> Self {
        match self {
            Self::Broadcast(signal) => Self::Stop(signal),
            other => other,
        }
    }
}

/// Whom the app left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Left {
    /// Nobody.
    Nobody,
    /// Descendants, which may be about to end by themselves.
    Others,
    /// Descendants that a stop has not reached: the app did not catch it and died of it.
    Unaware(Signal),
}

/// What to do. The shell performs actions in order, each at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Start the app.
    Spawn,
    /// Keep the event that is being handled.
    Remember,
    /// Hand in the remembered events again, in order.
    Replay,
    /// Send a signal to the app alone.
    Relay(Signal),
    /// Everybody had the stop: who lives now is not told again.
    AllTold(Signal),
    /// The budget runs from now.
    StartBudget,
    /// The budget runs from the soft stop.
    BudgetFromSoftStop,
    /// Tell the drains that the end is near: leave back-offs, send at once.
    Hurry,
    /// Start a timer, or move it.
    Arm(Timer),
    /// Stop a timer.
    Disarm(Timer),
    /// The app lives on after its assumed time: have the drains flush and say which setting is missing.
    Interim,
    /// The app is gone: readers no longer wait for the pass-through.
    Release,
    /// Send a signal to the leftovers that are not filters.
    PassOn(Signal),
    /// TERM to every descendant that was not told yet.
    LastCall,
    /// KILL to the app and every descendant.
    KillAll,
    /// Say that the leftovers are left to themselves.
    Leave,
    /// Say that some survived the KILL.
    GiveUp,
    /// Read what is in the pipes now, and no more.
    CloseIntake,
    /// Let the drains send all they have and finish.
    Flush,
    /// Report and return the exit code.
    Exit(Ending),
}

/// The timers. Their instants are [`crate::budget::Plan`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// A soft stop so long ago was none.
    Soft,
    /// Leftovers had their quiet time.
    Linger,
    /// The last moment to ask nicely.
    LastCall,
    /// The app's time is over.
    Kill,
    /// The KILL had its time.
    GiveUp,
    /// The flush had its time.
    End,
    /// The flush made no progress.
    Stall,
    /// The app may be run again.
    Restart,
}

impl Timer {
    /// All of them, in the order in which those due at once are handed in.
    pub const ALL: [Self; 8] =
        [Self::Soft, Self::Linger, Self::LastCall, Self::Kill, Self::GiveUp, Self::Stall, Self::End, Self::Restart];
}

/// Where the run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Before the spawn.
    Starting,
    /// The spawn is under way.
    Spawning,
    /// The app runs.
    Running {
        /// A soft stop was relayed less than T ago.
        soft: bool,
    },
    /// A stop was passed on to the app, which still runs.
    Stopping {
        /// Its descendants had their last call.
        called: bool,
    },
    /// The app is gone, others are not.
    Draining(Ending, Cause, Stage),
    /// KILL was sent to all. Without an ending, the app is not reaped yet.
    Killing(Option<Ending>, Cause),
    /// Nobody is left: the readers empty the pipes.
    Closing(Ending, Cause),
    /// A run ended so, nobody of it is left and its pipes are read: there will be another.
    BackOff(Ending),
    /// The drains send what they have.
    Flushing(Ending, Cause),
    /// Over.
    Exit(Ending),
}

/// Why the run ends, which decides its deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The app ended by itself (or never began): no SIGKILL is coming.
    Itself,
    /// A stop: the budget rules.
    Stop,
}

/// How far the leftovers' treatment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The stop was passed on to those that the app kept it from.
    Passed,
    /// Quiet: helpers end by themselves.
    Lingering,
    /// They are what the app is now (`--leftovers wait`).
    Waiting,
    /// All were told.
    Called,
}
