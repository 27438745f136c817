//! The process side with real processes, as PID 1 and not. The program under test is `examples/bare_supervisor.rs`:
//! all of lastword but the drains.

mod leftovers;
mod run;
mod signals;
mod start;
mod tee;
mod terminal;
