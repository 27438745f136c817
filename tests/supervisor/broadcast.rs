//! Exactly once [18] [19]: a stop to everybody reaches the app once, a stop to us alone reaches it once, and a signal at the
//! canary alone changes nothing.

use crate::run::{BOTH, Place, Run, has, inside, now, program, wrapped};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fs, process::Command, time::Duration};

/// Counts its stops (perl queues what comes while it is busy) and exits with their number when it gets USR1.
const COUNTING: &str = r#"$| = 1; my $n = 0; $SIG{TERM} = sub { $n++; print "stop $n\n" }; $SIG{USR1} = sub { exit $n };
print "ready $$\n"; sleep 60 while 1"#;

pub(crate) const COUNTER: [&str; 3] = ["perl", "-e", COUNTING];

/// How often each case is tried: 20 times, or 100 with `LASTWORD_LONG=1`.
fn times() -> usize {
    if std::env::var_os("LASTWORD_LONG").is_some() { 100 } else { 20 }
}

/// In a pid namespace: as its PID 1, or as a child of a shell that is.
fn start(place: Place, options: &[&str], command: &[&str]) -> Run {
    let mut run = Run::spawn(inside(place, options, command), Place::Pid1);
    if place == Place::Elsewhere {
        run.pid = run.child_of(run.pid);
    }
    run
}

/// Everybody in the namespace of a run, by their numbers outside.
pub(crate) fn everybody(run: &Run) -> Vec<Pid> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let ours = namespace(&run.pid.to_string()).expect("it lives");
    let names =
        fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let inside =
        names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && namespace(name) == Some(ours.clone()));
    let mut pids: Vec<Pid> = inside.map(|pid| Pid::from_raw(pid.parse().expect("digits"))).collect();
    pids.sort_unstable();
    pids
}

/// A canary's number, as we see it.
fn canary(run: &Run) -> Pid {
    let is_canary = |pid: &Pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "lw-canary\n");
    run.wait_until("it has its name", || everybody(run).iter().any(is_canary));
    everybody(run).into_iter().find(is_canary).expect("a canary")
}

/// Whether a signal is pending there.
fn waits(pid: Pid, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let pending = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    pending
        .map(|set| u64::from_str_radix(set.trim(), 16).expect("a set"))
        .any(|set| set >> (signal as i32 - 1) & 1 == 1)
}

/// Ends the counting app; returns how often it was stopped, and the lines.
pub(crate) fn count(run: Run) -> (i32, Vec<String>) {
    run.signal(Signal::SIGUSR1);
    run.end()
}

/// A figure for whoever reads along.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "broadcast guard: {text}");
}

fn broadcasts(place: Place, descending: bool) {
    let mut skipped = 0;
    for round in 0..times() {
        let mut run = start(place, &[], &COUNTER);
        run.wait_for("ready");
        grow_up(&run);
        let mut pids = everybody(&run);
        assert!(pids.len() >= 3, "lastword, its canary and the app: {pids:?}");
        if descending {
            pids.reverse();
        }
        if !broadcast(&pids) {
            skipped += 1;
            continue;
        }
        run.wait_for("went to everybody");
        run.wait_for("stop 1");
        let (stops, lines) = count(run);
        assert_eq!(stops, 1, "{place:?}, descending {descending}, round {round}: {lines:#?}");
    }
    say(&format!("{place:?}, descending {descending}: {} broadcasts, 0 misses, 0 doubles", times() - skipped));
    assert!(skipped <= times() / 4, "the sender was too slow in {skipped} of {} rounds", times());
}

/// TERM to each. False if this machine let us take longer than lastword waits: that is no broadcast.
pub(crate) fn broadcast(pids: &[Pid]) -> bool {
    let start = now();
    for pid in pids {
        let _ = kill(*pid, Signal::SIGTERM);
    }
    start.elapsed() < Duration::from_millis(40)
}

