//! `--restart`: run after run, with nothing lost between them, and never after a stop (checklist item 51).

use crate::support::{
    http::{Act, HttpSink},
    judge::{Seen, Terms},
    ms,
    pair::Pair,
    tcp::{Plan, Reading, TcpSink},
    until,
    wrapper::{Finished, Setup, children, without_own},
};
use nix::sys::signal::{Signal, kill};
use std::{fs, io::Read, thread, time::Duration};

const LIMIT: Duration = Duration::from_secs(20);

/// Restarts follow quickly.
fn quick(setup: Setup, when: &str) -> Setup {
    setup.flags(["--restart", when, "--restart-delay", "100ms"]).env("LASTWORD_LIFECYCLE_LINES", "on")
}

/// A shell that counts its runs in $RECORD/../runs, and then does this.
fn counting(setup: &Setup, then: &str) -> Vec<String> {
    let runs = setup.path("runs").display().to_string();
    let script = format!("echo x >> {runs}; n=$(wc -l < {runs}); {then}");
    vec!["sh".into(), "-c".into(), script]
}

fn runs(path: &std::path::Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn own(seen: &Seen) -> Vec<String> {
    seen.own.iter().map(|unit| String::from_utf8_lossy(&unit.text).into_owned()).collect()
}

/// How many own lines begin so.
fn count(seen: &Seen, begin: &str) -> usize {
    own(seen).iter().filter(|line| line.starts_with(&format!("lastword: {begin}"))).count()
}

#[track_caller]
fn acquit(done: &Finished, pair: Pair) -> Seen {
    let terms = Terms { confirmed: true, ..Terms::default() };
    let (http, tcp) = (pair.http.collect(), pair.tcp.collect());
    done.acquit("http", &http, terms);
    done.acquit("tcp", &tcp, terms);
    assert_eq!(own(&http), own(&tcp));
    // The last line of a run may lack its newline: passed through byte by byte, it is continued by the next run.
    let passed = [done.stdout.clone(), without_own(&done.stderr)].concat();
    assert_eq!(passed.iter().filter(|&&byte| byte == b'@').count(), http.units.len());
    http
}

#[test]
fn three_runs_are_one_stream_to_the_line_and_the_exit_code_is_the_last_ones() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let setup = quick(pair.setup().pid1(pid1), "on-failure");
        let app = setup.oracle("--source w%p --count 300 --rate 0 --batch 10 --err-every 3 --no-newline").join(" ");
        let command = counting(&setup, &format!("{app}; case $n in 1) exit 7;; 2) kill -KILL $$;; esac; exit 0"));
        let runs_file = setup.path("runs");
        let run = setup.start(&command);
        let done = run.finish(LIMIT);
        assert_eq!((done.code(), done.record.done()), (0, 900), "pid1 {pid1}; stderr: {}", done.err());
        assert!(!runs_file.exists() || runs(&runs_file) == 3);
        assert_eq!(done.report.as_ref().expect("a report").runs, 3);
        let seen = acquit(&done, pair);
        assert_eq!(seen.runs.len(), 1, "one run id, one sequence");
        let story = ["start", "exit", "restart", "start", "exit", "restart", "start", "exit", "flush"];
        let told: Vec<_> = own(&seen).iter().filter_map(|line| line.split(": ").nth(1).map(str::to_owned)).collect();
        assert_eq!(told, story, "{:?}", own(&seen));
        let told = own(&seen);
        assert!(told[2].contains("the app exited 7, restarting in 0.") && told[2].ends_with(" s"), "{told:?}");
        assert!(told[5].contains("the app exited 137 (SIGKILL), restarting in 0."), "{told:?}");
        // Each run's lines stand between its start and its exit.
        let mut bounds = seen.own.iter().filter(|unit| !unit.text.starts_with(b"lastword: restart"));
        for _ in 0..3 {
            let (start, exit) = (bounds.next().expect("a start").seq, bounds.next().expect("an exit").seq);
            let between = seen.units.iter().filter(|unit| start < unit.seq && unit.seq < exit).count();
            assert_eq!(between, 300);
        }
    }
}

#[test]
fn success_is_run_again_only_if_it_is_to_be_run_always() {
    let setup = quick(Setup::new(), "on-failure");
    let path = setup.path("runs");
    let command = counting(&setup, "exit 0");
    let done = setup.start(&command);
    until("the run", LIMIT, || runs(&path) == 1);
    let done = done.finish(LIMIT);
    assert_eq!((done.code(), done.err().as_str(), done.report.expect("a report").runs), (0, "", 1));
    let setup = quick(Setup::loud(), "always").flags(["--max-restarts", "2"]);
    let path = setup.path("runs");
    let command = counting(&setup, "exit 0");
    let run = setup.start(&command);
    until("three runs", LIMIT, || runs(&path) == 3);
    let done = run.finish(LIMIT);
    assert_eq!(done.code(), 0);
    let said = "lastword: restart: no more, after 2 restarts in a row (--max-restarts)\n\
        lastword: the app ran 3 times; the last run exited with 0\n";
    assert_eq!((done.err().as_str(), done.report.expect("a report").runs), (said, 3));
}

