//! An HTTP/1.1 receiver with scripted faults, on std::net alone: keep-alive, a thread for each connection.
//!
//! What counts as received are the lines of requests that the script *takes*: answered with 2xx, or taken and then cut
//! off before the answer (the answer was lost on the way, so the sender must send again).

use super::{
    judge::{Seen, Unit},
    mortal::server_config,
    pause,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::read::GzDecoder;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it had been read.
    pub at: Instant,
    /// Names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The script took its lines.
    pub taken: bool,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What the script does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Takes it: 200.
    Take,
    /// Takes it and answers after this long.
    TakeSlowly(Duration),
    /// Refuses it with this status and these header lines (`Retry-After: 1\r\n`).
    Refuse(u16, &'static str),
    /// Takes it, and closes without an answer.
    TakeAndCut,
    /// Closes without an answer.
    Cut,
    /// Never answers.
    Silence,
}

/// The script: sees the request's number (from 0) and the request.
pub type Script = Box<dyn FnMut(usize, &Request) -> Act + Send>;

struct Shared {
    script: Mutex<Script>,
    requests: Mutex<Vec<Request>>,
    finish: AtomicBool,
    tls: Option<Arc<rustls::ServerConfig>>,
}

/// A running receiver.
pub struct HttpSink {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl HttpSink {
    /// Listens on a free port of the loopback.
    pub fn start(script: impl FnMut(usize, &Request) -> Act + Send + 'static) -> Self {
        Self::serve(script, None)
    }

    fn serve(
        script: impl FnMut(usize, &Request) -> Act + Send + 'static,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            requests: Mutex::default(),
            finish: AtomicBool::new(false),
            tls,
        });
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared }
    }

    /// Takes everything.
    pub fn healthy() -> Self {
        Self::start(|_, _| Act::Take)
    }

    /// Takes everything, over TLS. Its URL says `http:` all the same.
    pub fn healthy_tls() -> Self {
        Self::serve(|_, _| Act::Take, Some(server_config("server")))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://…/logs#name=NAME`.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/logs#name={name}", self.address)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("no panic while held").clone()
    }

    /// Lines taken so far.
    pub fn lines(&self) -> usize {
        let requests = self.shared.requests.lock().expect("no panic while held");
        let lines = |request: &Request| request.body.iter().filter(|&&byte| byte == b'\n').count();
        requests.iter().filter(|request| request.taken).map(lines).sum()
    }

    /// Ends the receiver and says what it took. To be called when the sender has exited.
    pub fn collect(self) -> Seen {
        let mut seen = Seen::default();
        for request in self.requests().iter().filter(|request| request.taken) {
            read_ndjson(&request.body, &mut seen);
        }
        seen
    }
}

impl Drop for HttpSink {
    fn drop(&mut self) {
        self.shared.finish.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; connections end with their sender.
        let _ = TcpStream::connect(self.address);
    }
}

/// Reads a body of one JSON object a line. Panics at the first that is none.
pub fn read_ndjson(body: &[u8], seen: &mut Seen) {
    assert!(body.is_empty() || body.ends_with(b"\n"), "an NDJSON body ends with a newline");
    for line in body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let object: Value = serde_json::from_slice(line)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(line)));
        let Some(seq) = object["seq"].as_u64() else {
            seen.announced += object["lost"].as_u64().unwrap_or_else(|| panic!("neither seq nor lost: {object}"));
            seen.gaps.push(object.to_string());
            continue;
        };
        seen.runs.extend(object["run"].as_str().map(str::to_owned));
        let text = match object["message_base64"].as_str() {
            Some(code) => BASE64_STANDARD.decode(code).expect("message_base64 is base64"),
            None => object["message"].as_str().unwrap_or_else(|| panic!("no message in {object}")).as_bytes().to_vec(),
        };
        let units = if object["stream"] == "lastword" { &mut seen.own } else { &mut seen.units };
        units.push(Unit {
            seq: Some(seq),
            stream: object["stream"].as_str().and_then(|name| name.strip_prefix("std")?.chars().next()),
            text,
            part: object["part"].as_u64().map(|number| (number as u32, object["last"].as_bool().unwrap_or(false))),
        });
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.finish.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        thread::spawn(move || match &shared.tls {
            None => serve(stream, &shared),
            Some(config) => {
                let session = rustls::ServerConnection::new(Arc::clone(config)).expect("good settings");
                serve(rustls::StreamOwned::new(session, stream), &shared);
            }
        });
    }
}

