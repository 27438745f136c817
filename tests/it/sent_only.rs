//! Transports that get no evidence of arrival, under faults: a hundred seeded runs each over UDP and both kinds of Unix sockets,
//! against receivers that come and go. What was `sent` may be missing, and nothing else.

use crate::support::{
    daemons::local,
    drain::Drain,
    hundred::{all_met, hundred},
    judge::{Terms, judge},
    lines::Shape,
    pause, syslog, until,
};
use nix::sys::socket::{setsockopt, sockopt};
use rand::RngExt;
use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::UdpSocket,
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);
const LINES: u64 = 200;
const TICK: Duration = Duration::from_millis(5);

/// Takes so many datagrams, or all there are until `stop`, which is false.
fn receive(
    mut recv: impl FnMut(&mut [u8]) -> io::Result<usize>,
    count: usize,
    stop: &AtomicBool,
    got: &mut Vec<Vec<u8>>,
) -> bool {
    let mut buffer = vec![0; 100_000];
    let mut taken = 0;
    while taken < count {
        match recv(&mut buffer) {
            Ok(length) => {
                taken += 1;
                got.push(buffer[..length].to_vec());
            }
            Err(_) if stop.load(Ordering::SeqCst) => return false,
            Err(_) => {}
        }
    }
    true
}

/// A daemon's socket of either kind.
enum Daemon {
    Datagram(UnixDatagram),
    /// One connection at a time; what was read of it and is no whole message yet.
    Stream(UnixListener, Option<UnixStream>, Vec<u8>),
}

impl Daemon {
    fn bind(path: &Path, stream: bool) -> Self {
        let _ = std::fs::remove_file(path);
        if stream {
            let listener = UnixListener::bind(path).expect("a free name");
            listener.set_nonblocking(true).expect("a live socket");
            return Self::Stream(listener, None, Vec::new());
        }
        let socket = UnixDatagram::bind(path).expect("a free name");
        socket.set_read_timeout(Some(TICK)).expect("a live socket");
        Self::Datagram(socket)
    }

    /// The next message. An error if there is none for now.
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (listener, connection, bytes) = match self {
            Self::Datagram(socket) => return socket.recv(buffer),
            Self::Stream(listener, connection, bytes) => (listener, connection, bytes),
        };
        loop {
            if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
                buffer[..end].copy_from_slice(&bytes[..end]);
                bytes.drain(..=end);
                return Ok(end);
            }
            let Some(stream) = connection else {
                let (stream, _) = listener.accept().inspect_err(|_| pause(Duration::from_millis(1)))?;
                stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(TICK)))?;
                *connection = Some(stream);
                bytes.clear();
                continue;
            };
            let mut part = [0; 4096];
            match stream.read(&mut part)? {
                0 => *connection = None,
                length => bytes.extend_from_slice(&part[..length]),
            }
        }
    }

    /// Messages that it has read already: the sender may have seen them read to the end, so a death must not take them.
    fn read_ahead(self) -> Vec<Vec<u8>> {
        let Self::Stream(_, _, bytes) = self else { return Vec::new() };
        let mut messages: Vec<_> = bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
        // Half of one, or nothing.
        messages.pop();
        messages
    }
}

/// A daemon on a Unix socket that comes and goes: in each life it reads so many messages, and is away for so many
/// milliseconds. The last life is without an end.
fn unix_daemon(path: &Path, stream: bool, lives: Vec<(usize, u64)>, stop: &AtomicBool) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    for (messages, away) in lives.into_iter().chain([(usize::MAX, 0)]) {
        let mut daemon = Daemon::bind(path, stream);
        if !receive(|buffer| daemon.recv(buffer), messages, stop, &mut got) {
            break;
        }
        got.extend(daemon.read_ahead());
        pause(Duration::from_millis(away));
    }
    got
}

fn a_hundred_over_a_unix_socket(stream: bool) -> BTreeMap<&'static str, u32> {
    hundred(if stream { "unix stream" } else { "unix" }, |rng, context| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("log");
        let lives: Vec<_> =
            (0..rng.random_range(0..4)).map(|_| (rng.random_range(1..60), rng.random_range(0..80))).collect();
        let deaths = lives.len() as u32;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let daemon = scope.spawn(|| unix_daemon(&path, stream, lives, &stop));
            let mut drain = Drain::start(&format!("syslog+unix:{}#name=unix", path.display()));
            while drain.next <= LINES {
                drain.write(rng.random_range(1..20), Shape::Hostile);
                pause(Duration::from_micros(rng.random_range(0..4000)));
            }
            let (books, record, report) = drain.finish(30 * SECOND);
            stop.store(true, Ordering::SeqCst);
            let seen = local(&daemon.join().expect("no panic"));
            let without_death = deaths == 0;
            // The end of a stream confirms all of it.
            let terms = Terms { unsure: !without_death, confirmed: without_death && stream, ..Terms::default() };
            let facts = judge(&record, Some(&books), &seen, terms)
                .unwrap_or_else(|found| panic!("{context}: {found:?}\n{report:?}"));
            // A daemon that dies takes along what is in its queue or its buffer.
            let missing = u32::try_from(facts.missing).expect("few");
            BTreeMap::from([("deaths", deaths), ("missing", missing), ("healthy", u32::from(without_death))])
        })
    })
}

