//! A real nginx as the front of an HTTP receiver: what it refuses, drops, redirects and demands, accounted to the line.

use crate::support::{
    certificates,
    drain::Drain,
    http::{HttpSink, read_ndjson},
    judge::{Seen, Terms, judge},
    lines::Shape,
    ms,
    nginx::Nginx,
    until,
};
use std::{fs, time::Duration};

const LIMIT: Duration = Duration::from_secs(30);
const HTTP1: &str = "HTTP/1.1";
const HTTP2: &str = "HTTP/2.0";

/// `https://` over HTTP/2 and `http://`, with the drain's options behind.
fn urls(nginx: &Nginx, path: &str) -> [(String, &'static str); 2] {
    let ca = certificates::file("ca.pem");
    [
        (format!("http://{}{path}#name=nginx", nginx.plain), HTTP1),
        (format!("https://{}{path}#name=nginx,ca={}", nginx.tls, ca.display()), HTTP2),
    ]
}

/// Writes lines in requests of their own, as far as `waiting` for each to be there makes that sure.
fn write(drain: &mut Drain, sink: &HttpSink, requests: u64, lines: u64) {
    let before = sink.lines();
    for request in 1..=requests {
        drain.write(lines, Shape::Unicode);
        until("a request to be taken", LIMIT, || sink.lines() >= before + (request * lines) as usize);
    }
}

#[test]
fn a_front_that_is_busy_drops_connections_and_loses_its_backend_costs_no_line() {
    let sink = HttpSink::healthy();
    // The fates of the requests of one connection. 444 ends it without an answer, which begins anew.
    let http = format!(
        "map $connection_requests $backend {{ default {}; 3 127.0.0.1:1; }}
         map $connection_requests $fate {{ default 0; 2 429; 5 444; 6 444; }}",
        sink.address()
    );
    let server = "error_page 429 @busy;
         location @busy { add_header Retry-After 1 always; return 429; }
         if ($fate = 429) { return 429; }
         if ($fate = 444) { return 444; }
         location / { proxy_pass http://$backend; }";
    let nginx = Nginx::start(&http, server);
    for (url, protocol) in urls(&nginx, "/logs") {
        let sink_before = sink.requests().len();
        let mut drain = Drain::start(&url);
        write(&mut drain, &sink, 3, 20);
        let (books, record, report) = drain.finish(LIMIT);
        for (status, least) in [(200, 3), (429, 1), (502, 1), (444, 1)] {
            assert!(nginx.count(status, protocol) >= least, "{status} over {protocol}: {report:?}");
        }
        let mut seen = Seen::default();
        for request in &sink.requests()[sink_before..] {
            read_ndjson(&request.body, &mut seen);
        }
        // Neither refusal nor cut came behind the backend's answer: nothing arrives twice.
        let terms = Terms { confirmed: true, ..Terms::default() };
        judge(&record, Some(&books), &seen, terms).unwrap_or_else(|found| panic!("{url}: {found:?}\n{report:?}"));
        assert_eq!(books.lost(), 0);
    }
}

#[test]
fn a_front_with_a_small_limit_is_obeyed_by_halves_and_a_line_above_it_is_counted_23() {
    for tls in [false, true] {
        let sink = HttpSink::healthy();
        let server = format!("client_max_body_size 2k; location / {{ proxy_pass http://{}; }}", sink.address());
        let nginx = Nginx::start("", &server);
        let (url, protocol) = urls(&nginx, "/logs")[usize::from(tls)].clone();
        let mut drain = Drain::start(&url);
        drain.write(100, Shape::Fixed(100));
        drain.write(1, Shape::Fixed(3000));
        drain.write(100, Shape::Fixed(100));
        let (books, record, report) = drain.finish(LIMIT);
        assert!(nginx.count(413, protocol) >= 2, "{report:?}");
        let seen = sink.collect();
        let terms = Terms { lossy: true, ..Terms::default() };
        let facts = judge(&record, Some(&books), &seen, terms).unwrap_or_else(|found| panic!("{found:?}\n{report:?}"));
        assert_eq!((facts.missing, books.lost.get("oversize")), (1, Some(&1)), "{books:?}");
        assert_eq!(seen.announced, 1, "{:?}", seen.gaps);
    }
}

#[test]
fn a_redirect_on_the_same_origin_is_followed_and_one_to_another_is_not_34() {
    let (sink, other) = (HttpSink::healthy(), HttpSink::healthy());
    let server = format!(
        "location /old {{ return 307 $scheme://$http_host/logs; }}
         location /away {{ return 307 http://{}/logs; }}
         location /moved {{ return 301 $scheme://$http_host/logs; }}
         location / {{ proxy_pass http://{}; }}",
        other.address(),
        sink.address()
    );
    let nginx = Nginx::start("", &server);
    for (url, protocol) in urls(&nginx, "/old") {
        let before = sink.lines();
        let mut drain = Drain::start(&url);
        drain.write(50, Shape::Hostile);
        let (books, ..) = drain.finish(LIMIT);
        assert_eq!((books.confirmed, sink.lines() - before), (50, 50), "{books:?}");
        assert!(nginx.count(307, protocol) >= 1);
    }
    let taken = sink.lines();
    for (path, status, to) in
        [("/away", 307, "http://"), ("/moved", 301, "another path there, which the URL is to name")]
    {
        for (url, _) in urls(&nginx, path) {
            let mut drain = Drain::start(&format!("{url},header=Authorization:s3cret"));
            drain.write(5, Shape::Plain);
            let reason = drain.held();
            assert!(reason.contains(&format!(": it points to {to}")), "{reason}");
            assert!(!reason.contains("s3cret"), "{reason}");
            let (books, _, report) = drain.finish(ms(200));
            assert_eq!(books.lost.get("deadline"), Some(&5), "{report:?}");
        }
        assert!(nginx.count(status, HTTP1) >= 1 && nginx.count(status, HTTP2) >= 1);
    }
    assert_eq!((other.requests().len(), sink.lines()), (0, taken), "no token goes to another host");
}

#[test]
fn gzip_passes_through_the_front_and_comes_out_as_it_went_in() {
    let sink = HttpSink::healthy();
    let nginx = Nginx::start("", &format!("location / {{ proxy_pass http://{}; }}", sink.address()));
    for (url, _) in urls(&nginx, "/logs") {
        let before = sink.requests().len();
        let mut drain = Drain::start(&format!("{url},compress=gzip"));
        drain.write(500, Shape::Hostile);
        let (books, record, _) = drain.finish(LIMIT);
        let requests = sink.requests().split_off(before);
        assert!(requests.iter().any(|request| request.header("content-encoding") == Some("gzip")));
        let mut seen = Seen::default();
        requests.iter().for_each(|request| read_ndjson(&request.body, &mut seen));
        let terms = Terms { confirmed: true, ..Terms::default() };
        judge(&record, Some(&books), &seen, terms).expect("all of it, once");
    }
}

#[test]
fn a_front_that_demands_a_certificate_holds_the_drain_until_the_right_one_is_there() {
    let sink = HttpSink::healthy();
    let server = format!(
        "ssl_verify_client on; ssl_client_certificate {}; location / {{ proxy_pass http://{}; }}",
        certificates::file("ca.pem").display(),
        sink.address()
    );
    let nginx = Nginx::start("", &server);
    let (url, _) = urls(&nginx, "/logs")[1].clone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (cert, key) = (dir.path().join("client.pem"), dir.path().join("client.key"));
    let put = |name: &str| {
        fs::copy(certificates::file(&format!("{name}.pem")), &cert).expect("it is there");
        fs::copy(certificates::file(&format!("{name}.key")), &key).expect("it is there");
    };
    put("client");
    let url = format!("{url},cert={},key={}", cert.display(), key.display());
    let mut drain = Drain::start(&url);
    write(&mut drain, &sink, 1, 20);
    // From now on another: nothing may be taken for refused lines, though nginx says 400.
    drop(drain.finish(LIMIT));
    put("other");
    let mut drain = Drain::start(&url);
    drain.write(20, Shape::Unicode);
    drain.held();
    put("client");
    let taken = sink.lines();
    let (books, _, report) = drain.finish(LIMIT);
    assert_eq!((books.confirmed, books.lost(), sink.lines() - taken), (20, 0, 20), "{report:?}");
    // None at all.
    let mut drain = Drain::start(&urls(&nginx, "/logs")[1].0);
    drain.write(20, Shape::Unicode);
    drain.held();
    let (books, ..) = drain.finish(ms(200));
    assert_eq!(books.lost.get("deadline"), Some(&20), "{books:?}");
    assert!(nginx.count(400, HTTP2) >= 2);
}
