//! One run of the app as its platform sees it: start, stop, and everything until all of it is gone, shown as it happens.

use super::{
    Curtain,
    plain_init::Announcement,
    screen::{Moment, Screen, Speaker},
    stage::{Cue, Stage},
};
use crate::{clock, line::Stream};
use nix::sys::signal::{Signal, kill};
use std::{
    io::{self, Write},
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

/// How long the app may take to its first line.
const START_PATIENCE: Duration = Duration::from_secs(8);

/// From the app's first line to the stop: into its third job.
const RUN_UP: Duration = Duration::from_millis(2_100);

/// How long a stop may take; more than lastword's budget in the demo.
const STOP_PATIENCE: Duration = Duration::from_secs(11);

/// What was seen.
#[derive(Default)]
pub(crate) struct Performance {
    /// The lines of stdout, as a platform's log collector gets them.
    pub(crate) stdout: Vec<String>,
    /// What lastword said on stderr.
    pub(crate) said: Vec<String>,
    /// How the plain init was run, if it was one.
    pub(crate) announcement: Option<Announcement>,
    /// From the stop to the exit.
    pub(crate) exit: Option<Duration>,
    /// Processes that were still running then and were killed by the demo, in the kernel's place.
    pub(crate) killed: usize,
}

/// Starts the command, stops it after [`RUN_UP`], and watches until nobody is left who could write to its streams.
pub(crate) fn perform<W: Write>(
    screen: &mut Screen<W>,
    stage: &Stage,
    command: &mut Command,
) -> Result<Performance, Curtain> {
    let pid = stage.start(command)?;
    let mut watch =
        Watch { screen, stage, start: clock::now(), stop: None, ended: [false; 2], seen: Performance::default() };
    if !watch.until(START_PATIENCE, |watch| !watch.seen.stdout.is_empty())? {
        return Err(Curtain::Failed("the app did not start".into()));
    }
    watch.until(RUN_UP, |_| false)?;
    watch.stop = Some(clock::now());
    kill(watch.seen.announcement.as_ref().map_or(pid, Announcement::pid), Signal::SIGTERM).map_err(io::Error::from)?;
    watch.note("the platform sends SIGTERM");
    if !watch.until(STOP_PATIENCE, |watch| watch.seen.exit.is_some() && watch.ended == [true; 2])? {
        return Err(Curtain::Failed(format!("it did not end within {} s of its stop", STOP_PATIENCE.as_secs())));
    }
    match &watch.seen.announcement {
        Some(Announcement::Namespace(_)) => watch.note("nothing is left: the kernel killed the rest of its namespace"),
        Some(Announcement::Ordinary(..)) => {
            watch.note("nothing is left: the demo killed the rest, in the kernel's place");
        }
        None => {}
    }
    Ok(watch.seen)
}

struct Watch<'a, W> {
    screen: &'a mut Screen<W>,
    stage: &'a Stage,
    start: Instant,
    stop: Option<Instant>,
    ended: [bool; 2],
    seen: Performance,
}

impl<W: Write> Watch<'_, W> {
    /// Shows what happens, for `time` or until `done`; says whether it is done.
    fn until(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> Result<bool, Curtain> {
        let until = clock::now() + time;
        while !done(self) {
            if self.screen.is_closed() {
                return Err(Curtain::Closed);
            }
            match self.stage.next(until) {
                None => return Ok(false),
                Some(Cue::Interrupted(signal)) => return Err(Curtain::Interrupted(signal)),
                Some(Cue::Line(Stream::Stdout, text)) => {
                    self.screen.timed(&self.moment(), Speaker::App(Stream::Stdout), &text);
                    self.seen.stdout.push(text);
                }
                Some(Cue::Line(Stream::Stderr | Stream::Own, text)) => self.hear(&text),
                Some(Cue::End(stream)) => self.ended[stream as usize] = true,
                Some(Cue::Exited(status)) => self.exited(status?)?,
            }
        }
        Ok(true)
    }

    fn moment(&self) -> Moment {
        match self.stop {
            Some(stop) => Moment::Stopping(clock::now() - stop),
            None => Moment::Running(clock::now() - self.start),
        }
    }

    fn note(&mut self, text: &str) {
        self.screen.timed(&self.moment(), Speaker::Demo, text);
    }

    /// Stderr has the app's lines and lastword's; the demo's plain init announces itself there.
    fn hear(&mut self, text: &str) {
        if let Some(said) = text.strip_prefix("lastword: ") {
            self.screen.timed(&self.moment(), Speaker::Lastword, said);
            self.seen.said.push(said.to_owned());
        } else if let Some(announcement) = Announcement::parse(text) {
            self.note(match announcement {
                Announcement::Namespace(_) => "the init is PID 1 of a new PID namespace, as in a container",
                Announcement::Ordinary(..) => "the init is an ordinary process: no PID namespace to be had here",
            });
            self.seen.announcement = Some(announcement);
        } else {
            self.screen.timed(&self.moment(), Speaker::App(Stream::Stderr), text);
        }
    }

    fn exited(&mut self, status: ExitStatus) -> Result<(), Curtain> {
        let Some(stop) = self.stop else {
            return Err(Curtain::Failed(format!("it ended before its stop ({status})")));
        };
        self.seen.exit = Some(clock::now() - stop);
        self.note(&match &self.seen.announcement {
            None => format!("lastword has exited ({status})"),
            Some(_) => format!("the init has exited ({status}), as its direct child is gone"),
        });
        // PID 1 of a namespace takes the rest with it. An ordinary process does not, so that part is played here.
        if matches!(self.seen.announcement, Some(Announcement::Ordinary(..))) {
            self.seen.killed = Stage::clear();
        }
        Ok(())
    }
}
