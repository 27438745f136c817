//! The readers: one thread a stream that reads, frames, publishes, and hands the bytes to the pass-through.
//!
//! - Lines are published *before* they are passed through, so a blocked stdout never keeps them from the drains.
//! - A read that came at once is followed by a nap of [`NAP`]: an app that writes a line a `write(2)` then fills the pipe
//!   meanwhile, which makes the app 1.8 times faster and the reader 4 times cheaper than pouncing on each line. An idle
//!   stream pays nothing, and an app that writes large blocks is not held: a read of [`PLENTY`] is not followed by a nap.
//! - A reader ends at end of file, or when it is told to [`Intake::finish`]: then it reads what is in the pipe at that
//!   moment and no more, so a stranger who holds the pipe, or keeps writing into it, cannot keep us from the exit.
//! - It never stops reading for any other reason; bytes that were read are published or the process is gone.

use crate::{
    clock,
    event::{Bell, Event},
    line::{Beginning, Framer, HOLD, Join, Lines, Stream},
    passthrough::Passthrough,
    publisher::Publisher,
    say::say,
    sys,
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
    unistd::read,
};
use std::{
    io::{self, IsTerminal},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Size of one read.
const READ_BYTES: usize = 256 << 10;

/// After so many bytes, free memory is given back to the kernel: without that, holes between batches took up to 40 % more than
/// `--memory`, with it 15 %, most of which [`crate::drain`] leaves free.
const TIDY_EVERY: usize = 8 << 20;

/// A read that blocked for less than this finds a busy app.
const BUSY: Duration = Duration::from_micros(100);

/// A read of so many bytes came from a pipe that was nearly full, or from an app that writes large blocks: a nap would
/// only hold the app.
const PLENTY: usize = 64 << 10;

/// How long a reader lets a busy app fill the pipe.
const NAP: Duration = Duration::from_micros(50);

/// Where a reader's bytes go.
#[derive(Clone)]
pub struct Outlet {
    /// Lines; `None` without drains: then nothing is framed.
    pub publisher: Option<Publisher>,
    /// Bytes; `None` with `--passthrough off`.
    pub passthrough: Option<Passthrough>,
    /// `--max-line`, in bytes.
    pub max_line: usize,
    /// `--multiline`.
    pub multiline: Option<Beginning>,
    /// A last line without a newline gets one in the drains: lines of our own follow it, and would go on where it ended in a file of
    /// lines as they are.
    pub ends_lines: bool,
}

/// The readers of a run, as the supervisor sees them.
pub struct Intake {
    finish: Arc<EventFd>,
    failed: Arc<AtomicBool>,
    passthroughs: Vec<Passthrough>,
}

impl Intake {
    /// Starts one reader thread a source.
    ///
    /// # Errors
    /// If a thread or a descriptor cannot be had.
    pub fn start(sources: Vec<(Stream, OwnedFd, Outlet)>, bell: &Bell) -> io::Result<Self> {
        let finish = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let failed = Arc::<AtomicBool>::default();
        let mut passthroughs = Vec::new();
        for (stream, fd, outlet) in sources {
            passthroughs.extend(outlet.passthrough.clone());
            let reader = Reader::new(stream, fd, outlet, Arc::clone(&finish), Arc::clone(&failed));
            let bell = bell.clone();
            thread::Builder::new().name(format!("read-{}", stream.name())).spawn(move || {
                reader.run();
                bell.ring(Event::ReaderDone(stream));
            })?;
        }
        Ok(Self { finish, failed, passthroughs })
    }

    /// A source could not be read to its end.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Everything that may write is gone (or given up): read what is in the pipes, and end.
    pub fn finish(&self) {
        let _ = self.finish.write(1);
    }

    /// The app has exited: the readers no longer wait for a stuck stdout.
    pub fn app_exited(&self) {
        for passthrough in &self.passthroughs {
            passthrough.app_exited();
        }
    }
}

struct Reader {
    stream: Stream,
    fd: OwnedFd,
    framer: Framer,
    join: Option<Join>,
    /// When an event that is held goes out alone.
    due: Option<Instant>,
    outlet: Outlet,
    finish: Arc<EventFd>,
    failed: Arc<AtomicBool>,
    /// Bytes read since memory was given back.
    untidy: usize,
}

/// What woke a reader.
enum Wake {
    /// Bytes, or end of file; and whether the app is busy.
    Readable { busy: bool },
    /// Told to finish.
    Finish,
    /// An event has been held for long enough.
    Due,
}

impl Reader {
    fn new(stream: Stream, fd: OwnedFd, outlet: Outlet, finish: Arc<EventFd>, failed: Arc<AtomicBool>) -> Self {
        let join = outlet.multiline.clone().map(|beginning| Join::new(beginning, outlet.max_line));
        Self { stream, fd, framer: Framer::new(outlet.max_line), join, due: None, outlet, finish, failed, untidy: 0 }
    }

    fn run(mut self) {
        sys::set_fine_timers();
        sys::wait_our_turn();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match self.wait() {
                Wake::Readable { busy } => {
                    let count = self.read_some(&mut buffer);
                    if count == 0 {
                        break;
                    }
                    if busy && count < PLENTY {
                        nap();
                    }
                }
                Wake::Due => self.publish_held(),
                Wake::Finish => {
                    self.read_residue(&mut buffer);
                    break;
                }
            }
        }
        // The pass-through is not ended: another run of the app may follow.
        let mut rest = self.framer.finish();
        if self.outlet.ends_lines {
            rest.iter_mut().for_each(Lines::end);
        }
        self.publish(rest);
        self.publish_held();
    }

    fn wait(&self) -> Wake {
        let before = clock::now();
        loop {
            let mut ready =
                [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN), PollFd::new(self.finish.as_fd(), PollFlags::POLLIN)];
            let timeout = self.due.map_or(PollTimeout::NONE, |due| {
                PollTimeout::try_from(due.saturating_duration_since(before)).unwrap_or(PollTimeout::ZERO)
            });
            match poll(&mut ready, timeout) {
                Err(Errno::EINTR) => {}
                Ok(0) => return Wake::Due,
                _ if ready[1].any() == Some(true) => return Wake::Finish,
                _ => return Wake::Readable { busy: clock::now() - before < BUSY },
            }
        }
    }

    /// Reads once and sends the bytes on their ways; returns how many, 0 at end of file.
    fn read_some(&mut self, buffer: &mut [u8]) -> usize {
        let count = loop {
            match read(&self.fd, buffer) {
                Err(Errno::EINTR | Errno::EAGAIN) => {
                    let mut ready = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
                    let _ = poll(&mut ready, PollTimeout::NONE);
                }
                Ok(count) => break count,
                Err(error) => {
                    self.give_up(error);
                    break 0;
                }
            }
        };
        let chunk = &buffer[..count];
        if self.outlet.publisher.is_some() {
            let lines = self.framer.push(chunk);
            self.publish(lines);
        }
        if let (Some(passthrough), 1..) = (&self.outlet.passthrough, count) {
            passthrough.push(chunk);
        }
        self.tidy_up(count);
        count
    }

    /// A pipe has no such errors, but `tee` reads whatever it is given: a directory, a disk that fails, a socket that was reset. A
    /// terminal that hung up says EIO, which is its end of file.
    fn give_up(&self, error: Errno) {
        if error == Errno::EIO && self.fd.is_terminal() {
            return;
        }
        self.failed.store(true, Ordering::SeqCst);
        say(format_args!("the input can't be read any further: {}", error.desc().to_lowercase()));
    }

    /// Batches of all sizes come and go in a full queue, and leave holes that the next ones do not fit.
    fn tidy_up(&mut self, count: usize) {
        self.untidy += count;
        if self.untidy >= TIDY_EVERY {
            self.untidy = 0;
            sys::return_free_memory();
        }
    }

    /// Reads what is in the pipe now, whoever goes on writing.
    fn read_residue(&mut self, buffer: &mut [u8]) {
        let mut left = sys::bytes_readable(self.fd.as_fd());
        while left > 0 {
            let limit = left.min(buffer.len());
            match self.read_some(&mut buffer[..limit]) {
                0 => break,
                count => left -= count.min(left),
            }
        }
    }

    fn publish(&mut self, lines: Option<Lines>) {
        let Some(mut lines) = lines else { return };
        if let Some(join) = &mut self.join {
            let events = join.push(&lines);
            self.due = join.is_holding().then(|| clock::now() + HOLD);
            match events {
                Some(events) => lines = events,
                None => return,
            }
        }
        self.send(lines);
    }

    /// Nothing more will belong to the event that is held.
    fn publish_held(&mut self) {
        self.due = None;
        if let Some(lines) = self.join.as_mut().and_then(Join::take) {
            self.send(lines);
        }
    }

    fn send(&self, lines: Lines) {
        if let Some(publisher) = &self.outlet.publisher {
            publisher.publish(self.stream, lines);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the nap while the app is busy: see the module's documentation")]
fn nap() {
    thread::sleep(NAP);
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{pipe, write};

    /// A reader of one pipe whose pass-through ends in another.
    struct Rig {
        intake: Intake,
        app: OwnedFd,
        out: OwnedFd,
        bell: Bell,
    }

    fn rig() -> Rig {
        let ((from_app, app), (out, to_out)) = (pipe().unwrap(), pipe().unwrap());
        let bell = Bell::new().unwrap();
        let passthrough = Passthrough::start(Stream::Stdout, to_out, bell.clone()).unwrap();
        let outlet = Outlet {
            publisher: None,
            passthrough: Some(passthrough.clone()),
            max_line: 64,
            multiline: None,
            ends_lines: false,
        };
        // As the supervisor has it: readers first, then the pass-through.
        let reader_bell = Bell::new().unwrap();
        let intake = Intake::start(vec![(Stream::Stdout, from_app, outlet)], &reader_bell).unwrap();
        let supervisor = bell.clone();
        thread::spawn(move || {
            let mut ready = [PollFd::new(reader_bell.fd(), PollFlags::POLLIN)];
            assert!(poll(&mut ready, PollTimeout::from(20_000_u16)).unwrap() > 0, "the reader is not done");
            reader_bell.take().into_iter().for_each(|event| supervisor.ring(event));
            passthrough.end();
        });
        Rig { intake, app, out, bell }
    }

    fn read_all(from: &OwnedFd) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 5000];
        while let Ok(count @ 1..) = read(from, &mut buffer) {
            all.extend_from_slice(&buffer[..count]);
        }
        all
    }

    /// Events of both threads; their order is not fixed, so they are collected until both came.
    fn wait_for_end(bell: &Bell) {
        let mut events = Vec::new();
        while events.len() < 2 {
            let mut ready = [PollFd::new(bell.fd(), PollFlags::POLLIN)];
            assert!(poll(&mut ready, PollTimeout::from(10_000_u16)).unwrap() > 0, "only {events:?} after 10 s");
            events.extend(bell.take());
        }
        assert!(events.contains(&Event::ReaderDone(Stream::Stdout)), "{events:?}");
    }

    #[test]
    fn a_prompt_without_newline_shows_at_once() {
        let rig = rig();
        write(&rig.app, b"name? ").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(read(&rig.out, &mut buffer).unwrap(), 6);
        drop(rig.app);
        wait_for_end(&rig.bell);
        drop(rig.intake);
    }

    #[test]
    fn told_to_finish_a_reader_takes_what_is_in_the_pipe_though_a_stranger_holds_it() {
        let rig = rig();
        write(&rig.app, &[b'x'; 60_000]).unwrap();
        rig.intake.finish();
        // The pipe's write end stays open: there is no end of file.
        assert_eq!(read_all(&rig.out).len(), 60_000);
        wait_for_end(&rig.bell);
    }

    #[test]
    fn told_to_finish_a_reader_ends_though_a_stranger_keeps_writing() {
        let rig = rig();
        let stranger = thread::spawn(move || {
            let mut written = 0_u64;
            while let Ok(count) = write(&rig.app, &[b'x'; 4096]) {
                written += count as u64;
            }
            written
        });
        let reader = thread::spawn(move || read_all(&rig.out).len() as u64);
        rig.intake.finish();
        wait_for_end(&rig.bell);
        // The reader closed the pipe, which is what stops the stranger here (SIGPIPE is ignored in tests).
        let (written, read) = (stranger.join().unwrap(), reader.join().unwrap());
        assert!(read <= written, "{read} of {written}");
    }
}
