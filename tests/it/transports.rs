//! Transports under faults: seeded runs of whole drains over real sockets, against receivers that die by a script. Every
//! run is judged to the line, and a fault that no run met fails the test.

use crate::support::{
    certificates,
    drain::Drain,
    fate::Fate,
    hundred::{all_met, hundred},
    judge::{Terms, judge},
    lines::Shape,
    mortal::{Mortal, Relp, Speech},
    note, pause,
    record::identify,
    seed, syslog, until,
    wrapper::raw,
};
use flate2::read::GzDecoder;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{collections::BTreeMap, io::Read, path::PathBuf, time::Duration};

const SECOND: Duration = Duration::from_secs(1);
const LINES: u64 = 200;

fn fate(rng: &mut StdRng, speech: Speech) -> Fate<Relp> {
    match rng.random_range(0..8) {
        0 if speech.relp => Fate::Own(Relp::AnswersLost(rng.random_range(1..100))),
        1 if speech.relp => Fate::Own(Relp::ServerClose(rng.random_range(1..100))),
        2 if speech.tls => Fate::WrongCertificate,
        _ => Fate::random(rng, 8000),
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

#[test]
fn a_hundred_seeded_runs_into_rotated_files_keep_every_line() {
    let met = hundred("file", |rng, context| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("app.log");
        let compress = if rng.random_bool(0.5) { "on" } else { "off" };
        let url = format!("file:{}#name=file,rotate=64KiB,keep=1000,compress={compress}", path.display());
        let (mut before, mut position) = (Drain::start(&url), 0);
        let mut terms = Terms { confirmed: true, ..Terms::default() };
        // Somebody else moves the file, too, as logrotate does: not in order with the names of ours.
        let moved = rng.random_bool(0.3);
        while before.next <= 2000 {
            before.write(rng.random_range(1..200), Shape::Unicode);
            position += 1;
            if moved && position == 5 {
                let _ = std::fs::rename(&path, dir.path().join("app.log.0000-moved"));
            }
            pause(Duration::from_micros(rng.random_range(0..2000)));
        }
        let (books, record, report) = before.finish(30 * SECOND);
        let list = || -> Vec<PathBuf> {
            let entries = std::fs::read_dir(dir.path()).expect("it is there");
            entries.map(|entry| entry.expect("readable").path()).collect()
        };
        let is_gz = |name: &PathBuf| name.extension().is_some_and(|end| end == "gz");
        // The thread that compresses outlives the drain in this process.
        let is_waiting =
            |name: &PathBuf| compress == "on" && !is_gz(name) && *name != path && !name.ends_with("app.log.0000-moved");
        until("all to be compressed", 20 * SECOND, || !list().iter().any(is_waiting));
        let mut names = list();
        let compressed = names.iter().filter(|name| is_gz(name)).count();
        names.sort_by_key(|name| (*name == path, name.clone()));
        let mut all = Vec::new();
        for name in &names {
            let bytes = std::fs::read(name).expect("it is there");
            match is_gz(name) {
                true => drop(GzDecoder::new(&bytes[..]).read_to_end(&mut all).expect("a whole file")),
                false => all.extend(bytes),
            }
        }
        // Where the moved file belongs is nobody's to say, so order is not judged there.
        if moved {
            let mut lines: Vec<_> = all.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
            lines.sort_by_key(|line| identify(line).map(|claim| claim.number));
            all = lines.join(&b'\n');
            all.push(b'\n');
        }
        terms.duplicates = 0;
        if let Err(found) = judge(&record, Some(&books), &raw(&all, 'o'), terms) {
            panic!("{context}: {found:?}\n{report:?}");
        }
        let rotated = names.len() as u32 - 1;
        BTreeMap::from([("rotated", rotated), ("compressed", compressed as u32), ("moved", u32::from(moved))])
    });
    all_met(&met, &["rotated", "compressed", "moved"]);
}

/// Twenty deaths in the midst of a stream, most of them with unread bytes, and what it took.
fn twenty_deaths(speech: Speech, scheme: &str) {
    const MANY: u64 = 40_000;
    let seed = seed(scheme);
    let mut rng = StdRng::seed_from_u64(seed);
    let death = |number: u64, rng: &mut StdRng| {
        let bytes = rng.random_range(100_000..500_000);
        if number.is_multiple_of(2) { Fate::ResetAfter(bytes) } else { Fate::CloseAfter(bytes) }
    };
    let fates: Vec<_> = (0..20).map(|number| death(number, &mut rng)).collect();
    let mortal = Mortal::start(speech, fates);
    let ca = if speech.tls { format!(",ca={}", certificates::file("ca.pem").display()) } else { String::new() };
    let mut drain = Drain::start(&format!("{scheme}://{}#name=mortal{ca}", mortal.address()));
    while drain.next <= MANY {
        drain.wait_for_room(100 * 250);
        drain.write(100, Shape::Fixed(250));
    }
    let (books, record, report) = drain.finish(60 * SECOND);
    let (messages, met) = mortal.collect();
    assert_eq!((met["reset"], met["close"]), (10, 10), "{met:?}");
    let terms = Terms { duplicates: u64::MAX, ..Terms::default() };
    match judge(&record, Some(&books), &syslog::seen(&messages), terms) {
        Ok(facts) => note(&format!("{scheme}: twenty deaths, {} duplicates", facts.duplicates)),
        Err(found) => panic!("LASTWORD_SEED={seed}: {found:?}\n{report:?}"),
    }
}

#[test]
fn twenty_deaths_under_a_stream_over_tls_lose_nothing() {
    twenty_deaths(Speech { relp: false, tls: true }, "syslog+tls");
}

#[test]
fn twenty_deaths_under_a_stream_over_relp_with_tls_lose_nothing() {
    twenty_deaths(Speech { relp: true, tls: true }, "relp+tls");
}
