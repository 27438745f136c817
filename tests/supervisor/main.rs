//! The process side with real processes, as PID 1 and not. The program under test is `examples/bare_supervisor.rs`:
//! all of lastword but the drains.

#![expect(clippy::panic, reason = "a test's helpers fail as tests do")]

mod leftovers;
mod run;
mod signals;
mod start;
mod tee;
mod terminal;
