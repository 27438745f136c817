//! Signals and stops: what reaches the app, when it is killed, and how long the end may take.

use crate::run::{BOTH, Place, Run, WORKER, hanging_drain, has, now, on_railway, program, wrapped};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{process::Command, time::Duration};

#[test]
fn every_catchable_signal_reaches_the_app_once_14_15() {
    let app = "import signal, sys, time
left = set(range(1, 65)) - {9, 17, 19, 32, 33}
def handler(number, frame):
    print('got', number, flush=True)
for number in left: signal.signal(number, handler)
print('ready', flush=True)
while True: time.sleep(60)";
    for place in BOTH {
        let mut run = Run::start(place, &[], &["python3", "-c", app]);
        run.wait_for("ready");
        let numbers = (1..=64).filter(|number| ![9, 17, 19, 32, 33].contains(number));
        for number in numbers.clone() {
            run.signal_number(number);
            let line = run.wait_for_next("got ");
            assert_eq!(line, format!("got {number}"), "{place:?}");
        }
        let app = run.wait_for("the app is pid").rsplit(' ').next().expect("a pid").to_owned();
        signal_app(&run, place, &app, Signal::SIGKILL);
        let (code, lines) = run.end();
        assert_eq!(code, 137);
        assert_eq!(lines.iter().filter(|line| line.starts_with("got ")).count(), numbers.count(), "{place:?}");
    }
}

/// Signals the app from outside, without lastword's doing.
fn signal_app(run: &Run, place: Place, inside: &str, signal: Signal) -> Pid {
    let pid = match place {
        Place::Elsewhere => Pid::from_raw(inside.parse().expect("a pid")),
        Place::Pid1 => run.child_of(run.pid),
    };
    kill(pid, signal).expect("the app is there");
    pid
}

#[test]
fn a_deaf_app_is_killed_on_a_stated_budget_with_all_its_descendants_46() {
    for place in BOTH {
        let app = "trap '' TERM; sh -c 'echo ready; while :; do sleep 0.1; done' & while :; do sleep 0.1; done";
        let mut run = Run::start(place, &["--stop-timeout", "2"], &["sh", "-c", app]);
        run.wait_for("ready");
        let start = now();
        run.signal(Signal::SIGTERM);
        let (code, lines) = run.end();
        assert_eq!(code, 137, "{place:?}");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?} of a budget of 2 s", start.elapsed());
        assert!(has(&lines, "with the app") && has(&lines, "last call"), "{lines:#?}");
        assert!(!has(&lines, "left behind"), "{lines:#?}");
    }
}

#[test]
fn a_deaf_app_is_not_killed_on_an_assumed_budget_46() {
    for place in BOTH {
        let app = "trap '' TERM; trap 'exit 8' USR1; echo ready; while :; do sleep 0.02; done";
        let mut run = Run::spawn(on_railway(wrapped(place, &[], &["sh", "-c", app])), place);
        run.wait_for("ready");
        run.signal(Signal::SIGTERM);
        run.wait_for("--stop-timeout");
        run.signal(Signal::SIGUSR1);
        let (code, lines) = run.end();
        assert_eq!(code, 8, "{place:?}");
        assert!(!has(&lines, "SIGKILL") && !has(&lines, "last call"), "{lines:#?}");
    }
}

#[test]
fn a_stop_that_came_before_us_means_no_spawn_2() {
    let setup = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.kill(os.getpid(), signal.SIGTERM)
os.execv(sys.argv[1], sys.argv[1:])";
    for around in [&["env"][..], &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]] {
        let mut outer = Command::new(around[0]);
        outer.args(&around[1..]).args(["python3", "-c", setup]).arg(program()).args(["--", "echo", "started"]);
        let (code, lines) = Run::spawn(outer, Place::Elsewhere).end();
        assert_eq!(code, 143, "{around:?}: {lines:#?}");
        assert!(!has(&lines, "started"), "{around:?}: {lines:#?}");
    }
}

