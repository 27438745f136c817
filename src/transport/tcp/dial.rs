//! Connecting: names to addresses, addresses in turn, socket options; and the words for what went wrong.

use super::pipe::{Ending, Pipe};
use crate::{
    clock,
    config::{HostPort, TlsTarget},
    names, sys,
    transport::{Failure, Pulse, Verdict, tls},
};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::ClientConfig;
use std::{
    fmt,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

/// Time for looking up the name.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
/// How long an address is tried before the next one is tried beside it (RFC 8305 section 5): one that swallows everything
/// must not take the time that a stop leaves.
const HEAD_START: Duration = Duration::from_millis(250);
/// Time for all addresses together.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Time for the TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long data may stay unacknowledged, or the peer's window closed, before the kernel gives the connection up
/// (`TCP_USER_TIMEOUT`, RFC 5482). Without it Linux retries for a quarter of an hour.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(15);

/// Most bytes that wait unsent in our kernel. A small number has the socket ask for more often, and each time the
/// peer's window is looked at: a sender that hands over megabytes in one go never sees how large that is.
const UNSENT: u32 = 128 * 1024;

/// How messages name a peer: `host:port`, an IPv6 address in brackets.
pub(in crate::transport) struct Peer<'a>(pub(in crate::transport) &'a HostPort);

impl fmt::Display for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostPort { host, port } = self.0;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Connects to the first address that answers, `favourite` tried before all others if the name still has it.
///
/// # Errors
/// What an address said last, in words fit for a report.
pub(super) async fn dial(peer: &HostPort, favourite: Option<SocketAddr>) -> Result<TcpStream, String> {
    let mut addresses = match timeout(LOOKUP_TIME, names::lookup(&peer.host, peer.port)).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return Err(format!("cannot resolve {}: {error}", peer.host)),
        Err(_) => return Err(format!("cannot resolve {}: no answer within {} s", peer.host, LOOKUP_TIME.as_secs())),
    };
    addresses.sort_by_key(|&address| Some(address) != favourite);
    race(addresses, peer).await
}

/// Tries the addresses, each with a [`HEAD_START`] before the next, or until it fails; the first that answers wins.
async fn race(addresses: Vec<SocketAddr>, peer: &HostPort) -> Result<TcpStream, String> {
    let end = Instant::now() + CONNECT_TIME;
    let mut trouble = None;
    let mut tries = JoinSet::new();
    let mut rest = addresses.into_iter();
    loop {
        if let Some(address) = rest.next() {
            tries.spawn(connect(address));
        }
        let until = if rest.len() > 0 { end.min(Instant::now() + HEAD_START) } else { end };
        match timeout_at(until, tries.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(error)))) => trouble = Some(why(&error, peer)),
            Ok(Some(Err(panicked))) => trouble = Some(panicked.to_string()),
            Ok(None) => return Err(trouble.unwrap_or_else(|| format!("{} has no address", peer.host))),
            Err(_) if Instant::now() >= end => return Err(format!("no answer from {}", Peer(peer))),
            Err(_) => {}
        }
    }
}

/// Makes connections to one peer, over TLS if asked to, and finds words for what became of them.
#[derive(Debug)]
pub(in crate::transport) struct Connector {
    peer: HostPort,
    tls: Option<TlsTarget>,
    /// Made for the first connection, and again after a refusal: files may have been rotated.
    config: Option<Arc<ClientConfig>>,
    /// Address of the last connection.
    favourite: Option<SocketAddr>,
    pulse: Pulse,
}

impl Connector {
    /// Connects to nothing yet.
    pub(in crate::transport) fn new(peer: HostPort, tls: Option<TlsTarget>) -> Self {
        Self { peer, tls, config: None, favourite: None, pulse: Pulse::default() }
    }

    /// The peer.
    pub(in crate::transport) fn peer(&self) -> &HostPort {
        &self.peer
    }

    /// Where it tells what it waits for.
    pub(in crate::transport) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// A fresh connection, ready to carry what is to be sent from `base` on.
    pub(in crate::transport) async fn connect(&mut self, base: u64) -> Result<Pipe, Failure> {
        self.pulse.wait_for(format!("no connection to {}", Peer(&self.peer)), clock::now());
        let pipe = self.establish(base).await;
        self.pulse.waited();
        pipe
    }

    async fn establish(&mut self, base: u64) -> Result<Pipe, Failure> {
        let retry = |reason| Failure { verdict: Verdict::Retry { resend_from: base, after: None }, reason };
        let socket = dial(&self.peer, self.favourite).await.map_err(retry)?;
        self.favourite = socket.peer_addr().ok();
        let mut pipe = Pipe::new(socket);
        let Some(tls) = &self.tls else { return Ok(pipe) };
        let hold = |reason| Failure { verdict: Verdict::Hold, reason: format!("{}: {reason}", Peer(&self.peer)) };
        let name = tls::server_name(tls, &self.peer.host).map_err(hold)?;
        let config = match &self.config {
            Some(config) => Arc::clone(config),
            None => Arc::clone(self.config.insert(tls::client_config(tls, &self.peer.host).map_err(hold)?)),
        };
        self.pulse.wait_for(format!("TLS handshake with {} not finished", Peer(&self.peer)), clock::now());
        match timeout(HANDSHAKE_TIME, pipe.secure(config, name)).await {
            Ok(Ok(())) => Ok(pipe),
            Ok(Err(Ending::Closed | Ending::Truncated)) => {
                Err(retry(format!("connection closed by {} in the TLS handshake", Peer(&self.peer))))
            }
            Ok(Err(ending)) => Err(self.failure(&ending, base)),
            Err(_) => Err(retry(format!("no answer from {} in the TLS handshake", Peer(&self.peer)))),
        }
    }

