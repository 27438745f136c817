//! The wiring: the only file that knows all parts. Read top-down, it tells the life of the process.

use crate::{
    child::{Canary, is_in_foreground, shares_terminal},
    clock,
    config::{Config, ExitSignal, LifecycleLines},
    diary::Diary,
    drain::Drains,
    errand::{Errand, PATIENCE},
    event::{Bell, Event},
    ledger::DrainReport,
    line::Stream,
    metrics::Metrics,
    passthrough::Passthrough,
    places,
    publisher::Publisher,
    reader::{Intake, Outlet},
    report::{Report, Usage},
    say,
    say::{Lines, flush},
    signals::{self, Inherited, Signal},
    supervisor::{FlushEnd, Notice, Outcome, Plant, Setup, supervise},
};
use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

/// What a stderr that hangs costs at the exit at least, though a report that does has used up the time.
const LEAST: Duration = Duration::from_millis(200);

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The output of an app that we start.
    App,
    /// Our own standard input (`tee`).
    Stdin,
    /// Nothing: what is in the spool is to be sent (`spool send`).
    Nothing,
}

/// Runs the app (or reads standard input) to the end, ships every line, and returns the exit code. `inherited` is what
/// [`crate::signals::block_all`] returned.
pub fn run(config: Config, source: Source, inherited: Inherited) -> u8 {
    trace_if_asked(&config);
    match start_and_supervise(&config, source, inherited) {
        Ok((outcome, plumbing)) => {
            let code = plumbing.close(&outcome);
            end_as_the_app_did(&config, &outcome, code);
            code
        }
        Err(error) => {
            say!("could not start: {error}");
            flush(PATIENCE);
            125
        }
    }
}

/// Does not return if a signal ended the app and is to end us (`--exit-signal`). A code that the settings put in its place
/// holds.
fn end_as_the_app_did(config: &Config, outcome: &Outcome, code: u8) {
    let wanted = match config.exit_signal {
        ExitSignal::Auto => is_in_foreground(),
        ExitSignal::Always => true,
        ExitSignal::Never => false,
    };
    if let Some(signal) = outcome.ending.signal().filter(|_| wanted && code == outcome.ending.code()) {
        signals::end_by(signal);
    }
}

/// `LASTWORD_LOG=debug` (or any filter of `tracing`) shows each decision on stderr.
pub(crate) fn trace_if_asked(config: &Config) {
    if let Some(Ok(filter)) = config.log.as_ref().map(tracing_subscriber::EnvFilter::try_new) {
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| Lines).try_init();
    }
}

fn start_and_supervise(config: &Config, source: Source, inherited: Inherited) -> io::Result<(Outcome, Plumbing<'_>)> {
    let begun = clock::now();
    let shared = shares_terminal();
    // Before any thread, and so before any word.
    let canary = (source == Source::App && config.broadcast_guard).then(|| start_canary(config, shared)).flatten();
    config.warnings.iter().for_each(|warning| say!("{warning}"));
    places::warn(config);
    let bell = Bell::new()?;
    let metrics = config.metrics.map(Metrics::bind).transpose()?;
    // Drains come first: what an app says in its first microsecond has somewhere to go.
    let drains = Drains::start(&config.drains, config, &bell)?;
    if let Some(metrics) = metrics {
        if config.metrics.is_some_and(|address| address.port() == 0) {
            say!("metrics on http://{}/metrics", metrics.address()?);
        }
        metrics.serve(drains.clone(), config.origin.run.clone())?;
    }
    let publisher = (!config.drains.is_empty()).then(|| Publisher::new(drains.clone()));
    let diary = Diary::new(config, publisher.as_ref());
    let mut plumbing =
        Plumbing { config, source, drains, publisher, diary, passthroughs: Vec::new(), intake: None, bell, begun };
    plumbing.open_passthroughs(source)?;
    let input = match source {
        Source::App => None,
        Source::Stdin => Some(io::stdin().as_fd().try_clone_to_owned()?),
        Source::Nothing => Some(fs::File::open("/dev/null")?.into()),
    };
    if let Some(input) = input {
        plumbing.read(vec![(Stream::Stdout, input)])?;
    }
    let setup = Setup {
        command: (source == Source::App).then(|| config.command.clone()),
        budget: config.budget,
        budget_why: config.budget_why.clone(),
        restart: config.restart,
        seed: config.seed,
        flush_timeout: config.flush_timeout,
        spooled: plumbing.drains.have_spool(),
        stop_signals: config.stop_signals.clone(),
        relay: config.relay,
        rewrites: config.rewrites.clone(),
        linger: config.linger,
        leftovers: config.leftovers,
        shared,
        pipe_size: config.pipe_size,
        inherited,
        bell: plumbing.bell.clone(),
    };
    let outcome = supervise(setup, canary, &mut plumbing)?;
    Ok((outcome, plumbing))
}

