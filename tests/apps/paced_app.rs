//! The app of the tests that measure: writes lines of `--bytes` bytes at a pace, each with the time of its write
//! (`@t=` and twenty digits: nanoseconds of the monotonic clock), and says at the end how long its writes took.

#![expect(clippy::disallowed_methods, reason = "a test app waits and looks at the clock itself")]

use clap::Parser;
use nix::time::ClockId;
use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    thread::sleep,
    time::Duration,
};

#[derive(Parser)]
struct Options {
    /// Lines per second
    #[arg(long)]
    rate: u64,
    /// Lines per write
    #[arg(long, default_value_t = 1)]
    batch: u64,
    /// Bytes per line, newline included
    #[arg(long, default_value_t = 200)]
    bytes: usize,
    /// For so many milliseconds
    #[arg(long)]
    millis: u64,
    /// Where to write the nanoseconds that each write took, one a line
    #[arg(long)]
    writes: Option<PathBuf>,
}

fn now() -> u64 {
    let time = ClockId::CLOCK_MONOTONIC.now().map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let every = 1_000_000_000 * options.batch / options.rate;
    let (begin, mut took, mut bytes) = (now(), Vec::new(), Vec::new());
    // No buffer between us and the pipe.
    let mut out = fs::File::from(std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?);
    let mut due = begin;
    while due < begin + options.millis * 1_000_000 {
        let ahead = due.saturating_sub(now());
        if ahead > 0 {
            sleep(Duration::from_nanos(ahead));
        }
        due += every;
        let start = now();
        bytes.clear();
        for _ in 0..options.batch {
            let width = options.bytes - 24;
            writeln!(bytes, "@t={start:020}{:width$}", "")?;
        }
        let start = now();
        out.write_all(&bytes)?;
        took.push(now() - start);
    }
    match options.writes {
        Some(path) => fs::write(path, took.iter().map(|nanos| format!("{nanos}\n")).collect::<String>()),
        None => Ok(()),
    }
}
