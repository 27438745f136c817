//! The accounts as OpenMetrics text, which Prometheus reads.

use crate::{
    drain::{Condition, DrainStatus},
    ledger::Loss,
};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

/// The media type of OpenMetrics 1.0.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;

/// The whole answer. Made anew each time: the accounts are kept elsewhere.
pub(super) fn render(drains: &[DrainStatus], run: &str) -> String {
    let mut registry = Registry::with_prefix("lastword");
    let info = Info::new(vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("run", run.to_owned())]);
    registry.register("build", "This program and this run", info);
    let [read, adopted, settled, lost] =
        [Counters::default(), Counters::default(), Counters::default(), Counters::default()];
    let [pending, memory, state] = [Gauges::default(), Gauges::default(), Gauges::default()];
    registry.register("lines_read", "Lines given to the drain in this run", read.clone());
    registry.register("lines_adopted", "Lines taken over from an earlier run", adopted.clone());
    registry.register("lines_settled", "Lines by the best evidence of their arrival", settled.clone());
    registry.register("lines_lost", "Lines given up, by reason", lost.clone());
    registry.register("lines_pending", "Lines whose fate is open", pending.clone());
    registry.register("drain_memory_bytes", "Memory taken by lines on their way", memory.clone());
    registry.register("drain_state", "1 for the state that the drain is in", state.clone());
    for drain in drains {
        let labels = |more: Option<(&'static str, &str)>| -> Labels {
            let more = more.map(|(key, value)| (key, value.to_owned()));
            std::iter::once(("drain", drain.name.clone())).chain(more).collect()
        };
        let counts = &drain.counts;
        read.get_or_create(&labels(None)).inc_by(counts.read);
        adopted.get_or_create(&labels(None)).inc_by(counts.adopted);
        let grades = [
            ("confirmed", counts.confirmed),
            ("accepted", counts.accepted),
            ("sent", counts.sent),
            ("spooled", counts.spooled),
        ];
        for (grade, units) in grades {
            settled.get_or_create(&labels(Some(("grade", grade)))).inc_by(units);
        }
        for reason in Loss::ALL {
            lost.get_or_create(&labels(Some(("reason", reason.name())))).inc_by(counts.lost.of(reason));
        }
        pending.get_or_create(&labels(None)).set(clamped(drain.pending));
        memory.get_or_create(&labels(None)).set(clamped(drain.memory_bytes as u64));
        for condition in Condition::ALL {
            let is = i64::from(drain.state == condition);
            state.get_or_create(&labels(Some(("state", condition.name())))).set(is);
        }
    }
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}

fn clamped(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Counts;

    #[test]
    fn the_accounts_are_rendered() {
        let mut counts = Counts { read: 9, confirmed: 4, ..Counts::default() };
        counts.lost.add(Loss::Overflow, 2);
        let drain = DrainStatus {
            name: "odd \"name\"\\".into(),
            url: "file:x".into(),
            state: Condition::Held,
            since: None,
            trouble: None,
            pending: 3,
            memory_bytes: 700,
            counts,
        };
        let text = render(&[drain], "run-1");
        for line in [
            r#"lastword_lines_read_total{drain="odd \"name\"\\"} 9"#,
            r#"lastword_lines_settled_total{drain="odd \"name\"\\",grade="confirmed"} 4"#,
            r#"lastword_lines_lost_total{drain="odd \"name\"\\",reason="overflow"} 2"#,
            r#"lastword_lines_lost_total{drain="odd \"name\"\\",reason="deadline"} 0"#,
            r#"lastword_lines_pending{drain="odd \"name\"\\"} 3"#,
            r#"lastword_drain_memory_bytes{drain="odd \"name\"\\"} 700"#,
            r#"lastword_drain_state{drain="odd \"name\"\\",state="held"} 1"#,
            r#"lastword_drain_state{drain="odd \"name\"\\",state="up"} 0"#,
            "# TYPE lastword_lines_read counter",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains(r#"run="run-1""#) && text.ends_with("# EOF\n"), "{text}");
    }
}
