//! How a run ended, and the one place where that becomes an exit code.
//!
//! The conventions are those of shells and container runtimes: the app's own code, 128+n if signal n ended it, 127 if
//! the program was not found, 126 if it could not be executed, 125 if lastword itself could not do its job.

use crate::signals::Signal;
use std::fmt;

/// How a process ended, as `waitpid` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It called `exit` with this code.
    Exited(u8),
    /// A signal ended it.
    Signaled(Signal),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The app ran and ended so.
    App(Status),
    /// A stop came before the app was spawned.
    StoppedBeforeSpawn(Signal),
    /// The program, or the interpreter that its first line names, does not exist.
    NotFound,
    /// The program exists but cannot be executed.
    NotExecutable,
    /// lastword's own failure: a wrong setting, no process or pipe to be had, or the app's status got lost.
    Own,
}

impl Ending {
    /// The exit code, 0–255.
    pub const fn code(self) -> u8 {
        match self {
            Self::App(Status::Exited(code)) => code,
            Self::App(Status::Signaled(signal)) | Self::StoppedBeforeSpawn(signal) => 128 + signal.0 as u8,
            Self::NotFound => 127,
            Self::NotExecutable => 126,
            Self::Own => 125,
        }
    }

    /// The signal that ended it, or came before it.
    pub const fn signal(self) -> Option<Signal> {
        match self {
            Self::App(Status::Signaled(signal)) | Self::StoppedBeforeSpawn(signal) => Some(signal),
            Self::App(Status::Exited(_)) | Self::NotFound | Self::NotExecutable | Self::Own => None,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(Status::Exited(code)) => write!(f, "exited with {code}"),
            Self::App(Status::Signaled(signal)) => write!(f, "was ended by {signal}"),
            Self::StoppedBeforeSpawn(signal) => write!(f, "was not started: {signal} came first"),
            Self::NotFound => f.write_str("was not found"),
            Self::NotExecutable => f.write_str("could not be executed"),
            Self::Own => f.write_str("ended unseen"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_app_is_ours() {
        for code in 0..=255 {
            assert_eq!(Ending::App(Status::Exited(code)).code(), code);
        }
    }

    #[test]
    fn a_signal_n_is_128_plus_n_realtime_included() {
        for (signal, code) in [(1, 129), (9, 137), (11, 139), (15, 143), (35, 163), (64, 192)] {
            assert_eq!(Ending::App(Status::Signaled(Signal(signal))).code(), code);
            assert_eq!(Ending::StoppedBeforeSpawn(Signal(signal)).code(), code);
        }
    }

    #[test]
    fn failures_to_start_follow_the_shell() {
        assert_eq!([Ending::NotFound, Ending::NotExecutable, Ending::Own].map(Ending::code), [127, 126, 125]);
    }
}
