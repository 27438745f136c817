//! The process side: exit codes, signals, masks, descriptors, strangers at the pipe.

use crate::support::{
    judge::Terms,
    ms,
    pair::Pair,
    stops::side_by_side,
    tools, until,
    wrapper::{Finished, Running, Setup, children},
};
use nix::sys::signal::Signal;
use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    process::{Command, Stdio},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(20);

/// Runs `sh -c script` without drains.
fn run_shell(pid1: bool, script: &str) -> Finished {
    Setup::new().pid1(pid1).start(&["sh", "-c", script]).finish(LIMIT)
}

/// Runs each job once alone and once as PID 1, eight side by side.
fn both_ways(jobs: &[i32], job: impl Fn(bool, i32) + Sync) {
    side_by_side(8, jobs.len() as u64 * 2, |index| job(index % 2 == 1, jobs[index as usize / 2]));
}

#[test]
fn each_of_the_256_exit_codes_is_ours_61() {
    both_ways(&(0..256).collect::<Vec<_>>(), |pid1, code| {
        let done = run_shell(pid1, &format!("exit {code}"));
        assert_eq!(done.code(), code, "pid1 {pid1}; stderr: {}", done.err());
    });
}

#[test]
fn a_death_by_signal_n_is_exit_code_128_plus_n() {
    // All that kill by default; core dumps off.
    let deadly = (1..=31).filter(|signal| ![17, 18, 19, 20, 21, 22, 23, 28].contains(signal)).chain([34, 35, 64]);
    both_ways(&deadly.collect::<Vec<_>>(), |pid1, signal| {
        let done = run_shell(pid1, &format!("ulimit -c 0; kill -{signal} $$; sleep 5"));
        assert_eq!(done.code(), 128 + signal, "pid1 {pid1}; stderr: {}", done.err());
    });
}

#[test]
fn what_cannot_be_started_is_127_or_126_and_says_so_in_one_line() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a fresh file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(&path, mode).expect("our own file");
        path.to_string_lossy().into_owned()
    };
    let cases = [
        ("no-such-program-anywhere".to_owned(), 127),
        (dir.path().join("missing").to_string_lossy().into_owned(), 127),
        (file("no-interpreter", "#!/no/such/interpreter\n", 0o755), 127),
        (file("not-executable", "#!/bin/sh\n", 0o644), 126),
        (dir.path().to_string_lossy().into_owned(), 126),
    ];
    for (program, code) in cases {
        for pid1 in [false, true] {
            let done = Setup::new().pid1(pid1).start(&[&program]).finish(LIMIT);
            let err = done.err();
            assert_eq!((done.code(), err.lines().count()), (code, 1), "{program}, pid1 {pid1}: {err}");
            let name = program.rsplit('/').next().expect("not empty");
            assert!(err.starts_with("lastword") && err.contains(name), "{program}: {err}");
        }
    }
}

#[test]
fn the_app_has_the_signal_mask_and_the_ignored_signals_that_we_were_started_with() {
    // HUP and USR1 ignored, USR2 blocked (by python, for a shell cannot; and dash would clear the mask).
    let block = "import os,signal,sys\n\
        signal.signal(signal.SIGHUP,signal.SIG_IGN); signal.signal(signal.SIGUSR1,signal.SIG_IGN)\n\
        signal.signal(signal.SIGPIPE,signal.SIG_DFL); signal.signal(signal.SIGXFSZ,signal.SIG_DFL)\n\
        signal.pthread_sigmask(signal.SIG_BLOCK,[signal.SIGUSR2]); os.execvp(sys.argv[1],sys.argv[1:])";
    let app = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let [env, default_signals] = tools::DEFAULT_SIGNALS;
    let bare = Command::new(env).args([default_signals, tools::python(), "-c", block]).args(app).output();
    let bare = bare.expect("python runs");
    assert_eq!(signal_sets(&bare.stdout), [0x800, 0x201]);
    for pid1 in [false, true] {
        let done = Setup::new().launcher(&[tools::python(), "-c", block]).pid1(pid1).start(&app).finish(LIMIT);
        assert_eq!(signal_sets(&done.stdout), [0x800, 0x201], "pid1 {pid1}; stderr: {}", done.err());
    }
}

