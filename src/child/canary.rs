//! The canary: a small process beside the app that a stop to everybody reaches too, and a stop to us alone does not.
//!
//! It tells of each stop through a pipe, and nothing else: it holds no other descriptor, and is gone when the pipe is.
//! It is started before any thread, and with no exit signal, so that it is no child that `waitpid` knows of and ECHILD
//! still means that nobody is left. It has a session of its own, but stays in our process group where the app does,
//! so that a signal to that group counts as one to everybody. Its name has no `lastword` in it: `pkill lastword` means
//! us, and must not look like a stop to everybody.

use super::process;
use crate::{
    clock,
    signals::{Sender, Signal, Signals},
    sys,
};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::SigmaskHow,
    unistd::pipe2,
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

/// As lists of processes show it.
const NAME: &std::ffi::CStr = c"lw-canary";
/// A report that came so long before the stop at us is of the same broadcast.
const FRESH: Duration = Duration::from_millis(250);
/// A signal, and when the canary had it in nanoseconds since the boot, little-endian.
const REPORT: usize = 9;
/// Takes back the report of a signal that the terminal sent.
const TAKEN_BACK: u8 = 0x80;

/// The canary, from our side.
#[derive(Debug)]
pub struct Canary {
    pid: i32,
    pipe: File,
    /// What it told, and when it had that (since the boot).
    seen: Vec<(Signal, Duration)>,
    /// Counted already, by its pending signals; the report is under way.
    owed: Vec<Signal>,
}

impl Canary {
    /// Starts it. `stops` are the signals that it listens for; `shared`: the app will be in our process group.
    ///
    /// Call while there is one thread, after [`crate::signals::block_all`].
    ///
    /// # Errors
    /// If the kernel has no descriptor or process left.
    pub fn start(stops: &[i32], shared: bool) -> nix::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let pid = sys::fork_unseen(|| sing(File::from(writer), stops, shared))?;
        Ok(Self { pid, pipe: File::from(reader), seen: Vec::new(), owed: Vec::new() })
    }

    /// Its number.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable when it has something to tell, or is gone.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Takes what it has told. False if it is gone.
    pub fn listen(&mut self) -> bool {
        // Each report is written whole, and read whole.
        let mut reports = [0; 16 * REPORT];
        loop {
            match self.pipe.read(&mut reports) {
                Ok(0) => {
                    // Its descriptors are closed, which is on the way out: what remains takes microseconds.
                    sys::reap_unseen(self.pid);
                    return false;
                }
                Ok(count) => reports[..count].chunks_exact(REPORT).for_each(|report| self.note(report)),
                // Nothing more now.
                Err(_) => return true,
            }
        }
    }

    fn note(&mut self, report: &[u8]) {
        let (number, time) = (report[0], report[1..].try_into().map_or(0, u64::from_le_bytes));
        let signal = Signal(i32::from(number & !TAKEN_BACK));
        if number & TAKEN_BACK != 0 {
            if let Some(at) = self.seen.iter().rposition(|&(seen, _)| seen == signal) {
                self.seen.remove(at);
            }
        } else if let Some(at) = self.owed.iter().position(|&owed| owed == signal) {
            self.owed.remove(at);
        } else {
            self.seen.push((signal, Duration::from_nanos(time)));
        }
    }

    /// When it had this signal (since the boot), if that was just now, by what it has told. Uses that up.
    pub fn had(&mut self, signal: Signal) -> Option<Duration> {
        let now = clock::since_boot();
        self.seen.retain(|&(_, at)| now.saturating_sub(at) <= FRESH);
        let last = self.seen.iter().rev().find(|(seen, _)| *seen == signal).map(|&(_, at)| at);
        self.seen.retain(|&(seen, _)| seen != signal);
        last
    }

    /// The same, also by what still waits for it: it may have had no time to tell.
    pub fn has_by_now(&mut self, signal: Signal) -> Option<Duration> {
        self.listen();
        self.had(signal).or_else(|| {
            // It tells before it takes a signal from those that wait: between two looks at the pipe, none can hide.
            if process::waits_for(self.pid, signal.0) {
                self.owed.push(signal);
                return Some(clock::since_boot());
            }
            self.listen();
            self.had(signal)
        })
    }
}

/// The canary's own life.
fn sing(mut pipe: File, stops: &[i32], shared: bool) {
    sys::close_all_but(pipe.as_fd());
    if !shared {
        let _ = nix::unistd::setsid();
    }
    let _ = nix::unistd::chdir("/");
    sys::rename(NAME);
    (1..=64).filter(|signal| !stops.contains(signal)).for_each(|signal| sys::set_ignored(signal, true));
    let set = sys::signal_set(stops);
    let _ = nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None);
    let Ok(signals) = Signals::of(&set) else { return };
    loop {
        // The pipe is asked for nothing: the end of its other side is told all the same.
        let mut fds = [PollFd::new(signals.fd(), PollFlags::POLLIN), PollFd::new(pipe.as_fd(), PollFlags::empty())];
        let _ = poll(&mut fds, PollTimeout::NONE);
        if fds[1].revents().is_none_or(|events| !events.is_empty()) {
            return;
        }
        let pending = sys::pending();
        let waiting = stops.iter().copied().filter(|&signal| sys::has_signal(&pending, signal));
        let waiting: Vec<u8> = waiting.filter_map(|signal| u8::try_from(signal).ok()).collect();
        for &signal in &waiting {
            if pipe.write_all(&report(signal)).is_err() {
                return;
            }
            if sys::take_signal(i32::from(signal)) == Some(Sender::Kernel) {
                let _ = pipe.write_all(&report(signal | TAKEN_BACK));
            }
        }
    }
}

fn report(what: u8) -> [u8; REPORT] {
    let mut report = [what; REPORT];
    let now = u64::try_from(clock::since_boot().as_nanos()).unwrap_or(u64::MAX);
    report[1..].copy_from_slice(&now.to_le_bytes());
    report
}
