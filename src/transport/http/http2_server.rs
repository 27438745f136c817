//! A server of HTTP/2 for tests, strict about what a request must be, that breaks off where it is told to.

use super::*;
use crate::{config::Secret, format::Format};
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
    /// With this status.
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
    pub(super) seen: Seen,
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
