//! The whole process against the bare app and coreutils `tee`.
//!
//! ```text
//! cargo bench --bench wrapper [-- --runs 11] [--megabytes 200] [--only start|pass|drains|flood|spool] [--lastword BINARY]
//! ```
//!
//! `cargo bench` turns on features that tests alone want (tokio's paused time), which cost a little: `--lastword` takes
//! the binary that is shipped (`scripts/static-build`).
//!
//! Wall time and CPU are of one run each, interleaved over all contenders, medians printed. Lastword's own CPU is what its
//! report says (getrusage of itself, the app not included). The writer is this very binary.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "a bench stops at the first surprise and prints its table"
)]

mod receivers;
mod writer;

use receivers::{answer, discard, serve};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};
use writer::Pace;

const SIZES: [usize; 3] = [20, 200, 2000];

fn main() {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.first().map(String::as_str) == Some("writer") {
        return writer::run(&args);
    }
    let value = |name: &str, default: &str| {
        let at = args.iter().position(|arg| arg == name);
        at.map_or(default.to_owned(), |at| args[at + 1].clone())
    };
    let runs = value("--runs", "11").parse().unwrap();
    let megabytes: usize = value("--megabytes", "200").parse().unwrap();
    let only = value("--only", "all");
    let lastword = value("--lastword", env!("CARGO_BIN_EXE_lastword")).into();
    let bench = Bench::new(runs, megabytes << 20, lastword);
    if only == "all" || only == "start" {
        bench.start_up();
    }
    if only == "all" || only == "pass" {
        bench.pass_through();
    }
    if only == "all" || only == "drains" {
        bench.drains();
    }
    if only == "all" || only == "flood" {
        bench.flood();
    }
    if only == "all" || only == "spool" {
        bench.spool();
        bench.spool_opens();
    }
}

struct Bench {
    runs: usize,
    bytes: usize,
    me: PathBuf,
    lastword: PathBuf,
    dir: PathBuf,
}

/// What one run cost.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall_ns: f64,
    /// Lastword's own CPU.
    cpu_ns: f64,
    rss_kib: f64,
}

