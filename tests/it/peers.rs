//! Real receivers from PyPI, installed under target/peers by `scripts/peers`: an OTLP receiver (rotel) and a dialect of
//! Elasticsearch's `_bulk` (noida-db). What they say they got is compared with what was written, byte by byte.

use crate::{
    formats::{LINES, hostile, run, same_lines},
    support::{daemons::free_ports, fakes::Kept, until},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(60);

fn peer(path: &str) -> String {
    let path = format!("{}/target/peers/{path}", env!("CARGO_MANIFEST_DIR"));
    assert!(fs::exists(&path).is_ok_and(|found| found), "{path} is missing: run scripts/peers");
    path
}

/// What rotel printed of each record: `Body: Str(…)` or `Body: Bytes([1, 2])`.
fn bodies(log: &[u8]) -> Vec<Kept> {
    let mut kept = Vec::new();
    for line in log.split(|&byte| byte == b'\n') {
        let Some(body) = line.strip_prefix(b"Body: ") else { continue };
        let inner = |name: &[u8]| body.strip_prefix(name)?.strip_suffix(b")");
        if let Some(text) = inner(b"Str(") {
            kept.push((None, text.to_vec()));
        } else if let Some(list) = inner(b"Bytes([").and_then(|list| list.strip_suffix(b"]")) {
            let list = String::from_utf8_lossy(list).into_owned();
            kept.push((None, list.split(", ").map(|byte| byte.parse().expect("a byte")).collect()));
        } else {
            panic!("{}", String::from_utf8_lossy(line));
        }
    }
    kept
}

#[test]
fn rotel_gets_every_line_as_protobuf_and_as_json() {
    for options in ["", "#encoding=json", "#compress=off"] {
        let [http, grpc] = free_ports();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("log");
        let words = ["start", "--exporter", "blackhole", "--debug-log", "logs", "--debug-log-verbosity", "detailed"];
        let mut rotel = Command::new(peer("rotel/rotel-agent"))
            .args(words)
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .stdin(Stdio::null())
            .stdout(File::create(&log).expect("a fresh file"))
            .stderr(Stdio::null())
            .spawn()
            .expect("rotel starts");
        until("rotel to listen", LIMIT, || TcpStream::connect(("127.0.0.1", http)).is_ok());
        let done = run(&format!("otlp+http://127.0.0.1:{http}{options}"));
        let mut kept = Vec::new();
        until("rotel to print all records", LIMIT, || {
            kept = bodies(&fs::read(&log).unwrap_or_default());
            kept.len() >= LINES
        });
        rotel.kill().and_then(|()| rotel.wait()).expect("our own child");
        same_lines(&format!("rotel{options}"), &kept);
        assert_eq!(done.report.expect("a report").drains[0].confirmed, LINES as u64);
    }
}

fn get(port: u16, request: &str, body: &str) -> Value {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let head =
        format!("Host: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
    stream.write_all(format!("{request} HTTP/1.1\r\n{head}\r\n\r\n{body}").as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    let start = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    serde_json::from_slice(&answer[start..]).unwrap_or(Value::Null)
}

/// Ends it, also after a failure: it runs in the background.
struct NoidaDb {
    program: String,
    data: String,
}

impl NoidaDb {
    fn does(&self, words: &[&str]) -> bool {
        let mut command = Command::new(&self.program);
        command.args(words).args(["--data-dir", &self.data]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for NoidaDb {
    fn drop(&mut self) {
        self.does(&["down"]);
    }
}

#[test]
fn noida_db_has_each_line_as_a_document_under_its_own_id() {
    let [port] = free_ports();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let noida = NoidaDb { program: peer("noida_db/noida-db"), data: dir.path().display().to_string() };
    let port_text = port.to_string();
    assert!(noida.does(&["up", "--only", "elasticsearch", "--elasticsearch-port", &port_text]), "noida-db starts");
    until("noida-db to listen", LIMIT, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let done = run(&format!("elastic+http://127.0.0.1:{port}/logs-test"));
    get(port, "POST /logs-test/_refresh", "");
    let answer = get(port, &format!("POST /logs-test/_search?size={LINES}"), "{\"query\":{\"match_all\":{}}}");
    drop(noida);
    let mut kept: Vec<Kept> = Vec::new();
    for hit in answer["hits"]["hits"].as_array().expect("hits") {
        let source = &hit["_source"];
        let seq = source["event.sequence"].as_u64();
        assert!(hit["_id"].as_str().is_some_and(|id| id.ends_with(&format!("-{}", seq.expect("a number")))), "{hit}");
        let text = match source["message_base64"].as_str() {
            Some(code) => BASE64_STANDARD.decode(code).expect("base64"),
            None => source["message"].as_str().expect("a message").as_bytes().to_vec(),
        };
        kept.push((seq, text));
    }
    kept.sort();
    assert!(kept.iter().any(|(_, text)| *text == hostile(4)));
    same_lines("noida-db", &kept);
    assert_eq!(done.report.expect("a report").drains[0].confirmed, LINES as u64);
}
