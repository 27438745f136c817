//! When things are sent: lingers, back-offs, stops and ends.

use super::{Fault, Run, SECOND};
use crate::{
    drain::{pack::Limits, testing::limits},
    ledger::Loss,
};
use rand::{SeedableRng, rngs::StdRng};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_healthy_drain_confirms_every_line_and_leaves_at_once() {
    let run = Run::new(1 << 20, &[]);
    let after = run
        .play(run.requests(), limits(), async {
            for first in (1..=1000).step_by(10) {
                run.push(first, 10);
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            run.close(60 * SECOND);
        })
        .await;
    let counts = run.books();
    assert_eq!((counts.confirmed, counts.lost.total()), (1000, 0));
    assert_eq!(run.judge(1000, &counts, 0), 0);
    assert!(after < SECOND / 10, "{after:?}");
    assert!(run.said.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn lines_gather_for_the_linger_and_not_longer_and_a_stop_ends_it() {
    let run = Run::new(1 << 20, &[]);
    let limits = Limits { linger: SECOND, nap: SECOND, ..limits() };
    let start = Instant::now();
    run.play(run.requests(), limits, async {
        run.push(1, 1);
        tokio::time::sleep(SECOND / 2).await;
        run.push(2, 1);
        tokio::time::sleep(SECOND).await;
        run.push(3, 1);
        tokio::time::sleep(SECOND / 10).await;
        run.hurry(9 * SECOND);
        tokio::time::sleep(SECOND).await;
        run.close(9 * SECOND);
    })
    .await;
    let tries: Vec<_> = run.endpoint.borrow().tries.iter().map(|at| at.duration_since(start).as_millis()).collect();
    assert_eq!(tries.len(), 2, "{tries:?}");
    assert!((1000..1010).contains(&tries[0]) && (1600..1610).contains(&tries[1]), "{tries:?}");
    run.judge(3, &run.books(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_a_long_back_off_sends_at_once_58() {
    for order in [Run::hurry, Run::close] {
        let run = Run::new(1 << 20, &[Fault::Later(60 * SECOND)]);
        run.play(run.requests(), limits(), async {
            run.push(1, 5);
            tokio::time::sleep(2 * SECOND).await;
            assert_eq!(run.inbox.counts().pending(), 5);
            order(&run, 8 * SECOND);
            tokio::time::sleep(SECOND / 100).await;
            assert_eq!(run.inbox.counts().confirmed, 5);
            run.close(8 * SECOND);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_pauses_the_whole_drain() {
    let run = Run::new(1 << 20, &[Fault::Later(60 * SECOND)]);
    let start = Instant::now();
    run.play(run.requests(), limits(), async {
        for first in 1..=100 {
            run.push(first, 1);
            tokio::time::sleep(SECOND).await;
        }
        run.close(8 * SECOND);
    })
    .await;
    let second = run.endpoint.borrow().tries[1].duration_since(start);
    assert!(second >= 60 * SECOND && second < 63 * SECOND, "{second:?}");
    assert_eq!(run.judge(100, &run.books(), 0), 0);
}

#[tokio::test(start_paused = true)]
async fn from_a_stop_on_it_tries_at_least_every_second_until_the_end_and_counts_the_rest() {
    let run = Run::new(1 << 20, &[]);
    run.endpoint.borrow_mut().faults = (1000, vec![Fault::Refuse]);
    run.endpoint.borrow_mut().rng = Some(StdRng::seed_from_u64(1));
    let start = Instant::now();
    let lived = run
        .play(run.requests(), limits(), async {
            run.push(1, 7);
            tokio::time::sleep(100 * SECOND).await;
            run.hurry(10 * SECOND);
            run.close(10 * SECOND);
        })
        .await;
    assert!(lived > 9 * SECOND && lived <= 10 * SECOND, "{lived:?}");
    let tries = run.endpoint.borrow().tries.clone();
    let hurried: Vec<_> = tries.iter().filter(|at| at.duration_since(start) > 100 * SECOND).collect();
    assert!(hurried.len() >= 10, "{}", hurried.len());
    for pair in hurried.windows(2) {
        assert!(pair[1].duration_since(*pair[0]) <= SECOND + SECOND / 100);
    }
    let counts = run.books();
    assert_eq!(counts.lost.of(Loss::Deadline), 7);
    run.judge(7, &counts, 7);
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_hangs_costs_exactly_what_is_pending() {
    let run = Run::new(1 << 20, &[Fault::None, Fault::Hang, Fault::Hang]);
    let lived = run
        .play(run.requests(), limits(), async {
            run.push(1, 3);
            tokio::time::sleep(SECOND).await;
            run.push(4, 4);
            tokio::time::sleep(SECOND).await;
            run.push(8, 5);
            run.close(60 * SECOND);
            tokio::time::sleep(SECOND).await;
            // A stop shortens the end.
            let end = (Instant::now() + 2 * SECOND).into_std();
            run.inbox.order(|state| state.orders.end_at = Some(end));
        })
        .await;
    assert!(lived > SECOND && lived < 2 * SECOND, "{lived:?}: the drain looks up a moment before the end");
    let counts = run.books();
    assert_eq!((counts.confirmed, counts.lost.of(Loss::Deadline)), (3, 9));
    run.judge(12, &counts, 9);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_when_the_stop_comes_is_asked_again_at_half_time() {
    let run = Run::new(1 << 20, &[Fault::Hang]);
    let lived = run
        .play(run.requests(), limits(), async {
            run.push(1, 3);
            tokio::time::sleep(SECOND).await;
            run.close(8 * SECOND);
        })
        .await;
    assert!(lived > 4 * SECOND && lived < 6 * SECOND, "{lived:?} after the stop");
    let counts = run.books();
    assert_eq!((counts.confirmed, counts.lost.total()), (3, 0));
    run.judge(3, &counts, 0);
}

/// A payload that is full gains nothing from waiting for company.
#[tokio::test(start_paused = true)]
async fn a_backlog_of_short_lines_is_sent_without_pauses() {
    let run = Run::new(1 << 20, &[]);
    let limits = Limits { items: 10, linger: SECOND, nap: SECOND, ..limits() };
    let start = Instant::now();
    run.play(run.requests(), limits, async {
        run.push(1, 1000);
        tokio::time::sleep(SECOND / 2).await;
        assert_eq!(run.inbox.counts().confirmed, 1000, "100 payloads of 10 lines after {:?}", start.elapsed());
        run.close(9 * SECOND);
    })
    .await;
    run.judge(1000, &run.books(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_said_once_and_its_end_too_and_a_slow_send_is_none() {
    let run = Run::new(1 << 20, &[Fault::None, Fault::Hang]);
    run.play(run.requests(), limits(), async {
        run.push(1, 1);
        tokio::time::sleep(20 * SECOND).await;
        run.push(2, 3);
        // Bytes go out, one every five seconds.
        let pulse = run.inbox.lock().pulse.clone();
        for position in 100..110 {
            pulse.reach(position);
            tokio::time::sleep(5 * SECOND).await;
        }
        assert!(run.said.borrow().is_empty(), "{:?}", run.said.borrow());
        tokio::time::sleep(60 * SECOND).await;
        let lines = "stalled: nothing was taken for 10 s, though nothing failed; lines are kept (3)";
        assert_eq!(*run.said.borrow(), [lines]);
        run.close(8 * SECOND);
    })
    .await;
    assert_eq!(run.said.borrow().len(), 2, "{:?}", run.said.borrow());
    assert!(run.said.borrow()[1].starts_with("well again after "), "{:?}", run.said.borrow());
    run.judge(4, &run.books(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_ten_minutes_all_comes_in_order_and_soon_and_nobody_was_hammered_meanwhile_18() {
    let run = Run::new(64 << 20, &[]);
    run.endpoint.borrow_mut().faults = (1000, vec![Fault::Refuse]);
    run.endpoint.borrow_mut().rng = Some(StdRng::seed_from_u64(18));
    run.play(run.requests(), limits(), async {
        let mut first = 1;
        let mut second = async || {
            run.push(first, 100);
            first += 100;
            tokio::time::sleep(SECOND).await;
        };
        for _ in 0..600 {
            second().await;
        }
        let tries = run.endpoint.borrow().tries.clone();
        let waits: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waits.len() < 120, "{} tries in ten minutes", waits.len());
        let long: Vec<_> = waits.iter().filter(|&&wait| wait > SECOND).collect();
        assert!(long.len() > 10 && long.windows(2).all(|pair| pair[0] != pair[1]), "no jitter: {long:?}");
        run.endpoint.borrow_mut().faults.0 = 0;
        // The live lines come in their turn; a wait is at most half a minute.
        for _ in 0..35 {
            second().await;
        }
        assert!(run.inbox.counts().pending() <= 100, "{:?}", run.inbox.counts());
        run.close(8 * SECOND);
    })
    .await;
    assert_eq!(run.judge(63_500, &run.books(), 0), 0);
}
