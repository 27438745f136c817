//! The receivers against hand-written clients.

use super::*;
use crate::{
    format::{
        Encoder, Format,
        syslog::{Framing, escaped},
        testing::*,
    },
    line::Unit,
};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream, UdpSocket},
    sync::mpsc::{Receiver, channel},
};

const PATIENCE: Duration = Duration::from_secs(10);

fn start() -> (Sink, Receiver<Event>) {
    let (sender, receiver) = channel();
    let sink = Sink::start(&SinkOptions::ephemeral(), move |event| sender.send(event).unwrap_or_default()).unwrap();
    (sink, receiver)
}

fn next_line(events: &Receiver<Event>) -> Received {
    match events.recv_timeout(PATIENCE).unwrap() {
        Event::Line(received) => received,
        Event::Trouble(text) => panic!("{text}"),
    }
}

fn connect(sink: &Sink, source: Source) -> TcpStream {
    let stream = TcpStream::connect(sink.address(source).unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a request and returns the status line. The connection is closed by the server (`Connection: close`).
fn exchange(sink: &Sink, head: &str, body: &[u8]) -> String {
    let mut stream = connect(sink, Source::Http);
    let head = format!("{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

fn encoded(format: Format, texts: &[&[u8]]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(format, origin()), Vec::new());
    for (seq, text) in (1..).zip(texts) {
        encoder.encode(&Unit { ..unit(seq, text) }, &mut out);
    }
    out
}

const TEXTS: [&[u8]; 4] = [b"one", b"", b"\xff\0\x1b[0m", b"last"];

#[test]
fn lines_of_a_body_are_handed_over_before_the_answer() {
    let (sink, events) = start();
    let status = exchange(&sink, "POST /any/path?x=1 HTTP/1.1", &encoded(Format::Ndjson, &TEXTS));
    assert_eq!(status, "HTTP/1.1 204 No Content");
    let received: Vec<_> = events.try_iter().collect();
    assert_eq!(received.len(), TEXTS.len());
    for ((event, text), seq) in received.into_iter().zip(TEXTS).zip(1..) {
        let Event::Line(received) = event else { panic!("{event:?}") };
        assert_eq!((received.source, received.seq), (Source::Http, Some(seq)));
        assert_eq!(received.text, text);
    }
    assert_eq!(sink.stop(PATIENCE), SinkCounts { http: 4, tcp: 0, udp: 0 });
}

#[test]
fn other_requests_are_answered_with_what_is_wrong() {
    let (sink, _events) = start();
    assert_eq!(exchange(&sink, "GET / HTTP/1.1", b""), "HTTP/1.1 200 OK");
    assert_eq!(exchange(&sink, "DELETE / HTTP/1.1", b""), "HTTP/1.1 405 Method Not Allowed");
    let status = exchange(&sink, "POST / HTTP/1.1\r\nContent-Encoding: gzip", b"x");
    assert_eq!(status, "HTTP/1.1 415 Unsupported Media Type");
    assert_eq!(sink.counts(), SinkCounts::default());
}

#[test]
fn syslog_comes_in_both_framings_on_one_connection_and_its_end_is_answered() {
    let (sink, events) = start();
    let mut stream = connect(&sink, Source::Tcp);
    stream.write_all(&encoded(Format::Syslog(Framing::Counted), &TEXTS)).unwrap();
    stream.write_all(&encoded(Format::Syslog(Framing::Lf), &TEXTS)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "a clean end of file");
    let received: Vec<_> = events.try_iter().collect();
    assert_eq!(received.len(), 2 * TEXTS.len(), "all was handed over before the end of file");
    for ((event, text), seq) in received.into_iter().zip(TEXTS.iter().cycle()).zip((1..=4).cycle()) {
        let Event::Line(received) = event else { panic!("{event:?}") };
        assert_eq!(
            (received.source, received.seq, received.stream.as_deref()),
            (Source::Tcp, Some(seq), Some("stdout"))
        );
        assert_eq!(received.text, *escaped(Framing::Lf, text));
    }
}

#[test]
fn a_cut_frame_is_told_and_the_others_are_kept() {
    let (sink, events) = start();
    let mut stream = connect(&sink, Source::Tcp);
    stream.write_all(b"6 <13>ab99 <13>cut").unwrap();
    drop(stream);
    assert_eq!(next_line(&events).text, b"ab");
    let Event::Trouble(text) = events.recv_timeout(PATIENCE).unwrap() else { panic!("no complaint") };
    assert!(text.contains("ended inside a frame"), "{text}");
    assert_eq!(sink.counts().tcp, 1);
}

#[test]
fn a_datagram_is_a_line() {
    let (sink, events) = start();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let message = encoded(Format::Syslog(Framing::Datagram), &[b"hello"]);
    client.send_to(&message, sink.address(Source::Udp).unwrap()).unwrap();
    let received = next_line(&events);
    assert_eq!((received.source, received.seq), (Source::Udp, Some(1)));
    assert_eq!(received.text, b"hello");
    assert_eq!(received.raw, message);
}

#[test]
fn a_stop_reads_open_connections_to_their_end_and_leaves_idle_ones() {
    let (sink, events) = start();
    let idle = connect(&sink, Source::Http);
    let mut busy = connect(&sink, Source::Tcp);
    busy.write_all(b"<13>first\n").unwrap();
    assert_eq!(next_line(&events).text, b"first");
    let client = std::thread::spawn(move || {
        busy.write_all(b"<13>second\n").unwrap();
        drop(busy);
    });
    assert_eq!(sink.stop(PATIENCE).tcp, 2);
    client.join().unwrap();
    drop(idle);
}

#[test]
fn a_taken_address_is_named_with_its_option() {
    let (sink, _events) = start();
    let taken = sink.address(Source::Tcp);
    let error = Sink::start(&SinkOptions { http: None, tcp: taken, udp: None }, |_| {}).err().unwrap();
    assert!(error.to_string().starts_with(&format!("--tcp {}: Address", taken.unwrap())), "{error}");
}

#[test]
fn a_receiver_that_was_left_out_is_not_there() {
    let sink = Sink::start(&SinkOptions { http: None, ..SinkOptions::ephemeral() }, |_| {}).unwrap();
    assert_eq!(sink.address(Source::Http), None);
    assert_eq!(sink.addresses().len(), 2);
}
