//! `lastword check`: are the settings good, and does each drain take a line?
//!
//! The settings were validated before this is reached. The test line goes the way that every line goes (queue, format,
//! transport, acknowledgement), so that what it meets is what lines will meet. Past the spool: a backlog is not sent by a
//! check, and a line that is not delivered is not left for the next run.

use crate::{
    cgroup::MemoryLimit,
    clock,
    config::{Budget, Config, DrainSpec, WhenFull, human_size},
    drain::Drains,
    event::{Bell, Event},
    ledger::DrainReport,
    line::{Batch, Lines, Stream},
    places,
};
use bytes::Bytes;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long the drains have, all at once: enough for names, a TLS handshake and a second try.
const PATIENCE: Duration = Duration::from_secs(10);

const TEST_LINE: &[u8] = b"lastword check: test line\n";

/// Sends the line, prints what became of it on stdout, and returns the exit code: 0 if every drain took it and the files of
/// the settings can be written, else 1.
pub fn run(mut config: Config) -> u8 {
    crate::run::trace_if_asked(&config);
    print(&summary(&config, MemoryLimit::find(Path::new("/")).kills_all()));
    let troubles = places::troubles(&config);
    troubles.iter().for_each(|trouble| print(&format!("CAN'T BE WRITTEN: {trouble}\n")));
    (config.spool, config.fallback) = (None, None);
    if config.drains.is_empty() {
        print("no drain is configured: lines go to stdout and stderr alone\n");
        return u8::from(!troubles.is_empty());
    }
    // One line for each drain, whatever stream it is limited to.
    config.drains.iter_mut().for_each(|drain| drain.stream = None);
    match send(&config) {
        Ok(reports) => {
            print(&table(&config.drains, &reports));
            u8::from(!troubles.is_empty() || !reports.iter().all(is_delivered))
        }
        Err(error) => {
            print(&format!("the drains could not be started: {error}\n"));
            1
        }
    }
}

/// A closed stdout does not change the answer, which is also the exit code.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
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
fn summary(config: &Config, memory_kills_all: bool) -> String {
    let budget = match config.budget {
        Budget::Stated(time) => {
            format!("{time:?} from the stop signal to the platform's kill, {}", config.budget_why)
        }
        Budget::Assumed(time) => format!("{time:?}, {}; --stop-timeout states it", config.budget_why),
    };
    let when_full = match config.when_full {
        WhenFull::DropOldest => "drop the oldest lines",
        WhenFull::DropNewest => "drop the newest lines",
        WhenFull::Block => "let the app wait",
    };
    let origin = &config.origin;
    // Without a platform's name for it, the instance is a pid, and of another process than the app's.
    let pid = std::process::id().to_string();
    let instance = Some(origin.instance.wait()).filter(|name| *name != pid).map(|name| format!(", instance {name}"));
    let instance = instance.unwrap_or_default();
    let limit = if memory_kills_all {
        "  memory limit kills the whole container at once (memory.oom.group): only lines in a spool survive that\n"
    } else {
        ""
    };
    let warnings: String = config.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    format!(
        "{warnings}settings are valid\n  lines from   {} on {}{instance}\n  stop budget  {budget}\n  memory       {}; when full, {when_full}\n{limit}",
        origin.app,
        origin.host,
        human_size(config.memory as u64),
    )
}

/// One row a drain: which one, and what came back.
fn table(drains: &[DrainSpec], reports: &[DrainReport]) -> String {
    let labels: Vec<_> = drains.iter().map(label).collect();
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let rows = labels.iter().zip(reports).map(|(label, report)| format!("  {label:<width$}  {}\n", outcome(report)));
    std::iter::once("drains\n".to_string()).chain(rows).collect()
}

/// The URL, with the name if it was chosen: only a name made from a URL has a colon.
fn label(drain: &DrainSpec) -> String {
    if drain.name.contains(':') { drain.url.clone() } else { format!("{} ({})", drain.name, drain.url) }
}

