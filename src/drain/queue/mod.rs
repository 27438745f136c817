//! The queue of one drain, and its accounts, as one pure structure: no lock, no clock, no I/O.
//!
//! ```text
//! push ─▶ waiting: pieces of batches, gaps ─▶ seal ─▶ window: sealed runs │ sent │ unsent ─▶ progress ─▶ accounts
//! ```
//!
//! Invariants:
//! - units in `waiting` plus open units in `window` equal `counts.pending()`, after every call;
//! - order is kept: the window stands before `waiting`, and both are in the order of arrival;
//! - the window is never dropped; overflow takes from `waiting`, and a [`Gap`] stands where the units stood;
//! - memory charged stays within `memory`, or passes it by one batch: the newest is always taken where old ones make
//!   room, as nothing could ever be delivered otherwise. A batch that is partly in the window is charged by shares,
//!   though its allocation is freed as a whole.
//!
//! With a spool, overflow unloads first: batches that are on the disk leave the memory, newest first, and a range of
//! sequence numbers stands where they stood ([`Piece::OnLog`]). When such a range comes to the front, the drain loads from it. What an
//! earlier run left is ranges in front of everything. Ranges are charged nothing. Only what is not on the disk can overflow, and only when it
//! passes the memory by more than what the spool may have in hand. Gaps that wait are not charged either then: nothing else bounds how
//! many stand between ranges, and they are to take no room from lines.
//!
//! Once the books are closed every call does nothing.

mod spooled;
#[cfg(test)]
mod tests;
mod verdicts;
mod window;

pub(crate) use self::spooled::Low;

use self::{spooled::OnDisk, window::Evidence};
use super::sealed::{GAP_BYTES, Piece, Sealed, charge};
use crate::{
    config::WhenFull,
    format::Gap,
    ledger::{Counts, Loss, Losses},
    line::{Batch, Stamp},
};
use std::{collections::VecDeque, sync::Arc};

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    policy: WhenFull,
    memory: usize,
    waiting: VecDeque<Piece>,
    waiting_charge: usize,
    waiting_units: usize,
    waiting_gaps: usize,
    window: VecDeque<Sealed>,
    window_charge: usize,
    window_units: usize,
    /// Runs of the window that the transport took since the last rewind.
    sent: usize,
    next_id: u64,
    /// End of all wire bytes that were ever given out.
    wire: u64,
    counts: Counts,
    evidence: Evidence,
    state: State,
    log: Option<OnDisk>,
    /// What was pending when the books were closed, if someone wants it.
    left: Option<Vec<Piece>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The drain's thread is gone: nothing is sent any more.
    Dead,
    /// The books are closed.
    Frozen,
}

impl Queue {
    pub(crate) fn new(policy: WhenFull, memory: usize) -> Self {
        Self {
            policy,
            memory,
            waiting: VecDeque::new(),
            waiting_charge: 0,
            waiting_units: 0,
            waiting_gaps: 0,
            window: VecDeque::new(),
            window_charge: 0,
            window_units: 0,
            sent: 0,
            next_id: 0,
            wire: 0,
            counts: Counts::default(),
            evidence: Evidence::default(),
            state: State::Open,
            log: None,
            left: None,
        }
    }

    /// The accounts.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Units whose fate is open, counted from what is here.
    pub(crate) fn held(&self) -> u64 {
        (self.waiting_units + self.window_units) as u64
    }

    /// Bytes charged for what waits: what a payload could be made of. Not 0 if anything waits.
    pub(crate) fn ready(&self) -> usize {
        self.waiting_charge.max(usize::from(!self.waiting.is_empty()))
    }

