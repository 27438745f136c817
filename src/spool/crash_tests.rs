//! Every state that a crash can leave, and every call that can fail, against what recovery must make of it.

use super::{
    codec::testing::header,
    cursor::Place,
    disk::Disk,
    log::{Extent, Log},
    recovery::{Found, Range, recover, segment_name},
    scan::{Item, Scanner},
    sim::{Faults, Files, Op, SimDisk, crash_states, kill_states},
};
use crate::{
    drain::testing::{batch, note, seeds},
    line::Batch,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

const SEGMENT: u64 = 400;

/// What a workload is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Append,
    /// A hole in the sequence before the batch: a new segment.
    AppendAfterHole,
    Big,
    Sync,
    Settle,
    Close,
}

const STEPS: [Step; 6] = [Step::Append, Step::AppendAfterHole, Step::Big, Step::Sync, Step::Settle, Step::Close];

/// What was promised, for each length of the operation log.
#[derive(Clone, Default)]
struct Promise {
    /// Units that [`Log::append`] answered for, and that no cursor has passed; by when.
    appended: Vec<(usize, Extent)>,
    /// Units that a sync made safe, by when.
    synced: Vec<(usize, Extent)>,
    /// Settled up to this sequence number; by when that was begun.
    settled: Vec<(usize, u64)>,
}

fn run(steps: &[Step], disk: &Arc<SimDisk>) -> Promise {
    let found = recover(&**disk);
    let mut log = Log::new(Arc::clone(disk) as Arc<dyn Disk>, header(), SEGMENT, 1 << 30, found);
    let mut promise = Promise::default();
    let mut next = 1;
    let mut unsynced: Vec<Extent> = Vec::new();
    for step in steps {
        match step {
            Step::Append | Step::AppendAfterHole | Step::Big => {
                next += if *step == Step::AppendAfterHole { 10 } else { 0 };
                let count = if *step == Step::Big { 80 } else { 2 };
                let mut done = Vec::new();
                let _ = log.append(&[batch(next, count)], &mut done);
                next += count;
                let at = disk.ops().len();
                promise.appended.extend(done.iter().map(|extent| (at, *extent)));
                unsynced.extend(done);
            }
            Step::Sync => {
                if log.sync().is_ok() {
                    let at = disk.ops().len();
                    promise.synced.extend(unsynced.drain(..).map(|extent| (at, extent)));
                } else {
                    unsynced.clear();
                }
            }
            Step::Settle | Step::Close => {
                promise.settled.push((disk.ops().len(), next));
                let end = log.end();
                let places = ["all", "err"].map(|name| (name.to_owned(), end));
                let _ = log.advance(&places, *step == Step::Close);
            }
        }
    }
    promise
}

/// Units that a drain is owed, and can be read: what the next run would send.
fn readable(disk: &dyn Disk, found: &Found, identity: &str) -> Vec<(u64, Batch)> {
    let mut batches = Vec::new();
    for Range { segment, from, to, .. } in found.owed(disk, identity) {
        let segment = found.segments.iter().find(|it| it.number == segment).unwrap();
        let name = segment_name(segment.number);
        let mut scanner = Scanner::new(name, segment.salt, segment.body, segment.bytes);
        while let Some(item) = scanner.next(disk).unwrap() {
            match item {
                Item::Frame { batch, .. } if batch.end_seq() > from && batch.first_seq() < to => {
                    batches.push((segment.number, batch));
                }
                Item::Footer(_) => break,
                _ => {}
            }
        }
    }
    batches
}

fn seqs(batches: &[(u64, Batch)]) -> Vec<u64> {
    batches.iter().flat_map(|(_, batch)| batch.units().map(|unit| unit.seq).collect::<Vec<_>>()).collect()
}

