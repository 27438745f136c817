//! HTTP/2 against a server of h2's own, strict about what a request must be, that breaks off where it is told to.

use super::*;
use crate::{format::Format, transport::testing::payload};
use h2::{
    Reason, RecvStream,
    server::{self, SendResponse},
};
use hyper::{
    Request, Response, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::Sender,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

const CA: &[u8] = include_bytes!("fixtures/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("fixtures/server.pem");
const KEY: &[u8] = include_bytes!("fixtures/server.key");

/// What the server does with the next request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Answer(u16),
    /// Reads it all, then RST_STREAM.
    Reset(Reason),
    /// RST_STREAM before the body is read.
    ResetAtOnce(Reason),
    /// 204, and GOAWAY: the connection ends when the answer is out.
    AnswerAndLeave,
    /// As the first thing on a connection: GOAWAY that names no stream as seen, with this reason.
    Leave(Reason),
    /// The TCP connection ends without a word, with the request read.
    Cut,
    Silence,
    /// Never gives the sender more window than the first.
    NoWindow,
    /// A body without an end.
    Endless,
}

/// (number of the connection, key, body) of each request that was read whole.
type Seen = Arc<Mutex<Vec<(usize, String, Vec<u8>)>>>;
type Acts = Arc<Mutex<VecDeque<Act>>>;

pub(super) struct Server {
    pub(super) port: u16,
    seen: Seen,
}

impl Server {
    /// Speaks these protocols (ALPN); requests have these fates, over all connections, then 204.
    pub(super) async fn start(protocols: &[&str], acts: &[Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, seen: Seen::default() };
        let seen = Arc::clone(&server.seen);
        let (tls, acts) = (acceptor(protocols), Arc::new(Mutex::new(VecDeque::from(acts.to_vec()))));
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, tls.clone(), number, Arc::clone(&seen), Arc::clone(&acts)));
            }
        });
        server
    }

    pub(super) fn http(&self) -> Http {
        let url = format!("https://localhost:{}/in?a=b", self.port).parse().unwrap();
        let mut target = HttpTarget::new(url);
        target.tls.ca_pem = Some(CA.to_vec());
        target.headers.push(("Authorization".into(), Secret::Value("Bearer t".into())));
        Http::new(target, Format::Raw.protocol())
    }

    /// Connection and key of each request.
    pub(super) fn seen(&self) -> Vec<(usize, String)> {
        self.seen.lock().unwrap().iter().map(|(number, key, _)| (*number, key.clone())).collect()
    }
}

pub(super) fn acceptor(protocols: &[&str]) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(KEY).unwrap())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, number: usize, seen: Seen, acts: Acts) {
    let mut stream = tls.accept(stream).await.unwrap();
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return serve_old(stream, number, seen).await;
    }
    let first = acts.lock().unwrap().front().copied();
    if let Some(Act::Leave(reason)) = first {
        acts.lock().unwrap().pop_front();
        return leave(&mut stream, reason).await;
    }
    let mut connection = server::handshake(stream).await.unwrap();
    let (order, mut orders) = tokio::sync::mpsc::channel(1);
    loop {
        tokio::select! {
            request = connection.accept() => {
                let Some(Ok((request, respond))) = request else { return };
                let act = acts.lock().unwrap().pop_front().unwrap_or(Act::Answer(204));
                tokio::spawn(handle(request, respond, act, number, Arc::clone(&seen), order.clone()));
            }
            Some(act) = orders.recv() => match act {
                Act::Cut => return,
                _ => connection.graceful_shutdown(),
            }
        }
    }
}