#[test]
fn a_stop_ends_it_all_in_a_run_and_in_the_wait_before_one() {
    for (delay, wait_for) in [("100ms", "a run"), ("60s", "the wait")] {
        for pid1 in [false, true] {
            let pair = Pair::start();
            let flags = ["--restart", "always", "--restart-delay", delay, "--stop-timeout", "5s"];
            let setup = pair.setup().pid1(pid1).flags(flags).env("LASTWORD_LIFECYCLE_LINES", "on");
            let app = setup.oracle("--source w%p --on-term goodbye:200 --exit 9").join(" ");
            // The first run ends by itself; the second, if there is one, waits for the stop.
            let first = setup.oracle("--source f%p --count 20 --rate 0").join(" ");
            let command = counting(&setup, &format!("[ $n -gt 1 ] && exec {app}; {first}; exit 4"));
            let path = setup.path("runs");
            let mut run = setup.start(&command);
            if wait_for == "a run" {
                until("the second run", LIMIT, || run.record().ready.iter().any(|writer| writer.starts_with('w')));
                run.wrote(25);
            } else {
                until("the restart to be told", LIMIT, || pair.tcp.messages() >= 23);
            }
            let so_far = runs(&path);
            run.stop();
            let done = run.finish(ms(5000));
            let context = format!("{wait_for}, pid1 {pid1}; stderr: {}", done.err());
            assert_eq!(done.code(), if wait_for == "a run" { 9 } else { 4 }, "{context}");
            assert_eq!(so_far, if wait_for == "a run" { 2 } else { 1 }, "{context}");
            assert!(done.since_stop.expect("stopped") < ms(3000), "{context}");
            let seen = acquit(&done, pair);
            assert_eq!(
                (count(&seen, "start"), count(&seen, "stop"), count(&seen, "flush")),
                (so_far, 1, 1),
                "{context}"
            );
            assert_eq!(count(&seen, "restart"), 1, "{context}");
        }
    }
}

#[test]
fn a_soft_stop_is_one_for_restarts_too() {
    let setup = quick(Setup::new(), "always");
    let path = setup.path("runs");
    let command = counting(&setup, "trap 'exit 5' QUIT; echo ready; while :; do sleep 0.05; done");
    let mut run = setup.start(&command);
    until("the app to be ready", LIMIT, || run.stdout() == b"ready\n");
    run.signal(Signal::SIGQUIT);
    assert_eq!(runs(&path), 1);
    assert_eq!(run.finish(LIMIT).code(), 5);
}

#[test]
fn a_run_begins_when_the_leftovers_of_the_last_one_are_gone() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let setup = quick(pair.setup().pid1(pid1).stop_timeout(3), "on-failure");
        // A worker in a session of its own, deaf to TERM: it gets its stages before the second run begins.
        let record = setup.path("record").display().to_string();
        let first = setup.oracle("--source f%p --count 5 --rate 0 --exit 7").join(" ");
        let daemon = format!("--daemon '--record {record} --source d%p --on-term ignore'");
        let last = setup.oracle("--source l%p --count 5 --rate 0 --exit 0").join(" ");
        let command = counting(&setup, &format!("[ $n -gt 1 ] && exec {last}; exec {first} {daemon}"));
        let done = setup.start(&command).finish(LIMIT);
        assert_eq!(done.code(), 0, "pid1 {pid1}; stderr: {}", done.err());
        let seen = acquit(&done, pair);
        let daemon: Vec<_> = seen.units.iter().filter(|unit| unit.text.starts_with(b"@d")).collect();
        assert!(daemon.len() > 5, "the daemon wrote {}", daemon.len());
        let starts: Vec<_> = seen.own.iter().filter(|unit| unit.text.starts_with(b"lastword: start")).collect();
        assert_eq!(starts.len(), 2, "{:?}", own(&seen));
        assert!(daemon.iter().all(|unit| unit.seq < starts[1].seq), "a worker of the first run wrote into the second");
        assert_eq!(count(&seen, "time is up: SIGKILL to 1 process"), 1, "{:?}", own(&seen));
    }
}

