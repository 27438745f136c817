//! The clocks: the only file that reads them. Everything else takes `now` as an argument.

use crate::line::Stamp;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time, for every timer.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn now() -> Instant {
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
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Stamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
