//! The other ends of the drains: as cheap as they can be, in threads of the bench.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

/// A receiver on a port of its own; its thread ends with the bench.
pub(crate) fn serve(handle: fn(TcpStream)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || handle(stream.unwrap()));
        }
    });
    port
}

/// Reads to the end.
pub(crate) fn discard(mut stream: TcpStream) {
    let mut buffer = vec![0; 1 << 20];
    while let Ok(1..) = stream.read(&mut buffer) {}
}

/// Answers 204 to each request with a Content-Length.
pub(crate) fn answer(stream: TcpStream) {
    let mut input = BufReader::with_capacity(1 << 20, stream.try_clone().unwrap());
    let mut output = stream;
    let mut length = 0;
    let mut header = String::new();
    while input.read_line(&mut header).is_ok_and(|count| count > 0) {
        let line = header.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        header.clear();
        if line.is_empty() {
            std::io::copy(&mut (&mut input).take(length), &mut std::io::sink()).unwrap();
            output.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        }
    }
}
