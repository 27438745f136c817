//! A transport of requests and answers, and the server behind it.

use super::{
    receiver::Receiver,
    weather::{Fault, Weather},
};
use crate::{
    ledger::Grade,
    transport::{Failure, ItemVerdict, Payload, Progress, Transport, Verdict},
};
use rand::RngExt;
use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};
use tokio::time::Instant;

/// As long as the real client waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

const FITS: &[Fault] = &[
    Fault::Refuse,
    Fault::ResetBefore,
    Fault::ResetAfter,
    Fault::BlackHole,
    Fault::HalfOpen,
    Fault::Slow,
    Fault::Later,
    Fault::ServerError,
    Fault::TooLarge,
    Fault::BadLine,
    Fault::Hold,
    Fault::AnswerLost,
    Fault::Cut,
];

/// See the module.
pub(super) struct Requests {
    receiver: Rc<RefCell<Receiver>>,
    weather: Rc<RefCell<Weather>>,
    /// What was sent under each key: a sealed payload never changes.
    bodies: BTreeMap<String, Vec<u8>>,
    confirmed: u64,
    /// It answers for each item.
    itemized: bool,
    /// Failures in a row, and when the first was.
    failures: (u32, Instant),
}

/// A request that is under way. If it is dropped, the server may have it all the same.
struct UnderWay {
    receiver: Rc<RefCell<Receiver>>,
    body: Option<bytes::Bytes>,
    /// The client knows what became of it.
    settled: bool,
}

impl UnderWay {
    /// The server reads it.
    fn arrives(&mut self) {
        if let Some(body) = self.body.take() {
            let mut receiver = self.receiver.borrow_mut();
            let read = receiver.read(&body);
            assert_eq!(read, body.len(), "a body ends with a line");
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.settled && !std::thread::panicking() {
            self.arrives();
            self.receiver.borrow_mut().may_repeat();
        }
    }
}

impl Requests {
    pub(super) fn new(receiver: &Rc<RefCell<Receiver>>, weather: &Rc<RefCell<Weather>>, itemized: bool) -> Self {
        let (receiver, weather) = (Rc::clone(receiver), Rc::clone(weather));
        Self { receiver, weather, bodies: BTreeMap::new(), confirmed: 0, itemized, failures: (0, Instant::now()) }
    }

    /// Back-off: so many failures in a row take their time.
    fn count(&mut self, failed: bool) {
        let (count, since) = if failed && self.failures.0 > 0 { self.failures } else { (0, Instant::now()) };
        self.failures = (if failed { count + 1 } else { 0 }, since);
        let took = since.elapsed();
        assert!(count < 20 || took > Duration::from_secs(1), "{count} failures in a row within {took:?}");
    }

    fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.weather.borrow_mut().rng.random_range(from..to))
    }

    fn flip(&self) -> bool {
        self.weather.borrow_mut().rng.random()
    }

    /// Which items the server does not like, for good (400) or for now.
    fn bad_items(&self, payload: &Payload) -> Vec<bool> {
        let mut from = 0;
        let lines = payload.ends.iter().map(|&end| {
            let line = &payload.body[from..end as usize];
            from = end as usize;
            // A property of the line, so that each try finds the same.
            crc32c::crc32c(line).is_multiple_of(41)
        });
        lines.collect()
    }

    fn items(&mut self, payload: &Payload, bad: &[bool]) -> Failure {
        let mut from = 0;
        let mut verdicts = Vec::new();
        for (&end, &bad) in payload.ends.iter().zip(bad) {
            let later = self.weather.borrow_mut().rng.random_bool(0.2);
            verdicts.push(match (bad, later) {
                (true, _) => ItemVerdict::Rejected,
                (false, true) => ItemVerdict::Retry,
                (false, false) => {
                    self.receiver.borrow_mut().read(&payload.body[from..end as usize]);
                    ItemVerdict::Stored
                }
            });
            from = end as usize;
        }
        self.weather.borrow().seen.borrow_mut().hit("a verdict for each item");
        let after = self.flip().then_some(Duration::ZERO);
        failure(Verdict::Items { items: verdicts, after }, "some items")
    }
}

