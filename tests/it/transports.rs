//! Transports under faults: seeded runs of whole drains over real sockets, against receivers that die by a script. Every
//! run is judged to the line, and a fault that no run met fails the test.

use crate::support::{
    certificates,
    judge::{Terms, judge},
    lines::{Shape, line},
    mortal::{Fate, Mortal, Speech},
    note, pause,
    record::{Extent, Record},
    report::Books,
    seed, syslog, until,
};
use lastword::{
    clock,
    config::{self, Invocation},
    drain::Drains,
    event::Bell,
    ledger::DrainReport,
    line::{Batch, Lines, Stream},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);
const LINES: u64 = 200;

/// A drain in this process.
pub struct Drain {
    drains: Drains,
    bell: Bell,
    next: u64,
}

impl Drain {
    pub fn start(url: &str) -> Self {
        let words = ["lastword", "--drain", url, "--memory", "2MiB", "--", "app"].map(OsString::from);
        let config = match config::load(words, []) {
            Ok(Invocation::Run(config)) => config,
            Ok(other) => panic!("{other:?}"),
            Err(exit) => panic!("{}", exit.message),
        };
        config.origin.instance.tell("1");
        let bell = Bell::new().expect("an eventfd");
        let drains = Drains::start(&config.drains, &config, &bell).expect("a thread");
        Self { drains, bell, next: 1 }
    }

    /// Publishes the next lines.
    pub fn write(&mut self, count: u64, shape: Shape) {
        let (mut data, mut ends) = (Vec::new(), Vec::new());
        for number in self.next..self.next + count {
            data.extend(line("app", 'o', shape, number));
            data.push(b'\n');
            ends.push(data.len() as u32);
        }
        let lines = Lines { data: data.into(), ends, parts: Vec::new() };
        self.drains.publish(&Arc::new(Batch::new(Stream::Stdout, self.next, clock::stamp(), lines)));
        self.next += count;
    }

    /// Flushes, and closes the books.
    pub fn finish(self, within: Duration) -> (Books, Record, DrainReport) {
        self.drains.close(clock::now() + within);
        until("the drain to end", within + 5 * SECOND, || !self.bell.take().is_empty());
        let report = self.drains.close_books().remove(0);
        let books = serde_json::to_value(&report).and_then(serde_json::from_value).expect("a report");
        let written = self.next - 1;
        let extent = Extent { done: written, begun: written };
        let record = Record { sources: [(("app".to_owned(), 'o'), extent)].into(), ..Record::default() };
        (books, record, report)
    }
}

/// Runs `one` for 100 seeds, a few at a time. Sums up what the runs met.
fn hundred(
    test: &str,
    one: impl Fn(&mut StdRng, &str) -> BTreeMap<&'static str, u32> + Sync,
) -> BTreeMap<&'static str, u32> {
    let first = seed(test);
    let runs = if std::env::var_os("LASTWORD_SEED").is_some() { 1 } else { 100 };
    let (next, met) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                loop {
                    let run = next.fetch_add(1, Ordering::SeqCst);
                    if run >= runs {
                        return;
                    }
                    let seed = first.wrapping_add(run);
                    let context = format!("LASTWORD_SEED={seed}");
                    for (kind, count) in one(&mut StdRng::seed_from_u64(seed), &context) {
                        *met.lock().expect("no panic").entry(kind).or_default() += count;
                    }
                }
            });
        }
    });
    let met = met.into_inner().expect("no panic");
    note(&format!("{test}: {met:?}"));
    met
}

fn fate(rng: &mut StdRng, speech: Speech) -> Fate {
    let bytes = rng.random_range(1..8000);
    match rng.random_range(0..8) {
        0 => Fate::Refuse,
        1 => Fate::BlackHole(rng.random_range(1..60)),
        2 => Fate::ResetAfter(bytes),
        3 => Fate::CloseAfter(bytes),
        4 => Fate::Slow(rng.random_range(1..80)),
        5 if speech.relp => Fate::AnswersLost(rng.random_range(1..100)),
        6 if speech.relp => Fate::ServerClose(rng.random_range(1..100)),
        7 if speech.tls => Fate::WrongCertificate,
        _ => Fate::ResetAfter(bytes / 10),
    }
}

/// One run: lines in small batches while connections die, then the end.
fn one(rng: &mut StdRng, context: &str, speech: Speech) -> BTreeMap<&'static str, u32> {
    let fates: Vec<_> = (0..rng.random_range(1..5)).map(|_| fate(rng, speech)).collect();
    let mortal = Mortal::start(speech, fates.clone());
    let scheme = match (speech.relp, speech.tls) {
        (false, false) => "syslog+tcp",
        (false, true) => "syslog+tls",
        (true, false) => "relp+tcp",
        (true, true) => "relp+tls",
    };
    let ca = if speech.tls { format!(",ca={}", certificates::file("ca.pem").display()) } else { String::new() };
    let mut drain = Drain::start(&format!("{scheme}://{}#name=mortal{ca}", mortal.address()));
    while drain.next <= LINES {
        drain.write(rng.random_range(1..20), Shape::Hostile);
        pause(Duration::from_micros(rng.random_range(0..4000)));
    }
    let (books, record, report) = drain.finish(30 * SECOND);
    let (messages, met) = mortal.collect();
    let terms = Terms { duplicates: u64::MAX, confirmed: speech.relp, ..Terms::default() };
    if let Err(found) = judge(&record, Some(&books), &syslog::seen(&messages), terms) {
        panic!("{context}, {speech:?}, {fates:?}: {found:?}\n{report:?}");
    }
    met
}

#[track_caller]
fn all_met(met: &BTreeMap<&'static str, u32>, kinds: &[&str]) {
    if std::env::var_os("LASTWORD_SEED").is_none() {
        for kind in kinds {
            assert!(met.get(kind).is_some_and(|&count| count >= 5), "too little of {kind}: {met:?}");
        }
    }
}

const ALWAYS: [&str; 6] = ["healthy", "refuse", "black hole", "reset", "close", "slow"];

#[test]
fn a_hundred_seeded_runs_over_tcp_lose_nothing() {
    let met = hundred("tcp", |rng, context| one(rng, context, Speech { relp: false, tls: false }));
    all_met(&met, &ALWAYS);
}

#[test]
fn a_hundred_seeded_runs_over_tls_lose_nothing() {
    let met = hundred("tls", |rng, context| one(rng, context, Speech { relp: false, tls: true }));
    all_met(&met, &ALWAYS);
    all_met(&met, &["wrong certificate"]);
}

#[test]
fn a_hundred_seeded_runs_over_relp_lose_nothing() {
    let met = hundred("relp", |rng, context| one(rng, context, Speech { relp: true, tls: false }));
    all_met(&met, &ALWAYS);
    all_met(&met, &["answers lost", "serverclose"]);
}

#[test]
fn a_hundred_seeded_runs_over_relp_with_tls_lose_nothing() {
    let met = hundred("relp+tls", |rng, context| one(rng, context, Speech { relp: true, tls: true }));
    all_met(&met, &ALWAYS);
    all_met(&met, &["answers lost", "serverclose", "wrong certificate"]);
}
