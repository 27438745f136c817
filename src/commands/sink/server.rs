//! The receivers: one thread with a small runtime, listening on up to three sockets.
//!
//! Lines are handed over before they are acknowledged (the HTTP answer, the next read), one call at a time, so a slow
//! receiver of them slows the senders down. Memory is bounded by [`CONNECTIONS_MAX`] times a body or a frame.

use super::{Received, SinkOptions, http, syslog};
use std::{
    future, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    runtime,
    sync::watch,
    task::JoinSet,
};

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
pub(super) struct Hand<F> {
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
    pub(super) fn line(&self, received: Received) {
        self.counts[received.source as usize].fetch_add(1, Ordering::Relaxed);
        self.tell(Event::Line(received));
    }

    pub(super) fn trouble(&self, text: String) {
        self.tell(Event::Trouble(text));
    }

    fn tell(&self, event: Event) {
        (self.receive.lock().unwrap_or_else(PoisonError::into_inner))(event);
    }

    /// Returns when the sink is stopped, with the time that is left to connections.
    pub(super) async fn stopped(&mut self) -> Duration {
        match self.stopped.wait_for(Option::is_some).await {
            Ok(grace) => grace.unwrap_or_default(),
            Err(_) => Duration::ZERO,
        }
    }
}

async fn serve<F: FnMut(Event) + Send + 'static>(sockets: [Option<Socket>; 3], hand: Hand<F>) {
    let [http_socket, tcp_socket, udp_socket] = sockets;
    let mut tasks = JoinSet::new();
    if let Some(Socket::Datagram(socket)) = udp_socket {
        tasks.spawn(syslog::serve_udp(socket, hand.clone()));
    }
    let mut stopped = hand.clone();
    let grace = loop {
        let room = tasks.len() < CONNECTIONS_MAX;
        tokio::select! {
            grace = stopped.stopped() => break grace,
            stream = accept(http_socket.as_ref()), if room => { tasks.spawn(http::serve(stream, hand.clone())); }
            stream = accept(tcp_socket.as_ref()), if room => { tasks.spawn(syslog::serve_tcp(stream, hand.clone())); }
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

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