fn serve(stream: impl Read + Write, shared: &Shared) {
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    while let Some(mut request) = read_request(&mut reader) {
        let act = {
            // One lock over script and list: the script's order is the list's order.
            let mut script = shared.script.lock().expect("no panic while held");
            let mut requests = shared.requests.lock().expect("no panic while held");
            let act = script(requests.len(), &request);
            request.taken = matches!(act, Act::Take | Act::TakeSlowly(_) | Act::TakeAndCut);
            requests.push(request);
            act
        };
        let (status, headers) = match act {
            Act::Take => (200, ""),
            Act::TakeSlowly(time) => {
                pause(time);
                (200, "")
            }
            Act::Refuse(status, headers) => (status, headers),
            Act::TakeAndCut | Act::Cut => return,
            Act::Silence => {
                // Until the sender gives up.
                while reader.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {}
                return;
            }
        };
        // One write, so that the head never comes in pieces.
        let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: 0\r\n\r\n");
        let stream = reader.get_mut();
        if stream.write_all(head.as_bytes()).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

/// None at the end of the connection.
fn read_request(reader: &mut BufReader<impl Read + Write>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
    assert!(line.starts_with("POST /logs "), "{line}");
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { at: lastword::clock::now(), headers, body: Vec::new(), taken: false };
    if request.header("expect").is_some() {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if let Some(length) = request.header("content-length") {
        request.body.resize(length.parse().ok()?, 0);
        reader.read_exact(&mut request.body).ok()?;
    } else if request.header("transfer-encoding").is_some() {
        read_chunks(reader, &mut request.body)?;
    }
    if request.header("content-encoding") == Some("gzip") {
        let mut plain = Vec::new();
        GzDecoder::new(&request.body[..]).read_to_end(&mut plain).expect("gzip");
        request.body = plain;
    }
    request.at = lastword::clock::now();
    Some(request)
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let start = body.len();
        body.resize(start + length + 2, 0);
        reader.read_exact(&mut body[start..]).ok()?;
        body.truncate(start + length);
        if length == 0 {
            return Some(());
        }
    }
}

mod tests {
    use super::*;

    fn post(stream: &mut TcpStream, body: &str) -> String {
        let request = format!("POST /logs HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).expect("connected");
        let mut answer = [0; 256];
        let bytes = stream.read(&mut answer).unwrap_or(0);
        String::from_utf8_lossy(&answer[..bytes]).into_owned()
    }

    #[test]
    fn the_script_decides_and_what_it_took_is_what_is_seen() {
        let sink = HttpSink::start(|number, _| match number {
            0 => Act::Refuse(503, "Retry-After: 7\r\n"),
            1 => Act::Take,
            _ => Act::TakeAndCut,
        });
        let mut stream = TcpStream::connect(sink.address).expect("listening");
        let line = |seq| format!(r#"{{"seq":{seq},"stream":"stderr","message":"é"}}"#) + "\n";
        let refused = post(&mut stream, &line(1));
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("Retry-After: 7"), "{refused}");
        assert!(post(&mut stream, &line(2)).starts_with("HTTP/1.1 200"));
        assert_eq!(post(&mut stream, "{\"stream\":\"lastword\",\"lost\":3}\n"), "");
        let seen = sink.collect();
        assert_eq!((seen.gaps.len(), seen.announced), (1, 3));
        let unit = Unit { seq: Some(2), stream: Some('e'), text: "é".as_bytes().to_vec(), part: None };
        assert_eq!(seen.units, [unit]);
    }

    #[test]
    fn base64_and_parts_are_read() {
        let mut seen = Seen::default();
        read_ndjson(b"{\"seq\":1,\"stream\":\"stdout\",\"message\":\"?\",\"message_base64\":\"/w==\",\"part\":2,\"last\":true}\n", &mut seen);
        let unit = Unit { seq: Some(1), stream: Some('o'), text: vec![0xff], part: Some((2, true)) };
        assert_eq!(seen.units, [unit]);
    }
}
