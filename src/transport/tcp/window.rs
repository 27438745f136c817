//! The replay window of one TCP connection: pure arithmetic over positions and time.
//!
//! ```text
//!   accepted          acked           written
//! ─────┴────────────────┴───────────────┴──▶ positions
//!   safe    window: acknowledged by       not acknowledged
//!           the peer's kernel, but its
//!           application may die on them
//! ```
//!
//! A kernel acknowledges for an application that may die before it reads. So what was acknowledged a moment ago is
//! kept for a replay, and *accepted* is what has left the window: by age ([`AGE`]), or because newer bytes fill it.
//! The window's age stands still while bytes are unacknowledged or the peer's window is 0: the peer's application may
//! be stuck on a full buffer, and then old bytes are no safer than new ones.
//!
//! Its size is the peer's capacity, guessed from the windows that it advertises. Where that is more than the drain can
//! keep (¾ of its in-flight cap), the window grows as the peer's own shrinks: if the peer's application does not read,
//! the drain comes to its cap and stops sending, and everything unread can still be sent again.
//!
//! Invariants: `accepted ≤ acked ≤ written`; none ever goes back. Memory: one mark for each [`GRAIN`] of age, ~100.
//!
//! Limit: an application that is stuck for longer than [`AGE`] on a buffer that is not full is not seen; if it then
//! dies, what it had not read is lost although accepted. So is what an application leaves unread in a buffer of more
//! than 1⅜ in-flight caps (5.5 MiB by default).

use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// Bytes stay in an automatic window for this long after their acknowledgement.
pub(super) const AGE: Duration = Duration::from_secs(5);
/// Acknowledgements that are nearer in time than this share a mark, and leave together, the later.
const GRAIN: Duration = Duration::from_millis(50);
/// An automatic window may always be this large: what a socket buffer holds at the least, what it grows to before we see
/// it, and what the application took out of it but did not use (a TLS library's buffer, say).
const FLOOR: u64 = 1024 * 1024;
/// The capacity of a peer whose window is not known.
const CEILING: u64 = 4 * 1024 * 1024;

/// How large the window may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// `#replay=BYTES`; `None` is automatic.
    pub(crate) fixed: Option<u64>,
    /// The drain's in-flight cap, in bytes: window and unacknowledged bytes together.
    pub(crate) cap: u64,
}

impl Policy {
    /// The share of the cap that the window has when the peer's own is wide open.
    const fn roof(self) -> u64 {
        self.cap / 4 * 3
    }

    /// How many acknowledged bytes to keep, at least, if the peer advertises `window` now, and at most `largest` so far
    /// (`None`: unknown).
    fn keep(self, window: Option<u64>, largest: Option<u64>) -> u64 {
        let roof = self.roof();
        let (window, largest) = match (self.fixed, window, largest) {
            (Some(bytes), _, _) => return bytes.min(roof),
            (None, Some(window), Some(largest)) => (window, largest),
            (None, _, _) => return CEILING.min(roof),
        };
        // The looks may have missed the largest window, hence half as much again.
        let capacity = (largest + largest / 2).max(FLOOR.min(roof));
        if capacity <= roof {
            return capacity;
        }
        // What is unread is the capacity less the window. A capacity beyond 1⅜ caps must not count: Linux announces
        // how much was read only when its window has doubled, and up to that the drain must find room.
        (largest + largest / 4).min(self.cap / 8 * 11).saturating_sub(window).max(roof)
    }
}

/// One look at the kernel's counters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// All bytes before this position are acknowledged.
    pub(super) acked: u64,
    /// The window that the peer advertises, if known.
    pub(super) peer_window: Option<u32>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Window {
    policy: Policy,
    written: u64,
    acked: u64,
    accepted: u64,
    /// Acknowledged, not yet accepted, oldest first.
    marks: VecDeque<Mark>,
    /// The window that the peer advertises, and the largest that it ever did, if known.
    peer_window: Option<u64>,
    largest: Option<u64>,
    /// Time that counted as ageing so far.
    lived: Duration,
    /// When `lived` was last brought up to date.
    ticked: Instant,
}

/// Bytes before `upto` were acknowledged when `lived` was `since` (or up to a grain later).
#[derive(Debug)]
struct Mark {
    upto: u64,
    since: Duration,
}

