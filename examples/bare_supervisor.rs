//! The process side alone: supervises a command with a plant of two plain readers and no drain. The tests of
//! `tests/supervisor.rs` drive it.
//!
//!     bare_supervisor [--stop-timeout SECONDS] [--hang] -- COMMAND…
//!
//! Notices go to stderr as `notice: …`; `--hang` adds a drain that never finishes.

use lastword::{
    config::Budget,
    event::{Bell, Event},
    line::Stream,
    signals,
    supervisor::{Notice, Plant, Setup, supervise},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

struct Bare {
    bell: Bell,
    finish: Arc<AtomicBool>,
    settled: Arc<AtomicU64>,
    hang: bool,
}

impl Plant for Bare {
    fn attach(&mut self, readers: [OwnedFd; 2]) -> io::Result<()> {
        Stream::ALL.into_iter().zip(readers).try_for_each(|(stream, reader)| self.read(stream, reader))
    }

    fn hurry(&mut self, _end_at: Instant) {}
    fn interim(&mut self) {}
    fn app_exited(&mut self) {}
    fn close_intake(&mut self) {
        self.finish.store(true, Ordering::SeqCst);
    }
    fn flush(&mut self, _end_at: Instant) {}
    fn set_end(&mut self, _end_at: Instant) {}
    fn started(&mut self, _pid: i32) {}
    fn outlets(&self) -> Vec<Event> {
        if self.hang { vec![Event::DrainDone(0)] } else { Vec::new() }
    }
    fn settled(&self) -> u64 {
        self.settled.load(Ordering::SeqCst)
    }
    fn notify(&mut self, notice: &Notice) {
        let _ = writeln!(io::stderr(), "notice: {notice}");
    }
}

impl Bare {
    fn read(&self, stream: Stream, reader: OwnedFd) -> io::Result<()> {
        let (bell, finish) = (self.bell.clone(), Arc::clone(&self.finish));
        thread::Builder::new().spawn(move || {
            read(File::from(reader), stream, &finish);
            bell.ring(Event::ReaderDone(stream));
        })?;
        Ok(())
    }
}

/// Copies until the end of the pipe, or, once told to finish, until it is empty.
fn read(mut pipe: File, stream: Stream, finish: &AtomicBool) {
    let mut buffer = [0; 65_536];
    loop {
        let last_look = finish.load(Ordering::SeqCst);
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        let timeout = if last_look { PollTimeout::ZERO } else { PollTimeout::from(10_u8) };
        if poll(&mut fds, timeout).unwrap_or(0) == 0 {
            if last_look {
                return;
            }
            continue;
        }
        match pipe.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                let bytes = &buffer[..length];
                let _ = match stream {
                    Stream::Stdout => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
                    Stream::Stderr => io::stderr().write_all(bytes),
                };
            }
        }
    }
}

fn main() -> ExitCode {
    let inherited = signals::block_all();
    let mut words = std::env::args_os().skip(1);
    let mut budget = Budget::Assumed(Duration::from_secs(10));
    let mut hang = false;
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--stop-timeout") => {
                let seconds = words.next().and_then(|word| word.to_str()?.parse().ok()).unwrap_or(10.0);
                budget = Budget::Stated(Duration::from_secs_f64(seconds));
            }
            Some("--assume") => {
                let seconds = words.next().and_then(|word| word.to_str()?.parse().ok()).unwrap_or(10.0);
                budget = Budget::Assumed(Duration::from_secs_f64(seconds));
            }
            Some("--hang") => hang = true,
            _ => break,
        }
    }
    // Without a command it reads standard input, as `tee` does.
    let command: Vec<OsString> = words.collect();
    let command = (!command.is_empty()).then_some(command);
    let Ok(bell) = Bell::new() else { return ExitCode::from(125) };
    let mut plant = Bare { bell: bell.clone(), finish: Arc::default(), settled: Arc::default(), hang };
    if command.is_none() {
        let input = io::stdin().as_fd().try_clone_to_owned();
        if input.and_then(|input| plant.read(Stream::Stdout, input)).is_err() {
            return ExitCode::from(125);
        }
    }
    let setup = Setup {
        command,
        budget,
        flush_timeout: Duration::from_secs(60),
        spooled: false,
        stop_signals: vec![],
        pipe_size: 256 * 1024,
        inherited,
        bell,
    };
    match supervise(setup, &mut plant) {
        Ok(outcome) => ExitCode::from(outcome.ending.code()),
        Err(error) => {
            let _ = writeln!(io::stderr(), "notice: {error}");
            ExitCode::from(125)
        }
    }
}
