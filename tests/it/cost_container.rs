//! What lastword costs, with bounds wide enough for a busy machine: CPU time and memory, and where it is wall time, the best of some. The figures are
//! in docs/PERFORMANCE.md; this catches the change that makes a line several times dearer. Runs with the container tests
//! (hence the module's name, which scripts/test picks them by), on their build: release code.

use crate::support::{note, tools};
use std::{
    fs,
    io::Read,
    net::TcpListener,
    process::{Command, Stdio},
    thread,
};

/// `count` lines of 200 bytes, at full speed.
const APP: &str = r#"yes "$0" | head -n "$1""#;

struct Cost {
    report: serde_json::Value,
}

impl Cost {
    fn number(&self, name: &str) -> f64 {
        self.report[name].as_f64().unwrap_or_else(|| panic!("{name} in {}", self.report))
    }

    /// Of the only drain.
    fn units(&self, name: &str) -> u64 {
        let books = &self.report["drains"][0];
        books.pointer(name).and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("{name} in {books}"))
    }

    fn cpu_ns_per_line(&self) -> f64 {
        self.number("cpu_ms") * 1e6 / self.units("/read") as f64
    }

    fn peak_mib(&self) -> f64 {
        self.number("max_rss_kib") / 1024.0
    }
}

fn run(flags: &[&str], lines: u64) -> Cost {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let report = dir.path().join("report.json");
    // An app that is blocked for good fails the test.
    let mut command = Command::new("timeout");
    command.env("LASTWORD_LIFECYCLE_LINES", "off");
    command.arg("100").arg(tools::static_lastword()).arg("--report").arg(&report).args(flags);
    command.args(["--", "sh", "-c", APP, &"x".repeat(199), &lines.to_string()]);
    let output = command.stdout(Stdio::null()).output().expect("lastword starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read(report).expect("a report");
    Cost { report: serde_json::from_slice(&text).expect("JSON") }
}

/// A TCP receiver that reads to the end, for each connection.
fn discard() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let url = format!("syslog+tcp://{}", listener.local_addr().expect("bound"));
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 18];
                while let Ok(1..) = stream.read(&mut buffer) {}
            });
        }
    });
    url
}

#[test]
fn a_line_to_a_tcp_receiver_costs_less_than_a_microsecond_of_cpu() {
    let cost = run(&["--when-full", "block", "--drain", &discard()], 1_000_000);
    assert_eq!(cost.units("/confirmed"), 1_000_000);
    let ns = cost.cpu_ns_per_line();
    assert!(ns < 1000.0, "{ns:.0} ns of CPU a line; about 200 is usual");
}

#[test]
fn with_a_spool_it_is_at_least_six_tenths_as_fast_as_without() {
    // In memory, so that it is our own doing that is measured. The best of some, in turns, so that it is not the neighbours'.
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let spool = dir.path().join("spool").to_string_lossy().into_owned();
    let url = discard();
    let without = ["--when-full", "block", "--drain", &url];
    let with = [&without[..], &["--spool", &spool]].concat();
    let mut best = [f64::INFINITY; 2];
    for _ in 0..6 {
        for (flags, best) in [&without[..], &with[..]].into_iter().zip(&mut best) {
            let cost = run(flags, 1_000_000);
            assert_eq!(cost.units("/confirmed"), 1_000_000);
            *best = best.min(cost.number("duration_ms"));
        }
    }
    let ratio = best[0] / best[1];
    note(&format!(
        "with a spool {ratio:.2} times as fast: {:.0} ms a million lines, {:.0} ms without",
        best[1], best[0]
    ));
    assert!(ratio >= 0.6, "{ratio:.2}");
}

#[test]
fn a_flood_into_a_drain_that_is_down_neither_blocks_the_app_nor_passes_the_memory() {
    let (memory, lines) = (2.0, 2_000_000);
    // Nobody listens on port 9. That the run ends in time shows that the app was not blocked.
    let down = ["--memory", "2MiB", "--flush-timeout", "100ms", "--drain", "syslog+tcp://127.0.0.1:9"];
    let cost = run(&down, lines);
    let (overflow, deadline) = (cost.units("/lost/overflow"), cost.units("/lost/deadline"));
    assert_eq!(overflow + deadline, lines, "each line is counted");
    assert!(overflow > lines / 2, "the queue holds {memory} MiB of 400: only {overflow} lines overflowed");
    assert!(cost.peak_mib() < memory + 12.0, "{:.1} MiB at the peak", cost.peak_mib());
    let ns = cost.cpu_ns_per_line();
    assert!(ns < 500.0, "{ns:.0} ns of CPU a line; about 50 is usual");
}
