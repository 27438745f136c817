//! The queue against a naive model of it: flat lists of units and gaps, where everything is counted anew each time.

mod list;

use self::list::{Item, Model, Run, units, wire_length};
use super::{
    pack::Limits,
    queue::Queue,
    sealed::{GAP_BYTES, Piece, charge},
    testing::{batch, limits, seeds},
};
use crate::{
    config::WhenFull,
    ledger::{Grade, Loss},
    transport::{ItemVerdict, Progress},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

fn flat(pieces: &[Piece]) -> Vec<Item> {
    let mut items = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Units { batch, from, to } => items.extend((*from..*to).map(|at| Item::Unit(batch.unit(at).seq))),
            Piece::Gap(gap) => items.push(Item::Gap(gap.lost.total())),
            Piece::OnLog(range) => items.extend((range.from..range.to).map(Item::Unit)),
        }
    }
    items
}

struct Pair {
    queue: Queue,
    model: Model,
    policy: WhenFull,
    next: u64,
    /// Told to be lost by gap lines that the receiver refused.
    forgotten: u64,
    resolved: u32,
}

impl Pair {
    fn step(&mut self, rng: &mut StdRng) {
        match rng.random_range(0..100) {
            0..40 => self.push(rng.random_range(1..6)),
            40..55 => self.seal(rng),
            55..68 => self.send(rng),
            68..82 => self.progress(rng),
            82..88 => self.rewind(rng),
            88..92 => self.halve(),
            92..96 => self.give_up(),
            96..100 => self.resolve(rng),
            _ => {}
        }
    }

    fn push(&mut self, len: u64) {
        self.queue.push(&batch(self.next, len));
        self.model.push(self.policy, self.next, len);
        self.next += len;
    }

    fn seal(&mut self, rng: &mut StdRng) {
        let limits =
            Limits { bytes: rng.random_range(1..120), items: rng.random_range(1..9), in_flight: 400, ..limits() };
        let before = self.queue.contents().0.len();
        if self.queue.seal(&limits) {
            let (window, _) = self.queue.contents();
            assert_eq!(window.len(), before + 1);
            self.model.sealed(flat(window.last().unwrap()).len());
        }
    }

    fn send(&mut self, rng: &mut StdRng) {
        let Some(run) = self.queue.unsent().cloned() else { return };
        let at = self.model.window.iter().position(|run| !run.sent).unwrap();
        if run.span().is_none() {
            let mut end = 0;
            let ends: Vec<u32> = self.model.window[at]
                .items
                .iter()
                .map(|item| {
                    end += wire_length(*item);
                    u32::try_from(end).unwrap()
                })
                .collect();
            self.queue.place(run.id(), ends.into());
            self.model.window[at].at = Some(self.model.wire);
            self.model.wire += end;
        }
        if rng.random_bool(0.7) {
            self.queue.mark_sent(run.id());
            self.model.window[at].sent = true;
        }
    }

    fn position(&self, rng: &mut StdRng) -> u64 {
        let start = self.model.window.iter().find_map(|run| run.at).unwrap_or(0);
        rng.random_range(start.saturating_sub(10)..=self.model.wire)
    }

    fn progress(&mut self, rng: &mut StdRng) {
        let grade = [Grade::Sent, Grade::Accepted, Grade::Confirmed][rng.random_range(0..3)];
        let epoch = self.model.epoch.0 + u32::from(rng.random_bool(0.1));
        let upto = self.position(rng);
        self.queue.progress(Progress { epoch, upto, grade });
        self.model.progress(epoch, upto, grade);
    }

    fn rewind(&mut self, rng: &mut StdRng) {
        let from = self.position(rng);
        let left = self.queue.rewind(from);
        self.model.settle(from, Grade::Accepted);
        self.model.window.iter_mut().for_each(|run| run.sent = false);
        assert_eq!(left, !self.model.window.is_empty());
    }

    fn halve(&mut self) {
        let Some(at) = self.model.window.iter().position(|run| !run.sent) else { return };
        let items = self.model.window[at].items.clone();
        // Only a transport with one run in flight asks for this, so nothing behind is partly settled.
        assert_eq!(self.queue.halve(), items.len() > 1);
        if items.len() > 1 {
            let (window, _) = self.queue.contents();
            let (left, right) = items.split_at(items.len().div_ceil(2));
            for (pieces, half) in [(&window[at], left), (&window[at + 1], right)] {
                assert_eq!(flat(pieces), half);
            }
            let halves = [&window[at], &window[at + 1]].map(|pieces| Run {
                items: flat(pieces),
                charge: pieces.iter().map(Piece::charge).sum(),
                at: None,
                sent: false,
            });
            self.model.window.splice(at..=at, halves);
            self.model.window[at..].iter_mut().for_each(|run| run.at = None);
        }
    }

