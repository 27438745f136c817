//! The ledger: what became of every unit, per drain, to the line.
//!
//! The identity that holds at every moment, and is asserted when the books are closed:
//!
//! ```text
//! read + adopted = confirmed + accepted + sent + spooled + fallback + lost(reason) + pending
//! ```
//!
//! At exit `pending` is 0. lastword's own lines about the app's life (`--lifecycle-lines`) are numbered with the app's and
//! are units like any other: they are in `read`, and can be lost. Gap lines (the announcements of loss in a drain's own stream) stand outside.

use serde::{Serialize, Serializer};
use std::time::Duration;

/// The strongest evidence that a transport has of a unit's arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Handed to the kernel; no evidence is possible (UDP).
    Sent,
    /// The peer's kernel acknowledged the bytes (TCP), or ours holds them (an unsynced file).
    Accepted,
    /// The receiving application said so, or the file was synced.
    Confirmed,
}

/// Why a unit was lost: a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Memory was full and `--when-full` said to drop.
    Overflow,
    /// The receiver refused this very line.
    Rejected,
    /// The receiver says the line alone is too large.
    Oversize,
    /// Time ran out at the exit.
    Deadline,
    /// The spool could not keep it.
    SpoolError,
    /// A spooled frame failed its checksum.
    Corrupt,
    /// The drain's thread panicked.
    DrainDied,
}

impl Loss {
    /// Every reason, in the order in which reports name them.
    pub const ALL: [Self; 7] = [
        Self::Overflow,
        Self::Rejected,
        Self::Oversize,
        Self::Deadline,
        Self::SpoolError,
        Self::Corrupt,
        Self::DrainDied,
    ];

    /// The reason as one word, as reports and gap lines name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Rejected => "rejected",
            Self::Oversize => "oversize",
            Self::Deadline => "deadline",
            Self::SpoolError => "spool_error",
            Self::Corrupt => "corrupt",
            Self::DrainDied => "drain_died",
        }
    }
}

/// Units lost, by reason. As JSON: an object with the reasons that have a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses([u64; Loss::ALL.len()]);

impl Losses {
    /// Adds `units` to a reason.
    pub fn add(&mut self, reason: Loss, units: u64) {
        let forgotten = match reason {
            Loss::Overflow => planted!(drop_not_counted),
            Loss::DrainDied => planted!(dead_drain_not_counted),
            _ => false,
        };
        if !forgotten {
            self.0[reason as usize] += units;
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Units lost for `reason`.
    pub fn of(&self, reason: Loss) -> u64 {
        self.0[reason as usize]
    }

    /// Units lost for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons that have a count, in report order.
    pub fn iter(&self) -> impl Iterator<Item = (Loss, u64)> + '_ {
        Loss::ALL.into_iter().map(|reason| (reason, self.of(reason))).filter(|&(_, units)| units > 0)
    }
}

impl Serialize for Losses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(reason, units)| (reason.name(), units)))
    }
}

/// The accounts of one drain, in units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Published to the drain in this run.
    pub read: u64,
    /// Taken over from an earlier run's spool.
    pub adopted: u64,
    /// See [`Grade::Confirmed`].
    pub confirmed: u64,
    /// See [`Grade::Accepted`].
    pub accepted: u64,
    /// See [`Grade::Sent`].
    pub sent: u64,
    /// On disk, for the next run.
    pub spooled: u64,
    /// Written to where `--fallback` says, for want of time.
    #[serde(skip_serializing_if = "is_zero")]
    pub fallback: u64,
    /// Gone, and why.
    pub lost: Losses,
}

impl Counts {
    /// Books `units` under the account of `grade`.
    pub fn settle(&mut self, grade: Grade, units: u64) {
        match grade {
            Grade::Sent => self.sent += units,
            Grade::Accepted => self.accepted += units,
            Grade::Confirmed => self.confirmed += units,
        }
    }

    /// Moves `units` from a weaker account to confirmed: better evidence came in.
    pub fn upgrade(&mut self, from: Grade, units: u64) {
        let account = match from {
            Grade::Sent => &mut self.sent,
            Grade::Accepted => &mut self.accepted,
            Grade::Confirmed => return,
        };
        debug_assert!(units <= *account);
        *account = account.saturating_sub(units);
        self.confirmed += units;
    }

    /// Of the units lost to the deadline, or with the drain, `units` are in the fallback after all.
    pub fn save(&mut self, mut units: u64) {
        for reason in [Loss::Deadline, Loss::DrainDied] {
            let saved = units.min(self.lost.of(reason));
            self.lost.0[reason as usize] -= saved;
            self.fallback += saved;
            units -= saved;
        }
    }

