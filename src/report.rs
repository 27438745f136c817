//! The report: the closed books in words (one line a drain, the last thing that lastword says) and as JSON.

use crate::{
    format::thousands,
    ledger::{Counts, DrainReport},
};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Map, Value, json};
use std::{fmt, time::Duration};

/// What became of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Names the run: a UUIDv7, as on the lines.
    pub run: String,
    /// Our exit code.
    pub exit_code: u8,
    /// From our start to now.
    pub duration: Duration,
    /// What lastword itself used; the app is not in it.
    pub usage: Usage,
    /// The closed books, in the order in which drains were given.
    pub drains: Vec<DrainReport>,
}

/// What a process used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Largest resident set, in KiB.
    pub max_rss_kib: u64,
}

impl Usage {
    /// Of this process so far, without its children.
    pub fn own() -> Self {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Self::default() };
        let of = |time: nix::sys::time::TimeVal| {
            Duration::new(time.tv_sec().try_into().unwrap_or(0), u32::try_from(time.tv_usec()).unwrap_or(0) * 1000)
        };
        let max_rss_kib = u64::try_from(usage.max_rss()).unwrap_or(0);
        Self { cpu: of(usage.user_time()) + of(usage.system_time()), max_rss_kib }
    }
}

impl Report {
    /// As JSON, one object with a newline behind it. Every account is there, also those that are 0.
    pub fn to_json(&self) -> String {
        let drains: Vec<_> = self.drains.iter().map(drain_json).collect();
        let milliseconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let report = json!({
            "run": self.run,
            "exit_code": self.exit_code,
            "duration_ms": milliseconds(self.duration),
            "cpu_ms": milliseconds(self.usage.cpu),
            "max_rss_kib": self.usage.max_rss_kib,
            "drains": drains,
        });
        format!("{report:#}\n")
    }
}

fn drain_json(drain: &DrainReport) -> Value {
    let counts = &drain.counts;
    let lost: Map<_, _> = counts.lost.iter().map(|(reason, units)| (reason.name().to_owned(), units.into())).collect();
    json!({
        "name": drain.name,
        "url": drain.url,
        "read": counts.read,
        "adopted": counts.adopted,
        "confirmed": counts.confirmed,
        "accepted": counts.accepted,
        "sent": counts.sent,
        "spooled": counts.spooled,
        "lost": lost,
        "flush_ms": drain.flush.as_millis() as u64,
        "trouble": drain.trouble,
    })
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drain {}: {}; flushed in {:.2} s", self.name, self.counts, self.flush.as_secs_f64())?;
        match &self.trouble {
            Some(trouble) => write!(f, "; last trouble: {trouble}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Counts {
    /// The identity in words: accounts that are 0 are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read {}", thousands(self.read))?;
        if self.adopted > 0 {
            write!(f, " + adopted {}", thousands(self.adopted))?;
        }
        let accounts = [
            ("confirmed", self.confirmed),
            ("accepted", self.accepted),
            ("sent", self.sent),
            ("spooled", self.spooled),
            ("lost", self.lost.total()),
            ("pending", self.pending()),
        ];
        let mut sign = "=";
        for (name, units) in accounts.into_iter().filter(|&(_, units)| units > 0) {
            write!(f, " {sign} {name} {}", thousands(units))?;
            sign = "+";
            if name == "lost" {
                let reasons: Vec<_> =
                    self.lost.iter().map(|(why, units)| format!("{} {}", why.name(), thousands(units))).collect();
                write!(f, " ({})", reasons.join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Loss;

    fn drain() -> DrainReport {
        let mut counts = Counts { read: 1_234_567, confirmed: 1_230_000, accepted: 4_000, ..Counts::default() };
        counts.lost.add(Loss::Overflow, 500);
        counts.lost.add(Loss::Deadline, 67);
        DrainReport {
            name: "logs".into(),
            url: "https://***@logs.example/".into(),
            counts,
            flush: Duration::from_millis(1_234),
            trouble: Some("connection refused".into()),
        }
    }

    #[test]
    fn the_last_line_is_the_identity_in_words() {
        assert_eq!(
            drain().to_string(),
            "drain logs: read 1,234,567 = confirmed 1,230,000 + accepted 4,000 + lost 567 (overflow 500, deadline 67); \
             flushed in 1.23 s; last trouble: connection refused"
        );
        let quiet = DrainReport { counts: Counts::default(), trouble: None, ..drain() };
        assert_eq!(quiet.to_string(), "drain logs: read 0; flushed in 1.23 s");
    }

    #[test]
    fn the_json_has_every_account() {
        let report = Report {
            run: "0197".into(),
            exit_code: 143,
            duration: Duration::from_millis(2_500),
            usage: Usage { cpu: Duration::from_micros(1_250), max_rss_kib: 4_096 },
            drains: vec![drain()],
        };
        let json: Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(
            json,
            json!({
                "run": "0197", "exit_code": 143, "duration_ms": 2500.0, "cpu_ms": 1.25, "max_rss_kib": 4096,
                "drains": [{
                    "name": "logs", "url": "https://***@logs.example/", "read": 1_234_567, "adopted": 0,
                    "confirmed": 1_230_000, "accepted": 4_000, "sent": 0, "spooled": 0,
                    "lost": {"overflow": 500, "deadline": 67}, "flush_ms": 1234, "trouble": "connection refused",
                }],
            })
        );
    }
}
