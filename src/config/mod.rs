//! Configuration: what the flags and variables *mean* (what was typed is `cli`'s).
//!
//! Everything here is resolved: no environment is read and no file opened behind this point, except secrets given as
//! `file:PATH`. A value that exists is valid: parse, don't validate.
//!
//! | file | what it is |
//! |---|---|
//! | `load` | typed options and variables to an [`Invocation`] |
//! | `environment` | `LASTWORD_*` and `${NAME}` |
//! | `schemes` | the table of drain URL schemes |
//! | `drain_url`, `component`, `drain_options`, `drains` | a URL cut, its parts expanded, its fragment, all drains together |
//! | `targets`, `secret`, `proxy` | where a drain's bytes go, with what credentials, past which proxy (of those variables that curl reads) |
//! | `option_rules`, `option_files` | which options go together; the files that they name |
//! | `setting` | one flag or variable, read |
//! | `units`, `stop_signals` | durations and sizes, signal names |
//! | `memory`, `spool` | `--memory` and `--max-line`; `--spool` and what belongs to it |
//! | `process` | what becomes of the app: its exit code, restarts, lines about its life |
//! | `origin`, `labels` | who the lines are from, and what they wear beside that |
//! | `platform` | `--stop-timeout auto`, and the names that a platform gives |
//! | `relaying` | who is signalled with what |
//! | `problem` | what is wrong with a setting, in one line |

#[cfg(test)]
mod bad_input_tests;
mod component;
mod drain_options;
pub(crate) mod drain_url;
pub(crate) mod drains;
mod environment;
mod labels;
mod load;
#[cfg(test)]
mod load_tests;
mod memory;
mod option_files;
mod option_rules;
mod origin;
mod platform;
mod problem;
mod process;
mod proxy;
mod relaying;
mod schemes;
mod secret;
mod setting;
mod spool;
mod stop_signals;
mod targets;
mod units;

pub use environment::Environment;
pub use load::load;
pub use problem::{EXIT_CONFIG, Exit, Output, Problem};
pub use process::{ExitSignal, LifecycleLines};
pub use proxy::Proxy;
pub use relaying::{Leftovers, RelayTo};
pub use secret::Secret;
pub use spool::{SpoolSpec, SpoolSync};
pub use targets::{FileTarget, HostPort, HttpTarget, Identity, RelpTarget, Target, TcpTarget, TlsTarget};

pub(crate) use option_files::reason;
pub(crate) use problem::one_line;
pub(crate) use schemes::help as scheme_help;
pub(crate) use units::human_size;

use crate::{
    commands::{demo::plain_init::PlainInitOptions, sink::SinkOptions, spool::SpoolCommand},
    format::{Format, Origin},
    line::{Beginning, Stream},
    restart,
};
use std::{ffi::OsString, path::PathBuf, time::Duration};

/// What lastword was called for.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// `lastword -- COMMAND`.
    Run(Config),
    /// `lastword tee`.
    Tee(Config),
    /// `lastword spool send`.
    Send(Config),
    /// One of our own commands.
    Command(Command),
}

/// Our own commands, which run no app.
#[derive(Clone, Debug)]
pub enum Command {
    /// `lastword check`.
    Check(Box<Config>),
    /// `lastword completions SHELL`.
    Completions(clap_complete::Shell),
    /// `lastword demo`.
    Demo,
    /// `lastword demo-worker RECORD`, run by the demo.
    DemoWorker(PathBuf),
    /// `lastword plain-init [--namespace] -- COMMAND`, run by the demo.
    PlainInit(PlainInitOptions),
    /// `lastword sink`.
    Sink(SinkOptions),
    /// `lastword spool ls|cat|verify`.
    Spool(SpoolCommand),
}

