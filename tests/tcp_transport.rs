//! Plain TCP against a receiver whose application dies, stalls, never reads: what it got, judged frame by frame.
#![expect(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test may")]
#![expect(clippy::print_stdout, clippy::disallowed_macros, reason = "seeds and counts, shown if a test fails")]

#[path = "support/closed.rs"]
mod closed;
#[path = "support/tcp_receiver.rs"]
mod tcp_receiver;

use bytes::{Bytes, BytesMut};
use closed::Closed;
use lastword::{
    config::{HostPort, TcpTarget},
    ledger::Grade,
    transport::{Failure, Payload, Progress, Transport, Verdict, tcp::Tcp},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::VecDeque,
    io::{Read, Write},
    time::Duration,
};
use tcp_receiver::{Death, Framing, Receiver, Seen, Session};
use tokio::time::{Instant, timeout};

const CAP: u64 = 4 * 1024 * 1024;
const PAYLOAD: usize = 64 * 1024;
const SECOND: Duration = Duration::from_secs(1);

/// TCP looks at positions and bytes alone: where units end is the drain's business.
fn payload_of(position: u64, body: Bytes, units: usize) -> Payload {
    Payload { position, body, units, key: String::new(), ends: [].into() }
}

/// The message of frame `number`: its bytes are a function of the number; about 200 of them.
fn message(number: u64) -> Vec<u8> {
    let mut text = format!("{number:08} ").into_bytes();
    let len = 150 + number * 37 % 100;
    text.extend((0..len).map(|at| b'a' + ((number * 7 + at * 3) % 26) as u8));
    text
}

fn frame(framing: Framing, number: u64) -> Vec<u8> {
    let message = message(number);
    match framing {
        Framing::Lf => [message, vec![b'\n']].concat(),
        Framing::OctetCounted => [format!("{} ", message.len()).into_bytes(), message].concat(),
    }
}

/// The least drain loop, within the bounds that the transport's documentation names: keeps frames until they are safe, rewinds to the frame of a position.
struct Sender {
    tcp: Tcp,
    framing: Framing,
    /// Frames that are not settled: (position, bytes).
    frames: VecDeque<(u64, Bytes)>,
    /// Index in `frames` of the next one to send.
    cursor: usize,
    /// Frames made so far, and the position behind the last.
    made: u64,
    end: u64,
    progress: Option<Progress>,
    failures: Vec<String>,
}

impl Sender {
    fn new(receiver: &Receiver, framing: Framing, replay: Option<u64>) -> Self {
        let peer = HostPort { host: receiver.address.ip().to_string(), port: receiver.address.port() };
        Self {
            tcp: Tcp::new(&TcpTarget { replay, ..TcpTarget::new(peer) }, CAP),
            framing,
            frames: VecDeque::new(),
            cursor: 0,
            made: 0,
            end: 0,
            progress: None,
            failures: Vec::new(),
        }
    }

    /// Makes frames up to `total` as room permits, and sends until all are made and sent.
    async fn run(&mut self, total: u64) {
        loop {
            let in_flight = |sender: &Self| sender.end - sender.frames.front().map_or(sender.end, |frame| frame.0);
            while self.made < total && in_flight(self) <= CAP / 8 * 7 {
                self.make();
            }
            if self.cursor < self.frames.len() {
                let payload = self.payload();
                let result = timeout(30 * SECOND, self.tcp.send(&payload)).await.expect("the send ends");
                self.after(result).await;
            } else if self.made == total {
                return;
            } else {
                self.watch().await;
            }
        }
    }

    /// Sends everything and gets the last evidence, resending as needed.
    async fn end(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        loop {
            self.run(self.made).await;
            match self.tcp.finish(deadline).await {
                Ok(()) => return self.settle(),
                Err(failure) if Instant::now() >= deadline => {
                    self.settle();
                    return self.failures.push(failure.reason);
                }
                failed => self.after(failed).await,
            }
        }
    }

    async fn watch(&mut self) {
        let result = timeout(30 * SECOND, self.tcp.watch()).await.expect("there is news");
        self.after(result).await;
    }

    /// Watches until everything is safe.
    async fn watch_until_safe(&mut self) {
        while !self.frames.is_empty() {
            self.watch().await;
        }
    }

    fn make(&mut self) {
        let bytes = frame(self.framing, self.made);
        self.frames.push_back((self.end, bytes.into()));
        self.end += self.frames.back().unwrap().1.len() as u64;
        self.made += 1;
    }

