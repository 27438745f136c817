//! Celery with its pool of processes, and a worker on Python's own multiprocessing: a first stop is warm (what is under way
//! is ended), a second is cold.

use crate::support::{
    judge::{Seen, Terms, judge},
    pair::Pair,
    stops::{Case, side_by_side, stop_all, within_budget},
    tools, until,
    wrapper::{Finished, Running, raw},
};
use nix::sys::signal::Signal;
use std::{fs, process::Command, time::Duration};

const LIMIT: Duration = Duration::from_secs(20);

fn pool() -> Vec<String> {
    vec![tools::python().into(), tools::fixture("pool.py")]
}

#[test]
fn a_pool_of_processes_ends_its_tasks_after_a_stop_and_their_last_lines_arrive() {
    let case = Case { name: "pool", command: |_| pool(), writers: 3, ..Case::default() };
    stop_all(&case, 6);
}

#[test]
fn a_second_stop_is_cold_and_what_was_said_before_it_arrives() {
    side_by_side(3, 6, |index| {
        let pid1 = index % 2 == 1;
        let pair = Pair::start();
        let mut run = pair.setup().pid1(pid1).stop_timeout(10).env("TASK", "20").start(&pool());
        until_three_write(&run);
        run.stop();
        // Stops that follow within 50 ms are one.
        crate::support::pause(Duration::from_millis(200));
        run.signal(Signal::SIGTERM);
        let done = run.finish(Duration::from_secs(10));
        assert_eq!(done.code(), 70, "pid1 {pid1}; stderr: {}", done.err());
        // Its tasks would take 20 s.
        within_budget(&done, 7, "cold is at once");
        pair.acquit(&done);
    });
}

fn until_three_write(run: &Running) {
    until("three writers to write", LIMIT, || run.record().sources.values().filter(|it| it.done > 0).count() == 3);
}

/// Starts a worker with a queue that is longer than it lives.
fn celery(pair: &Pair, pid1: bool) -> Running {
    tools::program("/usr/lib/python3/dist-packages/celery/__main__.py", "python3-celery");
    let fixture = tools::fixture("tasks.py");
    // Celery takes three to five seconds to end, on an idle machine, whoever stops it.
    let setup = pair.setup().pid1(pid1).stop_timeout(40);
    let queue = setup.path("queue");
    fs::create_dir(&queue).expect("a fresh directory");
    let mut enqueue = Command::new(tools::python());
    let status = enqueue.arg(&fixture).arg("30").env("QUEUE", &queue).env("RECORD", setup.path("record")).status();
    assert!(status.expect("python runs").success());
    let workdir = fixture.trim_end_matches("tasks.py").to_owned();
    let words = ["--workdir", &workdir, "-A", "tasks", "worker", "-c", "2", "-l", "INFO", "--without-gossip"];
    let setup = setup.env("QUEUE", &queue.to_string_lossy());
    setup
        .start(&[&[tools::python(), "-m", "celery"][..], &words, &["--without-mingle", "--without-heartbeat"]].concat())
}

/// What the pool wrote, among Celery's own lines.
#[track_caller]
fn acquit_tasks(done: &Finished, pair: Pair, must_say: &[&str]) {
    let lines = done.stdout.split_inclusive(|&byte| byte == b'\n').filter(|line| line.starts_with(b"@"));
    let seen = Seen { units: raw(&lines.flatten().copied().collect::<Vec<_>>(), 'o').units, ..Seen::default() };
    let terms = Terms::default();
    judge(&done.record, None, &seen, terms).unwrap_or_else(|found| panic!("{found:?}; stderr: {}", done.err()));
    pair.acquit_foreign(done, must_say);
}

/// Lines of the tasks, by process of the pool.
fn of_tasks(done: &Finished) -> Vec<u64> {
    let tasks = done.record.sources.iter().filter(|((source, _), _)| source.starts_with('p'));
    tasks.map(|(_, extent)| extent.done).collect()
}

#[test]
fn a_celery_worker_ends_its_tasks_after_a_stop_and_their_last_lines_arrive() {
    side_by_side(4, 4, |index| {
        let pair = Pair::start();
        let mut run = celery(&pair, index % 2 == 1);
        until("both tasks to be under way", LIMIT, || of_pool(&run, |done| done % 10 > 0) == 2);
        run.stop();
        let done = run.finish(Duration::from_secs(40));
        assert_eq!(done.code(), 0, "{}", done.err());
        within_budget(&done, 40, "warm");
        let whole = of_tasks(&done).iter().all(|lines| lines % 10 == 0);
        assert!(whole && done.record.goodbyes.len() == 3, "{:?}; stderr: {}", done.record, done.err());
        acquit_tasks(&done, pair, &["worker: Warm shutdown (MainProcess)", "@m"]);
    });
}

#[test]
fn a_second_interrupt_ends_a_celery_worker_at_once_and_what_its_tasks_said_arrives() {
    side_by_side(4, 4, |index| {
        let pair = Pair::start();
        let mut run = celery(&pair, index % 2 == 1);
        until("both tasks to be under way", LIMIT, || of_pool(&run, |done| (1..7).contains(&(done % 10))) == 2);
        run.signal(Signal::SIGINT);
        until("the first one to be heard", LIMIT, || String::from_utf8_lossy(&run.stderr()).contains("Warm shutdown"));
        run.signal(Signal::SIGINT);
        let done = run.finish(Duration::from_secs(40));
        assert_ne!(done.code(), 137, "{}", done.err());
        acquit_tasks(&done, pair, &["worker: Warm shutdown (MainProcess)", "worker: Cold shutdown (MainProcess)"]);
    });
}

fn of_pool(run: &Running, is_so: impl Fn(u64) -> bool) -> usize {
    let record = run.record();
    record.sources.iter().filter(|((source, _), extent)| source.starts_with('p') && is_so(extent.done)).count()
}
