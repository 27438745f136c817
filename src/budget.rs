//! The arithmetic of a stop: from the budget T to the instants of every timer. Pure; `now` is an argument.
//!
//! From the first stop at t0: a margin m is left before the platform's SIGKILL at t0+T, a reserve R for the flush before
//! that, and the rest, T−R−m, is the app's. Deadlines that rest on a guess (an assumed T, or a soft stop that may have
//! been a thread dump) never take anyone's time away: they are moved out where they would be too short.

use crate::{
    config::{Budget, Leftovers},
    lifecycle::Timer,
};
use std::time::{Duration, Instant};

/// Quiet time for helpers that end by themselves.
const LINGER: Duration = Duration::from_secs(2);
/// Most time between the TERM that every descendant gets and its KILL. Two seconds and not less: a worker that needs
/// 1.5 s for its goodbye behind a `bash` with a trap hears of the stop only now.
const LAST_CALL: Duration = Duration::from_secs(2);
/// What is still there so long after a KILL hangs in the kernel (D state) and is left.
const GIVE_UP: Duration = Duration::from_millis(500);
/// A flush without a deadline of its own ends after so long without progress.
const STALL: Duration = Duration::from_secs(10);
/// The same where the lines are on the disk already.
const STALL_SPOOLED: Duration = Duration::from_secs(2);
/// For the last writes after a flush that no stop ends: nobody's SIGKILL is coming.
const UNHURRIED: Duration = Duration::from_secs(2);

/// How a budget T is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// m: left unused before the platform's SIGKILL.
    pub margin: Duration,
    /// R: kept for the flush.
    pub reserve: Duration,
    /// T−R−m: the app's and its leftovers'.
    pub app: Duration,
    /// From the last call to the KILL.
    pub last_call: Duration,
}

impl Shares {
    /// Shares out `total`.
    pub fn of(total: Duration) -> Self {
        let margin = (total / 20).clamp(Duration::from_millis(100), Duration::from_millis(500)).min(total);
        let reserve = (total / 5).clamp(Duration::from_secs(1), Duration::from_secs(5)).min(total / 3);
        let app = total.saturating_sub(reserve).saturating_sub(margin);
        Self { margin, reserve, app, last_call: LAST_CALL.min(app / 4) }
    }

    /// For what is written after the flush (see [`Plan::last_words_by`]): the rest of the margin is for the exit itself.
    pub fn last_words(&self) -> Duration {
        self.margin * 4 / 5
    }
}

/// What happened when, as far as deadlines depend on it.
#[derive(Clone, Debug)]
pub struct Plan {
    budget: Budget,
    shares: Shares,
    flush_timeout: Duration,
    /// The quiet time that was asked for.
    linger: Option<Duration>,
    /// Leftovers are what the app is: their time does not run from its exit.
    waits: bool,
    stall: Duration,
    soft: Option<Instant>,
    stop: Option<Stop>,
    app_exited: Option<Instant>,
    end: Option<Instant>,
    restart_delay: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    at: Instant,
    soft: bool,
}

impl Plan {
    /// Nothing has happened yet.
    pub fn new(budget: Budget, flush_timeout: Duration) -> Self {
        let shares = Shares::of(budget.duration());
        let (linger, waits, restart_delay) = (None, false, Duration::ZERO);
        let stall = STALL;
        let (soft, stop, app_exited, end) = (None, None, None, None);
        Self { budget, shares, flush_timeout, stall, linger, waits, soft, stop, app_exited, end, restart_delay }
    }

    /// With another linger than the usual one (None), and what leftovers are to us.
    pub const fn with_leftovers(self, linger: Option<Duration>, leftovers: Leftovers) -> Self {
        Self { linger, waits: matches!(leftovers, Leftovers::Wait), ..self }
    }

    /// If the app is run again, then so much later.
    pub fn run_again(&mut self, delay: Duration) {
        self.restart_delay = delay;
    }

    /// What is not delivered is kept in a spool, or not.
    #[must_use]
    pub const fn with_spool(mut self, spooled: bool) -> Self {
        self.stall = if spooled { STALL_SPOOLED } else { STALL };
        self
    }

    /// Whether the app may be killed on this budget.
    pub const fn is_stated(&self) -> bool {
        matches!(self.budget, Budget::Stated(_))
    }

    /// The budget itself.
    pub const fn budget(&self) -> Budget {
        self.budget
    }

    /// The first stop came: t0 is `now`. It takes the place of a soft stop.
    pub fn stop(&mut self, now: Instant) {
        self.stop = Some(Stop { at: now, soft: false });
    }

