//! The clocks: the only file that reads them. Everything else takes `now` as an argument.

use crate::line::Stamp;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time, for every timer.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn now() -> Instant {
    #[cfg(test)]
    if simulated::begun().is_some() {
        return tokio::time::Instant::now().into_std();
    }
    Instant::now()
}

/// The clock by which /proc tells when a process began.
pub fn since_boot() -> Duration {
    nix::time::ClockId::CLOCK_BOOTTIME.now().map_or(Duration::ZERO, Duration::from)
}

/// An instant of the recent past by that clock.
pub fn boot_time(at: Instant) -> Duration {
    since_boot().saturating_sub(now().saturating_duration_since(at))
}

/// Wall-clock time, for stamps alone: it may jump.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn stamp() -> Stamp {
    #[cfg(test)]
    if let Some(begun) = simulated::begun() {
        let since = i64::try_from((now() - begun).as_nanos()).unwrap_or(i64::MAX);
        return Stamp(simulated::EPOCH + since);
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Stamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Whether this thread simulates.
#[cfg(test)]
pub(crate) fn is_simulated() -> bool {
    simulated::begun().is_some()
}

/// Whether this thread simulates: that is for tests alone.
#[cfg(not(test))]
pub(crate) const fn is_simulated() -> bool {
    false
}

#[cfg(test)]
pub(crate) mod simulated {
    //! In a simulation both clocks are tokio's, which stands still until all wait: the same seed, the same run.

    use std::{cell::Cell, time::Instant};

    /// When every simulation begins, in nanoseconds since the Unix epoch.
    pub(super) const EPOCH: i64 = 1_800_000_000_000_000_000;

    thread_local! {
        static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
    }

    /// When this thread's simulation began, if it runs one.
    pub(crate) fn begun() -> Option<Instant> {
        BEGUN.get()
    }

    /// From here on, until this is dropped, this thread simulates. Called in a runtime whose time is paused.
    pub(crate) fn begin() -> Guard {
        BEGUN.set(Some(tokio::time::Instant::now().into_std()));
        Guard
    }

    /// See [`begin`].
    pub(crate) struct Guard;

    impl Drop for Guard {
        fn drop(&mut self) {
            BEGUN.set(None);
        }
    }
}
