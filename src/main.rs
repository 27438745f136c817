//! The `lastword` binary: parse, do, exit code.

use lastword::{
    cli, commands,
    config::{self, Invocation},
};
use std::{io::Write, process::ExitCode};

fn main() -> ExitCode {
    let code = match config::load(std::env::args_os(), std::env::vars_os()) {
        Err(exit) => return exit.print(),
        Ok(Invocation::Check(config)) => commands::check::run(config),
        Ok(Invocation::Completions(shell)) => u8::from(std::io::stdout().write_all(&cli::completions(shell)).is_err()),
        Ok(other) => {
            let _ = writeln!(std::io::stderr(), "lastword: not wired up yet: {other:?}");
            125
        }
    };
    ExitCode::from(code)
}