    /// Units that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting_units
    }

    /// Nothing waits and nothing is in flight, gap lines included.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.window.is_empty()
    }

    /// Whether the books are closed.
    pub(crate) fn is_frozen(&self) -> bool {
        self.state == State::Frozen
    }

    /// Whether the drain's thread is gone.
    pub(crate) fn is_dead(&self) -> bool {
        self.state == State::Dead
    }

    /// Memory that is taken.
    pub(crate) fn charged(&self) -> usize {
        let between_ranges = if self.log.is_some() { self.waiting_gaps * GAP_BYTES } else { 0 };
        self.waiting_charge + self.window_charge - between_ranges
    }

    /// Whether a publisher need not wait: it never does but under `--when-full block`; nor if there is room, if nothing
    /// waits at all, or if nobody would make room.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let charge = charge(bytes, 1);
        let blocks = self.policy == WhenFull::Block && self.state == State::Open;
        // A range on the disk is not worth waiting for: it is the spool's, which takes more.
        let idle = self.waiting.is_empty() || self.log.is_some() && self.charged() + charge <= self.limit();
        !blocks || idle || self.fits(charge)
    }

    /// Takes a batch, or the room for it, as `--when-full` says.
    pub(crate) fn push(&mut self, batch: &Arc<Batch>) {
        let units = batch.len();
        if self.is_frozen() {
            return;
        }
        self.counts.read += units as u64;
        if self.state == State::Dead && !self.has_heirs() {
            self.counts.lost.add(Loss::DrainDied, units as u64);
            return;
        }
        let piece = Piece::Units { batch: Arc::clone(batch), from: 0, to: units };
        if !self.fits(piece.charge()) {
            self.unload();
        }
        match self.policy {
            WhenFull::DropNewest if !self.waiting.is_empty() && self.charged() + piece.charge() > self.limit() => {
                let gap = self.lose(&piece, Loss::Overflow);
                self.insert_gap(self.waiting.len(), gap);
            }
            // Publishers wait before they push. Two that saw the same room pass the limit by one batch; nobody else can.
            WhenFull::Block if self.charged() <= self.limit() => self.append(piece),
            _ => {
                self.append(piece);
                self.make_room();
            }
        }
        self.check();
    }

    /// Raises the limit.
    pub(crate) fn add_memory(&mut self, bytes: usize) {
        self.memory += bytes;
    }

    /// Lowers the limit again. What is beyond it stays, until it is settled.
    pub(crate) fn take_memory(&mut self, bytes: usize) {
        self.memory = self.memory.saturating_sub(bytes);
    }

    /// The drain's thread is gone: what is pending is lost, and whatever comes later, unless somebody wants it: then lines are
    /// kept as before, and none is sent.
    pub(crate) fn die(&mut self) {
        if self.state == State::Open && self.has_heirs() {
            // What was to be announced is not: nobody listens any more.
            let units = self.window.iter().flat_map(Sealed::open_pieces).filter(|piece| piece.units() > 0);
            let open: Vec<Piece> = units.collect();
            self.window = VecDeque::new();
            (self.window_charge, self.window_units, self.sent) = (0, 0, 0);
            open.into_iter().rev().for_each(|piece| self.prepend(piece));
            self.state = State::Dead;
        } else {
            self.abandon(Loss::DrainDied, State::Dead);
        }
    }

    /// Whether somebody wants what the drain does not deliver: a spool, or the fallback.
    pub(crate) fn has_heirs(&self) -> bool {
        self.log.is_some() || self.left.is_some()
    }

    /// What is pending and on the disk is spooled, the rest is lost, for lack of time if the drain lives, and the books are
    /// closed. False if they did not balance, which is a bug.
    pub(crate) fn close_books(&mut self) -> bool {
        let balanced = self.is_frozen() || self.held() == self.counts.pending();
        if let Some(log) = &self.log {
            log.index.keep();
        }
        if !self.is_frozen() && self.has_heirs() {
            let window = self.window.iter().flat_map(Sealed::open_pieces);
            let all: Vec<Piece> = window.chain(self.waiting.iter().cloned()).collect();
            let (kept, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|piece| self.on_disk(piece).is_some());
            self.counts.spooled += kept.iter().map(|piece| piece.units() as u64).sum::<u64>();
            if let Some(wanted) = &mut self.left {
                *wanted = left;
            }
        }
        let reason = if self.is_dead() { Loss::DrainDied } else { Loss::Deadline };
        self.abandon(reason, State::Frozen);
        balanced
    }

    /// What is pending when the books are closed is wanted.
    pub(crate) fn keep_left(&mut self) {
        self.left = Some(Vec::new());
    }

    /// What was pending when the books were closed, and is in no spool.
    pub(crate) fn left(&self) -> &[Piece] {
        self.left.as_deref().unwrap_or_default()
    }

    /// So many units of what is left were written to the fallback: they are not lost. Nothing is left any more.
    pub(crate) fn save_left(&mut self, units: u64) {
        self.left = None;
        self.counts.save(units);
    }
}

impl Queue {
    pub(crate) fn fits(&self, charge: usize) -> bool {
        self.charged() + charge <= self.memory
    }

    fn append(&mut self, piece: Piece) {
        self.insert(self.waiting.len(), piece);
    }

    fn prepend(&mut self, piece: Piece) {
        self.insert(0, piece);
    }

