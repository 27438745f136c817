//! The controlling terminal. The app shares our process group there, so that the terminal's keys reach it as if we were not
//! there; and each run of it finds the terminal as the first one did.

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::{
        signal::kill,
        stat::Mode,
        termios::{SetArg, Termios, tcgetattr, tcsetattr},
    },
    unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp},
};
use std::os::fd::OwnedFd;

/// Whether we have a controlling terminal.
pub fn shares_terminal() -> bool {
    controlling().is_some()
}

/// Whether we are what a terminal's user looks at: a shell waits for us, then.
pub fn is_in_foreground() -> bool {
    controlling().is_some_and(|terminal| tcgetpgrp(&terminal) == Ok(getpgrp()))
}

/// Opening this name succeeds for just those that have one.
fn controlling() -> Option<OwnedFd> {
    open("/dev/tty", OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty()).ok()
}

/// The terminal as we found it.
#[derive(Debug)]
pub struct Terminal {
    /// None if somebody else was in the foreground: the modes were theirs.
    modes: Option<Termios>,
}

impl Terminal {
    /// Looks at it; None without one.
    pub fn look() -> Option<Self> {
        let terminal = controlling()?;
        let is_ours = tcgetpgrp(&terminal) == Ok(getpgrp());
        Some(Self { modes: tcgetattr(&terminal).ok().filter(|_| is_ours) })
    }

    /// Before another run: an app that gives the terminal to a group of its own, as shells do, and is killed leaves it to
    /// a group of nobody, and in its own modes. The next run would read an error from it. Nothing is taken from a group
    /// that somebody is in. SIGTTOU must be blocked.
    pub fn restore(&self) {
        let Some(terminal) = controlling() else { return };
        let Ok(holder) = tcgetpgrp(&terminal) else { return };
        let is_ours = holder == getpgrp()
            || kill(Pid::from_raw(-holder.as_raw()), None) == Err(Errno::ESRCH)
                && tcsetpgrp(&terminal, getpgrp()).is_ok();
        if let (true, Some(modes)) = (is_ours, &self.modes) {
            let _ = tcsetattr(&terminal, SetArg::TCSANOW, modes);
        }
    }
}
