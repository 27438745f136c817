//! An HTTP receiver with faults, on hyper: 1.1 or 2, plain or TLS. Each connection has a fate, and so has each request.
//!
//! Strict: a request is a POST to `/logs` whose body has the length that was named; requests of one key have one body. What
//! counts as received are the bodies of requests that were taken, whether or not the answer got through.

use super::{
    fate::{Kind, reset},
    mortal::server_config,
};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{Sleep, sleep},
};
use tokio_rustls::TlsAcceptor;

/// What HTTP knows beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// Reads so many bytes, then neither reads nor writes any more, and stays.
    HalfOpen(usize),
}

impl Kind for Http {
    fn kind(&self) -> &'static str {
        match self {
            Self::HalfOpen(_) => "half-open",
        }
    }
}

type Fate = super::fate::Fate<Http>;

/// What becomes of a request that was read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Taken, and the answer is lost: the connection (over HTTP/2 the stream) ends without one.
    LoseAnswer,
    /// Refused with this status, and a `Retry-After` of so many seconds if any.
    Refuse(u16, Option<u32>),
    /// 413, unless it is one line alone.
    TooLarge,
}

/// How it talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// HTTP/1.1.
    Plain,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 over TLS.
    Http2,
}

type Met = BTreeMap<&'static str, u32>;

#[derive(Default)]
struct State {
    acts: VecDeque<Act>,
    bodies: Vec<Bytes>,
    by_key: HashMap<String, Bytes>,
    met: Met,
    /// What was not as it must be.
    wrong: Vec<String>,
}

type Shared = Arc<Mutex<State>>;

/// A running receiver.
pub struct Web {
    address: SocketAddr,
    state: Shared,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Web {
    /// Connections have these fates in turn, requests these acts; then all is well.
    pub fn start(dialect: Dialect, fates: Vec<Fate>, acts: Vec<Act>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a live socket");
        let address = listener.local_addr().expect("bound");
        let state = Shared::new(Mutex::new(State { acts: acts.into(), ..State::default() }));
        let (stop, stopped) = oneshot::channel();
        let here = Arc::clone(&state);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, dialect, fates, here) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, state, stop, thread }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it; the bodies that it took, and what was met.
    #[track_caller]
    pub fn collect(self) -> (Vec<Bytes>, Met) {
        drop(self.stop);
        self.thread.join().expect("the receiver does not panic");
        let state = std::mem::take(&mut *self.state.lock().expect("no panic"));
        assert!(state.wrong.is_empty(), "{:?}", state.wrong);
        (state.bodies, state.met)
    }
}

fn meet(state: &Shared, kind: &'static str) {
    *state.lock().expect("no panic").met.entry(kind).or_default() += 1;
}

async fn accept(listener: std::net::TcpListener, dialect: Dialect, fates: Vec<Fate>, state: Shared) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    let mut fates = fates.into_iter();
    loop {
        let (stream, _) = listener.accept().await.expect("accepted");
        let fate = fates.next().unwrap_or(Fate::Healthy);
        tokio::spawn(serve(stream, dialect, fate, Arc::clone(&state)));
    }
}

