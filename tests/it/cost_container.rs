//! What lastword costs, with bounds wide enough for a busy machine: CPU time, memory, and ratios. The figures are
//! in docs/PERFORMANCE.md; this catches the change that makes a line several times dearer. Runs with the container tests
//! (hence the module's name, which scripts/test picks them by), on their build: release code.

use crate::support::{note, tcp::discard, tools};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
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
    run_lines(flags, &"x".repeat(199), lines)
}

fn run_lines(flags: &[&str], line: &str, lines: u64) -> Cost {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let report = dir.path().join("report.json");
    // An app that is blocked for good fails the test.
    let mut command = Command::new("timeout");
    command.env("LASTWORD_LIFECYCLE_LINES", "off");
    command.arg("100").arg(tools::static_lastword()).arg("--report").arg(&report).args(flags);
    command.args(["--", "sh", "-c", APP, line, &lines.to_string()]);
    let output = command.stdout(Stdio::null()).output().expect("lastword starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read(report).expect("a report");
    Cost { report: serde_json::from_slice(&text).expect("JSON") }
}

#[test]
fn a_line_to_a_tcp_receiver_costs_less_than_a_microsecond_of_cpu() {
    let cost = run(&["--when-full", "block", "--drain", &discard()], 1_000_000);
    assert_eq!(cost.units("/confirmed"), 1_000_000);
    let ns = cost.cpu_ns_per_line();
    assert!(ns < 1000.0, "{ns:.0} ns of CPU a line; about 200 is usual");
}

/// The ratio of two runs at the same time, so wall time is fair; the median, as a neighbour may wake up. What lastword itself
/// costs is judged, with the spool in memory; what the disk adds is told.
#[test]
fn with_a_spool_a_tcp_drain_has_at_least_six_tenths_of_its_speed() {
    let lines = 1_000_000;
    let drain = discard();
    let speed = |flags: &[&str]| {
        let flags = [&["--when-full", "block", "--drain", &drain], flags].concat();
        let cost = run(&flags, lines);
        assert_eq!(cost.units("/confirmed"), lines);
        lines as f64 / cost.number("duration_ms")
    };
    let speed_in = |place: &Path| {
        let dir = tempfile::tempdir_in(place).expect("a temporary directory");
        speed(&["--spool", &dir.path().join("spool").to_string_lossy()])
    };
    let (mut memory, mut disk) = (Vec::new(), Vec::new());
    // A second look decides.
    while memory.len() < 5 || memory.len() < 15 && memory[memory.len() / 2] < 0.6 {
        for _ in 0..5 {
            let without = speed(&[]);
            memory.push(speed_in(Path::new("/dev/shm")) / without);
            disk.push(speed_in(&std::env::temp_dir()) / without);
        }
        memory.sort_by(f64::total_cmp);
    }
    disk.sort_by(f64::total_cmp);
    note(&format!("speed with a spool / without: in memory {memory:.2?}, on the disk {disk:.2?}"));
    let median = memory[memory.len() / 2];
    assert!(median >= 0.6, "{median:.2} of the speed without a spool; of {memory:.2?}");
}

#[test]
fn a_million_tiny_and_a_million_empty_lines_are_counted_exactly_and_cost_less_than_a_microsecond_each_7() {
    for line in ["x", ""] {
        let cost = run_lines(&["--when-full", "block", "--drain", &discard()], line, 1_000_000);
        assert_eq!((cost.units("/read"), cost.units("/confirmed")), (1_000_000, 1_000_000));
        let ns = cost.cpu_ns_per_line();
        assert!(ns < 1000.0, "{ns:.0} ns of CPU for a line {line:?}");
    }
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
