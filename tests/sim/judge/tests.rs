//! Each article can fail: pasts made by hand, one good, and the same with one thing wrong.

use super::{super::truth::Unit, Past, judge};
use crate::{
    ledger::{Counts, Loss, Losses},
    line::{Lines, Stream},
    sim::world::World,
};
use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

/// One drain, and two lives of which the first wrote three lines on stdout, exited, and left two of them in its spool.
struct Case {
    world: Rc<World>,
    past: Vec<Past>,
}

impl Case {
    fn new() -> Self {
        let one = |world: &Rc<World>| world.receivers.len() == 1 && !world.receivers[0].borrow().itemized;
        let worlds = (0..).map(World::new);
        let all = |world: &Rc<World>| Stream::ALL.iter().all(|&stream| world.receivers[0].borrow().wants(stream));
        let world = worlds.into_iter().find(|world| one(world) && all(world)).unwrap();
        let lost = Losses::default();
        let first = Counts { read: 3, confirmed: 1, spooled: 2, lost, ..Counts::default() };
        let second = Counts { adopted: 2, confirmed: 2, lost, ..Counts::default() };
        for text in [Some(["a", "b", "c"]), None] {
            world.truth.borrow_mut().begin_life();
            let units = text.into_iter().flatten().map(|text| Unit { stream: Stream::Stdout, text: text.into() });
            world.truth.borrow_mut().now().units.extend(units);
        }
        Self { past: vec![Self::lived(first, 1), Self::lived(second, 3)], world }
    }

    fn lived(counts: Counts, received: u64) -> Past {
        Past {
            reports: Some(Vec::new()),
            counts: vec![counts],
            received: vec![received],
            kept: BTreeSet::new(),
            evicted: BTreeSet::new(),
            synced: false,
            unread: false,
            noted: true,
            never_synced: false,
            disk_failed: false,
        }
    }

    /// A line comes, from a connection of its own.
    fn comes(&self, seq: u64, stream: &str, text: &str) {
        let line = format!("{{\"stream\":\"{stream}\",\"run\":\"life-0\",\"seq\":{seq},\"message\":\"{text}\"}}\n");
        self.world.receivers[0].borrow_mut().read(line.as_bytes());
    }

    fn all_come(&self) {
        [(1, "a"), (2, "b"), (3, "c")].iter().for_each(|&(seq, text)| self.comes(seq, "stdout", text));
    }

    fn first(&mut self) -> &mut Counts {
        &mut self.past[0].counts[0]
    }

    /// The first life died before anything was confirmed, and its last line was on no disk.
    fn dies(&mut self) {
        self.past[0].reports = None;
        self.past[0].kept = [1, 2].into();
        *self.first() = Counts { read: 3, ..Counts::default() };
    }
}

/// What is wrong with it, if anything is.
fn verdict(happens: impl FnOnce(&mut Case)) -> String {
    let judged = catch_unwind(AssertUnwindSafe(|| {
        let mut case = Case::new();
        happens(&mut case);
        judge(&case.world, &case.past);
    }));
    match judged {
        Ok(()) => String::new(),
        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "no words".to_owned()),
    }
}

#[track_caller]
fn fails(words: &str, happens: impl FnOnce(&mut Case)) {
    let verdict = verdict(happens);
    assert!(verdict.contains(words), "{verdict:?}");
}

#[track_caller]
fn passes(happens: impl FnOnce(&mut Case)) {
    assert_eq!(verdict(happens), "");
}

#[test]
fn what_comes_must_be_what_was_written_in_its_order_and_once() {
    passes(|case| case.all_come());
    fails("invented", |case| case.comes(4, "stdout", "d"));
    fails("mangled", |case| case.comes(1, "stdout", "A"));
    fails("wrong stream", |case| case.comes(1, "stderr", "a"));
    fails("came after", |case| {
        case.comes(2, "stdout", "b");
        case.comes(1, "stdout", "a");
    });
    passes(|case| {
        case.world.receivers[0].borrow_mut().forgive_unit((0, 1));
        case.world.truth.borrow_mut().begin_life();
        [(2, "b"), (3, "c"), (1, "a")].iter().for_each(|&(seq, text)| case.comes(seq, "stdout", text));
    });
    fails("came twice for no reason", |case| {
        case.all_come();
        case.comes(3, "stdout", "c");
    });
    let from_two_segments = |case: &mut Case| {
        case.all_come();
        case.world.receivers[0].borrow_mut().twofold.insert((0, 3));
        case.comes(3, "stdout", "c");
    };
    passes(from_two_segments);
    fails("came twice for no reason", |case| {
        from_two_segments(case);
        case.comes(3, "stdout", "c");
    });
    passes(|case| {
        case.all_come();
        case.world.receivers[0].borrow_mut().may_repeat();
        case.comes(3, "stdout", "c");
    });
}

