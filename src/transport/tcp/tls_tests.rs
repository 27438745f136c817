//! TLS under the replay window: what may be called safe when a handshake is refused late, or an end is not clean.

use super::*;
use crate::{
    config::{HostPort, TlsTarget},
    ledger::Grade,
    transport::{Verdict, testing::payload},
};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

const CA: &[u8] = include_bytes!("../http/fixtures/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("../http/fixtures/server.pem");
const KEY: &[u8] = include_bytes!("../http/fixtures/server.key");

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// A server for one connection, and a transport that talks to it. It may demand a client certificate, which ours has
/// not; `tickets` are what it sends after a handshake.
fn pair<R: Send + 'static>(
    version: &'static SupportedProtocolVersion,
    demanding: bool,
    tickets: usize,
    serve: impl FnOnce(Tls) -> R + Send + 'static,
) -> (Tcp, JoinHandle<R>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[version]).unwrap();
    let builder = if demanding {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(CA).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    let mut config = builder.with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(KEY).unwrap()).unwrap();
    config.send_tls13_tickets = tickets;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = HostPort { host: "localhost".into(), port: listener.local_addr().unwrap().port() };
    let thread = thread::spawn(move || {
        let session = ServerConnection::new(Arc::new(config)).unwrap();
        serve(StreamOwned::new(session, listener.accept().unwrap().0))
    });
    let tls = Some(TlsTarget { ca_pem: Some(CA.to_vec()), ..TlsTarget::default() });
    // Without a window, whatever counts as acknowledged is accepted at once.
    (Tcp::new(&TcpTarget { replay: Some(0), tls, ..TcpTarget::new(peer) }, 4 << 20), thread)
}

async fn until_it_fails(tcp: &mut Tcp) -> Failure {
    let time = Duration::from_secs(20);
    let failing = async {
        loop {
            if let Err(failure) = tcp.watch().await {
                return failure;
            }
        }
    };
    tokio::time::timeout(time, failing).await.unwrap()
}

#[tokio::test]
async fn a_client_certificate_that_is_missed_late_makes_nothing_safe_and_holds_the_drain() {
    for version in [&TLS13, &TLS12] {
        let (mut tcp, thread) = pair(version, true, 2, |mut tls| tls.read(&mut [0; 100]).unwrap_err().to_string());
        let failure = match tcp.send(&payload(7, &["into the void\n"])).await {
            Ok(()) => until_it_fails(&mut tcp).await,
            Err(failure) => failure,
        };
        assert!(matches!(failure.verdict, Verdict::Hold), "{version:?}: {failure:?}");
        assert!(failure.reason.contains("certificate") || failure.reason.contains("broke TLS off"), "{failure}");
        assert!(tcp.progress(Instant::now()).is_none_or(|progress| progress.upto <= 7), "{version:?}");
        assert!(thread.join().unwrap().contains("certificate"), "the server's view");
    }
}

#[tokio::test]
async fn nothing_counts_before_the_peer_can_have_refused_us() {
    // No ticket says that it did not.
    let (mut tcp, thread) = pair(&TLS13, false, 0, |mut tls| {
        let mut all = Vec::new();
        let _ = tls.read_to_end(&mut all);
        all
    });
    let start = Instant::now();
    tcp.send(&payload(0, &["one\n"])).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), tcp.watch()).await.unwrap().unwrap();
    assert_eq!(tcp.progress(Instant::now()), Some(Progress { epoch: 1, upto: 4, grade: Grade::Accepted }));
    assert!(start.elapsed() >= Duration::from_millis(900), "accepted after {:?}", start.elapsed());
    drop(tcp);
    assert_eq!(thread.join().unwrap(), b"one\n");
}

#[tokio::test]
async fn goodbyes_on_both_sides_confirm_everything_and_without_a_ticket_too() {
    for tickets in [0, 2] {
        let (mut tcp, thread) = pair(&TLS13, false, tickets, |mut tls| {
            let mut all = Vec::new();
            let clean = tls.read_to_end(&mut all).is_ok();
            tls.conn.send_close_notify();
            let _ = tls.conn.complete_io(&mut tls.sock);
            (clean, all.len())
        });
        let long = "x".repeat(100_000) + "\n";
        let start = Instant::now();
        tcp.send(&payload(0, &[&long, "two\n"])).await.unwrap();
        tcp.finish(Instant::now() + Duration::from_secs(10)).await.unwrap();
        assert_eq!(tcp.progress(Instant::now()), Some(Progress { epoch: 1, upto: 100_005, grade: Grade::Confirmed }));
        assert_eq!(thread.join().unwrap(), (true, 100_005), "our goodbye came, too");
        assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn an_end_without_a_goodbye_is_no_orderly_close() {
    let (mut tcp, thread) = pair(&TLS13, false, 2, |mut tls| tls.read(&mut [0; 100]).unwrap());
    tcp.send(&payload(0, &["one\n"])).await.unwrap();
    let failure = until_it_fails(&mut tcp).await;
    assert!(matches!(failure.verdict, Verdict::Retry { after: None, .. }), "{failure:?}");
    assert!(failure.reason.ends_with("without a TLS goodbye"), "{failure}");
    assert_eq!(thread.join().unwrap(), 4);
}
