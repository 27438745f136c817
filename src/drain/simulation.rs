//! Whole drains in virtual time, with simulated transports and a judge: accounted to the line, order kept, nothing
//! invented, nothing lost that is not announced.

use super::{
    inbox::Inbox,
    pack::Limits,
    testing::{batch, limits, origin, seeds},
    worker::Worker,
};
use crate::{
    config::WhenFull,
    format::{Encoder, Format},
    ledger::{Counts, Grade, Loss},
    transport::{Failure, Payload, Progress, Transport, Verdict},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap, VecDeque},
    rc::Rc,
    time::Duration,
};
use tokio::time::Instant;

/// What the receiving side does with the next payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Not even a connection.
    Refuse,
    /// Taken, but the answer is lost on the way.
    AnswerLost,
    /// 429 with Retry-After.
    Later(Duration),
    /// 401 and the like.
    Hold,
    /// Never an answer.
    Hang,
}

/// The receiving side.
#[derive(Default)]
struct Endpoint {
    script: VecDeque<Fault>,
    /// When the script is over: the share of faults in a thousand, and which.
    faults: (u32, Vec<Fault>),
    rng: Option<StdRng>,
    /// 400 for a payload with a line that this is in.
    poison: Option<&'static str>,
    /// 413 for more bytes than this.
    limit: Option<usize>,
    got: Vec<u8>,
    /// When each payload was tried.
    tries: Vec<Instant>,
    bodies: HashMap<String, Vec<u8>>,
}

impl Endpoint {
    fn fault(&mut self) -> Fault {
        if let Some(fault) = self.script.pop_front() {
            return fault;
        }
        let (share, faults) = &self.faults;
        let Some(rng) = &mut self.rng else { return Fault::None };
        if rng.random_ratio(*share, 1000) { faults[rng.random_range(0..faults.len())] } else { Fault::None }
    }

    /// What it got, line by line; a torn tail is none.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.got.clone()).unwrap();
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
    }
}

/// A transport of requests and answers.
struct Requests {
    endpoint: Rc<RefCell<Endpoint>>,
    confirmed: u64,
}

fn failure<T>(verdict: Verdict) -> Result<T, Failure> {
    Err(Failure { verdict, reason: "simulated".into() })
}

impl Transport for Requests {
    async fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let (fault, refused, too_large) = {
            let mut endpoint = self.endpoint.borrow_mut();
            endpoint.tries.push(Instant::now());
            let known = endpoint.bodies.entry(payload.key.clone()).or_insert_with(|| payload.body.to_vec());
            assert_eq!(known, &payload.body, "a sealed payload changed between two tries");
            let text = String::from_utf8_lossy(&payload.body).into_owned();
            let refused = endpoint.poison.is_some_and(|poison| text.lines().any(|line| line.contains(poison)));
            let too_large = endpoint.limit.is_some_and(|limit| payload.body.len() > limit);
            (endpoint.fault(), refused, too_large)
        };
        let again = Verdict::Retry { resend_from: payload.position, after: None };
        match fault {
            Fault::Hang => return std::future::pending().await,
            Fault::Refuse => return failure(again),
            Fault::Later(after) => {
                return failure(Verdict::Retry { resend_from: payload.position, after: Some(after) });
            }
            Fault::Hold => return failure(Verdict::Hold),
            Fault::None | Fault::AnswerLost => {}
        }
        if too_large {
            return failure(Verdict::Split);
        }
        if refused {
            return failure(Verdict::Reject);
        }
        self.endpoint.borrow_mut().got.extend_from_slice(&payload.body);
        if fault == Fault::AnswerLost {
            return failure(again);
        }
        self.confirmed = payload.end();
        Ok(())
    }

    fn progress(&mut self, _now: Instant) -> Option<Progress> {
        Some(Progress { epoch: 1, upto: self.confirmed, grade: Grade::Confirmed })
    }

    async fn watch(&mut self) -> Result<(), Failure> {
        std::future::pending().await
    }

    async fn finish(&mut self, _deadline: Instant) -> Result<(), Failure> {
        Ok(())
    }
}

