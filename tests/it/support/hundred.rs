//! A hundred seeded runs, some at a time, and what they met.

use super::{note, seed};
use rand::{SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Runs `one` for 100 seeds, a few at a time. Sums up what the runs met.
pub fn hundred(
    test: &str,
    one: impl Fn(&mut StdRng, &str) -> BTreeMap<&'static str, u32> + Sync,
) -> BTreeMap<&'static str, u32> {
    let first = seed(test);
    let runs = if std::env::var_os("LASTWORD_SEED").is_some() { 1 } else { 100 };
    let (next, met) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                loop {
                    let run = next.fetch_add(1, Ordering::SeqCst);
                    if run >= runs {
                        return;
                    }
                    let seed = first.wrapping_add(run);
                    let context = format!("LASTWORD_SEED={seed}");
                    for (kind, count) in one(&mut StdRng::seed_from_u64(seed), &context) {
                        *met.lock().expect("no panic").entry(kind).or_default() += count;
                    }
                }
            });
        }
    });
    let met = met.into_inner().expect("no panic");
    note(&format!("{test}: {met:?}"));
    met
}

/// Fails if a kind was met fewer than five times: that test did not meet its subject.
#[track_caller]
pub fn all_met(met: &BTreeMap<&'static str, u32>, kinds: &[&str]) {
    if std::env::var_os("LASTWORD_SEED").is_none() {
        for kind in kinds {
            assert!(met.get(kind).is_some_and(|&count| count >= 5), "too little of {kind}: {met:?}");
        }
    }
}
