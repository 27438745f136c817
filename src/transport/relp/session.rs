//! One RELP session: what was sent on it, and what was answered.

use super::{
    ANSWER_TIME,
    frame::{self, Answer, NotRelp, Parser},
};
use crate::transport::tcp::pipe::{Ending, Pipe};
use std::{collections::VecDeque, io::ErrorKind};
use tokio::time::{Instant, timeout_at};

/// Frames are gathered up to this size before they are written.
const GATHER: usize = 16 << 10;
/// The library speaks version 0, whatever its paper says.
const OFFERS: &str = concat!(
    "relp_version=0\nrelp_software=lastword,",
    env!("CARGO_PKG_VERSION"),
    ",https://crates.io/crates/lastword\ncommands=syslog"
);

/// Why a session is over.
#[derive(Debug)]
pub(super) enum Trouble {
    Ended(Ending),
    ServerClose,
    NotRelp(NotRelp),
    /// The answer to `open` was no.
    OpenRefused(String),
    /// A message was refused.
    Refused {
        text: String,
    },
    /// The receiver owes an answer for too long.
    Silent,
}

impl From<Ending> for Trouble {
    fn from(ending: Ending) -> Self {
        Self::Ended(ending)
    }
}

/// A message without an answer, or with answers owed before it.
#[derive(Debug)]
struct Sent {
    txnr: u32,
    end: u64,
    answered: bool,
}

#[derive(Debug)]
pub(super) struct Session {
    pipe: Pipe,
    parser: Parser,
    txnr: u32,
    sent: VecDeque<Sent>,
    unanswered: usize,
    /// All messages that end before this position are confirmed.
    confirmed: u64,
    /// Frames that are not written.
    out: Vec<u8>,
    /// When the last answer came, or the first message without one was sent.
    since: Instant,
    opened: Option<Result<(), String>>,
    closed: bool,
    trouble: Option<Trouble>,
}

impl Session {
    pub(super) fn new(pipe: Pipe) -> Self {
        Self {
            pipe,
            parser: Parser::default(),
            txnr: 0,
            sent: VecDeque::new(),
            unanswered: 0,
            confirmed: 0,
            out: Vec::new(),
            since: Instant::now(),
            opened: None,
            closed: false,
            trouble: None,
        }
    }

    pub(super) fn unanswered(&self) -> usize {
        self.unanswered
    }

    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// Position that the last whole line sent here ends at.
    pub(super) fn last_sent(&self) -> u64 {
        self.sent.iter().map(|sent| sent.end).max().unwrap_or(0)
    }

    /// Offers, and waits for what the receiver makes of them.
    pub(super) async fn open(&mut self) -> Result<(), Trouble> {
        self.command("open", OFFERS.as_bytes());
        self.flush().await?;
        loop {
            match self.opened.take() {
                Some(Ok(())) => return Ok(()),
                Some(Err(text)) => return Err(Trouble::OpenRefused(text)),
                None => self.read().await?,
            }
        }
    }

    /// Queues a message, and writes once enough is queued. `end` is the position that it ends at, or 0 if its line goes
    /// on.
    pub(super) async fn send(&mut self, message: &[u8], end: u64) -> Result<(), Trouble> {
        if self.unanswered == 0 {
            self.since = Instant::now();
        }
        self.command("syslog", message);
        self.sent.push_back(Sent { txnr: self.txnr, end, answered: false });
        self.unanswered += 1;
        if self.out.len() >= GATHER { self.flush().await } else { Ok(()) }
    }

    /// Writes what is queued, reading answers meanwhile.
    pub(super) async fn flush(&mut self) -> Result<(), Trouble> {
        self.glance()?;
        while !self.out.is_empty() {
            match self.pipe.try_write(&self.out) {
                Ok(length) => drop(self.out.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.room_or_input().await?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Ending::Broken(error).into()),
            }
        }
        while !self.pipe.try_flush().map_err(Ending::Broken)? {
            self.room_or_input().await?;
        }
        Ok(())
    }

    /// Waits until no more than `most` messages are without an answer.
    pub(super) async fn wait_until_unanswered(&mut self, most: usize) -> Result<(), Trouble> {
        if self.unanswered > most {
            self.flush().await?;
        }
        while self.unanswered > most {
            self.read_in_time().await?;
        }
        self.check()
    }

