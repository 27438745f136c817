//! HTTPS against a small TLS server with a certificate of our own.

use super::*;
use crate::{config::Identity, transport::testing::payload};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
    thread,
};

const CA: &[u8] = include_bytes!("fixtures/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("fixtures/server.pem");
const KEY: &[u8] = include_bytes!("fixtures/server.key");

/// Answers one request on each connection; returns the port.
pub(super) fn serve() -> u16 {
    serve_as(false, &TLS13)
}

/// The same; it may demand a client certificate.
fn serve_as(demanding: bool, version: &'static SupportedProtocolVersion) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = |pem| CertificateDer::from_pem_slice(pem).unwrap();
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[version]).unwrap();
    let builder = if demanding {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(CA)).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let config = Arc::new(builder.with_single_cert(vec![certificate(CERTIFICATE)], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream.unwrap());
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.ends_with(b"last\n") {
                match tls.read(&mut buffer) {
                    Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
                    _ => break,
                }
            }
            let _ = tls.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            let _ = tls.flush();
        }
    });
    port
}

fn https(host: &str, port: u16, ca: Option<&[u8]>) -> Http {
    let url = format!("https://{host}:{port}/").parse().unwrap();
    let mut target = HttpTarget::new(url);
    target.tls.ca_pem = ca.map(<[u8]>::to_vec);
    Http::new(target, crate::format::Format::Raw.protocol())
}

#[tokio::test]
async fn a_root_certificate_that_the_user_named_is_trusted() {
    let port = serve();
    for host in ["localhost", "127.0.0.1"] {
        let mut http = https(host, port, Some(CA));
        http.send(&payload(0, &["first\n", "last\n"])).await.unwrap();
        assert_eq!(http.progress(Instant::now()).unwrap().upto, 11);
    }
}

#[tokio::test]
async fn an_unknown_issuer_and_a_wrong_name_hold_the_drain_and_never_fall_back() {
    let port = serve();
    for (host, ca) in [("localhost", None), ("wrong.localhost", Some(CA))] {
        let failure = https(host, port, ca).send(&payload(0, &["last\n"])).await.unwrap_err();
        assert!(matches!(failure.verdict, Verdict::Hold), "{failure:?}");
        assert!(failure.reason.contains("certificate"), "{}", failure.reason);
    }
}

#[tokio::test]
async fn a_server_name_stands_for_that_of_the_url() {
    let port = serve();
    let mut http = https("wrong.localhost", port, Some(CA));
    http.target.tls.servername = Some("localhost".into());
    http.send(&payload(0, &["last\n"])).await.unwrap();
    // The host's own name is not good enough then.
    let mut http = https("localhost", port, Some(CA));
    http.target.tls.servername = Some("logs.example".into());
    let failure = http.send(&payload(0, &["last\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Hold), "{failure:?}");
    assert!(failure.reason.ends_with("is for another name (`#servername=` can name it)"), "{failure:?}");
}

/// What holds the drain. A reset may overtake the alert, which then shows at a later try; it says what that may mean.
async fn refusal(http: &mut Http, text: &str) -> String {
    for _ in 0..20 {
        let failure = http.send(&payload(0, &[text])).await.unwrap_err();
        assert!(failure.reason.contains("TLS client certificate"), "{}", failure.reason);
        if matches!(failure.verdict, Verdict::Hold) {
            return failure.reason;
        }
    }
    panic!("never held");
}

#[tokio::test]
async fn a_certificate_that_is_demanded_and_missing_or_wrong_holds_the_drain_and_says_so() {
    for version in [&TLS12, &TLS13] {
        let port = serve_as(true, version);
        let mut http = https("localhost", port, Some(CA));
        let large = "x".repeat(100_000);
        // More than fits into a socket's buffers at once, too: the refusal comes while we still write.
        for text in ["last\n", &large] {
            let reason = refusal(&mut http, text).await;
            assert!(reason.contains("it wants a TLS client certificate"), "{reason}");
        }
        // Files that appear are found: they are read again after a refusal.
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("client.pem"), dir.path().join("client.key"));
        http.target.tls.identity = Some(Identity { cert: cert.clone(), key: key.clone() });
        let failure = http.send(&payload(0, &["last\n"])).await.unwrap_err();
        assert!(matches!(failure.verdict, Verdict::Hold) && failure.reason.contains("client.key"), "{failure:?}");
        std::fs::write(cert, CERTIFICATE).unwrap();
        std::fs::write(key, KEY).unwrap();
        // One that is for servers is not taken. (The right one: `tests/it/http_nginx.rs`.)
        let reason = refusal(&mut http, "last\n").await;
        assert!(reason.contains("it refused our TLS client certificate"), "{reason}");
    }
}

#[tokio::test]
async fn a_fingerprint_takes_the_place_of_roots_and_names() {
    let port = serve();
    let mut http = https("wrong.localhost", port, None);
    http.target.tls.fingerprint = Some([7; 32]);
    let failure = http.send(&payload(0, &["last\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Hold), "{failure:?}");
    let digits = failure.reason.rsplit_once("sha256:").expect("the one it has").1;
    let mut fingerprint = [0; 32];
    for (index, byte) in fingerprint.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).unwrap();
    }
    http.target.tls.fingerprint = Some(fingerprint);
    http.dialer.forget();
    http.send(&payload(0, &["last\n"])).await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_weather() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let failure = https("localhost", port, Some(CA)).send(&payload(0, &["last\n"])).await.unwrap_err();
    assert!(matches!(failure.verdict, Verdict::Retry { .. }), "{failure:?}");
}
