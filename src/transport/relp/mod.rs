//! RELP: syslog messages one by one, each confirmed by the receiver's application (librelp `doc/relp.md`).
//!
//! *confirmed*: `200` for that message: it is in the receiver's main queue (on its disk only if that queue is there). Up
//! to `#window=` messages (128, as librelp) travel without an answer. When a connection ends, all that have none are sent
//! again, in order and with new numbers; a duplicate is the price where just the answer was lost.
//!
//! Receivers cut messages beyond a limit of their own (rsyslog: `maxMessageSize`, 8 KiB) and confirm them all the same.
//! So no message is longer than `#max-message=` (8 KiB): the format cuts longer lines into pieces, which are counted
//! frames (RFC 6587) in a payload. Raise it together with the receiver's.
//!
//! `500` for a message refuses that message alone; to know which, the connection is made anew and messages go one at a
//! time until the refused one is passed. Numbers must have no gap: a receiver ends the session otherwise.

pub(crate) mod frame;
mod session;
#[cfg(test)]
mod tests;

use self::session::{Session, Trouble};
use super::{
    Failure, Payload, Progress, Pulse, Transport, Verdict,
    tcp::dial::{Connector, Peer},
};
use crate::{clock, config::RelpTarget, ledger::Grade};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Time for the answer to `open`.
const OPEN_TIME: Duration = Duration::from_secs(10);
/// How long a receiver may owe an answer (librelp's own limit).
const ANSWER_TIME: Duration = Duration::from_secs(90);
/// How long it may take to close.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug)]
pub struct Relp {
    connector: Connector,
    max_message: usize,
    window: usize,
    session: Option<Session>,
    epoch: u32,
    /// All bytes before this position are confirmed.
    confirmed: u64,
    /// Messages go one at a time until this position is passed: a refused one lies before it.
    careful: u64,
    pulse: Pulse,
}

impl Relp {
    /// Connects at the first payload.
    pub fn new(target: RelpTarget) -> Self {
        let RelpTarget { peer, tls, max_message, window } = target;
        let connector = Connector::new(peer, tls);
        let pulse = connector.pulse().clone();
        Self { connector, max_message, window, session: None, epoch: 0, confirmed: 0, careful: 0, pulse }
    }

    async fn connect(&mut self, base: u64) -> Result<(), Failure> {
        let pipe = self.connector.connect(base).await?;
        let refused_by_silence = pipe.may_be_refused();
        let mut session = Session::new(pipe);
        self.pulse.wait_for(format!("RELP session with {} not open", Peer(self.connector.peer())), clock::now());
        let opened = timeout_at(Instant::now() + OPEN_TIME, session.open()).await;
        self.pulse.waited();
        self.epoch += 1;
        self.confirmed = self.confirmed.max(base);
        match opened {
            Ok(Ok(())) => {
                self.session = Some(session);
                Ok(())
            }
            Ok(Err(trouble)) => {
                let mut failure = self.failure(trouble, base);
                // In TLS 1.3 a receiver that refuses our certificate may just close (imrelp does).
                if refused_by_silence && matches!(failure.verdict, Verdict::Retry { .. }) {
                    failure.reason += " before it answered; does it want a client certificate (`#cert=` and `#key=`)?";
                }
                Err(failure)
            }
            Err(_) => {
                let reason = format!("{} does not answer as a RELP receiver", Peer(self.connector.peer()));
                Err(Failure { verdict: Verdict::Retry { resend_from: base, after: None }, reason })
            }
        }
    }

    /// What an ended session means; it is gone after that.
    fn failure(&mut self, trouble: Trouble, base: u64) -> Failure {
        let peer = Peer(self.connector.peer()).to_string();
        let ended = self.session.take();
        let last_sent = ended.as_ref().map_or(0, Session::last_sent);
        let owed = ended.is_some_and(|session| session.unanswered() > 0);
        let resend_from = self.confirmed.max(base);
        match trouble {
            Trouble::Ended(ending) => self.connector.failure(&ending, resend_from),
            Trouble::ServerClose => {
                let after = (!owed && self.epoch > 0).then_some(Duration::ZERO);
                Failure {
                    verdict: Verdict::Retry { resend_from, after },
                    reason: format!("{peer} ended the RELP session"),
                }
            }
            Trouble::NotRelp(error) => {
                Failure { verdict: Verdict::Retry { resend_from, after: None }, reason: format!("{peer}: {error}") }
            }
            Trouble::OpenRefused(text) => {
                Failure { verdict: Verdict::Hold, reason: format!("{peer} refuses the RELP session: {text}") }
            }
            Trouble::Silent => Failure {
                verdict: Verdict::Retry { resend_from, after: None },
                reason: format!("{peer} owes a RELP answer for {} s", ANSWER_TIME.as_secs()),
            },
            Trouble::Refused { text } => {
                // Which line it is shows when they go one at a time.
                self.careful = self.careful.max(last_sent);
                Failure {
                    verdict: Verdict::Retry { resend_from, after: Some(Duration::ZERO) },
                    reason: format!("{peer} refuses a message: {text}"),
                }
            }
        }
    }

