//! The HTTP transport against a small server that does as it is told, down to the bytes.

use super::*;
use crate::{config::Secret, format::Format, transport::testing::payload};
use std::{collections::VecDeque, net::SocketAddr, sync::Arc, sync::Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the server does with one request (or connection).
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// These bytes, and the connection stays.
    Bytes(String),
    /// These bytes, then the end.
    Last(String),
    /// Reads the request, then cuts.
    Cut,
    /// Cuts as soon as the next request sets out on this connection, without reading it: the keep-alive race.
    TakenThenCutIdle,
    /// Reads the request and says nothing.
    Silence,
    /// Headers, then a body without an end.
    Endless,
}

#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(super) async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let (seen, replies) = (Arc::clone(&server.seen), Arc::new(Mutex::new(VecDeque::from(replies))));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&seen), Arc::clone(&replies)));
            }
        });
        server
    }

    fn http(&self) -> Http {
        self.with_headers(Vec::new())
    }

    fn with_headers(&self, headers: Vec<(String, Secret)>) -> Http {
        let url = format!("http://{}/in?token=secret", self.address).parse().unwrap();
        let target = HttpTarget { headers, ..HttpTarget::new(url) };
        Http::new(target, Format::Ndjson.protocol())
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>, replies: Arc<Mutex<VecDeque<Reply>>>) {
    while let Some(request) = read_request(&mut stream).await {
        seen.lock().unwrap().push(request);
        let reply = replies.lock().unwrap().pop_front().unwrap_or_else(ok);
        match reply {
            Reply::Bytes(bytes) => stream.write_all(bytes.as_bytes()).await.unwrap(),
            // Whoever has heard enough may have hung up.
            Reply::Last(bytes) => return drop(stream.write_all(bytes.as_bytes()).await),
            Reply::Cut => return,
            Reply::TakenThenCutIdle => {
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                let _ = stream.readable().await;
                // Closing with unread bytes resets: the client may already have written.
                return;
            }
            Reply::Silence => std::future::pending().await,
            Reply::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
                while stream.write_all(b"5\r\nwords\r\n").await.is_ok() {}
                return;
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let mut seen = Seen { head: String::from_utf8(head).unwrap(), body: Vec::new() };
    let length = seen.header("content-length").expect("a length, not chunks").parse().unwrap();
    seen.body = vec![0; length];
    stream.read_exact(&mut seen.body).await.ok()?;
    Some(seen)
}

pub(super) fn ok() -> Reply {
    Reply::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into())
}

pub(super) fn status(line: &str) -> Reply {
    Reply::Bytes(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n"))
}

pub(super) fn confirmed(http: &mut Http) -> u64 {
    let progress = http.progress(Instant::now()).unwrap();
    assert_eq!((progress.epoch, progress.grade), (1, Grade::Confirmed));
    progress.upto
}

#[tokio::test]
async fn a_request_carries_the_body_its_length_and_key_and_the_headers() {
    let server = Server::start(vec![]).await;
    let secret = Secret::Value("Bearer t0p".into());
    let mut http =
        server.with_headers(vec![("Authorization".into(), secret), ("X-A".into(), Secret::Value("1".into()))]);
    assert_eq!(confirmed(&mut http), 0);
    http.send(&payload(7, &["{}\n", "{}\n"])).await.unwrap();
    assert_eq!(confirmed(&mut http), 13);
    http.send(&payload(13, &["{}\n"])).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].body, b"{}\n{}\n");
    assert!(seen[0].head.starts_with("POST /in?token=secret HTTP/1.1\r\n"), "{}", seen[0].head);
    for (name, value) in [
        ("content-type", "application/x-ndjson"),
        ("idempotency-key", "key-7"),
        ("authorization", "Bearer t0p"),
        ("x-a", "1"),
        ("content-length", "6"),
    ] {
        assert_eq!(seen[0].header(name), Some(value), "{name}");
    }
    assert!(seen[0].header("user-agent").unwrap().starts_with("lastword/"));
}

