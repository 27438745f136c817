//! Each format against a receiver that refuses what the real one refuses: 10,000 lines of the hostile kind, through the
//! real binary; the same bytes, or the documented escape of them, in order, none missing, none invented.

use crate::support::{
    certificates,
    fakes::{
        Fake, Kept, Rule,
        rules::{self, datadog, elastic, gelf, gelf_message, logplex, loki, objects, otlp, splunk},
    },
    http::read_ndjson,
    judge::Seen,
    mortal::server_config,
    syslog,
    wrapper::{Finished, Setup},
};
use rustls::{ServerConnection, StreamOwned};
use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::Duration,
};

/// Lines in a run.
pub const LINES: usize = 10_000;
const LIMIT: Duration = Duration::from_secs(90);

/// Line `index`. No newline in it; none longer than `--max-line`.
pub fn hostile(index: usize) -> Vec<u8> {
    let text = |text: &str| text.as_bytes().to_vec();
    match index % 20 {
        0 if index.is_multiple_of(2000) => vec![b'x'; 64 << 10],
        0 => text("nul \0 inside"),
        1 => b"\xff".to_vec(),
        2 => text("\u{1b}[31mred\u{1b}[0m"),
        3 => text("line\u{2028}separator \u{2029} \u{85}"),
        4 => Vec::new(),
        5 => text("   "),
        6 => format!("{index} monkeys").into_bytes(),
        7 => text(r#"{"json":[1,"\u0000"],"seq":7,"message":"x"}"#),
        8 => b"broken \xe2\x82 \xed\xa0\x80 \xf0\x9f".to_vec(),
        9 => text("\t tab and \r cr \r"),
        10 => text(r#"back\slash "quotes" ]} \n"#),
        11 => text("\u{feff}byte order mark"),
        12 => text("<13>1 - - - - - - not a header"),
        13 => (1..=255).filter(|&byte| byte != b'\n').collect(),
        14 => text("\0"),
        15 => text("[{}]"),
        16 => text("é ß 語 🙂 e\u{301}"),
        17 => b"\xc0\xaf overlong".to_vec(),
        18 => text("\u{0}\u{7f}\u{a0}"),
        _ => format!("ordinary line {index}").into_bytes(),
    }
}

fn hostile_text() -> Vec<u8> {
    (0..LINES).flat_map(|index| [hostile(index), b"\n".to_vec()].concat()).collect()
}

/// Runs `lastword -- cat FILE` with this drain.
pub fn run(url: &str) -> Finished {
    run_into(&[url.to_owned()])
}

/// The same with several.
pub fn run_into(urls: &[String]) -> Finished {
    let setup = Setup::new().flags(["--label", "env=prod,9x.y=z"]);
    let setup = urls.iter().fold(setup, |setup, url| setup.drain(url));
    let file = setup.path("hostile");
    fs::write(&file, hostile_text()).expect("a fresh file");
    let done = setup.start(&["cat", &file.display().to_string()]).finish(LIMIT);
    assert_eq!(done.code(), 0, "{}", done.err());
    done
}

/// All lines, in order, as they were written.
#[track_caller]
pub fn same_lines(name: &str, kept: &[Kept]) {
    assert_eq!(kept.len(), LINES, "{name}");
    for (index, (seq, text)) in kept.iter().enumerate() {
        assert!(seq.is_none_or(|seq| seq == index as u64 + 1), "{name}: line {index} is {seq:?}");
        assert!(*text == hostile(index), "{name}: line {index} is {:?}", String::from_utf8_lossy(text));
    }
}

/// All of the lines arrive in order and are confirmed.
#[track_caller]
fn all_arrive(rule: Rule, url: &str) {
    let fake = Fake::start(rule);
    let done = run(&url.replace("HOST", &fake.address().to_string()));
    let (kept, complaints) = fake.kept();
    same_lines(&format!("{url} {complaints:?}"), &kept);
    let books = &done.report.as_ref().expect("a report").drains[0];
    assert_eq!((books.read, books.confirmed), (LINES as u64, LINES as u64), "{url}: {books:?}, {}", done.err());
}

#[test]
fn loki_gets_every_line_though_it_once_took_and_stored_nothing() {
    all_arrive(loki(2, ""), "loki+http://HOST");
}

#[test]
fn otlp_gets_every_line_in_both_encodings() {
    all_arrive(otlp(&[]), "otlp+http://HOST");
    all_arrive(otlp(&[]), "otlp+http://HOST#encoding=json,compress=off");
}

#[test]
fn splunk_gets_every_line_blank_ones_included() {
    all_arrive(splunk(""), "splunk+http://HOST#token=t0k3n");
}

#[test]
fn datadog_gets_every_line_within_its_limits() {
    all_arrive(datadog(), "datadog+http://HOST#token=t0k3n");
}

#[test]
fn logplex_frames_read_by_line_are_every_line_and_a_lost_answer_makes_no_duplicate() {
    all_arrive(logplex(), "logplex+http://HOST/drain");
}

#[test]
fn gelf_over_http_gets_every_line_one_by_one_and_in_bulk() {
    all_arrive(gelf(false), "gelf+http://HOST");
    all_arrive(gelf(true), "gelf+http://HOST#bulk=on");
}

#[test]
fn webhooks_and_presets_get_every_line_4() {
    all_arrive(objects(None, "message", ""), "http://HOST/in");
    all_arrive(objects(Some(""), "message", ""), "json+http://HOST/in");
    all_arrive(objects(Some("/logs"), "message", ""), "http://HOST/in#body=wrapped,compress=gzip");
    all_arrive(objects(None, "message", ""), "betterstack+http://HOST#bearer=t");
    all_arrive(objects(None, "message", ""), "axiom+http://HOST/v1/datasets/d/ingest#bearer=t");
    all_arrive(objects(None, "_msg", ""), "victorialogs+http://HOST");
    all_arrive(objects(Some("/0/logs"), "message", "/attributes"), "newrelic+http://HOST#token=t");
}

#[test]
fn elastic_gets_every_line_once_though_some_documents_find_it_busy() {
    let fake = Fake::start(elastic(97, ""));
    let done = run(&format!("elastic+http://{}/logs-test", fake.address()));
    let (mut kept, _) = fake.kept();
    // What was busy comes later: documents are ordered by their own fields there.
    kept.sort_by_key(|(seq, _)| *seq);
    same_lines("elastic", &kept);
    assert_eq!(done.report.expect("a report").drains[0].confirmed, LINES as u64);
}

/// What some fakes refuse: lines 99, 999, 9919 and so on.
const POISONED: &str = "ordinary line 99";

/// All but the poisoned lines arrive, and the report counts just those as rejected.
#[track_caller]
fn all_but_poison_arrive(rule: Rule, url: &str) {
    let fake = Fake::start(rule);
    let done = run(&url.replace("HOST", &fake.address().to_string()));
    let mut kept = fake.kept().0;
    kept.retain(|(seq, _)| seq.is_some());
    kept.sort_by_key(|(seq, _)| *seq);
    let is_poison = |index: &usize| hostile(*index).starts_with(POISONED.as_bytes());
    let wanted: Vec<usize> = (0..LINES).filter(|index| !is_poison(index)).collect();
    let poisoned = LINES - wanted.len();
    assert!(poisoned > 0);
    assert_eq!(kept.len(), wanted.len(), "{url}");
    for (index, (seq, text)) in wanted.iter().zip(&kept) {
        assert_eq!((*seq, text), (Some(*index as u64 + 1), &hostile(*index)), "{url}");
    }
    let books = &done.report.as_ref().expect("a report").drains[0];
    assert_eq!(
        (books.confirmed, books.lost.get("rejected")),
        ((LINES - poisoned) as u64, Some(&(poisoned as u64))),
        "{url}"
    );
}

#[test]
fn a_poisoned_line_costs_itself_alone() {
    for (rule, url) in [
        (splunk(POISONED), "splunk+http://HOST#token=t0k3n"),
        (loki(0, POISONED), "loki+http://HOST"),
        (elastic(u64::MAX, POISONED), "elastic+http://HOST/logs-test"),
    ] {
        all_but_poison_arrive(rule, url);
    }
}

#[test]
fn otlp_records_that_a_partial_success_names_are_counted_and_not_sent_again_30() {
    // Behind the first refusal the next record is the gap line, which is a record too, and stands outside of the books.
    let fake = Fake::start(rules::otlp(&[3, 1, 1]));
    let done = run(&format!("otlp+http://{}", fake.address()));
    let (kept, _) = fake.kept();
    let is_guess = |text: &[u8]| text.starts_with(b"lastword: 1 of ") && text.ends_with(b" (rejected 1)");
    assert!(kept.iter().any(|(seq, text)| seq.is_none() && is_guess(text)), "nobody knows which, and it is said");
    let kept = kept.iter().filter(|(seq, _)| seq.is_some()).count() as u64;
    let books = &done.report.as_ref().expect("a report").drains[0];
    let lost = books.lost.get("rejected").copied().unwrap_or(0);
    assert_eq!(lost, 4, "{books:?}");
    assert_eq!((books.confirmed, books.confirmed + lost), (kept, LINES as u64));
}

/// All that one connection carries, read to its orderly end.
fn read_all(listener: &TcpListener, tls: bool) -> Vec<u8> {
    let (mut stream, mut bytes) = (listener.accept().expect("a connection").0, Vec::new());
    if tls {
        let session = ServerConnection::new(server_config("server")).expect("good settings");
        let mut stream = StreamOwned::new(session, stream);
        stream.read_to_end(&mut bytes).expect("a goodbye");
        stream.conn.send_close_notify();
        stream.flush().expect("somebody listens");
    } else {
        stream.read_to_end(&mut bytes).expect("a clean end");
    }
    bytes
}

/// What a body of NDJSON says.
fn ndjson(body: &[u8]) -> Vec<Kept> {
    let mut seen = Seen::default();
    read_ndjson(body, &mut seen);
    kept(seen)
}

/// Units as the fakes keep them.
pub fn kept(seen: Seen) -> Vec<Kept> {
    seen.units.into_iter().map(|unit| (unit.seq, unit.text)).collect()
}

/// Messages that end with a NUL each.
fn gelf_stream(bytes: &[u8]) -> Vec<Kept> {
    let messages = bytes.strip_suffix(b"\0").expect("the last message ends, too").split(|&byte| byte == 0);
    let mut kept = Vec::new();
    messages.for_each(|message| gelf_message(message, &mut kept));
    kept
}

#[test]
fn gelf_and_ndjson_over_tcp_and_tls_get_every_line_4() {
    for (format, tls) in [("gelf", false), ("gelf", true), ("ndjson", false), ("ndjson", true)] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let reader = thread::spawn(move || read_all(&listener, tls));
        let ca = certificates::file("ca.pem").display().to_string();
        let url = if tls { format!("{format}+tls://{address}#ca={ca}") } else { format!("{format}+tcp://{address}") };
        let done = run(&url);
        let bytes = reader.join().expect("no panic");
        same_lines(&url, &if format == "gelf" { gelf_stream(&bytes) } else { ndjson(&bytes) });
        assert_eq!(done.report.expect("a report").drains[0].confirmed, LINES as u64, "{url}");
    }
}

#[test]
fn files_get_every_line_4() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (raw, json, messages) = (path("raw"), path("json"), path("syslog"));
    let done = run_into(&[format!("file:{raw}"), format!("ndjson+file:{json}"), format!("syslog+file:{messages}")]);
    let read = |path: &str| fs::read(path).expect("it was written");
    assert!(read(&raw) == hostile_text(), "the same bytes");
    same_lines("ndjson+file", &ndjson(&read(&json)));
    let messages = read(&messages);
    let messages = messages.strip_suffix(b"\n").expect("the last line ends, too").split(|&byte| byte == b'\n');
    same_lines("syslog+file", &kept(syslog::seen(&messages.map(<[u8]>::to_vec).collect::<Vec<_>>())));
    assert!(done.report.expect("a report").drains.iter().all(|books| books.confirmed == LINES as u64));
}
