//! The pass-through: the app's bytes to our own stdout or stderr, unchanged, knowing nothing of lines.
//!
//! The reader writes what stdout takes without waiting (RWF_NOWAIT: a promise of the kernel, not a flag that others would
//! see), which costs neither a copy nor a wake-up. For the rest there is one thread a stream, fed through a byte buffer of
//! at most [`ROOM`] bytes: the reader appends, the writer takes all that is there and writes it. So many small reads become
//! one write, a blocked stdout never holds the reader's lock, and the bound is in bytes whatever the sizes of the reads.
//!
//! While the app runs, a full buffer blocks the reader, as the app would have been blocked without us. From the app's exit
//! on, there is room for what its pipe holds, and the reader waits for more no longer than [`STALL`] without progress; what is
//! not taken is counted and reported. A closed stdout (EPIPE, EBADF) swallows the rest: drains and app go on. Any other error (a
//! full disk) costs what was being written, as it would cost the app its write, and is said; what comes next is tried anew.

use crate::{
    clock,
    event::{Bell, Event},
    format::thousands,
    line::Stream,
    say::say,
    sys,
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::write,
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

/// Bytes that wait for the writer.
const ROOM: usize = 1 << 20;

/// Room beside it for what is in the app's pipe when the app exits: another run may follow, and stdout move on.
const RESIDUE: usize = 1 << 20;

/// How long the reader waits for a stuck stdout once the app has exited.
const STALL: Duration = Duration::from_millis(500);

/// Trouble with stdout is not spoken of more often than this.
const QUIET: Duration = Duration::from_secs(60);

/// The reader's end of one stream's pass-through.
#[derive(Debug, Clone)]
pub struct Passthrough {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The writer's, which closes it when it ends.
    out: Weak<OwnedFd>,
    state: Mutex<State>,
    /// Wakes the writer.
    filled: Condvar,
    /// Wakes the reader.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct State {
    buffer: Vec<u8>,
    /// Bytes in the writer's hands.
    writing: usize,
    /// Bytes written, ever.
    written: u64,
    /// Bytes that stdout did not take.
    refused: u64,
    /// No more bytes will come.
    ended: bool,
    /// Stdout is gone: everything is refused.
    broken: bool,
    /// This kind of stdout may make a write wait, so every write is the thread's.
    may_wait: bool,
    /// The app has exited: a stuck stdout is waited for no longer than [`STALL`].
    impatient: bool,
}

impl Passthrough {
    /// Starts the thread that writes to `out`; rings [`Event::PassthroughDone`] when all is written or refused.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(stream: Stream, out: OwnedFd, bell: Bell) -> std::io::Result<Self> {
        let out = Arc::new(out);
        let shared = Arc::new(Shared {
            out: Arc::downgrade(&out),
            state: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        thread::Builder::new().name(format!("pass-{}", stream.name())).spawn(move || {
            sys::wait_our_turn();
            writer.write_all_to(stream, out.as_fd());
            bell.ring(Event::PassthroughDone(stream));
        })?;
        Ok(Self { shared })
    }

    /// Hands over bytes; blocks while the buffer is full, within the rules above.
    pub fn push(&self, bytes: &[u8]) {
        let bytes = &bytes[self.shared.write_now(bytes)..];
        if bytes.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        while state.waiting() + bytes.len() > state.room() && !state.broken && state.waiting() > 0 {
            let (before, was_impatient) = (state.written, state.impatient);
            state = self.shared.drained.wait_timeout(state, STALL).unwrap_or_else(PoisonError::into_inner).0;
            if was_impatient && state.impatient && state.written == before {
                state.refused += bytes.len() as u64;
                return;
            }
        }
        if state.broken {
            state.refused += bytes.len() as u64;
            return;
        }
        let idle = state.waiting() == 0;
        state.buffer.extend_from_slice(bytes);
        if idle {
            self.shared.filled.notify_one();
        }
    }

    /// No more bytes will come.
    pub fn end(&self) {
        self.shared.lock().ended = true;
        self.shared.filled.notify_one();
    }

    /// The app has exited: from now on a stuck stdout is not waited for.
    pub fn app_exited(&self) {
        self.shared.lock().impatient = true;
        self.shared.drained.notify_one();
    }

    /// An app runs (again): its output is waited for as long as it takes.
    pub fn app_runs(&self) {
        self.shared.lock().impatient = false;
    }

    /// Bytes written so far: grows while stdout takes them.
    pub fn written(&self) -> u64 {
        self.shared.lock().written
    }

    /// Bytes that stdout has not taken: refused, or still waiting.
    pub fn untaken(&self) -> u64 {
        let state = self.shared.lock();
        state.refused + state.waiting() as u64
    }
}

impl State {
    fn waiting(&self) -> usize {
        self.buffer.len() + self.writing
    }

    const fn room(&self) -> usize {
        if self.impatient { ROOM + RESIDUE } else { ROOM }
    }

    /// What the writer has in its hands is not taken, and, if stdout is gone `for_good`, nothing that waits or comes. Returns
    /// how many bytes that was.
    fn refuse(&mut self, for_good: bool) -> u64 {
        let refused = if for_good { self.waiting() } else { self.writing } as u64;
        self.refused += refused;
        self.writing = 0;
        if for_good {
            self.broken = true;
            self.buffer = Vec::new();
        }
        refused
    }
}

/// A stdout that is open and takes nothing, as one on a full disk.
#[derive(Debug, Default)]
struct Trouble {
    /// Bytes that are missing since it took any, if that was said.
    missing: Option<u64>,
    said_at: Option<Instant>,
}

impl Trouble {
    /// Returns what to say, if anything.
    fn met(&mut self, error: Errno, refused: u64, now: Instant) -> Option<String> {
        if let Some(missing) = &mut self.missing {
            *missing += refused;
            return None;
        }
        if self.said_at.is_some_and(|at| now < at + QUIET) {
            return None;
        }
        (self.missing, self.said_at) = (Some(refused), Some(now));
        let why = error.desc().to_lowercase();
        Some(format!("takes nothing: {why}; app and drains go on, what is not taken is counted, and it is tried again"))
    }

    fn is_over(&mut self) -> Option<String> {
        let missing = self.missing.take()?;
        Some(format!("takes bytes again; {} are missing in it", thousands(missing)))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what stdout takes at once, if nothing waits before it; returns how many bytes that was.
    fn write_now(&self, bytes: &[u8]) -> usize {
        let state = self.lock();
        if state.waiting() > 0 || state.broken || state.may_wait {
            return 0;
        }
        // Nothing waits, and all that ever will comes through this thread: the writer sleeps on.
        drop(state);
        let Some(out) = self.out.upgrade() else { return 0 };
        let result = sys::write_now(out.as_fd(), bytes);
        let mut state = self.lock();
        match result {
            Ok(count) => {
                state.written += count as u64;
                count
            }
            // Whatever else is wrong, the writer meets it too, and deals with it.
            Err(error) => {
                state.may_wait = !matches!(error, Errno::EAGAIN | Errno::EINTR);
                0
            }
        }
    }

    fn write_all_to(&self, stream: Stream, out: BorrowedFd<'_>) {
        let mut mine = Vec::new();
        let mut trouble = Trouble::default();
        while self.take(&mut mine) {
            let mut rest = &mine[..];
            while !rest.is_empty() {
                let result = write_some(out, rest);
                let mut state = self.lock();
                let words = match result {
                    Ok(count) => {
                        let count = if planted!(passthrough_short_write) { rest.len() } else { count };
                        state.written += count as u64;
                        state.writing -= count;
                        rest = &rest[count..];
                        trouble.is_over()
                    }
                    Err(error) => {
                        let refused = state.refuse(matches!(error, Errno::EPIPE | Errno::EBADF));
                        rest = &[];
                        if state.broken { None } else { trouble.met(error, refused, clock::now()) }
                    }
                };
                drop(state);
                self.drained.notify_one();
                if let Some(words) = words {
                    say(format_args!("pass-through: our {} {words}", stream.name()));
                }
            }
        }
    }

    /// Waits for bytes and swaps them into `mine`; false when all is written and no more will come.
    fn take(&self, mine: &mut Vec<u8>) -> bool {
        mine.clear();
        let mut state = self.lock();
        while state.buffer.is_empty() {
            if state.ended || state.broken {
                return false;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(mine, &mut state.buffer);
        state.writing = mine.len();
        true
    }
}

/// One `write(2)` that was not interrupted. An inherited O_NONBLOCK is waited out, never changed.
fn write_some(out: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        match write(out, bytes) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut ready = [PollFd::new(out, PollFlags::POLLOUT)];
                let _ = poll(&mut ready, PollTimeout::NONE);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use nix::{
        fcntl::{FcntlArg, OFlag, fcntl},
        unistd::{pipe, read},
    };

    /// Waits for something that must happen.
    fn wait_for(mut done: impl FnMut() -> bool) -> bool {
        let until = clock::now() + Duration::from_secs(10);
        while !done() {
            if clock::now() > until {
                return false;
            }
            thread::yield_now();
        }
        true
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    fn read_all(from: &OwnedFd) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 5000];
        while let Ok(count @ 1..) = read(from, &mut buffer) {
            all.extend_from_slice(&buffer[..count]);
        }
        all
    }

    #[test]
    fn bytes_arrive_unchanged_through_a_slow_non_blocking_reader() {
        let (from, to) = pipe().unwrap();
        fcntl(&to, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let bell = Bell::new().unwrap();
        let passthrough = Passthrough::start(Stream::Stdout, to, bell.clone()).unwrap();
        let sent = bytes(3 << 20);
        let reader = thread::spawn(move || read_all(&from));
        for chunk in sent.chunks(70_001) {
            passthrough.push(chunk);
        }
        passthrough.end();
        assert!(reader.join().unwrap() == sent);
        assert!(wait_for(|| bell.take() == [Event::PassthroughDone(Stream::Stdout)]));
        assert_eq!(passthrough.untaken(), 0);
    }

    #[test]
    fn a_closed_stdout_swallows_the_rest_and_counts_it() {
        let (from, to) = pipe().unwrap();
        drop(from);
        let passthrough = Passthrough::start(Stream::Stdout, to, Bell::new().unwrap()).unwrap();
        for chunk in bytes(3 << 20).chunks(1 << 16) {
            passthrough.push(chunk);
        }
        passthrough.end();
        assert_eq!(passthrough.untaken(), 3 << 20);
    }

    /// A full disk ended the pass-through for as long as the process lived, though there was room again a minute later.
    #[test]
    fn a_stdout_that_refuses_for_a_while_gets_what_comes_after_it() {
        let (out, reader) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let bell = Bell::new().unwrap();
        let passthrough = Passthrough::start(Stream::Stdout, out.into(), bell.clone()).unwrap();
        // Too large for a datagram: an error that says nothing of the next write.
        passthrough.push(&vec![b'x'; 8 << 20]);
        assert!(wait_for(|| passthrough.untaken() == 8 << 20 && passthrough.shared.lock().waiting() == 0));
        passthrough.push(b"after");
        let mut buffer = [0; 16];
        reader.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(reader.recv(&mut buffer).unwrap(), 5);
        passthrough.end();
        assert!(wait_for(|| bell.take() == [Event::PassthroughDone(Stream::Stdout)]));
        assert_eq!((passthrough.written(), passthrough.untaken()), (5, 8 << 20));
    }

    #[test]
    fn a_stdout_in_trouble_is_spoken_of_at_the_beginning_and_the_end_and_not_again_within_a_minute() {
        let (start, mut trouble) = (clock::now(), Trouble::default());
        assert!(
            trouble.met(Errno::ENOSPC, 1000, start).unwrap().starts_with("takes nothing: no space left on device;")
        );
        assert_eq!(trouble.met(Errno::ENOSPC, 500, start), None);
        assert_eq!(trouble.is_over().unwrap(), "takes bytes again; 1,500 are missing in it");
        assert_eq!((trouble.is_over(), trouble.met(Errno::EIO, 1, start), trouble.is_over()), (None, None, None));
        assert!(trouble.met(Errno::EIO, 1, start + QUIET).is_some());
    }

    #[test]
    fn after_the_apps_exit_a_stopped_stdout_does_not_hold_the_reader() {
        let (from, to) = pipe().unwrap();
        let passthrough = Passthrough::start(Stream::Stdout, to, Bell::new().unwrap()).unwrap();
        passthrough.app_exited();
        let sent = bytes(3 << 20);
        for chunk in sent.chunks(1 << 19) {
            passthrough.push(chunk);
        }
        passthrough.end();
        let taken = passthrough.written();
        assert_eq!(taken + passthrough.untaken(), 3 << 20);
        assert!(passthrough.untaken() > 0, "the pipe must have been too small");
        // What waits in the buffer still goes out when the reader comes back.
        let got = read_all(&from);
        assert!(!got.is_empty() && sent.starts_with(&got));
    }
}
