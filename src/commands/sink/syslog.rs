//! Syslog over TCP and UDP.

use super::{Event, Received, Source, frame, server::Hand};
use bytes::BytesMut;
use std::io::ErrorKind;
use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, UdpSocket},
};

/// Reads until the peer's end: a sender that half-closes and waits for our end of file knows then that all was handed over.
pub(super) async fn serve_tcp<F: FnMut(Event)>(mut stream: TcpStream, hand: Hand<F>) {
    let mut buf = BytesMut::new();
    let result = loop {
        buf.reserve(64 << 10);
        match stream.read_buf(&mut buf).await {
            Ok(0) => {
                break frame::rest(buf)
                    .map(|rest| rest.into_iter().for_each(|line| message(&hand, Source::Tcp, &line)));
            }
            Ok(_) => {}
            Err(error) => break Err(format!("{error}; {} bytes of an unfinished frame were let go", buf.len())),
        }
        if let Err(error) = take_frames(&mut buf, &hand) {
            break Err(error);
        }
    };
    if let Err(error) = result {
        hand.trouble(format!("tcp: {error}"));
    }
}

fn take_frames<F: FnMut(Event)>(buf: &mut BytesMut, hand: &Hand<F>) -> Result<(), String> {
    while let Some(frame) = frame::next(buf)? {
        message(hand, Source::Tcp, &frame);
    }
    Ok(())
}

fn message<F: FnMut(Event)>(hand: &Hand<F>, source: Source, bytes: &[u8]) {
    hand.line(Received::from_syslog(source, bytes));
}

/// Takes each datagram as a message, and when stopped those that have come already.
pub(super) async fn serve_udp<F: FnMut(Event)>(socket: UdpSocket, mut hand: Hand<F>) {
    let mut buf = vec![0; 64 << 10];
    loop {
        tokio::select! {
            biased;
            received = socket.recv(&mut buf) => match received {
                Ok(len) => message(&hand, Source::Udp, &buf[..len]),
                Err(error) => hand.trouble(format!("udp: {error}")),
            },
            _ = hand.stopped() => break,
        }
    }
    loop {
        match socket.try_recv(&mut buf) {
            Ok(len) => message(&hand, Source::Udp, &buf[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
}
