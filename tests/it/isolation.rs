//! One drain's trouble is its own: neither the app nor the other drains, nor the flush at the end, take slow for dead.

use crate::support::{
    closed::Closed,
    http::{Act, HttpSink},
    judge::Terms,
    ms,
    pair::Pair,
    tcp::{Death, Plan, Reading, TcpSink},
    tools, until,
    wrapper::{Running, Setup, children},
};
use nix::sys::signal::{Signal, kill};
use std::{fs, net::TcpListener, process::Stdio, time::Duration};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_slow_receiver_is_not_taken_for_one_that_hangs_60() {
    // With a spool, a flush in which nothing gets on ends after two seconds. Nothing settles in the first five here:
    // so young are bytes in the replay window.
    let slow = TcpSink::start(Plan { reading: Reading::Slow(2048), deaths: Vec::new() });
    let setup = Setup::loud().drain(&slow.url("slow"));
    let spool = setup.path("spool").display().to_string();
    let done = setup.flags(["--spool", &spool]).start_oracle("--count 2600 --rate 0 --batch 100 --shape f200");
    let done = done.finish(LIMIT);
    assert!(done.took > Duration::from_millis(2500), "that was not slow: {:?}", done.took);
    let facts = done.acquit("slow", &slow.collect(), Terms::default());
    assert_eq!(facts.lines, 2600, "{}", done.err());
}

#[test]
fn an_app_that_is_blocked_by_a_full_queue_hears_a_stop_and_can_be_killed_15() {
    for stop in [true, false] {
        let deaf = TcpSink::start(Plan { reading: Reading::Never, deaths: Vec::new() });
        let setup = Setup::new().drain(&deaf.url("deaf")).flags(["--memory", "2MiB", "--when-full", "block"]);
        let setup = setup.stdout(Stdio::null()).stop_timeout(3).flags(["--flush-timeout", "500ms"]);
        let app: &[&str] = if stop { &["sh", "-c", "trap 'exit 7' TERM; yes $0 & wait", LINE] } else { &["yes", LINE] };
        let mut run = setup.start(app);
        until("the writer to be blocked in a write", LIMIT, || {
            let writers = children(run.pid).into_iter().flat_map(|app| [vec![app], children(app)].concat());
            let waits = |pid: nix::unistd::Pid| fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
            writers.map(waits).any(|place| place.contains("pipe_write"))
        });
        if stop {
            run.stop();
        } else {
            kill(children(run.pid)[0], Signal::SIGKILL).expect("it lives");
        }
        let done = run.finish(Duration::from_secs(4));
        assert_eq!(done.code(), if stop { 7 } else { 137 }, "{}", done.err());
        let books = done.report.as_ref().expect("a report").of("deaf");
        // When the shell is gone, `yes` is let go, and what it still writes is counted.
        assert!(books.read > 0 && (stop || !books.lost.contains_key("overflow")), "{books:?}");
    }
}

const LINE: &str = "a line of the flood, and one that is not too short for what it has to fill in the time";

