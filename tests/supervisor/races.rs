//! Stops at awkward moments: between fork and exec, at setpgid, at reaping [1] [3] [26]; under a CPU quota, and while we or
//! the app do not run [23] [24].

use crate::broadcast;
use crate::run::{BOTH, Place, Run, WORKER, has, inside, now, open_directory, program, script, wrapped};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

/// A word of a process's status, in hexadecimal.
fn mask(pid: Pid, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let hex = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
    u64::from_str_radix(hex.trim(), 16).unwrap_or(0)
}

fn wait(run: &Run, time: Duration) {
    let start: Instant = now();
    run.wait_until("time passes", || start.elapsed() >= time);
}

/// Delays each call of `calls`, everywhere, by a tenth of a second, and stops at a moment.
fn stop_under_strace(place: Place, calls: &str, moment: Duration) {
    let app = "$SIG{TERM} = sub { print \"stopped\\n\"; exit 4 }; $| = 1; print \"ready $$\\n\"; sleep 60 while 1";
    let mut outer = Command::new("strace");
    outer.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    outer.args(["-e", &format!("inject={calls}:delay_enter=100000")]);
    let plain = wrapped(place, &["--stop-timeout", "20"], &["perl", "-e", app]);
    outer.arg(plain.get_program()).args(plain.get_args());
    let run = Run::spawn(outer, Place::Elsewhere);
    let child = run.child_of(run.pid);
    let lastword = if place == Place::Pid1 { run.child_of(child) } else { child };
    run.wait_until("signals are blocked", || mask(lastword, "SigBlk:").count_ones() > 50);
    let start = now();
    wait(&run, moment);
    kill(lastword, Signal::SIGTERM).expect("it lives");
    let (code, lines) = run.end();
    let context = format!("{place:?}, {calls} at {moment:?}: {lines:#?}");
    assert!([4, 143].contains(&code), "code {code}, {context}");
    assert!(start.elapsed() < Duration::from_secs(10), "it hung, {context}");
    assert!(!has(&lines, "SIGKILL"), "{context}");
    assert_eq!(code == 4, has(&lines, "stopped"), "{context}");
    assert!(lines.iter().filter(|line| *line == "stopped").count() <= 1, "{context}");
    // Nobody is left behind; a namespace sees to that itself.
    if place == Place::Elsewhere
        && let Some(app) = lines.iter().find_map(|line| line.strip_prefix("ready "))
    {
        assert!(!PathBuf::from(format!("/proc/{app}")).exists(), "{context}");
    }
}

#[test]
fn a_stop_at_any_moment_of_a_slow_fork_exec_setpgid_or_reaping_is_never_lost_1_3() {
    let calls = ["clone,clone3,fork,vfork", "execve", "setpgid", "wait4"];
    std::thread::scope(|scope| {
        for (place, calls) in BOTH.into_iter().flat_map(|place| calls.map(|calls| (place, calls))) {
            scope.spawn(move || {
                for moment in [0, 40, 90, 160, 260, 400, 600, 850] {
                    stop_under_strace(place, calls, Duration::from_millis(moment));
                }
            });
        }
    });
}

/// A tenth of a processor for a command, in a control group of its own, which goes with this value.
struct Quota(PathBuf);

impl Quota {
    fn new() -> Self {
        let v1 = PathBuf::from("/sys/fs/cgroup/cpu");
        let (root, settings): (PathBuf, &[_]) = if v1.is_dir() {
            (v1, &[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "10000")])
        } else {
            let root = PathBuf::from("/sys/fs/cgroup");
            let _ = fs::write(root.join("cgroup.subtree_control"), "+cpu");
            (root, &[("cpu.max", "10000 100000")])
        };
        let group = root.join(format!("lastword-test-{}", std::process::id()));
        fs::create_dir_all(&group).expect("a control group needs root and a writable hierarchy");
        for (name, value) in settings {
            fs::write(group.join(name), value).expect(name);
        }
        Self(group)
    }

    fn run(&self, command: &Command) -> Command {
        let mut outer = Command::new("sh");
        outer.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.0.join("cgroup.procs"));
        outer.arg(command.get_program()).args(command.get_args());
        outer
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // The last process may take a moment to be accounted.
        let start = now();
        while fs::remove_dir(&self.0).is_err() && start.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_tenth_of_a_processor_is_enough_for_exactly_once_19() {
    let quota = Quota::new();
    let done = (0..5).any(|_| twelve_stops_under(&quota));
    assert!(done, "the sender was too slow each time");
}

/// Four broadcasts in each order and four direct stops, in turn. False if the sender was too slow.
fn twelve_stops_under(quota: &Quota) -> bool {
    let app = "$| = 1; my $n = 0; $SIG{TERM} = sub { $n++; print \"stop $n\\n\" }; $SIG{USR1} = sub { exit $n };
print \"ready\\n\"; sleep 60 while 1";
    let command = inside(Place::Pid1, &["--stop-timeout", "100"], &["perl", "-e", app]);
    let mut run = Run::spawn(quota.run(&command), Place::Elsewhere);
    run.wait_for("ready");
    run.pid = run.child_of(run.pid);
    for round in 1..=12 {
        wait(&run, Duration::from_millis(300));
        let mut pids: Vec<Pid> = broadcast::everybody(&run);
        match round % 3 {
            0 => pids = vec![run.pid],
            1 => pids.reverse(),
            _ => {}
        }
        if !broadcast::broadcast(&pids) {
            return false;
        }
        run.wait_for(&format!("stop {round}"));
        wait(&run, Duration::from_millis(300));
    }
    run.signal(Signal::SIGUSR1);
    let (stops, lines) = run.end();
    assert_eq!(stops, 12, "{lines:#?}");
    true
}

