//! Relay by option: whom signals go to, as what, and what becomes of leftovers.

use crate::run::{BOTH, Place, Run, WORKER, has, now};
use nix::sys::signal::Signal;
use std::time::Duration;

/// A shell with a worker in the background and one in a session of its own; all three say which signal they got.
const FAMILY: &str = r#"
say() { trap "echo $1 got HUP" HUP; trap "echo $1 got TERM; exit 0" TERM; echo "$1 ready"; while :; do sleep 0.02; done; }
say near & setsid sh -c 'trap "echo far got HUP" HUP; trap "echo far got TERM; exit 0" TERM; echo far ready; while :; do sleep 0.02; done' &
say app"#;

fn family(place: Place, relay: &str) -> Run {
    let mut run = Run::start(place, &["--relay", relay, "--stop-timeout", "20"], &["sh", "-c", FAMILY]);
    run.wait_for_all(&["near ready", "far ready", "app ready"]);
    run
}

#[test]
fn relay_goes_to_the_app_alone_or_to_its_group_or_to_its_tree_14() {
    for place in BOTH {
        for (relay, hear) in
            [("app", vec!["app"]), ("group", vec!["app", "near"]), ("tree", vec!["app", "near", "far"])]
        {
            let mut run = family(place, relay);
            run.signal(Signal::SIGHUP);
            let wanted: Vec<String> = hear.iter().map(|who| format!("{who} got HUP")).collect();
            run.wait_for_all(&wanted.iter().map(String::as_str).collect::<Vec<_>>());
            run.signal(Signal::SIGTERM);
            let (code, lines) = run.end();
            assert_eq!(code, 0, "{place:?} {relay}: {lines:#?}");
            let heard = lines.iter().filter(|line| line.ends_with("got HUP")).count();
            assert_eq!(heard, hear.len(), "{place:?} {relay}: {lines:#?}");
            // Whoever had the TERM by relay has no second one, and whoever had none has the last call.
            for who in ["app", "near", "far"] {
                let terms = lines.iter().filter(|line| **line == format!("{who} got TERM")).count();
                assert_eq!(terms, 1, "{place:?} {relay} {who}: {lines:#?}");
            }
        }
    }
}

#[test]
fn relay_none_tells_nobody_and_the_budget_still_holds() {
    for place in BOTH {
        let mut run = Run::start(place, &["--relay", "none", "--stop-timeout", "2"], &["sh", "-c", WORKER]);
        run.wait_for("ready");
        let start = now();
        run.signal(Signal::SIGTERM);
        let (code, lines) = run.end();
        assert_eq!(code, 137, "{place:?}: {lines:#?}");
        assert!(!has(&lines, "goodbye") && start.elapsed() < Duration::from_secs(2), "{lines:#?}");
    }
}

#[test]
fn signals_are_dropped_and_rewritten_by_name_22() {
    let app = "import signal, sys
def handler(number, frame):
    print('got', number, flush=True)
    if number == 3: sys.exit(4)
for number in (1, 3, 10, 12, 15): signal.signal(number, handler)
print('ready', flush=True)
while True: signal.pause()";
    for place in BOTH {
        let options = ["--signal", "HUP=ignore", "--signal", "USR1=USR2,TERM=QUIT"];
        let mut run = Run::start(place, &options, &["python3", "-c", app]);
        run.wait_for("ready");
        run.signal(Signal::SIGHUP);
        run.wait_for("SIGHUP is not passed on");
        run.signal(Signal::SIGUSR1);
        run.wait_for("got 12");
        run.signal(Signal::SIGTERM);
        let (code, lines) = run.end();
        assert_eq!(code, 4, "{place:?}: {lines:#?}");
        let got: Vec<_> = lines.iter().filter(|line| line.starts_with("got ")).collect();
        assert_eq!(got, ["got 12", "got 3"], "{place:?}");
        assert!(has(&lines, "stop: SIGTERM"), "a rewritten stop is still one: {lines:#?}");
    }
}

/// An app that leaves a worker behind, which would go on for three seconds.
const LEAVES: &str = "trap 'exit 3' USR1; \
    sh -c 'trap \"echo left got TERM; exit 0\" TERM; echo left ready; for i in 1 2 3 4 5 6; do sleep 0.5; done; echo left ended' & \
    while :; do sleep 0.02; done";

fn leave(place: Place, options: &[&str]) -> (i32, Vec<String>, Duration) {
    let mut run = Run::start(place, options, &["sh", "-c", LEAVES]);
    run.wait_for("left ready");
    let start = now();
    run.signal(Signal::SIGUSR1);
    let (code, lines) = run.end();
    assert_eq!(code, 3, "{place:?} {options:?}: {lines:#?}");
    (code, lines, start.elapsed())
}

#[test]
fn leftovers_are_told_killed_waited_for_or_left_as_asked() {
    for place in BOTH {
        let (_, lines, took) = leave(place, &["--linger", "100ms"]);
        assert!(has(&lines, "left got TERM") && took < Duration::from_secs(2), "{took:?} {lines:#?}");
        let (_, lines, took) = leave(place, &["--linger", "100ms", "--leftovers", "kill"]);
        assert!(has(&lines, "SIGKILL") && !has(&lines, "left got TERM") && took < Duration::from_secs(2), "{lines:#?}");
        let (_, lines, _) = leave(place, &["--linger", "100ms", "--leftovers", "wait"]);
        assert!(has(&lines, "left ended") && !has(&lines, "left got TERM"), "{lines:#?}");
        let (_, lines, _) = leave(place, &["--linger", "10s"]);
        assert!(has(&lines, "left ended") && !has(&lines, "last call"), "{lines:#?}");
    }
}

#[test]
fn leftovers_that_are_left_do_not_keep_us() {
    // As PID 1 the kernel ends them with us.
    let (_, lines, took) = leave(Place::Pid1, &["--leftovers", "leave"]);
    assert!(has(&lines, "left to themselves") && !has(&lines, "left ended"), "{lines:#?}");
    assert!(took < Duration::from_millis(1_500), "{took:?}");
}

#[test]
fn leftovers_that_are_waited_for_hear_a_stop() {
    for place in BOTH {
        let app = "sh -c 'trap \"echo left got TERM; exit 0\" TERM; echo left ready; while :; do sleep 0.02; done' & sleep 0.1; exit 3";
        let mut run = Run::start(place, &["--leftovers", "wait", "--stop-timeout", "10"], &["sh", "-c", app]);
        run.wait_for("the app exited 3");
        run.wait_for("left ready");
        run.signal(Signal::SIGTERM);
        let (code, lines) = run.end();
        assert_eq!(code, 3, "{place:?}: {lines:#?}");
        assert!(has(&lines, "left got TERM"), "{place:?}: {lines:#?}");
    }
}
