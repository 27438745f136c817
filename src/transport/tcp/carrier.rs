//! The transport over whatever connections a [`Dial`] makes. What it promises stands in the module above.

use super::{
    dial::Peer,
    link::{Finish, Link},
    pipe::Ending,
    window::Policy,
    wire::Dial,
};
use crate::{
    ledger::Grade,
    transport::{Failure, Payload, Progress, Pulse, Transport, Verdict},
};
use std::time::Duration;
use tokio::time::Instant;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Carrier<D: Dial> {
    connector: D,
    policy: Policy,
    link: Option<Link<D::Wire>>,
    /// Counts connections; that of `link`, or of the last one.
    epoch: u32,
    /// Final state of the connection that ended last.
    last: Option<Progress>,
    pulse: Pulse,
}

impl<D: Dial> Carrier<D> {
    /// Connects at the first payload.
    pub(crate) fn new(connector: D, policy: Policy) -> Self {
        let pulse = connector.pulse();
        Self { connector, policy, link: None, epoch: 0, last: None, pulse }
    }

    /// The connection that `payload` continues, or a new one.
    async fn link_for(&mut self, payload: &Payload) -> Result<&mut Link<D::Wire>, Failure> {
        if self.link.as_ref().is_some_and(|link| link.written() != payload.position) {
            self.retire();
        }
        let link = match self.link.take() {
            Some(link) => link,
            None => self.connect(payload.position).await?,
        };
        Ok(self.link.insert(link))
    }

    /// A new connection, and with it a new epoch.
    async fn connect(&mut self, base: u64) -> Result<Link<D::Wire>, Failure> {
        let pipe = self.connector.connect(base).await?;
        self.epoch += 1;
        Ok(Link::new(pipe, self.policy, base, self.pulse.clone()))
    }

    /// Closes the connection, keeping what is known of it.
    fn retire(&mut self) {
        if let Some(mut link) = self.link.take() {
            // Unread input would turn the close into a reset. How the connection ended is known already.
            let _ = link.glance();
            self.last = Some(Progress { epoch: self.epoch, upto: link.safe(), grade: link.grade() });
        }
    }

    /// Reads a dead connection's counters for the last time, closes it, and says what must be sent again.
    fn bury(&mut self, ending: Ending) -> Failure {
        let mut after = None;
        let mut resend_from = 0;
        if let Some(link) = self.link.as_mut() {
            link.poll_at_end(Instant::now());
            if matches!(ending, Ending::Closed) && link.carried() && link.unacked() == 0 {
                if link.end_tells_all() {
                    link.release();
                }
                // A peer that closes on young bytes again and again gets them with a back-off.
                after = (link.safe() == link.written()).then_some(Duration::ZERO);
            }
            resend_from = link.safe();
        }
        self.retire();
        let mut failure = self.connector.failure(&ending, resend_from);
        if let Verdict::Retry { after: when, .. } = &mut failure.verdict {
            *when = after;
        }
        failure
    }
}

impl<D: Dial> Transport for Carrier<D> {
    fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    async fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        // A fast peer would never let the runtime see its timers.
        tokio::task::consume_budget().await;
        match self.link_for(payload).await?.write(&payload.body).await {
            Ok(()) => Ok(()),
            Err(ending) => Err(self.bury(ending)),
        }
    }

    fn progress(&mut self, now: Instant) -> Option<Progress> {
        let Some(link) = &mut self.link else { return self.last };
        link.poll_if_due(now);
        Some(Progress { epoch: self.epoch, upto: link.safe(), grade: link.grade() })
    }

    async fn watch(&mut self) -> Result<(), Failure> {
        let Some(link) = &mut self.link else { return std::future::pending().await };
        match link.watch().await {
            Ok(()) => Ok(()),
            Err(ending) => Err(self.bury(ending)),
        }
    }

    async fn finish(&mut self, deadline: Instant) -> Result<(), Failure> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let end = link.written();
        match link.finish(deadline).await {
            Ok(Finish::Confirmed) => {
                self.link = None;
                self.last = Some(Progress { epoch: self.epoch, upto: end, grade: Grade::Confirmed });
                Ok(())
            }
            Ok(Finish::Unanswered) => {
                link.release();
                self.retire();
                Ok(())
            }
            Ok(Finish::Unacknowledged) => {
                link.release();
                let (resend_from, bytes) = (link.safe(), link.unacked());
                self.retire();
                let reason =
                    format!("{} did not acknowledge the last {bytes} bytes in time", Peer(self.connector.peer()));
                Err(Failure { verdict: Verdict::Retry { resend_from, after: None }, reason })
            }
            Err(ending) => {
                let failure = self.bury(ending);
                let owes = !matches!(failure.verdict, Verdict::Retry { resend_from, .. } if resend_from >= end);
                if owes { Err(failure) } else { Ok(()) }
            }
        }
    }
}
