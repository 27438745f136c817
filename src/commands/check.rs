//! `lastword check`: are the settings good, and does each drain take a line?
//!
//! The settings were validated before this is reached. The test line goes the way that every line goes (queue, format,
//! transport, acknowledgement), so that what it meets is what lines will meet.

use crate::{
    clock,
    config::{Budget, Config, DrainSpec, WhenFull, human_size},
    drain::Drains,
    event::{Bell, Event},
    ledger::DrainReport,
    line::{Batch, Lines, Stream},
};
use bytes::Bytes;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long the drains have, all at once: enough for names, a TLS handshake and a second try.
const PATIENCE: Duration = Duration::from_secs(10);

const TEST_LINE: &[u8] = b"lastword check: test line\n";

/// Sends the line, prints what became of it on stdout, and returns the exit code: 0 if every drain took it, else 1.
pub fn run(mut config: Config) -> u8 {
    let mut text = summary(&config);
    // One line for each drain, whatever stream it is limited to.
    config.drains.iter_mut().for_each(|drain| drain.stream = None);
    let delivered = if config.drains.is_empty() {
        text.push_str("no drain is configured: lines go to stdout and stderr alone\n");
        true
    } else {
        match send(&config) {
            Ok(reports) => {
                text.push_str(&table(&config.drains, &reports));
                reports.iter().all(is_delivered)
            }
            Err(error) => {
                text.push_str(&format!("the drains could not be started: {error}\n"));
                false
            }
        }
    };
    // A closed stdout does not change the answer, which is also the exit code.
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    u8::from(!delivered)
}

fn send(config: &Config) -> io::Result<Vec<DrainReport>> {
    let bell = Bell::new()?;
    let drains = Drains::start(&config.drains, config, &bell)?;
    let lines = Lines { data: Bytes::from_static(TEST_LINE), ends: vec![TEST_LINE.len() as u32], parts: Vec::new() };
    drains.publish(&Arc::new(Batch::new(Stream::Stdout, 1, clock::stamp(), lines)));
    let end_at = clock::now() + PATIENCE;
    drains.close(end_at);
    wait_for_all(&bell, config.drains.len(), end_at)?;
    Ok(drains.close_books())
}

/// Returns when each of `drains` is done, or at `end_at`.
fn wait_for_all(bell: &Bell, mut drains: usize, end_at: Instant) -> io::Result<()> {
    while drains > 0 {
        let left = end_at.saturating_duration_since(clock::now());
        if left.is_zero() {
            break;
        }
        // Rounded up: a wait of 0 ms would spin through the last millisecond.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(bell.fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let done = bell.take().into_iter().filter(|event| matches!(event, Event::DrainDone(_))).count();
        drains = drains.saturating_sub(done);
    }
    Ok(())
}

fn is_delivered(report: &DrainReport) -> bool {
    let counts = &report.counts;
    counts.read > 0 && counts.confirmed + counts.accepted + counts.sent == counts.read
}

/// What the settings came to, one a line.
fn summary(config: &Config) -> String {
    let budget = match config.budget {
        Budget::Stated(time) => format!("{time:?} from the stop signal to the platform's kill"),
        Budget::Assumed(time) => format!("{time:?}, assumed; --stop-timeout states it"),
    };
    let when_full = match config.when_full {
        WhenFull::DropOldest => "drop the oldest lines",
        WhenFull::DropNewest => "drop the newest lines",
        WhenFull::Block => "let the app wait",
    };
    let origin = &config.origin;
    let warnings: String = config.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    format!(
        "{warnings}settings are valid\n  lines from   {} on {}\n  stop budget  {budget}\n  memory       {}; when full, {when_full}\n",
        origin.app,
        origin.host,
        human_size(config.memory as u64),
    )
}

/// One row a drain: name, URL, what came back.
fn table(drains: &[DrainSpec], reports: &[DrainReport]) -> String {
    let name_width = drains.iter().map(|drain| drain.name.chars().count()).max().unwrap_or(0);
    let mut text = String::from("drains\n");
    for (drain, report) in drains.iter().zip(reports) {
        let url = if drain.name == drain.url { String::new() } else { format!("{}  ", drain.url) };
        text.push_str(&format!("  {:<name_width$}  {url}{}\n", drain.name, outcome(report)));
    }
    text
}

fn outcome(report: &DrainReport) -> String {
    let counts = &report.counts;
    if !is_delivered(report) {
        let reasons: Vec<_> = counts.lost.iter().map(|(reason, _)| reason.name()).collect();
        let why = report.trouble.clone().unwrap_or_else(|| reasons.join(", "));
        return format!("NOT DELIVERED: {why}");
    }
    if counts.confirmed > 0 {
        "confirmed by the receiver".into()
    } else if counts.accepted > 0 {
        "accepted by the receiver's kernel, not confirmed by the receiver".into()
    } else {
        "sent; this transport gives no evidence of arrival".into()
    }
}
