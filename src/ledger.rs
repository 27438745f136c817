//! The ledger: what became of every unit, per drain, to the line.
//!
//! The identity that holds at every moment, and is asserted when the books are closed:
//!
//! ```text
//! read + adopted = confirmed + accepted + sent + spooled + lost(reason) + pending
//! ```
//!
//! At exit `pending` is 0. Gap lines (the announcements of loss in a drain's own stream) stand outside.

use crate::format::thousands;
use serde::{Serialize, Serializer};
use std::{fmt, time::Duration};

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
        self.0[reason as usize] += units;
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

    /// Moves `units` from accepted to confirmed: better evidence came in.
    pub fn upgrade(&mut self, units: u64) {
        debug_assert!(units <= self.accepted);
        self.accepted -= units;
        self.confirmed += units;
    }

    /// Units whose fate is open.
    pub fn pending(&self) -> u64 {
        let settled = self.confirmed + self.accepted + self.sent + self.spooled + self.lost.total();
        (self.read + self.adopted).saturating_sub(settled)
    }

    /// Units with a known fate; grows whenever a drain gets on.
    pub fn settled(&self) -> u64 {
        (self.read + self.adopted) - self.pending()
    }
}

/// What the report says of one drain. `Display` is the last line that lastword prints about it; as JSON, the accounts
/// are fields beside the name, `lost` an object by reason, times in milliseconds.
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
    /// What the drain last complained of, if it had not recovered.
    pub trouble: Option<String>,
}

/// `--report FILE`: the books of all drains.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Report<'a> {
    /// Names the run.
    pub run: &'a str,
    /// In the order of the settings.
    pub drains: &'a [DrainReport],
}

impl Report<'_> {
    /// The file's text: one JSON object, indented, with a newline at its end.
    pub fn to_json(&self) -> String {
        // Strings and numbers alone: nothing in it can fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

fn as_millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        write!(f, "drain {}: {} read", self.name, thousands(counts.read))?;
        let accounts = [
            (counts.adopted, "adopted"),
            (counts.confirmed, "confirmed"),
            (counts.accepted, "accepted"),
            (counts.sent, "sent"),
            (counts.spooled, "spooled"),
        ];
        for (units, account) in accounts.into_iter().filter(|&(units, _)| units > 0) {
            write!(f, ", {} {account}", thousands(units))?;
        }
        write!(f, ", {} lost", thousands(counts.lost.total()))?;
        let reasons: Vec<_> =
            counts.lost.iter().map(|(reason, units)| format!("{} {}", thousands(units), reason.name())).collect();
        if !reasons.is_empty() {
            write!(f, " ({})", reasons.join(", "))?;
        }
        write!(f, "; flushed in {:.2} s", self.flush.as_secs_f64())?;
        match &self.trouble {
            Some(trouble) => write!(f, "; last trouble: {trouble}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> DrainReport {
        let mut counts = Counts { read: 12_345, ..Counts::default() };
        counts.settle(Grade::Confirmed, 12_000);
        counts.settle(Grade::Accepted, 300);
        counts.lost.add(Loss::Deadline, 40);
        counts.lost.add(Loss::Rejected, 5);
        let flush = Duration::from_millis(1234);
        DrainReport { name: "web".into(), url: "https://logs.example/".into(), counts, flush, trouble: None }
    }

    #[test]
    fn the_last_line_names_every_account_that_has_a_count_and_always_the_lost() {
        let mut report = report();
        assert_eq!(
            report.to_string(),
            "drain web: 12,345 read, 12,000 confirmed, 300 accepted, 45 lost (5 rejected, 40 deadline); flushed in 1.23 s"
        );
        report.counts = Counts::default();
        report.trouble = Some("connection refused".into());
        assert_eq!(
            report.to_string(),
            "drain web: 0 read, 0 lost; flushed in 1.23 s; last trouble: connection refused"
        );
    }

    #[test]
    fn the_json_report_has_all_accounts_and_the_losses_by_reason() {
        let json = Report { run: "0197", drains: &[report()] }.to_json();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let expect = serde_json::json!({ "run": "0197", "drains": [{
            "name": "web", "url": "https://logs.example/", "read": 12_345, "adopted": 0, "confirmed": 12_000,
            "accepted": 300, "sent": 0, "spooled": 0, "lost": { "rejected": 5, "deadline": 40 },
            "flush_ms": 1234, "trouble": null,
        }]});
        assert_eq!(value, expect);
    }

    #[test]
    fn the_identity_holds_through_settling_and_better_evidence() {
        let mut counts = report().counts;
        assert_eq!(counts.pending(), 0);
        counts.upgrade(300);
        assert_eq!((counts.confirmed, counts.accepted, counts.settled()), (12_300, 0, 12_345));
    }
}
