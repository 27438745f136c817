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
//! Once the books are closed every call does nothing.

use super::{
    pack::Limits,
    sealed::{GAP_BYTES, Piece, Sealed, charge},
};
use crate::{
    config::WhenFull,
    format::Gap,
    ledger::{Counts, Grade, Loss, Losses},
    line::{Batch, Stamp},
    transport::{ItemVerdict, Progress},
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
}

/// What was accepted on the present connection, and may yet be confirmed.
#[derive(Clone, Copy, Debug, Default)]
struct Evidence {
    epoch: u32,
    accepted: u64,
    upto: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The drain's thread is gone: whatever is pushed is lost at once.
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
            window: VecDeque::new(),
            window_charge: 0,
            window_units: 0,
            sent: 0,
            next_id: 0,
            wire: 0,
            counts: Counts::default(),
            evidence: Evidence::default(),
            state: State::Open,
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

    /// Bytes charged for what waits: what a payload could be made of.
    pub(crate) fn ready(&self) -> usize {
        self.waiting_charge
    }

    /// Nothing waits and nothing is in flight, gap lines included.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.window.is_empty()
    }

    /// Whether the books are closed.
    pub(crate) fn is_frozen(&self) -> bool {
        self.state == State::Frozen
    }

    /// Whether a publisher under `--when-full block` need not wait: room, nothing waiting at all, or nobody to wait for.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.state != State::Open || self.waiting.is_empty() || self.fits(charge(bytes, 1))
    }

    /// Takes a batch, or the room for it, as `--when-full` says.
    pub(crate) fn push(&mut self, batch: &Arc<Batch>) {
        let units = batch.len();
        if self.is_frozen() {
            return;
        }
        self.counts.read += units as u64;
        if self.state == State::Dead {
            self.counts.lost.add(Loss::DrainDied, units as u64);
            return;
        }
        let piece = Piece::Units { batch: Arc::clone(batch), from: 0, to: units };
        match self.policy {
            WhenFull::DropNewest if !self.waiting.is_empty() && !self.fits(piece.charge()) => {
                let gap = self.lose(&piece, Loss::Overflow);
                self.insert_gap(self.waiting.len(), gap);
            }
            // Publishers wait before they push. Two that saw the same room pass the limit by one batch; nobody else can.
            WhenFull::Block if self.charged() <= self.memory => self.append(piece),
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

    /// Moves units from the front of what waits into a sealed run, if all earlier ones are sent and `limits` leave room in flight.
    pub(crate) fn seal(&mut self, limits: &Limits) -> bool {
        if self.sent < self.window.len() || self.waiting.is_empty() || !self.may_seal(limits) {
            return false;
        }
        let mut pieces = Vec::new();
        let (mut bytes, mut items) = (limits.bytes, limits.items);
        while let Some(piece) = self.take_front(bytes, items, limits.overhead, pieces.is_empty()) {
            items = items.saturating_sub(piece.items());
            bytes = bytes.saturating_sub(wire_estimate(&piece, limits.overhead));
            pieces.push(piece);
        }
        let sealed = self.new_run(pieces);
        self.enter_window(self.window.len(), sealed);
        self.check();
        true
    }

    /// Whether what is in flight leaves room for another payload, by which it may pass the limit. Two are always allowed: what is
    /// acknowledged leaves a replay window only when newer bytes push it out (or after seconds).
    pub(crate) fn may_seal(&self, limits: &Limits) -> bool {
        let (Some(front), Some(back)) = (self.window.front(), self.window.back()) else { return true };
        match (front.span(), back.span()) {
            (Some((from, _)), Some((_, to))) => self.window.len() < 2 || to - from < limits.in_flight as u64,
            _ => false,
        }
    }

    /// The run to send next.
    pub(crate) fn unsent(&self) -> Option<&Sealed> {
        self.window.get(self.sent)
    }

    /// Notes where the items of the unsent run `id` end on the wire.
    pub(crate) fn place(&mut self, id: u64, ends: Arc<[u32]>) {
        let Some(run) = self.window.get_mut(self.sent).filter(|run| run.id() == id) else { return };
        let length = ends.last().copied().unwrap_or(0);
        run.place(self.wire, ends);
        self.wire += u64::from(length);
    }

    /// The transport took all of the unsent run `id`.
    pub(crate) fn mark_sent(&mut self, id: u64) {
        if self.unsent().is_some_and(|run| run.id() == id) {
            self.sent += 1;
        }
    }

    /// Books what the transport knows. Returns how many units that settled.
    pub(crate) fn progress(&mut self, progress: Progress) -> u64 {
        if self.state != State::Open {
            return 0;
        }
        if progress.epoch != self.evidence.epoch {
            self.evidence = Evidence { epoch: progress.epoch, ..Evidence::default() };
        }
        let units = self.settle(progress.upto, progress.grade);
        match progress.grade {
            Grade::Accepted => {
                self.evidence.accepted += units;
                self.evidence.upto = self.evidence.upto.max(progress.upto);
            }
            // What was accepted lies before `upto`, so better evidence covers it whole, or is not there yet.
            Grade::Confirmed if progress.upto >= self.evidence.upto => {
                self.counts.upgrade(std::mem::take(&mut self.evidence.accepted));
            }
            Grade::Confirmed | Grade::Sent => {}
        }
        self.check();
        units
    }

    /// All that is in flight is to be sent again, from the item at `resend_from` on; what lies before it is safe.
    /// Returns whether there is anything to send again.
    pub(crate) fn rewind(&mut self, resend_from: u64) -> bool {
        if self.state == State::Open {
            self.settle(resend_from, Grade::Accepted);
            self.sent = 0;
            self.check();
        }
        !self.window.is_empty()
    }

    /// Cuts the unsent run in two; false if it is a single item.
    pub(crate) fn halve(&mut self) -> bool {
        let Some((left, right)) = self.unsent().and_then(Sealed::halves) else { return false };
        self.leave_window(self.sent);
        for (at, pieces) in [(self.sent, left), (self.sent + 1, right)] {
            let run = self.new_run(pieces);
            self.enter_window(at, run);
        }
        self.displace_unsent();
        self.check();
        true
    }

    /// Gives up the unsent run, which is a single item. A unit is lost for `reason`, and announced behind the window. A
    /// gap line that the receiver refuses is not repeated: its count stands in the report.
    pub(crate) fn give_up(&mut self, reason: Loss) {
        if self.unsent().is_none() {
            return;
        }
        let Some(run) = self.leave_window(self.sent) else { return };
        let mut gap = Gap::default();
        for piece in run.open_pieces().iter().filter(|piece| piece.units() > 0) {
            merge(&mut gap, &self.lose(piece, reason));
        }
        if gap.lost.total() > 0 {
            self.insert_gap(0, gap);
        }
        self.displace_unsent();
        self.check();
    }

    /// Obeys a verdict for each open item of the unsent run: the stored are confirmed, the rejected lost and announced
    /// behind the window, and what is to be tried again stays as a run of its own. Returns how many units that settled;
    /// nothing happens if there are not as many verdicts as items.
    pub(crate) fn resolve(&mut self, verdicts: &[ItemVerdict]) -> u64 {
        if self.state != State::Open || self.unsent().is_none_or(|run| run.open_items() != verdicts.len()) {
            return 0;
        }
        let Some(run) = self.leave_window(self.sent) else { return 0 };
        let (mut again, mut gap, mut stored, mut from) = (Vec::new(), Gap::default(), 0, 0);
        for same in verdicts.chunk_by(|one, other| one == other) {
            let pieces = run.open_between(from, from + same.len());
            from += same.len();
            match same[0] {
                ItemVerdict::Stored => stored += pieces.iter().map(Piece::units).sum::<usize>() as u64,
                ItemVerdict::Retry => again.extend(pieces),
                ItemVerdict::Rejected => {
                    for piece in pieces.iter().filter(|piece| piece.units() > 0) {
                        merge(&mut gap, &self.lose(piece, Loss::Rejected));
                    }
                }
            }
        }
        self.counts.settle(Grade::Confirmed, stored);
        if !again.is_empty() {
            let run = self.new_run(again);
            self.enter_window(self.sent, run);
        }
        if gap.lost.total() > 0 {
            self.insert_gap(0, gap.clone());
        }
        self.displace_unsent();
        self.check();
        stored + gap.lost.total()
    }

    /// The drain's thread is gone: what is pending is lost, and whatever comes later.
    pub(crate) fn die(&mut self) {
        self.abandon(Loss::DrainDied, State::Dead);
    }

    /// What is pending is lost for lack of time, and the books are closed. False if they did not balance, which is a bug.
    pub(crate) fn close_books(&mut self) -> bool {
        let balanced = self.is_frozen() || self.held() == self.counts.pending();
        self.abandon(Loss::Deadline, State::Frozen);
        balanced
    }
}

impl Queue {
    fn charged(&self) -> usize {
        self.waiting_charge + self.window_charge
    }

    fn fits(&self, charge: usize) -> bool {
        self.charged() + charge <= self.memory
    }

    fn append(&mut self, piece: Piece) {
        self.waiting_charge += piece.charge();
        self.waiting_units += piece.units();
        self.waiting.push_back(piece);
    }

    /// Drops the oldest waiting batches, but not the newest, until the charge is within the limit.
    fn make_room(&mut self) {
        while self.charged() > self.memory {
            let Some(at) = self.waiting.iter().position(|piece| piece.units() > 0) else { return };
            if at + 1 >= self.waiting.len() {
                return;
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
        Some(piece)
    }

    /// Books the units of a piece as lost; returns the announcement.
    fn lose(&mut self, piece: &Piece, reason: Loss) -> Gap {
        let units = piece.units() as u64;
        self.counts.lost.add(reason, units);
        let mut lost = Losses::default();
        lost.add(reason, units);
        let time = match piece {
            Piece::Units { batch, .. } => batch.time(),
            Piece::Gap(gap) => gap.first,
        };
        Gap { lost, first: time, last: time }
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
        self.waiting_charge += GAP_BYTES;
        self.waiting.insert(at, Piece::Gap(gap));
    }

    /// Takes what fits from the front piece; at least one item if `first`.
    fn take_front(&mut self, bytes: usize, items: usize, overhead: usize, first: bool) -> Option<Piece> {
        let (front_items, fitting) = match self.waiting.front()? {
            Piece::Gap(_) => (1, usize::from(bytes >= GAP_BYTES && items > 0)),
            Piece::Units { batch, from, to } => (to - from, fitting(batch, *from, *to, bytes, overhead).min(items)),
        };
        let take = fitting.max(usize::from(first));
        if take == 0 {
            return None;
        }
        if take == front_items {
            return self.remove_waiting(0);
        }
        let Some(Piece::Units { batch, from, to }) = self.waiting.front_mut() else { return None };
        let before = charge(batch.bytes_between(*from, *to), *to - *from);
        let taken = Piece::Units { batch: Arc::clone(batch), from: *from, to: *from + take };
        *from += take;
        let after = charge(batch.bytes_between(*from, *to), *to - *from);
        self.waiting_charge -= before - after;
        self.waiting_units -= take;
        Some(taken)
    }

    fn new_run(&mut self, pieces: Vec<Piece>) -> Sealed {
        self.next_id += 1;
        Sealed::new(self.next_id, pieces)
    }

    fn enter_window(&mut self, at: usize, run: Sealed) {
        self.window_charge += run.charge();
        self.window_units += run.open_units();
        self.window.insert(at, run);
    }

    fn leave_window(&mut self, at: usize) -> Option<Sealed> {
        let run = self.window.remove(at)?;
        self.window_charge -= run.charge();
        self.window_units -= run.open_units();
        Some(run)
    }

    /// Runs behind a cut one get new positions: the bytes before them changed.
    fn displace_unsent(&mut self) {
        self.window.iter_mut().skip(self.sent).for_each(Sealed::displace);
    }

    /// Settles everything before position `upto`, in order.
    fn settle(&mut self, upto: u64, grade: Grade) -> u64 {
        let mut settled = 0;
        while let Some(run) = self.window.front_mut() {
            let units = run.settle(upto);
            settled += units;
            self.window_units -= units;
            if run.open_items() > 0 {
                break;
            }
            self.leave_window(0);
            self.sent = self.sent.saturating_sub(1);
        }
        self.counts.settle(grade, settled as u64);
        settled as u64
    }

    fn abandon(&mut self, reason: Loss, state: State) {
        if self.is_frozen() {
            return;
        }
        self.counts.lost.add(reason, self.counts.pending());
        self.state = state;
        self.waiting = VecDeque::new();
        self.window = VecDeque::new();
        (self.waiting_charge, self.waiting_units) = (0, 0);
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
        let charge = window + self.waiting.iter().map(Piece::charge).sum::<usize>();
        assert_eq!(charge, self.charged(), "the running charge is wrong");
        charge
    }
}

fn merge(gap: &mut Gap, other: &Gap) {
    if gap.lost.total() == 0 {
        gap.clone_from(other);
        return;
    }
    gap.lost.merge(&other.lost);
    gap.first = Stamp(gap.first.0.min(other.first.0));
    gap.last = Stamp(gap.last.0.max(other.last.0));
}

fn wire_estimate(piece: &Piece, overhead: usize) -> usize {
    match piece {
        Piece::Units { batch, from, to } => batch.bytes_between(*from, *to) + (to - from) * overhead,
        Piece::Gap(_) => GAP_BYTES,
    }
}

/// How many units from `from` on fit into `bytes`: a binary search, as a batch may have thousands.
fn fitting(batch: &Batch, from: usize, to: usize, bytes: usize, overhead: usize) -> usize {
    let (mut low, mut high) = (0, to - from);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if batch.bytes_between(from, from + middle) + middle * overhead <= bytes {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}