impl Window {
    /// A new connection whose first byte has position `base`.
    pub(super) fn new(policy: Policy, base: u64, now: Instant) -> Self {
        Self {
            policy,
            written: base,
            acked: base,
            accepted: base,
            marks: VecDeque::new(),
            peer_window: None,
            largest: None,
            lived: Duration::ZERO,
            ticked: now,
        }
    }

    /// All bytes before this position were given to our kernel.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// All bytes before this position are acknowledged by the peer's kernel.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// All bytes before this position are acknowledged and have left the window. A replay starts here.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Bytes that the peer's kernel has not acknowledged, as of the last look.
    pub(super) fn unacked(&self) -> u64 {
        self.written - self.acked
    }

    /// Our kernel took `bytes` more.
    pub(super) fn wrote(&mut self, bytes: u64, now: Instant) {
        self.tick(now);
        self.written += bytes;
        if planted!(ack_on_write) {
            (self.acked, self.accepted) = (self.written, self.written);
        }
    }

    /// Takes in a look at the counters.
    pub(super) fn observe(&mut self, seen: Seen, now: Instant) {
        self.tick(now);
        self.peer_window = seen.peer_window.map(u64::from);
        self.largest = self.largest.max(self.peer_window);
        let acked = seen.acked.min(self.written);
        if acked > self.acked {
            self.acked = acked;
            self.mark();
        }
        self.settle();
    }

    /// Takes in the last look, at a connection that has ended. What the last moments acknowledged makes nothing before
    /// it safer, so `accepted` stays.
    pub(super) fn observe_end(&mut self, seen: Seen, now: Instant) {
        self.tick(now);
        self.acked = self.acked.max(seen.acked.min(self.written));
    }

    /// Everything acknowledged is accepted: no replay will follow (a clean end, or the exit).
    pub(super) fn release(&mut self) {
        self.accepted = self.acked;
        self.marks.clear();
    }

    /// When the next look is due at the latest; `None` if nothing can change by time alone. `poll` is the interval for
    /// things that only the counters tell.
    pub(super) fn next_look(&self, poll: Duration) -> Option<Duration> {
        // More than its share is there because the peer's window was narrow: it opens without a word to us, and the drain
        // may be waiting for the room.
        if self.unacked() > 0 || self.acked - self.accepted > self.policy.roof() {
            return Some(poll);
        }
        // A fixed window does not age.
        let oldest = self.marks.front().filter(|_| self.policy.fixed.is_none())?;
        Some(if self.open() { (oldest.since + AGE + GRAIN).saturating_sub(self.lived) } else { poll })
    }

    fn open(&self) -> bool {
        self.peer_window != Some(0)
    }

    /// Lets the time up to `now` count as age, if the state since the last call permits.
    fn tick(&mut self, now: Instant) {
        if self.open() && self.unacked() == 0 {
            self.lived += now.saturating_duration_since(self.ticked);
        }
        self.ticked = self.ticked.max(now);
    }

    /// Remembers when `acked` was reached.
    fn mark(&mut self) {
        match self.marks.back_mut() {
            Some(last) if self.lived < last.since + GRAIN => last.upto = self.acked,
            _ => self.marks.push_back(Mark { upto: self.acked, since: self.lived }),
        }
    }

