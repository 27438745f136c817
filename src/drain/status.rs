//! How a drain is doing, for whoever asks while it works.

use super::inbox::State;
use crate::ledger::Counts;
use serde::Serialize;
use std::time::{Duration, Instant};

/// A drain that settles nothing for this long, though it has lines and no trouble, is called stalled. A healthy TCP
/// drain may wait half of it for its replay window to age.
pub(super) const STALLED: Duration = Duration::from_secs(10);

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Lines are taken, or there are none.
    Up,
    /// The last try failed; it is tried again.
    Retrying,
    /// The endpoint or the credentials need mending; it is tried again every half minute.
    Held,
    /// Nothing failed, but nothing moves.
    Stalled,
    /// Its thread is gone: a bug.
    Dead,
}

impl Condition {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Up, Self::Retrying, Self::Held, Self::Stalled, Self::Dead];

    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Retrying => "retrying",
            Self::Held => "held",
            Self::Stalled => "stalled",
            Self::Dead => "dead",
        }
    }
}

/// How a drain is doing. As JSON, the accounts are fields beside the rest, times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrainStatus {
    /// The drain's name.
    pub name: String,
    /// Its URL without credentials.
    pub url: String,
    /// In one word.
    pub state: Condition,
    /// For how long the trouble has lasted, or nothing has moved. None for a drain that is up.
    #[serde(rename = "since_ms", serialize_with = "as_millis")]
    pub since: Option<Duration>,
    /// What it last complained of, if it has not recovered.
    pub trouble: Option<String>,
    /// Lines whose fate is open.
    pub pending: u64,
    /// Memory that they take, in bytes.
    pub memory_bytes: usize,
    /// Its books as they stand.
    #[serde(flatten)]
    pub counts: Counts,
}

fn as_millis<S: serde::Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        None => serializer.serialize_none(),
    }
}

/// Looks at what the lock protects.
pub(super) fn of(name: &str, url: &str, state: &mut State, now: Instant) -> DrainStatus {
    let unmoved = state.unmoved(now);
    let counts = *state.queue.counts();
    let (condition, since) = match state.trouble_since {
        _ if state.queue.is_dead() => (Condition::Dead, None),
        Some(at) if state.held => (Condition::Held, Some(now.saturating_duration_since(at))),
        Some(at) => (Condition::Retrying, Some(now.saturating_duration_since(at))),
        None => match unmoved.filter(|&time| time >= STALLED) {
            Some(time) => (Condition::Stalled, Some(time)),
            None => (Condition::Up, None),
        },
    };
    DrainStatus {
        name: name.to_owned(),
        url: url.to_owned(),
        state: condition,
        since,
        trouble: state.trouble.clone(),
        pending: counts.pending(),
        memory_bytes: state.queue.charged(),
        counts,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::inbox::Inbox, *};
    use crate::{clock, config::WhenFull, drain::testing::batch};

    #[test]
    fn a_drain_is_up_stalled_retrying_held_or_dead() {
        let inbox = Inbox::new(WhenFull::DropOldest, 1 << 20);
        let look = |at: Duration| of("a", "file:a", &mut inbox.lock(), clock::now() + at);
        let hour = Duration::from_secs(3600);
        assert_eq!(look(hour).state, Condition::Up, "nothing to do for an hour");
        inbox.push(&batch(1, 3));
        assert_eq!((look(Duration::ZERO).state, look(hour).state), (Condition::Up, Condition::Stalled));
        assert_eq!(look(hour).pending, 3);
        inbox.order(|state| state.trouble_since = Some(clock::now()));
        assert_eq!(look(hour).state, Condition::Retrying);
        inbox.order(|state| state.held = true);
        let held = look(hour);
        assert!(held.state == Condition::Held && held.since >= Some(hour), "{held:?}");
        let json = serde_json::to_value(&held).unwrap();
        assert_eq!((&json["state"], &json["read"], &json["pending"]), (&"held".into(), &3.into(), &3.into()));
        inbox.order(|state| state.queue.die());
        assert_eq!(look(hour).state, Condition::Dead);
    }
}
