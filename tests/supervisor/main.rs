//! The process side with real processes, as PID 1 and not. Numbers in brackets, as in `[19]`, are those of the
//! checklist in docs/PROCESS.md.

#![expect(clippy::panic, reason = "a test's helpers fail as tests do")]

mod broadcast;
mod document;
mod leftovers;
mod odds;
mod parents;
mod races;
mod relay;
mod run;
mod signals;
mod start;
mod tee;
mod terminal;
