//! `lastword`: your app's last word always gets out.
//!
//! The map (read [`run`] top-down for the life of the process):
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`], [`config`] | what was typed, and what it means |
//! | [`run`] | the wiring |
//! | `diary` | lines about the app's life, in the drains |
//! | [`lifecycle`], [`budget`], [`restart`] | the pure machine: on(event) -> actions; when its timers are due; whether the app runs again |
//! | [`supervisor`] | its shell: signals, reaping, timers in; relaying, flushing, exit out |
//! | [`child`], [`signals`], [`exit`] | spawning, reaping, signalling, leftovers |
//! | [`reader`], [`line`], [`publisher`], [`passthrough`] | bytes out of the pipes, into lines with numbers, and on |
//! | [`drain`], [`format`], [`transport`], [`names`] | lines to the world |
//! | [`spool`] | the disk part of the queues |
//! | [`ledger`], [`report`], [`metrics`] | what became of every line, and who is told |
//! | [`say`] | what we say on stderr |
//! | `errand` | what may hang, waited for a bounded time |
//! | `places` | whether the files of the exit can be written, said early |
//! | [`commands`] | what runs no app |

#[macro_use]
mod planted;

pub mod budget;
pub mod cgroup;
pub mod child;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
mod diary;
pub mod drain;
mod errand;
pub mod event;
pub mod exit;
pub mod format;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod ledger;
pub mod lifecycle;
pub mod line;
pub mod metrics;
pub mod names;
pub mod passthrough;
mod places;
pub mod publisher;
pub mod reader;
pub mod report;
pub mod restart;
pub mod run;
pub mod say;
pub mod signals;
#[cfg(test)]
#[path = "../tests/sim/mod.rs"]
pub(crate) mod sim;
pub mod spool;
pub mod supervisor;
mod sync;
mod sys;
pub mod transport;