    /// What a connection that ended means, and says.
    pub(in crate::transport) fn failure(&mut self, ending: &Ending, resend_from: u64) -> Failure {
        let peer = Peer(&self.peer);
        let retry = Verdict::Retry { resend_from, after: None };
        let (verdict, reason) = match ending {
            Ending::Closed => (retry, format!("connection closed by {peer}")),
            Ending::Truncated => (retry, format!("connection closed by {peer} without a TLS goodbye")),
            Ending::Broken(error) => (retry, why(error, &self.peer)),
            Ending::Refused(error) => (tls::verdict(error, resend_from), format!("{peer}: {}", tls::why(error))),
        };
        if matches!(verdict, Verdict::Hold) {
            self.config = None;
        }
        Failure { verdict, reason }
    }
}

/// What a failed or broken connection says, in words fit for a report.
pub(super) fn why(error: &io::Error, peer: &HostPort) -> String {
    let peer = Peer(peer);
    match error.kind() {
        ErrorKind::ConnectionRefused => format!("connection refused by {peer}"),
        ErrorKind::ConnectionReset => format!("connection reset by {peer}"),
        ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => format!("connection closed by {peer}"),
        ErrorKind::TimedOut => format!("no sign of progress from {peer} for {} s", USER_TIMEOUT.as_secs()),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => format!("no route to {peer}"),
        _ => format!("connection to {peer} failed: {error}"),
    }
}

/// One address.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    refuse_ourselves(&stream)?;
    stream.set_nodelay(true)?;
    let millis = u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    // A kernel without one of these still carries lines; it is only slower to notice a dead peer.
    let _ = sys::set_tcp_unsent_limit(&stream, UNSENT);
    let _ = setsockopt(&stream, sockopt::TcpUserTimeout, &millis);
    let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(&stream, sockopt::TcpKeepIdle, &15);
    let _ = setsockopt(&stream, sockopt::TcpKeepInterval, &5);
    let _ = setsockopt(&stream, sockopt::TcpKeepCount, &3);
    Ok(stream)
}

/// A connect to a free port of our own machine can draw that very port as its source, and meets itself (simultaneous
/// open, RFC 9293 section 3.5): all would be acknowledged, by us.
fn refuse_ourselves(stream: &TcpStream) -> io::Result<()> {
    if stream.local_addr()? == stream.peer_addr()? { Err(ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn peer(host: &str, port: u16) -> HostPort {
        HostPort { host: host.into(), port }
    }

    #[tokio::test]
    async fn localhost_is_reached_on_whichever_family_listens() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let names = names::lookup("localhost", port).await.unwrap();
            if !names.contains(&listener.local_addr().unwrap()) {
                continue; // This machine's hosts file gives localhost one family only; the other loop pass checks it.
            }
            let stream = dial(&peer("localhost", port), None).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
            assert!(stream.nodelay().unwrap());
            assert_eq!(nix::sys::socket::getsockopt(&stream, sockopt::TcpUserTimeout).unwrap(), 15_000);
        }
        assert!(!names::lookup("localhost", 1).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn literal_addresses_of_both_families_are_reached() {
        for host in ["127.0.0.1", "::1"] {
            let listener = TcpListener::bind((host, 0)).unwrap();
            let there = peer(host, listener.local_addr().unwrap().port());
            assert!(dial(&there, None).await.is_ok(), "{}", Peer(&there));
        }
    }

    /// A listener whose queue is full, so that whoever else comes gets no answer at all.
    fn black_hole() -> (TcpListener, Vec<std::net::TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Once more, to shorten the queue.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100));
        let queue: Vec<_> = std::iter::from_fn(|| connect().ok()).take(100).collect();
        assert!(queue.len() < 100, "the queue never fills");
        (listener, queue)
    }

    #[tokio::test]
    async fn an_address_that_swallows_everything_costs_a_quarter_of_a_second_47() {
        let (hole, _queue) = black_hole();
        let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let addresses = vec![hole.local_addr().unwrap(), dead, listener.local_addr().unwrap()];
        let begin = Instant::now();
        let stream = race(addresses, &peer("localhost", 514)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        let took = begin.elapsed();
        assert!(took >= HEAD_START && took < CONNECT_TIME / 2, "{took:?}");
    }

    #[tokio::test]
    async fn a_closed_port_is_called_refused_by_name_and_port() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let trouble = dial(&peer("127.0.0.1", port), None).await.unwrap_err();
        assert_eq!(trouble, format!("connection refused by 127.0.0.1:{port}"));
        let trouble = dial(&peer("::1", port), None).await.unwrap_err();
        assert_eq!(trouble, format!("connection refused by [::1]:{port}"));
    }

    #[tokio::test]
    async fn a_connection_to_ourselves_is_refused() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.unwrap();
        assert_eq!(refuse_ourselves(&stream).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_resolved_is_named() {
        let host = "x".repeat(300); // Longer than any name may be, so no resolver asks the network.
        let trouble = dial(&peer(&host, 514), None).await.unwrap_err();
        assert!(trouble.starts_with(&format!("cannot resolve {host}: ")), "{trouble}");
    }
}
