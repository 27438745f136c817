//! The two kinds of transport there are: requests with answers, and byte streams.

use super::{Endpoint, Fault};
use crate::{
    ledger::Grade,
    transport::{Failure, Payload, Progress, Transport, Verdict},
};
use rand::RngExt;
use std::{cell::RefCell, rc::Rc, time::Duration};
use tokio::time::Instant;

/// A transport of requests and answers.
pub(super) struct Requests {
    endpoint: Rc<RefCell<Endpoint>>,
    confirmed: u64,
}

impl Requests {
    pub(super) fn new(endpoint: &Rc<RefCell<Endpoint>>) -> Self {
        Self { endpoint: Rc::clone(endpoint), confirmed: 0 }
    }
}

fn failure<T>(verdict: Verdict) -> Result<T, Failure> {
    Err(Failure { verdict, reason: "simulated".into() })
}

impl Transport for Requests {
    const REPEATABLE: bool = true;

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
pub(super) struct Stream {
    endpoint: Rc<RefCell<Endpoint>>,
    epoch: u32,
    /// Bytes of this connection that the peer's application has not read.
    unread: Vec<u8>,
    /// Bytes that it has read of a line without an end.
    torn: Vec<u8>,
    read: u64,
    up: bool,
}

impl Stream {
    pub(super) fn new(endpoint: &Rc<RefCell<Endpoint>>) -> Self {
        let endpoint = Rc::clone(endpoint);
        Self { endpoint, epoch: 0, unread: Vec::new(), torn: Vec::new(), read: 0, up: false }
    }

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
            self.read = payload.position;
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
