//! HTTP under faults: a hundred seeded runs of a whole drain over real sockets, against a receiver whose connections and
//! requests fail by a script. Every run is judged to the line, and one that met no fault fails.

use crate::support::{
    certificates,
    drain::Drain,
    fate::Fate,
    http::read_ndjson,
    hundred::{all_met, hundred},
    judge::{Seen, Terms, judge},
    lines::Shape,
    pause,
    web::{Act, Dialect, Http, Web},
};
use rand::{RngExt, rngs::StdRng};
use std::{collections::BTreeMap, time::Duration};

const LINES: u64 = 200;

fn fate(rng: &mut StdRng, dialect: Dialect) -> Fate<Http> {
    // Within the TLS handshake, a request's head, or its body.
    match rng.random_range(0..9) {
        0 => Fate::Healthy,
        1 => Fate::Own(Http::HalfOpen(rng.random_range(1..6000))),
        2 if dialect != Dialect::Plain => Fate::WrongCertificate,
        _ => Fate::random(rng, 6000),
    }
}

fn act(rng: &mut StdRng) -> Act {
    match rng.random_range(0..4) {
        0 => Act::LoseAnswer,
        // A wait of a second is enough now and then.
        1 => Act::Refuse(429, rng.random_bool(0.05).then_some(1)),
        2 => Act::TooLarge,
        _ => Act::Refuse(500, None),
    }
}

/// One run: lines in small batches while connections die and requests fail, then the end.
fn one(rng: &mut StdRng, context: &str) -> BTreeMap<&'static str, u32> {
    let dialect = [Dialect::Plain, Dialect::Tls, Dialect::Http2][rng.random_range(0..3)];
    let fates: Vec<_> = (0..rng.random_range(2..5)).map(|_| fate(rng, dialect)).collect();
    let acts: Vec<_> = (0..rng.random_range(1..5)).map(|_| act(rng)).collect();
    let web = Web::start(dialect, fates.clone(), acts.clone());
    let (scheme, ca) = match dialect {
        Dialect::Plain => ("http", String::new()),
        _ => ("https", format!(",ca={}", certificates::file("ca.pem").display())),
    };
    let mut drain = Drain::start(&format!("{scheme}://{}/logs#name=web,timeout=500ms{ca}", web.address()));
    while drain.next <= LINES {
        drain.write(rng.random_range(1..20), Shape::Hostile);
        pause(Duration::from_micros(rng.random_range(0..30_000)));
    }
    let (books, record, report) = drain.finish(Duration::from_secs(30));
    let (bodies, mut met) = web.collect();
    let mut seen = Seen::default();
    bodies.iter().for_each(|body| read_ndjson(body, &mut seen));
    let terms = Terms { duplicates: u64::MAX, confirmed: true, ..Terms::default() };
    match judge(&record, Some(&books), &seen, terms) {
        Ok(facts) => met.insert("duplicates", u32::try_from(facts.duplicates).expect("few")),
        Err(found) => panic!("{context}, {dialect:?}, {fates:?}, {acts:?}: {found:?}\n{report:?}"),
    };
    let faults = met.iter().filter(|(kind, _)| !NO_FAULTS.contains(kind)).map(|(_, count)| count).sum::<u32>();
    assert!(faults > 0, "{context}: void, {dialect:?}, {fates:?}, {acts:?}, {met:?}");
    met
}

const NO_FAULTS: [&str; 5] = ["taken", "duplicates", "http/1.1", "http/1.1 over tls", "http/2"];

#[test]
fn a_hundred_seeded_runs_over_http_lose_nothing() {
    let met = hundred("http", one);
    all_met(&met, &NO_FAULTS);
    all_met(&met, &["refuse", "black hole", "reset", "close", "half-open", "slow", "wrong certificate"]);
    all_met(&met, &["answer lost", "429", "500", "413"]);
}