    /// Moves what is old enough, and what the window has no room for, out of it.
    fn settle(&mut self) {
        let by_size = self.acked.saturating_sub(self.policy.keep(self.peer_window, self.largest));
        self.accepted = self.accepted.max(by_size);
        while let Some(oldest) = self.marks.front() {
            let aged = self.policy.fixed.is_none() && self.lived >= oldest.since + AGE + GRAIN;
            if !aged && oldest.upto > self.accepted {
                break;
            }
            self.accepted = self.accepted.max(oldest.upto);
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    const CAP: u64 = 4 * 1024 * 1024;
    const MS: Duration = Duration::from_millis(1);

    fn auto(base: u64) -> (Window, Instant) {
        let now = Instant::now();
        (Window::new(Policy { fixed: None, cap: CAP }, base, now), now)
    }

    fn seen(acked: u64, peer_window: u32) -> Seen {
        Seen { acked, peer_window: Some(peer_window) }
    }

    #[test]
    fn acknowledged_bytes_are_accepted_after_five_seconds_and_not_before() {
        let (mut window, t0) = auto(1000);
        window.wrote(100, t0);
        window.observe(seen(1100, 65536), t0);
        assert_eq!((window.acked(), window.accepted()), (1100, 1000));
        window.observe(seen(1100, 65536), t0 + AGE);
        assert_eq!(window.accepted(), 1000);
        let wait = window.next_look(MS).unwrap();
        window.observe(seen(1100, 65536), t0 + AGE + wait);
        assert_eq!(window.accepted(), 1100);
        assert_eq!(window.next_look(MS), None, "no timer when all is settled");
    }

    #[test]
    fn ageing_stands_still_while_bytes_are_unacknowledged() {
        let (mut window, t0) = auto(0);
        window.wrote(200, t0);
        window.observe(seen(100, 65536), t0);
        window.observe(seen(100, 65536), t0 + AGE * 10);
        assert_eq!(window.accepted(), 0);
        assert_eq!(window.next_look(MS), Some(MS));
        // The stall ends just before this look: the ten ages before it do not count.
        window.observe(seen(200, 65536), t0 + AGE * 10);
        window.observe(seen(200, 65536), t0 + AGE * 11 - MS);
        assert_eq!(window.accepted(), 0);
    }

    #[test]
    fn ageing_stands_still_while_the_peers_window_is_zero() {
        let (mut window, t0) = auto(0);
        window.wrote(100, t0);
        window.observe(seen(100, 0), t0);
        window.observe(seen(100, 0), t0 + AGE * 10);
        assert_eq!(window.accepted(), 0);
        assert_eq!(window.next_look(MS), Some(MS));
        window.observe(seen(100, 1), t0 + AGE * 10);
        window.observe(seen(100, 1), t0 + AGE * 12);
        assert_eq!(window.accepted(), 100);
    }

    #[test]
    fn a_full_automatic_window_accepts_its_oldest_bytes() {
        let (mut window, t0) = auto(0);
        window.wrote(CAP, t0);
        window.observe(seen(CAP, 1000), t0);
        assert_eq!(window.accepted(), CAP - FLOOR);
        // Once the peer has shown a larger window, more is kept, also when it shows a small one again.
        window.wrote(CAP, t0);
        window.observe(seen(CAP, 1 << 20), t0);
        window.observe(seen(2 * CAP, 1), t0);
        assert_eq!(window.accepted(), 2 * CAP - (1 << 20) * 3 / 2);
    }

    #[test]
    fn a_window_leaves_a_quarter_of_the_drains_cap_free() {
        for fixed in [None, Some(u64::MAX)] {
            let now = Instant::now();
            let mut window = Window::new(Policy { fixed, cap: 400 }, 0, now);
            window.wrote(1000, now);
            window.observe(Seen { acked: 1000, peer_window: None }, now);
            assert_eq!(window.accepted(), 700);
        }
    }

    #[test]
    fn a_peer_with_a_large_buffer_that_does_not_read_makes_nothing_safe() {
        let (mut window, t0) = auto(0);
        let buffer = CAP;
        window.observe(seen(0, buffer as u32), t0);
        // Its buffer fills up to where the drain stops.
        window.wrote(CAP / 8 * 7, t0);
        window.observe(seen(CAP / 8 * 7, (buffer - CAP / 8 * 7) as u32), t0);
        assert_eq!(window.accepted(), 0);
        assert_eq!(
            window.next_look(MS),
            Some(MS),
            "when it reads, nobody says so, and the drain has no room until then"
        );
        // Its application reads all of it.
        window.observe(seen(CAP / 8 * 7, buffer as u32), t0);
        assert_eq!(window.accepted(), CAP / 8);
        assert!(window.next_look(MS) > Some(AGE / 2), "then there is room, and time to age");
    }

    #[test]
    fn a_peer_with_a_huge_buffer_leaves_room_until_it_has_to_announce_its_reading() {
        let (mut window, t0) = auto(0);
        let buffer = CAP * 4;
        window.observe(seen(0, buffer as u32), t0);
        window.wrote(buffer / 2 - 1, t0);
        window.observe(seen(buffer / 2 - 1, buffer as u32 / 2 + 1), t0);
        assert!(window.written() - window.accepted() <= CAP / 8 * 7);
    }

    #[test]
    fn a_fixed_window_neither_ages_nor_grows() {
        let now = Instant::now();
        let mut window = Window::new(Policy { fixed: Some(10), cap: CAP }, 0, now);
        window.wrote(100, now);
        window.observe(seen(100, 1 << 20), now);
        window.observe(seen(100, 1 << 20), now + AGE * 9);
        assert_eq!(window.accepted(), 90);
        assert_eq!(window.next_look(MS), None);
        window.release();
        assert_eq!(window.accepted(), 100);
    }

    #[test]
    fn a_window_of_zero_replays_the_unacknowledged_alone() {
        let now = Instant::now();
        let mut window = Window::new(Policy { fixed: Some(0), cap: CAP }, 50, now);
        window.wrote(100, now);
        window.observe(seen(120, 1), now);
        assert_eq!((window.accepted(), window.unacked()), (120, 30));
    }

    /// The rule of the module's documentation over a list of every acknowledged byte run, unmerged.
    #[derive(Default)]
    struct Model {
        runs: Vec<(u64, Duration)>,
        lived: Duration,
        accepted: u64,
    }

    impl Model {
        /// What must be accepted if a run leaves once it has lived for `age`.
        fn accepted(&mut self, age: Duration, limit: u64) -> u64 {
            let acked = self.runs.last().map_or(0, |run| run.0);
            let aged = self.runs.iter().rev().find(|run| self.lived >= run.1 + age).map_or(0, |run| run.0);
            self.accepted = self.accepted.max(aged).max(acked.saturating_sub(limit));
            self.accepted
        }
    }

    #[test]
    fn random_histories_agree_with_a_model_that_remembers_everything() {
        let seed = std::env::var("LASTWORD_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut aged, mut overflowed, mut stalled) = (0, 0, 0);
        for case in 0..500 {
            let context = format!("LASTWORD_SEED={seed}, case {case}");
            let fixed = [None, None, Some(0), Some(rng.random_range(0..1 << 20))][rng.random_range(0..4)];
            let policy = Policy { fixed, cap: rng.random_range(1..8 << 20) };
            let mut now = Instant::now();
            let mut window = Window::new(policy, 0, now);
            let (mut early, mut late) = (Model::default(), Model::default());
            let (mut open, mut largest, mut acked, mut written) = (true, None, 0, 0);
            for _ in 0..rng.random_range(1..120) {
                let pause = Duration::from_millis([0, 1, 20, 400, 6000][rng.random_range(0..5)]);
                now += pause;
                let counts = if open && acked == written { pause } else { Duration::ZERO };
                stalled += u32::from(counts != pause);
                early.lived += counts;
                late.lived += counts;
                if rng.random() {
                    let bytes = rng.random_range(1..300_000);
                    window.wrote(bytes, now);
                    written += bytes;
                    continue;
                }
                acked = if rng.random() { written } else { rng.random_range(acked..=written) };
                let advertised = [0_u32, 1000, 65_536, 3_000_000][rng.random_range(0..4)];
                open = advertised > 0;
                largest = largest.max(Some(u64::from(advertised)));
                let before = window.accepted();
                window.observe(seen(acked, advertised), now);
                early.runs.push((acked, early.lived));
                late.runs.push((acked, late.lived));

                let limit = policy.keep(Some(advertised.into()), largest);
                let (soon, at_last) =
                    if fixed.is_some() { (Duration::MAX / 2, Duration::MAX / 2) } else { (AGE, AGE + GRAIN) };
                let (most, least) = (early.accepted(soon, limit), late.accepted(at_last, limit));
                assert!(window.accepted() <= most, "{context}: accepted {} of {most}", window.accepted());
                assert!(window.accepted() >= least, "{context}: accepted {} of {least}", window.accepted());
                assert!(window.accepted() >= before && window.accepted() <= acked, "{context}");
                assert!(window.acked() == acked && window.written() == written, "{context}");
                assert!(window.marks.len() <= 130, "{context}: {} marks", window.marks.len());
                let by_size = acked.saturating_sub(limit);
                aged += u32::from(window.accepted() > before.max(by_size));
                overflowed += u32::from(window.accepted() > before && window.accepted() == by_size);
            }
        }
        assert!(
            aged > 100 && overflowed > 100 && stalled > 100,
            "did not meet its subject: {aged} {overflowed} {stalled}"
        );
    }
}
