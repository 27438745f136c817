//! A transport of requests with answers. Byte streams, storms, spools and deaths are in tests/sim.

use super::{Endpoint, Fault};
use crate::{
    ledger::Grade,
    transport::{Failure, Payload, Progress, Transport, Verdict},
};
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
