//! Signs of life from within a send, which may last: a slow receiver is not a stalled one, and what hangs at the exit has a name.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// How far a transport ever came: a mark that grows with the positions of what went out, or was acknowledged. It moves
/// during a send; a receiver that is sent the same bytes again and again does not move it. And what the transport waits for,
/// if it says so. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Vitals>);

#[derive(Debug, Default)]
struct Vitals {
    furthest: AtomicU64,
    wait: Mutex<Option<Wait>>,
}

#[derive(Debug)]
struct Wait {
    missing: String,
    since: Instant,
}

impl Pulse {
    /// The transport is here, if it was not further already.
    pub fn reach(&self, mark: u64) {
        self.0.furthest.fetch_max(mark, Ordering::Relaxed);
    }

    /// The furthest mark.
    pub fn furthest(&self) -> u64 {
        self.0.furthest.load(Ordering::Relaxed)
    }

    /// The transport waits from `now` on, and has not got what it waits for: `missing` says so (`no answer from logs.example`). A
    /// send that is dropped leaves it as it is.
    pub fn wait_for(&self, missing: String, now: Instant) {
        *self.wait() = Some(Wait { missing, since: now });
    }

    /// Something came of it.
    pub fn waited(&self) {
        *self.wait() = None;
    }

    /// What the transport has waited for in vain by `now`, and for how long.
    pub fn missing(&self, now: Instant) -> Option<String> {
        let told = |wait: &Wait| {
            format!("{} after {:.1} s", wait.missing, now.saturating_duration_since(wait.since).as_secs_f64())
        };
        self.wait().as_ref().map(told)
    }

    fn wait(&self) -> MutexGuard<'_, Option<Wait>> {
        self.0.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_missing_is_told_with_its_time_until_it_comes() {
        let (pulse, start) = (Pulse::default(), crate::clock::now());
        assert_eq!(pulse.missing(start), None);
        pulse.wait_for("no answer from h".into(), start);
        let copy = pulse.clone();
        assert_eq!(copy.missing(start + Duration::from_millis(3_210)).unwrap(), "no answer from h after 3.2 s");
        pulse.waited();
        assert_eq!(copy.missing(start), None);
    }
}
