//! Proxies: a small one of our own, which forwards, tunnels and wants a password.

use super::*;
use crate::{config::Proxy, format::Format, transport::testing::payload};
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

const CA: &[u8] = include_bytes!("fixtures/ca.pem");
/// `user:s3cret`, as a proxy wants it.
const BASIC: &str = "Basic dXNlcjpzM2NyZXQ=";

/// A proxy that knows one target, and writes down the heads of the requests that it got.
struct Small {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Small {
    /// Leads to `target` and answers with `refusal` where there is one.
    async fn start(target: u16, refusal: Option<&'static str>) -> Self {
        Self::start_over(target, refusal, None).await
    }

    /// The same, over TLS or not.
    async fn start_over(target: u16, refusal: Option<&'static str>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let small = Self { port: listener.local_addr().unwrap().port(), heads: Arc::default() };
        let heads = Arc::clone(&small.heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, heads) = (tls.clone(), Arc::clone(&heads));
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => pass(tls.accept(stream).await.unwrap(), target, refusal, heads).await,
                        None => pass(stream, target, refusal, heads).await,
                    }
                });
            }
        });
        small
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn pass(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    target: u16,
    refusal: Option<&str>,
    heads: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let text = String::from_utf8(head).unwrap();
    heads.lock().unwrap().push(text.clone());
    let is_known = text.to_ascii_lowercase().contains(&format!("proxy-authorization: {}\r\n", BASIC.to_lowercase()));
    if !is_known || refusal.is_some() {
        let status = refusal.unwrap_or("407 Proxy Authentication Required");
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
        // Reads what still comes, so that nothing unread makes a reset of the end.
        let _ = timeout(Duration::from_millis(50), stream.read_to_end(&mut Vec::new())).await;
        return;
    }
    let mut there = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
    if text.starts_with("CONNECT ") {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    } else {
        there.write_all(text.as_bytes()).await.unwrap();
    }
    let _ = copy_bidirectional(&mut stream, &mut there).await;
}

/// Answers each request on each connection with 204; says its port.
async fn plain_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut text = Vec::new();
                while let Ok(byte) = stream.read_u8().await {
                    text.push(byte);
                    if text.ends_with(b"last\n") {
                        text.clear();
                        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                    }
                }
            });
        }
    });
    port
}

fn http(url: &str, proxy: &str) -> Http {
    let mut target = HttpTarget::new(url.parse().unwrap());
    target.proxy = Some(Proxy { url: proxy.parse().unwrap(), variable: "HTTPS_PROXY" });
    target.tls.ca_pem = Some(CA.to_vec());
    Http::new(target, Format::Raw.protocol())
}

/// Sends one line.
async fn send(http: &mut Http) -> Result<(), Failure> {
    http.send(&payload(0, &["last\n"])).await
}

#[tokio::test]
async fn https_goes_through_a_tunnel_and_http_as_a_whole_url_with_the_proxys_credentials_35() {
    let secure = tls_tests::serve();
    let proxy = Small::start(secure, None).await;
    let mut through =
        http(&format!("https://localhost:{secure}/in"), &format!("http://user:s3cret@127.0.0.1:{}", proxy.port));
    send(&mut through).await.unwrap();
    let head = &proxy.heads()[0];
    assert!(head.starts_with(&format!("CONNECT localhost:{secure} HTTP/1.1\r\n")), "{head}");
    let plain = plain_server().await;
    let proxy = Small::start(plain, None).await;
    let url = format!("http://logs.example:{plain}/in?a=b");
    let mut through = http(&url, &format!("http://user:s3cret@127.0.0.1:{}", proxy.port));
    send(&mut through).await.unwrap();
    send(&mut through).await.unwrap();
    let heads = proxy.heads();
    assert_eq!(heads.len(), 1, "one connection serves several requests");
    assert!(heads[0].starts_with(&format!("POST {url} HTTP/1.1\r\n")), "{}", heads[0]);
}

