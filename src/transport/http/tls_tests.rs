//! HTTPS against a small TLS server with a certificate of our own.

use super::*;
use crate::transport::testing::payload;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
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
fn serve() -> u16 {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
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
    let ca_pem = ca.map(<[u8]>::to_vec);
    Http::new(
        HttpTarget {
            url,
            headers: vec![],
            ca_pem,
            timeout: Duration::from_secs(10),
            compress: crate::format::http::Compress::Off,
        },
        crate::format::Format::Raw.protocol(),
    )
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