#[tokio::test]
async fn each_status_leads_to_its_verdict_and_a_short_reason() {
    let busy = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n";
    let replies = vec![
        status("503 Service Unavailable"),
        Reply::Bytes(busy.into()),
        status("413 Payload Too Large"),
        Reply::Bytes("HTTP/1.1 400 Bad Request\r\nContent-Length: 12\r\n\r\nno\nsuch\nindex".into()),
        status("401 Unauthorized"),
        status("301 Moved Permanently"),
        status("501 Not Implemented"),
    ];
    let server = Server::start(replies).await;
    let mut http = server.http();
    let host = server.address.to_string();
    let mut fail = async || {
        let failure = http.send(&payload(5, &["x\n"])).await.unwrap_err();
        assert!(!failure.reason.contains("secret"), "{}", failure.reason);
        (failure.verdict, failure.reason.replace(&host, "HOST"))
    };
    let (verdict, reason) = fail().await;
    assert!(matches!(verdict, Verdict::Retry { resend_from: 5, after: None }));
    assert_eq!(reason, "HOST: 503 Service Unavailable");
    let (verdict, _) = fail().await;
    assert!(matches!(verdict, Verdict::Retry { resend_from: 5, after: Some(after) } if after.as_secs() == 3));
    assert!(matches!(fail().await.0, Verdict::Split));
    let (verdict, reason) = fail().await;
    assert!(matches!(verdict, Verdict::Reject));
    assert_eq!(reason, "HOST: 400 Bad Request: no such inde");
    for _ in 0..3 {
        assert!(matches!(fail().await.0, Verdict::Hold));
    }
    assert_eq!(confirmed(&mut http), 0);
}

