//! The inbox: who is woken, let in and cut off, and when.

use super::{
    inbox::{Cut, Inbox, Orders},
    pack::Limits,
    queue::Low,
    testing::{batch, limits},
};
use crate::{
    clock,
    config::WhenFull,
    ledger::{Grade, Loss},
    spool::{cursor::Place, index::Index, log::Extent, recovery::Range},
    transport::Progress,
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::time::Instant;

#[tokio::test]
async fn only_a_push_that_passes_the_mark_wakes_the_drain() {
    let inbox = Inbox::new(WhenFull::DropOldest, 1 << 20);
    let woken = async |inbox: &Inbox| tokio::time::timeout(Duration::ZERO, inbox.woken()).await.is_ok();
    inbox.push(&batch(1, 1));
    assert!(!woken(&inbox).await, "a busy drain is left alone");
    Inbox::arm(&mut inbox.lock(), 1000);
    inbox.push(&batch(2, 1));
    assert!(!woken(&inbox).await, "too little");
    inbox.push(&batch(3, 1));
    assert!(!woken(&inbox).await, "still too little");
    inbox.push(&batch(4, 1));
    assert!(inbox.lock().queue.ready() < 1100, "just past the mark");
    assert!(woken(&inbox).await);
    inbox.push(&batch(10, 1));
    assert!(!woken(&inbox).await, "woken once");
    inbox.order(|state| state.orders.hurried = true);
    assert!(woken(&inbox).await);
}

#[test]
fn a_full_queue_that_drops_blocks_no_publisher() {
    for policy in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let inbox = Inbox::new(policy, 750);
        for seq in 1..10 {
            inbox.wait_for_room(200);
            inbox.push(&batch(seq, 1));
        }
        assert!(inbox.counts().lost.total() > 0, "the queue was full");
    }
}

#[test]
fn a_blocked_publisher_goes_on_when_room_comes_when_the_drain_closes_and_when_it_dies() {
    let all: [fn(&Inbox); 5] = [
        |inbox| {
            let ends = vec![1000].into();
            inbox.change(|queue| queue.place(1, ends));
            inbox.progress(Progress { epoch: 1, upto: 1000, grade: Grade::Confirmed });
        },
        |inbox| inbox.order(|state| state.orders.closed = true),
        |inbox| inbox.order(|state| state.orders.unblocked = true),
        |inbox| inbox.order(|state| state.queue.die()),
        |inbox| inbox.order(|state| state.orders.end_at = Some(clock::now())),
    ];
    for free in all {
        let inbox = Inbox::new(WhenFull::Block, 750);
        inbox.push(&batch(1, 1));
        inbox.push(&batch(2, 1));
        assert_eq!(inbox.lock().publishers_waiting(), 0);
        assert!(inbox.change(|queue| queue.seal(&Limits { items: 1, ..limits() })));
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| inbox.wait_for_room(200));
            while inbox.lock().publishers_waiting() == 0 {
                std::thread::yield_now();
            }
            assert!(!publisher.is_finished());
            free(&inbox);
            publisher.join().unwrap();
        });
        assert_eq!(inbox.lock().publishers_waiting(), 0);
    }
}

#[test]
fn a_blocked_publisher_goes_on_when_what_is_in_memory_is_on_the_disk() {
    let inbox = Inbox::new(WhenFull::Block, 750);
    let index = Arc::new(Index::default());
    inbox.change(|queue| queue.attach(Arc::clone(&index), 300, Vec::new()));
    for seq in 1..=3 {
        inbox.push(&batch(seq, 1));
    }
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| inbox.wait_for_room(200));
        while inbox.lock().publishers_waiting() == 0 {
            std::thread::yield_now();
        }
        index.add(Extent { first_seq: 1, end_seq: 4, segment: 1 });
        assert!(!publisher.is_finished());
        inbox.appended();
        publisher.join().unwrap();
    });
    assert_eq!((inbox.counts().lost.total(), inbox.counts().pending()), (0, 3));
}

#[test]
fn what_the_spool_says_is_gone_is_lost_and_what_it_missed_can_be_had_again() {
    let inbox = Inbox::new(WhenFull::DropOldest, 1 << 20);
    let range = |segment| Range { segment, from: 1, to: 4, stream: None, units: 3 };
    inbox.change(|queue| queue.attach(Arc::new(Index::new(1..=3)), 0, (1..=3).map(range).collect()));
    inbox.push(&batch(7, 1));
    inbox.push(&batch(8, 1));
    let lost = |reason| inbox.counts().lost.of(reason);
    inbox.evicted(1);
    assert_eq!((lost(Loss::Overflow), lost(Loss::SpoolError)), (3, 0));
    assert_eq!(inbox.vanished(Some(2)), 3);
    assert_eq!(inbox.vanished(Some(2)), 0);
    assert_eq!((lost(Loss::Overflow), lost(Loss::SpoolError)), (3, 3));
    assert_eq!(inbox.low(), Low::At(Place { segment: 3, seq: 1 }));
    let held: Vec<_> = inbox.held_between(1, 8).iter().map(|batch| batch.first_seq()).collect();
    assert_eq!(held, [7]);
}

