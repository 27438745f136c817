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
//! | `units`, `stop_signals`, `memory` | durations and sizes, signal names, `--memory auto` |
//! | `problem` | what is wrong with a setting, in one line |

#[cfg(test)]
mod bad_input_tests;
mod component;
mod drain_options;
mod drain_url;
mod drains;
mod environment;
mod labels;
mod load;
#[cfg(test)]
mod load_tests;
mod memory;
mod problem;
mod schemes;
mod stop_signals;
mod units;

pub use environment::Environment;
pub use load::load;
pub use problem::{EXIT_CONFIG, Exit, Output, Problem};

pub(crate) use problem::one_line;
pub(crate) use schemes::help as scheme_help;
pub(crate) use units::human_size;

use crate::{
    commands::{demo::plain_init::PlainInitOptions, sink::SinkOptions},
    format::{Format, Origin, http::Compress},
    line::Stream,
};
use std::{ffi::OsString, path::PathBuf, time::Duration};

/// What lastword was called for.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// `lastword -- COMMAND`.
    Run(Config),
    /// `lastword tee`.
    Tee(Config),
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
    /// `--stop-signal`: signals beside TERM and INT that count as a stop.
    pub stop_signals: Vec<i32>,
    /// `--flush-timeout`: how long to flush after an app that ended by itself.
    pub flush_timeout: Duration,
    /// `--max-line`, in bytes.
    pub max_line: usize,
    /// `--memory`, in bytes, for all drains together.
    pub memory: usize,
    /// What a full queue does.
    pub when_full: WhenFull,
    /// `--passthrough`.
    pub passthrough: bool,
    /// `--pipe-size`, in bytes.
    pub pipe_size: usize,
    /// `--quiet`: no report on stderr.
    pub quiet: bool,
    /// `--report FILE`.
    pub report: Option<PathBuf>,
    /// `--verbose`: tell the phases of the stop.
    pub verbose: bool,
    /// Who the lines are from. The instance is not known when a command is to be run: it is the pid.
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
            stop_signals: Vec::new(),
            flush_timeout: Duration::from_secs(60),
            max_line: 64 << 10,
            memory: 32 << 20,
            when_full: WhenFull::DropOldest,
            passthrough: true,
            pipe_size: 256 << 10,
            quiet: false,
            report: None,
            verbose: false,
            origin,
            seed,
            warnings: Vec::new(),
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

/// Where a drain's bytes go. Closed: one variant a transport.
#[derive(Clone, Debug)]
pub enum Target {
    /// HTTP(S).
    Http(HttpTarget),
    /// A TCP connection.
    Tcp(TcpTarget),
    /// UDP datagrams.
    Udp(HostPort),
    /// A file, appended to.
    File(PathBuf),
}

/// A host name or literal address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name, IPv4 or IPv6 (without brackets).
    pub host: String,
    /// Port, never 0.
    pub port: u16,
}

/// An HTTP(S) endpoint. `Debug` shows neither headers nor anything of the URL but its origin.
#[derive(Clone)]
pub struct HttpTarget {
    /// Absolute, without userinfo and fragment.
    pub url: url::Url,
    /// Extra headers in order: (name, value). Values are secrets.
    pub headers: Vec<(String, Secret)>,
    /// Root certificates beside the platform's: a PEM file, already read.
    pub ca_pem: Option<Vec<u8>>,
    /// Time limit of one request.
    pub timeout: Duration,
    /// How bodies are compressed.
    pub compress: Compress,
}

impl std::fmt::Debug for HttpTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpTarget").field("origin", &self.url.origin().ascii_serialization()).finish_non_exhaustive()
    }
}

/// A plain TCP endpoint.
#[derive(Clone, Debug)]
pub struct TcpTarget {
    /// Where to connect.
    pub peer: HostPort,
    /// `#replay=`: None is automatic; `Some(0)` replays the unacknowledged alone; else a fixed window in bytes.
    pub replay: Option<u64>,
}

/// A credential. Its value never shows in `Debug`.
#[derive(Clone)]
pub enum Secret {
    /// Given directly or through `${NAME}`.
    Value(String),
    /// Read from a file at each (re)start of the transport, and again after a 401.
    File {
        /// Where it is.
        path: PathBuf,
        /// What stands before it in the header (`Bearer `).
        prefix: String,
    },
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
