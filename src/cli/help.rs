//! The texts of `--help` that no table gives: examples, drain URLs, variables, exit codes.
//!
//! `-h` ends with examples; `--help` also names each option's variable, and says the rest.

use super::{Cli, variable};
use crate::config::scheme_help;
use clap::{Arg, CommandFactory};

/// The derived command with what can't be derived: variables and schemes in the long help.
pub(super) fn command_line() -> clap::Command {
    let command =
        Cli::command().mut_args(|arg| with_variable(arg, "")).after_help(SHORT_END).after_long_help(long_end());
    let prefixed = |command: clap::Command| match command.get_name() {
        "sink" => command.mut_args(|arg| with_variable(arg, "sink-")).after_help(SINK_END),
        "tee" => command.mut_args(|arg| with_variable(arg, "")).after_help(TEE_END),
        "check" => command.mut_args(|arg| with_variable(arg, "")).after_help(CHECK_END),
        _ => command,
    };
    command.mut_subcommands(prefixed)
}

fn with_variable(arg: Arg, prefix: &str) -> Arg {
    let (Some(flag), Some(help)) = (arg.get_long(), arg.get_help()) else { return arg };
    let long = format!("{help}\n[env: {}]", variable(&format!("{prefix}{flag}")));
    arg.long_help(long)
}

const SHORT_END: &str = "\
Examples:
  lastword --drain syslog+tcp://logs.example:514 -- python app.py
  lastword --stop-timeout 30s -- node server.js
  lastword demo

Each option is also a variable: --stop-timeout is LASTWORD_STOP_TIMEOUT.
`lastword --help` tells more.";

pub(super) const SEND_END: &str = "\
Examples:
  lastword spool ls DIR
  lastword spool send DIR --drain syslog+tcp://logs.example:514
  lastword spool send DIR --from https://old.example/in --drain https://new.example/in";

const TEE_END: &str = "Example:\n  ./app | lastword tee --drain syslog+tcp://logs.example:514";

const CHECK_END: &str = "Example:\n  lastword check --drain https://collector.example/ingest\n\n\
    Exit code: 0 if every drain took the line, 1 if one did not or a file can't\n\
    be written, 125 if a setting is wrong.";

const SINK_END: &str = "Example, in two terminals:\n  lastword sink\n  \
    lastword --drain http://127.0.0.1:8080 -- ./app";

fn long_end() -> String {
    format!(
        "\
Drain URLs:
{}
  Options stand behind a #, with commas between:
    #name=main,stream=stderr        a name for reports; just one stream
    #require=confirmed              no start where lines can't be confirmed
    #framing=lf,replay=1MiB         syslog+tcp; ndjson+tcp has replay
    #ca=FILE,cert=FILE,key=FILE     tls; also servername= and fingerprint=
    #max-message=8KiB               syslog and relp: longer lines in pieces
    #rotate=100MiB,keep=5           file; also rotate-age= and compress=off
    #bearer=${{TOKEN}},header=X-A:b   http(s); also ca=FILE and timeout=10s
  ${{NAME}} is a variable's value, in any part behind the scheme; %24 is a
  plain $. Secrets can be files: bearer=file:/run/secrets/token.

Variables:
  Each option has one, empty is unset, and the flag wins. LASTWORD_DRAIN and
  LASTWORD_DRAIN_ANYNAME add a drain each. LASTWORD_LOG=debug shows on stderr
  what lastword and its HTTP client do, LASTWORD_LOG=lastword=debug lastword
  alone: any filter of Rust's tracing. The app sees none of them.

Times and sizes:
  30s, 1m30s, 500ms, or plain seconds. 65536, 64KiB, 32MiB.

Exit code:
  The app's own, 128+n if signal n ended it, 127 if it was not found, 126 if
  it can't be run, 125 if a setting is wrong. --exit-map 143=0 calls a death
  by SIGTERM a success, as systemd does.

Examples:
  lastword --drain syslog+tcp://logs.example:514 -- python app.py
  lastword --stop-timeout 30s --drain 'https://in.example/#bearer=${{TOKEN}}' \\
      -- node server.js
  ENTRYPOINT [\"lastword\", \"--\"]      in a Dockerfile; drains by variable
  lastword demo                      see a stop, with nothing to set up",
        scheme_help()
    )
}