/// Until the app is no newborn, which is told of a broadcast all the same.
pub(crate) fn grow_up(run: &Run) {
    let start = now();
    run.wait_until("30 ms are over", || start.elapsed() > Duration::from_millis(30));
}

#[test]
fn a_broadcast_with_ascending_pids_reaches_the_app_once_as_pid_1_19() {
    broadcasts(Place::Pid1, false);
}

#[test]
fn a_broadcast_with_ascending_pids_reaches_the_app_once_19() {
    broadcasts(Place::Elsewhere, false);
}

#[test]
fn a_broadcast_with_descending_pids_reaches_the_app_once_as_pid_1_19() {
    broadcasts(Place::Pid1, true);
}

#[test]
fn a_broadcast_with_descending_pids_reaches_the_app_once_19() {
    broadcasts(Place::Elsewhere, true);
}

#[test]
fn a_direct_stop_reaches_the_app_once_18() {
    for place in BOTH {
        let mut quickest = Duration::MAX;
        for round in 0..times() {
            let mut run = start(place, &[], &COUNTER);
            run.wait_for("ready");
            let start = now();
            run.signal(Signal::SIGTERM);
            run.wait_for("stop 1");
            quickest = quickest.min(start.elapsed());
            let (stops, lines) = count(run);
            assert_eq!(stops, 1, "{place:?}, round {round}: {lines:#?}");
            assert!(!has(&lines, "went to everybody"), "{lines:#?}");
        }
        // The window itself, and what this machine takes on top at its best.
        assert!(quickest < Duration::from_millis(100), "held for {quickest:?}");
    }
}

#[test]
fn repeated_broadcasts_as_heroku_sends_them_reach_the_app_once_each_20() {
    for place in BOTH {
        let done = (0..5).any(|_| five_broadcasts(place));
        assert!(done, "the sender was too slow each time");
    }
}

/// False if the sender was too slow.
fn five_broadcasts(place: Place) -> bool {
    let mut run = start(place, &["--stop-timeout", "60"], &COUNTER);
    run.wait_for("ready");
    let canary = canary(&run);
    for round in 1..=5 {
        grow_up(&run);
        // Two broadcasts that merge where they wait are one to whom they wait for.
        run.wait_until("the canary has taken the last one", || !waits(canary, Signal::SIGTERM));
        if !broadcast(&everybody(&run)) {
            return false;
        }
        run.wait_for_all(&[&format!("stop {round}"), "went to everybody"]);
    }
    let (stops, lines) = count(run);
    assert_eq!(stops, 5, "{place:?}: {lines:#?}");
    true
}

#[test]
fn a_signal_at_the_canary_alone_changes_nothing_and_its_death_is_announced() {
    for place in BOTH {
        let mut run = start(place, &[], &COUNTER);
        run.wait_for("ready");
        let canary = canary(&run);
        kill(canary, Signal::SIGTERM).expect("it lives");
        run.wait_until("it has taken that", || !waits(canary, Signal::SIGTERM));
        // What it tells is stale by the time of the stop: the app has to hear of that.
        run.wait_until("its report is stale", {
            let start = now();
            move || start.elapsed() > Duration::from_millis(300)
        });
        run.signal(Signal::SIGTERM);
        run.wait_for("stop 1");
        kill(canary, Signal::SIGKILL).expect("it lives");
        run.wait_for("the broadcast guard is off");
        let gone = || !std::path::Path::new(&format!("/proc/{canary}")).exists();
        run.wait_until("it is reaped", gone);
        let (stops, lines) = count(run);
        assert_eq!(stops, 1, "{place:?}: {lines:#?}");
        assert_eq!(lines.iter().filter(|line| line.contains("stop: SIGTERM")).count(), 1, "{lines:#?}");
    }
}

