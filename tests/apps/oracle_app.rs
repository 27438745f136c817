//! The test app: writes numbered lines, and keeps a private record of what it really wrote.
//!
//! Its lines are a pure function of their number (see `lines.rs`). The record is two files for each source and
//! stream, `SOURCE.o.begun` and `SOURCE.o.done`, which grow by one byte before and after each write of a line: what was
//! written when the app was killed is known to the line. `SOURCE.goodbye` says that the app ended as it wished;
//! `SOURCE.broken`, that nobody was reading any more.

#![expect(clippy::disallowed_methods, reason = "a test app waits and looks at the clock itself")]

use clap::Parser;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    str::FromStr,
    sync::atomic::{AtomicI32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

#[path = "../it/support/lines.rs"]
#[expect(unreachable_pub, reason = "shared with the tests")]
mod lines;

use lines::{Shape, line};

#[derive(Parser)]
#[command(about = "Writes numbered lines and keeps a record of what it really wrote")]
struct Options {
    /// Name of this writer; `%p` becomes its process id
    #[arg(long, default_value = "app")]
    source: String,
    /// Directory of the record; none is kept without it
    #[arg(long)]
    record: Option<PathBuf>,
    /// Lines to write before ending; without it, write until told to stop
    #[arg(long)]
    count: Option<u64>,
    /// Go on after `--count` until this file exists
    #[arg(long)]
    until: Option<PathBuf>,
    /// Lines per second; 0 is as fast as it goes
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// p, fN, e, h or u
    #[arg(long, default_value = "p", value_parser = |name: &str| Shape::parse(name).ok_or("no such shape"))]
    shape: Shape,
    /// Lines per write
    #[arg(long, default_value_t = 1)]
    batch: u64,
    /// Every n-th line goes to stderr (0: none)
    #[arg(long, default_value_t = 0)]
    err_every: u64,
    /// What a TERM (or INT, QUIT) does: `default`, `ignore`, or `goodbye` after this many more milliseconds of writing
    #[arg(long, default_value = "default")]
    on_term: String,
    /// Lines per second between the signal and the goodbye
    #[arg(long, default_value_t = 20)]
    goodbye_rate: u64,
    /// Exit code
    #[arg(long, default_value_t = 0)]
    exit: u8,
    /// End by this signal instead of exiting
    #[arg(long)]
    die: Option<String>,
    /// The last line has no newline
    #[arg(long)]
    no_newline: bool,
    /// Close stdout after the last line and live on for this many milliseconds
    #[arg(long)]
    linger: Option<u64>,
    /// Open /dev/stdout and /dev/stderr anew, by name
    #[arg(long)]
    reopen: bool,
    /// Become this user first (before `--reopen`)
    #[arg(long)]
    uid: Option<u32>,
    /// Start a new session first
    #[arg(long)]
    setsid: bool,
    /// Start another writer with these options (split at spaces) in this group and session
    #[arg(long, allow_hyphen_values = true)]
    child: Vec<String>,
    /// As `--child`, but orphaned and in its own session before its first line (a double fork)
    #[arg(long, allow_hyphen_values = true)]
    daemon: Vec<String>,
    /// (internal) spawn this daemon and exit
    #[arg(long, hide = true, allow_hyphen_values = true)]
    fork: Option<String>,
}

/// The last stop signal that came in; 0 while there is none.
static STOP: AtomicI32 = AtomicI32::new(0);

extern "C" fn on_stop(signal: i32) {
    STOP.store(signal, Ordering::SeqCst);
}

fn stopped() -> bool {
    STOP.load(Ordering::SeqCst) != 0
}

fn main() -> io::Result<ExitCode> {
    let mut options = Options::parse();
    options.source = options.source.replace("%p", &std::process::id().to_string());
    if let Some(daemon) = &options.fork {
        spawn(&format!("--setsid {daemon}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    install_handlers(&options.on_term)?;
    if options.setsid {
        nix::unistd::setsid()?;
    }
    let mut writer = Writer::new(&options)?;
    for child in &options.child {
        spawn(child)?;
    }
    for daemon in &options.daemon {
        let status = Command::new(std::env::current_exe()?).args(["--fork", daemon]).status()?;
        assert!(status.success(), "the intermediate process: {status}");
    }
    let outcome = writer.run(&options);
    drop(writer);
    match outcome {
        Ok(()) => end(&options),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            mark(&options, "broken")?;
            Ok(ExitCode::from(99))
        }
        Err(error) => Err(error),
    }
}

fn spawn(options: &str) -> io::Result<()> {
    Command::new(std::env::current_exe()?).args(options.split_whitespace()).spawn().map(drop)
}

fn install_handlers(on_term: &str) -> io::Result<()> {
    let handler = match on_term {
        "default" => return Ok(()),
        "ignore" => SigHandler::SigIgn,
        _ => SigHandler::Handler(on_stop),
    };
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT].into_iter().try_for_each(|signal| handle(signal, handler))
}

fn handle(signal: Signal, handler: SigHandler) -> io::Result<()> {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    #[expect(unsafe_code, reason = "real apps catch signals, so the test app must")]
    // SAFETY: the only handler is `on_stop`, which stores to an atomic: that is async-signal-safe.
    unsafe {
        sigaction(signal, &action)?;
    }
    Ok(())
}

fn mark(options: &Options, what: &str) -> io::Result<()> {
    match &options.record {
        Some(record) => File::create(record.join(format!("{}.{what}", options.source))).map(drop),
        None => Ok(()),
    }
}

fn end(options: &Options) -> io::Result<ExitCode> {
    if options.on_term != "default" || options.count.is_some() {
        mark(options, "goodbye")?;
    }
    if let Some(millis) = options.linger {
        nix::unistd::close(1)?;
        nix::unistd::close(2)?;
        sleep(Duration::from_millis(millis));
    }
    if let Some(name) = &options.die {
        let signal = Signal::from_str(name).map_err(io::Error::other)?;
        // Rust catches SIGSEGV to say that a stack overflowed.
        if signal != Signal::SIGKILL {
            handle(signal, SigHandler::SigDfl)?;
        }
        raise(signal)?;
        sleep(Duration::from_secs(5));
    }
    Ok(ExitCode::from(options.exit))
}

/// One of the two streams: where lines go, and their record.
struct Sink {
    name: char,
    out: File,
    begun: Option<File>,
    done: Option<File>,
    number: u64,
}

impl Sink {
    fn new(name: char, out: File, options: &Options) -> io::Result<Self> {
        let open = |record: &PathBuf, what: &str| open_record(record, &format!("{}.{name}.{what}", options.source));
        let begun = options.record.as_ref().map(|record| open(record, "begun")).transpose()?;
        let done = options.record.as_ref().map(|record| open(record, "done")).transpose()?;
        Ok(Self { name, out, begun, done, number: 0 })
    }

    /// Writes the next `count` lines with one write (more if the pipe is short of room).
    fn write(&mut self, count: u64, options: &Options, newline: bool) -> io::Result<()> {
        let mut bytes = Vec::new();
        for _ in 0..count {
            self.number += 1;
            bytes.extend_from_slice(&line(&options.source, self.name, options.shape, self.number));
            bytes.push(b'\n');
        }
        if !newline {
            bytes.pop();
        }
        let marks = vec![b'.'; count as usize];
        if let Some(file) = &mut self.begun {
            file.write_all(&marks)?;
        }
        self.out.write_all(&bytes)?;
        if let Some(file) = &mut self.done {
            file.write_all(&marks)?;
        }
        Ok(())
    }
}

fn open_record(record: &Path, name: &str) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(record.join(name))
}

/// Writes the lines, at their pace.
struct Writer {
    out: Sink,
    err: Sink,
    total: u64,
}

impl Writer {
    fn new(options: &Options) -> io::Result<Self> {
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let mut writer =
            Self { out: Sink::new('o', stdout, options)?, err: Sink::new('e', stderr, options)?, total: 0 };
        if let Some(uid) = options.uid {
            nix::unistd::setgid(uid.into())?;
            nix::unistd::setuid(uid.into())?;
        }
        if options.reopen {
            writer.out.out = OpenOptions::new().write(true).open("/dev/stdout")?;
            writer.err.out = OpenOptions::new().write(true).open("/dev/stderr")?;
        }
        Ok(writer)
    }

    fn run(&mut self, options: &Options) -> io::Result<()> {
        let mut pace = Pace::new(options.rate);
        mark(options, "ready")?;
        while !stopped() && !self.finished(options) {
            self.next(options, true)?;
            pace.wait(options.batch, stopped);
        }
        if stopped()
            && let Some(millis) = options.on_term.strip_prefix("goodbye:").and_then(|text| text.parse().ok())
        {
            let end = Instant::now() + Duration::from_millis(millis);
            let mut pace = Pace::new(options.goodbye_rate);
            while Instant::now() < end {
                self.next(options, true)?;
                pace.wait(1, || Instant::now() >= end);
            }
        }
        self.next(options, !options.no_newline)
    }

    fn finished(&self, options: &Options) -> bool {
        let counted = options.count.is_some_and(|count| self.total + 1 >= count);
        counted && options.until.as_ref().is_none_or(|file| file.exists())
    }

    fn next(&mut self, options: &Options, newline: bool) -> io::Result<()> {
        let lines = match options.count {
            Some(count) if options.until.is_none() => options.batch.min((count - 1).saturating_sub(self.total)).max(1),
            _ => options.batch,
        };
        self.total += lines;
        let to_err = options.err_every > 0 && (self.total / options.batch).is_multiple_of(options.err_every);
        let sink = if to_err { &mut self.err } else { &mut self.out };
        sink.write(lines, options, newline)
    }
}

/// Keeps a rate by sleeping whenever it is a millisecond ahead.
struct Pace {
    every: Duration,
    next: Instant,
}

impl Pace {
    fn new(rate: u64) -> Self {
        let every = if rate == 0 { Duration::ZERO } else { Duration::from_secs(1) / rate as u32 };
        Self { every, next: Instant::now() }
    }

    fn wait(&mut self, lines: u64, enough: impl Fn() -> bool) {
        self.next += self.every * lines as u32;
        while let ahead = self.next.saturating_duration_since(Instant::now())
            && ahead > Duration::from_millis(1)
            && !enough()
        {
            sleep(ahead.min(Duration::from_millis(10)));
        }
    }
}
