//! Whether the app is run again, and when. Pure: times are arguments, jitter is seeded.
//!
//! - The delay doubles with each restart in a row, up to a cap; its last quarter is random, so that many instances do not come
//!   back in step.
//! - A run that lasted [`Policy::healthy`] was a good one: the delays begin anew, and so does the count for `--max-restarts`.
//! - Only an app that ran and ended is run again, not one that could not be started.
//! - That nothing is run again after a stop is the [lifecycle](crate::lifecycle)'s doing.

use crate::exit::{Ending, Status};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;

/// `--restart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The platform does that.
    Never,
    /// After an exit code other than 0, or a signal.
    OnFailure,
    /// Whatever the exit code is.
    Always,
}

/// All settings of restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `--restart`.
    pub when: When,
    /// `--max-restarts`: how many in a row; None is no limit.
    pub max: Option<u32>,
    /// `--restart-delay`: before the first restart in a row.
    pub delay: Duration,
    /// `--restart-delay-max`.
    pub cap: Duration,
    /// `--healthy-after`.
    pub healthy: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let [delay, cap, healthy] = [1, 60, 60].map(Duration::from_secs);
        Self { when: When::Never, max: None, delay, cap, healthy }
    }
}

/// What follows a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another, so much later.
    After(Duration),
    /// Nothing: so many in a row were enough.
    Enough(u32),
    /// Nothing.
    Nothing,
}

/// Counts the restarts.
#[derive(Debug)]
pub struct Restarts {
    policy: Policy,
    in_a_row: u32,
    rng: StdRng,
}

impl Restarts {
    /// None so far.
    pub fn new(policy: Policy, seed: u64) -> Self {
        Self { policy, in_a_row: 0, rng: StdRng::seed_from_u64(seed) }
    }

    /// A run has ended so, after so long.
    pub fn next(&mut self, ending: Ending, after: Duration) -> Next {
        let Ending::App(status) = ending else { return Next::Nothing };
        let wanted = match self.policy.when {
            When::Never => false,
            When::OnFailure => status != Status::Exited(0),
            When::Always => true,
        };
        if !wanted {
            return Next::Nothing;
        }
        if after >= self.policy.healthy {
            self.in_a_row = 0;
        }
        if let Some(max) = self.policy.max.filter(|&max| self.in_a_row >= max) {
            return Next::Enough(max);
        }
        let whole = self.policy.delay.saturating_mul(1 << self.in_a_row.min(20)).min(self.policy.cap);
        self.in_a_row += 1;
        Next::After(whole.mul_f64(self.rng.random_range(0.75..=1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::Signal;

    const FAILED: Ending = Ending::App(Status::Exited(1));
    const SOON: Duration = Duration::from_secs(5);

    fn policy(when: When) -> Policy {
        Policy { when, ..Policy::default() }
    }

    #[test]
    fn delays_double_up_to_the_cap_with_a_quarter_of_jitter_and_begin_anew_after_a_good_run() {
        let mut restarts = Restarts::new(policy(When::OnFailure), 7);
        let mut seconds = |after| match restarts.next(FAILED, after) {
            Next::After(delay) => delay.as_secs_f64(),
            other => panic!("{other:?}"),
        };
        for whole in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0] {
            let delay = seconds(SOON);
            assert!((whole * 0.75..=whole).contains(&delay), "{delay} of {whole}");
        }
        assert!(seconds(Duration::from_secs(60)) <= 1.0, "it was healthy");
        assert!(seconds(SOON) > 1.0);
    }

    #[test]
    fn the_seed_decides_the_jitter() {
        let delays = |seed| {
            let mut restarts = Restarts::new(policy(When::Always), seed);
            (0..5).map(|_| restarts.next(FAILED, SOON)).collect::<Vec<_>>()
        };
        assert_eq!(delays(1), delays(1));
        assert_ne!(delays(1), delays(2));
    }

    #[test]
    fn who_is_run_again() {
        let again = |when, ending| matches!(Restarts::new(policy(when), 1).next(ending, SOON), Next::After(_));
        let success = Ending::App(Status::Exited(0));
        let signal = Ending::App(Status::Signaled(Signal::TERM));
        for (ending, on_failure, always) in [
            (success, false, true),
            (FAILED, true, true),
            (signal, true, true),
            (Ending::NotFound, false, false),
            (Ending::Own, false, false),
            (Ending::StoppedBeforeSpawn(Signal::TERM), false, false),
        ] {
            assert!(!again(When::Never, ending));
            assert_eq!(
                (again(When::OnFailure, ending), again(When::Always, ending)),
                (on_failure, always),
                "{ending:?}"
            );
        }
    }

    #[test]
    fn the_limit_counts_restarts_in_a_row() {
        let mut restarts = Restarts::new(Policy { max: Some(2), ..policy(When::Always) }, 1);
        let mut next = |after| matches!(restarts.next(FAILED, after), Next::After(_));
        assert!(next(SOON) && next(SOON) && !next(SOON));
        assert!(next(Duration::from_secs(61)), "a good run starts the count anew");
        assert!(next(SOON) && !next(SOON));
        let mut none = Restarts::new(Policy { max: Some(0), ..policy(When::Always) }, 1);
        assert_eq!(none.next(FAILED, SOON), Next::Enough(0));
    }
}