/// A byte stream: the peer reads what it likes, acknowledges that and more, and dies at times.
struct Stream {
    endpoint: Rc<RefCell<Endpoint>>,
    epoch: u32,
    base: u64,
    /// Bytes of this connection that the peer's application has not read.
    unread: Vec<u8>,
    /// Bytes that it has read of a line without an end.
    torn: Vec<u8>,
    read: u64,
    up: bool,
}

impl Stream {
    fn read_some(&mut self, all: bool) {
        let mut endpoint = self.endpoint.borrow_mut();
        let length = match (&mut endpoint.rng, all) {
            (Some(rng), false) => rng.random_range(0..=self.unread.len()),
            _ => self.unread.len(),
        };
        self.torn.extend(self.unread.drain(..length));
        self.read += length as u64;
        let whole = self.torn.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        endpoint.got.extend(self.torn.drain(..whole));
    }

    fn break_off(&mut self) -> Result<(), Failure> {
        self.up = false;
        failure(Verdict::Retry { resend_from: self.read, after: None })
    }
}

impl Transport for Stream {
    async fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if !self.up {
            if self.endpoint.borrow_mut().fault() == Fault::Refuse {
                return failure(Verdict::Retry { resend_from: payload.position, after: None });
            }
            (self.up, self.epoch) = (true, self.epoch + 1);
            (self.base, self.read) = (payload.position, payload.position);
            (self.unread, self.torn) = (Vec::new(), Vec::new());
        }
        assert_eq!(payload.position, self.read + self.unread.len() as u64, "the stream has a hole");
        let fault = self.endpoint.borrow_mut().fault();
        self.unread.extend_from_slice(&payload.body);
        self.read_some(false);
        if fault == Fault::None { Ok(()) } else { self.break_off() }
    }

    fn progress(&mut self, _now: Instant) -> Option<Progress> {
        // What the application has read is known here, as if the replay window were exact.
        (self.epoch > 0).then_some(Progress { epoch: self.epoch, upto: self.read, grade: Grade::Accepted })
    }

    async fn watch(&mut self) -> Result<(), Failure> {
        if !self.up {
            return std::future::pending().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.read_some(false);
        let fault = self.endpoint.borrow_mut().fault();
        if fault == Fault::None { Ok(()) } else { self.break_off() }
    }

    async fn finish(&mut self, _deadline: Instant) -> Result<(), Failure> {
        if self.endpoint.borrow_mut().fault() != Fault::None {
            return self.break_off();
        }
        self.read_some(true);
        Ok(())
    }
}

struct Run {
    endpoint: Rc<RefCell<Endpoint>>,
    inbox: Inbox,
    said: RefCell<Vec<String>>,
}

impl Run {
    fn new(memory: usize, script: &[Fault]) -> Self {
        let endpoint = Endpoint { script: script.iter().copied().collect(), ..Endpoint::default() };
        Self {
            endpoint: Rc::new(RefCell::new(endpoint)),
            inbox: Inbox::new(WhenFull::DropOldest, memory),
            said: RefCell::default(),
        }
    }

    fn requests(&self) -> Requests {
        Requests { endpoint: Rc::clone(&self.endpoint), confirmed: 0 }
    }

    fn stream(&self) -> Stream {
        let endpoint = Rc::clone(&self.endpoint);
        Stream { endpoint, epoch: 0, base: 0, unread: Vec::new(), torn: Vec::new(), read: 0, up: false }
    }