/// When `closing` is over, if it is within an hour.
async fn time_of<T>(closing: impl Future<Output = T>) -> Option<(Duration, T)> {
    let start = Instant::now();
    let result = tokio::time::timeout(Duration::from_secs(3600), closing).await.ok()?;
    Some((start.elapsed(), result))
}

fn seconds(from: Instant, seconds: u64) -> Option<std::time::Instant> {
    Some((from + Duration::from_secs(seconds)).into_std())
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_in_a_hurry_from_a_stop_or_its_closing_on_and_a_closed_one_gives_up_just_before_the_end() {
    let now = Instant::now();
    let end_at = seconds(now, 10);
    let orders = |hurried, closed| Orders { hurried, closed, end_at, ..Orders::default() };
    let all = [(false, false), (true, false), (false, true), (true, true)];
    assert_eq!(all.map(|(hurried, closed)| orders(hurried, closed).urgent()), [false, true, true, true]);
    let before_the_end = Some((now + Duration::from_millis(9980)).into_std());
    let calls = all.map(|(hurried, closed)| orders(hurried, closed).last_call());
    assert_eq!(
        calls,
        [None, None, before_the_end, before_the_end],
        "an end that an app may outlive is only the stop's"
    );
    assert_eq!(Orders { end_at: None, ..orders(true, true) }.last_call(), None);
    let times = [9979, 9980, 9981].map(|at| now + Duration::from_millis(at));
    assert_eq!(times.map(|now| orders(false, true).over(now)), [false, true, true]);
    assert_eq!(times.map(|now| orders(true, false).over(now)), [false; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_send_is_cut_at_the_last_call_and_one_that_the_stop_met_halfway_if_it_may_be_repeated() {
    let (halfway, last) = (Duration::from_secs(5), Duration::from_millis(9980));
    // May be repeated; hurried before the send; hurried and closed during it.
    for (may_repeat, before, hurried, closed, expected) in [
        (true, false, true, false, Some((halfway, Cut::Halfway))),
        (true, false, false, true, Some((halfway, Cut::Halfway))),
        (true, false, false, false, None),
        (true, true, true, false, None),
        (true, true, true, true, Some((last, Cut::Over))),
        (false, false, true, false, None),
        (false, false, true, true, Some((last, Cut::Over))),
    ] {
        let inbox = Inbox::new(WhenFull::DropOldest, 1 << 20);
        inbox.lock().orders.hurried = before;
        let end_at = seconds(Instant::now(), 10);
        let stop = async {
            tokio::task::yield_now().await;
            inbox.order(|state| state.orders = Orders { hurried, closed, end_at, ..state.orders });
            // Half of the time is half of what there was at the stop, whatever comes later.
            tokio::time::sleep(Duration::from_secs(4)).await;
            inbox.order(|_| ());
        };
        let (cut, ()) = tokio::join!(time_of(inbox.cut(may_repeat)), stop);
        assert_eq!(cut, expected, "repeatable {may_repeat}, hurried {before} then {hurried}, closed {closed}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_for_trying_is_over_just_before_the_last_end_that_was_ordered_for_a_closed_drain() {
    let inbox = Inbox::new(WhenFull::DropOldest, 1 << 20);
    assert_eq!(time_of(inbox.over()).await, None, "no end");
    inbox.order(|state| state.orders.end_at = seconds(Instant::now(), 20));
    assert_eq!(time_of(inbox.over()).await, None, "not closed");
    let start = Instant::now();
    let close = async {
        tokio::task::yield_now().await;
        inbox.order(|state| (state.orders.closed, state.orders.end_at) = (true, seconds(start, 20)));
        tokio::time::sleep(Duration::from_secs(4)).await;
        inbox.order(|state| state.orders.end_at = seconds(start, 10));
    };
    let (over, ()) = tokio::join!(time_of(inbox.over()), close);
    assert_eq!(over, Some((Duration::from_millis(9980), ())));
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_unmoved_since_the_first_line_or_since_anything_was_settled_or_went_out() {
    let inbox = Inbox::new(WhenFull::DropOldest, 1 << 20);
    // A second passes.
    let unmoved = async || {
        tokio::time::advance(Duration::from_secs(1)).await;
        inbox.lock().unmoved(Instant::now().into_std()).map(|time| time.as_secs())
    };
    assert_eq!(unmoved().await, None, "there is no line");
    inbox.push(&batch(1, 1));
    assert_eq!(unmoved().await, Some(1));
    inbox.push(&batch(2, 1));
    inbox.push(&batch(3, 1));
    assert_eq!(unmoved().await, Some(2), "more lines are no movement");
    assert!(inbox.change(|queue| queue.seal(&Limits { items: 2, ..limits() })));
    inbox.change(|queue| queue.place(1, vec![10, 20].into()));
    assert_eq!(inbox.progress(Progress { epoch: 1, upto: 9, grade: Grade::Confirmed }), 0);
    assert_eq!(unmoved().await, Some(3), "half a line is none");
    assert_eq!(inbox.progress(Progress { epoch: 1, upto: 10, grade: Grade::Confirmed }), 1);
    assert_eq!(unmoved().await, Some(1));
    inbox.lock().pulse.reach(5);
    assert_eq!(unmoved().await, Some(0), "bytes went out");
    assert_eq!(unmoved().await, Some(1), "and no more of them");
    inbox.lock().trouble_since = Some(clock::now());
    assert_eq!(unmoved().await, None, "that is known already");
}