#[test]
fn a_hundred_seeded_runs_over_a_unix_socket_count_what_is_sent() {
    all_met(&a_hundred_over_a_unix_socket(false), &["deaths", "missing", "healthy"]);
}

#[test]
fn a_hundred_seeded_runs_over_a_unix_stream_count_what_is_sent_and_its_end_confirms_it() {
    all_met(&a_hundred_over_a_unix_socket(true), &["deaths", "missing", "healthy"]);
}

/// A receiver on UDP that comes and goes: in each life it reads so many datagrams, and is away for so many milliseconds. The
/// last life is without an end. A hard-pressed one has the smallest buffer there is, and is slow.
fn udp_receiver(first: UdpSocket, lives: Vec<(usize, u64)>, pressed: bool, stop: &AtomicBool) -> Vec<Vec<u8>> {
    let address = first.local_addr().expect("bound");
    let (mut first, mut got) = (Some(first), Vec::new());
    for (datagrams, away) in lives.into_iter().chain([(usize::MAX, 0)]) {
        // Somebody's own port may be this one, for a moment.
        let again = || UdpSocket::bind(address).ok();
        let socket = first.take().or_else(again).unwrap_or_else(|| {
            let mut found = None;
            until("the port to be free again", 20 * SECOND, || {
                found = again();
                found.is_some()
            });
            found.expect("bound")
        });
        if pressed {
            setsockopt(&socket, sockopt::RcvBuf, &1).expect("a live socket");
        }
        socket.set_read_timeout(Some(TICK)).expect("a live socket");
        let recv = |buffer: &mut [u8]| {
            if pressed {
                pause(Duration::from_millis(1));
            }
            socket.recv(buffer)
        };
        if !receive(recv, datagrams, stop, &mut got) {
            break;
        }
        drop(socket);
        pause(Duration::from_millis(away));
    }
    got
}

#[test]
fn a_hundred_seeded_runs_over_udp_count_what_is_sent_and_what_is_too_large_45() {
    let met = hundred("udp", |rng, context| {
        let lives: Vec<_> =
            (1..rng.random_range(0..4)).map(|_| (rng.random_range(1..60), rng.random_range(0..80))).collect();
        let deaths = lives.len() as u32;
        let pressed = rng.random_bool(0.3);
        let mut large = if rng.random_bool(0.5) || (deaths == 0 && !pressed) { rng.random_range(1..4) } else { 0 };
        let oversize = large;
        let first = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let url = format!("syslog+udp://{}#name=udp", first.local_addr().expect("bound"));
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let receiver = scope.spawn(|| udp_receiver(first, lives, pressed, &stop));
            let mut drain = Drain::start(&url);
            while drain.next <= LINES || large > 0 {
                if large > 0 && rng.random_bool(0.2) {
                    drain.write(1, Shape::Fixed(70_000));
                    large -= 1;
                }
                drain.write(rng.random_range(1..20), Shape::Hostile);
                pause(Duration::from_micros(rng.random_range(0..4000)));
            }
            let (books, record, report) = drain.finish(30 * SECOND);
            stop.store(true, Ordering::SeqCst);
            let seen = syslog::seen(&receiver.join().expect("no panic"));
            let terms = Terms { unsure: true, lossy: true, ..Terms::default() };
            let facts = judge(&record, Some(&books), &seen, terms)
                .unwrap_or_else(|found| panic!("{context}: {found:?}\n{report:?}"));
            let lost = books.lost.get("oversize").copied().unwrap_or(0);
            assert_eq!((books.lost(), lost), (u64::from(oversize), lost), "{context}: {report:?}");
            assert_eq!(books.sent + lost, books.read, "{context}: {report:?}");
            let missing = u32::try_from(facts.missing).expect("few") - oversize;
            assert!(deaths + oversize + u32::from(pressed) > 0, "{context}: void");
            BTreeMap::from([
                ("away", deaths),
                ("full buffer", u32::from(pressed && missing > 0)),
                ("too large", oversize),
                ("missing", missing),
                ("all arrived", u32::from(missing == 0)),
            ])
        })
    });
    all_met(&met, &["away", "full buffer", "too large", "missing", "all arrived"]);
}