    /// Takes the answers that are there.
    fn settle(&mut self) {
        if let Some(session) = &self.session {
            self.confirmed = self.confirmed.max(session.confirmed());
            self.pulse.reach(self.confirmed);
        }
    }

    /// One message. It ends at position `upto`, or is followed by more of its line (0). A lone one is judged by itself.
    async fn message(&mut self, message: &[u8], upto: u64, alone: bool) -> Result<(), Failure> {
        let too_long = message.len() > self.max_message;
        let room = if alone || too_long { 1 } else { self.window };
        let Some(session) = &mut self.session else { return Ok(()) };
        let waited = session.wait_until_unanswered(room - 1).await;
        self.settle();
        waited.map_err(|trouble| self.failure(trouble, 0))?;
        let peer = Peer(self.connector.peer());
        if too_long {
            let reason =
                format!("{peer}: a message of {} bytes is over its limit of {}", message.len(), self.max_message);
            return Err(Failure { verdict: Verdict::Split, reason });
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        let sent = match session.send(message, upto).await {
            Ok(()) if alone => session.wait_until_unanswered(0).await,
            other => other,
        };
        self.settle();
        match sent {
            Ok(()) => Ok(()),
            // It goes alone, so it is the refused one; the payload is cut down to it.
            Err(Trouble::Refused { text }) if alone => {
                self.session = None;
                Err(Failure {
                    verdict: Verdict::Reject,
                    reason: format!("{} refuses a message: {text}", Peer(self.connector.peer())),
                })
            }
            Err(trouble) => Err(self.failure(trouble, 0)),
        }
    }

    async fn deliver(&mut self, payload: &Payload) -> Result<(), Failure> {
        if self.session.is_none() {
            self.connect(payload.position).await?;
        }
        let mut start = 0;
        for &end in &*payload.ends {
            let mut item = &payload.body[start..end as usize];
            start = end as usize;
            while let Some((message, rest)) = counted(item) {
                // A line's last message is what settles it.
                let upto = if rest.is_empty() { payload.position + u64::from(end) } else { 0 };
                self.message(message, upto, payload.position + u64::from(end) <= self.careful).await?;
                item = rest;
            }
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        let result = session.flush().await;
        self.settle();
        result.map_err(|trouble| self.failure(trouble, 0))
    }
}

/// The counted message at the start of `item` (`MSG-LEN SP SYSLOG-MSG`), and what follows.
fn counted(item: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = item.iter().position(|&byte| byte == b' ')?;
    let length: usize = std::str::from_utf8(&item[..space]).ok()?.parse().ok()?;
    item.get(space + 1..)?.split_at_checked(length)
}

impl Transport for Relp {
    fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    async fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        tokio::task::consume_budget().await;
        self.deliver(payload).await
    }

    fn progress(&mut self, _now: Instant) -> Option<Progress> {
        self.settle();
        let progress = Progress { epoch: self.epoch, upto: self.confirmed, grade: Grade::Confirmed };
        (self.epoch > 0).then_some(progress)
    }

    async fn watch(&mut self) -> Result<(), Failure> {
        let Some(session) = &mut self.session else { return std::future::pending().await };
        let result = session.watch().await;
        self.settle();
        result.map_err(|trouble| self.failure(trouble, 0))
    }

    async fn finish(&mut self, deadline: Instant) -> Result<(), Failure> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let waited = timeout_at(deadline, session.wait_until_unanswered(0)).await;
        self.settle();
        match waited {
            Ok(Ok(())) => {}
            Ok(Err(trouble)) => {
                let owed = self.session.as_ref().is_some_and(|session| session.unanswered() > 0);
                let failure = self.failure(trouble, 0);
                return if owed { Err(failure) } else { Ok(()) };
            }
            Err(_) => {
                let owed = self.session.take().map_or(0, |session| session.unanswered());
                let reason = format!("{} did not answer the last {owed} messages in time", Peer(self.connector.peer()));
                return Err(Failure { verdict: Verdict::Retry { resend_from: self.confirmed, after: None }, reason });
            }
        }
        // All is confirmed; a receiver that does not close properly changes nothing.
        if let Some(mut session) = self.session.take() {
            let until = deadline.min(Instant::now() + CLOSE_TIME);
            let _ = timeout_at(until, session.close()).await;
        }
        Ok(())
    }
}
