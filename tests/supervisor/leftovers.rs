//! Leftovers: who is waited for, told, and ended, in which order.

use crate::run::{BOTH, Place, Run, WORKER, has, now, on_railway, program, script, wrapped};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{process::Command, time::Duration};

#[test]
fn daemons_are_waited_for_32_40() {
    for place in BOTH {
        let app = "(setsid sh -c 'sleep 0.7; echo from-the-daemon' &) ; exit 3";
        let (code, lines) = Run::start(place, &[], &["sh", "-c", app]).end();
        assert_eq!(code, 3, "{place:?}");
        assert!(has(&lines, "from-the-daemon"), "{place:?}: {lines:#?}");
    }
}

#[test]
fn a_shell_that_dies_of_the_stop_does_not_keep_it_from_its_worker() {
    for place in BOTH {
        let dir = tempfile::tempdir().expect("a directory");
        let worker = script(&dir, "worker", &format!("#!/bin/sh\n{WORKER}\n"));
        let start = now();
        let mut run = Run::start(place, &[], &["sh", "-c", &format!("while true; do {worker}; sleep 1; done")]);
        run.wait_for("ready");
        run.signal(Signal::SIGTERM);
        let (code, lines) = run.end();
        assert_eq!(code, 143, "{place:?}");
        assert!(has(&lines, "goodbye"), "{place:?}: {lines:#?}");
        assert!(!has(&lines, "quiet"), "no linger where the stop is passed on: {lines:#?}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn filters_see_the_end_of_their_input_instead_of_a_signal() {
    for place in BOTH {
        for filter in ["sed -u s/^/filtered:/", "tee /dev/null"] {
            let dir = tempfile::tempdir().expect("a directory");
            let worker = script(&dir, "worker", &format!("#!/bin/sh\n{WORKER}\n"));
            let mut run = Run::start(place, &["--stop-timeout", "10"], &["sh", "-c", &format!("{worker} | {filter}")]);
            run.wait_for("ready");
            run.signal(Signal::SIGTERM);
            let (code, lines) = run.end();
            assert_eq!(code, 143, "{place:?}");
            assert!(has(&lines, "goodbye"), "{place:?} {filter}: {lines:#?}");
            assert!(has(&lines, "not to 1 filter"), "{lines:#?}");
            assert!(!has(&lines, "SIGKILL"), "{lines:#?}");
        }
    }
}

#[test]
fn a_worker_behind_a_shell_with_a_trap_hears_the_last_call() {
    for place in BOTH {
        let dir = tempfile::tempdir().expect("a directory");
        let text = WORKER.replace("sleep 0.5", "sleep 0.1");
        let worker = script(&dir, "worker", &format!("#!/bin/sh\n{text}\n"));
        let app = format!("trap 'echo trap; exit 4' TERM; {worker}; echo never");
        let mut run = Run::start(place, &["--stop-timeout", "3"], &["bash", "-c", &app]);
        run.wait_for("ready");
        run.signal(Signal::SIGTERM);
        let (code, lines) = run.end();
        assert_eq!(code, 4, "{place:?}: {lines:#?}");
        assert!(has(&lines, "goodbye") && has(&lines, "last call"), "{place:?}: {lines:#?}");
        assert!(!has(&lines, "SIGKILL"), "{lines:#?}");
    }
}

#[test]
fn a_log_helper_has_its_quiet_linger_42() {
    for place in BOTH {
        let app = "exec > >(while read -r line; do sleep 0.3; echo \"helped:$line\"; done); \
                   trap 'echo goodbye; exit 6' TERM; echo ready; while :; do sleep 0.02; done";
        let mut run = Run::start(place, &["--stop-timeout", "10"], &["bash", "-c", app]);
        run.wait_for("helped:ready");
        run.signal(Signal::SIGTERM);
        let (code, lines) = run.end();
        assert_eq!(code, 6, "{place:?}");
        assert!(has(&lines, "helped:goodbye"), "{place:?}: {lines:#?}");
        assert!(!has(&lines, "last call"), "it ended by itself: {lines:#?}");
    }
}

#[test]
fn leftovers_of_an_app_that_ended_by_itself_are_bounded_41() {
    for place in BOTH {
        let app = "sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' & sleep 0.1; exit 2";
        let start = now();
        let (code, lines) = Run::spawn(on_railway(wrapped(place, &[], &["sh", "-c", app])), place).end();
        assert_eq!(code, 2, "{place:?}");
        assert!(has(&lines, "quiet") && has(&lines, "last call") && has(&lines, "SIGKILL"), "{lines:#?}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_stopped_leftover_is_woken_to_hear_the_last_call_23() {
    for place in BOTH {
        let app = "sh -c 'trap \"echo woken; exit 0\" TERM; kill -STOP $$; while :; do sleep 0.02; done' & \
                   sleep 0.3; exit 0";
        let (code, lines) = Run::start(place, &["--stop-timeout", "3"], &["sh", "-c", app]).end();
        assert_eq!(code, 0, "{place:?}");
        assert!(has(&lines, "woken"), "{place:?}: {lines:#?}");
    }
}

#[test]
fn children_that_were_there_before_us_are_left_alone() {
    let mut outer = Command::new("sh");
    let text = "sleep 20 >/dev/null 2>&1 & echo \"before $!\"; exec \"$0\" -- sh -c 'sleep 0.1; echo done'";
    outer.args(["-c", text]).arg(program());
    let start = now();
    let (code, lines) = Run::spawn(outer, Place::Elsewhere).end();
    assert_eq!(code, 0);
    assert!(start.elapsed() < Duration::from_secs(15), "it was waited for");
    let before = lines.iter().find_map(|line| line.strip_prefix("before ")).expect("its pid");
    kill(Pid::from_raw(before.parse().expect("a pid")), Signal::SIGKILL).expect("it was left alone");
}

#[test]
fn pid_1_without_proc_still_bounds_its_leftovers() {
    let text = "mount -t tmpfs none /proc && exec \"$0\" --verbose -- sh -c \
                'sh -c \"trap : TERM; echo up; while :; do sleep 0.1; done\" & sleep 0.2; exit 2'";
    let mut outer = Command::new("unshare");
    outer.args(["--pid", "--fork", "--mount", "sh", "-c", text]).arg(program());
    let (code, lines) = Run::spawn(on_railway(outer), Place::Elsewhere).end();
    assert_eq!(code, 2, "{lines:#?}");
    assert!(has(&lines, "up") && has(&lines, "SIGKILL"), "{lines:#?}");
}

#[test]
fn a_subreaper_without_proc_gives_up_in_time() {
    let text = "mount -t tmpfs none /proc && \"$0\" --verbose -- sh -c \
                'sh -c \"trap : TERM; echo up; while :; do sleep 0.1; done\" & sleep 0.2; exit 2'";
    let mut outer = Command::new("unshare");
    // A pid namespace around it, so that nothing outlives the test.
    outer.args(["--pid", "--fork", "--mount", "sh", "-c", &format!("{text}; exit $?")]).arg(program());
    let (code, lines) = Run::spawn(on_railway(outer), Place::Elsewhere).end();
    assert_eq!(code, 2, "{lines:#?}");
    assert!(has(&lines, "up") && has(&lines, "left behind"), "{lines:#?}");
}

#[test]
fn a_stranger_who_holds_the_pipe_and_keeps_writing_does_not_keep_us_33() {
    for place in BOTH {
        let app = "trap 'exit 4' TERM; echo ready; while :; do sleep 0.02; done";
        let mut run = Run::start(place, &[], &["sh", "-c", app]);
        run.wait_for("ready");
        // No descendant of lastword's: it is ours, and ends with its first write after lastword's end.
        let text = format!("while echo strange; do :; done > /proc/{}/fd/1", run.child_of(run.pid));
        let mut stranger =
            Command::new("bash").args(["-c", &text]).stderr(std::process::Stdio::null()).spawn().expect("bash");
        run.wait_for("strange");
        let start = now();
        run.signal(Signal::SIGTERM);
        let (code, _) = run.end();
        assert_eq!(code, 4, "{place:?}");
        assert!(start.elapsed() < Duration::from_secs(2), "{place:?}: {:?}", start.elapsed());
        stranger.wait().expect("it ends of a broken pipe");
    }
}