#[test]
fn the_waits_grow_and_a_good_run_starts_them_anew() {
    let setup = Setup::new().flags(["--restart", "always", "--restart-delay", "200ms", "--restart-delay-max", "400ms"]);
    let setup = setup.flags(["--healthy-after", "500ms", "--max-restarts", "3", "--lifecycle-lines", "stderr"]);
    // Three bad runs, a good one, and bad ones to the limit.
    let command = counting(&setup, "[ $n -eq 4 ] && sleep 0.6; exit 1");
    let path = setup.path("runs");
    let run = setup.start(&command);
    until("seven runs", LIMIT, || runs(&path) == 7);
    let done = run.finish(LIMIT);
    assert_eq!(done.code(), 1);
    let err = done.err();
    let waits: Vec<f64> =
        err.lines().filter_map(|line| line.split_once("restarting in ")?.1.strip_suffix(" s")?.parse().ok()).collect();
    let bounds = [200.0, 400.0, 400.0, 200.0, 400.0, 400.0];
    assert_eq!(waits.len(), bounds.len(), "{err}");
    for (wait, bound) in waits.iter().zip(bounds) {
        assert!((bound * 0.74..=bound * 1.01).contains(&(wait * 1000.0)), "{wait} s of {bound} ms: {err}");
    }
}

#[test]
fn the_end_of_tees_input_is_the_end() {
    let done = Setup::command(&["tee"]).env("LASTWORD_RESTART", "always").start::<&str>(&[]).finish(ms(5000));
    assert_eq!((done.code(), done.err().as_str()), (0, ""));
}

#[test]
fn what_crashing_runs_leave_in_a_full_queue_that_blocks_is_not_dropped_and_the_next_run_waits_51() {
    for pid1 in [false, true] {
        let slow = HttpSink::start(|_, _| Act::TakeSlowly(ms(150)));
        let setup = quick(Setup::new().drain(&slow.url("slow")).pid1(pid1), "always").flags(["--max-restarts", "5"]);
        let setup = setup.flags(["--memory", "2MiB", "--when-full", "block"]);
        let options = "--source w%p --count 5000 --rate 0 --batch 20 --shape f200 --exit 1";
        let done = setup.start_oracle(options).finish(Duration::from_secs(60));
        assert_eq!((done.code(), done.record.done()), (1, 30_000), "pid1 {pid1}; stderr: {}", done.err());
        done.acquit_passthrough();
        let seen = slow.collect();
        done.acquit("slow", &seen, Terms { confirmed: true, ..Terms::default() });
        assert_eq!((count(&seen, "start"), count(&seen, "restart: the app")), (6, 5), "{:?}", own(&seen));
    }
}

#[test]
fn a_stop_ends_the_wait_for_room_and_every_line_is_counted_51() {
    let deaf = TcpSink::start(Plan { reading: Reading::Never, deaths: Vec::new() });
    let setup = quick(Setup::new().drain(&deaf.url("deaf")).stop_timeout(3), "always");
    let setup = setup
        .flags(["--memory", "2MiB", "--pipe-size", "1MiB", "--when-full", "block"])
        .env("LASTWORD_LIFECYCLE_LINES", "off");
    // A run fits the pipe, so that it ends though nobody reads.
    let mut run = setup.start_oracle("--source w%p --count 4000 --rate 0 --batch 20 --shape f200 --exit 1");
    until("a run to wait for room", LIMIT, || {
        String::from_utf8_lossy(&run.stderr()).contains("restart: waiting for a drain, which is full")
    });
    let runs = run.record().ready.len();
    run.stop();
    let done = run.finish(ms(3000));
    assert_eq!((done.code(), done.record.ready.len()), (1, runs), "stderr: {}", done.err());
    assert_eq!(done.err().matches("waiting for a drain").count(), 1, "{}", done.err());
    let terms = Terms { lossy: true, overcounted: true, duplicates: u64::MAX, ..Terms::default() };
    done.acquit("deaf", &deaf.collect(), terms);
    let books = done.report.as_ref().expect("a report").of("deaf");
    assert_eq!(books.lost.keys().collect::<Vec<_>>(), ["deadline"], "{books:?}");
}

#[test]
fn runs_with_a_stdout_that_is_stuck_lose_no_line_and_no_byte_51() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let setup = quick(pair.setup().stdout(writer.into()).pid1(pid1), "always").flags(["--max-restarts", "3"]);
        let run = setup.start_oracle("--source w%p --count 5000 --rate 0 --batch 20 --shape f200 --exit 1");
        // The first run fits into the buffers, the second hangs in its write, as it would without us, until it is killed;
        // so does the third, until stdout moves on.
        for runs in [2, 3] {
            let mut before = 0;
            until("a run to hang", LIMIT, || {
                crate::support::pause(ms(300));
                let now = run.record().done();
                std::mem::replace(&mut before, now) == now && run.record().ready.len() == runs
            });
            if runs == 2 {
                kill(children(run.pid)[0], Signal::SIGKILL).expect("it hangs");
            }
        }
        let reading = thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        });
        let mut done = run.finish(LIMIT);
        done.stdout = reading.join().expect("no panic").expect("a pipe can be read");
        assert_eq!((done.code(), done.record.ready.len()), (1, 4), "pid1 {pid1}; stderr: {}", done.err());
        assert!(!done.err().contains("did not take"), "{}", done.err());
        pair.acquit(&done);
    }
}
