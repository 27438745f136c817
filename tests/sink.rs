//! `lastword sink`, as a person runs it.

#![expect(clippy::unwrap_used, reason = "a test may")]

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpStream, UdpSocket},
    process::{Child, ChildStderr, Command, Stdio},
};

struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// The `--drain` URLs that it printed: http, tcp, udp.
    urls: Vec<String>,
}

fn start() -> Running {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lastword"))
        .args(["sink", "--http", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut urls = Vec::new();
    while urls.len() < 3 {
        let mut line = String::new();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended before it printed its URLs");
        urls.extend(line.trim().split_once("--drain ").map(|(_, url)| url.to_owned()));
    }
    Running { child, stderr, urls }
}

fn address(url: &str) -> &str {
    url.split_once("://").unwrap().1.trim_end_matches('/')
}

fn post(url: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address(url)).unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn lines_are_printed_with_their_source_and_counted_at_the_end() {
    let Running { mut child, mut stderr, urls } = start();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    assert!(
        urls[0].starts_with("http://") && urls[1].starts_with("syslog+tcp://") && urls[2].starts_with("syslog+udp://")
    );
    let answer = post(&urls[0], "{\"stream\":\"stdout\",\"seq\":42,\"message\":\"GET /cart\"}\nplain\n");
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    TcpStream::connect(address(&urls[1])).unwrap().write_all(b"<13>1 - h a 1 stderr - over tcp\n").unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"<13>over udp", address(&urls[2])).unwrap();
    let mut shown = BTreeSet::new();
    for _ in 0..4 {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        shown.insert(line);
    }
    let expected = [
        "http  -              -  plain\n",
        "http  stdout        42  GET /cart\n",
        "tcp   stderr         -  over tcp\n",
        "udp   -              -  over udp\n",
    ];
    assert_eq!(shown.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(said, "lastword: sink: lines received: http 2, tcp 1, udp 1\n");
}

#[test]
fn a_closed_stdout_ends_it() {
    let Running { mut child, urls, .. } = start();
    drop(child.stdout.take());
    post(&urls[0], "hello\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
