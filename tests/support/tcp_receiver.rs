//! A TCP receiver that can die: it takes connections one after the other and gives each the next [`Session`] of its
//! script (the last one for ever). What it parsed counts as received by the application; what sits in its socket or in
//! half a frame when it dies does not.

use nix::sys::socket::{setsockopt, sockopt};
use std::{
    io::{ErrorKind, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How frames are told apart.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Framing {
    /// `LENGTH SP BYTES` (RFC 6587 section 3.4.1).
    OctetCounted,
    /// `BYTES LF`.
    Lf,
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Waits until there is unread data, then closes: the kernel resets.
    Unread,
    /// Resets (`SO_LINGER` 0), whatever there is.
    Reset,
    /// Closes, as the end of a process does: end of file, or a reset if something is unread just then.
    Close,
    /// Shuts its own sending side down, reads on to the end of file, then closes.
    HalfClose,
}

/// What happens on one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    /// Bytes to read; then comes `stall`, then the end. The end also comes at end of file, or on [`Receiver::kill`].
    pub(crate) read: usize,
    /// Most bytes a read.
    pub(crate) chunk: usize,
    /// Pause between reads.
    pub(crate) pause: Duration,
    /// Reads nothing for this long before the end.
    pub(crate) stall: Duration,
    /// How it ends.
    pub(crate) death: Death,
    /// After the end of file, keeps the connection open until it is killed.
    pub(crate) keeps_open: bool,
}

impl Session {
    /// Reads everything, closes after the end of file.
    pub(crate) const HEALTHY: Self = Self {
        read: usize::MAX,
        chunk: 64 * 1024,
        pause: Duration::ZERO,
        stall: Duration::ZERO,
        death: Death::Close,
        keeps_open: false,
    };

    /// Reads `read` bytes, then dies.
    pub(crate) const fn dies(read: usize, death: Death) -> Self {
        Self { read, death, ..Self::HEALTHY }
    }
}

/// What the receiver saw so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Whole frames, in order, over all connections.
    pub(crate) frames: Vec<Vec<u8>>,
    /// Connections taken.
    pub(crate) sessions: usize,
    /// Sessions that ended by their script or by a kill, not by end of file.
    pub(crate) deaths: usize,
    /// Deaths that found unread data in the socket.
    pub(crate) unread: usize,
    /// Sessions that ended within a frame.
    pub(crate) torn: usize,
    /// The first thing that was no frame.
    pub(crate) garbage: Option<String>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    news: Condvar,
    kill: AtomicBool,
    stop: AtomicBool,
}

/// A running receiver; stops when dropped.
pub(crate) struct Receiver {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Listens on loopback and follows `script`. The kernel sizes its socket buffers, up to tens of megabytes.
    pub(crate) fn start(framing: Framing, script: Vec<Session>) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap(), framing, script)
    }

    /// The same with a socket buffer of about `buffer` bytes (the kernel doubles it for its own use, and may take less).
    pub(crate) fn with_buffer(buffer: usize, framing: Framing, script: Vec<Session>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        setsockopt(&listener, sockopt::RcvBuf, &buffer).unwrap();
        Self::listen(listener, framing, script)
    }

    fn listen(listener: TcpListener, framing: Framing, script: Vec<Session>) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&listener, framing, &script, &shared)
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// Ends the present session (or the next one at once).
    pub(crate) fn kill(&self) {
        self.shared.kill.store(true, Ordering::SeqCst);
    }

    /// Waits until `until` holds.
    pub(crate) fn wait(&self, what: &str, until: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.shared.seen.lock().unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        while !until(&seen) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the receiver did not see in time: {what}");
            seen = self.shared.news.wait_timeout(seen, left).unwrap().0;
        }
        seen.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.kill();
        // Wakes the accept.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(result.is_ok() || std::thread::panicking(), "the receiver panicked");
        }
    }
}