    /// The drain beside `script`; returns how long the drain lived on after the script.
    async fn play(&self, transport: impl Transport, limits: Limits, script: impl Future<Output = ()>) -> Duration {
        let say = |line: &str| self.said.borrow_mut().push(line.to_owned());
        let encoder = Encoder::new(Format::Raw, origin());
        let worker = Worker::new(&self.inbox, transport, encoder, limits, 1, "run".into(), &say);
        let (ended, scripted) = tokio::join!(
            async {
                worker.run().await;
                Instant::now()
            },
            async {
                script.await;
                Instant::now()
            }
        );
        ended.saturating_duration_since(scripted)
    }

    fn close(&self, within: Duration) {
        let end = (Instant::now() + within).into_std();
        self.inbox.order(|state| {
            state.orders.closed = true;
            state.orders.end_at = Some(end);
        });
    }

    fn hurry(&self, within: Duration) {
        let end = (Instant::now() + within).into_std();
        self.inbox.order(|state| {
            state.orders.hurried = true;
            state.orders.end_at = Some(end);
        });
    }

    fn push(&self, first: u64, len: u64) {
        self.inbox.push(&batch(first, len));
    }

    fn books(&self) -> Counts {
        let mut state = self.inbox.lock();
        assert!(state.queue.close_books());
        *state.queue.counts()
    }

