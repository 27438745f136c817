//! The commands beside the main one. Each has a `run(…) -> exit code`; what was typed is `cli`'s.
//!
//! | command | what it is |
//! |---|---|
//! | [`check`] | are the settings good, and does each drain take a line? |
//! | [`demo`] | a stop on one machine, with and without lastword |
//! | [`spool`] | what a spool holds |
//! | [`sink`] | the receiving side, for trying things out; also the receivers of the demo and of the tests |
//!
//! Hidden ones, which `demo` runs: [`demo::worker`], [`demo::plain_init`].

pub mod check;
pub mod demo;
pub(crate) mod signals;
pub mod sink;
pub mod spool;

use crate::{cli, config::Command, errand::PATIENCE, say::flush};
use std::io::Write;

/// Runs one of our own commands; returns its exit code.
pub fn run(command: Command) -> u8 {
    let code = match command {
        Command::Check(config) => check::run(*config),
        Command::Completions(shell) => u8::from(std::io::stdout().write_all(&cli::completions(shell)).is_err()),
        Command::Demo => demo::run(),
        Command::DemoWorker(copy) => demo::worker::run(&copy),
        Command::PlainInit(options) => demo::plain_init::run(&options),
        Command::Sink(options) => sink::run(&options),
        Command::Spool(command) => spool::run(&command),
    };
    flush(PATIENCE);
    code
}