async fn serve(stream: TcpStream, dialect: Dialect, fate: Fate, state: Shared) {
    if matches!(fate, Fate::Refuse | Fate::BlackHole(_) | Fate::WrongCertificate) {
        meet(&state, fate.kind());
    }
    match fate {
        Fate::Refuse => return reset(&stream),
        Fate::BlackHole(millis) => {
            sleep(Duration::from_millis(millis)).await;
            return reset(&stream);
        }
        _ => {}
    }
    let wire = Wire { stream, fate, read: 0, spent: false, nap: None, state: Arc::clone(&state) };
    if dialect == Dialect::Plain {
        meet(&state, "http/1.1");
        let service = service_fn(|request| answer(request, Arc::clone(&state)));
        let _ = http1::Builder::new().serve_connection(TokioIo::new(wire), service).await;
        return;
    }
    let name = if fate == Fate::WrongCertificate { "other" } else { "server" };
    let Ok(stream) = acceptor(name, dialect).accept(wire).await else { return };
    let service = service_fn(|request| answer(request, Arc::clone(&state)));
    if dialect == Dialect::Http2 {
        meet(&state, "http/2");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    } else {
        meet(&state, "http/1.1 over tls");
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
}

fn acceptor(name: &str, dialect: Dialect) -> TlsAcceptor {
    let mut config = Arc::unwrap_or_clone(server_config(name));
    config.alpn_protocols = match dialect {
        Dialect::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        _ => vec![b"http/1.1".to_vec()],
    };
    TlsAcceptor::from(Arc::new(config))
}

/// An error here ends the connection (HTTP/2: the stream) without an answer.
async fn answer(request: Request<Incoming>, state: Shared) -> Result<Response<Empty<Bytes>>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut state = state.lock().expect("no panic");
    if head.method != "POST" || head.uri.path() != "/logs" || header("content-length") != body.len().to_string() {
        state.wrong.push(format!("{head:?}, {} bytes", body.len()));
    }
    let key = header("idempotency-key").to_owned();
    if *state.by_key.entry(key.clone()).or_insert_with(|| body.clone()) != body {
        state.wrong.push(format!("another body under the key {key}"));
    }
    let lines = body.iter().filter(|&&byte| byte == b'\n').count();
    let act = state.acts.pop_front();
    let (kind, status, after) = match act {
        None => ("taken", 200, None),
        Some(Act::LoseAnswer) => ("answer lost", 200, None),
        Some(Act::TooLarge) if lines < 2 => ("taken", 200, None),
        Some(Act::TooLarge) => ("413", 413, None),
        Some(Act::Refuse(429, after)) => ("429", 429, after),
        Some(Act::Refuse(status, after)) => ("500", status, after),
    };
    *state.met.entry(kind).or_default() += 1;
    if status == 200 {
        state.bodies.push(body);
    }
    if kind == "answer lost" {
        return Err(io::Error::other(kind));
    }
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    if let Some(after) = after {
        response.headers_mut().insert("retry-after", after.into());
    }
    Ok(response)
}

/// A connection that suffers its fate while it is read.
struct Wire {
    stream: TcpStream,
    fate: Fate,
    read: usize,
    /// The fate has struck.
    spent: bool,
    nap: Option<Pin<Box<Sleep>>>,
    state: Shared,
}

impl Wire {
    fn strike(&mut self) {
        if !std::mem::replace(&mut self.spent, true) {
            meet(&self.state, self.fate.kind());
        }
    }

    /// What becomes of a read or write from now on, if not what should.
    fn fault(&mut self) -> Option<Poll<io::Error>> {
        match self.fate {
            Fate::ResetAfter(bytes) if self.read >= bytes => {
                self.strike();
                reset(&self.stream);
                Some(Poll::Ready(io::ErrorKind::ConnectionReset.into()))
            }
            Fate::CloseAfter(bytes) if self.read >= bytes => {
                self.strike();
                Some(Poll::Ready(io::ErrorKind::BrokenPipe.into()))
            }
            Fate::Own(Http::HalfOpen(bytes)) if self.read >= bytes => {
                self.strike();
                Some(Poll::Pending)
            }
            _ => None,
        }
    }

    /// How many bytes may be read now.
    fn portion(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        match self.fate {
            Fate::ResetAfter(bytes) | Fate::CloseAfter(bytes) | Fate::Own(Http::HalfOpen(bytes)) => {
                Poll::Ready(bytes - self.read)
            }
            Fate::Slow(bytes) if self.read < bytes => {
                self.strike();
                let nap = self.nap.get_or_insert_with(|| Box::pin(sleep(Duration::from_millis(1))));
                std::task::ready!(nap.as_mut().poll(cx));
                self.nap = None;
                Poll::Ready(1)
            }
            _ => Poll::Ready(usize::MAX),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(fault) = self.fault() {
            return fault.map(Err);
        }
        let most = std::task::ready!(self.portion(cx)).min(buffer.remaining());
        let mut bytes = vec![0; most];
        let mut part = ReadBuf::new(&mut bytes);
        let result = std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part));
        buffer.put_slice(part.filled());
        self.read += part.filled().len();
        Poll::Ready(result)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.fault() {
            Some(fault) => fault.map(Err),
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.fault() {
            Some(fault) => fault.map(Err),
            None => Pin::new(&mut self.stream).poll_shutdown(cx),
        }
    }
}
