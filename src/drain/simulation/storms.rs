//! Random storms of faults, then quiet: whatever happened, the judge must find every line.

use super::{Fault, Run, SECOND};
use crate::{
    drain::{
        pack::Limits,
        testing::{limits, seeds},
    },
    ledger::Loss,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{cell::Cell, time::Duration};

/// A seed's own selection of faults, so that their combinations vary (swarm testing).
fn swarm(rng: &mut StdRng) -> (u32, Vec<Fault>) {
    let all = [Fault::Refuse, Fault::AnswerLost, Fault::Later(5 * SECOND), Fault::Hold];
    let mut some: Vec<_> = all.into_iter().filter(|_| rng.random_bool(0.5)).collect();
    some.push(Fault::Refuse);
    (rng.random_range(50..800), some)
}

async fn storm(run: &Run, rng: &mut StdRng) -> u64 {
    let mut written = 0;
    for _ in 0..rng.random_range(50..200) {
        let len = rng.random_range(1..30);
        run.push(written + 1, len);
        written += len;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..500))).await;
    }
    // Quiet: every drain catches up within the longest wait.
    run.endpoint.borrow_mut().faults = (0, Vec::new());
    tokio::time::sleep(40 * SECOND).await;
    run.close(9 * SECOND);
    written
}

#[tokio::test(start_paused = true)]
async fn random_storms_over_requests_lose_poisoned_lines_alone() {
    let (mut duplicates, mut rejected) = (0, 0);
    for seed in seeds(60) {
        let mut rng = StdRng::seed_from_u64(seed.value());
        let run = Run::new(1 << 24, &[]);
        {
            let mut endpoint = run.endpoint.borrow_mut();
            endpoint.faults = swarm(&mut rng);
            endpoint.rng = Some(StdRng::seed_from_u64(seed.value()));
            endpoint.poison = rng.random_bool(0.5).then_some("line 77");
            endpoint.limit = rng.random_bool(0.5).then_some(300);
        }
        let limits = Limits { items: rng.random_range(1..200), linger: SECOND / 10, ..limits() };
        let written = Cell::new(0);
        run.play(run.requests(), limits, async { written.set(storm(&run, &mut rng).await) }).await;
        let counts = run.books();
        let poisoned = (1..=written.get()).filter(|seq| format!("line {seq}").contains("line 77")).count() as u64;
        let expect = if run.endpoint.borrow().poison.is_some() { poisoned } else { 0 };
        assert_eq!((counts.lost.total(), counts.lost.of(Loss::Rejected)), (expect, expect));
        assert_eq!(counts.confirmed, written.get() - expect);
        duplicates += run.judge(written.get(), &counts, expect);
        rejected += expect;
    }
    let replay = std::env::var_os("LASTWORD_SEED").is_some();
    assert!(replay || duplicates > 0 && rejected > 0, "the storms met neither lost answers nor poison");
}

#[tokio::test(start_paused = true)]
async fn random_storms_over_streams_lose_nothing() {
    let mut duplicates = 0;
    for seed in seeds(60) {
        let mut rng = StdRng::seed_from_u64(seed.value());
        let run = Run::new(1 << 24, &[]);
        {
            let mut endpoint = run.endpoint.borrow_mut();
            endpoint.faults = (rng.random_range(10..500), vec![Fault::Refuse, Fault::AnswerLost]);
            endpoint.rng = Some(StdRng::seed_from_u64(seed.value()));
        }
        let bytes = rng.random_range(20..500);
        let limits = Limits { bytes, in_flight: bytes * rng.random_range(1..9), ..limits() };
        let written = Cell::new(0);
        run.play(run.stream(), limits, async { written.set(storm(&run, &mut rng).await) }).await;
        let counts = run.books();
        assert_eq!((counts.accepted, counts.lost.total()), (written.get(), 0));
        duplicates += run.judge(written.get(), &counts, 0);
    }
    // A whole line is never repeated here: what the application has read is known to the byte.
    assert_eq!(duplicates, 0);
}
