//! The loop of one drain: take what the transport knows, do the next thing; what went wrong is [`verdicts`]' business.
//!
//! The same loop serves request-response protocols, where a whole payload is confirmed at once, and byte streams, where
//! many are in flight; it knows nothing of either but [`Progress`] and [`Verdict`]. It leaves when the drain is closed
//! and has nothing more to do, when time is over, or when the books were closed over its head. It is never cancelled:
//! a transport that hangs keeps its thread, and whatever it was given counts as lost when the books are closed.

mod verdicts;

use super::{
    backoff::Backoff,
    health::Health,
    inbox::{Cut, Inbox, NEVER},
    pack::{self, Encoders, Limits},
    sealed::Sealed,
    status::STALLED,
};
use crate::{
    clock,
    format::Encoder,
    ledger::Loss,
    spool::{load::Loader, recovery::Range},
    transport::{Failure, Payload, Transport, Verdict},
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// The buffer that an idle drain keeps.
const IDLE_BYTES: usize = 256 << 10;
/// Time for the last evidence, if nobody set an end.
const FINISH: Duration = Duration::from_secs(60);

/// Time for a transport to settle what it knows after the end; less than [`super::inbox`] keeps for it.
const LAST_WORDS: Duration = Duration::from_millis(10);

/// What one drain's loop works with.
pub(crate) struct Worker<'a, T> {
    inbox: &'a Inbox,
    transport: T,
    encoder: Encoders,
    /// Taken from the inbox when it is wanted: the spool may be opened late, and anew.
    loader: Option<Loader>,
    limits: Limits,
    backoff: Backoff,
    health: Health,
    /// Stands before the run's number in a payload's key.
    key: String,
    /// Prints a line about the drain.
    say: &'a dyn Fn(&str),
    /// Since when lines wait for company.
    gathering: Option<Instant>,
    /// When the drain last sent, or found nothing to do.
    quiet_since: Option<Instant>,
    /// A connection may be up, so there is something to watch.
    watching: bool,
    /// The endpoint took something, ever.
    took: bool,
    refusals: u32,
    scratch: Vec<u8>,
}

/// What to do next.
enum Step {
    /// The unsent run.
    Send(Sealed),
    /// What is in the spool.
    Load(Range),
    /// Nothing, until this time, a push, an order, or news of the connection.
    Wait(Option<Instant>),
    /// All is sent and no more will come.
    Finish,
    /// Nothing, ever.
    Leave,
}

impl<'a, T: Transport> Worker<'a, T> {
    pub(crate) fn new(
        inbox: &'a Inbox,
        transport: T,
        encoder: Encoder,
        limits: Limits,
        seed: u64,
        key: String,
        say: &'a dyn Fn(&str),
    ) -> Self {
        Self {
            inbox,
            transport,
            encoder: Encoders::new(encoder),
            loader: None,
            limits,
            backoff: Backoff::new(seed),
            health: Health::default(),
            key,
            say,
            gathering: None,
            quiet_since: None,
            watching: false,
            took: false,
            refusals: 0,
            scratch: Vec::new(),
        }
    }

    /// Runs until there is nothing more to do.
    pub(crate) async fn run(mut self) {
        self.inbox.lock().pulse = self.transport.pulse();
        loop {
            self.absorb();
            match self.next() {
                Step::Send(run) => self.send(run).await,
                Step::Load(range) => self.load(&range),
                Step::Wait(until) => self.wait(until).await,
                Step::Finish => {
                    if self.finish().await {
                        return;
                    }
                }
                Step::Leave => return self.last_words().await,
            }
        }
    }

    /// Time is over, and a send or the last evidence may have been dropped half-way: what the transport knows by now is
    /// settled, because nothing will be sent again.
    async fn last_words(&mut self) {
        if self.inbox.lock().queue.is_frozen() {
            return;
        }
        // Nothing waits behind a deadline that has passed; the limit is for a transport that does.
        let result = tokio::time::timeout(LAST_WORDS, self.transport.finish(Instant::now())).await;
        tracing::debug!(?result, "last words");
        self.absorb();
    }

    /// Books what the transport knows.
    fn absorb(&mut self) {
        let now = Instant::now();
        let Some(progress) = self.transport.progress(now) else { return };
        if self.inbox.progress(progress) > 0 {
            self.got_on(now);
        }
    }

    /// The receiver took something.
    fn got_on(&mut self, now: Instant) {
        self.mention_overflow();
        self.took = true;
        self.refusals = 0;
        self.backoff.reset();
        if let Some(line) = self.health.recovered(now) {
            (self.say)(&line);
        }
        let mut state = self.inbox.lock();
        (state.trouble, state.trouble_since, state.held) = (None, None, false);
    }

    fn next(&mut self) -> Step {
        let now = Instant::now();
        let mut state = self.inbox.lock();
        if state.queue.is_frozen() || state.orders.over(now) {
            return Step::Leave;
        }
        if let Some(run) = state.queue.unsent() {
            return Step::Send(run.clone());
        }
        if state.queue.ready() == 0 {
            if state.orders.closed {
                return Step::Finish;
            }
            self.gathering = None;
            self.quiet_since = Some(now);
            self.scratch.truncate(0);
            self.scratch.shrink_to(IDLE_BYTES);
            Inbox::arm(&mut state, 1);
            return Step::Wait(None);
        }
        if !state.queue.may_seal(&self.limits) {
            // Only the transport can make room.
            Inbox::arm(&mut state, NEVER);
            return Step::Wait(None);
        }
        if let Some(range) = state.queue.to_load() {
            return Step::Load(range);
        }
        let since = *self.gathering.get_or_insert(now);
        let rested = self.quiet_since.is_none_or(|at| now.duration_since(at) >= self.limits.nap);
        let until = since + if rested { self.limits.linger } else { self.limits.nap };
        let full = state.queue.ready() >= self.limits.bytes || state.queue.waiting() >= self.limits.items;
        if !full && !state.orders.urgent() && now < until {
            Inbox::arm(&mut state, self.limits.bytes);
            return Step::Wait(Some(until));
        }
        self.gathering = None;
        let limits = if state.orders.urgent() { self.limits.hurried() } else { self.limits };
        state.queue.seal(&limits);
        state.queue.unsent().cloned().map_or(Step::Leave, Step::Send)
    }