/// All settings of one run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The app and its arguments; empty for `tee`.
    pub command: Vec<OsString>,
    /// Where lines go.
    pub drains: Vec<DrainSpec>,
    /// Time between the platform's stop signal and its SIGKILL.
    pub budget: Budget,
    /// Where the budget comes from, as a fragment in plain words (`stated by --stop-timeout`).
    pub budget_why: String,
    /// `--stop-signal`: signals beside TERM and INT that count as a stop.
    pub stop_signals: Vec<i32>,
    /// `--relay`: who gets our signals.
    pub relay: RelayTo,
    /// `--signal`: what becomes of some signals on their way; None is nothing.
    pub rewrites: Vec<(i32, Option<i32>)>,
    /// `--broadcast-guard`: tell a stop to everybody from a stop to us.
    pub broadcast_guard: bool,
    /// `--linger`: quiet time of leftovers, if stated.
    pub linger: Option<Duration>,
    /// `--leftovers`.
    pub leftovers: Leftovers,
    /// `--flush-timeout`: how long to flush after an app that ended by itself.
    pub flush_timeout: Duration,
    /// `--max-line`, in bytes.
    pub max_line: usize,
    /// `--multiline`: which lines begin an event.
    pub multiline: Option<Beginning>,
    /// `--memory`, in bytes, for all drains together.
    pub memory: usize,
    /// What a full queue does.
    pub when_full: WhenFull,
    /// `--spool DIR`.
    pub spool: Option<SpoolSpec>,
    /// `spool send --from`: the drain, by its name in the spool, whose lines the only one here gets.
    pub backlog_of: Option<String>,
    /// `--fallback`.
    pub fallback: Option<Fallback>,
    /// `--passthrough`.
    pub passthrough: bool,
    /// `--pipe-size`, in bytes.
    pub pipe_size: usize,
    /// `--quiet`: no report on stderr.
    pub quiet: bool,
    /// `--report FILE`.
    pub report: Option<PathBuf>,
    /// `--metrics`.
    pub metrics: Option<std::net::SocketAddr>,
    /// `--verbose`: tell the phases of the stop.
    pub verbose: bool,
    /// `LASTWORD_LOG`: a filter of `tracing` that can be parsed.
    pub log: Option<String>,
    /// `--restart` and what belongs to it.
    pub restart: restart::Policy,
    /// `--exit-map`: exit codes that stand for others, (the app's, ours). The last one that fits counts.
    pub exit_map: Vec<(u8, u8)>,
    /// `--exit-on-loss`: our exit code if a line was lost.
    pub exit_on_loss: Option<u8>,
    /// `--exit-signal`.
    pub exit_signal: ExitSignal,
    /// `--lifecycle-lines`.
    pub lifecycle_lines: LifecycleLines,
    /// Who the lines are from. Where the platform does not name the instance, it is the pid of the command that is to be
    /// run, and not known yet.
    pub origin: Origin,
    /// Seed of every random choice (jitter).
    pub seed: u64,
    /// What is odd but no error, one line each without the prefix: to be said once at the start.
    pub warnings: Vec<String>,
}

impl Config {
    /// Every setting at its default, without command and drains.
    pub fn defaults(origin: Origin, seed: u64) -> Self {
        Self {
            command: Vec::new(),
            drains: Vec::new(),
            budget: Budget::Assumed(Duration::from_secs(10)),
            budget_why: "assumed: the environment names no platform".into(),
            stop_signals: Vec::new(),
            relay: RelayTo::App,
            rewrites: Vec::new(),
            broadcast_guard: true,
            linger: None,
            leftovers: Leftovers::Term,
            flush_timeout: Duration::from_secs(60),
            max_line: 64 << 10,
            multiline: None,
            memory: 32 << 20,
            when_full: WhenFull::DropOldest,
            spool: None,
            backlog_of: None,
            fallback: None,
            passthrough: true,
            pipe_size: 256 << 10,
            quiet: false,
            report: None,
            metrics: None,
            verbose: false,
            log: None,
            restart: restart::Policy::default(),
            exit_map: Vec::new(),
            exit_on_loss: None,
            exit_signal: ExitSignal::Auto,
            lifecycle_lines: LifecycleLines::On,
            origin,
            seed,
            warnings: Vec::new(),
        }
    }
}

/// `--fallback`: where undelivered lines go at the deadline, if there is no spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Our own stderr.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

impl std::fmt::Display for Fallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// The budget T: time between the platform's stop signal and its SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// The user named it: the app is killed in time for the flush.
    Stated(Duration),
    /// A guess: nothing is ever killed on it but leftovers.
    Assumed(Duration),
}

impl Budget {
    /// T itself.
    pub const fn duration(self) -> Duration {
        match self {
            Self::Stated(time) | Self::Assumed(time) => time,
        }
    }
}

/// `--when-full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest unsealed lines make room, counted.
    DropOldest,
    /// The new lines are not taken, counted.
    DropNewest,
    /// The app waits.
    Block,
}

/// One drain, resolved.
#[derive(Clone, Debug)]
pub struct DrainSpec {
    /// `#name=`, the variable's suffix, or scheme and host.
    pub name: String,
    /// The URL without credentials.
    pub url: String,
    /// How units become bytes.
    pub format: Format,
    /// Where they go.
    pub target: Target,
    /// `#stream=`: just this stream.
    pub stream: Option<Stream>,
}

impl DrainSpec {
    /// The longest message that the receiver takes whole, in bytes, as far as it is known.
    pub fn max_message(&self) -> Option<usize> {
        match &self.target {
            Target::Relp(relp) => Some(relp.max_message),
            Target::Tcp(tcp) => tcp.max_message,
            _ => None,
        }
    }
}
