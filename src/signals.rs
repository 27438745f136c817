//! Signals as values: all are blocked as the first act of `main` and read from a signalfd, each with its sender.
//!
//! No handler is ever installed, so none interrupts a system call, and one that comes in the first microsecond waits
//! for us. Threads inherit the block. The app is given the mask and the ignored signals that we were started with.

use crate::sys;
use nix::{
    libc,
    sys::{
        signal::{SigSet, SigmaskHow},
        signalfd::{SfdFlags, SignalFd},
    },
};
use std::{
    ffi::OsStr,
    fmt,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
};

/// A signal by number: `nix::Signal` lacks the real-time ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(pub i32);

impl Signal {
    /// Hang-up.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// Ctrl-C, and some platforms' stop.
    pub const INT: Self = Self(libc::SIGINT);
    /// Ctrl-\, and nginx's graceful stop.
    pub const QUIT: Self = Self(libc::SIGQUIT);
    /// The end that nobody survives.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// The usual stop.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// Go on after a job-control stop.
    pub const CONT: Self = Self(libc::SIGCONT);
    /// The terminal changed its size, and httpd's graceful stop.
    pub const WINCH: Self = Self(libc::SIGWINCH);

    /// Understands `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.trim().to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        let number = if let Ok(number) = name.parse::<i32>() {
            number
        } else if let Some(rest) = name.strip_prefix("RTMIN") {
            let offset = if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse::<i32>().ok()? };
            sys::first_realtime().checked_add(offset)?
        } else {
            format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok()? as i32
        };
        (1..=64).contains(&number).then_some(Self(number))
    }

    /// Whether a job-control stop from the terminal is its default.
    pub const fn is_terminal_stop(self) -> bool {
        matches!(self.0, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(signal) = nix::sys::signal::Signal::try_from(self.0) {
            return f.write_str(signal.as_str());
        }
        match self.0 - sys::first_realtime() {
            0 => f.write_str("SIGRTMIN"),
            offset if offset > 0 => write!(f, "SIGRTMIN+{offset}"),
            _ => write!(f, "signal {}", self.0),
        }
    }
}

/// Who sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The kernel itself: a terminal key, a resize, a hang-up.
    Kernel,
    /// A process; 0 if it lives outside our pid namespace.
    Process(u32),
    /// Our own doing: a write to a closed pipe.
    Ourselves,
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("the terminal"),
            Self::Process(0) => f.write_str("outside the container"),
            Self::Process(pid) => write!(f, "pid {pid}"),
            Self::Ourselves => f.write_str("ourselves"),
        }
    }
}

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub signal: Signal,
    /// From whom.
    pub sender: Sender,
}

/// What a received signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A child has news.
    Child,
    /// Stop, sent by a process.
    Stop,
    /// Perhaps a stop.
    SoftStop,
    /// For the app.
    Other,
    /// Ctrl-C on a terminal that the app shares: it was told already.
    Interrupt,
    /// Not for the app: it was told already, or it is our own doing.
    Nothing,
}

impl Received {
    /// What it asks for. `stop_signals` are those of `--stop-signal`; `shared`: the app is in our process group, so that
    /// the terminal's signals reach it without us; `leader`: we lead the session, and a hang-up is told to us alone.
    pub fn meaning(self, stop_signals: &[i32], shared: bool, leader: bool) -> Meaning {
        let Self { signal, sender } = self;
        let number = signal.0;
        if number == libc::SIGCHLD {
            return Meaning::Child;
        }
        if sender == Sender::Ourselves {
            return Meaning::Nothing;
        }
        if sender == Sender::Kernel && shared {
            return match number {
                libc::SIGINT => Meaning::Interrupt,
                libc::SIGHUP | libc::SIGCONT if leader => Meaning::Other,
                _ => Meaning::Nothing,
            };
        }
        let soft = [libc::SIGQUIT, libc::SIGWINCH, sys::first_realtime() + 3];
        if number == libc::SIGTERM || number == libc::SIGINT || stop_signals.contains(&number) {
            Meaning::Stop
        } else if soft.contains(&number) {
            Meaning::SoftStop
        } else {
            Meaning::Other
        }
    }
}

/// What we were started with: the app gets the same.
#[derive(Clone, Debug)]
pub struct Inherited {
    mask: SigSet,
    ignored: Vec<i32>,
    descriptors: Vec<i32>,
}

impl Inherited {
    /// Undoes [`block_all`] in this thread: for commands that run no app.
    pub fn restore(&self) {
        let _ = self.mask.thread_set_mask();
    }

    pub(crate) const fn mask(&self) -> SigSet {
        self.mask
    }

    /// Closes our copies of the descriptors that were meant for the app, which has its own by now: whoever waits for
    /// their end waits for the app alone. Not where a setting names one (`--report /dev/fd/3`).
    pub(crate) fn close_descriptors(&mut self) {
        let names_one = |text: &OsStr| text.as_bytes().windows(4).any(|part| part == b"/fd/");
        let of_ours = |name: &OsStr| name.as_bytes().starts_with(b"LASTWORD_");
        let by_variable = std::env::vars_os().any(|(name, value)| of_ours(&name) && names_one(&value));
        if !by_variable && !std::env::args_os().any(|word| names_one(&word)) {
            for fd in self.descriptors.drain(..) {
                let _ = nix::unistd::close(fd);
            }
        }
    }

    pub(crate) fn ignored(&self) -> &[i32] {
        &self.ignored
    }
}

