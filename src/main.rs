//! The `lastword` binary: parse, do, exit code.

use lastword::{
    commands,
    config::{self, Invocation},
    run::{self, Source},
    signals,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    // The first act: a stop in our first microsecond waits until we can act on it.
    let inherited = signals::block_all();
    let code = match config::load(std::env::args_os(), std::env::vars_os()) {
        Ok(Invocation::Run(config)) => run::run(config, Source::App, inherited),
        Ok(Invocation::Tee(config)) => run::run(config, Source::Stdin, inherited),
        Ok(Invocation::Send(config)) => run::run(config, Source::Nothing, inherited),
        Ok(Invocation::Command(command)) => {
            inherited.restore();
            commands::run(command)
        }
        Err(exit) => return exit.print(),
    };
    ExitCode::from(code)
}
