//! Many seeded runs of the same thing, side by side.
//!
//! How many there are is a variable's business, so that a long run is the same test: `LASTWORD_KILLS=2000`. A failure names
//! its seed; `LASTWORD_SEED=… LASTWORD_KILLS=1` plays that one alone.

use super::{note, seed, stops::side_by_side};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
};

/// A test of many runs.
pub struct Schedules {
    /// What is printed beside its seeds.
    pub name: &'static str,
    /// How many there are: this variable, or so many.
    pub times: (&'static str, u64),
    /// Side by side; `LASTWORD_LANES` overrides it.
    pub lanes: u64,
}

impl Schedules {
    /// Runs `one(seed, index)` for each, and returns what they returned. In a long run up to ten may fail before the rest is given up,
    /// so that it says how rare a failure is; else the first one ends it.
    pub fn run<T: Send>(&self, one: impl Fn(u64, u64) -> T + Sync) -> Vec<T> {
        let (variable, usually) = self.times;
        let times = number(variable, usually);
        let patience = if times > usually { 10 } else { 1 };
        let base = seed(self.name);
        let (results, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        side_by_side(number("LASTWORD_LANES", self.lanes) as usize, times, |index| {
            if failures.lock().expect("no panic while held").len() >= patience {
                return;
            }
            let seed = base.wrapping_add(index);
            match catch_unwind(AssertUnwindSafe(|| one(seed, index))) {
                Ok(result) => results.lock().expect("no panic while held").push(result),
                Err(_) => {
                    note(&format!("replay with LASTWORD_SEED={seed} {variable}=1 (seed {})", index + 1));
                    failures.lock().expect("no panic while held").push(seed);
                }
            }
        });
        let (results, failures) =
            (results.into_inner().expect("all are done"), failures.into_inner().expect("all are done"));
        note(&format!("{}: {} of {times} passed, {} failed", self.name, results.len(), failures.len()));
        assert!(failures.is_empty(), "{}: failed with these seeds: {failures:?}", self.name);
        results
    }
}

/// A number from the environment, or `usually`.
fn number(variable: &str, usually: u64) -> u64 {
    std::env::var(variable).map_or(usually, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// Whether so many of all are enough to have met the subject. A replay of a few proves nothing of the kind.
pub fn enough(count: usize, all: usize, percent: usize) -> bool {
    all < 20 || count * 100 >= all * percent
}