/// Opens a state, and checks that it holds `must`, in order, unmangled, and that opening again changes nothing.
fn check(files: &Files, must: &[Extent], settled: u64, context: &dyn std::fmt::Debug) {
    let disk = SimDisk::with(files);
    let found = recover(&disk);
    let batches = readable(&disk, &found, "all");
    let seqs = seqs(&batches);
    assert!(seqs.is_sorted_by(|one, two| one < two), "order: {seqs:?}, {context:?}");
    for (_, batch) in &batches {
        for unit in batch.units() {
            assert_eq!(unit.text, format!("line {}", unit.seq).as_bytes(), "mangled: {context:?}");
        }
    }
    for extent in must {
        for seq in extent.first_seq.max(settled)..extent.end_seq {
            assert!(seqs.binary_search(&seq).is_ok(), "lost {seq}: {context:?}, notes {:?}", found.notes);
        }
    }
    let units: u64 = found.owed(&disk, "all").iter().map(|range| range.units).sum();
    assert!(units >= seqs.len() as u64, "owed {units} of {seqs:?}: {context:?}");
    let after = disk.files();
    let again = recover(&disk);
    assert_eq!(disk.files(), after, "a second recovery changed something: {context:?}");
    assert_eq!((&again.segments, &again.cursors), (&found.segments, &found.cursors), "{context:?}");
}

fn workloads(length: usize) -> Vec<Vec<Step>> {
    (0..length).fold(vec![vec![]], |workloads, _| {
        workloads.iter().flat_map(|so_far| STEPS.map(|step| [&so_far[..], &[step]].concat())).collect()
    })
}

/// Steps of the longest workloads: 3, or as many as `LASTWORD_STEPS` says. Each one more takes six times as long.
fn longest() -> usize {
    std::env::var("LASTWORD_STEPS").map_or(3, |text| text.parse().unwrap())
}

