//! The receivers: one thread with a small runtime, listening on up to three sockets.
//!
//! Lines are handed over before they are acknowledged (the HTTP answer, the next read), one call at a time, so a slow
//! receiver of them slows the senders down. Memory is bounded by [`CONNECTIONS_MAX`] times a body or a frame.

use super::{Received, SinkOptions, frame};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    future,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream, UdpSocket},
    runtime,
    sync::watch,
    task::JoinSet,
};

/// Longest request body that is taken; more is answered with 413.
pub(super) const BODY_MAX: usize = 64 << 20;

/// Most connections at a time; further ones wait in the kernel's queue.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// How a line came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// In the body of an HTTP request.
    Http,
    /// As syslog over TCP.
    Tcp,
    /// As syslog over UDP.
    Udp,
}

impl Source {
    /// `http`, `tcp` or `udp`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The drain URL that reaches a receiver of this kind at `address`.
    pub fn url(self, address: SocketAddr) -> String {
        match self {
            Self::Http => format!("http://{address}/"),
            Self::Tcp => format!("syslog+tcp://{address}"),
            Self::Udp => format!("syslog+udp://{address}"),
        }
    }
}

/// What the sink has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line came.
    Line(Received),
    /// Something went wrong on a connection, in words.
    Trouble(String),
}

/// Why the sink cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address cannot be listened on.
    #[error("--{option} {address}: {error}; name another address, or port 0 for any free one")]
    Bind {
        /// The receiver.
        option: &'static str,
        /// What was asked for.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// Its thread cannot start.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// Lines received so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkCounts {
    /// Over HTTP.
    pub http: u64,
    /// Over TCP.
    pub tcp: u64,
    /// Over UDP.
    pub udp: u64,
}

/// Running receivers. Dropping it ends them at once; [`Sink::stop`] lets them finish.
pub struct Sink {
    addresses: Vec<(Source, SocketAddr)>,
    counts: Arc<[AtomicU64; 3]>,
    /// Set to how long connections may go on.
    stop: watch::Sender<Option<Duration>>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Listens, and hands everything that comes to `receive`, on the sink's thread.
    ///
    /// # Errors
    /// If an address cannot be listened on, or there is no thread to be had.
    pub fn start(options: &SinkOptions, receive: impl FnMut(Event) + Send + 'static) -> Result<Self, ListenError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let mut addresses = Vec::new();
        let mut listen = |source: Source, address: Option<SocketAddr>| {
            let Some(address) = address else { return Ok(None) };
            let bound = runtime.block_on(Socket::bind(source, address));
            let bound = bound.map_err(|error| ListenError::Bind { option: source.name(), address, error })?;
            addresses.push((source, bound.local()?));
            Ok::<_, ListenError>(Some(bound))
        };
        let sockets =
            [listen(Source::Http, options.http)?, listen(Source::Tcp, options.tcp)?, listen(Source::Udp, options.udp)?];
        let counts = Arc::new([const { AtomicU64::new(0) }; 3]);
        let (stop, stopped) = watch::channel(None);
        let hand = Hand { receive: Arc::new(Mutex::new(receive)), counts: Arc::clone(&counts), stopped };
        let thread =
            std::thread::Builder::new().name("sink".into()).spawn(move || runtime.block_on(serve(sockets, hand)))?;
        Ok(Self { addresses, counts, stop, thread: Some(thread) })
    }

    /// Where it listens, in the order http, tcp, udp.
    pub fn addresses(&self) -> &[(Source, SocketAddr)] {
        &self.addresses
    }

    /// Where the receiver of this kind listens, if there is one.
    pub fn address(&self, source: Source) -> Option<SocketAddr> {
        self.addresses.iter().find(|(kind, _)| *kind == source).map(|&(_, address)| address)
    }

    /// Lines received so far.
    pub fn counts(&self) -> SinkCounts {
        let of = |source: Source| self.counts[source as usize].load(Ordering::Relaxed);
        SinkCounts { http: of(Source::Http), tcp: of(Source::Tcp), udp: of(Source::Udp) }
    }

    /// Takes no new connections, gives the open ones up to `grace` to come to their end, and returns the final counts.
    pub fn stop(mut self, grace: Duration) -> SinkCounts {
        self.end(grace);
        self.counts()
    }

    fn end(&mut self, grace: Duration) {
        self.stop.send_replace(Some(grace));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

enum Socket {
    Stream(TcpListener),
    Datagram(UdpSocket),
}

impl Socket {
    async fn bind(source: Source, address: SocketAddr) -> io::Result<Self> {
        match source {
            Source::Http | Source::Tcp => TcpListener::bind(address).await.map(Self::Stream),
            Source::Udp => UdpSocket::bind(address).await.map(Self::Datagram),
        }
    }

    fn local(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Stream(listener) => listener.local_addr(),
            Self::Datagram(socket) => socket.local_addr(),
        }
    }
}

/// What each connection needs: where its lines go, and when to stop.
struct Hand<F> {
    receive: Arc<Mutex<F>>,
    counts: Arc<[AtomicU64; 3]>,
    stopped: watch::Receiver<Option<Duration>>,
}

impl<F> Clone for Hand<F> {
    fn clone(&self) -> Self {
        Self { receive: Arc::clone(&self.receive), counts: Arc::clone(&self.counts), stopped: self.stopped.clone() }
    }
}

impl<F: FnMut(Event)> Hand<F> {
    fn line(&self, received: Received) {
        self.counts[received.source as usize].fetch_add(1, Ordering::Relaxed);
        self.tell(Event::Line(received));
    }

