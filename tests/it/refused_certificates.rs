//! Certificates that are not taken: over every transport with TLS the same words, with the remedy where there is one.

use crate::support::{certificates, drain::Drain, lines::Shape, mortal::server_config, ms};
use rustls::{ServerConnection, StreamOwned};
use std::{
    io::Read,
    net::{SocketAddr, TcpListener},
    thread,
};

/// Shows this certificate of [`certificates`] to whoever comes.
fn shows(name: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let config = server_config(name);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let session = ServerConnection::new(config.clone()).expect("good settings");
            let _ = StreamOwned::new(session, stream.expect("accepted")).read_to_end(&mut Vec::new());
        }
    });
    address
}

#[test]
fn a_certificate_that_is_not_taken_is_named_in_plain_words_over_every_transport_43() {
    let ca = format!("ca={}", certificates::file("ca.pem").display());
    let cases = [
        ("server", "name=a".to_owned(), "its TLS certificate is from an unknown issuer (`#ca=` can name it)"),
        ("other", ca.clone(), "its TLS certificate is a root's, signed by itself (`#fingerprint=` can name it)"),
        ("expired", ca.clone(), "its TLS certificate has expired"),
        (
            "server",
            format!("{ca},servername=logs.example"),
            "its TLS certificate is for another name (`#servername=` can name it)",
        ),
    ];
    for scheme in ["https", "otlp+https", "syslog+tls", "relp+tls", "gelf+tls"] {
        for (certificate, options, words) in &cases {
            let address = shows(certificate);
            let mut drain = Drain::start(&format!("{scheme}://{address}#{options}"));
            drain.write(1, Shape::Plain);
            assert_eq!(drain.held(), format!("{address}: {words}"), "{scheme}");
            let (books, ..) = drain.finish(ms(100));
            assert_eq!((books.read, books.lost()), (1, 1), "{scheme}: {books:?}");
        }
    }
}