    fn give_up(&mut self) {
        let Some(at) = self.model.window.iter().position(|run| !run.sent) else { return };
        if self.model.window[at].items.len() > 1 {
            return;
        }
        self.queue.give_up(Loss::Rejected);
        match self.model.window.remove(at).items[0] {
            Item::Gap(count) => self.forgotten += count,
            Item::Unit(_) => {
                self.model.counts.lost.add(Loss::Rejected, 1);
                self.model.waiting.insert(0, vec![Item::Gap(1)]);
                self.model.merge_gaps();
            }
        }
        self.model.window[at..].iter_mut().for_each(|run| run.at = None);
    }

    fn resolve(&mut self, rng: &mut StdRng) {
        let Some(at) = self.model.window.iter().position(|run| !run.sent) else { return };
        let items = self.model.window[at].items.clone();
        let all = [ItemVerdict::Stored, ItemVerdict::Retry, ItemVerdict::Rejected, ItemVerdict::SomeRejected];
        let verdicts: Vec<_> = items.iter().map(|_| all[rng.random_range(0..4)]).collect();
        assert_eq!(self.queue.resolve(&verdicts[1..]), 0, "an answer of another length says nothing");
        let (mut again, mut stored, mut rejected) = (Vec::new(), 0, 0);
        for (&item, verdict) in items.iter().zip(verdicts.iter()) {
            match (verdict, item) {
                (ItemVerdict::Retry, item) => again.push(item),
                (ItemVerdict::Stored, Item::Unit(_)) => stored += 1,
                (ItemVerdict::Rejected | ItemVerdict::SomeRejected, Item::Unit(_)) => rejected += 1,
                (ItemVerdict::Stored, Item::Gap(count)) => self.model.announced += count,
                (ItemVerdict::Rejected | ItemVerdict::SomeRejected, Item::Gap(count)) => self.forgotten += count,
            }
        }
        assert_eq!(self.queue.resolve(&verdicts), stored + rejected);
        self.model.counts.settle(Grade::Confirmed, stored);
        self.model.counts.lost.add(Loss::Rejected, rejected);
        if rejected > 0 {
            self.model.waiting.insert(0, vec![Item::Gap(rejected)]);
            self.model.merge_gaps();
        }
        self.model.window.remove(at);
        if !again.is_empty() {
            let charge = self.queue.contents().0[at].iter().map(Piece::charge).sum();
            self.model.window.insert(at, Run { items: again, charge, at: None, sent: false });
        }
        self.model.window[at..].iter_mut().for_each(|run| run.at = None);
        self.resolved += 1;
    }

    /// With somebody who wants what is left, all units stay, in order, as if none were on its way.
    fn die(&mut self, heirs: bool) {
        self.model.dead = !heirs;
        if heirs {
            self.queue.keep_left();
        }
        self.queue.die();
        if !heirs {
            return self.model.end(Loss::DrainDied);
        }
        let mut all: Vec<_> = self.model.window.drain(..).flat_map(|run| run.items).collect();
        all.retain(|item| matches!(item, Item::Unit(_)));
        let (window, waiting) = self.queue.contents();
        assert!(window.is_empty() && flat(&waiting) == [all, self.model.waiting.concat()].concat());
        self.model.waiting = waiting.iter().map(|piece| flat(std::slice::from_ref(piece))).collect();
    }

    fn check(&self) {
        let (window, waiting) = self.queue.contents();
        let runs: Vec<_> = window.iter().map(|run| flat(run)).collect();
        assert_eq!(runs, self.model.window.iter().map(|run| run.items.clone()).collect::<Vec<_>>());
        assert_eq!(flat(&waiting), self.model.waiting.concat());
        assert_eq!(self.queue.counts(), &self.model.counts);
        assert_eq!(self.queue.held(), units(&[runs.concat(), flat(&waiting)].concat()));
        assert_eq!(self.queue.recount(), self.model.charged());
        if !self.model.over && !self.queue.is_dead() {
            let told = self.model.announced + self.model.gaps() + self.forgotten;
            assert_eq!(told, self.model.counts.lost.total(), "every loss is announced once");
        }
        // Cutting adds a share of overhead a piece.
        let pieces = window.iter().map(Vec::len).sum::<usize>() + waiting.len().min(1);
        let gaps = waiting.iter().filter(|piece| piece.units() == 0).count();
        let bound = self.model.memory + charge(5 * 20, 5) + GAP_BYTES * (pieces + gaps + 1);
        assert!(self.queue.recount() <= bound, "{} of {bound}", self.queue.recount());
    }
}

