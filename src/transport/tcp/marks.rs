//! What an acknowledged byte of ciphertext says of the plaintext: pure arithmetic over the ends of TLS records.
//!
//! The kernel counts ciphertext. The end of each record is remembered with the plaintext that it ends, until it is
//! acknowledged; a byte stands for the whole records before it.
//!
//! Invariants: plaintext counts as acknowledged only if its record's last byte is; the count never goes back, and lags by less
//! than two [`MARK_GRAIN`]s and a record. Memory: a mark for each [`MARK_GRAIN`] of ciphertext that is under way.

use std::collections::VecDeque;

/// Plaintext of one TLS record (RFC 8446 §5.1).
pub(super) const RECORD: usize = 16 * 1024;
/// Records that end within so many bytes of ciphertext share a mark: short lines come one a record.
const MARK_GRAIN: u64 = 4 * 1024;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// As (ciphertext, plaintext).
    ends: VecDeque<(u64, u64)>,
    /// All plaintext before this is acknowledged.
    acked: u64,
}

impl Marks {
    /// The ciphertext so far ends the plaintext so far.
    pub(super) fn push(&mut self, made: u64, taken: u64) {
        let start = self.ends.len().checked_sub(2).and_then(|at| self.ends.get(at)).map(|end| end.0);
        match self.ends.back_mut() {
            Some(last) if start.is_some_and(|start| made < start + MARK_GRAIN) => *last = (made, taken),
            _ => self.ends.push_back((made, taken)),
        }
    }

    /// The plaintext of whole records before byte `wire` of the ciphertext.
    pub(super) fn acked(&mut self, wire: u64) -> u64 {
        while self.ends.front().is_some_and(|end| end.0 <= wire) {
            self.acked = self.ends.pop_front().map_or(self.acked, |end| end.1);
        }
        self.acked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    #[test]
    fn an_acknowledged_byte_of_ciphertext_stands_for_whole_records_before_it() {
        let seed = std::env::var("LASTWORD_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut exact, mut merged) = (0, 0);
        for case in 0..200 {
            let context = format!("LASTWORD_SEED={seed}, case {case}");
            let (mut marks, mut records) = (Marks::default(), vec![(0, 0)]);
            let (mut made, mut taken, mut wire) = (rng.random_range(0..500), 0, 0);
            let largest = [100, 3000, RECORD as u64][rng.random_range(0..3)];
            for _ in 0..300 {
                if rng.random_bool(0.7) {
                    let plain = rng.random_range(1..=largest);
                    taken += plain;
                    made += plain + 22;
                    marks.push(made, taken);
                    records.push((made, taken));
                } else {
                    wire = rng.random_range(wire..=made.max(wire));
                    let acked = marks.acked(wire);
                    let whole =
                        |wire| records.iter().rev().find(|record| record.0 <= wire).map_or(0, |record| record.1);
                    assert!(acked <= whole(wire), "{context}: {acked} acknowledged with {wire} on the wire");
                    let least = wire.saturating_sub(2 * MARK_GRAIN + RECORD as u64);
                    assert!(acked >= whole(least), "{context}: {acked} is too little with {wire} on the wire");
                    exact += u32::from(acked == whole(wire));
                    merged += u32::from(acked < whole(wire));
                }
            }
            assert_eq!(marks.acked(made), taken, "{context}");
            assert!(marks.ends.is_empty());
        }
        assert!(exact > 100 && merged > 100, "did not meet its subject: {exact} {merged}");
    }

    #[test]
    fn short_lines_share_marks() {
        let mut marks = Marks::default();
        (1..=10_000).for_each(|line| marks.push(line * 222, line * 200));
        assert!(marks.ends.len() < 1300, "{}", marks.ends.len());
    }
}
