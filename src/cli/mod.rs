//! The command line: what was typed.
//!
//! Nothing is interpreted here: values are text until [`crate::config`] gives them a meaning, because a variable can
//! hold the same text and a complaint about it must name the variable. One table (the structs below) makes parser,
//! help, completions and the names of the variables. [`help`] adds what can't be derived from it; [`mistakes`] puts what
//! clap complains about into our words.

mod help;
mod mistakes;

use self::{help::command_line, mistakes::explain};
use crate::config::Exit;
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{ffi::OsString, path::PathBuf};

/// What was typed. (No `Debug` here: drain URLs carry credentials.)
pub struct Typed {
    /// Settings of the run.
    pub options: Options,
    /// Something else than running an app.
    pub subcommand: Option<Subcommands>,
    /// What stands behind the first `--`: the app and its arguments. None without a `--`.
    pub command: Option<Vec<OsString>>,
}

/// What stands before the first `--`. The rest is cut off first: clap can't take commands of its own, any other first
/// word (for "did you mean") and words behind `--` all at once.
#[derive(Parser)]
#[command(
    name = "lastword",
    version,
    about = "Runs an app and sees to it that its last word gets out: forwards every line it writes to log drains, \
             passes signals on, and does not exit before the last line of it and of its children is delivered.",
    override_usage = "lastword [OPTIONS] -- COMMAND [ARG]...\n       lastword tee|sink|check|demo|spool|completions [OPTIONS]",
    args_override_self = true,
    allow_external_subcommands = true,
    subcommand_help_heading = "Other commands",
    max_term_width = 80,
    term_width = 80
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    subcommand: Option<Subcommands>,
}

/// Everything but running an app.
#[derive(Subcommand)]
pub enum Subcommands {
    /// Like tee, with drains: forward standard input until it ends
    #[command(override_usage = "APP | lastword tee [OPTIONS]", args_override_self = true)]
    Tee {
        /// Settings of the drains
        #[command(flatten)]
        options: Options,
    },
    /// Receive HTTP and syslog on this machine and print what comes
    #[command(args_override_self = true)]
    Sink(SinkOptions),
    /// Validate the settings and send one test line to each drain
    #[command(override_usage = "lastword check [OPTIONS] [-- COMMAND [ARG]...]", args_override_self = true)]
    Check {
        /// Settings of the drains
        #[command(flatten)]
        options: Options,
    },
    /// Look into a spool, or send what is in it
    #[command(args_override_self = true)]
    Spool {
        /// What to do with it
        #[command(subcommand)]
        what: SpoolWhat,
    },
    /// Show a stop with everything that goes with it, here and now
    Demo,
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  lastword completions bash > /etc/bash_completion.d/lastword")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The worker of the demo's app
    #[command(hide = true)]
    DemoWorker {
        /// Where it keeps its own record
        record: PathBuf,
    },
    /// An init that exits with its direct child, for the demo to compare with
    #[command(hide = true)]
    PlainInit {
        /// Run as PID 1 of a namespace of its own
        #[arg(long)]
        namespace: bool,
    },
    /// A first word that is no command of ours: most likely the app, without `--` before it.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// What `spool` does.
#[derive(Subcommand)]
pub enum SpoolWhat {
    /// List the segments, and what each drain is still to get
    Ls {
        /// The spool
        dir: PathBuf,
    },
    /// Print the lines, oldest first
    Cat {
        /// The spool
        dir: PathBuf,
        /// Only the lines that this drain is still to get, by its name in `ls`
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
    },
    /// Check every byte; exit code 1 if something is damaged
    Verify {
        /// The spool
        dir: PathBuf,
    },
    /// Send what the drains of these settings are still to get; exit code 1 if some of it is still there, or lost
    #[command(after_help = help::SEND_END)]
    Send {
        /// The spool
        dir: PathBuf,
        /// Send what this drain is still to get, by its name in `ls`, to the one of --drain
        #[arg(long, value_name = "NAME")]
        from: Option<String>,
        /// Settings of the drains
        #[command(flatten)]
        options: Box<Options>,
    },
}

/// The settings that `run`, `tee` and `check` share. Each is also a variable: see [`variable`].
#[derive(Args, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Also send every line to URL; repeat for more drains
    #[arg(long, value_name = "URL", help_heading = "Drains")]
    pub drain: Vec<String>,
    /// What to do when a drain's memory is full: drop-oldest, drop-newest or block the app [default: drop-oldest; tee:
    /// block]
    #[arg(long, value_name = "WHAT", help_heading = "Drains", hide_possible_values = true)]
    pub when_full: Option<String>,
    /// Keep lines that are not delivered yet in DIR; the next run with it sends them first
    #[arg(long, value_name = "DIR", help_heading = "Drains")]
    pub spool: Option<PathBuf>,
    /// Size of the spool; beyond it the oldest lines are lost [default: 1GiB]
    #[arg(long, value_name = "SIZE", help_heading = "Drains")]
    pub spool_max: Option<String>,
    /// When the spool is made safe against a crash of the machine (a crash of lastword never needs it): never, interval or
    /// always [default: interval, a second]
    #[arg(long, value_name = "WHEN", help_heading = "Drains")]
    pub spool_sync: Option<String>,
    /// Refuse to start if the spool can't be written
    #[arg(long, value_name = "on|off", help_heading = "Drains")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub spool_required: Option<String>,
    /// Write the lines that no drain took in time to FILE, or to stderr, if there is no spool
    #[arg(long, value_name = "FILE|stderr", help_heading = "Drains")]
    pub fallback: Option<String>,
    /// Time to deliver what is left when the app ended by itself [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = "Drains")]
    pub flush_timeout: Option<String>,

