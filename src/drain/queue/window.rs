//! The window: sealed runs on their way, and what the transport says of them.

use super::{Queue, State};
use crate::{
    drain::{
        pack::Limits,
        sealed::{GAP_BYTES, Piece, Sealed, charge},
    },
    ledger::Grade,
    line::Batch,
    transport::Progress,
};
use std::sync::Arc;

/// What was sent or accepted on the present connection, and may yet be confirmed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    epoch: u32,
    sent: u64,
    accepted: u64,
    upto: u64,
}

impl Queue {
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
        while self.front_goes_with(&pieces, limits.gaps_alone)
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
}

impl Queue {
    /// Whether the front piece has the origin of `pieces` (see [`Sealed::source`]), and neither is a gap that stands alone.
    fn front_goes_with(&self, pieces: &[Piece], gaps_alone: bool) -> bool {
        if let (true, Some(last), Some(next)) = (gaps_alone, pieces.last(), self.waiting.front())
            && (last.units() == 0 || next.units() == 0)
        {
            return false;
        }
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

    pub(super) fn new_run(&mut self, pieces: Vec<Piece>) -> Sealed {
        self.next_id += 1;
        Sealed::new(self.next_id, pieces)
    }

    pub(super) fn enter_window(&mut self, at: usize, run: Sealed) {
        self.window_charge += run.charge();
        self.window_units += run.open_units();
        self.window.insert(at, run);
    }

    pub(super) fn leave_window(&mut self, at: usize) -> Option<Sealed> {
        let run = self.window.remove(at)?;
        self.window_charge -= run.charge();
        self.window_units -= run.open_units();
        Some(run)
    }

    /// Runs behind a cut one get new positions: the bytes before them changed.
    pub(super) fn displace_unsent(&mut self) {
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