#[test]
fn a_hanging_drain_does_not_outlast_the_budget_and_a_second_stop_does_not_shorten_it_43() {
    for place in BOTH {
        let mut run = Run::start(place, &["--stop-timeout", "4", "--drain", &hanging_drain()], &["sh", "-c", WORKER]);
        run.wait_for("ready");
        let start = now();
        run.signal(Signal::SIGTERM);
        run.wait_for("flush:");
        run.signal(Signal::SIGTERM);
        let (code, lines) = run.end();
        let took = start.elapsed();
        assert_eq!(code, 0, "{place:?}");
        assert!(has(&lines, "(deadline "), "{lines:#?}");
        assert!(took > Duration::from_millis(3_700) && took < Duration::from_millis(4_000), "{took:?}");
    }
}

#[test]
fn an_app_in_a_group_of_its_own_is_not_reached_by_signals_at_ours() {
    let mut run = Run::start(Place::Elsewhere, &[], &["sh", "-c", WORKER]);
    run.wait_for("ready");
    // The whole group, as some runners do: the app hears of it through the relay, once.
    kill(Pid::from_raw(-run.pid.as_raw()), Signal::SIGTERM).expect("the group is there");
    let (code, lines) = run.end();
    assert_eq!(code, 0);
    assert_eq!(lines.iter().filter(|line| line.contains("goodbye")).count(), 1, "{lines:#?}");
}

#[test]
fn a_soft_stop_counts_if_the_app_exits_after_it_and_kills_nobody_if_not_44() {
    for place in BOTH {
        let app = "trap 'echo reloaded' QUIT; trap 'exit 0' WINCH; echo ready; while :; do sleep 0.02; done";
        let mut run = Run::start(place, &["--stop-timeout", "2", "--drain", &hanging_drain()], &["sh", "-c", app]);
        run.wait_for("ready");
        run.signal(Signal::SIGQUIT);
        run.wait_for("reloaded");
        let start = now();
        run.signal(Signal::SIGWINCH);
        let (code, lines) = run.end();
        assert_eq!(code, 0, "{place:?}: {lines:#?}");
        // Without the soft stop, a hanging drain would be given up after ten seconds without progress.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(has(&lines, "(deadline ") && !has(&lines, "SIGKILL"), "{lines:#?}");
    }
}

#[test]
fn an_app_that_was_stopped_by_a_signal_is_woken_to_hear_the_stop_23() {
    for place in BOTH {
        let mut run = Run::start(place, &[], &["sh", "-c", WORKER]);
        run.wait_for("ready");
        let app = run.wait_for("the app is pid").rsplit(' ').next().expect("a pid").to_owned();
        let pid = signal_app(&run, place, &app, Signal::SIGSTOP);
        run.wait_until("the app is stopped", || {
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "))
        });
        run.signal(Signal::SIGTERM);
        let (code, lines) = run.end();
        assert_eq!(code, 0, "{place:?}: {lines:#?}");
        assert!(has(&lines, "goodbye"), "{lines:#?}");
    }
}

#[test]
fn each_of_several_stops_reaches_the_app() {
    let app = "import signal, sys
count = 0
def handler(*_):
    global count
    count += 1
    print('stop', count, flush=True)
    if count == 3: sys.exit(0)
signal.signal(signal.SIGTERM, handler)
print('ready', flush=True)
while True: signal.pause()";
    let mut run = Run::start(Place::Elsewhere, &[], &["python3", "-c", app]);
    run.wait_for("ready");
    for count in 1..=3 {
        run.signal(Signal::SIGTERM);
        run.wait_for(&format!("stop {count}"));
    }
    let (code, lines) = run.end();
    assert_eq!(code, 0);
    assert_eq!(lines.iter().filter(|line| line.contains("SIGTERM again")).count(), 2, "{lines:#?}");
}