    /// Time between the platform's stop signal and its kill; stating it lets lastword end a hanging app before the
    /// platform kills both [default: auto, what the platform is known to give, else 10s; the app is never killed on a
    /// guess]
    #[arg(long, value_name = "TIME", help_heading = "Stopping")]
    pub stop_timeout: Option<String>,
    /// A signal that asks for a stop, beside TERM and INT; repeat for more
    #[arg(long, value_name = "NAME", help_heading = "Stopping")]
    pub stop_signal: Vec<String>,

    /// Run the app again when it has ended: never, on-failure (an exit code but 0, or a signal) or always; never after a
    /// stop [default: never, for that is the platform's job]
    #[arg(long, value_name = "WHEN", help_heading = "Running again")]
    pub restart: Option<String>,
    /// End with the app's exit code after so many restarts in a row [default: no limit]
    #[arg(long, value_name = "COUNT", help_heading = "Running again")]
    pub max_restarts: Option<String>,
    /// Wait so long before the first restart, and twice as long before each that follows it [default: 1s]
    #[arg(long, value_name = "TIME", help_heading = "Running again")]
    pub restart_delay: Option<String>,
    /// The longest wait before a restart [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = "Running again")]
    pub restart_delay_max: Option<String>,
    /// A run of this length was a good one: waits and the count of restarts begin anew [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = "Running again")]
    pub healthy_after: Option<String>,

    /// Exit with TO where the app exits with FROM; repeat for more
    #[arg(long, value_name = "FROM=TO", help_heading = "Exit code")]
    pub exit_map: Vec<String>,
    /// Exit with CODE if a line was lost, whatever the app's code is [default: the loss is told, the code is the app's]
    #[arg(long, value_name = "CODE", help_heading = "Exit code")]
    pub exit_on_loss: Option<String>,
    /// When to end by the signal that ended the app, so that the parent sees that, and not with 128+n: always, never, or
    /// auto (in the foreground of a terminal, where shells look for it) [default: auto; PID 1 cannot]
    #[arg(long, value_name = "WHEN", help_heading = "Exit code")]
    pub exit_signal: Option<String>,
    /// Who gets the signals that lastword gets: app, group (its process group), tree (its descendants too) or none
    /// [default: app]
    #[arg(long, value_name = "WHO", help_heading = "Signals and leftovers")]
    pub relay: Option<String>,
    /// Pass signal NAME on as another, or not at all, as in TERM=QUIT or HUP=ignore; repeat for more
    #[arg(long, value_name = "NAME=WHAT", help_heading = "Signals and leftovers")]
    pub signal: Vec<String>,
    /// Whether to notice that a stop went to every process of the container, so that the app gets it once: on or off
    /// [default: on; off with --relay none]
    #[arg(long, value_name = "on|off", help_heading = "Signals and leftovers")]
    pub broadcast_guard: Option<String>,
    /// Quiet time for processes that outlive the app [default: 2s]
    #[arg(long, value_name = "TIME", help_heading = "Signals and leftovers")]
    pub linger: Option<String>,
    /// What becomes of them then: term (TERM, then KILL), kill, wait (for as long as they run) or leave (without
    /// waiting) [default: term]
    #[arg(long, value_name = "WHAT", help_heading = "Signals and leftovers")]
    pub leftovers: Option<String>,

