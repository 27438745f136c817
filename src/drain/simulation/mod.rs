//! Whole drains in virtual time, with simulated transports and a judge: accounted to the line, order kept, nothing
//! invented, nothing lost that is not announced.

mod storms;
mod timing;
mod transports;
mod verdicts;

use self::transports::{Requests, Stream};
use super::{
    inbox::Inbox,
    pack::Limits,
    testing::{batch, origin},
    worker::Worker,
};
use crate::{
    config::WhenFull,
    format::{Encoder, Format},
    ledger::Counts,
    transport::Transport,
};
use rand::{RngExt, rngs::StdRng};
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
        Requests::new(&self.endpoint)
    }

    fn stream(&self) -> Stream {
        Stream::new(&self.endpoint)
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