    /// The soft stop was one: the app exited after it, so t0 is its instant.
    pub fn stop_at_soft(&mut self, now: Instant) {
        self.stop = Some(Stop { at: self.soft.unwrap_or(now), soft: true });
    }

    /// The app exited.
    pub fn app_exited(&mut self, now: Instant) {
        self.app_exited = Some(now);
    }

    /// When a timer that is armed `now` fires.
    pub fn at(&mut self, timer: Timer, now: Instant) -> Instant {
        match timer {
            Timer::Soft => {
                self.soft = Some(now);
                now + self.budget.duration()
            }
            Timer::Linger => {
                let left = self.kill_at(now).saturating_duration_since(now);
                now + match self.linger {
                    // Who states it gets all of it that leaves time for the last call.
                    Some(linger) => linger.min(left.saturating_sub(self.shares.last_call)),
                    None => LINGER.min(left / 2),
                }
            }
            Timer::LastCall => {
                let kill_at = self.kill_at(now);
                kill_at.checked_sub(self.shares.last_call).unwrap_or(kill_at)
            }
            Timer::Kill => self.kill_at(now),
            Timer::GiveUp => now + GIVE_UP,
            Timer::End => self.end_at(now),
            Timer::Stall => now + self.stall,
            Timer::Restart => {
                // What its last run left here no longer counts.
                (self.soft, self.app_exited, self.end) = (None, None, None);
                now + self.restart_delay
            }
        }
    }

    /// The end of the stop that is under way, for the drains: t0+T−m.
    pub fn stop_ends(&self, now: Instant) -> Instant {
        let start = self.stop.map_or(now, |stop| stop.at);
        start + self.budget.duration().saturating_sub(self.shares.margin)
    }

    /// When all must be written that is written after the flush: the spool's last notes, what the drains left to the
    /// fallback, the report. A flush that is done early leaves it more time.
    pub fn last_words_by(&self, now: Instant) -> Instant {
        let time = if self.stop.is_some() { self.shares.last_words() } else { UNHURRIED };
        self.end.map_or(now, |end| end.max(now)) + time
    }

    /// How long ago the stop came.
    pub fn since_stop(&self, now: Instant) -> Duration {
        self.stop.map_or(Duration::ZERO, |stop| now.saturating_duration_since(stop.at))
    }

    /// When what still runs is killed; for an app that lives on an assumed budget, when the interim report is due.
    fn kill_at(&self, now: Instant) -> Instant {
        let app_time = self.shares.app;
        match (self.stop, self.app_exited) {
            // The app ended by itself: its leftovers get the time that a stop would have given them.
            (None, exited) => exited.unwrap_or(now) + self.own_time(),
            (Some(stop), Some(exited)) if exited < stop.at && !self.waits => {
                // The linger that was asked for is for those whom nobody stops.
                (exited + app_time).max(stop.at + self.shares.last_call).min(exited + self.own_time())
            }
            // On a guess, leftovers of a late app still get a linger and a last call.
            (Some(stop), Some(exited)) if self.is_guess(stop) => {
                (stop.at + app_time).max(exited + 2 * self.shares.last_call)
            }
            (Some(stop), _) => stop.at + app_time,
        }
    }

    /// What the leftovers of an app that ended by itself have.
    fn own_time(&self) -> Duration {
        let asked = self.linger.map_or(Duration::ZERO, |linger| linger + self.shares.last_call);
        self.shares.app.max(asked)
    }

    /// When the flush ends. A later stop can only shorten it.
    fn end_at(&mut self, now: Instant) -> Instant {
        let fresh = match self.stop {
            None => now + self.flush_timeout,
            // Out of time by a guess alone: the platform has not killed us, so there is time.
            Some(stop) if self.is_guess(stop) && self.end.is_none() => {
                self.stop_ends(now).max(now + self.shares.reserve)
            }
            Some(_) => self.stop_ends(now),
        };
        let end = self.end.map_or(fresh, |end| end.min(fresh));
        self.end = Some(end);
        end
    }

