//! How long a request may wait for its answer.
//!
//! A receiver that hangs should be noticed soon, and one that is merely slow should not get each request again and again:
//! so the limit grows with each answer that did not come, and shrinks to what the last one needed, with room to spare.

use std::time::Duration;

/// The first limit: long enough for a collector under load. A stop does not wait for it: what hangs then is asked again at
/// half of the time that is left.
const LEAST: Duration = Duration::from_secs(30);
/// The last one.
const MOST: Duration = Duration::from_secs(60);

/// Pure. `#timeout=` fixes it.
#[derive(Debug)]
pub(super) struct Patience {
    fixed: Option<Duration>,
    learned: Duration,
}

impl Patience {
    pub(super) fn new(fixed: Option<Duration>) -> Self {
        Self { fixed, learned: LEAST }
    }

    pub(super) fn limit(&self) -> Duration {
        self.fixed.unwrap_or(self.learned)
    }

    /// An answer came after this long.
    pub(super) fn answered(&mut self, took: Duration) {
        self.learned = (2 * took).clamp(LEAST, MOST);
    }

    /// The limit passed without one.
    pub(super) fn in_vain(&mut self) {
        self.learned = (2 * self.learned).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_after_29_s_is_waited_for_and_one_after_50_s_from_the_second_try_on_20() {
        let ask = |patience: &mut Patience, needs: u64| {
            let needs = Duration::from_secs(needs);
            let is_heard = needs < patience.limit();
            match is_heard {
                true => patience.answered(needs),
                false => patience.in_vain(),
            }
            is_heard
        };
        let mut patience = Patience::new(None);
        assert!((0..9).all(|_| ask(&mut patience, 29)));
        let mut patience = Patience::new(None);
        let heard: Vec<_> = (0..5).map(|_| ask(&mut patience, 50)).collect();
        assert_eq!(heard, [false, true, true, true, true]);
        patience.answered(Duration::from_millis(30));
        assert_eq!(patience.limit(), LEAST, "a receiver that is well again is believed");
        let mut patience = Patience::new(Some(Duration::from_secs(51)));
        assert!((0..9).all(|_| ask(&mut patience, 50)));
    }

    #[test]
    fn it_has_an_end() {
        let mut patience = Patience::new(None);
        (0..99).for_each(|_| patience.in_vain());
        assert_eq!(patience.limit(), MOST);
        patience.answered(MOST * 9);
        assert_eq!(patience.limit(), MOST);
    }
}