/// One request. What concerns the whole connection is handed back to it.
async fn handle(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    act: Act,
    number: usize,
    seen: Seen,
    order: Sender<Act>,
) {
    check(&request);
    if let Act::ResetAtOnce(reason) = act {
        return respond.send_reset(reason);
    }
    if matches!(act, Act::NoWindow) {
        let _kept = (request, respond);
        return std::future::pending().await;
    }
    let key = request.headers()["idempotency-key"].to_str().unwrap().to_owned();
    let length: usize = request.headers()[CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
    let (mut stream, mut body) = (request.into_body(), Vec::new());
    while let Some(Ok(data)) = stream.data().await {
        stream.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    assert_eq!(body.len(), length, "the length that was named");
    seen.lock().unwrap().push((number, key, body));
    let head = |status: u16| Response::builder().status(status).body(()).unwrap();
    match act {
        Act::Answer(status) => drop(respond.send_response(head(status), true).unwrap()),
        Act::AnswerAndLeave => {
            respond.send_response(head(204), true).unwrap();
            order.send(act).await.unwrap();
        }
        Act::Reset(reason) => respond.send_reset(reason),
        Act::Cut => {
            order.send(act).await.unwrap();
            let _kept = respond;
            std::future::pending::<()>().await;
        }
        Act::Endless => {
            let mut body = respond.send_response(head(200), false).unwrap();
            while body.send_data("words ".repeat(1000).into(), false).is_ok() {
                tokio::task::yield_now().await;
            }
        }
        Act::Silence | Act::NoWindow | Act::ResetAtOnce(_) | Act::Leave(_) => {
            let _kept = respond;
            std::future::pending::<()>().await;
        }
    }
}

/// RFC 9113 sections 8.2.2 and 8.3.1: no fields of the connection, and all that the request line was.
fn check(request: &Request<RecvStream>) {
    assert_eq!((request.method().as_str(), request.version()), ("POST", Version::HTTP_2));
    let uri = request.uri();
    assert_eq!((uri.scheme_str(), uri.host()), (Some("https"), Some("localhost")));
    assert_eq!(uri.path_and_query().unwrap(), "/in?a=b");
    for name in [CONNECTION, HOST, TRANSFER_ENCODING] {
        assert!(!request.headers().contains_key(&name), "{name}");
    }
    assert_eq!(request.headers()["authorization"], "Bearer t");
}

/// By hand: says that it leaves and has seen no stream, when the first has begun (RFC 9113 section 6.8).
async fn leave(stream: &mut TlsStream<TcpStream>, reason: Reason) {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    stream.write_all(&SETTINGS).await.unwrap();
    let mut head = [0; 9];
    while head[3] != HEADERS {
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
    }
    let goaway = [[0, 0, 8, 7, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]].concat();
    stream.write_all(&goaway).await.unwrap();
    stream.write_all(&u32::from(reason).to_be_bytes()[3..]).await.unwrap();
    stream.flush().await.unwrap();
    // Reads on, so that nothing unread makes a reset of the end.
    let _ = tokio::time::timeout(Duration::from_millis(50), stream.read_to_end(&mut Vec::new())).await;
}

/// A server of HTTP/1.1: answers every request.
async fn serve_old(mut stream: TlsStream<TcpStream>, number: usize, seen: Seen) {
    let mut text = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        text.push(byte);
        if text.ends_with(b"\r\n\r\nold\n") {
            assert!(text.starts_with(b"POST /in?a=b HTTP/1.1\r\n"));
            seen.lock().unwrap().push((number, String::new(), std::mem::take(&mut text)));
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
    }
}

const BOTH: &[&str] = &["h2", "http/1.1"];

/// Sends payloads at these positions, all of which must be taken.
async fn send(http: &mut Http, positions: &[u64]) {
    for &position in positions {
        http.send(&payload(position, &["x\n"])).await.unwrap();
    }
    assert_eq!(http.progress(Instant::now()).unwrap().upto, positions.last().unwrap() + 2);
}

fn keys(seen: &[(usize, String)]) -> Vec<(usize, &str)> {
    seen.iter().map(|(number, key)| (*number, key.as_str())).collect()
}

#[tokio::test]
async fn a_server_that_offers_http2_gets_all_requests_on_one_connection() {
    let server = Server::start(BOTH, &[]).await;
    let mut http = server.http();
    send(&mut http, &[0, 2, 4]).await;
    // More than the windows that a server begins with.
    let large = "y".repeat(1 << 20);
    http.send(&payload(6, &[&large])).await.unwrap();
    assert_eq!(keys(&server.seen()), [(0, "key-0"), (0, "key-2"), (0, "key-4"), (0, "key-6")]);
    assert_eq!(server.seen.lock().unwrap()[3].2, large.as_bytes());
}

#[tokio::test]
async fn a_server_without_http2_gets_the_old_one() {
    for protocols in [&["http/1.1"][..], &[]] {
        let server = Server::start(protocols, &[]).await;
        let mut http = server.http();
        for position in [0, 4] {
            http.send(&payload(position, &["old\n"])).await.unwrap();
        }
        assert_eq!(server.seen().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 0]);
    }
}

#[tokio::test]
async fn a_server_that_leaves_costs_no_failure_and_no_duplicate_32() {
    // After an answer, in peace; and under a request that it says it has not seen.
    let server = Server::start(BOTH, &[Act::AnswerAndLeave]).await;
    send(&mut server.http(), &[0, 2]).await;
    assert_eq!(keys(&server.seen()), [(0, "key-0"), (1, "key-2")]);
    let server = Server::start(BOTH, &[Act::Leave(Reason::NO_ERROR)]).await;
    send(&mut server.http(), &[0, 2]).await;
    assert_eq!(keys(&server.seen()), [(1, "key-0"), (1, "key-2")]);
}

#[tokio::test]
async fn a_refused_stream_was_not_seen_and_is_tried_again_at_once() {
    let refused = Act::ResetAtOnce(Reason::REFUSED_STREAM);
    let server = Server::start(BOTH, &[refused, refused]).await;
    send(&mut server.http(), &[0]).await;
    // More of them are weather.
    let server = Server::start(BOTH, &[refused; 9]).await;
    let failure = server.http().send(&payload(0, &["x\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Retry { resend_from: 0, after: None }), "{failure:?}");
    assert!(failure.reason.ends_with("it broke the request off (REFUSED_STREAM)"), "{}", failure.reason);
}

#[tokio::test]
async fn what_a_server_says_by_a_reset_or_a_goaway_is_an_answer_and_waits_its_turn() {
    let acts = [Act::Answer(204), Act::Reset(Reason::INTERNAL_ERROR), Act::Answer(204)];
    let server = Server::start(BOTH, &acts).await;
    let mut http = server.http();
    send(&mut http, &[0]).await;
    let failure = http.send(&payload(2, &["x\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Retry { resend_from: 2, after: None }), "{failure:?}");
    assert!(failure.reason.ends_with("it broke the request off (INTERNAL_ERROR)"), "{}", failure.reason);
    send(&mut http, &[2]).await;
    assert_eq!(keys(&server.seen()), [(0, "key-0"), (0, "key-2"), (1, "key-2")], "the same key, a fresh connection");
    let server = Server::start(BOTH, &[Act::Leave(Reason::ENHANCE_YOUR_CALM)]).await;
    let failure = server.http().send(&payload(0, &["x\n"])).await.unwrap_err();
    assert!(failure.reason.ends_with("it broke the request off (ENHANCE_YOUR_CALM)"), "{}", failure.reason);
}

#[tokio::test]
async fn a_connection_that_broke_under_its_first_request_is_weather_and_under_a_later_one_is_made_anew() {
    let server = Server::start(BOTH, &[Act::Cut]).await;
    let mut http = server.http();
    let failure = http.send(&payload(0, &["x\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Retry { resend_from: 0, after: None }), "{failure:?}");
    send(&mut http, &[0]).await;
    let server = Server::start(BOTH, &[Act::Answer(204), Act::Cut]).await;
    send(&mut server.http(), &[0, 2]).await;
    assert_eq!(keys(&server.seen()), [(0, "key-0"), (0, "key-2"), (1, "key-2")], "unknown, so sent again");
}

#[tokio::test]
async fn a_server_that_wants_the_old_one_gets_it() {
    let server = Server::start(BOTH, &[Act::ResetAtOnce(Reason::HTTP_1_1_REQUIRED)]).await;
    let mut http = server.http();
    http.send(&payload(0, &["old\n"])).await.unwrap();
    http.send(&payload(4, &["old\n"])).await.unwrap();
    assert_eq!(server.seen().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn silence_and_windows_that_stay_shut_are_bounded_and_the_next_try_has_a_fresh_connection() {
    for act in [Act::Silence, Act::NoWindow] {
        let server = Server::start(BOTH, &[Act::Answer(204), act]).await;
        let mut http = server.http();
        send(&mut http, &[0]).await;
        http.patience = Patience::new(Some(Duration::from_millis(200)));
        let large = "x".repeat(200_000);
        let failure = http.send(&payload(2, &[&large])).await.unwrap_err();
        assert!(failure.reason.ends_with("no answer within 0.2 s"), "{}", failure.reason);
        http.patience = Patience::new(Some(Duration::from_secs(5)));
        http.send(&payload(2, &[&large])).await.unwrap();
        assert_eq!(server.seen().last(), Some(&(1, "key-2".to_owned())), "{act:?}");
    }
}

#[tokio::test]
async fn a_request_that_was_dropped_is_asked_again_over_a_fresh_connection() {
    let server = Server::start(BOTH, &[Act::Answer(204), Act::Silence]).await;
    let mut http = server.http();
    send(&mut http, &[0]).await;
    let again = payload(2, &["x\n"]);
    {
        let mut request = std::pin::pin!(http.send(&again));
        while server.seen().len() < 2 {
            let _ = timeout(Duration::from_millis(1), &mut request).await;
        }
    }
    http.send(&again).await.unwrap();
    assert_eq!(keys(&server.seen()), [(0, "key-0"), (0, "key-2"), (1, "key-2")]);
}

#[tokio::test]
async fn an_endless_answer_is_bounded_33() {
    let server = Server::start(BOTH, &[Act::Endless]).await;
    let mut http = server.http();
    send(&mut http, &[0, 2]).await;
}
