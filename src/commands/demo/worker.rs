//! The demo's app: a worker that is slow to stop. Told to, it finishes its job first and says goodbye 1.5 s later, as
//! queue workers do.
//!
//! Beside stdout it writes each line to a file of its own, right after the write to stdout succeeded: that file is what the app wrote,
//! whatever became of its output.

use crate::{clock, commands::signals};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::Signal,
        signalfd::{SfdFlags, SignalFd},
    },
};
use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::fd::AsFd,
    path::Path,
    time::Duration,
};

/// Between two lines of work.
const STEP: Duration = Duration::from_millis(250);

/// Between two lines of the farewell: four lines, 1.5 s.
const FAREWELL_STEP: Duration = Duration::from_millis(500);

/// Lines of work a job has.
const RECORDS: u32 = 4;

/// A worker that nobody stops (the demo was killed) ends by itself.
const LIFETIME: Duration = Duration::from_secs(30);

/// What the worker says from its stop on, `job` being the one that it is in.
pub(crate) fn farewell(job: u32) -> [String; 4] {
    [
        format!("SIGTERM received: finishing job {job} first"),
        format!("job {job}: writing its results"),
        format!("job {job}: committed"),
        "goodbye: all work saved".to_owned(),
    ]
}

/// Runs the worker (`demo-worker COPY`) until it is told to stop, or nobody reads it any more. Returns the exit code.
pub fn run(copy: &Path) -> u8 {
    let result = open(copy).and_then(|(signals, mut copy)| {
        let end = clock::now() + LIFETIME;
        work(&mut io::stdout().lock(), &mut copy, |time, stopped| {
            if clock::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            wait(&signals, time, stopped)
        })
    });
    // Exit code 0 in any case: the shell around us starts a worker that failed again.
    drop(result);
    0
}

fn open(copy: &Path) -> io::Result<(SignalFd, std::fs::File)> {
    let set = signals::block([Signal::SIGTERM, Signal::SIGINT])?;
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    Ok((signals, OpenOptions::new().create(true).append(true).open(copy)?))
}

/// Waits for `time`, or until a stop comes; when `stopped`, a further one is not waited for. Returns whether one came.
fn wait(signals: &SignalFd, time: Duration, stopped: bool) -> io::Result<bool> {
    let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    let fds = if stopped { &mut [] } else { &mut fds[..] };
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    Ok(poll(fds, timeout)? > 0)
}

/// Works until `wait(time, stopped)` says that a stop came, then says the farewell.
fn work(
    stdout: &mut impl Write,
    copy: &mut impl Write,
    mut wait: impl FnMut(Duration, bool) -> io::Result<bool>,
) -> io::Result<()> {
    let mut number = 0;
    let mut say = |text: &str| {
        number += 1;
        let line = format!("{number:04} {text}\n");
        stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush())?;
        copy.write_all(line.as_bytes())
    };
    let mut steps = 0;
    let job = loop {
        let (job, record) = (steps / RECORDS + 1, steps % RECORDS + 1);
        say(&format!("job {job}: record {record} of {RECORDS}"))?;
        if wait(STEP, false)? {
            break job;
        }
        steps += 1;
    };
    for (index, line) in farewell(job).iter().enumerate() {
        if index > 0 {
            wait(FAREWELL_STEP, true)?;
        }
        say(line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_followed_by_a_farewell_and_both_copies_agree() {
        let (mut stdout, mut copy, mut waited) = (Vec::new(), Vec::new(), Vec::new());
        let wait = |time, stopped| {
            waited.push((time, stopped));
            Ok(waited.len() >= 6)
        };
        work(&mut stdout, &mut copy, wait).unwrap();
        assert_eq!(stdout, copy);
        let text = String::from_utf8(stdout).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..2], ["0001 job 1: record 1 of 4", "0002 job 1: record 2 of 4"]);
        assert_eq!(lines[5], "0006 job 2: record 2 of 4");
        let farewell: Vec<_> = lines[6..].iter().map(|line| &line[5..]).collect();
        assert_eq!(farewell, super::farewell(2));
        let goodbye: Duration = waited[6..].iter().map(|(time, _)| *time).sum();
        assert_eq!(goodbye, Duration::from_millis(1500));
        assert!(waited[6..].iter().all(|(_, stopped)| *stopped));
    }

    #[test]
    fn a_line_that_stdout_did_not_take_is_not_in_the_copy() {
        let mut copy = Vec::new();
        let mut full = io::Cursor::new([0_u8; 30]);
        assert!(work(&mut full, &mut copy, |_, _| Ok(false)).is_err());
        assert_eq!(copy, b"0001 job 1: record 1 of 4\n");
    }
}
