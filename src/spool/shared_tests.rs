//! When the spool counts as full, as settled, as well; and what is said of it then.

use super::shared::{Degraded, Shared, State, cost_of};
use crate::{clock, drain::testing::batch, line::Batch};
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// Batches of one cost, and that cost.
fn three() -> ([Arc<Batch>; 3], usize) {
    let batches = [11, 12, 13].map(|seq| batch(seq, 1));
    let cost = cost_of(&batches[0]);
    (batches, cost)
}

fn seqs(state: &State) -> Vec<u64> {
    assert_eq!(state.bytes, state.waiting.iter().map(|batch| cost_of(batch)).sum::<usize>());
    state.waiting.iter().map(|batch| batch.first_seq()).collect()
}

#[test]
fn the_inbox_has_so_many_bytes_and_one_batch_at_least_and_the_oldest_make_room() {
    for (room, left) in [(0, 1), (1, 1), (2, 2), (3, 3)] {
        let (batches, cost) = three();
        for less in [0, 1] {
            // A byte less is a batch less, as long as there is more than one.
            let (capacity, left) = ((room * cost).saturating_sub(less), if less > 0 { room.max(2) - 1 } else { left });
            let mut state = State::default();
            batches.iter().for_each(|batch| state.add(Arc::clone(batch), capacity));
            assert_eq!(seqs(&state), (14 - left as u64..14).collect::<Vec<_>>(), "{capacity}");
            let mut state = State::default();
            state.add(Arc::clone(&batches[2]), capacity);
            state.put_back(batches[..2].to_vec(), capacity);
            assert_eq!(seqs(&state), (14 - left as u64..14).collect::<Vec<_>>(), "{capacity}: put back");
        }
    }
}

#[test]
fn a_publisher_waits_for_a_disk_that_is_well_and_has_much_to_do() {
    let well = || State { bytes: 60, ..State::default() };
    assert_eq!([39, 40, 41].map(|cost| well().is_full_for(cost, 100)), [false, false, true]);
    assert!(!State::default().is_full_for(1000, 100), "one batch is taken whatever its size");
    assert!(!State { finished: true, ..well() }.is_full_for(1000, 100));
    let degraded = Some(Degraded { since: clock::now(), said: true, past: 0, unsynced: false, instead: None });
    assert!(!State { degraded, ..well() }.is_full_for(1000, 100));
}

#[test]
fn who_waits_for_all_to_be_settled_waits_for_what_is_tried_and_for_nothing_else() {
    let degraded = Some(Degraded { since: clock::now(), said: true, past: 0, unsynced: false, instead: None });
    let waiting = || VecDeque::from([batch(1, 1)]);
    assert!(!State::default().is_unsettled());
    assert!(State { asked: true, ..State::default() }.is_unsettled());
    assert!(State { in_hand: 1, ..State::default() }.is_unsettled());
    assert!(State { waiting: waiting(), ..State::default() }.is_unsettled());
    assert!(!State { waiting: waiting(), degraded, ..State::default() }.is_unsettled());
    assert!(State { waiting: waiting(), degraded, at_once: true, ..State::default() }.is_unsettled());
    assert!(!State { at_once: true, ..State::default() }.is_unsettled());
    let all = State { waiting: waiting(), asked: true, in_hand: 1, at_once: true, finished: true, ..State::default() };
    assert!(!all.is_unsettled(), "nobody is there to do it");
}

#[test]
fn there_is_something_to_do_while_anything_waits() {
    assert!(State::default().has_nothing_to_do());
    for state in [
        State { waiting: [batch(1, 1)].into(), ..State::default() },
        State { closing: true, ..State::default() },
        State { sync: true, ..State::default() },
        State { asked: true, ..State::default() },
    ] {
        assert!(!state.has_nothing_to_do(), "{state:?}");
    }
}

#[test]
fn it_works_again_when_what_waits_goes_on_where_the_disk_ended() {
    for (first, works) in [(None, true), (Some(9), true), (Some(10), true), (Some(11), false)] {
        let shared = Shared::new(1 << 20, "spool".into());
        shared.degrade("no room");
        shared.lock().waiting.extend(first.map(|first| batch(first, 1)));
        shared.recover(10);
        assert_eq!(shared.lock().degraded.is_none(), works, "{first:?}");
    }
}

#[test]
fn what_was_in_hand_when_the_directory_vanished_is_in_the_inbox_again_before_what_came_since() {
    let (batches, cost) = three();
    let shared = Shared::new(1 << 20, "spool".into());
    let mut state = shared.lock();
    state.add(Arc::clone(&batches[2]), 1 << 20);
    (state.in_hand, state.bytes) = (2, 3 * cost);
    drop(state);
    shared.hand_back(batches[..2].to_vec());
    let state = shared.lock();
    assert_eq!((seqs(&state), state.in_hand), (vec![11, 12, 13], 0));
}

#[test]
fn a_rest_ends_at_once_when_there_is_no_time_for_it() {
    let shared = Shared::new(1 << 20, "spool".into());
    assert!(!shared.rest(Duration::ZERO));
    // Were these waited for, the test would not end.
    shared.lock().at_once = true;
    assert!(!shared.rest(Duration::MAX));
    shared.lock().at_once = false;
    shared.lock().closing = true;
    assert!(shared.rest(Duration::MAX));
}

#[test]
fn what_is_said_of_a_spool_that_works_again_is_true_of_it() {
    let since = clock::now();
    let plain = Degraded { since, said: true, past: 0, unsynced: false, instead: None };
    let said = |degraded: Degraded, past| degraded.ending(past, since);
    assert_eq!(said(plain, 0), "works again after 0.0 s; nothing is missing in it");
    assert!(said(plain, 7).ends_with("; 7 lines that no drain holds any more went past it"));
    let unsynced = said(Degraded { unsynced: true, ..plain }, 0);
    assert!(unsynced.ends_with("missing in it, but a crash of the machine may take what did not sync"), "{unsynced}");
    let vanished = said(Degraded { instead: Some("all that the drains still hold is in it"), ..plain }, 7);
    assert_eq!(vanished, "works again after 0.0 s; all that the drains still hold is in it");
}
