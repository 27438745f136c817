//! What a seed means: the knobs of a schedule, which faults are on, and how each life goes.

use super::{
    app::{Manner, Script},
    disk, weather,
};
use crate::{
    config::{Budget, Leftovers, SpoolSync, WhenFull},
    line::Stream,
    restart::{self, When},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;

/// A drain, in all lives.
#[derive(Clone, Debug)]
pub(super) struct Drain {
    /// Over a byte stream; else requests.
    pub(super) stream: bool,
    pub(super) tls: bool,
    pub(super) itemized: bool,
    pub(super) wants: Option<Stream>,
    /// `#replay=`.
    pub(super) replay: Option<u64>,
    /// Of the peer's kernel, in hundredths of what may be in flight.
    pub(super) buffer: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Spool {
    pub(super) max_bytes: u64,
    pub(super) capacity: usize,
    pub(super) sync: SpoolSync,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// SIGKILL, or with the machine.
    Killed { machine: bool },
    /// The same, in the midst of the disk's n-th call.
    AtCall { calls: u32, machine: bool },
    /// As the app wills, or a stop.
    Orderly,
    /// The last one: the faults end, all is drained, then a stop.
    Quiet,
}

/// One life.
#[derive(Clone, Debug)]
pub(super) struct Knobs {
    pub(super) seed: u64,
    pub(super) drains: Vec<Drain>,
    pub(super) spool: Option<Spool>,
    /// Of each drain, in bytes.
    pub(super) memory: usize,
    /// Items of a payload.
    pub(super) items: usize,
    pub(super) linger: u64,
    pub(super) when_full: WhenFull,
    pub(super) max_line: usize,
    pub(super) budget: Budget,
    pub(super) flush_timeout: Duration,
    pub(super) leftovers: Leftovers,
    pub(super) restart: restart::Policy,
    pub(super) script: Script,
    /// None: the app can't be started.
    pub(super) starts: bool,
    pub(super) end: End,
    /// Phase 1, in milliseconds.
    pub(super) storm: u64,
    /// Stops, in milliseconds from the start.
    pub(super) stops: Vec<u64>,
    pub(super) stop_during_spawn: bool,
}

/// A schedule.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) lives: Vec<Knobs>,
    pub(super) drains: Vec<Drain>,
    pub(super) network: Vec<weather::Fault>,
    pub(super) network_rate: u32,
    pub(super) longest_spell: u64,
    pub(super) disk: Vec<disk::Fault>,
    pub(super) disk_rate: u32,
}

/// About half of them.
fn half<T: Copy>(all: &[T], rng: &mut StdRng) -> Vec<T> {
    all.iter().copied().filter(|_| rng.random()).collect()
}

fn pick<T: Copy>(of: &[T], rng: &mut StdRng) -> T {
    of[rng.random_range(0..of.len())]
}

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let rng = &mut rng;
        let drains: Vec<_> = (0..rng.random_range(1..=3)).map(|_| Drain::drawn(rng)).collect();
        let spool = rng.random_bool(0.75).then(|| Spool::drawn(rng));
        let count = pick(&[1, 2, 2, 3, 4], rng);
        let lives =
            (0..count).map(|life| Knobs::drawn(life, life + 1 == count, &drains, spool.as_ref(), rng)).collect();
        let network = if rng.random_bool(0.9) { half(&weather::Fault::ALL, rng) } else { Vec::new() };
        let disk = if rng.random_bool(0.6) { half(&disk::Fault::ALL, rng) } else { Vec::new() };
        let network_rate = pick(&[5, 30, 100, 300], rng);
        let (longest_spell, disk_rate) = (pick(&[300, 5_000, 30_000], rng), pick(&[2, 10, 40], rng));
        Self { lives, drains, network, network_rate, longest_spell, disk, disk_rate }
    }
}

impl Drain {
    fn drawn(rng: &mut StdRng) -> Self {
        let stream = rng.random();
        Self {
            stream,
            tls: stream && rng.random_bool(0.4),
            itemized: !stream && rng.random_bool(0.2),
            wants: pick(&[None, None, None, None, Some(Stream::Stdout), Some(Stream::Stderr)], rng),
            replay: None,
            buffer: rng.random_range(5..=100),
        }
    }
}

impl Spool {
    fn drawn(rng: &mut StdRng) -> Self {
        Self {
            max_bytes: pick(&[6_000, 20_000, 100_000, 1 << 20], rng),
            capacity: pick(&[600, 3_000, 20_000], rng),
            sync: pick(&[SpoolSync::Never, SpoolSync::Interval, SpoolSync::Interval, SpoolSync::Always], rng),
        }
    }
}

impl Knobs {
    fn drawn(life: usize, last: bool, drains: &[Drain], spool: Option<&Spool>, rng: &mut StdRng) -> Self {
        let storm = pick(&[300, 1_000, 3_000, 8_000, 20_000, 60_000], rng);
        let storm = rng.random_range(storm / 3..=storm);
        let end = match rng.random_range(0..10) {
            _ if last => End::Quiet,
            0..=2 => End::Killed { machine: false },
            3 | 4 => End::Killed { machine: true },
            5 | 6 => End::AtCall { calls: rng.random_range(1..80), machine: rng.random_bool(0.3) },
            _ => End::Orderly,
        };
        let max_line = pick(&[30, 80, 400], rng);
        let seconds = Duration::from_secs(pick(&[3, 5, 10, 30], rng));
        let when =
            if last { When::Never } else { pick(&[When::Never, When::Never, When::OnFailure, When::Always], rng) };
        let restart = restart::Policy { when, max: Some(3), ..restart::Policy::default() };
        let ends_itself = end == End::Orderly && rng.random();
        let mut stops = Vec::new();
        if end == End::Orderly && !ends_itself || rng.random_bool(0.2) && !last {
            let first = if rng.random_bool(0.1) { 0 } else { rng.random_range(0..storm) };
            stops = (0..rng.random_range(1..4)).map(|again| first + again * rng.random_range(1..3_000)).collect();
            stops.sort_unstable();
        }
        Self {
            seed: rng.random(),
            drains: drains.to_vec(),
            spool: spool.cloned(),
            memory: pick(&[3_000, 8_000, 60_000, 1 << 20], rng),
            items: pick(&[1, 3, 20, 500], rng),
            linger: pick(&[0, 5, 150], rng),
            when_full: pick(&[WhenFull::DropOldest, WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Block], rng),
            max_line,
            budget: if rng.random() { Budget::Stated(seconds) } else { Budget::Assumed(seconds) },
            flush_timeout: Duration::from_secs(pick(&[2, 10, 60], rng)),
            leftovers: pick(&[Leftovers::Term, Leftovers::Term, Leftovers::Wait, Leftovers::Kill], rng),
            restart,
            script: Script {
                life,
                // An app that nobody may kill ends by itself.
                chunks: (!last).then(|| rng.random_range(0..60)),
                pause: storm / rng.random_range(8..60),
                lines: pick(&[1, 3, 12], rng),
                manner: if last {
                    Manner::Catches
                } else {
                    pick(&[Manner::Catches, Manner::Catches, Manner::Dies, Manner::Ignores], rng)
                },
                code: pick(&[0, 0, 1, 137], rng),
                child: rng.random_bool(0.3).then(|| pick(&[Manner::Catches, Manner::Dies, Manner::Ignores], rng)),
                stranger: rng.random_bool(0.15),
                long: max_line,
                seed: rng.random(),
            },
            starts: last || rng.random_bool(0.97),
            end,
            storm,
            stops,
            stop_during_spawn: !last && rng.random_bool(0.05),
        }
    }
}
