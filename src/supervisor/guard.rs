//! The broadcast guard: holds a stop for a moment, to see whether the [canary](crate::child::Canary) got it too.
//!
//! If it did, so did everybody, and the app is not told a second time. A stop that comes while one of its kind is held
//! merges with it, as signals that wait do. Nothing but stops is held, and none for longer than [`WINDOW`] (or than we
//! were kept from running).
//!
//! An init in front of us had the broadcast too, and passes its copy on to us: that is its echo, no second stop.

use crate::{
    child::Canary,
    signals::{Received, Sender, Signal},
};
use std::{
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

/// How long a stop is held at most.
const WINDOW: Duration = Duration::from_millis(50);

/// A broadcast so soon after the app's birth may have been under way before it: the app is told then, for twice is better
/// than never, and so young it has hardly a handler that could run twice. Birthdays are known to 10 ms.
const YOUTH: Duration = Duration::from_millis(20);

/// For so long after a broadcast our parent may pass its copy on.
const ECHO: Duration = Duration::from_millis(250);

/// What is known of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The stop.
    pub(super) received: Received,
    /// When it came.
    pub(super) at: Instant,
    /// Everybody had it.
    pub(super) broadcast: bool,
}

/// The canary and the stops that wait for its word.
#[derive(Debug)]
pub(super) struct Guard {
    canary: Option<Canary>,
    held: Vec<(Received, Instant)>,
    /// When the app was no longer newborn.
    grown_at: Duration,
    /// The broadcast whose echo may come, and until when.
    echo: Option<(Signal, Instant)>,
}

impl Guard {
    /// Without a canary, it is off.
    pub(super) const fn new(canary: Option<Canary>) -> Self {
        Self { canary, held: Vec::new(), grown_at: Duration::ZERO, echo: None }
    }

    pub(super) const fn is_on(&self) -> bool {
        self.canary.is_some()
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.canary.as_ref().map(Canary::fd)
    }

    /// Takes a stop in. What is known of it comes out of [`Self::known`].
    pub(super) fn hold(&mut self, received: Received, now: Instant) {
        let is_echo = |&mut (signal, until): &mut (Signal, Instant)| {
            signal == received.signal && now <= until && is_from_our_parent(received.sender)
        };
        if self.echo.take_if(is_echo).is_some() {
            return;
        }
        if !self.held.iter().any(|(held, _)| held.signal == received.signal) {
            self.held.push((received, now));
        }
    }

    /// The app was born then (since the boot).
    pub(super) fn app_born(&mut self, at: Duration) {
        self.grown_at = at + YOUTH;
    }

    /// When the next window ends.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.iter().map(|(_, at)| *at + WINDOW).min()
    }

    /// Hears the canary. False, once, if it is gone.
    pub(super) fn listen(&mut self) -> bool {
        let lives = self.canary.as_mut().is_none_or(Canary::listen);
        if !lives {
            self.canary = None;
        }
        lives
    }

    /// The stops of which more will not be known: the canary had them too, or their window is over; all of them if
    /// `at_once`.
    pub(super) fn known(&mut self, now: Instant, at_once: bool) -> Vec<Verdict> {
        let (canary, grown_at) = (&mut self.canary, self.grown_at);
        let mut known = Vec::new();
        self.held.retain(|&(received, at)| {
            let over = at_once || now >= at + WINDOW || canary.is_none();
            let had = canary.as_mut().and_then(|canary| match over {
                true => canary.has_by_now(received.signal),
                false => canary.had(received.signal),
            });
            if over || had.is_some() {
                let broadcast = had.is_some_and(|had| had >= grown_at);
                if broadcast && !is_from_our_parent(received.sender) {
                    self.echo = Some((received.signal, now + ECHO));
                }
                known.push(Verdict { received, at, broadcast });
            }
            !(over || had.is_some())
        });
        known
    }
}

/// Not where our parent is outside our pid namespace: so is whoever stops containers.
fn is_from_our_parent(sender: Sender) -> bool {
    let parent = nix::unistd::getppid().as_raw();
    parent > 0 && sender == Sender::Process(parent.unsigned_abs())
}
