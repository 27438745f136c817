//! What becomes of the unsent run when the receiver does not want it as it is.

use super::{Queue, State, merge};
use crate::{
    drain::sealed::{Piece, Sealed},
    format::Gap,
    ledger::{Grade, Loss},
    transport::ItemVerdict,
};

impl Queue {
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
