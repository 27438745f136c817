//! Many stops side by side, at random moments, each second one with lastword as PID 1.

use super::{
    ms,
    pair::Pair,
    pause, seed, tools,
    wrapper::{Finished, Setup},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{sync::Mutex, thread, time::Duration};

/// A way to run a worker that has a slow goodbye. What it writes must be numbered lines with a record.
pub struct Case {
    /// For messages and the seed.
    pub name: &'static str,
    /// Words between `unshare` and lastword: another init, perhaps.
    pub in_front: Vec<String>,
    /// What lastword runs.
    pub command: fn(&Setup) -> Vec<String>,
    /// The stated budget, in seconds.
    pub budget: u64,
    /// Seconds that the worker goes on after its TERM: `GOODBYE` in its environment.
    pub goodbye: f64,
    /// Which exit code it must be.
    pub code: i32,
    /// How many writers there are: each must be at work before the stop.
    pub writers: usize,
}

impl Default for Case {
    fn default() -> Self {
        let command = |_: &Setup| vec![tools::python().into(), tools::fixture("worker.py")];
        Self { name: "", in_front: Vec::new(), command, budget: 5, goodbye: 0.0, code: 0, writers: 1 }
    }
}

/// `SHELL -c SCRIPT`.
pub fn shell(shell: &str, script: &str) -> Vec<String> {
    vec![shell.into(), "-c".into(), script.into()]
}

/// The slow worker, for a shell's script.
pub fn worker() -> String {
    format!("{} {}", tools::python(), tools::fixture("worker.py"))
}

/// Does `job` for each of `0..times`, in so many lanes. A panic in one of them is the caller's.
pub fn side_by_side(lanes: usize, times: u64, job: impl Fn(u64) + Sync) {
    let next = Mutex::new(0..times);
    let one_lane = || {
        while let Some(index) = { next.lock().expect("no panic while held").next() } {
            job(index);
        }
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(one_lane)).collect();
        for lane in lanes {
            lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

/// Stops `times` runs of a case at random moments after its first lines, four side by side, each second one as PID 1.
pub fn stop_all(case: &Case, times: u64) {
    let seed = seed(case.name);
    side_by_side(4, times, |index| stop_one(case, seed.wrapping_add(index), index % 2 == 1));
}

fn stop_one(case: &Case, seed: u64, pid1: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let pair = Pair::start();
    let setup = pair.setup().stop_timeout(case.budget).pid1(pid1).env("GOODBYE", &case.goodbye.to_string());
    let setup = setup.in_front(&case.in_front);
    let command = (case.command)(&setup);
    let mut run = setup.start(&command);
    super::until("every writer to write", Duration::from_secs(20), || {
        let record = run.record();
        record.sources.values().filter(|extent| extent.done > 0).count() >= case.writers && record.done() >= 3
    });
    pause(ms(random.random_range(0..400)));
    let before = run.record().done();
    run.stop();
    let done = run.finish(Duration::from_secs(case.budget + 5));
    let context = format!("{}, seed {seed}, pid1 {pid1}", case.name);
    assert_eq!(done.code(), case.code, "{context}; stderr: {}", done.err());
    within_budget(&done, case.budget, &context);
    done.all_said_goodbye();
    assert!(done.record.done() > before, "{context}: nothing was written after the stop");
    pair.acquit(&done);
}

/// It was stopped, and has exited in its time.
#[track_caller]
pub fn within_budget(done: &Finished, budget: u64, context: &str) {
    let since = done.since_stop.expect("it was stopped");
    assert!(since < Duration::from_secs(budget), "{context}: exited after {since:?} of {budget} s");
}