    /// Reads the front of what waits in the spool.
    fn load(&mut self, range: &Range) {
        if let Some(newest) = self.inbox.lock().loader.take() {
            self.loader = Some(newest);
        }
        let Some(loader) = &mut self.loader else { return };
        let loaded = loader.load(range, self.limits.load);
        self.inbox.change(|queue| queue.load(*range, loaded, clock::stamp()));
    }

    /// Encodes the run (again, if this is a retry) and sends it.
    async fn send(&mut self, run: Sealed) {
        self.quiet_since = Some(Instant::now());
        let Some(payload) = self.payload(&run) else { return };
        self.watching = true;
        let result = tokio::select! {
            biased;
            result = self.transport.send(&payload) => Some(result),
            cut = self.inbox.cut(T::REPEATABLE) => (cut == Cut::Halfway).then(|| {
                let verdict = Verdict::Retry { resend_from: payload.position, after: None };
                Err(Failure { verdict, reason: "no answer since before the stop; asked again".into() })
            }),
            () = look_out(self.inbox, &mut self.health, self.say) => None,
        };
        self.absorb();
        match result {
            Some(Ok(())) => {
                self.backoff.came_up();
                self.inbox.lock().queue.mark_sent(run.id());
            }
            Some(Err(failure)) => self.failed(failure).await,
            None => {}
        }
        self.reclaim(payload);
    }

    fn payload(&mut self, run: &Sealed) -> Option<Payload> {
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let mut ends = Vec::with_capacity(run.open_items());
        pack::encode(run, &mut self.encoder, &mut out, &mut ends);
        let (position, ends) = match run.open_wire() {
            Some((position, known)) => {
                debug_assert_eq!(known[..], ends[..], "encoding again gave other bytes");
                (position, known)
            }
            None => {
                let ends: Arc<[u32]> = ends.into();
                let mut state = self.inbox.lock();
                state.queue.place(run.id(), Arc::clone(&ends));
                // None if the books were closed meanwhile.
                (state.queue.unsent()?.span()?.0, ends)
            }
        };
        let key = format!("{}-{}", self.key, run.id());
        Some(Payload { position, body: Bytes::from(out), units: run.open_units(), key, ends })
    }

    /// Gets the buffer back, if the transport kept no part of it and it is of ordinary size.
    fn reclaim(&mut self, payload: Payload) {
        if let Ok(body) = payload.body.try_into_mut()
            && body.capacity() <= 2 * self.limits.bytes
        {
            self.scratch = body.into();
        }
    }

    /// Waits for whatever comes first: the time, a push, an order, news of the connection.
    async fn wait(&mut self, until: Option<Instant>) {
        let (until, stands) = {
            let state = self.inbox.lock();
            (earlier(until, state.orders.last_call()), !state.queue.is_empty())
        };
        let watching = self.watching;
        let news = async { if watching { self.transport.watch().await } else { std::future::pending().await } };
        let failure = tokio::select! {
            biased;
            () = self.inbox.woken() => None,
            () = sleep_until(until) => None,
            result = news => result.err(),
            () = look_out(self.inbox, &mut self.health, self.say), if stands => None,
        };
        if let Some(failure) = failure {
            // The connection is gone; there is nothing to watch until the next send.
            self.watching = false;
            self.absorb();
            self.failed(failure).await;
        }
    }

    /// Gets the last evidence. True if there is nothing more to do.
    async fn finish(&mut self) -> bool {
        let deadline = self.inbox.lock().orders.last_call().map_or(Instant::now() + FINISH, Instant::from_std);
        let result = tokio::select! {
            biased;
            result = self.transport.finish(deadline) => result,
            // The loop leaves, with the last words.
            () = self.inbox.over() => return false,
        };
        self.absorb();
        match result {
            Ok(()) => true,
            Err(failure) => {
                self.watching = false;
                self.failed(failure).await;
                self.inbox.lock().queue.is_empty()
            }
        }
    }

    fn mention_overflow(&mut self) {
        let lost = self.inbox.counts().lost.of(Loss::Overflow);
        if let Some(line) = self.health.overflowed(lost, Instant::now()) {
            (self.say)(&line);
        }
    }
}

/// Says so when nothing moves, for as long as it is polled. Never ends.
async fn look_out(inbox: &Inbox, health: &mut Health, say: &dyn Fn(&str)) {
    loop {
        let now = Instant::now();
        let (unmoved, pending) = {
            let mut state = inbox.lock();
            (state.unmoved(now.into_std()), state.queue.counts().pending())
        };
        let time = unmoved.unwrap_or_default();
        if time >= STALLED
            && let Some(line) = health.stalled(time, pending, now)
        {
            say(&line);
        }
        // No wake-ups but these, and none while there is nothing to send.
        tokio::time::sleep(STALLED.checked_sub(time).filter(|left| !left.is_zero()).unwrap_or(STALLED)).await;
    }
}

fn earlier(one: Option<Instant>, other: Option<std::time::Instant>) -> Option<Instant> {
    let other = other.map(Instant::from_std);
    one.into_iter().chain(other).min()
}

/// Pending for ever without a time.
async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
