//! Queue and spool together against a model that is a plain list: random pushes, appends, settling, cursors, failing and
//! full disks, evictions, SIGKILLs and exits, over several lives on one disk.

use super::{
    pack::Limits,
    queue::Queue,
    sealed::Piece,
    testing::{batch, limits, seeds},
};
use crate::{
    config::WhenFull,
    ledger::{Grade, Loss},
    line::{Batch, Stamp},
    spool::{
        codec::{Header, Owed},
        disk::Disk,
        index::Index,
        load::Loader,
        log::Log,
        members::{complete, place_of},
        recovery::recover,
        sim::{Faults, SimDisk},
    },
    transport::Progress,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// A unit of any life.
type Unit = (u32, u64);

/// What one life has.
struct Life {
    number: u32,
    queue: Queue,
    log: Log,
    index: Arc<Index>,
    loader: Loader,
    next: u64,
    /// Pushed, not appended, and not left out for want of room.
    in_hand: Vec<Arc<Batch>>,
    /// The unit behind the last one that was appended.
    upto: u64,
    /// What the drain is to deliver, in order.
    expected: VecDeque<Unit>,
    evicted: bool,
    /// Passed over in `expected`: must be counted as lost.
    passed: u64,
    wire: u64,
}

/// What outlives a life.
struct World {
    disk: Arc<SimDisk>,
    policy: WhenFull,
    appended: BTreeSet<Unit>,
    delivered: BTreeSet<Unit>,
    lost: BTreeSet<Unit>,
    /// Given to the disk, which said no: it may have them all the same.
    refused: BTreeSet<Unit>,
    /// Whose each segment is.
    segments: BTreeMap<u64, u32>,
    seen: Seen,
}

/// What must have happened, or the test proves nothing.
#[derive(Debug, Default)]
struct Seen {
    unloaded: u32,
    loaded: u32,
    overflowed: u64,
    adopted: u64,
    spooled: u64,
    duplicates: u64,
    refused: usize,
    evicted: u64,
    left_out: usize,
    taken_back: usize,
}

impl Seen {
    fn all(&self) -> [u64; 10] {
        let Self { unloaded, loaded, overflowed, adopted, spooled, duplicates, refused, evicted, .. } = *self;
        let (refused, left_out, taken_back) = (refused as u64, self.left_out as u64, self.taken_back as u64);
        let (unloaded, loaded) = (unloaded.into(), loaded.into());
        [unloaded, loaded, overflowed, adopted, spooled, duplicates, refused, evicted, left_out, taken_back]
    }
}

fn run_name(number: u32) -> String {
    format!("life-{number}")
}

fn life_of(batch: &Batch, own: u32) -> u32 {
    batch.source().map_or(own, |source| source.origin.run["life-".len()..].parse().unwrap())
}

impl World {
    fn begin(&mut self, number: u32, rng: &mut StdRng) -> Life {
        self.disk.set_faults(Faults::default());
        let disk: Arc<dyn Disk> = Arc::clone(&self.disk) as Arc<dyn Disk>;
        let found = recover(&*self.disk);
        let owed = found.owed(&*self.disk, "drain");
        let index = Arc::new(Index::new(found.segments.iter().map(|segment| segment.number)));
        let header = Header {
            run: run_name(number),
            drains: vec![Owed { identity: "drain".into(), stream: None }],
            ..Header::default()
        };
        let expected: VecDeque<Unit> = owed
            .iter()
            .flat_map(|range| {
                let segment = found.segments.iter().find(|it| it.number == range.segment).unwrap();
                let life = segment.source.origin.run["life-".len()..].parse().unwrap();
                (range.from..range.to).map(move |seq| (life, seq))
            })
            .collect();
        for segment in &found.segments {
            let life = segment.source.origin.run["life-".len()..].parse().unwrap();
            self.segments.insert(segment.number, life);
        }
        let set: BTreeSet<_> = expected.iter().copied().collect();
        for unit in &self.appended {
            let done = self.delivered.contains(unit) || self.lost.contains(unit);
            assert!(done || set.contains(unit), "{unit:?} was appended, and is not owed");
        }
        let known = |unit: &Unit| self.appended.contains(unit) || self.refused.contains(unit);
        assert!(set.iter().all(known), "owed what was never given to the disk");
        let max = if rng.random_bool(0.3) { 3000 } else { 1 << 20 };
        let log = Log::new(Arc::clone(&disk), header, 600, max, found);
        let mut queue = Queue::new(self.policy, 4000);
        queue.attach(Arc::clone(&index), 1500, owed);
        assert_eq!(queue.counts().adopted, expected.len() as u64);
        self.seen.adopted += expected.len() as u64;
        let loader = Loader::new(disk, Arc::clone(&index), run_name(number));
        let (next, upto, in_hand, evicted, passed, wire) = (1, 1, Vec::new(), false, 0, 0);
        Life { number, queue, log, index, loader, next, in_hand, upto, expected, evicted, passed, wire }
    }

    fn push(&mut self, life: &mut Life, rng: &mut StdRng) {
        let len = rng.random_range(1..6);
        let batch = batch(life.next, len);
        let room = life.queue.has_room(batch.lines().data.len());
        if self.policy == WhenFull::Block && !room {
            return;
        }
        life.queue.push(&batch);
        life.expected.extend((life.next..life.next + len).map(|seq| (life.number, seq)));
        life.next += len;
        life.in_hand.push(batch);
        self.leave_out(life);
        self.seen.unloaded += u32::from(life.queue.contents().1.iter().any(|piece| matches!(piece, Piece::OnLog(_))));
    }

    /// The inbox is bounded; what has no room stays in the drain's memory alone.
    fn leave_out(&mut self, life: &mut Life) {
        let more = life.in_hand.len().saturating_sub(4);
        self.seen.left_out += life.in_hand.drain(..more).count();
    }

    /// Whether the disk took all.
    fn append(&mut self, life: &mut Life) -> bool {
        let mut done = Vec::new();
        let before = life.in_hand.len();
        let in_hand = std::mem::take(&mut life.in_hand);
        life.in_hand = complete(life.upto, in_hand, |from, to| life.queue.held_between(from, to));
        self.seen.taken_back += life.in_hand.len() - before;
        let result = life.log.append(&life.in_hand, &mut done);
        for extent in done {
            life.index.add(extent);
            self.segments.insert(extent.segment, life.number);
            self.appended.extend((extent.first_seq..extent.end_seq).map(|seq| (life.number, seq)));
            life.in_hand.retain(|batch| batch.first_seq() >= extent.end_seq);
            life.upto = extent.end_seq;
        }
        assert!(result.is_err() || life.in_hand.is_empty());
        let left = life.in_hand.iter().flat_map(|batch| batch.first_seq()..batch.end_seq());
        self.refused.extend(left.map(|seq| (life.number, seq)));
        self.leave_out(life);
        for segment in life.log.take_evicted() {
            life.evicted = true;
            life.index.remove(segment.number);
            let source = segment.source.origin.run["life-".len()..].parse().unwrap();
            let before = life.queue.counts().lost.total();
            life.queue.evict(segment.number, Stamp::default());
            self.seen.evicted += life.queue.counts().lost.total() - before;
            // What is in memory may yet be delivered; for the next life it is gone.
            self.lost.extend((segment.first_seq..segment.end_seq).map(|seq| (source, seq)));
        }
        result.is_ok()
    }

    fn load(&mut self, life: &mut Life, rng: &mut StdRng) {
        let Some(range) = life.queue.to_load() else { return };
        let loaded = life.loader.load(&range, rng.random_range(1..900));
        assert!(loaded.upto > range.from || loaded.upto >= range.to, "no progress");
        life.queue.load(range, loaded, Stamp::default());
        self.seen.loaded += 1;
    }

    fn deliver(&mut self, life: &mut Life, rng: &mut StdRng) {
        let limits = Limits { bytes: rng.random_range(1..200), items: rng.random_range(1..9), ..limits() };
        life.queue.seal(&limits);
        let Some(run) = life.queue.unsent().cloned() else { return };
        if run.span().is_none() {
            let ends: Vec<u32> = (1..=run.open_items() as u32).collect();
            life.wire += ends.len() as u64;
            life.queue.place(run.id(), ends.into());
        }
        let run = life.queue.unsent().cloned().unwrap();
        let (from, to) = run.span().unwrap();
        let upto = rng.random_range(from..=to);
        let mut left = upto - from;
        for piece in run.open_pieces() {
            let take = left.min(piece.items() as u64);
            left -= take;
            if let Piece::Units { batch, from, .. } = &piece {
                for index in *from..from + take as usize {
                    let unit = batch.unit(index);
                    assert_eq!(unit.text, format!("line {}", unit.seq).as_bytes(), "mangled");
                    self.arrived(life, (life_of(batch, life.number), unit.seq));
                }
            }
        }
        if upto == to {
            life.queue.mark_sent(run.id());
        }
        life.queue.progress(Progress { epoch: 1, upto, grade: Grade::Confirmed });
    }

    fn arrived(&mut self, life: &mut Life, unit: Unit) {
        while let Some(next) = life.expected.pop_front() {
            if next == unit {
                self.seen.duplicates += u64::from(!self.delivered.insert(unit));
                return;
            }
            life.passed += 1;
            self.lost.insert(next);
        }
        panic!("{unit:?} arrived out of order, twice, or from nowhere");
    }

    fn look(life: &mut Life, closing: bool) -> bool {
        let place = place_of(life.queue.low(), &life.index, &life.log);
        let result = life.log.advance(&[("drain".to_owned(), place)], closing);
        if let Ok(deleted) = &result {
            deleted.iter().for_each(|&segment| life.index.remove(segment));
        }
        result.is_ok()
    }

    fn check(&mut self, life: &Life) {
        life.queue.recount();
        let counts = life.queue.counts();
        assert!(counts.lost.total() >= life.passed, "{} passed over, {counts:?}", life.passed);
        assert_eq!(life.queue.held() + counts.lost.total(), life.expected.len() as u64 + life.passed);
        self.seen.overflowed += u64::from(counts.lost.of(Loss::Overflow) > 0);
    }

    /// What was dropped, though nothing behind it has arrived yet that would show it.
    fn note_lost(&mut self, life: &Life) {
        let (window, waiting) = life.queue.contents();
        let mut held = BTreeSet::new();
        for piece in window.iter().flatten().chain(&waiting) {
            match piece {
                Piece::Units { batch, from, to } => {
                    let of = life_of(batch, life.number);
                    held.extend((*from..*to).map(|index| (of, batch.unit(index).seq)));
                }
                Piece::OnLog(range) => {
                    let of = self.segments[&range.segment];
                    held.extend((range.from..range.to).map(|seq| (of, seq)));
                }
                Piece::Gap(_) => {}
            }
        }
        self.lost.extend(life.expected.iter().filter(|unit| !held.contains(unit)));
    }

    /// An orderly exit: what is pending is spooled if it was appended, else lost, to the unit.
    fn exit(&mut self, mut life: Life) {
        let kept = self.append(&mut life);
        let lost_before = life.queue.counts().lost.total();
        assert!(life.queue.close_books());
        let counts = *life.queue.counts();
        // What the spool had and gave up for want of room may be in memory, and is lost with it.
        let all_kept = kept && !life.evicted;
        assert!(!all_kept || counts.lost.total() == lost_before, "the disk took all, something is lost: {counts:?}");
        assert_eq!(counts.pending(), 0);
        self.seen.spooled += counts.spooled;
        let well = Self::look(&mut life, true);
        self.disk.set_faults(Faults::default());
        let found = recover(&*self.disk);
        let owed: u64 = found.owed(&*self.disk, "drain").iter().map(|range| range.units).sum();
        if well && self.disk.failed() == 0 && lost_before == life.passed {
            // Nothing was left out in between, so the border is exact.
            assert_eq!(owed, counts.spooled, "{counts:?}");
        }
        assert!(owed >= counts.spooled, "{owed} are owed, {counts:?}");
    }
}

fn live(seed: u64) -> Seen {
    let mut rng = StdRng::seed_from_u64(seed);
    let policy = [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Block][rng.random_range(0..3)];
    let mut world = World {
        disk: Arc::default(),
        policy,
        appended: BTreeSet::new(),
        delivered: BTreeSet::new(),
        lost: BTreeSet::new(),
        refused: BTreeSet::new(),
        segments: BTreeMap::new(),
        seen: Seen::default(),
    };
    for number in 0..4 {
        let mut life = world.begin(number, &mut rng);
        let weights = [rng.random_range(10..60), rng.random_range(10..60), rng.random_range(1..50)];
        for _ in 0..rng.random_range(20..200) {
            match rng.random_range(0..100 + weights[2]) {
                choice if choice < weights[0] => world.push(&mut life, &mut rng),
                choice if choice < weights[0] + weights[1] => drop(world.append(&mut life)),
                95 => drop(life.log.sync()),
                96 => {
                    let fail_at = Some((rng.random_range(0..4), nix::libc::EIO));
                    let full = Faults { room: Some(rng.random_range(0..3000)), ..Faults::default() };
                    let fails = Faults { fail_at, for_good: rng.random_bool(0.2), ..Faults::default() };
                    world.disk.set_faults(if rng.random_bool(0.3) { full } else { fails });
                }
                97 => world.disk.set_faults(Faults::default()),
                98 => drop(World::look(&mut life, false)),
                _ => {
                    // A reader finds a disk that reads; what it can't read is lost, and counted, by other tests.
                    world.seen.refused += world.disk.failed();
                    world.disk.set_faults(Faults::default());
                    world.load(&mut life, &mut rng);
                    world.deliver(&mut life, &mut rng);
                }
            }
            world.check(&life);
        }
        if rng.random_bool(0.2) {
            life.queue.die();
            world.push(&mut life, &mut rng);
            world.append(&mut life);
            world.push(&mut life, &mut rng);
            world.check(&life);
        }
        world.note_lost(&life);
        if rng.random_bool(0.5) {
            world.exit(life);
        }
        // Else a SIGKILL: nothing is closed, nothing is said.
    }
    world.seen
}

#[test]
fn queue_and_spool_do_what_a_list_would_through_kills_exits_and_failing_disks() {
    let mut seen = [0; 10];
    for seed in seeds(1000) {
        seen.iter_mut().zip(live(seed.value()).all()).for_each(|(sum, count)| *sum += count);
    }
    assert!(seen.iter().all(|&count| count > 20) || std::env::var_os("LASTWORD_SEED").is_some(), "{seen:?}");
}

#[test]
fn a_publisher_that_waits_is_let_in_until_the_grace_for_the_spool_is_used_up() {
    let (memory, grace) = (1000, 600);
    let mut queue = Queue::new(WhenFull::Block, memory);
    queue.attach(Arc::new(Index::new([])), grace, Vec::new());
    let one = batch(1, 1);
    let cost = Piece::Units { batch: Arc::clone(&one), from: 0, to: 1 }.charge();
    let mut pushed = 0;
    while queue.has_room(one.lines().data.len()) && pushed < 100 {
        pushed += 1;
        queue.push(&batch(pushed, 1));
    }
    assert_eq!(pushed as usize, (memory + grace) / cost, "no more, no fewer");
    assert_eq!(queue.counts().lost.total(), 0);
}