/// Without one, the app runs all the same.
fn start_canary(config: &Config, shared: bool) -> Option<Canary> {
    let stops: Vec<i32> =
        [Signal::TERM.0, Signal::INT.0].into_iter().chain(config.stop_signals.iter().copied()).collect();
    match Canary::start(&stops, shared) {
        Ok(canary) => Some(canary),
        Err(error) => {
            say!("the broadcast guard is off, for its canary could not be started: {}", error.desc());
            None
        }
    }
}

/// Readers, pass-through and drains: what the supervisor commands.
struct Plumbing<'a> {
    config: &'a Config,
    source: Source,
    drains: Drains,
    /// None without drains. One for all streams: the sequence runs over them.
    publisher: Option<Publisher>,
    diary: Diary,
    passthroughs: Vec<(Stream, Passthrough)>,
    intake: Option<Intake>,
    bell: Bell,
    begun: Instant,
}

impl Plumbing<'_> {
    fn open_passthroughs(&mut self, source: Source) -> io::Result<()> {
        if !self.config.passthrough {
            return Ok(());
        }
        let stdout = (Stream::Stdout, io::stdout().as_fd().try_clone_to_owned()?);
        let stderr = (Stream::Stderr, io::stderr().as_fd().try_clone_to_owned()?);
        let outputs = if source == Source::App { vec![stdout, stderr] } else { vec![stdout] };
        for (stream, out) in outputs {
            self.passthroughs.push((stream, Passthrough::start(stream, out, self.bell.clone())?));
        }
        Ok(())
    }

    fn read(&mut self, sources: Vec<(Stream, OwnedFd)>) -> io::Result<()> {
        let outlet = |stream| Outlet {
            publisher: self.publisher.clone(),
            passthrough: self.passthroughs.iter().find(|(of, _)| *of == stream).map(|(_, it)| it.clone()),
            max_line: self.config.max_line,
            multiline: self.config.multiline.clone(),
            ends_lines: self.config.lifecycle_lines == LifecycleLines::On,
        };
        let sources = sources.into_iter().map(|(stream, fd)| (stream, fd, outlet(stream))).collect();
        self.intake = Some(Intake::start(sources, &self.bell)?);
        Ok(())
    }

    /// The last acts: freeze the accounts, say them, return the code.
    fn close(self, outcome: &Outcome) -> u8 {
        let left = || outcome.last_words_by.saturating_duration_since(clock::now());
        // A quarter is the report's.
        let drains = self.drains.close_books_within(left() / 4 * 3);
        let code = self.exit_code(outcome, &drains);
        let report = Report {
            run: self.config.origin.run.clone(),
            exit_code: code,
            runs: outcome.runs,
            duration: clock::now() - self.begun,
            usage: Usage::own(),
            drains,
            spool: self.drains.spool_report(),
        };
        // A disk that hangs keeps neither our words from stderr nor us from the exit.
        let filed = self.config.report.as_ref().map(|path| (path, report.file(path)));
        if !self.config.quiet {
            if outcome.runs > 1 {
                say!("the app ran {} times; the last run {}", outcome.runs, outcome.ending);
            }
            self.say_what_was_left(outcome);
            report.drains.iter().for_each(|drain| say!("{drain}"));
        }
        if let Some((path, filed)) = filed
            && let Err(error) = filed.and_then(|filing| in_time(&filing, left().min(PATIENCE)))
        {
            say!("--report {}: {error}", path.display());
        }
        flush(left().clamp(LEAST, PATIENCE));
        code
    }

    /// The app's, unless the settings say otherwise.
    fn exit_code(&self, outcome: &Outcome, drains: &[DrainReport]) -> u8 {
        let lost = outcome.unread || drains.iter().any(|drain| drain.counts.lost.total() > 0);
        if let (true, Some(code)) = (lost, self.config.exit_on_loss) {
            return code;
        }
        let code = match outcome.ending.code() {
            // `spool send` did what it was for, or not.
            0 if self.source == Source::Nothing => {
                let is_left = drains.iter().any(|it| it.counts.spooled > 0);
                u8::from(lost || is_left || self.found_nothing(drains))
            }
            // As tee(1) has it.
            0 if self.source == Source::Stdin => u8::from(self.intake.as_ref().is_some_and(Intake::has_failed)),
            code => code,
        };
        let mapped = self.config.exit_map.iter().rev().find(|(from, _)| *from == code);
        mapped.map_or(code, |&(_, to)| to)
    }

    /// `--from` names a drain that is owed nothing: misspelt, most likely.
    fn found_nothing(&self, drains: &[DrainReport]) -> bool {
        let Some(name) = self.config.backlog_of.as_ref().filter(|_| drains.iter().all(|it| it.counts.adopted == 0))
        else {
            return false;
        };
        say!("--from {name}: no lines wait for a drain of that name; `lastword spool ls DIR` names those that do");
        true
    }

    fn say_what_was_left(&self, outcome: &Outcome) {
        if outcome.unread {
            say!("the pipes were not read to the end: what was in them is lost, uncounted");
        }
        for (stream, passthrough) in &self.passthroughs {
            let untaken = passthrough.untaken();
            if untaken > 0 {
                say!("pass-through: our {} did not take {untaken} bytes", stream.name());
            }
        }
    }
}

