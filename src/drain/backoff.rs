//! How long to wait before the next try: seeded full jitter, the receiver's own wish, and the hurry of a stop.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;

/// Upper bound of the first wait.
const BASE: Duration = Duration::from_millis(100);
/// Upper bound of every wait but a Retry-After.
const CAP: Duration = Duration::from_secs(30);
/// The longest Retry-After that is believed.
const WISH_CAP: Duration = Duration::from_secs(300);
/// The longest wait after a stop was asked for.
const HURRIED_CAP: Duration = Duration::from_secs(1);
/// Waits of a connection that came up and broke again stay below `BASE * 2^FLAPPING`: it is alive.
const FLAPPING: u32 = 3;

/// Waits between tries. Full jitter (uniform from 0 to a doubling bound) keeps many wrappers from knocking in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    rng: StdRng,
    attempt: u32,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), attempt: 0 }
    }

    /// The receiver took something: the next failure is a first one.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }

    /// The connection stood, though nothing is settled yet.
    pub(crate) fn came_up(&mut self) {
        self.attempt = self.attempt.min(FLAPPING);
    }

    /// The wait after a failure that may pass. `wish` is a Retry-After: at least that long, unless `hurried`.
    pub(crate) fn retry(&mut self, wish: Option<Duration>, hurried: bool) -> Duration {
        let bound = BASE.saturating_mul(1 << self.attempt.min(16)).min(CAP);
        self.attempt = self.attempt.saturating_add(1);
        let wait = self.up_to(bound);
        match wish {
            Some(_) if planted!(retry_after_ignored) => wait,
            _ if hurried => wait.min(HURRIED_CAP),
            Some(wish) => wish.min(WISH_CAP) + wait.min(HURRIED_CAP),
            None => wait,
        }
    }

    /// The wait after a failure that a person has to mend: half the cap or more.
    pub(crate) fn hold(&mut self, hurried: bool) -> Duration {
        self.attempt = self.attempt.saturating_add(1);
        if hurried { HURRIED_CAP } else { CAP / 2 + self.up_to(CAP / 2) }
    }

    fn up_to(&mut self, bound: Duration) -> Duration {
        if planted!(jitter_zero) {
            return bound;
        }
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.rng.random_range(0..=nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_differ_by_seed() {
        let mut bounds = [Duration::ZERO; 12];
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            for bound in &mut bounds {
                *bound = backoff.retry(None, false).max(*bound);
            }
        }
        for (attempt, longest) in bounds.iter().enumerate() {
            let bound = BASE.saturating_mul(1 << attempt).min(CAP);
            assert!(*longest <= bound && *longest > bound * 8 / 10, "attempt {attempt}: {longest:?} of {bound:?}");
        }
        assert_ne!(Backoff::new(1).retry(None, false), Backoff::new(2).retry(None, false));
        assert_eq!(Backoff::new(1).retry(None, false), Backoff::new(1).retry(None, false));
    }

    #[test]
    fn a_wish_is_kept_within_reason_and_not_in_a_hurry() {
        let mut backoff = Backoff::new(7);
        let wait = backoff.retry(Some(Duration::from_secs(3)), false);
        assert!((3..=4).contains(&wait.as_secs()), "{wait:?}");
        assert!(backoff.retry(Some(Duration::from_secs(1_000_000_000)), false) <= WISH_CAP + HURRIED_CAP);
        assert!(backoff.retry(Some(Duration::from_secs(60)), true) <= HURRIED_CAP);
        for _ in 0..100 {
            assert!(backoff.retry(None, true) <= HURRIED_CAP);
        }
        assert!(backoff.hold(true) <= HURRIED_CAP);
        assert!(backoff.hold(false) >= CAP / 2);
    }

    #[test]
    fn a_flapping_connection_is_tried_again_within_a_second() {
        let mut backoff = Backoff::new(3);
        for _ in 0..20 {
            assert!(backoff.retry(None, false) < Duration::from_secs(1));
            backoff.came_up();
        }
    }

    #[test]
    fn after_a_success_the_next_wait_is_a_first_one() {
        let mut backoff = Backoff::new(5);
        for _ in 0..20 {
            backoff.hold(false);
            backoff.reset();
            assert!(backoff.retry(None, false) <= BASE);
        }
    }

    #[test]
    fn a_wait_for_a_person_is_long_and_so_is_the_next_try() {
        let longest = |tries: usize| {
            let waits = (0..100).map(|seed| {
                let mut backoff = Backoff::new(seed);
                (0..tries).for_each(|_| {
                    backoff.hold(false);
                });
                (backoff.hold(false), backoff.retry(None, false))
            });
            waits.reduce(|one, two| (one.0.max(two.0), one.1.max(two.1))).unwrap()
        };
        let (held, tried) = longest(0);
        assert!(held <= CAP && held > CAP * 9 / 10, "{held:?}");
        assert!(tried > BASE, "a hold counts as a failure: {tried:?}");
        assert!(longest(9).1 > CAP * 9 / 10);
    }
}