fn hash(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

fn by(promises: &[(usize, Extent)], length: usize) -> Vec<Extent> {
    promises.iter().filter(|(at, _)| *at <= length).map(|(_, extent)| *extent).collect()
}

/// The highest border that may have been taken down when so many operations were done.
fn settled_by(promise: &Promise, length: usize) -> u64 {
    promise.settled.iter().filter(|(at, _)| *at < length).map(|(_, seq)| *seq).max().unwrap_or(0)
}

#[test]
fn every_crash_of_the_machine_leaves_a_spool_that_opens_with_all_that_was_synced() {
    // Many workloads lead to the same state with the same promise. Its hash is kept, as there are millions of them.
    let mut seen = HashSet::new();
    let mut worked = 0;
    for steps in (1..=longest()).flat_map(workloads) {
        let disk = Arc::new(SimDisk::default());
        let promise = run(&steps, &disk);
        let ops = disk.ops();
        worked += 1;
        for length in 0..=ops.len() {
            let must = by(&promise.synced, length);
            let settled = settled_by(&promise, length);
            for files in crash_states(&ops[..length]) {
                if seen.insert(hash(&(&files, &must, settled))) {
                    check(&files, &must, settled, &(&steps, length));
                }
            }
        }
    }
    note(&format!(
        "{worked} workloads of up to {} steps: {} states after a crash of the machine",
        longest(),
        seen.len()
    ));
    assert!(seen.len() > 1000, "only {} states: the test missed its subject", seen.len());
}

#[test]
fn every_sigkill_leaves_a_spool_that_opens_with_all_that_was_appended() {
    let mut checked = 0;
    for steps in (1..=longest()).flat_map(workloads) {
        let disk = Arc::new(SimDisk::default());
        let promise = run(&steps, &disk);
        let ops = disk.ops();
        for length in 1..=ops.len() {
            // The operation that is cut short was not answered for.
            let (must, settled) = (by(&promise.appended, length - 1), settled_by(&promise, length));
            let must: Vec<_> =
                if matches!(ops[length - 1], Op::Write(..)) { must } else { by(&promise.appended, length) };
            for files in kill_states(&ops[..length], 37) {
                check(&files, &must, settled, &(&steps, length));
                checked += 1;
            }
        }
    }
    note(&format!("workloads of up to {} steps: {checked} states after a SIGKILL", longest()));
    assert!(checked > 5000, "only {checked} states");
}

#[test]
fn whichever_call_fails_nothing_that_was_appended_is_lost_and_the_log_goes_on() {
    let steps = [Step::Append, Step::Sync, Step::Big, Step::Append, Step::Sync, Step::AppendAfterHole, Step::Append];
    let mut failures = 0;
    for errno in [nix::libc::ENOSPC, nix::libc::EIO, nix::libc::EROFS, nix::libc::EDQUOT] {
        for at in 0..60 {
            let disk = Arc::new(SimDisk::default());
            disk.set_faults(Faults { fail_at: Some((at, errno)), ..Faults::default() });
            let promise = run(&steps, &disk);
            failures += disk.failed();
            disk.set_faults(Faults::default());
            let must: Vec<_> = promise.appended.iter().map(|(_, extent)| *extent).collect();
            check(&disk.files(), &must, 0, &(errno, at));
            if disk.failed() > 0 && at > 2 {
                assert!(must.len() >= 3, "a passing fault costs at most the append it hits: {must:?}");
            }
        }
    }
    assert!(failures > 40, "only {failures} calls failed");
}

#[test]
fn whichever_call_fails_what_a_later_sync_made_safe_outlives_a_crash_of_the_machine() {
    let steps = [Step::Append, Step::Big, Step::AppendAfterHole, Step::Append, Step::Sync, Step::Append, Step::Sync];
    let (mut failures, mut safe) = (0, 0);
    for at in 0..40 {
        let disk = Arc::new(SimDisk::default());
        disk.set_faults(Faults { fail_at: Some((at, nix::libc::EIO)), ..Faults::default() });
        let promise = run(&steps, &disk);
        failures += disk.failed();
        let must: Vec<_> = promise.synced.iter().map(|(_, extent)| *extent).collect();
        safe += must.len();
        for files in crash_states(&disk.ops()) {
            check(&files, &must, 0, &at);
        }
    }
    assert!(failures >= 12 && safe > 40, "only {failures} calls failed, and {safe} extents were safe");
}

#[test]
fn random_workloads_of_up_to_twelve_steps_with_failing_calls_keep_what_was_synced() {
    let count = std::env::var("LASTWORD_WORKLOADS").map_or(60, |text| text.parse().unwrap());
    let (mut states, mut failures, mut safe) = (0, 0, 0);
    for seed in seeds(count) {
        let mut rng = StdRng::seed_from_u64(seed.value());
        let steps: Vec<Step> = (0..rng.random_range(5..=12)).map(|_| STEPS[rng.random_range(0..STEPS.len())]).collect();
        let disk = Arc::new(SimDisk::default());
        let fail_at = rng.random_bool(0.5).then(|| (rng.random_range(3..40), nix::libc::EIO));
        disk.set_faults(Faults { fail_at, ..Faults::default() });
        let promise = run(&steps, &disk);
        failures += disk.failed();
        let ops = disk.ops();
        for _ in 0..3 {
            let length = rng.random_range(0..=ops.len());
            let (must, settled) = (by(&promise.synced, length), settled_by(&promise, length));
            safe += must.len();
            for files in crash_states(&ops[..length]).into_iter().filter(|_| rng.random_bool(0.1)) {
                check(&files, &must, settled, &(&steps, fail_at, length));
                states += 1;
            }
        }
    }
    note(&format!("{count} random workloads: {states} states, {failures} failed calls"));
    let replay = std::env::var_os("LASTWORD_SEED").is_some();
    assert!(replay || states > 100 && failures > 0 && safe > 0, "{states} states, {failures} failures, {safe} safe");
}

#[test]
fn a_full_disk_costs_what_has_no_room_and_nothing_else() {
    let mut refused = 0;
    for room in (0..3000).step_by(13) {
        let disk = Arc::new(SimDisk::default());
        disk.set_faults(Faults { room: Some(room), ..Faults::default() });
        let promise = run(&[Step::Append, Step::Big, Step::Append, Step::Append], &disk);
        refused += disk.failed();
        let must: Vec<_> = promise.appended.iter().map(|(_, extent)| *extent).collect();
        check(&disk.files(), &must, 0, &room);
    }
    assert!(refused > 50, "only {refused}");
}

#[test]
fn a_sync_that_failed_is_never_tried_again_on_the_same_file() {
    let disk = Arc::new(SimDisk::default());
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), 1 << 20, 1 << 30, recover(&*disk));
    log.append(&[batch(1, 2)], &mut Vec::new()).unwrap();
    disk.set_faults(Faults { fail_at: Some((0, nix::libc::EIO)), ..Faults::default() });
    log.sync().unwrap_err();
    log.sync().unwrap();
    log.append(&[batch(3, 2)], &mut Vec::new()).unwrap();
    log.sync().unwrap();
    let synced: Vec<_> = disk.ops().into_iter().filter(|op| matches!(op, Op::Sync(_))).collect();
    assert_eq!(synced, [Op::Sync(1)], "only the second file");
    check(&disk.files(), &[Extent { first_seq: 1, end_seq: 5, segment: 0 }], 0, &());
}

