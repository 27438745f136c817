//! `--metrics`: asked over real HTTP while lastword runs.

use crate::support::{http::HttpSink, judge::Terms, until, wrapper::Setup};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(30);

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    stream
        .write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

#[test]
fn metrics_status_and_health_are_there_while_it_runs_and_tell_what_the_report_tells() {
    let (http, down, address) = (HttpSink::healthy(), free(), free());
    let setup = Setup::new()
        .drain(&http.url("well"))
        .drain(&format!("syslog+tcp://{down}#name=down"))
        .flags(["--metrics", &address.to_string()])
        .stop_timeout(3);
    let mut run = setup.start_oracle("--rate 500 --on-term goodbye:10");
    run.wrote(300);
    until("both drains to have a state", LIMIT, || {
        let text = ask(address, "GET /metrics");
        text.contains(r#"lastword_drain_state{drain="well",state="up"} 1"#)
            && text.contains(r#"lastword_drain_state{drain="down",state="retrying"} 1"#)
    });
    let health = ask(address, "GET /healthz");
    assert!(health.starts_with("HTTP/1.1 200 ") && health.ends_with("ok\n"), "{health}");
    let status = ask(address, "GET /status");
    let json = status.split_once("\r\n\r\n").expect("a body").1;
    let status: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let down_status = &status["drains"][1];
    assert_eq!((&down_status["name"], &down_status["state"]), (&"down".into(), &"retrying".into()));
    assert!(down_status["trouble"].as_str().is_some_and(|text| text.contains("refused")), "{status}");
    assert!(down_status["since_ms"].is_u64() && down_status["memory_bytes"].as_u64() > Some(0), "{status}");
    assert_eq!(down_status["pending"], down_status["read"]);
    let well = &status["drains"][0];
    let sum = |of: &serde_json::Value| of["confirmed"].as_u64().unwrap_or(0) + of["pending"].as_u64().unwrap_or(0);
    assert_eq!(well["read"].as_u64(), Some(sum(well)), "the identity holds at every moment: {well}");
    assert!(ask(address, "GET /nothing").starts_with("HTTP/1.1 404 "));
    assert!(ask(address, "POST /metrics").starts_with("HTTP/1.1 405 "));
    run.stop();
    let done = run.finish(Duration::from_secs(4));
    done.acquit("well", &http.collect(), Terms { confirmed: true, ..Terms::default() });
    TcpStream::connect(address).expect_err("it is gone with the process");
}

#[test]
fn an_address_in_use_is_named_before_anything_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let done = Setup::loud().flags(["--metrics", &address]).start(&["sh", "-c", "echo started"]).finish(LIMIT);
    assert_eq!((done.code(), &done.stdout[..]), (125, &b""[..]));
    assert!(done.err().contains(&format!("--metrics {address}: Address already in use")), "{}", done.err());
}

#[test]
fn clients_that_say_nothing_or_never_read_do_not_keep_a_health_check_from_its_answer() {
    let address = free();
    let mut run = Setup::new().flags(["--metrics", &address.to_string()]).start_oracle("--on-term goodbye:1");
    until("the metrics to be served", LIMIT, || TcpStream::connect(address).is_ok());
    let asked = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let silent: Vec<_> = (0..16).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let mut client = TcpStream::connect(address).expect("it listens");
            client.set_write_timeout(Some(Duration::from_millis(100))).expect("a socket");
            // Until it is stuck on answers that nobody reads, or has hung up.
            let stuck = (0..10_000).any(|_| client.write_all(&asked).is_err());
            assert!(stuck, "the client was never kept waiting");
            client
        })
        .collect();
    // The silent ones have all places for as long as a connection may last, and no longer.
    assert!(ask(address, "GET /healthz").ends_with("ok\n"));
    drop((silent, clients));
    run.stop();
    assert_eq!(run.finish(LIMIT).code(), 0);
}