/// The masks in lines of /proc/PID/status, without the C library's own signals 32 and 33.
fn signal_sets(status: &[u8]) -> Vec<u64> {
    let mask = |line: &str| u64::from_str_radix(line.rsplit('\t').next().unwrap_or_default(), 16);
    let text = String::from_utf8_lossy(status);
    text.lines().map(|line| mask(line).unwrap_or_else(|_| panic!("{line}")) & !(3 << 31)).collect()
}

#[test]
fn a_chld_that_came_in_ignored_stays_ignored_in_the_app_and_codes_still_arrive() {
    let ignore =
        "import os,signal,sys\nsignal.signal(signal.SIGCHLD,signal.SIG_IGN); os.execvp(sys.argv[1],sys.argv[1:])";
    let setup = || Setup::new().launcher(&[tools::python(), "-c", ignore]);
    // No shell in between: it would catch the signal itself.
    let done = setup().start(&["grep", "SigIgn", "/proc/self/status"]).finish(LIMIT);
    let sets = signal_sets(&done.stdout);
    assert!(sets.len() == 1 && sets[0] & (1 << 16) != 0, "{sets:x?}; stderr: {}", done.err());
    let done = setup().start(&["sh", "-c", "exit 42"]).finish(LIMIT);
    assert_eq!(done.code(), 42, "stderr: {}", done.err());
}

#[test]
fn every_signal_that_can_be_caught_reaches_the_app_once() {
    for pid1 in [false, true] {
        let setup = Setup::new().pid1(pid1).stop_timeout(120);
        let run = setup.start(&[tools::python(), &tools::fixture("signals.py")]);
        until("the app to be ready", LIMIT, || run.stdout() == b"ready\n");
        let mut expected = "ready\n".to_owned();
        let all = (1..=31).filter(|signal| ![9, 15, 17, 19].contains(signal)).chain(34..=64).chain([15]);
        for signal in all {
            expected += &format!("got {signal}\n");
            // By number: nix has no names for real-time signals.
            let status = Command::new("kill").args([format!("-{signal}"), run.pid.to_string()]).status();
            assert!(status.expect("kill runs").success());
            until(&format!("signal {signal}, pid1 {pid1}"), ms(3000), || run.stdout().len() >= expected.len());
            assert_eq!(String::from_utf8_lossy(&run.stdout()), expected, "pid1 {pid1}");
        }
        let done = run.finish(LIMIT);
        assert_eq!((done.code(), String::from_utf8_lossy(&done.stdout).into_owned()), (7, expected));
    }
}

#[test]
fn a_user_who_was_dropped_to_can_open_dev_stdout_again() {
    tools::root();
    for pid1 in [false, true] {
        let pair = Pair::start();
        let options = "--count 50 --rate 0 --err-every 3 --uid 65534 --reopen --exit 3";
        let done = pair.setup().pid1(pid1).start_oracle(options).finish(LIMIT);
        assert_eq!((done.code(), done.record.done()), (3, 50), "stderr: {}", done.err());
        pair.acquit(&done);
    }
}

#[test]
fn a_hung_app_is_killed_in_time_on_a_stated_budget_59() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let mut run = pair.setup().pid1(pid1).stop_timeout(5).start_oracle("--on-term ignore --err-every 2");
        run.wrote(10);
        run.stop();
        let done = run.finish(Duration::from_secs(5));
        let since = done.since_stop.expect("it was stopped");
        assert_eq!(done.code(), 137, "stderr: {}", done.err());
        assert!(since > ms(3500), "killed after {since:?}: its time was 3.75 s");
        pair.acquit(&done);
    }
}

#[test]
fn an_app_is_never_killed_on_an_assumed_budget() {
    let pair = Pair::start();
    let mut run = pair.setup().start_oracle("--on-term goodbye:11000");
    run.wrote(10);
    run.stop();
    let done = run.finish(LIMIT);
    assert_eq!(done.code(), 0, "stderr: {}", done.err());
    assert!(done.since_stop > Some(ms(11_000)));
    done.all_said_goodbye();
    pair.acquit(&done);
}

