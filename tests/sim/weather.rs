//! What the network and the receivers do at a time: spells of one fault, drawn from those that the seed switched on.

use super::seen::Seen;
use rand::{RngExt, rngs::StdRng};
use std::{cell::RefCell, rc::Rc, time::Duration};
use tokio::time::Instant;

/// What can go wrong on the way to a receiver, and in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Refuse,
    /// Reset before anything was read.
    ResetBefore,
    /// Reset after some bytes were read.
    ResetAfter,
    BlackHole,
    HalfOpen,
    Slow,
    Later,
    ServerError,
    TooLarge,
    BadLine,
    Hold,
    AnswerLost,
    /// The connection is cut; under TLS, without a goodbye.
    Cut,
    /// The application does not read, though its kernel does.
    Stall,
    /// An orderly end of the connection.
    Close,
}

impl Fault {
    pub(super) const ALL: [Self; 15] = [
        Self::Refuse,
        Self::ResetBefore,
        Self::ResetAfter,
        Self::BlackHole,
        Self::HalfOpen,
        Self::Slow,
        Self::Later,
        Self::ServerError,
        Self::TooLarge,
        Self::BadLine,
        Self::Hold,
        Self::AnswerLost,
        Self::Cut,
        Self::Stall,
        Self::Close,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "net: refused",
            Self::ResetBefore => "net: reset before reading",
            Self::ResetAfter => "net: reset after k bytes",
            Self::BlackHole => "net: black hole",
            Self::HalfOpen => "net: half-open",
            Self::Slow => "net: 1 B/s",
            Self::Later => "net: 429 with Retry-After",
            Self::ServerError => "net: 500",
            Self::TooLarge => "net: 413",
            Self::BadLine => "net: 400 for a line",
            Self::Hold => "net: 401",
            Self::AnswerLost => "net: 2xx lost",
            Self::Cut => "net: cut",
            Self::Stall => "net: application stalls",
            Self::Close => "net: orderly close",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Weather {
    enabled: Vec<Fault>,
    /// In a thousand looks, so many begin a spell.
    rate: u32,
    /// The longest spell, in milliseconds.
    longest: u64,
    spell: Option<(Fault, Instant)>,
    pub(super) rng: StdRng,
    pub(super) seen: Rc<RefCell<Seen>>,
}

impl Weather {
    pub(super) fn new(enabled: Vec<Fault>, rate: u32, longest: u64, rng: StdRng, seen: Rc<RefCell<Seen>>) -> Self {
        Self { enabled, rate, longest, spell: None, rng, seen }
    }

    /// Fair from here on.
    pub(super) fn quiet(&mut self) {
        (self.enabled, self.spell) = (Vec::new(), None);
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.enabled.is_empty()
    }

    /// What goes wrong now, of those faults that `fits`.
    pub(super) fn look(&mut self, fits: &[Fault]) -> Option<Fault> {
        let now = Instant::now();
        self.spell = self.spell.filter(|&(_, end)| now < end);
        if self.spell.is_none() && !self.enabled.is_empty() && self.rng.random_ratio(self.rate, 1000) {
            let fault = self.enabled[self.rng.random_range(0..self.enabled.len())];
            let length = if self.rng.random_bool(0.4) { 0 } else { self.rng.random_range(0..self.longest) };
            // A spell of no length is a fault of one moment.
            if length > 0 {
                self.spell = Some((fault, now + Duration::from_millis(length)));
            }
            return self.meet(fault, fits);
        }
        let fault = self.spell?.0;
        self.meet(fault, fits)
    }

    fn meet(&mut self, fault: Fault, fits: &[Fault]) -> Option<Fault> {
        let met = fits.contains(&fault).then_some(fault)?;
        self.seen.borrow_mut().hit(met.name());
        Some(met)
    }
}
