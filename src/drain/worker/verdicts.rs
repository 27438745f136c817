//! What the loop does about each verdict of a transport: send again, send less, wait long, or give a line up.
//!
//! - A line is given up only where it alone was refused: sent alone, or by a verdict of its own. An endpoint that refuses
//!   [`REFUSALS`] of them in a row and never took one is at fault itself, and held.
//! - No wait outlasts an order: each one that comes ends the back-off, and is worth a try.

use super::{Worker, earlier, sleep_until};
use crate::{
    drain::inbox::{Inbox, NEVER},
    ledger::Loss,
    transport::{Failure, ItemVerdict, Transport, Verdict},
};
use std::time::Duration;
use tokio::time::Instant;

/// Single items refused in a row, by an endpoint that never took one, after which the endpoint is taken to be at fault.
const REFUSALS: u32 = 8;

impl<T: Transport> Worker<'_, T> {
    /// Does what the verdict says.
    pub(super) async fn failed(&mut self, failure: Failure) {
        let Failure { verdict, reason } = failure;
        match verdict {
            Verdict::Retry { mut resend_from, after } => {
                if planted!(rewind_past_window) {
                    resend_from += 16;
                }
                let left = self.inbox.change(|queue| queue.rewind(resend_from));
                let orderly = after == Some(Duration::ZERO);
                let idle = !left && self.inbox.lock().queue.ready() == 0;
                if orderly || idle {
                    return;
                }
                self.complain(&reason, false);
                let urgent = self.inbox.lock().orders.urgent();
                let wait = self.backoff.retry(after, urgent);
                self.back_off(wait).await;
            }
            Verdict::Split if planted!(loop_413) => self.back_off(Duration::from_secs(1)).await,
            Verdict::Split => self.shrink(Loss::Oversize, &reason).await,
            Verdict::Reject => self.shrink(Loss::Rejected, &reason).await,
            Verdict::Hold => self.hold(&reason).await,
            Verdict::Items { items, after } => self.resolve(&items, after, &reason).await,
        }
    }

    /// A verdict for each item. An endpoint that refuses all of its very first lines is held, as in [`Self::shrink`].
    async fn resolve(&mut self, items: &[ItemVerdict], after: Option<Duration>, reason: &str) {
        let count = |wanted: ItemVerdict| items.iter().filter(|&&verdict| verdict == wanted).count();
        let (stored, again) = (count(ItemVerdict::Stored), count(ItemVerdict::Retry));
        let rejected = items.len() - stored - again;
        if !self.took && stored == 0 && rejected >= REFUSALS as usize {
            return self.hold(&format!("{reason}; no line was ever taken")).await;
        }
        self.inbox.change(|queue| queue.resolve(items));
        if stored > 0 {
            self.got_on(Instant::now());
        }
        self.complain(reason, false);
        if again > 0 && after != Some(Duration::ZERO) {
            let urgent = self.inbox.lock().orders.urgent();
            let wait = self.backoff.retry(after, urgent);
            self.back_off(wait).await;
        }
    }

    /// Halves the unsent run; a single item is given up, unless the endpoint refuses just everything.
    async fn shrink(&mut self, loss: Loss, reason: &str) {
        if self.inbox.change(|queue| queue.halve()) {
            return;
        }
        self.refusals += 1;
        if !self.took && self.refusals >= REFUSALS {
            return self.hold(&format!("{reason}; no line was ever taken")).await;
        }
        if let Some(line) = self.health.gave_up(reason, loss, Instant::now()) {
            (self.say)(&line);
        }
        self.inbox.change(|queue| queue.give_up(loss));
    }

    async fn hold(&mut self, reason: &str) {
        // What the transport took and does not call safe is sent again: nothing but its progress settles anything here.
        self.inbox.change(|queue| queue.rewind(0));
        self.complain(reason, true);
        let urgent = self.inbox.lock().orders.urgent();
        let wait = self.backoff.hold(urgent);
        self.back_off(wait).await;
    }

    fn complain(&mut self, reason: &str, held: bool) {
        if let Some(line) = self.health.failed(reason, held, Instant::now()) {
            (self.say)(&line);
        }
        let mut state = self.inbox.lock();
        state.trouble = self.health.trouble().map(str::to_owned);
        state.trouble_since.get_or_insert_with(crate::clock::now);
        state.held = held;
        drop(state);
        self.mention_overflow();
    }

    /// Waits, until an order comes: an order to hurry ends every back-off, and each later one is worth a try.
    async fn back_off(&mut self, wait: Duration) {
        let (until, turn) = {
            let mut state = self.inbox.lock();
            Inbox::arm(&mut state, NEVER);
            (earlier(Some(Instant::now() + wait), state.orders.last_call()), state.orders.turn)
        };
        let order = async {
            while self.inbox.lock().orders.turn == turn {
                self.inbox.woken().await;
            }
        };
        tokio::select! {
            biased;
            () = sleep_until(until) => {}
            () = order => self.backoff.reset(),
        }
    }
}