#[test]
fn kill_minus_1_from_inside_reaches_the_app_once_19() {
    let app = [COUNTING.replace("print \"ready $$", "if (!fork) { sleep 1; kill 'TERM', -1; exit } print \"ready $$")];
    for place in BOTH {
        let mut run =
            start(place, &[], &["perl", "-e", &app[0].replace("sleep 1;", "select undef, undef, undef, 0.2;")]);
        run.wait_for("stop 1");
        if place == Place::Elsewhere {
            // It reaches everybody but PID 1, and so us.
            run.wait_for("went to everybody");
        }
        let (stops, lines) = count(run);
        assert_eq!(stops, 1, "{place:?}: {lines:#?}");
    }
}

#[test]
fn timeout_as_the_parent_stops_the_app_once_19() {
    let mut outer = Command::new("timeout");
    outer.args(["--preserve-status", "1", program(), "--verbose", "--", "perl", "-e"]);
    outer.arg(
        COUNTING.replace("print \"stop $n\\n\"", "print \"stop $n\\n\"; alarm 1").replace("$SIG{USR1}", "$SIG{ALRM}"),
    );
    let (code, lines) = Run::spawn(outer, Place::Elsewhere).end();
    assert_eq!(code, 1, "one stop: {lines:#?}");
}

#[test]
fn a_name_that_means_us_does_not_mean_the_canary() {
    let mut run = start(Place::Pid1, &[], &COUNTER);
    run.wait_for("ready");
    let canary = canary(&run);
    for file in ["comm", "cmdline"] {
        let text = fs::read_to_string(format!("/proc/{canary}/{file}")).expect("it lives");
        assert!(text.starts_with("lw-canary") && !text.contains("perl"), "{file}: {text:?}");
    }
    let namespace = format!("/proc/{}/ns/pid", run.pid);
    let status = Command::new("pkill")
        .args(["--ns", &run.pid.to_string(), "--nslist", "pid", "-TERM", "-f", "lastword"])
        .status();
    assert!(status.expect("pkill").success(), "{namespace}");
    run.wait_for("stop 1");
    assert_eq!(count(run).0, 1);
}

#[test]
fn without_the_guard_there_is_no_canary() {
    for options in [["--broadcast-guard", "off"], ["--relay", "none"]] {
        let mut run = start(Place::Pid1, &options, &COUNTER);
        run.wait_for("ready");
        assert_eq!(everybody(&run).len(), 2, "{options:?}");
        let (stops, _) = if options[1] == "off" {
            count(run)
        } else {
            kill(run.child_of(run.pid), Signal::SIGUSR1).expect("the app lives");
            run.end()
        };
        assert_eq!(stops, 0);
    }
}

#[test]
fn the_canary_holds_nothing_but_its_pipe_and_is_gone_with_us_47() {
    let mut run = Run::spawn(wrapped(Place::Elsewhere, &[], &COUNTER), Place::Elsewhere);
    run.wait_for("ready");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", run.pid)).expect("/proc");
    let comm = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let find = || children.split_whitespace().find(|pid| comm(pid) == "lw-canary\n");
    run.wait_until("it has its name", || find().is_some());
    let canary = find().expect("a canary").to_owned();
    run.wait_until("it listens", || fs::read_dir(format!("/proc/{canary}/fd")).is_ok_and(|held| held.count() == 2));
    let held = fs::read_dir(format!("/proc/{canary}/fd")).expect("its descriptors").flatten();
    let mut held: Vec<String> =
        held.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_str()?.to_owned())).collect();
    held.sort_unstable();
    assert!(held.len() == 2 && held[0].contains("signalfd") && held[1].starts_with("pipe:"), "{held:?}");
    kill(run.pid, Signal::SIGKILL).expect("we live");
    run.wait_until("the canary is gone", || comm(&canary) != "lw-canary\n");
    // The app outlives us here [47].
    let app = run.wait_for("ready").split(' ').nth(1).expect("its pid").parse().expect("a pid");
    kill(Pid::from_raw(app), Signal::SIGKILL).expect("the app lives");
}