    /// Whether lines also go to our own stdout and stderr: on or off [default: on]
    #[arg(long, value_name = "on|off", help_heading = "Output")]
    pub passthrough: Option<String>,
    /// No report at the end
    #[arg(long, value_name = "on|off", help_heading = "Output")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub quiet: Option<String>,
    /// Tell the phases of the stop as they happen
    #[arg(long, value_name = "on|off", help_heading = "Output")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub verbose: Option<String>,
    /// Whether the app's start, stop and end are lines in the drains, too: on, off, or stderr for our own instead
    /// [default: on; tee: off]
    #[arg(long, value_name = "on|off|stderr", help_heading = "Output")]
    pub lifecycle_lines: Option<String>,
    /// Write what became of every line to FILE, as JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub report: Option<PathBuf>,

    /// Answer /metrics (Prometheus), /status (JSON) and /healthz on ADDRESS: IP:PORT, a port of the loopback, or off
    #[arg(long, value_name = "ADDRESS", help_heading = "Output")]
    pub metrics: Option<String>,

    /// The app's name in the drains [default: the platform's name for it, or the command's]
    #[arg(long, value_name = "NAME", help_heading = "Lines and memory")]
    pub name: Option<String>,
    /// The host's name in the drains [default: $HOSTNAME (on Kubernetes $NODE_NAME first), or the kernel's]
    #[arg(long, value_name = "NAME", help_heading = "Lines and memory")]
    pub host: Option<String>,
    /// A label for every line, as in `env=prod`; repeat for more, or separate with commas
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Lines and memory")]
    pub label: Vec<String>,
    /// Split longer lines into numbered parts [default: 64KiB]
    #[arg(long, value_name = "SIZE", help_heading = "Lines and memory")]
    pub max_line: Option<String>,
    /// Join lines to one event, such as a stack trace: `indented` ones to the line before them, or all up to the next that
    /// matches a regular expression (`^\d{4}-`) [default: off]
    #[arg(long, value_name = "indented|REGEX", help_heading = "Lines and memory")]
    pub multiline: Option<String>,
    /// Memory for lines on their way, all drains together [default: auto, a 16th of the container's, at most 32MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Lines and memory")]
    pub memory: Option<String>,
    /// Size of the app's stdout and stderr pipes [default: 256KiB]
    #[arg(long, value_name = "SIZE", help_heading = "Lines and memory")]
    pub pipe_size: Option<String>,
}

/// Settings of `sink`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkOptions {
    /// Where to take HTTP requests: a port, IP:PORT or off [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<String>,
    /// Where to take syslog over TCP: a port, IP:PORT or off [default: 127.0.0.1:5140]
    #[arg(long, value_name = "ADDRESS")]
    pub tcp: Option<String>,
    /// Where to take syslog over UDP: a port, IP:PORT or off [default: 127.0.0.1:5140]
    #[arg(long, value_name = "ADDRESS")]
    pub udp: Option<String>,
}

/// Parses a whole command line, program name included.
///
/// # Errors
/// Help and version texts that were asked for (exit code 0), and complaints (125).
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Typed, Exit> {
    let mut before: Vec<OsString> = args.into_iter().collect();
    let command = before.iter().position(|arg| arg == "--").map(|at| {
        let command = before.split_off(at + 1);
        before.pop();
        command
    });
    let first = if before.get(1).is_some_and(|word| word == "help") { "help" } else { "spool" };
    let matches = command_line().try_get_matches_from(before).map_err(|error| explain(&error, first))?;
    let Cli { options, subcommand } = Cli::from_arg_matches(&matches).map_err(|error| explain(&error, first))?;
    Ok(Typed { options, subcommand, command })
}

/// The variable of a flag: `--stop-timeout` is `LASTWORD_STOP_TIMEOUT`; `--http` of `sink` is `LASTWORD_SINK_HTTP`.
pub fn variable(flag: &str) -> String {
    format!("LASTWORD_{}", flag.trim_start_matches('-').replace('-', "_").to_ascii_uppercase())
}

/// The variables of all flags, `LASTWORD_DRAIN_*` aside.
pub fn variables() -> Vec<String> {
    let command = Cli::command();
    let flags = command.get_arguments().filter_map(Arg::get_long).map(variable);
    let sink = command.get_subcommands().filter(|command| command.get_name() == "sink");
    let of_sink = sink
        .flat_map(|sink| sink.get_arguments().filter_map(Arg::get_long))
        .map(|flag| variable(&format!("sink-{flag}")));
    flags.chain(of_sink).collect()
}

/// The completion script of a shell.
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command_line(), "lastword", &mut script);
    script
}
