//! Gap lines: a loss is announced in the drain's own stream, at the place of the gap, by one line.

use super::StampText;
use crate::{ledger::Losses, line::Stamp};

/// Lines that a drain had to give up, announced in its own stream at the place of the gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// How many, and why.
    pub lost: Losses,
    /// Time of the first lost unit.
    pub first: Stamp,
    /// Time of the last lost unit.
    pub last: Stamp,
    /// A receiver that refused some units of a payload, and did not say which: among how many they are, and between the
    /// times of which. 0 where just these were lost.
    pub among: u64,
}

impl Gap {
    /// The announcement in words: `lastword: 1,234 lines lost between T1 and T2 (overflow 1,200, rejected 34)`, or
    /// `lastword: 3 of 120 lines lost …` where nobody knows which.
    pub fn message(&self) -> String {
        let mut stamp = StampText::default();
        let total = self.lost.total();
        let all = self.among.max(total);
        let of = if all > total { format!(" of {}", thousands(all)) } else { String::new() };
        let mut text = format!("lastword: {}{of} {} lost ", thousands(total), if all == 1 { "line" } else { "lines" });
        if self.first == self.last {
            text += "at ";
        } else {
            text += "between ";
            text += stamp.render(self.first);
            text += " and ";
        }
        text += stamp.render(self.last);
        let reasons: Vec<_> =
            self.lost.iter().map(|(reason, units)| format!("{} {}", reason.name(), thousands(units))).collect();
        text + " (" + &reasons.join(", ") + ")"
    }
}

/// A count with a comma at each thousand, as people read it.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{format::testing::TIME, ledger::Loss};

    #[test]
    fn a_gap_names_its_count_its_time_and_its_reasons() {
        let mut lost = Losses::default();
        lost.add(Loss::Rejected, 34);
        lost.add(Loss::Overflow, 1_200);
        let gap = Gap { lost, first: TIME, last: Stamp(TIME.0 + 1_000_000_000), among: 0 };
        assert_eq!(
            gap.message(),
            "lastword: 1,234 lines lost between 2026-01-02T03:04:05.678901Z and 2026-01-02T03:04:06.678901Z \
             (overflow 1,200, rejected 34)"
        );
    }

    #[test]
    fn where_nobody_knows_which_lines_were_lost_it_says_among_how_many() {
        let mut lost = Losses::default();
        lost.add(Loss::Rejected, 1);
        let gap = Gap { lost, first: TIME, last: TIME, among: 1_200 };
        assert_eq!(gap.message(), "lastword: 1 of 1,200 lines lost at 2026-01-02T03:04:05.678901Z (rejected 1)");
    }

    #[test]
    fn one_lost_line_is_told_in_the_singular() {
        let mut lost = Losses::default();
        lost.add(Loss::Oversize, 1);
        let gap = Gap { lost, first: TIME, last: TIME, among: 0 };
        assert_eq!(gap.message(), "lastword: 1 line lost at 2026-01-02T03:04:05.678901Z (oversize 1)");
    }

    #[test]
    fn thousands_are_separated() {
        let shown = [0, 7, 999, 1_000, 65_536, 1_234_567].map(thousands);
        assert_eq!(shown, ["0", "7", "999", "1,000", "65,536", "1,234,567"]);
    }
}