#[test]
fn a_repeated_stop_changes_nothing_57() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let mut run = pair.setup().pid1(pid1).stop_timeout(5).start_oracle("--on-term goodbye:1500");
        run.wrote(5);
        run.stop();
        for _ in 0..10 {
            crate::support::pause(ms(100));
            run.signal(Signal::SIGTERM);
        }
        let done = run.finish(Duration::from_secs(5));
        assert_eq!(done.code(), 0, "stderr: {}", done.err());
        done.all_said_goodbye();
        pair.acquit(&done);
    }
}

#[test]
fn a_stranger_who_holds_the_pipe_does_not_keep_us() {
    let pair = Pair::start();
    let run = pair.setup().start_oracle("--count 30 --rate 100");
    run.wrote(5);
    let app = only_child(&run);
    // This test is no descendant of lastword, and now holds both pipes open.
    let held =
        [1, 2].map(|fd| fs::OpenOptions::new().write(true).open(format!("/proc/{app}/fd/{fd}")).expect("a pipe"));
    let done = run.finish(Duration::from_secs(5));
    assert!(done.took < Duration::from_secs(4), "{:?}", done.took);
    pair.acquit(&done);
    drop(held);
}

fn only_child(run: &Running) -> nix::unistd::Pid {
    let mut found = Vec::new();
    until("the app", LIMIT, || {
        found = children(run.pid);
        found.retain(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| !exe.ends_with("lastword")));
        found.len() == 1
    });
    found[0]
}

#[test]
fn an_app_that_closes_its_output_and_lives_on_is_waited_for_without_spinning_31_10() {
    side_by_side(2, 2, |index| {
        let pair = Pair::start();
        let run = pair.setup().pid1(index == 1).start_oracle("--count 10 --rate 0 --linger 1500 --exit 5");
        let pid = run.pid;
        until("the app to close its output", LIMIT, || run.path("record/app.goodbye").exists());
        crate::support::pause(ms(1000));
        let ticks = cpu_ticks(pid);
        let done = run.finish(LIMIT);
        assert_eq!(done.code(), 5, "stderr: {}", done.err());
        assert!(done.took > ms(1500), "{:?}", done.took);
        assert!(ticks < 40, "{ticks} hundredths of a second of CPU while nothing happened");
        pair.acquit(&done);
    });
}

/// User and system time of a process, in hundredths of a second.
fn cpu_ticks(pid: nix::unistd::Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    [11, 12].iter().map(|&index| fields[index].parse::<u64>().expect("a number")).sum()
}

#[test]
fn an_app_that_closes_one_of_its_streams_is_heard_on_the_other() {
    for closed in [1, 2] {
        let pair = Pair::start();
        let setup = pair.setup();
        // A first writer on both streams, then, with one of them closed, a second that is heard on the other alone.
        let (first, second) = (setup.oracle("--count 20 --rate 0 --err-every 2").join(" "), setup.oracle("").join(" "));
        let every = if closed == 1 { 1 } else { 0 };
        let then = format!("exec {closed}>&-; {second} --source later --count 200 --rate 400 --err-every {every}");
        let done = setup.start(&["sh", "-c", &format!("{first}; {then}")]).finish(LIMIT);
        assert_eq!((done.code(), done.record.done()), (0, 220), "{closed} closed, stderr: {}", done.err());
        assert!(done.record.broken.is_empty(), "{:?}", done.record.broken);
        pair.acquit(&done);
    }
}

#[test]
fn what_a_dying_app_left_in_the_pipe_arrives_34_11_12() {
    for (options, code) in [("--die SIGKILL", 137), ("--die SIGSEGV", 139), ("--exit 1", 1)] {
        for pid1 in [false, true] {
            let pair = Pair::start();
            // 1,000 lines in a few milliseconds, and gone.
            let options = format!("--count 1000 --rate 0 --batch 20 --shape f200 --no-newline {options}");
            let done = pair.setup().pid1(pid1).start_oracle(&options).finish(LIMIT);
            assert_eq!((done.code(), done.record.done()), (code, 1000), "stderr: {}", done.err());
            pair.acquit(&done);
        }
    }
}