    /// Units whose fate is open.
    pub fn pending(&self) -> u64 {
        let settled = self.confirmed + self.accepted + self.sent + self.spooled + self.fallback + self.lost.total();
        (self.read + self.adopted).saturating_sub(settled)
    }

    /// Units with a known fate; grows whenever a drain gets on.
    pub fn settled(&self) -> u64 {
        (self.read + self.adopted) - self.pending()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(units: &u64) -> bool {
    *units == 0
}

/// What the report says of one drain. As JSON, the accounts are fields beside the name, `lost` an object by reason,
/// times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrainReport {
    /// The drain's name.
    pub name: String,
    /// Its URL without credentials.
    pub url: String,
    /// Its closed books.
    #[serde(flatten)]
    pub counts: Counts,
    /// From the end of the app's output to the drain's last word.
    #[serde(rename = "flush_ms", serialize_with = "as_millis")]
    pub flush: Duration,
    /// What the drain last complained of, if it had not recovered; else what it waited for in vain when the books were closed.
    pub trouble: Option<String>,
}

fn as_millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        let mut counts = Counts { read: 12_345, ..Counts::default() };
        counts.settle(Grade::Confirmed, 12_000);
        counts.settle(Grade::Accepted, 300);
        counts.lost.add(Loss::Deadline, 40);
        counts.lost.add(Loss::Rejected, 5);
        counts
    }

    #[test]
    fn the_identity_holds_through_settling_and_better_evidence() {
        let mut counts = counts();
        assert_eq!(counts.pending(), 0);
        counts.upgrade(Grade::Accepted, 300);
        assert_eq!((counts.confirmed, counts.accepted, counts.settled()), (12_300, 0, 12_345));
    }

    #[test]
    fn each_grade_has_its_own_account_and_adds_to_it() {
        let mut counts = Counts::default();
        for grade in [Grade::Sent, Grade::Accepted, Grade::Confirmed] {
            counts.settle(grade, 3);
            counts.settle(grade, 4);
        }
        assert_eq!((counts.sent, counts.accepted, counts.confirmed), (7, 7, 7));
        counts.upgrade(Grade::Sent, 5);
        counts.upgrade(Grade::Confirmed, 1);
        assert_eq!((counts.sent, counts.accepted, counts.confirmed), (2, 7, 12));
    }

    #[test]
    fn every_account_and_every_loss_counts_as_settled() {
        let mut counts = Counts { read: 60, adopted: 40, spooled: 7, fallback: 5, ..Counts::default() };
        counts.settle(Grade::Sent, 1);
        counts.settle(Grade::Accepted, 2);
        counts.settle(Grade::Confirmed, 3);
        for reason in Loss::ALL {
            counts.lost.add(reason, 10);
        }
        assert_eq!((counts.pending(), counts.settled()), (12, 88));
    }

    #[test]
    fn losses_are_kept_by_reason_and_named_in_the_report_if_there_are_any() {
        let mut losses = Losses::default();
        losses.add(Loss::DrainDied, 1);
        losses.add(Loss::Overflow, 2);
        let mut all = losses;
        all.merge(&losses);
        all.add(Loss::Corrupt, 5);
        assert_eq!(
            (all.of(Loss::DrainDied), all.of(Loss::Overflow), all.of(Loss::Rejected), all.total()),
            (2, 4, 0, 11)
        );
        let named: Vec<_> = all.iter().map(|(reason, units)| (reason.name(), units)).collect();
        assert_eq!(named, [("overflow", 4), ("corrupt", 5), ("drain_died", 2)]);
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(json, r#"{"overflow":4,"corrupt":5,"drain_died":2}"#);
        for reason in Loss::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name(), "by one name everywhere");
        }
    }

    #[test]
    fn what_the_fallback_saves_is_no_longer_lost_and_no_more_than_was() {
        let mut counts = counts();
        counts.save(30);
        assert_eq!((counts.fallback, counts.lost.of(Loss::Deadline), counts.lost.of(Loss::Rejected)), (30, 10, 5));
        counts.save(30);
        assert_eq!((counts.fallback, counts.lost.of(Loss::Deadline), counts.pending()), (40, 0, 0));
    }

    #[test]
    fn the_report_has_the_accounts_beside_the_name_and_times_in_milliseconds() {
        let (name, url, trouble) = ("a".to_string(), "udp://h".to_string(), None);
        let mut report = DrainReport { name, url, counts: counts(), flush: Duration::from_micros(12_900), trouble };
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            (&json["confirmed"], &json["lost"]["deadline"], &json["flush_ms"]),
            (&12_000.into(), &40.into(), &12.into())
        );
        assert!(json.get("fallback").is_none(), "where there is none");
        report.counts.fallback = 1;
        assert_eq!(serde_json::to_value(&report).unwrap()["fallback"], 1);
    }
}