#[test]
fn a_pause_of_ours_loses_nothing_and_moves_no_deadline_by_itself_24() {
    for place in BOTH {
        let app =
            "trap 'echo goodbye; exit 3' TERM; echo ready; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done";
        let mut run = Run::start(place, &["--stop-timeout", "10"], &["sh", "-c", app]);
        run.wait_for("line 3");
        run.signal(Signal::SIGSTOP);
        run.signal(Signal::SIGTERM);
        wait(&run, Duration::from_millis(300));
        run.signal(Signal::SIGCONT);
        let (code, lines) = run.end();
        assert_eq!(code, 3, "{place:?}: {lines:#?}");
        let numbers: Vec<u32> = lines.iter().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
        assert!(numbers.iter().copied().eq(1..=u32::try_from(numbers.len()).expect("few")), "{numbers:?}");
        assert_eq!(lines.iter().filter(|line| *line == "goodbye").count(), 1, "{lines:#?}");
    }
}

#[test]
fn a_stopped_and_continued_app_is_not_taken_for_an_ended_one_26() {
    for place in BOTH {
        let mut run = Run::start(place, &[], &["sh", "-c", "kill -STOP $$; echo went on; exit 5"]);
        run.wait_for("the app is pid");
        let app = run.child_of(run.pid);
        run.wait_until("it is stopped", || {
            fs::read_to_string(format!("/proc/{app}/stat")).is_ok_and(|stat| stat.contains(") T "))
        });
        run.signal(Signal::SIGCONT);
        let (code, lines) = run.end();
        assert_eq!(code, 5, "{place:?}: {lines:#?}");
        assert!(has(&lines, "went on"), "{place:?}: {lines:#?}");
    }
}

#[test]
fn many_children_that_end_at_once_are_all_reaped_26() {
    for place in BOTH {
        let app = "for i in $(seq 200); do (setsid true &) ; done; sleep 0.5; exit 2";
        let mut run = Run::start(place, &[], &["bash", "-c", app]);
        run.wait_for("the app is pid");
        let (code, lines) = run.end();
        assert_eq!(code, 2, "{place:?}: {lines:#?}");
        assert!(!has(&lines, "quiet"), "zombies were taken for leftovers: {lines:#?}");
    }
}

#[test]
fn an_app_that_became_another_user_does_not_end_us_16() {
    // We are nobody, and the app becomes root through a set-user-id program. The kernel refuses our signals.
    let dir = open_directory();
    let (ours, theirs) = (dir.path().join("lastword"), dir.path().join("setpriv"));
    fs::copy(program(), &ours).expect("a copy");
    fs::copy("/usr/bin/setpriv", &theirs).expect("a copy");
    let status = Command::new("chmod").arg("u+s").arg(&theirs).status();
    assert!(status.expect("chmod").success());
    for place in BOTH {
        let around: &[&str] =
            if place == Place::Pid1 { &["unshare", "--pid", "--fork", "--mount-proc"] } else { &["env"] };
        let mut outer = Command::new(around[0]);
        outer.args(&around[1..]).args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&ours);
        outer.args(["--verbose", "--"]).arg(&theirs).args(["--reuid=0", "sh", "-c", "echo ready; exec sleep 60"]);
        let mut run = Run::spawn(outer, place);
        run.wait_for("ready");
        run.signal(Signal::SIGTERM);
        let refused = run.wait_for("did not reach the app");
        assert!(refused.contains("not permitted"), "{place:?}: {refused}");
        let app = run.child_of(run.pid);
        kill(app, Signal::SIGKILL).expect("we may");
        let (code, lines) = run.end();
        assert_eq!(code, 137, "{place:?}: {lines:#?}");
    }
}

#[test]
fn a_number_that_was_the_apps_is_not_signalled_17() {
    // The app is gone and a daemon is not: the stop is for that one, and the number of the app for nobody.
    let dir = tempfile::tempdir().expect("a directory");
    let worker = script(&dir, "worker", &format!("#!/bin/sh\n{WORKER}\n"));
    for place in BOTH {
        let app = format!("(setsid {worker} &); sleep 0.3; exit 3");
        let mut run = Run::start(place, &["--linger", "5s", "--stop-timeout", "20"], &["sh", "-c", &app]);
        run.wait_for("the app exited 3");
        run.wait_for("ready");
        run.signal(Signal::SIGTERM);
        let (code, lines) = run.end();
        assert_eq!(code, 3, "{place:?}: {lines:#?}");
        assert!(has(&lines, "goodbye") && !has(&lines, "to the app"), "{place:?}: {lines:#?}");
    }
}