    /// Waits until more is confirmed, or the session ends. Cancel-safe.
    pub(super) async fn watch(&mut self) -> Result<(), Trouble> {
        let before = self.confirmed;
        self.flush().await?;
        while self.confirmed == before {
            if self.unanswered > 0 {
                self.read_in_time().await?;
            } else {
                self.read().await?;
            }
            self.check()?;
        }
        Ok(())
    }

    /// Says that this is all, and waits for the receiver's end.
    pub(super) async fn close(&mut self) -> Result<(), Trouble> {
        self.command("close", b"");
        self.flush().await?;
        while !self.closed {
            self.read().await?;
        }
        self.pipe.say_goodbye().map_err(Ending::Broken)?;
        let _ = self.pipe.try_flush();
        self.pipe.half_close().map_err(Ending::Broken)?;
        Err(self.pipe.see_end().await.into())
    }

    fn command(&mut self, command: &str, data: &[u8]) {
        self.txnr = frame::next_txnr(self.txnr);
        frame::encode(self.txnr, command, data, &mut self.out);
    }

    async fn read_in_time(&mut self) -> Result<(), Trouble> {
        let until = self.since + ANSWER_TIME;
        timeout_at(until, self.read()).await.unwrap_or(Err(Trouble::Silent))
    }

    /// Waits for input and takes it.
    async fn read(&mut self) -> Result<(), Trouble> {
        self.check()?;
        self.pipe.readable().await?;
        self.take_input(|pipe, parser| pipe.input(&mut |bytes| parser.push(bytes)))
    }

    async fn room_or_input(&mut self) -> Result<(), Trouble> {
        let until = self.since + ANSWER_TIME;
        let ready = self.pipe.ready();
        let readable =
            if self.unanswered > 0 { timeout_at(until, ready).await.unwrap_or(Ok(false))? } else { ready.await? };
        if self.unanswered > 0 && Instant::now() >= until {
            return Err(Trouble::Silent);
        }
        if readable {
            self.take_input(|pipe, parser| pipe.input(&mut |bytes| parser.push(bytes)))?;
        }
        self.check()
    }

    /// Looks for input past the runtime's notion of readiness.
    fn glance(&mut self) -> Result<(), Trouble> {
        self.take_input(|pipe, parser| pipe.glance(&mut |bytes| parser.push(bytes)))?;
        self.check()
    }

    /// Answers count even if the connection ended behind them.
    fn take_input(&mut self, take: impl FnOnce(&mut Pipe, &mut Parser) -> Result<(), Ending>) -> Result<(), Trouble> {
        let result = take(&mut self.pipe, &mut self.parser);
        while let Some(answer) = self.parser.next().map_err(Trouble::NotRelp)? {
            self.answered(answer);
        }
        if self.trouble.is_some() {
            return self.check();
        }
        Ok(result?)
    }

    /// What went wrong, once.
    fn check(&mut self) -> Result<(), Trouble> {
        self.trouble.take().map_or(Ok(()), Err)
    }

    fn answered(&mut self, answer: Answer) {
        let (txnr, code, text) = match answer {
            Answer::ServerClose if self.closed => return,
            Answer::ServerClose => {
                self.trouble.get_or_insert(Trouble::ServerClose);
                return;
            }
            Answer::Response { txnr, code, text } => (txnr, code, text),
        };
        self.since = Instant::now();
        let text =
            String::from_utf8_lossy(&text).lines().next().unwrap_or_default().chars().take(80).collect::<String>();
        if self.sent.is_empty() && txnr == 1 && code != 0 {
            self.opened = Some(if code == 200 { Ok(()) } else { Err(format!("{code} {text}")) });
            return;
        }
        let Some(at) = self.sent.iter().position(|sent| sent.txnr == txnr && !sent.answered) else {
            self.closed |= code == 0 || txnr == self.txnr;
            return;
        };
        if code != 200 {
            self.trouble.get_or_insert(Trouble::Refused { text: format!("{code} {text}") });
            return;
        }
        self.sent[at].answered = true;
        self.unanswered -= 1;
        while self.sent.front().is_some_and(|sent| sent.answered) {
            let end = self.sent.pop_front().map_or(0, |sent| sent.end);
            self.confirmed = self.confirmed.max(end);
        }
    }
}
