//! What a drain that hangs costs the others, and the app: latencies, with and without it, in interleaved pairs. Runs with the
//! container tests (hence the module's name, which scripts/test picks them by), on a machine that does nothing else.
//!
//! A comparison that fails is made once more with twice the pairs, and must hold then: a neighbour's second of work spoils
//! a pair or two, not the median of ten.

use crate::support::{
    note,
    tcp::{Plan, Reading, TcpSink, discard},
    tools,
    wrapper::Setup,
};
use std::{
    fs,
    io::Read,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Pairs of a first comparison.
const PAIRS: usize = 5;

/// A receiver that says of each line how long it took from the app's write, in nanoseconds.
struct Clocked {
    address: SocketAddr,
    latencies: mpsc::Receiver<Vec<u64>>,
}

impl Clocked {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (sender, latencies) = mpsc::channel();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("lastword connects");
            let (mut buffer, mut kept, mut found) = (vec![0; 1 << 18], Vec::new(), Vec::new());
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let now = now();
                kept.extend_from_slice(&buffer[..count]);
                let used = stamps(&kept, |stamp| found.push(now.saturating_sub(stamp)));
                kept.drain(..used);
            }
            let _ = sender.send(found);
        });
        Self { address, latencies }
    }

    /// All of them, when lastword is gone.
    fn collect(self) -> Vec<u64> {
        self.latencies.recv_timeout(Duration::from_secs(10)).expect("the connection ends with lastword")
    }
}

fn now() -> u64 {
    let time = nix::time::ClockId::CLOCK_MONOTONIC.now().expect("Linux has it");
    Duration::from(time).as_nanos() as u64
}

/// Finds the stamps of whole lines (`@t=` and twenty digits); returns how many bytes need not be looked at again.
fn stamps(bytes: &[u8], mut found: impl FnMut(u64)) -> usize {
    let mut used = 0;
    for at in memchr::memmem::find_iter(bytes, b"@t=") {
        let Some(digits) = bytes.get(at + 3..at + 23) else { return at };
        found(std::str::from_utf8(digits).expect("digits").parse().expect("digits"));
        used = at + 23;
    }
    used.max(bytes.len().saturating_sub(2))
}

/// The value that so many in a thousand do not pass.
fn quantile(mut values: Vec<u64>, per_mille: usize) -> u64 {
    assert!(values.len() >= 1000, "{} values say nothing about rare ones", values.len());
    values.sort_unstable();
    values[values.len() * per_mille / 1000]
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

/// Whether the median of `with` is at most twice that of `without`; a second look decides.
#[track_caller]
fn at_most_twice(what: &str, enough: u64, mut without: impl FnMut() -> u64, mut with: impl FnMut() -> u64) {
    for pairs in [PAIRS, 2 * PAIRS] {
        let (base, other): (Vec<_>, Vec<_>) = (0..pairs).map(|_| (without(), with())).unzip();
        let (base, other) = (median(base), median(other));
        let text = format!("{what}: {} µs, beside {} µs without", other / 1000, base / 1000);
        note(&text);
        // A time that nobody notices is no delay, whatever it is a multiple of.
        if other <= (2 * base).max(enough) {
            return;
        }
        assert_eq!(pairs, PAIRS, "{text}, twice");
    }
}

fn binaries() -> (&'static Path, String) {
    let lastword = tools::static_lastword();
    let app = lastword.with_file_name("examples/paced_app").display().to_string();
    (lastword, app)
}

/// p99 from the app's write to the arrival at two receivers, a third one hanging if it `hangs`.
fn p99(lastword: &Path, app: &str, hangs: bool) -> u64 {
    let receivers = [Clocked::start(), Clocked::start()];
    let deaf = TcpSink::start(Plan { reading: Reading::Never, deaths: Vec::new() });
    let mut setup = Setup::new().program(lastword).stdout(Stdio::null()).flags(["--flush-timeout", "200ms"]);
    for (index, receiver) in receivers.iter().enumerate() {
        setup = setup.drain(&format!("syslog+tcp://{}#name=well{index}", receiver.address));
    }
    if hangs {
        setup = setup.drain(&deaf.url("deaf"));
    }
    // The same share of memory for each with and without, and little: the one that hangs is full soon.
    setup = setup.flags(["--memory", if hangs { "3MiB" } else { "2MiB" }]);
    let done = setup.start(&[app, "--rate", "20000", "--millis", "700"]).finish(Duration::from_secs(10));
    if hangs {
        let books = done.report.as_ref().expect("a report").of("deaf");
        assert!(books.lost() > 1000 && books.confirmed == 0, "it did not hang: {books:?}");
    }
    let latencies: Vec<u64> = receivers.into_iter().flat_map(Clocked::collect).collect();
    assert_eq!(latencies.len(), 28_000, "a line is missing: {}", done.err());
    quantile(latencies, 990)
}

#[test]
fn a_drain_that_hangs_at_most_doubles_the_latency_of_the_others_17() {
    let (lastword, app) = binaries();
    at_most_twice("p99 from write to arrival", 0, || p99(lastword, &app, false), || p99(lastword, &app, true));
}

/// 50 MB a second in writes of 4 KB.
const FAST: [&str; 8] = ["--rate", "250000", "--batch", "20", "--bytes", "200", "--millis", "700"];

fn p999_of_writes(path: &Path) -> u64 {
    let text = fs::read_to_string(path).expect("the app says how long its writes took");
    quantile(text.lines().map(|line| line.parse().expect("a number")).collect(), 999)
}

fn under_cat(app: &str) -> u64 {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let writes = dir.path().join("writes");
    let script = "\"$@\" | cat >/dev/null";
    let status = Command::new("sh").args(["-c", script, "sh", app]).args(FAST).arg("--writes").arg(&writes).status();
    assert!(status.expect("sh").success());
    p999_of_writes(&writes)
}

/// Under lastword, with two drains that read and one that hangs.
fn under_lastword(lastword: &Path, app: &str) -> u64 {
    let deaf = TcpSink::start(Plan { reading: Reading::Never, deaths: Vec::new() });
    let setup = Setup::new().program(lastword).stdout(Stdio::null()).flags(["--flush-timeout", "200ms"]);
    let setup = setup.drain(&discard()).drain(&discard()).drain(&deaf.url("deaf"));
    let writes = setup.path("writes").display().to_string();
    let command: Vec<&str> = [app].into_iter().chain(FAST).chain(["--writes", &writes]).collect();
    let path = PathBuf::from(&writes);
    let run = setup.start(&command);
    let done = run.finish(Duration::from_secs(20));
    assert!(done.report.as_ref().expect("a report").of("deaf").read >= 170_000, "{}", done.err());
    p999_of_writes(&path)
}

#[test]
fn the_apps_writes_take_at_most_twice_as_long_as_into_cat_or_a_tenth_of_a_millisecond_with_a_drain_that_hangs_14() {
    let (lastword, app) = binaries();
    at_most_twice("p99.9 of the app's writes", 100_000, || under_cat(&app), || under_lastword(lastword, &app));
}