    fn payload(&mut self) -> Payload {
        let position = self.frames[self.cursor].0;
        let mut body = BytesMut::new();
        let mut units = 0;
        while body.len() < PAYLOAD && self.cursor < self.frames.len() {
            body.extend_from_slice(&self.frames[self.cursor].1);
            self.cursor += 1;
            units += 1;
        }
        payload_of(position, body.freeze(), units)
    }

    async fn after(&mut self, result: Result<(), Failure>) {
        self.settle();
        let Err(Failure { verdict, reason }) = result else { return };
        let Verdict::Retry { resend_from, after } = verdict else { panic!("{reason}") };
        // Everything before it is settled, so rewinding finds it, or there is nothing left.
        assert!(self.frames.front().is_none_or(|front| front.0 <= resend_from), "{reason}");
        self.cursor =
            self.frames.iter().position(|f| f.0 + f.1.len() as u64 > resend_from).unwrap_or(self.frames.len());
        self.failures.push(reason);
        if after.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Forgets what is safe.
    fn settle(&mut self) {
        let Some(now) = self.tcp.progress(Instant::now()) else { return };
        if let Some(before) = self.progress {
            assert!(now.epoch >= before.epoch);
            assert!(now.epoch > before.epoch || now.upto >= before.upto, "progress went back: {before:?} {now:?}");
        }
        self.progress = Some(now);
        while self.frames.front().is_some_and(|(position, bytes)| position + bytes.len() as u64 <= now.upto) {
            assert!(self.cursor > 0, "safe before it was sent");
            self.frames.pop_front();
            self.cursor -= 1;
        }
    }
}

/// What the judge found: every frame that arrived is one of ours, first occurrences in order.
#[derive(Debug, Default)]
struct Judgement {
    lost: u64,
    duplicates: u64,
}

fn judge(seen: &Seen, total: u64) -> Judgement {
    assert_eq!(seen.garbage, None);
    let mut had = vec![false; total as usize];
    let (mut duplicates, mut highest) = (0, None);
    for bytes in &seen.frames {
        let number: u64 = std::str::from_utf8(&bytes[..8]).unwrap().parse().unwrap();
        assert_eq!(*bytes, message(number), "frame {number} is mangled");
        if std::mem::replace(&mut had[number as usize], true) {
            duplicates += 1;
        } else {
            assert!(Some(number) > highest, "frame {number} arrived after {highest:?}");
            highest = Some(number);
        }
    }
    Judgement { lost: had.iter().filter(|had| !**had).count() as u64, duplicates }
}

fn seed() -> u64 {
    std::env::var("LASTWORD_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap())
}

/// Lines that are written while a receiver dies forty times.
const TOTAL: u64 = 160_000;

/// 40 deaths, half of them with unread data, the receiver stalling a little before each.
fn forty_deaths(rng: &mut StdRng) -> Vec<Session> {
    let dying = (0..40).map(|number| Session {
        stall: Duration::from_micros(rng.random_range(0..5000)),
        chunk: rng.random_range(500..100_000),
        ..Session::dies(rng.random_range(200_000..800_000), if number % 2 == 0 { Death::Unread } else { Death::Close })
    });
    dying.chain([Session::HEALTHY]).collect()
}

/// So many times forty deaths, or as many as `LASTWORD_DEATHS` asks for (in forties), each with a seed of its own.
async fn through_deaths(replay: Option<u64>, framing: Framing) -> Judgement {
    let deaths: u64 = std::env::var("LASTWORD_DEATHS").map_or(40, |text| text.parse().unwrap());
    let (seed, mut sum) = (seed(), Judgement::default());
    for round in 0..deaths.div_ceil(40) {
        let Judgement { lost, duplicates } = through_forty_deaths(replay, framing, seed.wrapping_add(round)).await;
        sum = Judgement { lost: sum.lost + lost, duplicates: sum.duplicates + duplicates };
    }
    println!("{framing:?}: {} deaths, {} lines: {sum:?}", deaths.div_ceil(40) * 40, deaths.div_ceil(40) * TOTAL);
    sum
}

async fn through_forty_deaths(replay: Option<u64>, framing: Framing, seed: u64) -> Judgement {
    println!("LASTWORD_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let receiver = Receiver::start(framing, forty_deaths(&mut rng));
    let mut sender = Sender::new(&receiver, framing, replay);
    sender.run(TOTAL).await;
    sender.end(30 * SECOND).await;
    let seen = receiver.wait("all 40 deaths", |seen| seen.deaths >= 40);
    assert!(seen.unread >= 20, "{} deaths with unread data", seen.unread);
    let judgement = judge(&seen, TOTAL);
    println!("replay {replay:?}, {framing:?}: {judgement:?}, {} torn", seen.torn);
    judgement
}

#[tokio::test]
async fn forty_deaths_of_the_receiver_lose_nothing_38() {
    let judgement = through_deaths(None, Framing::OctetCounted).await;
    assert_eq!(judgement.lost, 0);
    assert!(judgement.duplicates > 0, "a replay shows");
}

#[tokio::test]
async fn forty_deaths_of_a_receiver_of_plain_lines_lose_nothing() {
    assert_eq!(through_deaths(None, Framing::Lf).await.lost, 0);
}

#[tokio::test]
async fn without_a_window_the_same_deaths_lose_frames() {
    // Shows that the test above meets its subject, and why the window is there.
    assert!(through_forty_deaths(Some(0), Framing::OctetCounted, seed()).await.lost > 0);
}

#[tokio::test]
async fn forty_resets_after_a_stall_with_full_sockets_lose_nothing_38() {
    // Ten each of four, at the same time: each stall lasts a second.
    tokio::join!(ten_stalls(), ten_stalls(), ten_stalls(), ten_stalls());
}

async fn ten_stalls() {
    const TOTAL: u64 = 250_000;
    let stalling = Session { stall: SECOND, ..Session::dies(3_000_000, Death::Unread) };
    let script = [vec![stalling; 10], vec![Session::HEALTHY]].concat();
    let receiver = Receiver::with_buffer(1 << 20, Framing::OctetCounted, script);
    let mut sender = Sender::new(&receiver, Framing::OctetCounted, None);
    sender.run(TOTAL).await;
    sender.end(30 * SECOND).await;
    let seen = receiver.wait("ten deaths", |seen| seen.deaths >= 10);
    assert_eq!(seen.unread, 10);
    let judgement = judge(&seen, TOTAL);
    println!("{judgement:?}");
    assert_eq!(judgement.lost, 0);
}

#[tokio::test]
async fn a_reset_of_an_idle_connection_gives_at_most_one_duplicate_40() {
    let idle = Session { death: Death::Reset, ..Session::HEALTHY };
    let receiver = Receiver::start(Framing::OctetCounted, vec![idle, Session::HEALTHY]);
    let mut sender = Sender::new(&receiver, Framing::OctetCounted, None);
    sender.run(1000).await;
    receiver.wait("the frames", |seen| seen.frames.len() == 1000);
    let start = Instant::now();
    sender.watch_until_safe().await;
    assert!(start.elapsed() > 4 * SECOND, "accepted while young");
    receiver.kill();
    receiver.wait("the reset", |seen| seen.deaths == 1);
    sender.run(1001).await;
    sender.end(10 * SECOND).await;
    let seen = receiver.wait("the last frame", |seen| seen.frames.len() > 1000);
    let judgement = judge(&seen, 1001);
    assert_eq!(judgement.lost, 0);
    assert!(judgement.duplicates <= 1, "{judgement:?}");
    assert_eq!(seen.sessions, 2);
    assert_eq!(sender.progress.unwrap().grade, Grade::Confirmed);
}

#[tokio::test]
async fn a_reset_of_a_young_connection_replays_what_it_carried_37() {
    let idle = Session { death: Death::Reset, ..Session::HEALTHY };
    let receiver = Receiver::start(Framing::OctetCounted, vec![idle, Session::HEALTHY]);
    let mut sender = Sender::new(&receiver, Framing::OctetCounted, None);
    sender.run(10).await;
    receiver.wait("the frames", |seen| seen.frames.len() == 10);
    receiver.kill();
    sender.watch().await;
    assert_eq!(sender.failures, [format!("connection reset by {}", receiver.address)]);
    assert_eq!(sender.cursor, 0, "all of it is to be sent again");
    sender.end(10 * SECOND).await;
    let judgement = judge(&receiver.wait("the replay", |seen| seen.frames.len() == 20), 10);
    assert_eq!((judgement.lost, judgement.duplicates), (0, 10));
}

#[tokio::test]
async fn a_clean_close_of_an_idle_connection_costs_nothing_36() {
    // Found by the watch, and found just before a write.
    for watched in [true, false] {
        let receiver = Receiver::start(Framing::OctetCounted, vec![Session::HEALTHY]);
        let mut sender = Sender::new(&receiver, Framing::OctetCounted, None);
        sender.run(100).await;
        receiver.wait("the frames", |seen| seen.frames.len() == 100);
        receiver.kill();
        receiver.wait("the close", |seen| seen.deaths == 1);
        if watched {
            sender.watch().await;
            assert!(sender.frames.is_empty(), "nothing is owed");
        }
        sender.run(101).await;
        assert_eq!(sender.failures, [format!("connection closed by {}", receiver.address)]);
        sender.end(10 * SECOND).await;
        let judgement = judge(&receiver.wait("the last frame", |seen| seen.frames.len() > 100), 101);
        assert_eq!((judgement.lost, judgement.duplicates), (0, 0));
    }
}

#[tokio::test]
async fn a_receiver_that_closes_its_own_side_alone_loses_nothing_41() {
    let half = Session { death: Death::HalfClose, ..Session::dies(500_000, Death::Close) };
    let receiver = Receiver::start(Framing::OctetCounted, vec![half, half, Session::HEALTHY]);
    let mut sender = Sender::new(&receiver, Framing::OctetCounted, None);
    sender.run(20_000).await;
    sender.end(10 * SECOND).await;
    let seen = receiver.wait("the half-closes", |seen| seen.deaths == 2);
    assert_eq!(judge(&seen, 20_000).lost, 0);
}

#[tokio::test]
async fn a_clean_end_of_file_after_ours_confirms_everything() {
    let slow = Session { chunk: 100_000, pause: Duration::from_millis(5), ..Session::HEALTHY };
    let receiver = Receiver::start(Framing::OctetCounted, vec![slow]);
    let mut sender = Sender::new(&receiver, Framing::OctetCounted, None);
    sender.run(30_000).await;
    sender.end(20 * SECOND).await;
    let end = sender.end;
    assert_eq!(sender.progress, Some(Progress { epoch: 1, upto: end, grade: Grade::Confirmed }));
    let judgement = judge(&receiver.wait("all", |seen| seen.frames.len() == 30_000), 30_000);
    assert_eq!((judgement.lost, judgement.duplicates), (0, 0));
}

#[tokio::test]
async fn a_peer_that_never_closes_leaves_it_at_accepted_after_a_second() {
    let receiver = Receiver::start(Framing::OctetCounted, vec![Session { keeps_open: true, ..Session::HEALTHY }]);
    let mut sender = Sender::new(&receiver, Framing::OctetCounted, None);
    sender.run(1000).await;
    let start = Instant::now();
    sender.end(20 * SECOND).await;
    assert!(start.elapsed() < 3 * SECOND, "{:?}", start.elapsed());
    let end = sender.end;
    assert_eq!(sender.progress, Some(Progress { epoch: 1, upto: end, grade: Grade::Accepted }));
}

#[tokio::test]
async fn a_reset_instead_of_the_end_of_file_has_the_window_sent_again() {
    // The frames fit the dead receiver's socket: acknowledged, half-closed, never read.
    let dead = Session { stall: SECOND / 5, ..Session::dies(0, Death::Unread) };
    let receiver = Receiver::start(Framing::OctetCounted, vec![dead, Session::HEALTHY]);
    let mut sender = Sender::new(&receiver, Framing::OctetCounted, None);
    sender.run(100).await;
    sender.end(10 * SECOND).await;
    assert_eq!(sender.failures, [format!("connection reset by {}", receiver.address)]);
    assert_eq!(sender.progress, Some(Progress { epoch: 2, upto: sender.end, grade: Grade::Confirmed }));
    let judgement = judge(&receiver.wait("all", |seen| seen.frames.len() == 100), 100);
    assert_eq!((judgement.lost, judgement.duplicates), (0, 0));
}

/// Sends `total` bytes to a peer that sleeps for `nap` after each read of all there is; returns the longest wait.
async fn longest_wait(cap: u64, total: u64, nap: Duration) -> Duration {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reader = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut buffer = vec![0; 16 << 20];
        let mut got = 0;
        while let bytes @ 1.. = peer.read(&mut buffer).unwrap() {
            got += bytes as u64;
            std::thread::sleep(nap);
        }
        got
    });
    let mut tcp = Tcp::new(&TcpTarget::new(HostPort { host: "127.0.0.1".into(), port }), cap);
    let body = Bytes::from(vec![b'x'; usize::try_from(cap / 8).unwrap()]);
    let (mut end, mut upto, mut longest) = (0, 0, Duration::ZERO);
    while end < total {
        let start = Instant::now();
        if end - upto <= cap / 8 * 7 {
            let payload = payload_of(end, body.clone(), 1);
            tcp.send(&payload).await.unwrap();
            end = payload.end();
        } else {
            tcp.watch().await.unwrap();
        }
        longest = longest.max(start.elapsed());
        upto = tcp.progress(Instant::now()).unwrap().upto;
    }
    tcp.finish(Instant::now() + 10 * SECOND).await.unwrap();
    assert_eq!(tcp.progress(Instant::now()).unwrap(), Progress { epoch: 1, upto: end, grade: Grade::Confirmed });
    assert_eq!(reader.join().unwrap(), end);
    longest
}

#[tokio::test]
async fn a_peer_that_reads_never_makes_the_drain_wait_for_the_window_to_age() {
    // However large its buffer grows, and however seldom it says so.
    for (cap, total) in [(256 * 1024, 20 << 20), (CAP, 200 << 20)] {
        for nap in [Duration::ZERO, Duration::from_millis(2), Duration::from_millis(20)] {
            let longest = longest_wait(cap, total, nap).await;
            println!("cap {cap}, nap {nap:?}: longest wait {longest:?}");
            assert!(longest < 2 * SECOND, "cap {cap}, nap {nap:?}: waited {longest:?}");
        }
    }
}

#[tokio::test]
async fn the_count_of_what_a_receiver_that_never_reads_did_not_acknowledge_is_exact_42() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tcp = Tcp::new(&TcpTarget::new(HostPort { host: "127.0.0.1".into(), port }), CAP);
    // More than the sockets of both sides take: the send cannot end, and is dropped as at an exit.
    let payload = payload_of(7, vec![b'x'; 64 << 20].into(), 1);
    assert!(timeout(SECOND, tcp.send(&payload)).await.is_err());
    let (mut peer, _) = listener.accept().unwrap();
    let failure = tcp.finish(Instant::now() + SECOND / 5).await.unwrap_err();
    let Verdict::Retry { resend_from, .. } = failure.verdict else { panic!("{failure}") };
    let progress = tcp.progress(Instant::now()).unwrap();
    assert_eq!(progress, Progress { epoch: 1, upto: resend_from, grade: Grade::Accepted });
    // One read takes what the peer's kernel holds at this moment.
    peer.set_nonblocking(true).unwrap();
    let held = peer.read(&mut vec![0; 64 << 20]).unwrap();
    assert!(held > 0);
    assert_eq!(resend_from, 7 + held as u64, "{failure}");
}