    fn insert(&mut self, at: usize, piece: Piece) {
        self.waiting_charge += piece.charge();
        self.waiting_units += piece.units();
        self.waiting_gaps += usize::from(is_gap(&piece));
        self.waiting.insert(at, piece);
    }

    /// Drops the oldest waiting batches, but not the newest, until the charge is within the limit. One that is on the disk is let
    /// go, not lost: that is the one in front, which unloading spares.
    fn make_room(&mut self) {
        while self.charged() > self.limit() {
            let in_memory = |piece: &Piece| matches!(piece, Piece::Units { .. });
            let Some(at) = self.waiting.iter().position(in_memory) else { return };
            if at + 1 >= self.waiting.len() {
                return;
            }
            if self.let_go(at) {
                continue;
            }
            let Some(piece) = self.remove_waiting(at) else { return };
            let gap = self.lose(&piece, Loss::Overflow);
            self.insert_gap(at, gap);
        }
    }

    fn remove_waiting(&mut self, at: usize) -> Option<Piece> {
        let piece = self.waiting.remove(at)?;
        self.waiting_charge -= piece.charge();
        self.waiting_units -= piece.units();
        self.waiting_gaps -= usize::from(is_gap(&piece));
        Some(piece)
    }

    /// Books the units of a piece as lost; returns the announcement.
    fn lose(&mut self, piece: &Piece, reason: Loss) -> Gap {
        let time = if let Piece::Units { batch, .. } = piece { batch.time() } else { Stamp::default() };
        self.lose_units(piece.units() as u64, time, reason)
    }

    /// Books units of that time as lost; returns the announcement.
    fn lose_units(&mut self, units: u64, time: Stamp, reason: Loss) -> Gap {
        self.counts.lost.add(reason, units);
        let mut lost = Losses::default();
        lost.add(reason, units);
        Gap { lost, first: time, last: time, among: 0 }
    }

    /// Puts a gap before the piece at `at`; neighbouring gaps become one.
    fn insert_gap(&mut self, mut at: usize, mut gap: Gap) {
        if let Some(Piece::Gap(next)) = self.waiting.get(at) {
            merge(&mut gap, next);
            self.remove_waiting(at);
        }
        if let Some(Piece::Gap(previous)) = at.checked_sub(1).and_then(|before| self.waiting.get(before)) {
            merge(&mut gap, previous);
            at -= 1;
            self.remove_waiting(at);
        }
        self.insert(at, Piece::Gap(gap));
    }

    fn abandon(&mut self, reason: Loss, state: State) {
        if self.is_frozen() {
            return;
        }
        let low = self.low();
        if let Some(log) = &mut self.log {
            log.stood = Some(low);
        }
        self.counts.lost.add(reason, self.counts.pending());
        self.state = state;
        self.waiting = VecDeque::new();
        self.window = VecDeque::new();
        (self.waiting_charge, self.waiting_units, self.waiting_gaps) = (0, 0, 0);
        (self.window_charge, self.window_units) = (0, 0);
        self.sent = 0;
    }

    /// The identity, at every step of every test.
    fn check(&self) {
        debug_assert_eq!(self.held(), self.counts.pending(), "units held and units pending differ");
    }
}

#[cfg(test)]
impl Queue {
    /// Everything here, in order: sealed runs, and what waits.
    pub(crate) fn contents(&self) -> (Vec<Vec<Piece>>, Vec<Piece>) {
        let window = self.window.iter().map(Sealed::open_pieces).collect();
        (window, self.waiting.iter().cloned().collect())
    }

    /// The charge, counted anew.
    pub(crate) fn recount(&self) -> usize {
        let window: usize = self.window.iter().map(Sealed::charge).sum();
        let is_free = |piece: &&Piece| self.log.is_some() && is_gap(piece);
        let charge = window + self.waiting.iter().filter(|piece| !is_free(piece)).map(Piece::charge).sum::<usize>();
        assert_eq!(charge, self.charged(), "the running charge is wrong");
        charge
    }
}

const fn is_gap(piece: &Piece) -> bool {
    matches!(piece, Piece::Gap(_))
}

fn merge(gap: &mut Gap, other: &Gap) {
    if gap.lost.total() == 0 {
        gap.clone_from(other);
        return;
    }
    if gap.among + other.among > 0 {
        gap.among = gap.among.max(gap.lost.total()) + other.among.max(other.lost.total());
    }
    gap.lost.merge(&other.lost);
    gap.first = Stamp(gap.first.0.min(other.first.0));
    gap.last = Stamp(gap.last.0.max(other.last.0));
}
