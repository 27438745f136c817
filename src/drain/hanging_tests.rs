//! Receivers that hang at the exit, before the drain's own limits tell what is wrong: the report says what was waited for.

use super::{Drains, testing};
use crate::{
    clock,
    config::{DrainSpec, HostPort, HttpTarget, RelpTarget, Target, TcpTarget, TlsTarget, WhenFull},
    event::Bell,
    format::Format,
    ledger::{DrainReport, Loss},
};
use std::{io::Read, net::TcpListener, time::Duration};

/// A drain of `target` with one line, when the receiver has taken what comes first and does not answer.
fn books(target: impl FnOnce(u16) -> Target, format: Format) -> (DrainReport, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let spec = DrainSpec { name: "one".into(), url: String::new(), format, target: target(port), stream: None };
    let bell = Bell::new().unwrap();
    let drains = Drains::start(&[spec], &testing::config(2 << 20, WhenFull::DropOldest), &bell).unwrap();
    drains.publish(&testing::batch(1, 1));
    let (mut stream, _) = listener.accept().unwrap();
    assert!(stream.read(&mut [0]).unwrap() > 0, "it was connected to, and told nothing");
    drains.close(clock::now() + Duration::from_secs(60));
    let report = drains.close_books().remove(0);
    assert_eq!(report.counts.lost.of(Loss::Deadline), 1, "{report:?}");
    (report, port)
}

fn peer(port: u16) -> HostPort {
    HostPort { host: "127.0.0.1".into(), port }
}

#[track_caller]
fn says(report: &DrainReport, words: &str) {
    let trouble = report.trouble.as_deref().unwrap_or("nothing");
    assert!(trouble.starts_with(words) && trouble.ends_with(" s"), "{trouble}");
}

#[test]
fn a_tls_handshake_that_hangs_at_the_exit_is_named_with_its_time() {
    let target = |port| Target::Tcp(TcpTarget { tls: Some(TlsTarget::default()), ..TcpTarget::new(peer(port)) });
    let (report, port) = books(target, Format::Raw);
    says(&report, &format!("TLS handshake with 127.0.0.1:{port} not finished after "));
}

#[test]
fn a_relp_session_that_does_not_open_before_the_exit_is_named_with_its_time() {
    let (report, port) = books(|port| Target::Relp(RelpTarget::new(peer(port))), Format::Raw);
    says(&report, &format!("RELP session with 127.0.0.1:{port} not open after "));
}

#[test]
fn an_http_answer_that_does_not_come_before_the_exit_is_named_with_its_time() {
    let target = |port| Target::Http(HttpTarget::new(format!("http://127.0.0.1:{port}/").parse().unwrap()));
    let (report, port) = books(target, Format::Ndjson);
    says(&report, &format!("no answer from 127.0.0.1:{port} after "));
}
