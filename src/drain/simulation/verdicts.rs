//! What the drain does about each verdict, and about a full queue.

use super::{Fault, Run, SECOND};
use crate::{
    drain::{pack::Limits, testing::limits},
    ledger::Loss,
    line::{Batch, Lines, Stamp, Stream},
};
use rand::{SeedableRng, rngs::StdRng};
use std::sync::Arc;

#[tokio::test(start_paused = true)]
async fn one_poisoned_line_costs_itself_and_is_announced() {
    let run = Run::new(1 << 20, &[]);
    run.endpoint.borrow_mut().poison = Some("line 333");
    run.play(run.requests(), limits(), async {
        run.push(1, 500);
        tokio::time::sleep(SECOND).await;
        run.close(9 * SECOND);
    })
    .await;
    let counts = run.books();
    assert_eq!((counts.confirmed, counts.lost.of(Loss::Rejected)), (499, 1));
    assert_eq!(run.judge(500, &counts, 1), 0);
    let announced = run.endpoint.borrow().lines().iter().filter(|line| line.contains("lost")).count();
    assert_eq!(announced, 1);
    assert!(run.endpoint.borrow().tries.len() < 25, "bisected: {}", run.endpoint.borrow().tries.len());
}

#[tokio::test(start_paused = true)]
async fn too_large_is_halved_and_a_line_too_large_alone_is_lost_as_oversize() {
    let run = Run::new(1 << 20, &[]);
    run.endpoint.borrow_mut().limit = Some(120);
    let long = {
        let lines = Lines { data: vec![b'x'; 200].into(), ends: vec![200], parts: Vec::new() };
        Arc::new(Batch::new(Stream::Stdout, 101, Stamp(1), lines))
    };
    run.play(run.requests(), limits(), async {
        run.push(1, 100);
        run.inbox.push(&long);
        run.push(102, 9);
        tokio::time::sleep(SECOND).await;
        run.close(9 * SECOND);
    })
    .await;
    let counts = run.books();
    assert_eq!((counts.confirmed, counts.lost.of(Loss::Oversize)), (109, 1));
    run.judge(110, &counts, 1);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_never_took_a_line_is_held_after_eight_refusals() {
    let run = Run::new(1 << 20, &[]);
    run.endpoint.borrow_mut().poison = Some("line");
    run.play(run.requests(), limits(), async {
        run.push(1, 100);
        tokio::time::sleep(600 * SECOND).await;
        assert_eq!(run.inbox.counts().lost.of(Loss::Rejected), 7);
        assert!(run.endpoint.borrow().tries.len() < 100, "held, so tried slowly");
        run.endpoint.borrow_mut().poison = None;
        tokio::time::sleep(60 * SECOND).await;
        run.close(9 * SECOND);
    })
    .await;
    let counts = run.books();
    assert_eq!((counts.confirmed, counts.lost.total()), (93, 7));
    assert_eq!(run.judge(100, &counts, 7), 0);
    assert!(run.said.borrow().iter().any(|line| line.contains("mending")), "{:?}", run.said);
}

#[tokio::test(start_paused = true)]
async fn a_hold_loses_nothing_is_loud_and_ends() {
    let run = Run::new(1 << 20, &[Fault::Hold; 5]);
    run.play(run.requests(), limits(), async {
        run.push(1, 20);
        tokio::time::sleep(20 * SECOND).await;
        assert!(run.inbox.lock().trouble.is_some());
        tokio::time::sleep(200 * SECOND).await;
        run.close(9 * SECOND);
    })
    .await;
    let counts = run.books();
    assert_eq!((counts.confirmed, counts.lost.total()), (20, 0));
    let said = run.said.borrow();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("mending") && said[1].contains("well again"), "{said:?}");
    assert!(run.inbox.lock().trouble.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_overflows_while_the_drain_is_down_is_counted_and_announced_at_its_place() {
    let run = Run::new(20_000, &[]);
    run.endpoint.borrow_mut().faults = (1000, vec![Fault::Refuse]);
    run.endpoint.borrow_mut().rng = Some(StdRng::seed_from_u64(1));
    let limits = Limits { items: 10, in_flight: 5000, ..limits() };
    run.play(run.requests(), limits, async {
        for first in (1..=5000).step_by(10) {
            run.push(first, 10);
            tokio::time::sleep(SECOND / 100).await;
        }
        run.endpoint.borrow_mut().faults = (0, Vec::new());
        tokio::time::sleep(60 * SECOND).await;
        run.close(9 * SECOND);
    })
    .await;
    let counts = run.books();
    let lost = counts.lost.of(Loss::Overflow);
    assert!(lost > 1000, "{lost}");
    run.judge(5000, &counts, lost);
    let lines = run.endpoint.borrow().lines();
    let gap = lines.iter().position(|line| line.contains("lastword:")).unwrap();
    assert_eq!(lines[gap - 1], "line 10", "what was in flight stays");
    assert_eq!(lines[gap + 1], format!("line {}", 11 + lost));
    let digits: String = lines[gap].split(" lost").next().unwrap().chars().filter(char::is_ascii_digit).collect();
    assert!(digits.ends_with(&lost.to_string()), "{}", lines[gap]);
}
