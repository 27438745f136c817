//! UDP: one datagram a unit, and no evidence of arrival: everything is *sent* at best.
//!
//! A receiver that is not there may answer by ICMP; the kernel then reports it on a later send, which did not go out.
//! That datagram is tried once more, and counts as sent. What is larger than a datagram can be (or than the route takes, on
//! systems that forbid fragments) is lost as oversize.

use super::{Failure, Payload, Progress, Transport, Verdict};
use crate::{config::HostPort, ledger::Grade, names};
use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};
use tokio::{
    net::UdpSocket,
    time::{Duration, Instant, timeout},
};

/// Time for looking up the name.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
/// After so long without a datagram the name is looked up again: nobody would tell us that the receiver has moved.
const STALE: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Debug)]
pub struct Udp {
    peer: HostPort,
    socket: Option<UdpSocket>,
    epoch: u32,
    sent: u64,
    opened: Option<Instant>,
}

impl Udp {
    /// Looks up and opens nothing yet.
    pub fn new(peer: HostPort) -> Self {
        Self { peer, socket: None, epoch: 0, sent: 0, opened: None }
    }

    async fn open(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.socket.is_some() && self.opened.is_some_and(|at| now < at + STALE) {
            return Ok(());
        }
        match connect(&self.peer).await {
            Ok(socket) => (self.socket, self.epoch) = (Some(socket), self.epoch + 1),
            // The name is gone, but the address we have may do.
            Err(_) if self.socket.is_some() => {}
            Err(error) => return Err(error),
        }
        self.opened = Some(now);
        Ok(())
    }

    fn retry(&self, reason: String) -> Failure {
        Failure { verdict: Verdict::Retry { resend_from: self.sent, after: None }, reason }
    }

    /// One datagram, and once more if a refusal of an earlier one took its place.
    async fn datagram(&self, text: &[u8]) -> Result<(), Failure> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let mut result = socket.send(text).await;
        if result.as_ref().is_err_and(|error| passing(error.kind())) {
            result = socket.send(text).await;
        }
        match result {
            Ok(_) => Ok(()),
            Err(error) if passing(error.kind()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(nix::libc::EMSGSIZE) => Err(Failure {
                verdict: Verdict::Split,
                reason: format!("a line of {} bytes does not fit into a datagram", text.len()),
            }),
            Err(error) => Err(self.retry(format!("sending to {}: {error}", self.peer.host))),
        }
    }
}

/// News of an earlier datagram.
fn passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset)
}

async fn connect(peer: &HostPort) -> io::Result<UdpSocket> {
    let addresses = timeout(LOOKUP_TIME, names::lookup(&peer.host, peer.port))
        .await
        .unwrap_or_else(|_| Err(io::Error::other("no answer to the name lookup")))?;
    let mut result = Err(io::Error::other("it has no address"));
    for address in addresses {
        result = connect_to(address).await;
        if result.is_ok() {
            break;
        }
    }
    result
}

async fn connect_to(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

impl Transport for Udp {
    async fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        self.sent = self.sent.max(payload.position);
        if let Err(error) = self.open().await {
            return Err(self.retry(format!("cannot reach {}: {error}", self.peer.host)));
        }
        let mut start = 0;
        for &end in payload.ends.iter() {
            let end = end as usize;
            let text = payload.body.get(start..end).unwrap_or_default();
            start = end;
            let behind = payload.position + end as u64;
            if behind <= self.sent {
                continue;
            }
            self.datagram(text).await?;
            self.sent = behind;
        }
        Ok(())
    }

    fn progress(&mut self, _now: Instant) -> Option<Progress> {
        (self.epoch > 0).then_some(Progress { epoch: self.epoch, upto: self.sent, grade: Grade::Sent })
    }

    async fn watch(&mut self) -> Result<(), Failure> {
        std::future::pending().await
    }

    async fn finish(&mut self, _deadline: Instant) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::testing::payload;

    async fn pair() -> (UdpSocket, Udp) {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = receiver.local_addr().unwrap().port();
        (receiver, Udp::new(HostPort { host: "127.0.0.1".into(), port }))
    }

    #[tokio::test]
    async fn each_unit_is_a_datagram() {
        let (receiver, mut udp) = pair().await;
        udp.send(&payload(0, &["one", "", "three"])).await.unwrap();
        let mut buffer = [0; 64];
        for expect in ["one", "three"] {
            let length = receiver.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], expect.as_bytes());
        }
        assert_eq!(udp.progress(Instant::now()), Some(Progress { epoch: 1, upto: 8, grade: Grade::Sent }));
    }

    #[tokio::test]
    async fn a_line_larger_than_a_datagram_is_to_be_split_off_after_what_went_out() {
        let (_receiver, mut udp) = pair().await;
        let large = "x".repeat(70_000);
        let failure = udp.send(&payload(10, &["one", &large])).await.unwrap_err();
        assert!(matches!(failure.verdict, Verdict::Split), "{failure:?}");
        assert_eq!(udp.progress(Instant::now()).unwrap().upto, 13);
    }

    #[tokio::test]
    async fn nobody_listening_is_sent_all_the_same() {
        let (receiver, mut udp) = pair().await;
        drop(receiver);
        for position in 0..20 {
            udp.send(&payload(position, &["x"])).await.unwrap();
        }
        assert_eq!(udp.progress(Instant::now()).unwrap().upto, 20);
    }
}