#[tokio::test]
async fn what_the_peer_says_is_thrown_away_and_does_not_spoil_the_end() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tcp = Tcp::new(&TcpTarget::new(HostPort { host: "127.0.0.1".into(), port }), CAP);
    let payload = |position| payload_of(position, Bytes::from_static(b"2 hi"), 1);
    tcp.send(&payload(0)).await.unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(&[b'?'; 200_000]).unwrap();
    tcp.send(&payload(4)).await.unwrap();
    peer.write_all(&[b'?'; 200_000]).unwrap();
    let peer = std::thread::spawn(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).map(|_| got)
    });
    tcp.finish(Instant::now() + 10 * SECOND).await.unwrap();
    assert_eq!(tcp.progress(Instant::now()), Some(Progress { epoch: 1, upto: 8, grade: Grade::Confirmed }));
    assert_eq!(peer.join().unwrap().unwrap(), b"2 hi2 hi");
}

#[tokio::test]
async fn a_receiver_that_is_down_is_named_and_reached_when_it_comes_up() {
    let closed = Closed::port();
    let address = closed.address();
    let peer = HostPort { host: "localhost".into(), port: address.port() };
    let mut tcp = Tcp::new(&TcpTarget::new(peer), CAP);
    let payload = payload_of(5, Bytes::from_static(b"2 hi"), 1);
    let failure = tcp.send(&payload).await.unwrap_err();
    assert_eq!(failure.reason, format!("connection refused by localhost:{}", address.port()));
    assert!(matches!(failure.verdict, Verdict::Retry { resend_from: 5, after: None }));
    assert_eq!(tcp.progress(Instant::now()), None);
    let listener = closed.open();
    tcp.send(&payload).await.unwrap();
    drop(listener.accept().unwrap());
}
