//! What can go wrong with an HTTP receiver, one fault at a time, with a whole drain. The number at a test's end is that of
//! the table in docs/DELIVERY.md.

use crate::support::{
    drain::Drain,
    fakes::{Fake, Kept},
    http::{Act, HttpSink},
    judge::{Facts, Seen, Terms, judge},
    lines::Shape,
    ms, until,
    wrapper::Setup,
};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(30);
const CLEAN: Terms =
    Terms { duplicates: 0, lossy: false, overcounted: false, unsure: false, confirmed: true, broken: false };

#[track_caller]
fn acquit(drain: Drain, sink: HttpSink, terms: Terms) -> Facts {
    let (books, record, report) = drain.finish(LIMIT);
    judge(&record, Some(&books), &sink.collect(), terms).unwrap_or_else(|found| panic!("{found:?}\n{report:?}"))
}

#[test]
fn an_answer_that_comes_late_within_the_limit_makes_no_duplicate_20() {
    // 29 s of 30 s at a fiftieth of the time: src/transport/http/patience.rs has the seconds.
    let sink = HttpSink::start(|_, _| Act::TakeSlowly(ms(580)));
    let mut drain = Drain::start(&format!("{},timeout=2s", sink.url("late")));
    drain.write(100, Shape::Unicode);
    until("the answer", LIMIT, || drain.status().pending == 0);
    assert_eq!(sink.requests().len(), 1);
    acquit(drain, sink, CLEAN);
}

#[test]
fn a_receiver_that_never_answers_is_visible_and_gets_the_same_request_again_21() {
    let sink = HttpSink::start(|number, _| if number < 2 { Act::Silence } else { Act::Take });
    let mut drain = Drain::start(&format!("{},timeout=300ms", sink.url("mute")));
    drain.write(100, Shape::Unicode);
    until("it to be seen", LIMIT, || {
        drain.status().trouble.is_some_and(|trouble| trouble.ends_with("no answer within 0.3 s"))
    });
    until("the answer", LIMIT, || drain.status().pending == 0);
    let requests = sink.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests[1..] {
        assert_eq!(request.header("idempotency-key"), requests[0].header("idempotency-key"));
        assert!(request.body == requests[0].body);
    }
    acquit(drain, sink, CLEAN);
}

#[test]
fn a_receiver_that_accepts_and_never_reads_holds_up_nobody_else_and_is_asked_again_22() {
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a free port");
    setsockopt(&deaf, sockopt::RcvBuf, &4096).expect("a fresh socket");
    let url = format!("http://{}/logs#name=deaf,timeout=400ms", deaf.local_addr().expect("bound"));
    let connections = Arc::new(Mutex::new(Vec::new()));
    thread::spawn({
        let connections = Arc::clone(&connections);
        move || deaf.incoming().for_each(|stream| connections.lock().expect("no panic").push(stream))
    });
    let well = HttpSink::healthy();
    let setup = Setup::new().drain(&url).drain(&well.url("well")).stop_timeout(3);
    let mut run = setup.start_oracle("--rate 20000 --batch 50 --shape f200 --on-term goodbye:100");
    run.wrote(20_000);
    until("the other to have it", LIMIT, || well.lines() >= 20_000);
    until("another try", LIMIT, || connections.lock().expect("no panic").len() > 1);
    run.stop();
    let done = run.finish(Duration::from_secs(3));
    done.all_said_goodbye();
    done.acquit("well", &well.collect(), CLEAN);
    let books = done.report.as_ref().expect("a report").of("deaf");
    assert_eq!((books.confirmed, books.lost.get("deadline")), (0, Some(&books.read)), "{books:?}");
}

#[test]
fn a_retry_after_pauses_the_whole_drain_24() {
    let sink =
        HttpSink::start(|number, _| if number == 0 { Act::Refuse(429, "Retry-After: 1\r\n") } else { Act::Take });
    let mut drain = Drain::start(&sink.url("busy"));
    drain.write(20, Shape::Unicode);
    until("the refusal", LIMIT, || sink.requests().len() == 1);
    // What comes meanwhile waits, too.
    until("the second request", LIMIT, || {
        drain.write(1, Shape::Unicode);
        sink.requests().len() > 1
    });
    let requests = sink.requests();
    assert!(requests[1].at - requests[0].at >= ms(1000), "{:?}", requests[1].at - requests[0].at);
    acquit(drain, sink, CLEAN);
}

#[test]
fn a_receiver_that_fails_every_other_time_loses_nothing_keeps_the_order_and_is_not_hurried_26() {
    let sink = HttpSink::start(|number, _| if number % 2 == 0 { Act::Refuse(500, "") } else { Act::Take });
    let mut drain = Drain::start(&sink.url("flapping"));
    for request in 1..=12 {
        drain.write(10, Shape::Hostile);
        until("it to be taken", LIMIT, || sink.lines() >= 10 * request);
    }
    let requests = sink.requests();
    let waits: Vec<_> = requests.chunks_exact(2).map(|pair| pair[1].at - pair[0].at).collect();
    let (least, most) = (waits.iter().min().expect("some"), waits.iter().max().expect("some"));
    assert!(waits.len() >= 12 && *most - *least > ms(5), "full jitter spreads the tries: {waits:?}");
    acquit(drain, sink, CLEAN);
}

