//! News of the app and its leftovers: who ended, who is left, and whether the app is run again.

use super::{Notice, Plant, Supervisor};
use crate::{
    clock,
    exit::{Ending, Status},
    lifecycle::{Cause, Event, Left, Stage, State, Timer},
    restart::Next,
    signals::Signal,
};
use std::time::{Duration, Instant};

/// How often full queues are looked at for room, where the next run waits for it.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(100);

impl<P: Plant> Supervisor<'_, P> {
    pub(super) fn reap(&mut self) {
        let news = self.reaper.reap();
        if news.app_stopped.is_some_and(Signal::is_terminal_stop) && self.shared {
            self.suspend();
        }
        if let Some(status) = news.app {
            self.app = None;
            // It may have died of the very stop that is being held. Who comes before the app had the stop before it.
            let known = self.guard.known(clock::now(), true);
            self.release(known);
            let left = self.left(status, news.gone);
            let count = if news.gone { Some(0) } else { self.family.survey(None).map(|(count, _)| count) };
            let after = self.started.map_or(Duration::ZERO, |at| clock::now().saturating_duration_since(at));
            self.lasted = after;
            let sigkill = status == Status::Signaled(Signal::KILL) && self.killed == 0;
            let (core, usage) = (news.core, news.usage);
            self.plant.notify(&Notice::AppExited {
                ending: status,
                core,
                after,
                usage,
                memory_kills: self.memory.new_kills(sigkill),
                left: count,
            });
            self.feed(Event::AppExited { ending: Ending::App(status), left });
        } else if news.gone && !self.is_tee() {
            self.feed(Event::Gone);
        }
        if !news.gone && self.app.is_none() && news.others > 0 {
            self.survey();
        }
    }

    fn left(&self, status: Status, gone: bool) -> Left {
        match status {
            _ if gone => Left::Nobody,
            Status::Signaled(signal) if self.uncaught == Some(signal) => Left::Unaware(signal),
            Status::Signaled(_) | Status::Exited(_) => Left::Others,
        }
    }

    /// Tells the machine of those who remain, where that matters to it.
    pub(super) fn survey(&mut self) {
        match self.machine.state() {
            State::Draining(_, _, Stage::Passed) => {
                let only_filters = self.family.survey(self.passed).is_some_and(|(_, only_filters)| only_filters);
                self.feed(Event::Remaining { only_filters });
            }
            State::Killing(..) => self.feed(Event::Remaining { only_filters: false }),
            _ => {}
        }
    }

    /// Asked once after each run.
    pub(super) fn is_run_again(&mut self) -> bool {
        let State::Closing(ending, Cause::Itself) = self.machine.state() else { return false };
        if self.is_tee() {
            return false;
        }
        match self.restarts.next(ending, self.lasted) {
            Next::After(delay) => {
                self.plan.run_again(delay);
                true
            }
            Next::Enough(restarts) => {
                self.plant.notify(&Notice::EnoughRestarts(restarts));
                false
            }
            Next::Nothing => false,
        }
    }

    /// With `--when-full block` the app waits for the drains; between two runs, too.
    pub(super) fn may_run_again(&mut self, now: Instant) -> bool {
        let may = self.plant.may_run_again();
        if !may {
            self.timers[Timer::Restart as usize] = Some(now + LOOK_FOR_ROOM);
            if !self.waits_for_room {
                self.plant.notify(&Notice::RestartWaits);
            }
        }
        self.waits_for_room = !may;
        may
    }
}
