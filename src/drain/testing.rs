//! What the tests of this folder share.

use super::pack::Limits;
use crate::{
    clock,
    config::{Config, WhenFull},
    format::{Instance, Origin},
    line::{Batch, Lines, Stamp, Stream},
};
use std::{io::Write, sync::Arc, time::Duration};

/// `len` units named `line SEQ`, from `first` on.
pub(crate) fn batch(first: u64, len: u64) -> Arc<Batch> {
    let (mut data, mut ends) = (Vec::new(), Vec::new());
    for seq in first..first + len {
        data.extend_from_slice(format!("line {seq}\n").as_bytes());
        ends.push(u32::try_from(data.len()).unwrap());
    }
    let lines = Lines { data: data.into(), ends, parts: Vec::new() };
    let time = Stamp(i64::try_from(first).unwrap());
    Arc::new(Batch::new(Stream::Stdout, first, time, lines))
}

/// Limits that let all pass at once.
pub(crate) fn limits() -> Limits {
    Limits {
        bytes: 1 << 20,
        items: 1000,
        gaps_alone: false,
        overhead: 1,
        linger: Duration::ZERO,
        nap: Duration::ZERO,
        in_flight: 1 << 22,
        load: 1 << 16,
    }
}

/// A seed that says how to replay it if the test fails.
pub(crate) struct Seed {
    value: u64,
    /// The how-manieth it is.
    number: u64,
}

impl Seed {
    pub(crate) fn value(&self) -> u64 {
        self.value
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            note(&format!("replay with LASTWORD_SEED={} (seed {})", self.value, self.number));
        }
    }
}

/// `count` fresh seeds, or the one in LASTWORD_SEED.
pub(crate) fn seeds(count: u64) -> impl Iterator<Item = Seed> {
    let given = std::env::var("LASTWORD_SEED").ok().map(|text| text.parse().unwrap());
    let fresh = u64::try_from(clock::stamp().0).unwrap();
    (0..if given.is_some() { 1 } else { count })
        .map(move |index| Seed { value: given.unwrap_or(fresh.wrapping_add(index)), number: index + 1 })
}

/// Says something beside the test's result.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "note: {text}");
}

/// Somebody.
pub(crate) fn origin() -> Origin {
    Origin {
        host: "host".into(),
        app: "app".into(),
        instance: Instance::known("1"),
        run: "run".into(),
        labels: Vec::new(),
    }
}

/// Settings with `memory` for all drains.
pub(crate) fn config(memory: usize, when_full: WhenFull) -> Config {
    Config { memory, when_full, ..Config::defaults(origin(), 1) }
}
