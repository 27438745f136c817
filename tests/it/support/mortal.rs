//! A syslog receiver with faults, over TCP or TLS, of counted frames or RELP: each connection has a fate.
//!
//! What counts as received is what this application read whole (and, for RELP, was about to answer) before it died.

use super::{
    certificates,
    fate::{Kind, reset},
    syslog::Frames,
};
use rustls::{
    ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// What RELP knows beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relp {
    /// Reads so many messages, answers none of them, and closes: the answers are lost on the way.
    AnswersLost(usize),
    /// Ends the session after so many messages.
    ServerClose(usize),
}

impl Kind for Relp {
    fn kind(&self) -> &'static str {
        match self {
            Self::AnswersLost(_) => "answers lost",
            Self::ServerClose(_) => "serverclose",
        }
    }
}

type Fate = super::fate::Fate<Relp>;

/// How it talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speech {
    /// RELP, not counted frames.
    pub relp: bool,
    /// Over TLS.
    pub tls: bool,
}

#[derive(Default)]
struct Shared {
    messages: Mutex<Vec<Vec<u8>>>,
    met: Mutex<BTreeMap<&'static str, u32>>,
    stop: AtomicBool,
}

/// A running receiver.
pub struct Mortal {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Mortal {
    /// Listens; connections have these fates in turn, and are healthy after that.
    pub fn start(speech: Speech, fates: Vec<Fate>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut fates = fates.into_iter();
                // Each in a thread of its own: one that the sender has given up may be open for ever here.
                thread::scope(|connections| {
                    for stream in listener.incoming() {
                        if shared.stop.load(Ordering::SeqCst) {
                            return;
                        }
                        let fate = fates.next().unwrap_or(Fate::Healthy);
                        *shared.met.lock().expect("no panic").entry(fate.kind()).or_default() += 1;
                        let shared = &shared;
                        connections.spawn(move || serve(stream.expect("accepted"), speech, fate, shared));
                    }
                });
            })
        };
        Self { address, shared, thread: Some(thread) }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Messages so far.
    pub fn messages(&self) -> usize {
        self.shared.messages.lock().expect("no panic").len()
    }

    /// Ends it; what it got, and which fates were met.
    pub fn collect(mut self) -> (Vec<Vec<u8>>, BTreeMap<&'static str, u32>) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.thread.take().expect("collected once").join().expect("the receiver does not panic");
        let messages = std::mem::take(&mut *self.shared.messages.lock().expect("no panic"));
        let met = self.shared.met.lock().expect("no panic").clone();
        (messages, met)
    }
}

/// Plain or TLS.
enum Wire {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<ServerConnection, TcpStream>>),
}

impl Wire {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => &tls.sock,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let _ = match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        };
    }

    fn goodbye(&mut self) {
        if let Self::Tls(tls) = self {
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
    }
}

/// A server's settings; `name` is a certificate of [`certificates`].
pub fn server_config(name: &str) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(certificates::file(&format!("{name}.pem"))).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(certificates::file(&format!("{name}.key"))).expect("its key");
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("the default");
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).expect("they fit"))
}

fn serve(stream: TcpStream, speech: Speech, fate: Fate, shared: &Shared) {
    stream.set_read_timeout(Some(Duration::from_millis(5))).expect("a live socket");
    if fate == Fate::Refuse {
        return;
    }
    if let Fate::BlackHole(millis) = fate {
        super::pause(Duration::from_millis(millis));
        return reset(&stream);
    }
    let mut wire = if speech.tls {
        let name = if fate == Fate::WrongCertificate { "other" } else { "server" };
        let session = ServerConnection::new(server_config(name)).expect("good settings");
        Wire::Tls(Box::new(rustls::StreamOwned::new(session, stream)))
    } else {
        Wire::Plain(stream)
    };
    let mut session = Session { frames: Frames::default(), relp: Vec::new(), answered: 0, taken: 0 };
    let mut left = match fate {
        Fate::ResetAfter(bytes) | Fate::CloseAfter(bytes) => bytes,
        _ => usize::MAX,
    };
    let mut slow = if let Fate::Slow(rounds) = fate { rounds } else { 0 };
    let mut buffer = [0; 4096];
    while left > 0 {
        let size = if slow > 0 { 16 } else { buffer.len() }.min(left);
        match wire.read(&mut buffer[..size]) {
            Ok(0) => {
                wire.goodbye();
                return;
            }
            Ok(length) => {
                left = left.saturating_sub(length);
                if !session.take(&buffer[..length], speech.relp, fate, &mut wire, shared) {
                    return;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
            }
            Err(_) => return,
        }
        if slow > 0 {
            slow -= 1;
            super::pause(Duration::from_millis(1));
        }
    }
    if matches!(fate, Fate::ResetAfter(_)) {
        reset(wire.socket());
    }
}

struct Session {
    frames: Frames,
    /// RELP that is no whole frame yet.
    relp: Vec<u8>,
    answered: u32,
    taken: usize,
}

impl Session {
    /// Takes bytes; false ends the connection.
    fn take(&mut self, bytes: &[u8], relp: bool, fate: Fate, wire: &mut Wire, shared: &Shared) -> bool {
        if !relp {
            self.frames.push(bytes);
            let messages = std::iter::from_fn(|| self.frames.next());
            shared.messages.lock().expect("no panic").extend(messages);
            return true;
        }
        self.relp.extend_from_slice(bytes);
        while let Some((txnr, command, data, length)) = relp_frame(&self.relp) {
            self.relp.drain(..length);
            self.answered += 1;
            assert_eq!(txnr, self.answered, "numbers must have no gap");
            let answer = match command.as_str() {
                "open" => {
                    assert!(String::from_utf8_lossy(&data).contains("commands=syslog"), "no offers");
                    "200 OK\nrelp_version=0\ncommands=syslog"
                }
                "syslog" => {
                    shared.messages.lock().expect("no panic").push(data);
                    self.taken += 1;
                    match fate {
                        Fate::Own(Relp::AnswersLost(most)) if self.taken < most => continue,
                        Fate::Own(Relp::AnswersLost(_)) => return false,
                        _ => "200 OK",
                    }
                }
                "close" => "",
                other => panic!("unknown command {other}"),
            };
            let space = if answer.is_empty() { "" } else { " " };
            wire.write(format!("{txnr} rsp {}{space}{answer}\n", answer.len()).as_bytes());
            if command == "close" || matches!(fate, Fate::Own(Relp::ServerClose(most)) if self.taken == most) {
                wire.write(b"0 serverclose 0\n");
                wire.goodbye();
                return command == "close";
            }
        }
        true
    }
}

/// Number, command, data and length of the frame at the start.
fn relp_frame(bytes: &[u8]) -> Option<(u32, String, Vec<u8>, usize)> {
    let newline_or = |byte: &u8| *byte == b' ' || *byte == b'\n';
    let mut at = 0;
    let mut words = Vec::new();
    for _ in 0..3 {
        let length = bytes[at..].iter().position(newline_or)?;
        words.push(String::from_utf8(bytes[at..at + length].to_vec()).expect("a header is text"));
        at += length + 1;
    }
    let length: usize = words[2].parse().expect("a length is a number");
    // Without data there is no space, and the newline was just passed.
    let (data, end) =
        if length == 0 { (Vec::new(), at) } else { (bytes.get(at..at + length)?.to_vec(), at + length + 1) };
    (bytes.get(end - 1)? == &b'\n').then(|| (words[0].parse().expect("a number"), words[1].clone(), data, end))
}
