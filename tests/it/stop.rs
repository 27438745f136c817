//! Stops, as platforms do them: the last words of the app and of its slow workers arrive, twenty times of twenty.

use crate::support::{
    ms,
    pair::Pair,
    schedules::{Schedules, enough},
    stops::{Case, shell, stop_all, within_budget, worker},
    tools, until,
    wrapper::{Running, Setup},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;

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
fn the_last_lines_of_app_and_grandchild_arrive_a_hundred_times_of_a_hundred() {
    let schedules = Schedules { name: "app and grandchild", times: ("LASTWORD_STOPS", 100), lanes: 16 };
    schedules.run(|seed, index| stop_app_and_grandchild(seed, index % 2 == 1));
}

/// An app with a goodbye, and one that it started, in its group or a daemon, with another: stopped once both are at work.
fn stop_app_and_grandchild(seed: u64, pid1: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let pair = Pair::start();
    // A budget that a crowded machine does not use up: this is about the lines. The tests above are about the time, too.
    let setup = pair.setup().stop_timeout(20).pid1(pid1);
    let (own, other) = (random.random_range(0..600), random.random_range(0..900));
    let mut command = setup.oracle(&format!("--err-every 3 --on-term goodbye:{own}"));
    let options = format!("--record {} --source g --err-every 2", setup.path("record").display());
    let kind = ["--child", "--daemon"][random.random_range(0..2)];
    command.extend([kind.into(), format!("{options} --on-term goodbye:{other}")]);
    let mut run = setup.start(&command);
    until("both to be ready", Duration::from_secs(20), || run.record().ready.len() == 2);
    let late = random.random_range(0..400);
    crate::support::pause(ms(late));
    run.stop();
    let done = run.finish(Duration::from_secs(30));
    let context = format!("seed {seed}, pid1 {pid1}, {kind}, goodbyes {own} and {other}, stopped after {late} ms");
    assert_eq!(done.code(), 0, "{context}; stderr: {}", done.err());
    within_budget(&done, 20, &context);
    assert_eq!(done.record.goodbyes.len(), 2, "{context}: {:?}; stderr: {}", done.record.goodbyes, done.err());
    pair.acquit(&done);
}

#[test]
fn stops_at_any_moment_lose_nothing() {
    let schedules = Schedules { name: "stops at any moment", times: ("LASTWORD_EARLY_STOPS", 40), lanes: 16 };
    let goodbyes = schedules.run(|seed, index| stop_at_any_moment(seed, index % 2 == 1));
    let (met, all) = (goodbyes.iter().filter(|&&count| count > 0).count(), goodbyes.len());
    assert!(
        enough(met, all, 50),
        "only {met} of {all} runs were stopped with a worker at work: the test missed its subject"
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