#[test]
fn a_line_that_did_not_come_must_be_counted_lost() {
    let two_come = |case: &Case| {
        case.comes(1, "stdout", "a");
        case.comes(2, "stdout", "b");
        assert_eq!(case.world.receivers[0].borrow().count(), 2);
    };
    let counts = |case: &mut Case, reason: Option<Loss>| {
        let mut lost = Losses::default();
        reason.into_iter().for_each(|reason| lost.add(reason, 1));
        case.past[1].counts[0] = Counts { adopted: 2, confirmed: 2 - lost.total(), lost, ..Counts::default() };
    };
    fails("1 units did not come, 0 are counted lost: [(0, 3)]", |case| two_come(case));
    passes(|case| {
        two_come(case);
        counts(case, Some(Loss::Corrupt));
    });
    passes(|case| {
        two_come(case);
        counts(case, Some(Loss::Corrupt));
        case.world.receivers[0].borrow_mut().forgive_unit((0, 3));
    });
    fails("are confirmed or accepted", |case| {
        two_come(case);
        case.world.shaken.borrow_mut().insert((0, 3));
        case.past[1].received[0] = 2;
    });
}

#[test]
fn a_death_takes_what_was_on_no_disk_and_nothing_else() {
    let adopts = |case: &mut Case, units| {
        case.past[1].counts[0] = Counts { adopted: units, confirmed: units, ..Counts::default() };
    };
    passes(|case| {
        case.dies();
        adopts(case, 2);
        case.comes(1, "stdout", "a");
        case.comes(2, "stdout", "b");
    });
    fails("1 units did not come, 0 are counted lost: [(0, 2)]", |case| {
        case.dies();
        adopts(case, 1);
        case.comes(1, "stdout", "a");
    });
    passes(|case| {
        case.dies();
        adopts(case, 1);
        case.comes(1, "stdout", "a");
        case.world.shaken.borrow_mut().insert((0, 2));
    });
}

#[test]
fn the_accounts_of_an_exit_must_be_the_app_s() {
    fails("what was read is what was written", |case| {
        case.all_come();
        *case.first() = Counts { read: 4, confirmed: 2, spooled: 2, ..Counts::default() };
    });
    fails("an exit leaves nothing open", |case| {
        case.all_come();
        case.first().confirmed = 0;
    });
    fails("the identity", |case| {
        case.all_come();
        case.first().confirmed = 2;
    });
    fails("2 were spooled before", |case| {
        case.all_come();
        case.past[1].counts[0] = Counts { adopted: 1, confirmed: 1, ..Counts::default() };
    });
    fails("more is adopted than was left", |case| {
        case.all_come();
        case.past[1].counts[0] = Counts { adopted: 3, confirmed: 3, ..Counts::default() };
    });
    fails("a drain died", |case| {
        case.all_come();
        let mut lost = Losses::default();
        lost.add(Loss::DrainDied, 1);
        *case.first() = Counts { read: 3, spooled: 2, lost, ..Counts::default() };
    });
    fails("bytes were left in the pipes", |case| {
        case.all_come();
        case.world.truth.borrow_mut().now().wrote(Stream::Stdout as usize, b"unread\n");
    });
    fails("changed what stdout wrote", |case| {
        let lines = Lines { data: b"x\n"[..].into(), ends: vec![2], ..Lines::default() };
        case.world.truth.borrow_mut().now().wrote(Stream::Stdout as usize, b"y\n");
        case.world.truth.borrow_mut().now().publishes(Stream::Stdout, &lines, 80, false);
    });
}
