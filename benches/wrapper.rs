//! The whole process against the bare app and coreutils `tee`.
//!
//! ```text
//! cargo bench --bench wrapper [-- --runs 11] [--lines MILLIONS] [--only pass|drains|start]
//! ```
//!
//! Wall time and CPU are of one run each, interleaved over all contenders, medians printed. Lastword's own CPU is what its
//! report says (getrusage of itself, the app not included). The writer is this very binary.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "a bench stops at the first surprise and prints its table"
)]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

const SIZES: [usize; 3] = [20, 200, 2000];

fn main() {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.first().map(String::as_str) == Some("writer") {
        return writer(args[1].parse().unwrap(), args[2].parse().unwrap(), args[3] == "buffered");
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
}

/// Writes `count` lines of `size` bytes (newline included) to stdout.
fn writer(size: usize, count: usize, buffered: bool) {
    let mut line = vec![b'x'; size - 1];
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    let per_write = if buffered { (64 << 10) / size } else { 1 };
    let block = line.repeat(per_write);
    let mut left = count;
    while left > 0 {
        let lines = left.min(per_write);
        // One write(2) each: std's line writer passes a block that ends in a newline through whole.
        out.write_all(&block[..lines * size]).unwrap();
        left -= lines;
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
            times.sort_by(f64::total_cmp);
            println!("| `{name}` | {:.2} | {:.2} |", times[times.len() / 2], times[0]);
        }
        let (tcp, http) = (serve(discard), serve(answer));
        let report = self.dir.join("idle.json");
        let drains = [format!("syslog+tcp://127.0.0.1:{tcp}"), format!("http://127.0.0.1:{http}/")];
        let status = Command::new(&self.lastword)
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
        for buffered in [true, false] {
            for size in SIZES {
                let count = self.count(size, buffered);
                let mut results = [const { Vec::new() }; 3];
                for _ in 0..self.runs {
                    results[0].push(self.timed(self.writer(size, count, buffered)));
                    results[1].push(self.timed(self.through_tee(size, count, buffered)));
                    results[2].push(self.lastword(&[], size, count, buffered));
                }
                let [bare, tee, ours] = results.map(|costs| median(costs, count));
                println!(
                    "| {} | {size} B | {:.1} | {:.1} | {:.1} | {:.2} | {:.1} |",
                    name_of(buffered),
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
            for buffered in [true, false] {
                for size in SIZES {
                    let count = self.count(size, buffered);
                    let costs =
                        (0..self.runs).map(|_| self.lastword(&[self.drain(kind)], size, count, buffered)).collect();
                    let cost = median(costs, count);
                    println!(
                        "| {kind} | {} | {size} B | {:.0} | {:.0} | {:.2} | {:.1} |",
                        name_of(buffered),
                        cost.wall_ns,
                        cost.cpu_ns,
                        1e3 / cost.cpu_ns,
                        cost.rss_kib / 1024.0
                    );
                }
            }
        }
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
    fn count(&self, size: usize, buffered: bool) -> usize {
        let most = if buffered { 4_000_000 } else { 1_000_000 };
        (self.bytes / size).min(most)
    }

    fn writer(&self, size: usize, count: usize, buffered: bool) -> Command {
        let mut command = Command::new(&self.me);
        command.args(writer_args(size, count, buffered));
        command
    }

    fn through_tee(&self, size: usize, count: usize, buffered: bool) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "\"$0\" \"$@\" | tee"]).arg(&self.me).args(writer_args(size, count, buffered));
        command
    }

    fn timed(&self, mut command: Command) -> Cost {
        let begin = Instant::now();
        assert!(command.stdout(Stdio::null()).status().unwrap().success());
        Cost { wall_ns: begin.elapsed().as_nanos() as f64, ..Cost::default() }
    }

    fn lastword(&self, drains: &[String], size: usize, count: usize, buffered: bool) -> Cost {
        let report = self.dir.join("report.json");
        let mut command = Command::new(&self.lastword);
        command.args(["--quiet", "--when-full", "block", "--report"]).arg(&report);
        command.args(drains.iter().flat_map(|url| ["--drain", url]));
        command.arg("--").arg(&self.me).args(writer_args(size, count, buffered));
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

fn writer_args(size: usize, count: usize, buffered: bool) -> [String; 4] {
    ["writer".into(), size.to_string(), count.to_string(), if buffered { "buffered" } else { "single" }.into()]
}

fn name_of(buffered: bool) -> &'static str {
    if buffered { "64 KiB blocks" } else { "one a line" }
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

/// Median of each figure, per line but for memory.
fn median(costs: Vec<Cost>, count: usize) -> Cost {
    let middle = |pick: fn(&Cost) -> f64| {
        let mut values: Vec<_> = costs.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let per_line = |value: f64| value / count as f64;
    Cost {
        wall_ns: per_line(middle(|cost| cost.wall_ns)),
        cpu_ns: per_line(middle(|cost| cost.cpu_ns)),
        rss_kib: middle(|cost| cost.rss_kib),
    }
}

/// A receiver on a port of its own; its thread ends with the bench.
fn serve(handle: fn(TcpStream)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || handle(stream.unwrap()));
        }
    });
    port
}

/// Reads to the end.
fn discard(mut stream: TcpStream) {
    let mut buffer = vec![0; 1 << 20];
    while let Ok(1..) = stream.read(&mut buffer) {}
}

/// Answers 204 to each request with a Content-Length.
fn answer(stream: TcpStream) {
    let mut input = BufReader::with_capacity(1 << 20, stream.try_clone().unwrap());
    let mut output = stream;
    let mut length = 0;
    let mut header = String::new();
    while input.read_line(&mut header).is_ok_and(|count| count > 0) {
        let line = header.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        header.clear();
        if line.is_empty() {
            std::io::copy(&mut (&mut input).take(length), &mut std::io::sink()).unwrap();
            output.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        }
    }
}
