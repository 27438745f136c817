//! The core of the checklist under every parent that a container or a desk has: nobody, tini, `tini -g`, and lastword
//! itself, each of them as PID 1 of a namespace and not.

use crate::broadcast::{COUNTER, broadcast, count, everybody, grow_up};
use crate::run::{BOTH, Place, Run, has, now, program, wrapped};
use nix::sys::signal::Signal;
use std::{process::Command, thread, time::Duration};

/// Words before lastword.
fn inits() -> [Vec<&'static str>; 4] {
    [vec![], vec!["tini", "-s", "--"], vec!["tini", "-s", "-g", "--"], vec![program(), "--stop-timeout", "20", "--"]]
}

/// Runs lastword (with `--verbose`) under a parent. Signals go to that.
fn launch(place: Place, init: &[&str], options: &[&str], command: &[&str]) -> Run {
    let plain = wrapped(Place::Elsewhere, options, command);
    let unshare: &[&str] = &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let mut words = if place == Place::Pid1 { unshare.to_vec() } else { Vec::new() };
    words.extend(init);
    words.push(plain.get_program().to_str().expect("UTF-8"));
    words.extend(plain.get_args().map(|word| word.to_str().expect("UTF-8")));
    let mut outer = Command::new(words[0]);
    outer.args(&words[1..]);
    Run::spawn(outer, place)
}

/// Does this under each parent, side by side.
fn everywhere(options: &[&str], command: &[&str], check: impl Fn(Run, &str) + Sync) {
    let check = &check;
    thread::scope(|scope| {
        for (place, init) in BOTH.into_iter().flat_map(|place| inits().map(|init| (place, init))) {
            scope.spawn(move || {
                let name = format!("{place:?} {init:?}");
                check(launch(place, &init, options, command), &name);
            });
        }
    });
}

#[test]
fn a_stop_reaches_the_app_once_and_everybody_is_waited_for_under_every_parent_14_18_27_32_38_40_43() {
    let app = "n=0; trap 'n=$((n+1)); echo stop' TERM; trap 'echo hup' HUP; echo again > /dev/stdout
        setsid sh -c 'trap \"sleep 0.2; echo daemon ends; exit\" TERM; echo daemon up; while :; do sleep 0.02; done' &
        echo ready; until [ $n -gt 0 ]; do sleep 0.02; done; sleep 0.3; echo last $n; exit 7";
    everywhere(&["--linger", "100ms", "--stop-timeout", "20"], &["bash", "-c", app], |mut run, parent| {
        run.wait_for_all(&["ready", "daemon up"]);
        run.signal(Signal::SIGHUP);
        run.wait_for("hup");
        let start = now();
        run.signal(Signal::SIGTERM);
        let (code, lines) = run.end();
        assert_eq!(code, 7, "{parent}: {lines:#?}");
        assert!(has(&lines, "again") && has(&lines, "last 1") && has(&lines, "daemon ends"), "{parent}: {lines:#?}");
        assert_eq!(lines.iter().filter(|line| *line == "hup").count(), 1, "{parent}: {lines:#?}");
        assert!(start.elapsed() < Duration::from_secs(10), "{parent}: {:?} of 20 s", start.elapsed());
    });
}

#[test]
fn a_deaf_app_and_its_deaf_leftover_are_killed_in_time_under_every_parent_41_43_46() {
    let app = "trap '' TERM; (setsid sh -c 'echo daemon up; while :; do sleep 0.1; done' &)
        echo ready; while :; do sleep 0.1; done";
    everywhere(&["--stop-timeout", "2"], &["sh", "-c", app], |mut run, parent| {
        run.wait_for_all(&["ready", "daemon up"]);
        let start = now();
        run.signal(Signal::SIGTERM);
        let (code, lines) = run.end();
        assert_eq!(code, 137, "{parent}: {lines:#?}");
        assert!(start.elapsed() < Duration::from_secs(2), "{parent}: {:?}", start.elapsed());
        assert!(has(&lines, "with the app") && !has(&lines, "left behind"), "{parent}: {lines:#?}");
    });
}

#[test]
fn what_the_app_sees_is_the_same_under_every_parent_4_7_8_10() {
    let look = "grep -E '^Sig(Blk|Ign)' /proc/self/status; ulimit -n; umask; nice; pwd; env | grep -c LASTWORD_
        printf '<%s>' \"$@\"; echo; exit 5";
    let command = ["sh", "-c", look, "sh", "a b", "", "--", "*"];
    let mut bare = Command::new(command[0]);
    bare.args(&command[1..]);
    let (code, bare) = Run::spawn(bare, Place::Elsewhere).end();
    let bare = without_the_c_librarys(bare);
    assert_eq!((code, bare.last().map(String::as_str)), (5, Some("<a b><><--><*>")), "{bare:#?}");
    everywhere(&["--name", "test"], &command, |run, parent| {
        let (code, mut lines) = run.end();
        assert_eq!(code, 5, "{parent}: {lines:#?}");
        lines.retain(|line| !line.starts_with("lastword: "));
        let lines = without_the_c_librarys(lines);
        assert_eq!(lines, bare, "{parent}");
    });
}

/// Signals 32 and 33 are the C library's own, and posix_spawn leaves them in odd states.
fn without_the_c_librarys(lines: Vec<String>) -> Vec<String> {
    let clear = |line: String| match line.split_once(":\t").map(|(name, hex)| (name, u64::from_str_radix(hex, 16))) {
        Some((name, Ok(mask))) if name.starts_with("Sig") => format!("{name}: {:x}", mask & !(0b11 << 31)),
        _ => line,
    };
    lines.into_iter().map(clear).collect()
}

#[test]
fn what_cannot_be_started_is_said_with_its_code_under_every_parent_5() {
    everywhere(&[], &["no-such-program"], |run, parent| {
        let (code, lines) = run.end();
        assert_eq!(code, 127, "{parent}: {lines:#?}");
        assert!(has(&lines, "cannot start \"no-such-program\": not found in PATH"), "{parent}: {lines:#?}");
    });
}

#[test]
fn a_broadcast_reaches_the_app_once_though_an_init_in_front_relays_it_too_13_19() {
    for init in inits() {
        for descending in [false, true] {
            let done = (0..5).any(|_| is_counted_once(&init, descending));
            assert!(done, "the sender was too slow each time");
        }
    }
}

/// False if the sender was too slow.
fn is_counted_once(init: &[&str], descending: bool) -> bool {
    let mut run = launch(Place::Pid1, init, &["--stop-timeout", "60"], &COUNTER);
    run.wait_for("ready");
    grow_up(&run);
    let mut pids = everybody(&run);
    if descending {
        pids.reverse();
    }
    if !broadcast(&pids) {
        return false;
    }
    run.wait_for("stop 1");
    // What the init passes on comes at once, if it comes.
    let start = now();
    run.wait_until("the window is over", || start.elapsed() > Duration::from_millis(150));
    let (stops, lines) = count(run);
    assert_eq!(stops, 1, "{init:?}, descending {descending}: {lines:#?}");
    true
}
