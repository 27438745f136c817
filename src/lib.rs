//! `lastword`: your app's last word always gets out.
//!
//! The map (read [`run`] top-down for the life of the process):
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`], [`config`] | what was typed, and what it means |
//! | [`run`] | the wiring |
//! | [`lifecycle`] | the pure machine: on(event) -> actions |
//! | [`supervisor`] | its shell: signals, reaping, timers in; relaying, flushing, exit out |
//! | [`child`] | spawning, reaping, signalling, leftovers |
//! | [`reader`], [`passthrough`], [`line`] | bytes out of the pipes, into lines, and on |
//! | [`drain`], [`format`], [`transport`] | lines to the world |
//! | [`ledger`] | what became of every line |

pub mod clock;
pub mod config;
pub mod drain;
pub mod event;
pub mod format;
pub mod ledger;
pub mod line;
pub mod sys;
pub mod transport;
