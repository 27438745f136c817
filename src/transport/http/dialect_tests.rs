//! What formats make of the transport: encodings, headers, answers that speak of each item.

use super::{
    tests::{Reply, Server, confirmed, ok, status},
    *,
};
use crate::{
    format::Format,
    transport::{ItemVerdict, testing::payload},
};

fn answer(line: &str, body: &str) -> Reply {
    Reply::Bytes(format!("HTTP/1.1 {line}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

/// A transport for this format, with its own default encoding.
fn speaking(server: &Server, format: Format) -> Http {
    let mut url: Url = format!("http://{}/", server.address).parse().unwrap();
    let protocol = format.protocol();
    protocol.complete(&mut url);
    let compress = protocol.compress[0];
    Http::new(HttpTarget { compress, ..HttpTarget::new(url) }, protocol)
}

#[tokio::test]
async fn bodies_are_compressed_until_the_receiver_says_that_it_cannot_read_them() {
    let server = Server::start(vec![ok(), status("415 Unsupported Media Type"), ok(), ok()]).await;
    let mut http = speaking(&server, Format::Loki);
    let text = "x".repeat(5000);
    for position in [0, 5000, 10_000] {
        http.send(&payload(position, &[&text])).await.unwrap();
    }
    let seen = server.seen();
    let encodings: Vec<_> = seen.iter().map(|request| request.header("content-encoding")).collect();
    assert_eq!(encodings, [Some("gzip"), Some("gzip"), None, None]);
    assert!(seen[0].body.len() < 500 && seen[0].body[..] == seen[1].body[..], "the same text, the same bytes");
    assert_eq!(seen[2].body, text.as_bytes());
    assert!(seen[0].head.starts_with("POST /loki/api/v1/push "), "{}", seen[0].head);
}

#[tokio::test]
async fn a_format_reads_verdicts_for_each_item_out_of_a_success() {
    let body =
        r#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":429}},{"create":{"status":400}}]}"#;
    let server = Server::start(vec![answer("200 OK", body)]).await;
    let mut http = speaking(&server, Format::Elastic);
    let failure = http.send(&payload(0, &["a\n", "b\n", "c\n"])).await.unwrap_err();
    let Verdict::Items { items, after: None } = failure.verdict else { panic!("{failure:?}") };
    assert_eq!(items, [ItemVerdict::Stored, ItemVerdict::Retry, ItemVerdict::Rejected]);
    assert_eq!(confirmed(&mut http), 0);
}

#[tokio::test]
async fn a_payload_of_logplex_carries_its_count_and_an_id_that_is_equal_on_retry() {
    let server = Server::start(vec![status("503 X"), ok()]).await;
    let mut http = speaking(&server, Format::Logplex(crate::format::logplex::Data::Omit));
    let payload = payload(0, &["1 a", "1 b"]);
    assert!(http.send(&payload).await.is_err());
    http.send(&payload).await.unwrap();
    for request in server.seen() {
        let headers = ["content-type", "logplex-msg-count", "logplex-frame-id"].map(|name| request.header(name));
        assert_eq!(headers, [Some("application/logplex-1"), Some("2"), Some("key-0")]);
        assert!(request.header("logplex-drain-token").is_some_and(|token| token.starts_with("d.")));
    }
}
