//! The commands beside the main one. Each has a `run(options) -> exit code`; what was typed is `cli`'s.
//!
//! | command | what it is |
//! |---|---|
//! | [`sink`] | the receiving side, for trying things out; also the receivers of the demo and of the tests |
//! | [`demo`] | a stop on one machine, with and without lastword |
//!
//! Hidden ones, which `demo` runs: [`demo::worker`], [`demo::plain_init`].

pub mod demo;
pub(crate) mod signals;
pub mod sink;

use std::io::Write;

/// One line on stderr, prefixed. A closed stderr is nobody's error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "lastword: {text}");
}