#[test]
fn the_queue_does_what_the_model_does() {
    let (mut overflows, mut resolved) = (0, 0);
    for seed in seeds(300) {
        let mut rng = StdRng::seed_from_u64(seed.value());
        let policy = [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Block][rng.random_range(0..3)];
        let memory = rng.random_range(3000..6000);
        let model = Model { memory, ..Model::default() };
        let mut pair = Pair { queue: Queue::new(policy, memory), model, policy, next: 1, forgotten: 0, resolved: 0 };
        for _ in 0..300 {
            pair.step(&mut rng);
            pair.check();
        }
        overflows += u32::from(pair.model.counts.lost.of(Loss::Overflow) > 0);
        resolved += pair.resolved;
        let dies = rng.random_bool(0.3);
        if dies {
            pair.die(rng.random_bool(0.5));
            pair.push(3);
            pair.check();
        }
        assert!(pair.queue.close_books(), "balanced");
        pair.model.end(if dies { Loss::DrainDied } else { Loss::Deadline });
        pair.model.over = true;
        for _ in 0..30 {
            pair.push(2);
            pair.queue.progress(Progress { epoch: 9, upto: u64::MAX, grade: Grade::Confirmed });
            pair.queue.rewind(0);
            pair.check();
        }
        assert_eq!(pair.queue.counts().pending(), 0);
    }
    assert!(
        overflows > 30 && resolved > 300 || std::env::var_os("LASTWORD_SEED").is_some(),
        "the test did not meet its subject"
    );
}

#[test]
fn each_item_of_a_run_gets_its_own_verdict_and_the_books_balance() {
    use ItemVerdict::{Rejected, Retry, Stored};
    let mut queue = Queue::new(WhenFull::DropOldest, 1 << 20);
    queue.push(&batch(1, 7));
    queue.push(&batch(8, 3));
    let limits = Limits { items: 7, ..limits() };
    assert!(queue.seal(&limits));
    queue.place(1, vec![7, 14, 21, 28, 35, 42, 49].into());
    assert_eq!(queue.resolve(&[Stored; 3]), 0, "not as many as items: nothing happens");
    assert_eq!(queue.resolve(&[Stored, Stored, Retry, Stored, Rejected, Retry, Stored]), 5);
    assert_eq!((queue.counts().confirmed, queue.counts().lost.of(Loss::Rejected)), (4, 1));
    let (window, waiting) = queue.contents();
    let again: Vec<Item> = window.iter().flat_map(|pieces| flat(pieces)).collect();
    assert_eq!(again, [Item::Unit(3), Item::Unit(6)]);
    assert_eq!(flat(&waiting), [Item::Gap(1), Item::Unit(8), Item::Unit(9), Item::Unit(10)]);
    queue.recount();
    let id = queue.unsent().unwrap().id();
    assert_ne!(id, 1, "another body, another key");
    queue.place(id, vec![7, 14].into());
    assert_eq!(queue.unsent().unwrap().span(), Some((49, 63)), "behind all positions given out before");
    assert_eq!(queue.resolve(&[Stored, Stored]), 2);
    assert_eq!(queue.counts().pending(), 3);
    assert!(queue.close_books());
}

#[test]
fn where_a_receiver_does_not_say_which_items_it_refused_the_gap_spans_all_of_them() {
    use ItemVerdict::{Rejected, SomeRejected, Stored};
    let mut queue = Queue::new(WhenFull::DropOldest, 1 << 20);
    queue.push(&batch(1, 2));
    queue.push(&batch(3, 2));
    assert!(queue.seal(&limits()));
    queue.place(1, vec![7, 14, 21, 28].into());
    assert_eq!(queue.resolve(&[SomeRejected, Stored, Stored, Stored]), 4);
    assert_eq!((queue.counts().confirmed, queue.counts().lost.of(Loss::Rejected)), (3, 1));
    let (_, waiting) = queue.contents();
    let Some(Piece::Gap(gap)) = waiting.first() else { panic!("no gap: {waiting:?}") };
    assert_eq!((gap.lost.total(), gap.among, gap.first.0, gap.last.0), (1, 4, 1, 3));
    // What it refuses next are lines again: the announcement travels alone, and is refused alone.
    queue.push(&batch(5, 2));
    let limits = Limits { gaps_alone: true, ..limits() };
    for (items, verdicts, lost) in [(1, vec![Rejected], 1), (2, vec![SomeRejected, Stored], 2)] {
        assert!(queue.seal(&limits));
        assert_eq!(queue.unsent().unwrap().open_items(), items);
        queue.resolve(&verdicts);
        assert_eq!(queue.counts().lost.of(Loss::Rejected), lost);
    }
}
