//! The app and all that descends from it: spawning, reaping, signalling, leftovers.
//!
//! One thread owns all of this. Nothing else in the program may wait for children.

mod canary;
mod leftovers;
mod process;
mod reap;
mod spawn;
mod terminal;

pub use canary::Canary;
pub use leftovers::{Family, Told};
pub use reap::{Reaped, Reaper};
pub use spawn::{App, Pipes, SpawnError, spawn};
pub use terminal::{Terminal, is_in_foreground, shares_terminal};
