//! Memory while a drain takes nothing: `--memory` and 12 MB, whatever the app writes. Runs with the container tests (hence
//! the module's name, which scripts/test picks them by), on a machine that does nothing else.
//!
//! `LASTWORD_LONG=1` floods for twenty seconds and uses the binary that is shipped. Otherwise the build is quicker and its
//! code larger: what counts then is all memory but code, beside the code of the shipped one.

use crate::support::{
    closed::Closed,
    http::{Act, HttpSink},
    judge::{Facts, Seen, Terms},
    note, tools, until,
    wrapper::{Running, Setup},
};
use std::{process::Stdio, time::Duration};

const LOSSY: Terms =
    Terms { duplicates: 0, lossy: true, overcounted: false, unsure: false, confirmed: false, broken: false };
/// Code and constants of the shipped binary that are in memory, in bytes, with something to spare: it has 5.3 MB.
const CODE: usize = 6_000_000;

fn long() -> bool {
    std::env::var_os("LASTWORD_LONG").is_some()
}

struct Flood<'a> {
    name: &'a str,
    drain: &'a str,
    mebibytes: usize,
    /// Lines a second, and what they are like.
    rate: u64,
    options: &'a str,
    seconds: u64,
}

impl Flood<'_> {
    /// Floods, measures, and judges: every line is counted.
    #[track_caller]
    fn hold(&self, drain_saw: impl FnOnce() -> Seen) -> Facts {
        let quick = tools::static_lastword();
        let lastword = if long() { tools::shipped_lastword() } else { quick.to_owned() };
        let seconds = if long() { 20 } else { self.seconds };
        let lines = self.rate * seconds;
        let setup = Setup::new().program(&lastword).drain(self.drain).stdout(Stdio::null());
        let setup = setup.flags(["--memory", &format!("{}MiB", self.mebibytes)]).stop_timeout(2);
        let mut app = setup.oracle(&format!("--rate {} --on-term goodbye:0 {}", self.rate, self.options));
        app[0] = quick.with_file_name("examples/oracle_app").display().to_string();
        let mut run = setup.start(&app);
        let full = |run: &Running| String::from_utf8_lossy(&run.stderr()).contains("its memory is full");
        until("the memory to be full", Duration::from_secs(60), || full(&run));
        until("the app to write", Duration::from_secs(3 * seconds), || run.record().done() >= lines);
        let (peak, code) = (1024 * run.peak_memory(), 1024 * run.memory("RssFile:"));
        run.stop();
        let done = run.finish(Duration::from_secs(4));
        let facts = done.acquit("down", &drain_saw(), LOSSY);
        let used = if long() { peak } else { peak - code + CODE };
        let beside = used as f64 / 1e6 - (self.mebibytes << 20) as f64 / 1e6;
        note(&format!("{}: {beside:.1} MB beside the {} MiB of --memory", self.name, self.mebibytes));
        assert!(beside <= 12.0, "{}: {beside:.1} MB beside the {} MiB of --memory", self.name, self.mebibytes);
        let overflow = done.report.as_ref().expect("a report").of("down").lost.get("overflow").copied().unwrap_or(0);
        assert!(overflow > 0 && facts.missing >= overflow, "the memory was not filled: {:?}", done.report);
        facts
    }
}

/// 100 MB a second, in lines of 200 bytes.
const FAST: (u64, &str) = (500_000, "--batch 500 --shape f199");

#[test]
fn a_drain_that_is_down_takes_the_configured_memory_and_12_mb_at_100_mb_a_second_14() {
    let down = Closed::port();
    let drain = format!("syslog+tcp://{down}#name=down");
    let (rate, options) = FAST;
    Flood { name: "down", drain: &drain, mebibytes: 32, rate, options, seconds: 5 }.hold(Seen::default);
}

#[test]
fn a_drain_that_never_answers_takes_no_more_than_one_that_is_down_14() {
    let silent = HttpSink::start(|_, _| Act::Silence);
    let (rate, options) = FAST;
    let drain = silent.url("down");
    Flood { name: "silent", drain: &drain, mebibytes: 8, rate, options, seconds: 2 }.hold(|| silent.collect());
}

#[test]
fn one_line_a_write_and_a_read_takes_no_more_14() {
    let down = Closed::port();
    let drain = format!("syslog+tcp://{down}#name=down");
    let flood =
        Flood { name: "short lines", drain: &drain, mebibytes: 2, rate: 3000, options: "--shape p", seconds: 5 };
    let facts = flood.hold(Seen::default);
    assert!(facts.lines == 0 && facts.missing >= 7_000, "{facts:?}");
}
