//! A syslog receiver on TCP, with faults: it dies on schedule, reads slowly or not at all, is down at first.
//!
//! One connection at a time, in the order in which they were accepted, so that order of arrival is well-defined. What
//! counts as received is what this *application* read whole before it died.

use super::{
    judge::Seen,
    pause,
    syslog::{self, Frames},
};
use nix::sys::socket::{setsockopt, sockopt};
use std::{
    io::{ErrorKind, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How a receiver dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// With unread bytes in its socket: the kernel answers with a reset, and those bytes are gone though they were
    /// acknowledged.
    Reset,
    /// Everything read, then closed.
    Fin,
    /// Everything read, then an abortive close (a reset with nothing unread).
    IdleReset,
}

/// How a receiver reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// At once.
    Normal,
    /// Never, until [`TcpSink::collect`].
    Never,
    /// This many bytes, every 10 ms.
    Slow(usize),
}

/// What a receiver does in its life.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How it reads.
    pub reading: Reading,
    /// Deaths still to come: how long a connection lives from its first bytes, and how it ends.
    pub deaths: Vec<(Duration, Death)>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { reading: Reading::Normal, deaths: Vec::new() }
    }
}

#[derive(Default)]
struct Shared {
    messages: Mutex<Vec<Vec<u8>>>,
    finish: AtomicBool,
    kill_now: AtomicBool,
    deaths: AtomicUsize,
    resets_with_unread: AtomicUsize,
    connections: AtomicUsize,
}

/// A running receiver.
pub struct TcpSink {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl TcpSink {
    /// Listens on a free port of the loopback.
    pub fn start(plan: Plan) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a free port"), plan)
    }

    /// Takes over a listener (a receiver that comes up late binds the port itself).
    pub fn on(listener: TcpListener, plan: Plan) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::<Shared>::default();
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&listener, plan, &shared)
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// `syslog+tcp://…#name=NAME` and further options (`,lf=…`).
    pub fn url(&self, name: &str) -> String {
        format!("syslog+tcp://{}#name={name}", self.address)
    }

    /// Messages read so far.
    pub fn messages(&self) -> usize {
        self.shared.messages.lock().expect("no panic while held").len()
    }

    /// Deaths so far.
    pub fn deaths(&self) -> usize {
        self.shared.deaths.load(Ordering::SeqCst)
    }

    /// Deaths so far that threw unread bytes away.
    pub fn resets_with_unread(&self) -> usize {
        self.shared.resets_with_unread.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The connection that is open now dies by [`Death::IdleReset`].
    pub fn kill_now(&self) {
        self.shared.kill_now.store(true, Ordering::SeqCst);
    }

    /// Reads all that the kernel still holds (also for a receiver that never read), ends the receiver and says what it
    /// got. To be called when the sender has exited.
    pub fn collect(mut self) -> Seen {
        self.stop();
        let messages = std::mem::take(&mut *self.shared.messages.lock().expect("no panic while held"));
        syslog::seen(&messages)
    }

    fn stop(&mut self) {
        self.shared.finish.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the receiver's thread must not panic");
        }
    }
}

impl Drop for TcpSink {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}

/// The URL of a receiver that reads to the end and keeps nothing: it costs the machine little.
pub fn discard() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let url = format!("syslog+tcp://{}", listener.local_addr().expect("bound"));
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 18];
                while let Ok(1..) = stream.read(&mut buffer) {}
            });
        }
    });
    url
}

fn serve(listener: &TcpListener, mut plan: Plan, shared: &Shared) {
    listener.set_nonblocking(true).expect("a socket can be made non-blocking");
    plan.deaths.reverse();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                Connection { stream, shared, frames: Frames::default(), unread: Vec::new() }.live(&mut plan);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if shared.finish.load(Ordering::SeqCst) {
                    return;
                }
                pause(Duration::from_millis(1));
            }
            Err(error) => panic!("accept: {error}"),
        }
    }
}

struct Connection<'a> {
    stream: TcpStream,
    shared: &'a Shared,
    frames: Frames,
    unread: Vec<u8>,
}

impl Connection<'_> {
    /// Reads until the peer or the plan ends the connection.
    fn live(mut self, plan: &mut Plan) {
        self.stream.set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout can be set");
        self.unread.resize(256 * 1024, 0);
        let mut first = None;
        loop {
            let finish = self.shared.finish.load(Ordering::SeqCst);
            let amount = match plan.reading {
                Reading::Never if !finish => {
                    pause(Duration::from_millis(5));
                    continue;
                }
                Reading::Slow(bytes) if !finish => {
                    pause(Duration::from_millis(10));
                    bytes
                }
                _ => self.unread.len(),
            };
            match self.read(amount) {
                Some(0) => return,
                Some(_) => first = first.or(Some(lastword::clock::now())),
                None if finish => return,
                None => {}
            }
            if self.shared.kill_now.swap(false, Ordering::SeqCst) {
                return self.die(Death::IdleReset);
            }
            if let Some(death) = due(plan, first) {
                return self.die(death);
            }
        }
    }

    /// Some(0) at the end; None when nothing came for now.
    fn read(&mut self, amount: usize) -> Option<usize> {
        match self.stream.read(&mut self.unread[..amount]) {
            Ok(bytes) => {
                self.frames.push(&self.unread[..bytes]);
                let mut messages = self.shared.messages.lock().expect("no panic while held");
                messages.extend(std::iter::from_fn(|| self.frames.next()));
                Some(bytes)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            // The sender is gone without a goodbye: what it wrote before was read.
            Err(_) => Some(0),
        }
    }

    fn die(mut self, death: Death) {
        match death {
            Death::Reset => {
                // Dying with unread bytes needs unread bytes: wait for some.
                self.stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout can be set");
                pause(Duration::from_millis(3));
                if matches!(self.stream.peek(&mut [0]), Ok(1)) {
                    self.shared.resets_with_unread.fetch_add(1, Ordering::SeqCst);
                }
            }
            Death::Fin | Death::IdleReset => {
                self.stream.set_nonblocking(true).expect("a socket can be made non-blocking");
                while self.read(self.unread.len()).is_some_and(|bytes| bytes > 0) {}
                if death == Death::IdleReset {
                    let now = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                    setsockopt(&self.stream, sockopt::Linger, &now).expect("SO_LINGER can be set");
                }
            }
        }
        self.shared.deaths.fetch_add(1, Ordering::SeqCst);
        // An unfinished frame dies with us.
    }
}

fn due(plan: &mut Plan, first: Option<Instant>) -> Option<Death> {
    let &(after, death) = plan.deaths.last()?;
    if lastword::clock::now().duration_since(first?) < after {
        return None;
    }
    plan.deaths.pop();
    Some(death)
}