/// What `_bulk` says of documents 3 and 7 (busy), 5 (refused) and 9 (there already) of the first request.
fn first_answer(documents: usize) -> Value {
    let status = |index: usize| match index {
        3 | 7 => 429,
        5 => 400,
        9 => 409,
        _ => 201,
    };
    let items: Vec<_> = (0..documents).map(|index| json!({"create": {"status": status(index)}})).collect();
    json!({"errors": true, "items": items})
}

#[test]
fn of_a_bulk_request_only_what_was_busy_is_sent_again_29() {
    let requests = Arc::new(Mutex::new(Vec::<Vec<u64>>::new()));
    let rule = {
        let requests = Arc::clone(&requests);
        Box::new(move |asked: &crate::support::fakes::Asked, _: &mut Vec<Kept>| {
            let lines: Vec<_> = asked.body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
            let of = |line: &&[u8]| serde_json::from_slice::<Value>(line).expect("JSON")["event.sequence"].as_u64();
            // A gap line has no sequence number.
            let documents: Vec<_> = lines.iter().skip(1).step_by(2).map(of).map(Option::unwrap_or_default).collect();
            let mut requests = requests.lock().expect("no panic");
            let answer = match requests.is_empty() {
                true => first_answer(documents.len()),
                false => {
                    let items: Vec<_> = documents.iter().map(|_| json!({"create": {"status": 201}})).collect();
                    json!({"errors": false, "items": items})
                }
            };
            requests.push(documents);
            (200, answer.to_string())
        })
    };
    let fake = Fake::start(rule);
    let mut drain = Drain::start(&format!("elastic+http://{}#name=bulk", fake.address()));
    drain.write(12, Shape::Plain);
    let (books, _, report) = drain.finish(LIMIT);
    let requests = requests.lock().expect("no panic").clone();
    assert_eq!(requests[0], (1..=12).collect::<Vec<_>>());
    let again: Vec<_> = requests[1..].iter().flatten().copied().filter(|&sequence| sequence > 0).collect();
    assert_eq!(again, [4, 8], "{report:?}");
    assert_eq!((books.confirmed, books.lost.get("rejected")), (11, Some(&1)), "{report:?}");
}

/// Heads and bodies.
type Got = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A proxy that answers itself, and what it got.
fn answering_proxy() -> (SocketAddr, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let got = Got::default();
    let here = Arc::clone(&got);
    let serve = move |stream: TcpStream, got: Got| {
        let mut answer = stream.try_clone().expect("a live socket");
        let mut reader = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        while let Ok(bytes) = reader.read_line(&mut head)
            && bytes > 0
        {
            if !head.ends_with("\r\n\r\n") {
                continue;
            }
            for line in head.to_ascii_lowercase().lines() {
                length = line.strip_prefix("content-length: ").map_or(length, |text| text.parse().expect("a number"));
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a whole body");
            got.lock().expect("no panic").push((std::mem::take(&mut head), body));
            answer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("it reads");
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let got = Arc::clone(&here);
            thread::spawn(move || serve(stream, got));
        }
    });
    (address, got)
}

#[test]
fn the_environments_proxy_is_used_not_shown_and_left_to_the_app_35() {
    let (proxy, got) = answering_proxy();
    let direct = HttpSink::healthy();
    let secret = format!("http://user:s3cret@{proxy}");
    let setup = Setup::loud()
        .drain("http://logs.example/logs#name=far")
        .drain(&direct.url("near"))
        .env("http_proxy", &secret)
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env("NO_PROXY", "127.0.0.1");
    let done = setup.start(&["sh", "-c", "echo proxies: $http_proxy $HTTPS_PROXY $NO_PROXY"]).finish(LIMIT);
    let said = format!("proxies: {secret} http://127.0.0.1:1 127.0.0.1\n");
    assert_eq!((done.code(), String::from_utf8_lossy(&done.stdout).into_owned()), (0, said.clone()), "{}", done.err());
    let mut seen = Seen::default();
    for (head, body) in got.lock().expect("no panic").iter() {
        assert!(head.starts_with("POST http://logs.example/logs HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("roxy-"), "{head}");
        crate::support::http::read_ndjson(body, &mut seen);
    }
    let near = direct.collect();
    assert_eq!(seen.units, near.units);
    assert_eq!(near.units[0].text, said.trim_end().as_bytes());
    let report = done.report.as_ref().expect("a report");
    for name in ["far", "near"] {
        assert_eq!(report.of(name).confirmed, report.of(name).read, "{report:?}");
    }
    assert!(!done.err().contains("s3cret"), "{}", done.err());
}

#[test]
fn a_proxy_that_is_no_url_is_an_error_before_the_start_that_does_not_repeat_it_35() {
    let setup = Setup::loud().drain("https://logs.example/").env("HTTPS_PROXY", "ftp://user:s3cret@h");
    let done = setup.start(&["true"]).finish(LIMIT);
    assert_eq!(done.code(), 125);
    assert!(done.err().contains("the variable HTTPS_PROXY is not the URL of a proxy; write"), "{}", done.err());
    assert!(!done.err().contains("s3cret"), "{}", done.err());
}