#[test]
fn arguments_pass_byte_by_byte_and_standard_input_is_the_apps() {
    let odd = OsString::from_vec(b"a b\xff\xfe'\"$\\".to_vec());
    let command = ["printf".into(), "%s|".into(), odd.clone(), OsString::new(), "--drain".into()];
    let done = Setup::new().start(&command).finish(LIMIT);
    assert_eq!(done.stdout, [odd.into_vec(), b"||--drain|".to_vec()].concat(), "stderr: {}", done.err());
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("in"), "to the app\n").expect("a fresh file");
    let input = fs::File::open(dir.path().join("in")).expect("just written");
    let done = Setup::new().stdin(input.into()).start(&["cat"]).finish(LIMIT);
    assert_eq!(done.stdout, b"to the app\n", "stderr: {}", done.err());
}

#[test]
fn the_app_gets_the_descriptors_that_were_meant_for_it_and_none_of_ours() {
    let pair = Pair::start();
    let launcher = ["sh", "-c", "exec 7</dev/null; exec \"$@\"", "sh"];
    let list = ["ls", "-l", "/proc/self/fd"];
    // Whoever runs the tests may have left some open: what a bare run shows is what is right.
    let bare = Command::new("sh").args(&launcher[1..]).args(list).stdin(Stdio::null()).output().expect("sh runs");
    let done = pair.setup().launcher(&launcher).start(&list).finish(LIMIT);
    let (bare, seen) = (open_descriptors(&bare.stdout), open_descriptors(&done.stdout));
    assert!(bare.contains(&"7".into()), "{bare:?}");
    assert_eq!(seen, bare, "stderr: {}", done.err());
}

/// The numbers in `ls -l /proc/self/fd`, but for the one that ls itself has open: it points into /proc.
fn open_descriptors(listing: &[u8]) -> Vec<String> {
    let listing = String::from_utf8_lossy(listing);
    let open = listing.lines().filter_map(|line| line.split_once(" -> ")).filter(|(_, to)| !to.starts_with("/proc/"));
    open.filter_map(|(line, _)| line.rsplit(' ').next()).map(str::to_owned).collect()
}

#[test]
fn lastwords_own_variables_are_not_shown_to_the_app_49() {
    let setup = Setup::new().env("LASTWORD_STOP_TIMEOUT", "5s").env("KEPT", "yes");
    let done = setup.start(&["sh", "-c", "env | grep -E '^(LASTWORD|KEPT)'"]).finish(LIMIT);
    assert_eq!(String::from_utf8_lossy(&done.stdout), "KEPT=yes\n", "stderr: {}", done.err());
}

#[test]
fn a_stop_that_comes_while_the_drains_are_flushed_shortens_the_flush() {
    // A drain that is down, an app that has ended by itself: up to 60 s of flush, were it not for the stop.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound");
    drop(silent);
    let setup = Setup::new().drain(&format!("syslog+tcp://{address}#name=down")).stop_timeout(3);
    let mut run = setup.start_oracle("--count 10 --rate 0 --exit 4");
    until("the app to end", LIMIT, || run.path("record/app.goodbye").exists() && children(run.pid).is_empty());
    run.stop();
    let done = run.finish(Duration::from_secs(3));
    assert_eq!(done.code(), 4, "stderr: {}", done.err());
    done.acquit("down", &crate::support::judge::Seen::default(), Terms { lossy: true, ..Terms::default() });
}

#[test]
fn standard_input_may_be_closed_at_the_start() {
    let launcher = ["sh", "-c", "exec <&- ; exec \"$@\"", "sh"];
    let done =
        Setup::new().launcher(&launcher).stdin(Stdio::null()).start(&["sh", "-c", "echo hello; exit 2"]).finish(LIMIT);
    assert_eq!((done.code(), &done.stdout[..]), (2, &b"hello\n"[..]), "stderr: {}", done.err());
}

#[test]
fn the_program_has_none_of_the_planted_bugs() {
    // See src/planted.rs: where they are compiled in, so are their names and the variable that switches them on.
    let program = fs::read(tools::lastword()).expect("it is built");
    for name in ["LASTWORD_BUG", "rewind_past_window", "partial_last_line_dropped"] {
        assert!(memchr::memmem::find(&program, name.as_bytes()).is_none(), "{name} is in the program");
    }
}