impl Plant for Plumbing<'_> {
    fn attach(&mut self, [stdout, stderr]: [OwnedFd; 2]) -> io::Result<()> {
        self.diary.begin();
        self.passthroughs.iter().for_each(|(_, passthrough)| passthrough.app_runs());
        self.read(vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)])
    }

    fn may_run_again(&mut self) -> bool {
        self.drains.block_again()
    }

    fn started(&mut self, pid: i32) {
        self.config.origin.instance.tell(pid.to_string());
    }

    fn hurry(&mut self, end_at: Instant) {
        self.drains.hurry(end_at);
    }

    fn interim(&mut self) {
        // The app may hang in a write to a full queue: nobody but its reader can end that.
        self.drains.unblock();
        for (name, counts) in self.drains.counts() {
            say!("so far, drain {name}: {counts}");
        }
    }

    fn app_exited(&mut self) {
        self.drains.unblock();
        if planted!(inbox_closes_before_last_push) {
            self.drains.close(clock::now() + self.config.flush_timeout);
        }
        if let Some(intake) = &self.intake {
            intake.app_exited();
        }
    }

    fn close_intake(&mut self) {
        if let Some(intake) = &self.intake {
            intake.finish();
        }
    }

    fn flush(&mut self, end_at: Instant) {
        self.diary.close();
        self.passthroughs.iter().for_each(|(_, passthrough)| passthrough.end());
        // No app, no pid; lines of our own may wait for a name all the same.
        self.config.origin.instance.tell(std::process::id().to_string());
        self.drains.close(end_at);
    }

    fn set_end(&mut self, end_at: Instant) {
        self.drains.set_end(end_at);
    }

    fn outlets(&self) -> Vec<Event> {
        let drains = (0..self.config.drains.len()).map(Event::DrainDone);
        let passthroughs = self.passthroughs.iter().map(|&(stream, _)| Event::PassthroughDone(stream));
        drains.chain(passthroughs).collect()
    }

    fn settled(&self) -> u64 {
        self.drains.settled()
    }

    fn signs_of_life(&self) -> u64 {
        self.drains.signs_of_life() + self.passthroughs.iter().map(|(_, it)| it.written()).sum::<u64>()
    }

    fn notify(&mut self, notice: &Notice) {
        self.diary.note(notice);
        let cut = matches!(notice, Notice::FlushCut(end) if *end != FlushEnd::Done);
        let is_asked_for = self.config.lifecycle_lines == LifecycleLines::Stderr && notice.is_lifecycle();
        if self.config.verbose || is_asked_for || (notice.is_important() && !(self.config.quiet && cut)) {
            say!("{notice}");
        }
    }
}

/// What came of the report's writing.
fn in_time(filing: &Errand<io::Result<()>>, limit: Duration) -> io::Result<()> {
    let late =
        || Err(io::Error::other(format!("not written in {:.1} s, and not waited for any longer", limit.as_secs_f64())));
    filing.wait(limit).unwrap_or_else(late)
}