#[test]
fn a_name_that_cannot_be_resolved_is_weather_and_it_is_looked_up_for_each_connection_46_47() {
    tools::root();
    let listeners = ["127.0.0.1", "127.0.0.2"];
    let first = TcpListener::bind((listeners[0], 0)).expect("a free port");
    let port = first.local_addr().expect("bound").port();
    let second = TcpListener::bind((listeners[1], port)).expect("nobody else uses this address");
    let [first, second] = [first, second].map(|listener| TcpSink::on(listener, Plan::default()));
    let setup = Setup::new().drain(&format!("syslog+tcp://drain.test:{port}#name=named")).stop_timeout(5);
    let [hosts, resolv] = ["hosts", "resolv.conf"].map(|name| setup.path(name));
    fs::write(&hosts, "").expect("a fresh file");
    fs::write(&resolv, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").expect("a fresh file");
    let mounts = format!(
        "mount --bind {} /etc/hosts && mount --bind {} /etc/resolv.conf && exec \"$@\"",
        hosts.display(),
        resolv.display()
    );
    let setup = setup.launcher(&["unshare", "--mount", "sh", "-c", &mounts, "sh"]);
    let mut run = setup.start_oracle("--rate 500 --on-term goodbye:50");
    until("its trouble to be named", LIMIT, || {
        String::from_utf8_lossy(&run.stderr()).contains("cannot resolve drain.test")
    });
    run.wrote(200);
    assert_eq!(first.messages() + second.messages(), 0);
    fs::write(&hosts, "127.0.0.1 drain.test\n").expect("our own file");
    until("the first receiver to get lines", LIMIT, || first.messages() > 200);
    fs::write(&hosts, "127.0.0.2 drain.test\n").expect("our own file");
    first.kill_now();
    until("the second receiver to get lines", LIMIT, || second.messages() > 100);
    run.stop();
    let done = run.finish(Duration::from_secs(5));
    let (mut seen, after) = (first.collect(), second.collect());
    seen.units.extend(after.units);
    done.acquit("named", &seen, Terms { duplicates: u64::MAX, ..Terms::default() });
}

#[test]
fn our_own_stderr_may_be_closed_or_a_full_pipe_63() {
    let fill = "mkfifo $F && exec 2<>$F && head -c 65536 /dev/zero >&2 && exec \"$@\"";
    for launch in ["exec \"$@\" 2>&-", fill] {
        let (pair, down) = (Pair::start(), Closed::port());
        let drains = Setup::loud().drain(&pair.tcp.url("tcp")).drain(&pair.http.url("http"));
        let setup = drains.drain(&format!("syslog+tcp://{down}#name=down")).flags(["--verbose"]).stop_timeout(4);
        let fifo = setup.path("fifo").display().to_string();
        let setup = setup.env("F", &fifo).launcher(&["sh", "-c", launch, "sh"]);
        let mut run = setup.start_oracle("--rate 1000 --on-term goodbye:50");
        run.wrote(300);
        run.stop();
        let done = run.finish(Duration::from_secs(4));
        assert_eq!(done.code(), 0, "{launch}");
        pair.acquit_drains(&done, Terms { confirmed: true, ..Terms::default() });
    }
}

#[test]
fn memory_and_descriptors_stay_flat_under_receivers_that_fail_all_the_time_65() {
    // LASTWORD_LONG: for an hour.
    let seconds = if std::env::var_os("LASTWORD_LONG").is_some() { 3600 } else { 5 };
    let flaky = HttpSink::start(|number, _| match number % 20 {
        3 => Act::Refuse(500, ""),
        9 => Act::Cut,
        15 => Act::TakeAndCut,
        _ => Act::Take,
    });
    let deaths = vec![(ms(150), Death::IdleReset); 20 * seconds as usize];
    let mortal = TcpSink::start(Plan { reading: Reading::Normal, deaths });
    let setup = Setup::new().drain(&flaky.url("flaky")).drain(&mortal.url("mortal")).stop_timeout(8);
    let mut run = setup.stdout(Stdio::null()).start_oracle("--rate 2000 --batch 10 --shape f100 --on-term goodbye:50");
    let fds = |run: &Running| fs::read_dir(format!("/proc/{}/fd", run.pid)).expect("it runs").count();
    run.wrote(3000);
    let (before, memory) = (fds(&run), run.memory("VmRSS:"));
    until("time to pass", Duration::from_secs(2 * seconds + 20), || run.record().done() > 2000 * seconds);
    let (after, grown) = (fds(&run), run.memory("VmRSS:").saturating_sub(memory));
    assert!(mortal.deaths() > 5, "{} deaths", mortal.deaths());
    run.stop();
    let done = run.finish(Duration::from_secs(8));
    let terms = Terms { duplicates: u64::MAX, ..Terms::default() };
    done.acquit("flaky", &flaky.collect(), terms);
    done.acquit("mortal", &mortal.collect(), terms);
    assert!(after <= before + 3, "{before} descriptors, then {after}");
    assert!(grown < 8 << 10, "{grown} KiB more than after a second and a half");
}