fn serve(listener: &TcpListener, framing: Framing, script: &[Session], shared: &Shared) {
    for number in 0.. {
        let (stream, _) = listener.accept().unwrap();
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let session = script[number.min(script.len() - 1)];
        shared.seen.lock().unwrap().sessions += 1;
        shared.news.notify_all();
        one(stream, session, framing, shared);
        shared.news.notify_all();
    }
}

/// One connection, to its end.
fn one(mut stream: TcpStream, session: Session, framing: Framing, shared: &Shared) {
    let mut parser = Parser { framing, rest: Vec::new() };
    let tick = Duration::from_millis(2);
    stream.set_read_timeout(Some(tick)).unwrap();
    let mut buffer = vec![0; session.chunk];
    let mut left = session.read;
    while left > 0 && !shared.kill.load(Ordering::SeqCst) {
        let most = left.min(buffer.len());
        match stream.read(&mut buffer[..most]) {
            Ok(0) => {
                finish(&parser, shared);
                if session.keeps_open {
                    stall(Duration::MAX, shared);
                    shared.kill.store(false, Ordering::SeqCst);
                }
                return;
            }
            Ok(bytes) => {
                left -= bytes;
                let mut seen = shared.seen.lock().unwrap();
                parser.feed(&buffer[..bytes], &mut seen);
                drop(seen);
                shared.news.notify_all();
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return finish(&parser, shared), // The sender went away.
        }
        if !session.pause.is_zero() {
            std::thread::sleep(session.pause);
        }
    }
    stall(session.stall, shared);
    shared.kill.store(false, Ordering::SeqCst);
    finish(&parser, shared);
    die(stream, session, parser, shared);
}

/// Books the end of a session.
fn finish(parser: &Parser, shared: &Shared) {
    shared.seen.lock().unwrap().torn += usize::from(!parser.rest.is_empty());
    shared.news.notify_all();
}

fn stall(time: Duration, shared: &Shared) {
    let start = Instant::now();
    while start.elapsed() < time && !shared.kill.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(1).min(time));
    }
}

fn die(mut stream: TcpStream, session: Session, mut parser: Parser, shared: &Shared) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    match session.death {
        Death::Unread => {
            if matches!(stream.peek(&mut [0]), Ok(1)) {
                shared.seen.lock().unwrap().unread += 1;
            }
        }
        Death::Reset => {
            let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(&stream, sockopt::Linger, &linger).unwrap();
        }
        Death::Close => {}
        Death::HalfClose => {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            parser.feed(&rest, &mut shared.seen.lock().unwrap());
        }
    }
    drop(stream);
    shared.seen.lock().unwrap().deaths += 1;
    shared.news.notify_all();
}

/// Bytes to frames.
struct Parser {
    framing: Framing,
    /// A frame that is not whole yet.
    rest: Vec<u8>,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8], seen: &mut Seen) {
        self.rest.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((skip, len, tail)) = self.next(&self.rest[at..], seen) {
            seen.frames.push(self.rest[at + skip..at + skip + len].to_vec());
            at += skip + len + tail;
        }
        self.rest.drain(..at);
    }

    /// Header, body and trailer length of a whole frame at the start of `bytes`.
    fn next(&self, bytes: &[u8], seen: &mut Seen) -> Option<(usize, usize, usize)> {
        match self.framing {
            Framing::Lf => bytes.iter().position(|&byte| byte == b'\n').map(|len| (0, len, 1)),
            Framing::OctetCounted => {
                let space = bytes.iter().take(12).position(|&byte| byte == b' ');
                let Some(digits) = space else {
                    if bytes.len() >= 12 {
                        seen.garbage.get_or_insert_with(|| String::from_utf8_lossy(&bytes[..12]).into_owned());
                    }
                    return None;
                };
                let len = std::str::from_utf8(&bytes[..digits]).ok().and_then(|text| text.parse::<usize>().ok());
                let Some(len) = len else {
                    seen.garbage.get_or_insert_with(|| String::from_utf8_lossy(&bytes[..digits]).into_owned());
                    return None;
                };
                (bytes.len() > digits + len).then_some((digits + 1, len, 0))
            }
        }
    }
}