    fn trouble(&self, text: String) {
        self.tell(Event::Trouble(text));
    }

    fn tell(&self, event: Event) {
        (self.receive.lock().unwrap_or_else(PoisonError::into_inner))(event);
    }

    /// Returns when the sink is stopped, with the time that is left to connections.
    async fn stopped(&mut self) -> Duration {
        match self.stopped.wait_for(Option::is_some).await {
            Ok(grace) => grace.unwrap_or_default(),
            Err(_) => Duration::ZERO,
        }
    }
}

async fn serve<F: FnMut(Event) + Send + 'static>(sockets: [Option<Socket>; 3], hand: Hand<F>) {
    let [http, tcp, udp] = sockets;
    let mut tasks = JoinSet::new();
    if let Some(Socket::Datagram(socket)) = udp {
        tasks.spawn(serve_udp(socket, hand.clone()));
    }
    let mut stopped = hand.clone();
    let grace = loop {
        let room = tasks.len() < CONNECTIONS_MAX;
        tokio::select! {
            grace = stopped.stopped() => break grace,
            stream = accept(http.as_ref()), if room => { tasks.spawn(serve_http(stream, hand.clone())); }
            stream = accept(tcp.as_ref()), if room => { tasks.spawn(serve_tcp(stream, hand.clone())); }
            _ = tasks.join_next(), if !tasks.is_empty() => {}
        }
    };
    let ends = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(grace, ends).await;
}

/// The next connection; pending for ever where there is no listener.
async fn accept(socket: Option<&Socket>) -> TcpStream {
    let Some(Socket::Stream(listener)) = socket else { return future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // A connection that broke in the queue, or no descriptor left: the latter passes when others close.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve_http<F: FnMut(Event)>(stream: TcpStream, mut hand: Hand<F>) {
    let answering = hand.clone();
    let service = service_fn(move |request| {
        let hand = answering.clone();
        async move { Ok::<_, Infallible>(answer(request, &hand).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = hand.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result.as_ref().map_err(|error| error.to_string()) {
        hand.trouble(format!("http: {error}"));
    }
}

/// 204: every line of the body was handed over.
async fn answer<F: FnMut(Event)>(request: Request<Incoming>, hand: &Hand<F>) -> Response<Empty<Bytes>> {
    let status = match request.method() {
        &Method::POST | &Method::PUT => take_body(request, hand).await,
        &Method::GET | &Method::HEAD => StatusCode::OK,
        _ => StatusCode::METHOD_NOT_ALLOWED,
    };
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    response
}

async fn take_body<F: FnMut(Event)>(request: Request<Incoming>, hand: &Hand<F>) -> StatusCode {
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        hand.trouble("http: a compressed body was refused".into());
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    match Limited::new(request.into_body(), BODY_MAX).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            lines.for_each(|line| hand.line(Received::from_json_line(Source::Http, line)));
            StatusCode::NO_CONTENT
        }
        Err(error) if error.is::<http_body_util::LengthLimitError>() => StatusCode::PAYLOAD_TOO_LARGE,
        Err(error) => {
            hand.trouble(format!("http: a body broke off: {error}"));
            StatusCode::BAD_REQUEST
        }
    }
}

/// Reads until the peer's end: a sender that half-closes and waits for our end of file knows then that all was handed over.
async fn serve_tcp<F: FnMut(Event)>(mut stream: TcpStream, hand: Hand<F>) {
    let mut buf = BytesMut::new();
    let result = loop {
        buf.reserve(64 << 10);
        match stream.read_buf(&mut buf).await {
            Ok(0) => {
                break frame::rest(buf).map(|rest| rest.into_iter().for_each(|line| syslog(&hand, Source::Tcp, &line)));
            }
            Ok(_) => {}
            Err(error) => break Err(format!("{error}; {} bytes of an unfinished frame were let go", buf.len())),
        }
        if let Err(error) = take_frames(&mut buf, &hand) {
            break Err(error);
        }
    };
    if let Err(error) = result {
        hand.trouble(format!("tcp: {error}"));
    }
}

fn take_frames<F: FnMut(Event)>(buf: &mut BytesMut, hand: &Hand<F>) -> Result<(), String> {
    while let Some(message) = frame::next(buf)? {
        syslog(hand, Source::Tcp, &message);
    }
    Ok(())
}

fn syslog<F: FnMut(Event)>(hand: &Hand<F>, source: Source, message: &[u8]) {
    hand.line(Received::from_syslog(source, message));
}

async fn serve_udp<F: FnMut(Event)>(socket: UdpSocket, mut hand: Hand<F>) {
    let mut buf = vec![0; 64 << 10];
    loop {
        tokio::select! {
            biased;
            received = socket.recv(&mut buf) => match received {
                Ok(len) => syslog(&hand, Source::Udp, &buf[..len]),
                Err(error) => hand.trouble(format!("udp: {error}")),
            },
            _ = hand.stopped() => break,
        }
    }
    loop {
        match socket.try_recv(&mut buf) {
            Ok(len) => syslog(&hand, Source::Udp, &buf[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