/// Blocks every signal in this thread and those it will start. The first act of `main`.
///
/// SIGCHLD is set to its default if it came in ignored, for an ignored one has the kernel throw exit codes away.
pub fn block_all() -> Inherited {
    // Cannot fail with this constant `how` and a valid set; an empty mask would be the right guess if it did.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).unwrap_or_else(|_| SigSet::empty());
    let ignored = |signal| if signal == libc::SIGPIPE { sys::pipe_was_ignored() } else { sys::is_ignored(signal) };
    let ignored = (1..=64).filter(|&signal| ignored(signal)).collect();
    sys::set_ignored(libc::SIGCHLD, false);
    Inherited { mask, ignored, descriptors: handed_descriptors() }
}

/// Descriptors from 3 on that a program which we execute would get: nothing of ours is open yet.
fn handed_descriptors() -> Vec<i32> {
    let names = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open = names.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).filter(|&fd| fd > 2);
    open.filter(|&fd| sys::is_handed_on(fd)).collect()
}

/// Ends this process by a signal, so that whoever waits for it sees that. Returns if the kernel does not do it, as for
/// PID 1. No core is written: the app's says more.
pub fn end_by(signal: Signal) {
    let _ = nix::sys::prctl::set_dumpable(false);
    sys::set_ignored(signal.0, false);
    let _ = sys::signal_set(&[signal.0]).thread_unblock();
    let _ = sys::kill(nix::unistd::getpid().as_raw(), signal.0);
}

/// The queue of signals that came.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Call after [`block_all`].
    ///
    /// # Errors
    /// If the kernel has no descriptor left.
    pub fn open() -> nix::Result<Self> {
        SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self)
    }

    /// Of these signals alone.
    pub(crate) fn of(set: &SigSet) -> nix::Result<Self> {
        SignalFd::with_flags(set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self)
    }

    /// The next signal, if one waits.
    pub fn next(&self) -> Option<Received> {
        let info = self.0.read_signal().ok().flatten()?;
        let signal = Signal(i32::try_from(info.ssi_signo).unwrap_or(0));
        // The kernel says "from ourselves" of these two; whoever executed us may have sent others to this number.
        let of_a_write = matches!(signal.0, libc::SIGPIPE | libc::SIGXFSZ);
        let sender = match info.ssi_code {
            libc::SI_USER if of_a_write && info.ssi_pid == std::process::id() => Sender::Ourselves,
            code if code > 0 => Sender::Kernel,
            _ => Sender::Process(info.ssi_pid),
        };
        Some(Received { signal, sender })
    }

    /// Readable while a signal waits.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(signal: i32, sender: Sender) -> Received {
        Received { signal: Signal(signal), sender }
    }

    #[test]
    fn names_numbers_and_realtime_offsets_are_understood() {
        let names = ["TERM", "sigterm", "15", "RTMIN+3", "SIGRTMIN", "WINCH"];
        let signals = names.map(|name| Signal::parse(name).map(|signal| signal.0));
        assert_eq!(signals, [Some(15), Some(15), Some(15), Some(37), Some(34), Some(28)]);
        for wrong in ["", "NOPE", "0", "65", "RTMIN-1", "RTMIN+99", "-15"] {
            assert_eq!(Signal::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn names_are_shown_and_read_back() {
        for number in (1..=64).filter(|number| !matches!(number, 32 | 33)) {
            assert_eq!(Signal::parse(&Signal(number).to_string()), Some(Signal(number)));
        }
    }

    #[test]
    fn a_process_sends_stops_and_the_terminal_does_not() {
        let process = Sender::Process(7);
        for (signal, meaning) in [
            (libc::SIGTERM, Meaning::Stop),
            (libc::SIGINT, Meaning::Stop),
            (libc::SIGQUIT, Meaning::SoftStop),
            (libc::SIGWINCH, Meaning::SoftStop),
            (37, Meaning::SoftStop),
            (libc::SIGHUP, Meaning::Other),
            (libc::SIGPIPE, Meaning::Other),
            (libc::SIGSEGV, Meaning::Other),
            (64, Meaning::Other),
            (libc::SIGCHLD, Meaning::Child),
        ] {
            assert_eq!(from(signal, process).meaning(&[], true, false), meaning, "signal {signal}");
        }
        for (signal, meaning) in [
            (libc::SIGINT, Meaning::Interrupt),
            (libc::SIGQUIT, Meaning::Nothing),
            (libc::SIGWINCH, Meaning::Nothing),
            (libc::SIGTSTP, Meaning::Nothing),
            (libc::SIGHUP, Meaning::Nothing),
        ] {
            assert_eq!(from(signal, Sender::Kernel).meaning(&[], true, false), meaning, "signal {signal}");
        }
    }

    #[test]
    fn a_hang_up_told_to_the_session_leader_alone_is_for_the_app_too() {
        assert_eq!(from(libc::SIGHUP, Sender::Kernel).meaning(&[], true, true), Meaning::Other);
    }

    #[test]
    fn the_stop_signal_option_adds_to_the_stops() {
        assert_eq!(from(libc::SIGUSR1, Sender::Process(0)).meaning(&[libc::SIGUSR1], false, false), Meaning::Stop);
    }

    #[test]
    fn our_own_broken_pipe_is_not_for_the_app() {
        assert_eq!(from(libc::SIGPIPE, Sender::Ourselves).meaning(&[], false, false), Meaning::Nothing);
    }
}
