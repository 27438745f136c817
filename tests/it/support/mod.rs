//! What the tests share: the numbered lines and their record, the judge, receivers with faults, and the wrapper's
//! harness.

pub mod certificates;
#[path = "../../support/closed.rs"]
pub mod closed;
pub mod daemons;
pub mod dns;
pub mod drain;
pub mod fakes;
pub mod fate;
pub mod fuse;
pub mod http;
pub mod hundred;
pub mod judge;
pub mod lines;
pub mod mortal;
pub mod nginx;
pub mod pair;
pub mod podman;
pub mod record;
pub mod report;
pub mod schedules;
pub mod stops;
pub mod syslog;
pub mod tcp;
pub mod tools;
pub mod web;
pub mod wrapper;

use std::{io::Write, time::Duration};

/// Lets time pass, in loops that wait for something else.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Waits until `met`, or fails after `within`.
#[track_caller]
pub fn until(what: &str, within: Duration, mut met: impl FnMut() -> bool) {
    let end = lastword::clock::now() + within;
    while !met() {
        assert!(lastword::clock::now() < end, "waited {within:?} in vain: {what}");
        pause(Duration::from_millis(3));
    }
}

/// Says something beside the test's result (a seed, a count).
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "note: {text}");
}

/// The seed of this run: `LASTWORD_SEED`, or a fresh one; printed, so that it can be replayed.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("LASTWORD_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| lastword::clock::stamp().0.unsigned_abs());
    note(&format!("{test}: LASTWORD_SEED={seed}"));
    seed
}

/// Milliseconds.
pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
