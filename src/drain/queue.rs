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
//! earlier run left is ranges in front of everything. Only what is not on the disk can overflow, and only when it
//! passes the memory by more than what the spool may have in hand.
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
    spool::{cursor::Place, index::Index, recovery::Range},
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
    log: Option<OnDisk>,
    /// What was pending when the books were closed, if someone wants it.
    left: Option<Vec<Piece>>,
}

/// What a queue knows of the spool.
#[derive(Debug)]
struct OnDisk {
    index: Arc<Index>,
    /// Bytes that memory may be passed by: what the spool may have in hand.
    grace: usize,
    /// The index as it was when the last look for something to unload found too little.
    in_vain: u64,
    /// Where the drain stood when it died or its books were closed.
    stood: Option<Low>,
}

/// The first unit that is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Low {
    /// In a known segment.
    At(Place),
    /// This unit of the present run.
    Live(u64),
    /// There is none: all is settled.
    Nothing,
}

/// What was sent or accepted on the present connection, and may yet be confirmed.
#[derive(Clone, Copy, Debug, Default)]
struct Evidence {
    epoch: u32,
    sent: u64,
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
            log: None,
            left: None,
        }
    }

    /// Unloads to a spool from now on. `adopted` is what earlier runs left: it goes first. Called before any push.
    pub(crate) fn attach(&mut self, index: Arc<Index>, grace: usize, adopted: Vec<Range>) {
        self.log = Some(OnDisk { index, grace, in_vain: u64::MAX, stood: None });
        for range in adopted {
            self.counts.adopted += range.units;
            self.append(Piece::OnLog(range));
        }
        self.check();
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

    /// Whether the drain's thread is gone.
    pub(crate) fn is_dead(&self) -> bool {
        self.state == State::Dead
    }

    /// Memory that is taken.
    pub(crate) fn charged(&self) -> usize {
        self.waiting_charge + self.window_charge
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
        if self.state == State::Dead {
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

    /// Moves units from the front of what waits into a sealed run, if all earlier ones are sent and `limits` leave room in flight.
    pub(crate) fn seal(&mut self, limits: &Limits) -> bool {
        if self.sent < self.window.len()
            || self.waiting.is_empty()
            || self.to_load().is_some()
            || !self.may_seal(limits)
        {
            return false;
        }
        let mut pieces = Vec::new();
        let (mut bytes, mut items) = (limits.bytes, limits.items);
        while self.front_goes_with(&pieces)
            && let Some(piece) = self.take_front(bytes, items, limits.overhead, pieces.is_empty())
        {
            items = items.saturating_sub(piece.items());
            bytes = bytes.saturating_sub(wire_estimate(&piece, limits.overhead));
            pieces.push(piece);
        }
        let sealed = self.new_run(pieces);
        self.enter_window(self.window.len(), sealed);
        self.check();
        true
    }

    /// Whether what is in flight leaves room for another payload, by which it may pass the limit. The oldest item does not
    /// count: a replay window of three quarters of the limit (see `transport::tcp`) may begin in the midst of it, and
    /// is left only when newer bytes push it out, or after seconds. So a peer that acknowledges all is always sent more,
    /// however large items and payloads are.
    pub(crate) fn may_seal(&self, limits: &Limits) -> bool {
        let (Some(front), Some(back)) = (self.window.front(), self.window.back()) else { return true };
        match (front.first_end(), back.span()) {
            (Some(from), Some((_, to))) => to.saturating_sub(from) < limits.in_flight as u64,
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
            Grade::Sent | Grade::Accepted => {
                let weak =
                    if progress.grade == Grade::Sent { &mut self.evidence.sent } else { &mut self.evidence.accepted };
                *weak += units;
                self.evidence.upto = self.evidence.upto.max(progress.upto);
            }
            // What was sent or accepted lies before `upto`, so better evidence covers it whole, or is not there yet.
            Grade::Confirmed if progress.upto >= self.evidence.upto => {
                self.counts.upgrade(Grade::Sent, std::mem::take(&mut self.evidence.sent));
                self.counts.upgrade(Grade::Accepted, std::mem::take(&mut self.evidence.accepted));
            }
            Grade::Confirmed => {}
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
                ItemVerdict::Rejected | ItemVerdict::SomeRejected => {
                    for piece in pieces.iter().filter(|piece| piece.units() > 0) {
                        merge(&mut gap, &self.lose(piece, Loss::Rejected));
                    }
                }
            }
        }
        if verdicts.contains(&ItemVerdict::SomeRejected) {
            spread(&mut gap, &run);
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

    /// What is pending and on the disk is spooled, the rest is lost for lack of time, and the books are closed. False if they
    /// did not balance, which is a bug.
    pub(crate) fn close_books(&mut self) -> bool {
        let balanced = self.is_frozen() || self.held() == self.counts.pending();
        if self.state == State::Open && (self.log.is_some() || self.left.is_some()) {
            let window = self.window.iter().flat_map(Sealed::open_pieces);
            let all: Vec<Piece> = window.chain(self.waiting.iter().cloned()).collect();
            let (kept, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|piece| self.on_disk(piece).is_some());
            self.counts.spooled += kept.iter().map(|piece| piece.units() as u64).sum::<u64>();
            if let Some(wanted) = &mut self.left {
                *wanted = left;
            }
        }
        self.abandon(Loss::Deadline, State::Frozen);
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

    /// What is left was written to the fallback: it is not lost.
    pub(crate) fn save_left(&mut self) {
        let units: usize = self.left.take().unwrap_or_default().iter().map(Piece::units).sum();
        self.counts.save(units as u64);
    }
}

/// With a spool.
impl Queue {
    /// The range that stands first and is to be loaded.
    pub(crate) fn to_load(&self) -> Option<Range> {
        match self.waiting.front() {
            Some(Piece::OnLog(range)) if self.state == State::Open => Some(*range),
            _ => None,
        }
    }

    /// Takes what was read for the front of `asked`: all its units before `upto`. At the end of the range, what is missing
    /// is lost for `reason`. Changes nothing if the range is not in front any more.
    pub(crate) fn load(&mut self, asked: Range, batches: Vec<Batch>, upto: u64, reason: Loss, now: Stamp) {
        let Some(mut range) = self.to_load().filter(|it| (it.segment, it.from) == (asked.segment, asked.from)) else {
            return;
        };
        self.remove_waiting(0);
        let mut pieces = Vec::new();
        for batch in batches {
            let index = |seq: u64| (seq.clamp(batch.first_seq(), batch.end_seq()) - batch.first_seq()) as usize;
            let (from, to) = (index(range.from), index(upto.min(range.to)));
            if from < to {
                pieces.push(Piece::Units { batch: Arc::new(batch), from, to });
            }
        }
        let got = pieces.iter().map(Piece::units).sum::<usize>() as u64;
        // Damage hides which stream a unit was of, so there may be more than was thought.
        self.counts.adopted += got.saturating_sub(range.units);
        (range.units, range.from) = (range.units.saturating_sub(got), upto);
        let missing = range.from >= range.to && range.units > 0;
        let count = pieces.len();
        if range.units > 0 {
            self.waiting_units += range.units as usize;
            self.waiting_charge += GAP_BYTES;
            self.waiting.push_front(Piece::OnLog(range));
        }
        for piece in pieces.into_iter().rev() {
            self.waiting_units += piece.units();
            self.waiting_charge += piece.charge();
            self.waiting.push_front(piece);
        }
        if missing {
            self.lose_range(count, reason, now);
        }
        self.check();
    }

    /// A segment was deleted to make room: what of it is not in memory is lost.
    pub(crate) fn evict(&mut self, segment: u64, now: Stamp) {
        if self.state != State::Open {
            return;
        }
        let gone = |piece: &Piece| matches!(piece, Piece::OnLog(range) if range.segment == segment);
        while let Some(at) = self.waiting.iter().position(gone) {
            self.lose_range(at, Loss::Overflow, now);
        }
        self.check();
    }

    /// How far the drain has come.
    pub(crate) fn low(&self) -> Low {
        if let Some(stood) = self.log.as_ref().and_then(|log| log.stood) {
            return stood;
        }
        let unit = |batch: &Batch, index: usize| {
            let seq = batch.first_seq() + index as u64;
            batch.source().map_or(Low::Live(seq), |source| Low::At(Place { segment: source.segment, seq }))
        };
        if let Some((batch, index)) = self.window.iter().find_map(Sealed::first_open) {
            return unit(batch, index);
        }
        let waiting = self.waiting.iter().find_map(|piece| match piece {
            Piece::Units { batch, from, .. } => Some(unit(batch, *from)),
            Piece::OnLog(range) => Some(Low::At(Place { segment: range.segment, seq: range.from })),
            Piece::Gap(_) => None,
        });
        waiting.unwrap_or(Low::Nothing)
    }

    /// As [`Queue::has_room`], after letting go what is on the disk.
    pub(crate) fn makes_room(&mut self, bytes: usize) -> bool {
        if self.has_room(bytes) {
            return true;
        }
        self.unload();
        self.has_room(bytes)
    }

    /// What may be charged before anything is dropped.
    fn limit(&self) -> usize {
        self.memory + self.log.as_ref().map_or(0, |log| log.grace)
    }

    /// Where on the disk the units of a piece are, if all are.
    fn on_disk(&self, piece: &Piece) -> Option<Range> {
        let index = &self.log.as_ref()?.index;
        match piece {
            Piece::Units { batch, from, to } => {
                let (first, end) = (batch.first_seq() + *from as u64, batch.first_seq() + *to as u64);
                let segment = match batch.source() {
                    Some(source) => index.is_alive(source.segment).then_some(source.segment)?,
                    None => index.segment_of(first, end)?,
                };
                let stream = Some(batch.stream());
                Some(Range { segment, from: first, to: end, stream, units: end - first })
            }
            Piece::OnLog(range) => index.is_alive(range.segment).then_some(*range),
            Piece::Gap(_) => None,
        }
    }

    /// Lets batches that are on the disk go, newest first, but for the one in front: what was just loaded is to be sent.
    pub(crate) fn unload(&mut self) {
        let Some(log) = &self.log else { return };
        let version = log.index.version();
        if log.in_vain == version {
            return;
        }
        let target = self.memory - self.memory / 8;
        let mut at = self.waiting.len();
        while at > 1 && self.charged() > target {
            at -= 1;
            if !matches!(self.waiting[at], Piece::Units { .. }) {
                continue;
            }
            let Some(range) = self.on_disk(&self.waiting[at]) else { continue };
            let charge = self.waiting[at].charge();
            self.waiting[at] = Piece::OnLog(range);
            self.waiting_charge = self.waiting_charge + GAP_BYTES - charge;
            self.join_ranges(at);
            self.join_ranges(at - 1);
        }
        if self.charged() > target
            && let Some(log) = &mut self.log
        {
            log.in_vain = version;
        }
    }

    /// Makes one range of two neighbours in a segment, at `at` and behind it.
    fn join_ranges(&mut self, at: usize) {
        let (Some(Piece::OnLog(one)), Some(Piece::OnLog(two))) = (self.waiting.get(at), self.waiting.get(at + 1))
        else {
            return;
        };
        if one.segment != two.segment || one.to > two.from {
            return;
        }
        // Between the two lie only units of a stream that this drain does not get, or none.
        let stream = one.stream.filter(|_| one.stream == two.stream);
        let joined = Range { to: two.to, stream, units: one.units + two.units, ..*one };
        if stream.is_none() && joined.units < joined.to - joined.from {
            return;
        }
        self.waiting.remove(at + 1);
        self.waiting_charge -= GAP_BYTES;
        self.waiting[at] = Piece::OnLog(joined);
    }

    /// The times of a range are in the spool, where they can't be read any more: the gap says when it was found out.
    fn lose_range(&mut self, at: usize, reason: Loss, now: Stamp) {
        let Some(piece) = self.remove_waiting(at) else { return };
        let gap = Gap { first: now, last: now, ..self.lose(&piece, reason) };
        self.insert_gap(at, gap);
    }
}

impl Queue {
    pub(crate) fn fits(&self, charge: usize) -> bool {
        self.charged() + charge <= self.memory
    }

    fn append(&mut self, piece: Piece) {
        self.waiting_charge += piece.charge();
        self.waiting_units += piece.units();
        self.waiting.push_back(piece);
    }

    /// Drops the oldest waiting batches, but not the newest, until the charge is within the limit.
    fn make_room(&mut self) {
        while self.charged() > self.limit() {
            let in_memory = |piece: &Piece| matches!(piece, Piece::Units { .. });
            let Some(at) = self.waiting.iter().position(in_memory) else { return };
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
            Piece::OnLog(_) => Stamp::default(),
        };
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
        self.waiting_charge += GAP_BYTES;
        self.waiting.insert(at, Piece::Gap(gap));
    }

    /// Whether the front piece has the origin of `pieces`: see [`Sealed::source`].
    fn front_goes_with(&self, pieces: &[Piece]) -> bool {
        let Some(next) = self.waiting.front().and_then(Piece::source) else { return true };
        let Some(known) = pieces.iter().find_map(Piece::source) else { return true };
        match (next, known) {
            (Some(next), Some(known)) => Arc::ptr_eq(next, known) || next.origin == known.origin,
            (None, None) => true,
            _ => false,
        }
    }

    /// Takes what fits from the front piece; at least one item if `first`.
    fn take_front(&mut self, bytes: usize, items: usize, overhead: usize, first: bool) -> Option<Piece> {
        let (front_items, fitting) = match self.waiting.front()? {
            Piece::Gap(_) => (1, usize::from(bytes >= GAP_BYTES && items > 0)),
            Piece::Units { batch, from, to } => (to - from, fitting(batch, *from, *to, bytes, overhead).min(items)),
            Piece::OnLog(_) => return None,
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
        let low = self.low();
        if let Some(log) = &mut self.log {
            log.stood = Some(low);
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
    if gap.among + other.among > 0 {
        gap.among = gap.among.max(gap.lost.total()) + other.among.max(other.lost.total());
    }
    gap.lost.merge(&other.lost);
    gap.first = Stamp(gap.first.0.min(other.first.0));
    gap.last = Stamp(gap.last.0.max(other.last.0));
}

/// A gap that is somewhere in the run spans all of it.
fn spread(gap: &mut Gap, run: &Sealed) {
    for piece in run.open_pieces() {
        if let Piece::Units { batch, .. } = piece {
            gap.first = gap.first.min(batch.time());
            gap.last = gap.last.max(batch.time());
        }
    }
    gap.among = run.open_units() as u64;
}

fn wire_estimate(piece: &Piece, overhead: usize) -> usize {
    match piece {
        Piece::Units { batch, from, to } => batch.bytes_between(*from, *to) + (to - from) * overhead,
        Piece::Gap(_) | Piece::OnLog(_) => GAP_BYTES,
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