#[tokio::test]
async fn a_proxy_may_be_reached_over_tls_itself_and_speaks_the_old_http_35() {
    // It would take HTTP/2, which a tunnel is not made of here; the server behind it does.
    let tls = http2_server::acceptor(&["h2", "http/1.1"]);
    let server = http2_server::Server::start(&["h2"], &[]).await;
    let proxy = Small::start_over(server.port, None, Some(tls.clone())).await;
    let mut through = server.http();
    let url = format!("https://user:s3cret@127.0.0.1:{}", proxy.port).parse().unwrap();
    through.target.proxy = Some(Proxy { url, variable: "HTTPS_PROXY" });
    send(&mut through).await.unwrap();
    assert_eq!((proxy.heads().len(), server.seen().len()), (1, 1));
    // `#servername=` is the target's name, and the proxy goes by its own.
    through.target.tls.servername = Some("logs.example".into());
    through.dialer.forget();
    let failure = send(&mut through).await.unwrap_err();
    assert!(failure.reason.contains("its TLS certificate is for another name"), "{failure:?}");
    assert_eq!((proxy.heads().len(), server.seen().len()), (2, 1));
    let plain = plain_server().await;
    let proxy = Small::start_over(plain, None, Some(tls)).await;
    let mut through = http("http://logs.example/in", &format!("https://user:s3cret@localhost:{}", proxy.port));
    send(&mut through).await.unwrap();
    assert!(proxy.heads()[0].starts_with("POST http://logs.example/in HTTP/1.1"));
}

#[tokio::test]
async fn a_proxy_that_wants_other_credentials_holds_the_drain_and_shows_none_35() {
    let proxy = Small::start(1, None).await;
    for url in ["https://logs.example/in", "http://logs.example/in"] {
        for user in ["", "user:wr0ng@"] {
            let mut through = http(url, &format!("http://{user}127.0.0.1:{}", proxy.port));
            let failure = send(&mut through).await.unwrap_err();
            assert!(matches!(failure.verdict, Verdict::Hold), "{failure:?}");
            let shown =
                format!("logs.example by the proxy 127.0.0.1:{}: 407 Proxy Authentication Required", proxy.port);
            assert!(failure.reason.starts_with(&shown), "{}", failure.reason);
            assert!(failure.reason.contains("HTTPS_PROXY"), "{}", failure.reason);
            let debug = format!("{failure:?} {through:?}");
            assert!(!debug.contains("wr0ng") && !debug.contains("dXNlcjp"), "{debug}");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_is_down_or_cannot_reach_the_target_is_weather_35() {
    let down = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let lost = Small::start(1, Some("502 Bad Gateway")).await;
    for port in [down, lost.port] {
        for url in ["https://logs.example/in", "http://logs.example/in"] {
            let mut through = http(url, &format!("http://user:s3cret@127.0.0.1:{port}"));
            let failure = send(&mut through).await.unwrap_err();
            assert!(matches!(failure.verdict, Verdict::Retry { .. }), "{failure:?}");
            assert!(!format!("{failure:?} {through:?}").contains("s3cret"), "{failure:?}");
            let shown = format!("logs.example by the proxy 127.0.0.1:{port}: ");
            assert!(failure.reason.starts_with(&shown), "{}", failure.reason);
        }
    }
}

#[tokio::test]
async fn a_socks_proxy_gets_the_name_and_the_password_35() {
    let plain = plain_server().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // RFC 1928 and RFC 1929: greeting, user and password, the name to connect to.
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 256];
        let methods = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[0] == 5 && buffer[2..methods].contains(&2), "{:?}", &buffer[..methods]);
        stream.write_all(&[5, 2]).await.unwrap();
        let length = stream.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"\x01\x04user\x06s3cret");
        stream.write_all(&[1, 0]).await.unwrap();
        let length = stream.read(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..4], &buffer[5..length - 2]), (&[5, 1, 0, 3][..], &b"logs.example"[..]));
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let mut there = TcpStream::connect(("127.0.0.1", plain)).await.unwrap();
        let _ = copy_bidirectional(&mut stream, &mut there).await;
    });
    let mut through = http("http://logs.example/in", &format!("socks5h://user:s3cret@127.0.0.1:{port}"));
    send(&mut through).await.unwrap();
    drop(through);
    server.await.unwrap();
}