    /// Judges what arrived of `1..=written`; returns the duplicates. `missing` is what may be absent, with its reasons.
    fn judge(&self, written: u64, counts: &Counts, missing: u64) -> u64 {
        let (mut seen, mut duplicates, mut last) = (BTreeSet::new(), 0, 0);
        for line in self.endpoint.borrow().lines() {
            if line.starts_with("lastword") || line.contains("lastword:") {
                continue;
            }
            let seq: u64 = line.strip_prefix("line ").unwrap_or_else(|| panic!("invented: {line}")).parse().unwrap();
            assert!((1..=written).contains(&seq), "invented: {line}");
            if seen.insert(seq) {
                assert!(seq > last, "{seq} came after {last}");
                last = seq;
            } else {
                duplicates += 1;
            }
        }
        assert_eq!(counts.read, written);
        assert_eq!(counts.pending(), 0);
        assert_eq!(written - seen.len() as u64, missing, "lines that did not arrive");
        duplicates
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_healthy_drain_confirms_every_line_and_leaves_at_once() {
    let run = Run::new(1 << 20, &[]);
    let after = run
        .play(run.requests(), limits(), async {
            for first in (1..=1000).step_by(10) {
                run.push(first, 10);
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            run.close(60 * SECOND);
        })
        .await;
    let counts = run.books();
    assert_eq!((counts.confirmed, counts.lost.total()), (1000, 0));
    assert_eq!(run.judge(1000, &counts, 0), 0);
    assert!(after < SECOND / 10, "{after:?}");
    assert!(run.said.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn lines_gather_for_the_linger_and_not_longer_and_a_stop_ends_it() {
    let run = Run::new(1 << 20, &[]);
    let limits = Limits { linger: SECOND, nap: SECOND, ..limits() };
    let start = Instant::now();
    run.play(run.requests(), limits, async {
        run.push(1, 1);
        tokio::time::sleep(SECOND / 2).await;
        run.push(2, 1);
        tokio::time::sleep(SECOND).await;
        run.push(3, 1);
        tokio::time::sleep(SECOND / 10).await;
        run.hurry(9 * SECOND);
        tokio::time::sleep(SECOND).await;
        run.close(9 * SECOND);
    })
    .await;
    let tries: Vec<_> = run.endpoint.borrow().tries.iter().map(|at| at.duration_since(start).as_millis()).collect();
    assert_eq!(tries.len(), 2, "{tries:?}");
    assert!((1000..1010).contains(&tries[0]) && (1600..1610).contains(&tries[1]), "{tries:?}");
    run.judge(3, &run.books(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_a_long_back_off_sends_at_once() {
    for order in [Run::hurry, Run::close] {
        let run = Run::new(1 << 20, &[Fault::Later(60 * SECOND)]);
        run.play(run.requests(), limits(), async {
            run.push(1, 5);
            tokio::time::sleep(2 * SECOND).await;
            assert_eq!(run.inbox.counts().pending(), 5);
            order(&run, 8 * SECOND);
            tokio::time::sleep(SECOND / 100).await;
            assert_eq!(run.inbox.counts().confirmed, 5);
            run.close(8 * SECOND);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_pauses_the_whole_drain() {
    let run = Run::new(1 << 20, &[Fault::Later(60 * SECOND)]);
    let start = Instant::now();
    run.play(run.requests(), limits(), async {
        for first in 1..=100 {
            run.push(first, 1);
            tokio::time::sleep(SECOND).await;
        }
        run.close(8 * SECOND);
    })
    .await;
    let second = run.endpoint.borrow().tries[1].duration_since(start);
    assert!(second >= 60 * SECOND && second < 63 * SECOND, "{second:?}");
    assert_eq!(run.judge(100, &run.books(), 0), 0);
}

#[tokio::test(start_paused = true)]
async fn from_a_stop_on_it_tries_at_least_every_second_until_the_end_and_counts_the_rest() {
    let run = Run::new(1 << 20, &[]);
    run.endpoint.borrow_mut().faults = (1000, vec![Fault::Refuse]);
    run.endpoint.borrow_mut().rng = Some(StdRng::seed_from_u64(1));
    let start = Instant::now();
    let lived = run
        .play(run.requests(), limits(), async {
            run.push(1, 7);
            tokio::time::sleep(100 * SECOND).await;
            run.hurry(10 * SECOND);
            run.close(10 * SECOND);
        })
        .await;
    assert!(lived > 9 * SECOND && lived <= 10 * SECOND, "{lived:?}");
    let tries = run.endpoint.borrow().tries.clone();
    let hurried: Vec<_> = tries.iter().filter(|at| at.duration_since(start) > 100 * SECOND).collect();
    assert!(hurried.len() >= 10, "{}", hurried.len());
    for pair in hurried.windows(2) {
        assert!(pair[1].duration_since(*pair[0]) <= SECOND + SECOND / 100);
    }
    let counts = run.books();
    assert_eq!(counts.lost.of(Loss::Deadline), 7);
    run.judge(7, &counts, 7);
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_hangs_costs_exactly_what_is_pending() {
    let run = Run::new(1 << 20, &[Fault::None, Fault::Hang]);
    let lived = run
        .play(run.requests(), limits(), async {
            run.push(1, 3);
            tokio::time::sleep(SECOND).await;
            run.push(4, 4);
            tokio::time::sleep(SECOND).await;
            run.push(8, 5);
            run.close(60 * SECOND);
            tokio::time::sleep(SECOND).await;
            // A stop shortens the end.
            let end = (Instant::now() + 2 * SECOND).into_std();
            run.inbox.order(|state| state.orders.end_at = Some(end));
        })
        .await;
    assert!(lived > SECOND && lived < 2 * SECOND, "{lived:?}: the drain looks up a moment before the end");
    let counts = run.books();
    assert_eq!((counts.confirmed, counts.lost.of(Loss::Deadline)), (3, 9));
    run.judge(12, &counts, 9);
}

#[tokio::test(start_paused = true)]
async fn one_poisoned_line_costs_itself_and_is_announced() {
    let run = Run::new(1 << 20, &[]);
    run.endpoint.borrow_mut().poison = Some("line 333");
    run.play(run.requests(), limits(), async {
        run.push(1, 500);
        tokio::time::sleep(SECOND).await;
        run.close(9 * SECOND);
    })
    .await;
    let counts = run.books();
    assert_eq!((counts.confirmed, counts.lost.of(Loss::Rejected)), (499, 1));
    assert_eq!(run.judge(500, &counts, 1), 0);
    let announced = run.endpoint.borrow().lines().iter().filter(|line| line.contains("lost")).count();
    assert_eq!(announced, 1);
    assert!(run.endpoint.borrow().tries.len() < 25, "bisected: {}", run.endpoint.borrow().tries.len());
}

#[tokio::test(start_paused = true)]
async fn too_large_is_halved_and_a_line_too_large_alone_is_lost_as_oversize() {
    let run = Run::new(1 << 20, &[]);
    run.endpoint.borrow_mut().limit = Some(120);
    let long = {
        let lines = crate::line::Lines { data: vec![b'x'; 200].into(), ends: vec![200], parts: Vec::new() };
        std::sync::Arc::new(crate::line::Batch::new(crate::line::Stream::Stdout, 101, crate::line::Stamp(1), lines))
    };
    run.play(run.requests(), limits(), async {
        run.push(1, 100);
        run.inbox.push(&long);
        run.push(102, 9);
        tokio::time::sleep(SECOND).await;
        run.close(9 * SECOND);
    })
    .await;
    let counts = run.books();
    assert_eq!((counts.confirmed, counts.lost.of(Loss::Oversize)), (109, 1));
    run.judge(110, &counts, 1);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_never_took_a_line_is_held_after_eight_refusals() {
    let run = Run::new(1 << 20, &[]);
    run.endpoint.borrow_mut().poison = Some("line");
    run.play(run.requests(), limits(), async {
        run.push(1, 100);
        tokio::time::sleep(600 * SECOND).await;
        assert_eq!(run.inbox.counts().lost.of(Loss::Rejected), 7);
        assert!(run.endpoint.borrow().tries.len() < 100, "held, so tried slowly");
        run.endpoint.borrow_mut().poison = None;
        tokio::time::sleep(60 * SECOND).await;
        run.close(9 * SECOND);
    })
    .await;
    let counts = run.books();
    assert_eq!((counts.confirmed, counts.lost.total()), (93, 7));
    assert_eq!(run.judge(100, &counts, 7), 0);
    assert!(run.said.borrow().iter().any(|line| line.contains("mending")), "{:?}", run.said);
}

#[tokio::test(start_paused = true)]
async fn a_hold_loses_nothing_is_loud_and_ends() {
    let run = Run::new(1 << 20, &[Fault::Hold; 5]);
    run.play(run.requests(), limits(), async {
        run.push(1, 20);
        tokio::time::sleep(20 * SECOND).await;
        assert!(run.inbox.lock().trouble.is_some());
        tokio::time::sleep(200 * SECOND).await;
        run.close(9 * SECOND);
    })
    .await;
    let counts = run.books();
    assert_eq!((counts.confirmed, counts.lost.total()), (20, 0));
    let said = run.said.borrow();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("mending") && said[1].contains("well again"), "{said:?}");
    assert!(run.inbox.lock().trouble.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_overflows_while_the_drain_is_down_is_counted_and_announced_at_its_place() {
    let run = Run::new(20_000, &[]);
    run.endpoint.borrow_mut().faults = (1000, vec![Fault::Refuse]);
    run.endpoint.borrow_mut().rng = Some(StdRng::seed_from_u64(1));
    let limits = Limits { items: 10, in_flight: 5000, ..limits() };
    run.play(run.requests(), limits, async {
        for first in (1..=5000).step_by(10) {
            run.push(first, 10);
            tokio::time::sleep(SECOND / 100).await;
        }
        run.endpoint.borrow_mut().faults = (0, Vec::new());
        tokio::time::sleep(60 * SECOND).await;
        run.close(9 * SECOND);
    })
    .await;
    let counts = run.books();
    let lost = counts.lost.of(Loss::Overflow);
    assert!(lost > 1000, "{lost}");
    run.judge(5000, &counts, lost);
    let lines = run.endpoint.borrow().lines();
    let gap = lines.iter().position(|line| line.contains("lastword:")).unwrap();
    assert_eq!(lines[gap - 1], "line 10", "what was in flight stays");
    assert_eq!(lines[gap + 1], format!("line {}", 11 + lost));
    let digits: String = lines[gap].split(" lost").next().unwrap().chars().filter(char::is_ascii_digit).collect();
    assert!(digits.ends_with(&lost.to_string()), "{}", lines[gap]);
}

/// A seed's own selection of faults, so that their combinations vary (swarm testing).
fn swarm(rng: &mut StdRng) -> (u32, Vec<Fault>) {
    let all = [Fault::Refuse, Fault::AnswerLost, Fault::Later(5 * SECOND), Fault::Hold];
    let mut some: Vec<_> = all.into_iter().filter(|_| rng.random_bool(0.5)).collect();
    some.push(Fault::Refuse);
    (rng.random_range(50..800), some)
}

async fn storm(run: &Run, rng: &mut StdRng) -> u64 {
    let mut written = 0;
    for _ in 0..rng.random_range(50..200) {
        let len = rng.random_range(1..30);
        run.push(written + 1, len);
        written += len;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..500))).await;
    }
    // Quiet: every drain catches up within the longest wait.
    run.endpoint.borrow_mut().faults = (0, Vec::new());
    tokio::time::sleep(40 * SECOND).await;
    run.close(9 * SECOND);
    written
}

#[tokio::test(start_paused = true)]
async fn random_storms_over_requests_lose_poisoned_lines_alone() {
    let (mut duplicates, mut rejected) = (0, 0);
    for seed in seeds(60) {
        let mut rng = StdRng::seed_from_u64(seed.value());
        let run = Run::new(1 << 24, &[]);
        {
            let mut endpoint = run.endpoint.borrow_mut();
            endpoint.faults = swarm(&mut rng);
            endpoint.rng = Some(StdRng::seed_from_u64(seed.value()));
            endpoint.poison = rng.random_bool(0.5).then_some("line 77");
            endpoint.limit = rng.random_bool(0.5).then_some(300);
        }
        let limits = Limits { items: rng.random_range(1..200), linger: SECOND / 10, ..limits() };
        let written = std::cell::Cell::new(0);
        run.play(run.requests(), limits, async { written.set(storm(&run, &mut rng).await) }).await;
        let counts = run.books();
        let poisoned = (1..=written.get()).filter(|seq| format!("line {seq}").contains("line 77")).count() as u64;
        let expect = if run.endpoint.borrow().poison.is_some() { poisoned } else { 0 };
        assert_eq!((counts.lost.total(), counts.lost.of(Loss::Rejected)), (expect, expect));
        assert_eq!(counts.confirmed, written.get() - expect);
        duplicates += run.judge(written.get(), &counts, expect);
        rejected += expect;
    }
    let replay = std::env::var_os("LASTWORD_SEED").is_some();
    assert!(replay || duplicates > 0 && rejected > 0, "the storms met neither lost answers nor poison");
}

#[tokio::test(start_paused = true)]
async fn random_storms_over_streams_lose_nothing() {
    let mut duplicates = 0;
    for seed in seeds(60) {
        let mut rng = StdRng::seed_from_u64(seed.value());
        let run = Run::new(1 << 24, &[]);
        {
            let mut endpoint = run.endpoint.borrow_mut();
            endpoint.faults = (rng.random_range(10..500), vec![Fault::Refuse, Fault::AnswerLost]);
            endpoint.rng = Some(StdRng::seed_from_u64(seed.value()));
        }
        let bytes = rng.random_range(20..500);
        let limits = Limits { bytes, in_flight: bytes * rng.random_range(1..9), ..limits() };
        let written = std::cell::Cell::new(0);
        run.play(run.stream(), limits, async { written.set(storm(&run, &mut rng).await) }).await;
        let counts = run.books();
        assert_eq!((counts.accepted, counts.lost.total()), (written.get(), 0));
        duplicates += run.judge(written.get(), &counts, 0);
    }
    // A whole line is never repeated here: what the application has read is known to the byte.
    assert_eq!(duplicates, 0);
}
