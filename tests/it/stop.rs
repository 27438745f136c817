//! Stops, as platforms do them: the last words of the app and of its slow workers arrive, twenty times of twenty.

use crate::support::{
    ms,
    pair::Pair,
    seed,
    stops::{Case, shell, side_by_side, stop_all, within_budget, worker},
    tools, until,
    wrapper::{Running, Setup},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{sync::Mutex, time::Duration};

#[test]
fn the_goodbye_of_a_worker_in_a_shell_loop_arrives() {
    let command = |_: &Setup| shell("sh", &format!("while true; do {}; sleep 1; done", worker()));
    stop_all(&Case { name: "shell loop", command, budget: 5, goodbye: 1.5, code: 143, ..Case::default() }, 20);
}

#[test]
fn the_goodbye_of_a_worker_piped_into_tee_arrives() {
    let command = |setup: &Setup| shell("sh", &format!("{} | tee {}", worker(), setup.path("copy").display()));
    stop_all(&Case { name: "worker | tee", command, budget: 5, goodbye: 1.5, code: 143, ..Case::default() }, 20);
}

#[test]
fn the_goodbye_of_a_worker_piped_into_sed_arrives() {
    let command = |_: &Setup| shell("sh", &format!("{} | sed -u s/@/@/", worker()));
    stop_all(&Case { name: "worker | sed", command, budget: 5, goodbye: 1.5, code: 143, ..Case::default() }, 20);
}

#[test]
fn the_goodbye_of_a_worker_under_a_bash_that_defers_its_trap_arrives() {
    // bash runs the trap when its child has ended, and passes nothing on: the last call does.
    let command = |_: &Setup| shell("bash", &format!("trap 'exit 3' TERM; {}; exit 4", worker()));
    stop_all(&Case { name: "bash trap", command, budget: 10, goodbye: 0.8, code: 3, ..Case::default() }, 20);
}

#[test]
fn the_goodbye_of_a_worker_under_a_bash_that_passes_the_signal_on_arrives() {
    let command = |_: &Setup| {
        shell(
            "bash",
            &format!("{} & worker=$!; trap 'kill $worker; wait $worker; exit 5' TERM; wait $worker", worker()),
        )
    };
    stop_all(&Case { name: "bash trap and wait", command, budget: 5, goodbye: 1.5, code: 5, ..Case::default() }, 20);
}

#[test]
fn the_goodbye_through_a_process_substitution_arrives() {
    let command = |_: &Setup| shell("bash", &format!("exec > >(tee); exec {}", worker()));
    stop_all(&Case { name: "exec > >(tee)", command, budget: 5, goodbye: 1.5, code: 0, ..Case::default() }, 20);
}

#[test]
fn the_backlog_of_a_slow_helper_arrives_after_the_app_has_ended() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let setup = pair.setup().pid1(pid1);
        let app = setup.oracle("--count 6 --rate 0 --exit 9").join(" ");
        let slow = r#"while IFS= read -r line; do sleep 0.1; printf '%s\n' "$line"; done"#;
        let done =
            setup.start(&shell("bash", &format!("exec > >({slow}); exec {app}"))).finish(Duration::from_secs(10));
        assert_eq!((done.code(), done.record.done()), (9, 6), "stderr: {}", done.err());
        pair.acquit(&done);
    }
}

#[test]
fn what_a_node_app_logs_in_its_sigterm_handler_arrives() {
    let command = |_: &Setup| vec![tools::node().into(), tools::fixture("app.js")];
    stop_all(&Case { name: "node", command, budget: 5, goodbye: 0.0, code: 0, ..Case::default() }, 20);
}

#[test]
fn a_hundred_stops_at_any_moment_lose_nothing() {
    let seed = seed("a hundred stops");
    let goodbyes = Mutex::new(0);
    side_by_side(16, 100, |index| {
        let said = stop_at_any_moment(seed.wrapping_add(index), index % 2 == 1);
        *goodbyes.lock().expect("no panic while held") += said;
    });
    let goodbyes = goodbyes.into_inner().expect("no panic while held");
    assert!(
        goodbyes >= 60,
        "only {goodbyes} of 100 runs were stopped with a worker at work: the test missed its subject"
    );
}

/// Says how many workers said goodbye.
fn stop_at_any_moment(seed: u64, pid1: bool) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let pair = Pair::start();
    let setup = pair.setup().stop_timeout(5).pid1(pid1);
    let app = setup.oracle("--source w%p --on-term goodbye:1500 --err-every 3").join(" ");
    let mut run = setup.start(&shell("sh", &format!("while true; do {app}; sleep 1; done")));
    until_signals_are_blocked(&run);
    let late = random.random_range(0..1000);
    crate::support::pause(ms(late));
    run.try_stop();
    let done = run.finish(Duration::from_secs(10));
    let context = format!("seed {seed}, pid1 {pid1}, stopped after {late} ms");
    assert_eq!(done.code(), 143, "{context}; stderr: {}", done.err());
    within_budget(&done, 5, &context);
    if done.record.done() > 0 {
        done.all_said_goodbye();
        pair.acquit(&done);
    }
    done.record.goodbyes.len()
}

/// Until lastword has blocked its signals, a TERM is not its own to handle.
fn until_signals_are_blocked(run: &Running) {
    until("lastword to block signals", ms(5000), || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid)).unwrap_or_default();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).map(str::trim);
        blocked.is_some_and(|mask| u64::from_str_radix(mask, 16).is_ok_and(|mask| mask & (1 << 14) != 0))
    });
}