fn failure(verdict: Verdict, reason: &str) -> Failure {
    Failure { verdict, reason: reason.into() }
}

impl Transport for Requests {
    const REPEATABLE: bool = true;

    async fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        let result = self.request(payload).await;
        let failed = matches!(&result, Err(Failure { verdict: Verdict::Retry { .. } | Verdict::Hold, .. }));
        self.count(failed);
        result
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

impl Requests {
    async fn request(&mut self, payload: &Payload) -> Result<(), Failure> {
        if self.receiver.borrow().deaf {
            return std::future::pending().await;
        }
        let known = self.bodies.entry(payload.key.clone()).or_insert_with(|| payload.body.to_vec());
        assert_eq!(known, &payload.body, "a sealed payload changed between two tries");
        let again = |reason| failure(Verdict::Retry { resend_from: payload.position, after: None }, reason);
        let fault = self.weather.borrow_mut().look(FITS);
        if let Some(fault) = fault {
            super::trace(|| format!("{}: {fault:?}", self.receiver.borrow().name));
        }
        match fault {
            Some(Fault::Refuse) => return Err(again("refused")),
            Some(Fault::ResetBefore) => {
                tokio::time::sleep(self.millis(0, 5)).await;
                return Err(again("reset"));
            }
            _ => {}
        }
        let mut way =
            UnderWay { receiver: Rc::clone(&self.receiver), body: Some(payload.body.clone()), settled: false };
        // What is dropped before it began to travel is not there.
        tokio::time::sleep(self.millis(0, 4)).await;
        let bad = self.bad_items(payload);
        let (after, any_bad) = (Some(self.millis(1, 40_000)), bad.contains(&true));
        let limit =
            if fault == Some(Fault::TooLarge) { self.weather.borrow_mut().rng.random_range(1..2000) } else { 0 };
        let refused = match fault {
            Some(Fault::ResetAfter | Fault::Cut) => Some(again("reset in the midst")),
            Some(Fault::BlackHole) => {
                tokio::time::sleep(TIMEOUT).await;
                Some(again("no answer"))
            }
            Some(Fault::HalfOpen) if self.flip() => {
                tokio::time::sleep(TIMEOUT).await;
                Some(again("no answer"))
            }
            Some(Fault::Later) => Some(failure(Verdict::Retry { resend_from: payload.position, after }, "429")),
            Some(Fault::ServerError) => Some(again("500")),
            Some(Fault::Hold) => Some(failure(Verdict::Hold, "401")),
            Some(Fault::TooLarge) if payload.body.len() > limit => {
                self.weather.borrow().seen.borrow_mut().add("a payload is cut", u64::from(payload.ends.len() > 1));
                Some(failure(Verdict::Split, "413"))
            }
            Some(Fault::BadLine) if any_bad && !self.itemized => Some(failure(Verdict::Reject, "400")),
            _ => None,
        };
        if let Some(refused) = refused {
            way.settled = true;
            return Err(refused);
        }
        if self.itemized && fault == Some(Fault::BadLine) {
            way.settled = true;
            return Err(self.items(payload, &bad));
        }
        match fault {
            Some(Fault::Slow) => {
                let time = Duration::from_secs(payload.body.len() as u64);
                tokio::time::sleep(time.min(TIMEOUT)).await;
                if time > TIMEOUT {
                    way.settled = true;
                    return Err(again("no answer"));
                }
            }
            Some(Fault::AnswerLost | Fault::HalfOpen) => {
                way.arrives();
                if self.flip() {
                    tokio::time::sleep(TIMEOUT).await;
                }
                return Err(again("the answer was lost"));
            }
            _ => {}
        }
        way.arrives();
        way.settled = true;
        self.confirmed = payload.end();
        Ok(())
    }
}