#[test]
fn the_oldest_segments_make_room_and_the_files_stay_within_the_limit() {
    let disk = Arc::new(SimDisk::default());
    let max = 5 * SEGMENT;
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), SEGMENT, max, recover(&*disk));
    let mut evicted = Vec::new();
    for seq in 0..200 {
        log.append(&[batch(1 + 2 * seq, 2)], &mut Vec::new()).unwrap();
        evicted.extend(log.take_evicted().into_iter().flat_map(|segment| segment.first_seq..segment.end_seq));
        let used: usize = disk.files().values().map(Vec::len).sum();
        assert!(used as u64 <= max + SEGMENT, "{used}");
    }
    assert_eq!(evicted, (1..=evicted.len() as u64).collect::<Vec<_>>(), "oldest first, without a hole");
    let found = recover(&*disk);
    let left = seqs(&readable(&*disk, &found, "all"));
    assert_eq!([evicted, left].concat(), (1..=400).collect::<Vec<_>>());
}

#[test]
fn what_every_drain_is_done_with_is_deleted_and_numbers_are_never_used_twice() {
    let disk = Arc::new(SimDisk::default());
    let mut highest = 0;
    for _ in 0..3 {
        let found = recover(&*disk);
        assert!(found.owed(&*disk, "all").is_empty(), "sequence numbers begin anew, cursors do not mind");
        let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), SEGMENT, 1 << 30, found);
        for seq in 0..9 {
            log.append(&[batch(1 + 2 * seq, 2)], &mut Vec::new()).unwrap();
        }
        assert!(log.end().segment > highest);
        highest = log.end().segment;
        assert!(log.advance(&[("all".into(), Place { segment: highest, seq: 1 })], false).unwrap().len() < 2);
        let end = log.end();
        log.advance(&["all", "err"].map(|name| (name.to_owned(), end)), true).unwrap();
        assert!(disk.files().keys().all(|name| name.ends_with(".cur")), "{:?}", disk.files().keys());
    }
}

#[test]
fn an_append_that_failed_halfway_and_is_tried_again_is_there_once() {
    let disk = Arc::new(SimDisk::default());
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), 1 << 20, 1 << 30, recover(&*disk));
    log.append(&[batch(1, 2)], &mut Vec::new()).unwrap();
    let more = [batch(3, 1), batch(4, 1), batch(5, 1), batch(6, 1)];
    disk.set_faults(Faults { fail_at: Some((0, nix::libc::EIO)), ..Faults::default() });
    let mut done = Vec::new();
    log.append(&more, &mut done).unwrap_err();
    assert!(done.is_empty());
    log.append(&more, &mut done).unwrap();
    assert_eq!(done.len(), 1);
    let found = recover(&*disk);
    assert_eq!(seqs(&readable(&*disk, &found, "all")), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_segment_stays_until_the_slowest_drain_is_done_with_it() {
    let disk = Arc::new(SimDisk::default());
    let mut header = header();
    header.drains[1].stream = None;
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header, SEGMENT, 1 << 30, recover(&*disk));
    for seq in 0..20 {
        log.append(&[batch(1 + 2 * seq, 2)], &mut Vec::new()).unwrap();
    }
    let end = log.end();
    log.advance(&[("all".into(), end)], false).unwrap();
    let found = recover(&SimDisk::with(&disk.files()));
    assert_eq!(seqs(&readable(&*disk, &found, "err")), (1..=40).collect::<Vec<_>>());
    assert!(seqs(&readable(&*disk, &found, "all")).is_empty());
    log.advance(&[("err".into(), Place { segment: 2, seq: 0 })], false).unwrap();
    assert!(!disk.files().contains_key(&segment_name(1)) && disk.files().contains_key(&segment_name(2)));
}
