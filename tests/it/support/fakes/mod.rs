//! Strict fakes of services that cannot be had for a test: each refuses what the real one refuses.
//!
//! A fake is a function from a request to an answer; what it *keeps* is what the real one would have stored. The server
//! beneath speaks HTTP/1.1 with keep-alive, one thread a connection.

pub mod rules;

use flate2::read::GzDecoder;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// A request, its body decompressed.
pub struct Asked {
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// What was sent, decompressed.
    pub body: Vec<u8>,
}

impl Asked {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// One kept line: its sequence number (where the format has a place for it) and its bytes.
pub type Kept = (Option<u64>, Vec<u8>);

/// What a service does with a request: status and body of the answer; what it stores goes into the list.
pub type Rule = Box<dyn FnMut(&Asked, &mut Vec<Kept>) -> (u16, String) + Send>;

struct Shared {
    rule: Mutex<(Rule, Vec<Kept>)>,
    complaints: Mutex<Vec<String>>,
}

/// A running fake.
pub struct Fake {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Fake {
    /// Listens on a free port of the loopback.
    pub fn start(rule: Rule) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { rule: Mutex::new((rule, Vec::new())), complaints: Mutex::default() });
        let here = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&here);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, shared }
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it kept so far, in order, and the refusals (400 and the like) that it spoke.
    pub fn kept(&self) -> (Vec<Kept>, Vec<String>) {
        let kept = self.shared.rule.lock().expect("no panic while held").1.clone();
        (kept, self.shared.complaints.lock().expect("no panic while held").clone())
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let Ok(mut answer) = stream.try_clone() else { return };
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    while let Some(asked) = read_request(&mut reader) {
        let (status, body) = {
            let mut guard = shared.rule.lock().expect("no panic while held");
            let (rule, kept) = &mut *guard;
            rule(&asked, kept)
        };
        if !(200..300).contains(&status) {
            shared.complaints.lock().expect("no panic while held").push(format!("{status} {body}"));
        }
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if answer.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    assert!(line.starts_with("POST "), "{line}");
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut asked = Asked { path, headers, body: Vec::new() };
    let length: usize = asked.header("content-length").expect("a length, not chunks").parse().ok()?;
    let mut raw = vec![0; length];
    reader.read_exact(&mut raw).ok()?;
    match asked.header("content-encoding") {
        Some("gzip") => {
            GzDecoder::new(&raw[..]).read_to_end(&mut asked.body).expect("gzip");
        }
        Some(other) => panic!("content-encoding {other}"),
        None => asked.body = raw,
    }
    Some(asked)
}
