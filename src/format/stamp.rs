//! Time stamps as text: RFC 3339 in UTC with exactly six fraction digits, upper-case `T` and `Z`.
//!
//! Six digits because RFC 5424 §6.2.3 allows no more, and rsyslog 8.2302 garbles nine; upper case because lower-case
//! ones make rsyslog and syslog-ng refuse the header. Microseconds are cut, not rounded, so that no line is stamped in its future.

use crate::line::Stamp;

const WIDTH: usize = 27;
const FRACTION_AT: usize = 20;
const FRACTION_DIGITS: usize = 6;

/// Renders stamps. The calendar is worked out once a second, because a chatty app has thousands of batches in one.
#[derive(Clone, Debug)]
pub struct StampText {
    second: i64,
    text: [u8; WIDTH],
}

impl Default for StampText {
    fn default() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00.000000Z" }
    }
}

impl StampText {
    /// `stamp` as text, like `2026-01-02T03:04:05.678901Z`.
    pub fn render(&mut self, stamp: Stamp) -> &str {
        const NANOS: i64 = 1_000_000_000;
        let second = stamp.0.div_euclid(NANOS);
        if second != self.second {
            self.text = whole_second(second);
            self.second = second;
        }
        let mut micros = stamp.0.rem_euclid(NANOS) / 1_000;
        for digit in self.text[FRACTION_AT..FRACTION_AT + FRACTION_DIGITS].iter_mut().rev() {
            *digit = b'0' + (micros % 10) as u8;
            micros /= 10;
        }
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

/// The years of an `i64` of nanoseconds are 1677 to 2262, so the width is fixed and the conversion cannot fail.
fn whole_second(second: i64) -> [u8; WIDTH] {
    let text = jiff::Timestamp::from_second(second).map(|stamp| format!("{stamp:.6}")).unwrap_or_default();
    text.as_bytes().try_into().unwrap_or(*b"0000-00-00T00:00:00.000000Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stamp_has_six_digits_and_upper_case_letters() {
        let mut text = StampText::default();
        assert_eq!(text.render(Stamp(1_767_323_045_678_901_999)), "2026-01-02T03:04:05.678901Z");
        assert_eq!(text.render(Stamp(1_767_323_045_000_000_000)), "2026-01-02T03:04:05.000000Z");
        assert_eq!(text.render(Stamp(0)), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text.render(Stamp(-1)), "1969-12-31T23:59:59.999999Z");
        assert_eq!(text.render(Stamp(i64::MIN)), "1677-09-21T00:12:43.145224Z");
        assert_eq!(text.render(Stamp(i64::MAX)), "2262-04-11T23:47:16.854775Z");
    }

    proptest! {
        #[test]
        fn every_stamp_parses_back_to_its_microsecond(nanos in any::<i64>(), step in 0i64..3_000_000_000) {
            let mut text = StampText::default();
            for nanos in [nanos, nanos.saturating_add(step)] {
                let parsed: jiff::Timestamp = text.render(Stamp(nanos)).parse().unwrap();
                prop_assert_eq!(parsed.as_nanosecond(), i128::from(nanos.div_euclid(1000)) * 1000);
            }
        }
    }
}