fn outcome(report: &DrainReport) -> String {
    let counts = &report.counts;
    if !is_delivered(report) {
        let reasons: Vec<_> = counts.lost.iter().map(|(reason, _)| reason.name()).collect();
        let reasons = if counts.read == 0 { "the drain was given no line".into() } else { reasons.join(", ") };
        let why = report.trouble.clone().unwrap_or(reasons);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        ledger::{Counts, Grade, Loss},
    };

    fn checked(args: &[&str]) -> Config {
        let args = ["lastword", "check", "--name", "shop", "--host", "h1", "--memory", "1MiB"].iter().chain(args);
        let variables = [("LASTWORD_PORT".into(), "1".into())];
        match config::load(args.map(std::ffi::OsString::from), variables) {
            Ok(config::Invocation::Command(config::Command::Check(config))) => *config,
            other => panic!("{other:?}"),
        }
    }

    fn report(drain: &DrainSpec, settle: impl FnOnce(&mut Counts), trouble: Option<&str>) -> DrainReport {
        let mut counts = Counts { read: 1, ..Counts::default() };
        settle(&mut counts);
        DrainReport {
            name: drain.name.clone(),
            url: drain.url.clone(),
            counts,
            flush: Duration::ZERO,
            trouble: trouble.map(str::to_string),
        }
    }

    #[test]
    fn the_summary_says_what_the_settings_came_to() {
        assert_eq!(
            summary(&checked(&["--stop-timeout", "30"]), false),
            "warning: LASTWORD_PORT is not a setting of lastword and ignored\n\
             settings are valid\n\
             \x20 lines from   shop on h1\n\
             \x20 stop budget  30s from the stop signal to the platform's kill, stated by --stop-timeout\n\
             \x20 memory       1MiB; when full, drop the oldest lines\n"
        );
    }

    #[test]
    fn the_summary_names_the_platform_and_what_it_calls_the_app() {
        let variables = [("DYNO", "web.1"), ("HEROKU_APP_NAME", "shop"), ("HOSTNAME", "h1")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let args = ["lastword", "check", "--memory", "1MiB", "--", "ruby"].map(std::ffi::OsString::from);
        let Ok(config::Invocation::Command(config::Command::Check(config))) = config::load(args, variables) else {
            panic!("no check")
        };
        assert_eq!(
            summary(&config, true),
            "settings are valid\n\
             \x20 lines from   shop on h1, instance web.1\n\
             \x20 stop budget  30s from the stop signal to the platform's kill, stated: Heroku always gives that, and DYNO is set\n\
             \x20 memory       1MiB; when full, drop the oldest lines\n\
             \x20 memory limit kills the whole container at once (memory.oom.group): only lines in a spool survive that\n"
        );
    }

    #[test]
    fn the_table_says_what_came_back() {
        let urls =
            ["https://in.example/", "syslog+tcp://a", "syslog+udp://b", "https://u:p@c#name=c", "file:x", "file:y"];
        let config = checked(&urls.map(|url| ["--drain", url]).concat());
        let reports: Vec<_> = [
            report(&config.drains[0], |counts| counts.settle(Grade::Confirmed, 1), None),
            report(&config.drains[1], |counts| counts.settle(Grade::Accepted, 1), None),
            report(&config.drains[2], |counts| counts.settle(Grade::Sent, 1), None),
            report(&config.drains[3], |counts| counts.lost.add(Loss::Deadline, 1), Some("401 Unauthorized")),
            report(&config.drains[4], |counts| counts.lost.add(Loss::Rejected, 1), None),
            report(&config.drains[5], |counts| counts.read = 0, None),
        ]
        .into();
        assert_eq!(
            table(&config.drains, &reports),
            "drains\n\
             \x20 https://in.example/  confirmed by the receiver\n\
             \x20 syslog+tcp://a       accepted by the receiver's kernel, not confirmed by the receiver\n\
             \x20 syslog+udp://b       sent; this transport gives no evidence of arrival\n\
             \x20 c (https://***@c)    NOT DELIVERED: 401 Unauthorized\n\
             \x20 file:x               NOT DELIVERED: rejected\n\
             \x20 file:y               NOT DELIVERED: the drain was given no line\n"
        );
        assert_eq!(reports.iter().map(is_delivered).collect::<Vec<_>>(), [true, true, true, false, false, false]);
    }

    #[test]
    fn the_wait_ends_with_the_last_drain_and_at_the_deadline() {
        let bell = Bell::new().unwrap();
        let far = clock::now() + Duration::from_secs(60);
        let ringer = bell.clone();
        let thread = std::thread::spawn(move || (0..2).for_each(|drain| ringer.ring(Event::DrainDone(drain))));
        let start = clock::now();
        wait_for_all(&bell, 2, far).unwrap();
        assert!(start.elapsed() < Duration::from_secs(30), "the second drain's bell was not heard");
        thread.join().unwrap();
        let end_at = clock::now() + Duration::from_millis(20);
        wait_for_all(&bell, 1, end_at).unwrap();
        assert!(clock::now() >= end_at);
    }
}