    const fn is_guess(&self, stop: Stop) -> bool {
        stop.soft || !self.is_stated()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn plan(budget: Budget) -> (Plan, Instant) {
        (Plan::new(budget, Duration::from_secs(60)), clock::now())
    }

    fn seconds(from: Instant, to: Instant) -> f64 {
        to.saturating_duration_since(from).as_secs_f64()
    }

    fn stated(seconds: u64) -> Budget {
        Budget::Stated(Duration::from_secs(seconds))
    }

    fn assumed(seconds: u64) -> Budget {
        Budget::Assumed(Duration::from_secs(seconds))
    }

    #[test]
    fn the_figures_of_the_usual_platforms_59() {
        for (t, kill, end) in [(3, 1.85, 2.85), (5, 3.75, 4.75), (10, 7.5, 9.5), (30, 24.5, 29.5)] {
            let (mut plan, t0) = plan(stated(t));
            plan.stop(t0);
            assert!((seconds(t0, plan.at(Timer::Kill, t0)) - kill).abs() < 1e-6, "kill for T {t}");
            assert!((seconds(t0, plan.at(Timer::End, t0)) - end).abs() < 1e-6, "end for T {t}");
        }
    }

    #[test]
    fn the_last_words_have_most_of_the_margin_and_what_an_early_end_of_the_flush_leaves() {
        let (mut plan, t0) = plan(stated(10));
        plan.stop(t0);
        assert!((seconds(t0, plan.at(Timer::End, t0)) - 9.5).abs() < 1e-6);
        for now in [t0, t0 + Duration::from_millis(9_500)] {
            assert!((seconds(t0, plan.last_words_by(now)) - 9.9).abs() < 1e-6);
        }
        let late = t0 + Duration::from_secs(20);
        assert!((seconds(late, plan.last_words_by(late)) - 0.4).abs() < 1e-6);
    }

    #[test]
    fn the_last_words_have_two_seconds_where_no_stop_is_under_way() {
        let (mut plan, t0) = plan(stated(10));
        plan.app_exited(t0);
        plan.at(Timer::End, t0);
        assert!((seconds(t0, plan.last_words_by(t0 + Duration::from_secs(60))) - 62.0).abs() < 1e-6);
    }

    #[test]
    fn every_budget_however_small_keeps_its_order() {
        for millis in [0, 1, 50, 100, 150, 500, 1_000, 2_000, 60_000, 900_000] {
            let total = Duration::from_millis(millis);
            let (mut plan, t0) = plan(Budget::Stated(total));
            plan.stop(t0);
            let last_call = plan.at(Timer::LastCall, t0);
            let kill = plan.at(Timer::Kill, t0);
            let end = plan.at(Timer::End, t0);
            assert!(t0 <= last_call && last_call <= kill && kill <= end && end <= t0 + total, "T {millis} ms");
        }
    }

    #[test]
    fn the_last_call_leaves_a_quarter_of_the_apps_time_at_most_two_seconds() {
        assert_eq!(Shares::of(Duration::from_secs(3)).last_call, Duration::from_micros(462_500));
        assert_eq!(Shares::of(Duration::from_secs(10)).last_call, Duration::from_millis(1_875));
        assert_eq!(Shares::of(Duration::from_secs(30)).last_call, Duration::from_secs(2));
    }

    #[test]
    fn linger_is_two_seconds_or_half_of_what_is_left() {
        let (mut plan, t0) = plan(stated(10));
        plan.stop(t0);
        plan.app_exited(t0);
        assert!((seconds(t0, plan.at(Timer::Linger, t0)) - 2.0).abs() < 1e-6);
        let late = t0 + Duration::from_secs(7);
        assert!((seconds(late, plan.at(Timer::Linger, late)) - 0.25).abs() < 1e-6);
    }

    #[test]
    fn a_stated_budget_holds_though_the_app_is_late() {
        let (mut plan, t0) = plan(stated(10));
        plan.stop(t0);
        plan.app_exited(t0 + Duration::from_secs(7));
        assert!((seconds(t0, plan.at(Timer::Kill, t0 + Duration::from_secs(7))) - 7.5).abs() < 1e-6);
        assert!((seconds(t0, plan.at(Timer::End, t0 + Duration::from_secs(8))) - 9.5).abs() < 1e-6);
    }

    #[test]
    fn an_assumed_budget_is_moved_out_for_a_late_app() {
        let (mut plan, t0) = plan(assumed(10));
        let late = t0 + Duration::from_secs(20);
        plan.stop(t0);
        plan.app_exited(late);
        assert!((seconds(late, plan.at(Timer::Kill, late)) - 3.75).abs() < 1e-6, "linger and last call");
        assert!((seconds(late, plan.at(Timer::End, late)) - 2.0).abs() < 1e-6, "the reserve");
    }

    #[test]
    fn an_app_that_ends_by_itself_has_the_flush_timeout_and_a_later_stop_shortens_it_60() {
        let (mut plan, t0) = plan(stated(10));
        plan.app_exited(t0);
        assert!((seconds(t0, plan.at(Timer::Kill, t0)) - 7.5).abs() < 1e-6, "its leftovers are bounded");
        assert!((seconds(t0, plan.at(Timer::End, t0)) - 60.0).abs() < 1e-6);
        let stop = t0 + Duration::from_secs(3);
        plan.stop(stop);
        assert!((seconds(stop, plan.at(Timer::End, stop)) - 9.5).abs() < 1e-6);
        let again = t0 + Duration::from_secs(5);
        assert!((seconds(stop, plan.at(Timer::End, again)) - 9.5).abs() < 1e-6, "re-arming moves nothing out");
    }

    #[test]
    fn a_stop_close_to_the_flush_timeout_does_not_lengthen_it() {
        let (mut plan, t0) = plan(stated(30));
        plan.app_exited(t0);
        let end = plan.at(Timer::End, t0);
        let stop = t0 + Duration::from_secs(55);
        plan.stop(stop);
        assert_eq!(plan.at(Timer::End, stop), end);
    }

    #[test]
    fn the_next_run_has_all_of_its_time() {
        let (mut plan, t0) = plan(stated(10));
        plan.app_exited(t0);
        let end = plan.at(Timer::End, t0);
        plan.run_again(Duration::from_secs(3));
        assert!((seconds(t0, plan.at(Timer::Restart, t0)) - 3.0).abs() < 1e-6);
        let later = t0 + Duration::from_secs(3_600);
        plan.stop(later);
        assert!((seconds(later, plan.at(Timer::Kill, later)) - 7.5).abs() < 1e-6);
        assert!(plan.at(Timer::End, later) > end);
    }

    #[test]
    fn a_restart_that_a_ctrl_c_forbids_does_not_let_a_later_stop_lengthen_the_flush() {
        let (mut plan, t0) = (Plan::new(stated(30), Duration::from_secs(2)), clock::now());
        plan.app_exited(t0);
        let end = plan.at(Timer::End, t0);
        plan.run_again(Duration::from_secs(1));
        let stop = t0 + Duration::from_secs(1);
        plan.stop(stop);
        assert_eq!(plan.at(Timer::End, stop), end);
    }

    #[test]
    fn a_soft_stop_sets_the_flush_deadline_but_leaves_time_if_it_was_a_thread_dump() {
        let (mut plan, t0) = plan(stated(10));
        plan.at(Timer::Soft, t0);
        let soon = t0 + Duration::from_secs(1);
        plan.app_exited(soon);
        plan.stop_at_soft(soon);
        assert!((seconds(t0, plan.clone().at(Timer::End, soon)) - 9.5).abs() < 1e-6, "counted from the soft stop");
        let late = t0 + Duration::from_secs(9);
        assert!((seconds(late, plan.at(Timer::End, late)) - 2.0).abs() < 1e-6, "never less than the reserve");
    }

    #[test]
    fn a_stated_linger_is_given_in_full_where_nobody_stops_and_leaves_time_for_the_last_call_where_somebody_does() {
        let asked = Some(Duration::from_secs(20));
        let (plan, t0) = plan(stated(10));
        let mut plan = plan.with_leftovers(asked, Leftovers::Term);
        plan.app_exited(t0);
        assert!((seconds(t0, plan.at(Timer::Linger, t0)) - 20.0).abs() < 1e-6);
        assert!((seconds(t0, plan.at(Timer::Kill, t0)) - 21.875).abs() < 1e-6);
        let stop = t0 + Duration::from_secs(15);
        plan.stop(stop);
        assert!((seconds(stop, plan.at(Timer::Kill, stop)) - 1.875).abs() < 1e-6, "a last call's time from the stop");
        let mut plan = Plan::new(stated(10), Duration::from_secs(60)).with_leftovers(asked, Leftovers::Term);
        plan.stop(t0);
        plan.app_exited(t0);
        assert!((seconds(t0, plan.at(Timer::Linger, t0)) - 5.625).abs() < 1e-6);
    }

    #[test]
    fn leftovers_that_are_waited_for_have_the_apps_time_from_the_stop() {
        let (plan, t0) = plan(stated(10));
        let mut plan = plan.with_leftovers(None, Leftovers::Wait);
        plan.app_exited(t0);
        let stop = t0 + Duration::from_secs(100);
        plan.stop(stop);
        assert!((seconds(stop, plan.at(Timer::Kill, stop)) - 7.5).abs() < 1e-6);
    }
}