impl Bench {
    fn new(runs: usize, bytes: usize, lastword: PathBuf) -> Self {
        let dir = env::temp_dir().join(format!("lastword-bench-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self { runs, bytes, me: env::current_exe().unwrap(), lastword, dir }
    }

    fn start_up(&self) {
        println!("\n## Start-up and idle memory\n\n| | wall ms, median | min |\n|---|---|---|");
        let (mut bare, mut wrapped) = (Vec::new(), Vec::new());
        for _ in 0..self.runs * 5 {
            let begin = Instant::now();
            Command::new("true").status().unwrap();
            bare.push(begin.elapsed().as_secs_f64() * 1e3);
            let begin = Instant::now();
            Command::new(&self.lastword).args(["--", "true"]).status().unwrap();
            wrapped.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        for (name, times) in [("true", &mut bare), ("lastword -- true", &mut wrapped)] {
            println!("| `{name}` | {:.2} | {:.2} |", percentile(times, 0.5), percentile(times, 0.0));
        }
        let (tcp, http) = (serve(discard), serve(answer));
        let report = self.dir.join("idle.json");
        let drains = [format!("syslog+tcp://127.0.0.1:{tcp}"), format!("http://127.0.0.1:{http}/")];
        let status = Command::new(&self.lastword)
            .env("LASTWORD_LIFECYCLE_LINES", "off")
            .args(["--quiet", "--drain", &drains[0], "--drain", &drains[1], "--report"])
            .arg(&report)
            .args(["--", "sh", "-c", "echo one; sleep 0.5; echo two"])
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        println!(
            "| peak RSS of an idle run with a TCP and an HTTP drain | {:.1} MiB | |",
            read_report(&report).rss_kib / 1024.0
        );
    }

    fn pass_through(&self) {
        println!("\n## Pass-through to /dev/null, no drain\n");
        println!("| writes | line | bare ns/line | tee | lastword | × tee (higher is better) | lastword CPU ns/line |");
        println!("|---|---|---|---|---|---|---|");
        for pace in [Pace::Blocks, Pace::Lines] {
            for size in SIZES {
                let count = self.count(size, pace);
                let mut results = [const { Vec::new() }; 3];
                for _ in 0..self.runs {
                    results[0].push(self.timed(self.writer(size, count, pace)));
                    results[1].push(self.timed(self.through_tee(size, count, pace)));
                    results[2].push(self.lastword(&[], size, count, pace));
                }
                let [bare, tee, ours] = results.map(|costs| median(costs, count));
                println!(
                    "| {} | {size} B | {:.1} | {:.1} | {:.1} | {:.2} | {:.1} |",
                    pace.name(),
                    bare.wall_ns,
                    tee.wall_ns,
                    ours.wall_ns,
                    tee.wall_ns / ours.wall_ns,
                    ours.cpu_ns
                );
            }
        }
    }

    fn drains(&self) {
        println!("\n## One drain, pass-through to /dev/null\n");
        println!(
            "| drain | writes | line | wall ns/line | lastword CPU ns/line | M lines per CPU second | peak RSS MiB |"
        );
        println!("|---|---|---|---|---|---|---|");
        for kind in ["file", "syslog+tcp", "http"] {
            for pace in [Pace::Blocks, Pace::Lines] {
                for size in SIZES {
                    let count = self.count(size, pace);
                    let costs = (0..self.runs).map(|_| self.lastword(&[self.drain(kind)], size, count, pace)).collect();
                    let cost = median(costs, count);
                    println!(
                        "| {kind} | {} | {size} B | {:.0} | {:.0} | {:.2} | {:.1} |",
                        pace.name(),
                        cost.wall_ns,
                        cost.cpu_ns,
                        1e3 / cost.cpu_ns,
                        cost.rss_kib / 1024.0
                    );
                }
            }
        }
    }

    /// More than the memory holds, and nobody takes it: the app must not notice.
    fn flood(&self) {
        println!("\n## A flood while the only drain is down, `--when-full drop-oldest`\n");
        println!("| drain | memory | line | writes | write(2) µs, median | p99 | peak RSS MiB | over the memory |");
        println!("|---|---|---|---|---|---|---|---|");
        // Nobody listens on port 9 of loopback.
        for (drain, memory) in
            [(None, 2), (Some("syslog+tcp://127.0.0.1:9"), 2), (Some("syslog+tcp://127.0.0.1:9"), 32)]
        {
            for (size, pace) in [(200, Pace::PacedBlocks), (200, Pace::PacedLines), (20, Pace::PacedLines)] {
                let count = if pace == Pace::PacedBlocks { 2_000_000 } else { 20_000 };
                let report = self.dir.join("flood.json");
                let mut command = Command::new(&self.lastword);
                command.env("LASTWORD_LIFECYCLE_LINES", "off");
                command.args(["--quiet", "--flush-timeout", "100ms", "--memory", &format!("{memory}MiB"), "--report"]);
                command.arg(&report).args(drain.iter().flat_map(|url| ["--drain", url]));
                command.arg("--").arg(&self.me).args(writer::arguments(size, count, pace));
                let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
                let said = String::from_utf8(output.stderr).unwrap();
                let times = said.lines().find_map(|line| line.strip_prefix("writes ")).unwrap();
                let (middle, high) = times.split_once(' ').unwrap();
                let rss = read_report(&report).rss_kib / 1024.0;
                println!(
                    "| {} | {memory} MiB | {size} B | {} | {middle} | {high} | {rss:.1} | {:.1} |",
                    drain.map_or("none", |_| "down"),
                    pace.name(),
                    rss - f64::from(memory)
                );
            }
        }
    }

    /// The same drain without and with a spool, in turns.
    fn spool(&self) {
        println!("\n## A TCP drain without and with `--spool`, pass-through to /dev/null\n");
        println!(
            "| writes | line | ns/line without | with | speed with / without (higher is better) | CPU ns/line | with |"
        );
        println!("|---|---|---|---|---|---|---|");
        let dir = self.dir.join("spool");
        for pace in [Pace::Blocks, Pace::Lines] {
            for size in SIZES {
                let count = self.count(size, pace);
                let mut results = [const { Vec::new() }; 2];
                let mut ratios = Vec::new();
                for _ in 0..self.runs {
                    let without = self.lastword(&[self.drain("syslog+tcp")], size, count, pace);
                    let flags = ["--spool", dir.to_str().unwrap()];
                    let with = self.lastword_with(&flags, &[self.drain("syslog+tcp")], size, count, pace);
                    fs::remove_dir_all(&dir).unwrap();
                    ratios.push(without.wall_ns / with.wall_ns);
                    results[0].push(without);
                    results[1].push(with);
                }
                let [without, with] = results.map(|costs| median(costs, count));
                println!(
                    "| {} | {size} B | {:.1} | {:.1} | {:.2} | {:.1} | {:.1} |",
                    pace.name(),
                    without.wall_ns,
                    with.wall_ns,
                    percentile(&mut ratios, 0.5),
                    without.cpu_ns,
                    with.cpu_ns
                );
            }
        }
    }

    /// A gibibyte of sealed segments, left by a run whose drain was down: how long until it is known what is owed.
    fn spool_opens(&self) {
        let dir = self.dir.join("gibibyte");
        let mut command = Command::new(&self.lastword);
        command.args(["--quiet", "--spool", dir.to_str().unwrap(), "--spool-max", "4GiB", "--flush-timeout", "100ms"]);
        command.args(["--when-full", "block", "--drain", "syslog+tcp://127.0.0.1:9", "--"]);
        command.arg(&self.me).args(writer::arguments(200, (1 << 30) / 196, Pace::Blocks));
        assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
        let files = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap());
        let segments = files.filter(|file| file.path().extension().is_some_and(|end| end == "seg"));
        let lengths: Vec<u64> = segments.map(|file| file.metadata().unwrap().len()).collect();
        let bytes: u64 = lengths.iter().sum();
        assert!(bytes >= 1 << 30, "{bytes} bytes are no gibibyte");
        let mut times: Vec<_> = (0..self.runs)
            .map(|_| {
                let begin = Instant::now();
                let status =
                    Command::new(&self.lastword).args(["spool", "ls"]).arg(&dir).stdout(Stdio::null()).status();
                assert!(status.unwrap().success());
                begin.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        println!(
            "\n{} sealed segments, {} MiB: `lastword spool ls` takes {:.1} ms (median; at most {:.1})",
            lengths.len(),
            bytes >> 20,
            percentile(&mut times, 0.5),
            percentile(&mut times, 1.0)
        );
    }

    fn drain(&self, kind: &str) -> String {
        match kind {
            "file" => {
                let path = self.dir.join("drain.log");
                let _ = fs::remove_file(&path);
                format!("file:{}", path.display())
            }
            "http" => format!("http://127.0.0.1:{}/", serve(answer)),
            _ => format!("{kind}://127.0.0.1:{}", serve(discard)),
        }
    }

    /// As many lines as make a run of a second or so.
    fn count(&self, size: usize, pace: Pace) -> usize {
        let most = if pace == Pace::Blocks { 4_000_000 } else { 1_000_000 };
        (self.bytes / size).min(most)
    }

    fn writer(&self, size: usize, count: usize, pace: Pace) -> Command {
        let mut command = Command::new(&self.me);
        command.args(writer::arguments(size, count, pace));
        command
    }

    fn through_tee(&self, size: usize, count: usize, pace: Pace) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "\"$0\" \"$@\" | tee"]).arg(&self.me).args(writer::arguments(size, count, pace));
        command
    }

    fn timed(&self, mut command: Command) -> Cost {
        let begin = Instant::now();
        assert!(command.stdout(Stdio::null()).status().unwrap().success());
        Cost { wall_ns: begin.elapsed().as_nanos() as f64, ..Cost::default() }
    }

    fn lastword(&self, drains: &[String], size: usize, count: usize, pace: Pace) -> Cost {
        self.lastword_with(&[], drains, size, count, pace)
    }

    fn lastword_with(&self, flags: &[&str], drains: &[String], size: usize, count: usize, pace: Pace) -> Cost {
        let report = self.dir.join("report.json");
        let mut command = Command::new(&self.lastword);
        command.env("LASTWORD_LIFECYCLE_LINES", "off");
        command.args(["--quiet", "--when-full", "block", "--report"]).arg(&report).args(flags);
        command.args(drains.iter().flat_map(|url| ["--drain", url]));
        command.arg("--").arg(&self.me).args(writer::arguments(size, count, pace));
        let wall_ns = self.timed(command).wall_ns;
        let cost = Cost { wall_ns, ..read_report(&report) };
        assert_all_arrived(&report, drains.len(), count);
        cost
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn read_report(path: &Path) -> Cost {
    let report: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let number = |name: &str| report[name].as_f64().unwrap_or_else(|| panic!("{name} in {report}"));
    Cost { wall_ns: 0.0, cpu_ns: number("cpu_ms") * 1e6, rss_kib: number("max_rss_kib") }
}

/// A figure of a run that lost lines would be worth nothing.
fn assert_all_arrived(path: &Path, drains: usize, count: usize) {
    let report: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    for at in 0..drains {
        let drain = &report["drains"][at];
        let arrived: u64 = ["confirmed", "accepted", "sent"].iter().map(|name| drain[name].as_u64().unwrap()).sum();
        assert_eq!(arrived, count as u64, "{drain}");
    }
}

/// The value that `share` of all lie below.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// Median of each figure, per line but for memory.
fn median(costs: Vec<Cost>, count: usize) -> Cost {
    let middle = |pick: fn(&Cost) -> f64| percentile(&mut costs.iter().map(pick).collect::<Vec<_>>(), 0.5);
    let per_line = |value: f64| value / count as f64;
    Cost {
        wall_ns: per_line(middle(|cost| cost.wall_ns)),
        cpu_ns: per_line(middle(|cost| cost.cpu_ns)),
        rss_kib: middle(|cost| cost.rss_kib),
    }
}