#[tokio::test]
async fn a_cut_before_the_answer_is_weather_and_the_retry_is_the_same_request_31() {
    let server = Server::start(vec![Reply::Cut]).await;
    let mut http = server.http();
    let failure = http.send(&payload(5, &["x\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Retry { resend_from: 5, after: None }), "{failure:?}");
    http.send(&payload(5, &["x\n"])).await.unwrap();
    let seen = server.seen();
    assert_eq!((seen[0].header("idempotency-key"), &seen[0].body), (seen[1].header("idempotency-key"), &seen[1].body));
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_costs_no_failure_32() {
    let server = Server::start(vec![Reply::TakenThenCutIdle]).await;
    let mut http = server.http();
    http.send(&payload(0, &["x\n"])).await.unwrap();
    http.send(&payload(2, &["y\n"])).await.unwrap();
    assert_eq!(confirmed(&mut http), 4);
    // The same with the request read before the cut, once.
    let server = Server::start(vec![ok(), Reply::Cut, ok()]).await;
    let mut http = server.http();
    http.send(&payload(0, &["x\n"])).await.unwrap();
    http.send(&payload(2, &["y\n"])).await.unwrap();
    assert_eq!(server.seen().len(), 3);
    let server = Server::start(vec![ok(), Reply::Cut, Reply::Cut, ok()]).await;
    let mut http = server.http();
    http.send(&payload(0, &["x\n"])).await.unwrap();
    http.send(&payload(2, &["y\n"])).await.unwrap_err();
}

#[tokio::test]
async fn a_request_without_an_answer_is_asked_again_with_the_same_body_and_key_21() {
    let server = Server::start(vec![Reply::Silence]).await;
    let mut http = server.http();
    http.patience = Patience::new(Some(Duration::from_millis(100)));
    let failure = http.send(&payload(0, &["x\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Retry { .. }));
    assert!(failure.reason.ends_with("no answer within 0.1 s"), "{}", failure.reason);
    http.patience = Patience::new(None);
    http.send(&payload(0, &["x\n"])).await.unwrap();
    let seen = server.seen();
    assert_eq!((seen[0].header("idempotency-key"), &seen[0].body), (seen[1].header("idempotency-key"), &seen[1].body));
}

#[tokio::test]
async fn answers_without_an_end_are_bounded_whatever_they_say_33() {
    let chunks = "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n5\r\n busy\r\n0\r\n\r\n";
    let huge = format!("HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n{}", "x".repeat(9_999_999));
    let server = Server::start(vec![Reply::Endless, Reply::Bytes(chunks.into()), Reply::Last(huge)]).await;
    let mut http = server.http();
    http.send(&payload(0, &["x\n"])).await.unwrap();
    assert_eq!(confirmed(&mut http), 2, "its status said what matters");
    let failure = http.send(&payload(2, &["x\n"])).await.unwrap_err();
    assert!(failure.reason.ends_with(": 503 Busy: all busy") || failure.reason.ends_with("Unavailable: all busy"));
    http.send(&payload(2, &["x\n"])).await.unwrap();
    assert_eq!(confirmed(&mut http), 4);
}

#[tokio::test]
async fn nobody_listening_is_weather() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/").parse().unwrap();
    let target = HttpTarget::new(url);
    let failure = Http::new(target, Format::Raw.protocol()).send(&payload(0, &["x\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Retry { .. }));
    assert!(failure.reason.ends_with(": connection refused"), "{}", failure.reason);
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_origin_with_307_and_308_only_34() {
    let moved =
        |line: &str, to: &str| Reply::Bytes(format!("HTTP/1.1 {line}\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"));
    let server =
        Server::start(vec![moved("307 Temporary Redirect", "/new"), moved("308 Permanent Redirect", "./newer")]).await;
    let mut http = server.http();
    http.send(&payload(0, &["x\n"])).await.unwrap();
    let paths: Vec<_> = server.seen().iter().map(|seen| seen.head.lines().next().unwrap().to_owned()).collect();
    assert_eq!(paths, ["POST /in?token=secret HTTP/1.1", "POST /new HTTP/1.1", "POST /newer HTTP/1.1"]);
    let elsewhere = "http://127.0.0.1:1/steal";
    let replies = vec![moved("307 Temporary Redirect", elsewhere), moved("302 Found", "/new")];
    let server = Server::start(replies).await;
    let (mut http, mut reasons) = (server.http(), Vec::new());
    for _ in 0..2 {
        let failure = http.send(&payload(0, &["x\n"])).await.unwrap_err();
        assert!(matches!(failure.verdict, Verdict::Hold), "{failure:?}");
        reasons.push(failure.reason.split_once("it points to ").unwrap().1.to_owned());
    }
    assert_eq!(reasons[0], "http://127.0.0.1:1");
    assert!(reasons[1].starts_with("another path there, which the URL is to name"), "{reasons:?}");
    let endless = format!("http://{}example/", "far.".repeat(500));
    let server = Server::start(vec![moved("302 Found", &endless)]).await;
    let failure = server.http().send(&payload(0, &["x\n"])).await.unwrap_err();
    assert!(failure.reason.contains("points to") && failure.reason.len() < 250, "{}", failure.reason);
    let server = Server::start(vec![moved("307 Temporary Redirect", "/in"); 9]).await;
    let failure = server.http().send(&payload(0, &["x\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Hold) && server.seen().len() == 4, "{failure:?}");
}

#[tokio::test]
async fn a_rotated_credential_is_read_again_after_a_401_28() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token").to_string_lossy().into_owned();
    let secret = Secret::File { path: path.clone(), prefix: "Bearer ".into() };
    let replies = vec![ok(), status("401 Unauthorized"), ok(), status("401 Unauthorized"), status("401 Unauthorized")];
    let server = Server::start(replies).await;
    let mut http = server.with_headers(vec![("Authorization".into(), secret)]);
    let failure = http.send(&payload(0, &["x\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Hold), "no file yet: {failure:?}");
    std::fs::write(&path, "old\n").unwrap();
    http.send(&payload(0, &["x\n"])).await.unwrap();
    std::fs::write(&path, "new\n").unwrap();
    http.send(&payload(2, &["y\n"])).await.unwrap();
    let tokens: Vec<_> = server.seen().iter().map(|seen| seen.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(tokens, ["Bearer old", "Bearer old", "Bearer new"]);
    let failure = http.send(&payload(4, &["z\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Hold), "{failure:?}");
    assert_eq!(server.seen().len(), 4, "the file holds nothing new");
}

#[tokio::test]
async fn a_credentials_file_that_is_empty_for_a_while_leaves_the_last_good_one_in_use_and_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token").to_string_lossy().into_owned();
    std::fs::write(&path, "old\n").unwrap();
    let secret = Secret::File { path: path.clone(), prefix: "Bearer ".into() };
    let refuse = || status("401 Unauthorized");
    let server = Server::start(vec![refuse(), ok(), refuse(), refuse(), ok()]).await;
    let mut http = server.with_headers(vec![("Authorization".into(), secret)]);
    let send = async |http: &mut Http, at| http.send(&payload(at, &["x\n"])).await;
    // Whoever rotates it empties it first.
    http.headers.get(&http.target, http.protocol).unwrap();
    std::fs::write(&path, "").unwrap();
    let failure = send(&mut http, 0).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Hold), "{failure:?}");
    let why = format!("(what a file held before is sent: `{path}` is empty; ");
    assert!(failure.reason.contains("401") && failure.reason.contains(&why), "{}", failure.reason);
    send(&mut http, 0).await.unwrap();
    // Refused again, still empty; then it is filled.
    assert!(send(&mut http, 2).await.unwrap_err().reason.contains(&why));
    std::fs::write(&path, "new\n").unwrap();
    send(&mut http, 2).await.unwrap();
    let tokens: Vec<_> = server.seen().iter().map(|seen| seen.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(tokens, ["Bearer old", "Bearer old", "Bearer old", "Bearer old", "Bearer new"]);
}

#[tokio::test]
async fn an_unusable_root_certificate_holds_the_drain() {
    let server = Server::start(vec![Reply::Last(String::new())]).await;
    let mut http = server.http();
    http.target.url = format!("https://{}/", server.address).parse().unwrap();
    http.target.tls.ca_pem = Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec());
    let failure = http.send(&payload(0, &["x\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Hold), "{failure:?}");
    assert!(failure.reason.contains("ca:"), "{}", failure.reason);
}
