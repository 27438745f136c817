//! The supervisor's shell, simulated: the real machine, the real budget and the real restarts, with processes that are
//! scripts. What the real shell does is in src/supervisor; this one does the same, an action at a time.

use super::{
    app::{Family, Manner, News},
    life::Life,
    patience::Patience,
};
use crate::{
    budget,
    event::Event as Rung,
    exit::{Ending, Status},
    ledger::DrainReport,
    lifecycle::{Action, Event, Left, Machine, Stage, State, Timer},
    line::Stream,
    restart::{Next, Restarts},
    signals::Signal,
};
use std::{
    collections::BTreeSet,
    rc::Rc,
    time::{Duration, Instant},
};

/// How often the flush is looked at for progress.
const LOOK: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Shell<'a> {
    life: &'a Rc<Life>,
    machine: Machine,
    plan: budget::Plan,
    timers: [Option<Instant>; Timer::ALL.len()],
    remembered: Vec<Event>,
    restarts: Restarts,
    family: Option<Rc<Family>>,
    started: Option<Instant>,
    lasted: Duration,
    /// The stop that the app died of, uncaught.
    uncaught: bool,
    streams: BTreeSet<Stream>,
    done: BTreeSet<usize>,
    flushing: bool,
    settled: u64,
    patience: Patience,
    /// From the first stop on.
    pub(super) stopped: Option<Instant>,
    pub(super) outcome: Option<Ending>,
    pub(super) unread: bool,
}

impl<'a> Shell<'a> {
    pub(super) fn new(life: &'a Rc<Life>) -> Self {
        let knobs = &life.knobs;
        let plan = budget::Plan::new(knobs.budget, knobs.flush_timeout)
            .with_leftovers(None, knobs.leftovers)
            .with_spool(life.drains.have_spool());
        Self {
            life,
            machine: Machine::new(plan.is_stated()).with_leftovers(knobs.leftovers),
            plan,
            timers: [None; Timer::ALL.len()],
            remembered: Vec::new(),
            restarts: Restarts::new(knobs.restart, knobs.seed),
            family: None,
            started: None,
            lasted: Duration::ZERO,
            uncaught: false,
            streams: BTreeSet::new(),
            done: BTreeSet::new(),
            flushing: false,
            settled: 0,
            patience: Patience::new(knobs),
            stopped: None,
            outcome: None,
            unread: false,
        }
    }

    /// From the start to the exit.
    pub(super) async fn run(&mut self) -> Vec<DrainReport> {
        // A stop may come before all else.
        self.read_signals();
        self.feed(Event::Begin);
        while self.outcome.is_none() {
            self.read_signals();
            self.read_news();
            self.read_rings();
            self.fire();
            self.progress();
            if self.outcome.is_none() {
                self.sleep().await;
            }
        }
        self.unread = !self.streams.is_empty();
        let reports = self.life.close().await;
        self.patience.check(Self::now());
        reports
    }

    fn now() -> Instant {
        crate::clock::now()
    }

    async fn sleep(&self) {
        let now = Self::now();
        let look = self.timers[Timer::Stall as usize].map(|_| now + LOOK);
        let signal = self.life.signals.borrow().front().map(|&(at, _)| at);
        let next = self.timers.iter().copied().flatten().chain(look).chain(signal).min();
        let until = next.unwrap_or(now + Duration::from_secs(3600));
        tokio::select! {
            biased;
            () = self.life.rings.notified() => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }

    fn feed(&mut self, event: Event) {
        let before = self.machine.state();
        let actions = self.machine.on(event);
        super::trace(|| format!("{event:?} in {before:?}: {actions:?}"));
        self.patience.sees(event, before, self.machine.state(), Self::now());
        if matches!(event, Event::Stop(_) | Event::Interrupt) {
            self.stopped.get_or_insert(Self::now());
        }
        for &action in &actions {
            self.perform(action, event);
        }
        if actions.iter().any(|action| matches!(action, Action::PassOn(_) | Action::KillAll)) {
            self.survey();
        }
    }

    fn read_signals(&mut self) {
        loop {
            let due = self.life.signals.borrow().front().copied().filter(|&(at, _)| at <= Self::now());
            let Some((_, event)) = due else { return };
            self.life.signals.borrow_mut().pop_front();
            self.life.hit(match event {
                Event::Stop(_) if self.stopped.is_some() => "process: a repeated stop",
                Event::Stop(_) if self.machine.state() == State::Starting => "process: a stop before the spawn",
                Event::Stop(_) if self.machine.state() == State::Spawning => "process: a stop during the spawn",
                Event::Stop(_) => "process: a stop",
                Event::SoftStop(_) => "process: a soft stop",
                Event::Interrupt => "process: an interrupt",
                _ => "process: another signal",
            });
            self.feed(event);
        }
    }

    fn read_news(&mut self) {
        let Some(family) = self.family.clone() else { return };
        while let Some(news) = family.take_news() {
            match news {
                News::Exited(status) => {
                    self.lasted = self.started.map_or(Duration::ZERO, |at| Self::now() - at);
                    let left = match status {
                        _ if family.nobody() => Left::Nobody,
                        Status::Signaled(signal) if self.uncaught && signal == Signal::TERM => Left::Unaware(signal),
                        _ => Left::Others,
                    };
                    if left != Left::Nobody {
                        self.life.hit("process: a descendant lingers");
                    }
                    self.life.say("the app exited");
                    self.feed(Event::AppExited { ending: Ending::App(status), left });
                }
                News::Gone => self.feed(Event::Gone),
            }
        }
    }

    fn read_rings(&mut self) {
        for rung in self.life.take_rings() {
            match rung {
                Rung::ReaderDone(stream) => drop(self.streams.remove(&stream)),
                Rung::DrainDone(index) => drop(self.done.insert(index)),
                Rung::PassthroughDone(_) => {}
            }
        }
    }

    fn survey(&mut self) {
        let Some(family) = &self.family else { return };
        let (others, app) = (family.others(), family.app_lives());
        match self.machine.state() {
            State::Draining(_, _, Stage::Passed) if others > 0 => self.feed(Event::Remaining { only_filters: false }),
            State::Killing(..) if others > 0 && !app => {}
            _ => {}
        }
    }

    fn progress(&mut self) {
        if self.streams.is_empty() && matches!(self.machine.state(), State::Closing(..)) {
            let again = self.is_run_again();
            self.feed(Event::IntakeDone { again });
        }
        if self.flushing && self.done.len() == self.life.knobs.drains.len() {
            self.feed(Event::FlushDone);
        }
    }

    fn is_run_again(&mut self) -> bool {
        let State::Closing(ending, crate::lifecycle::Cause::Itself) = self.machine.state() else { return false };
        match self.restarts.next(ending, self.lasted) {
            Next::After(delay) if self.life.may_restart() => {
                self.plan.run_again(delay);
                self.life.hit("process: a restart");
                true
            }
            _ => false,
        }
    }

    fn fire(&mut self) {
        let now = Self::now();
        if self.timers[Timer::Stall as usize].is_some() {
            let settled = self.life.drains.settled();
            if settled > self.settled {
                self.settled = settled;
                self.timers[Timer::Stall as usize] = Some(self.plan.at(Timer::Stall, now));
            }
        }
        for timer in Timer::ALL {
            if self.timers[timer as usize].is_some_and(|at| at <= now) && self.outcome.is_none() {
                self.timers[timer as usize] = None;
                if matches!(timer, Timer::Kill | Timer::GiveUp) {
                    self.read_news();
                }
                self.feed(Event::Fired(timer));
            }
        }
    }

    fn perform(&mut self, action: Action, event: Event) {
        let now = Self::now();
        match action {
            Action::Spawn => self.spawn(),
            Action::Remember => self.remembered.push(event.kept()),
            Action::Replay => std::mem::take(&mut self.remembered).into_iter().for_each(|event| self.feed(event)),
            Action::Relay(_) if matches!(event, Event::Stop(_)) => self.relay(),
            Action::Relay(_) | Action::AllTold(_) | Action::Leave => {}
            Action::StartBudget => self.plan.stop(now),
            Action::BudgetFromSoftStop => self.plan.stop_at_soft(now),
            Action::Hurry => self.life.hurry(self.plan.stop_ends(now)),
            Action::Arm(timer) => self.arm(timer),
            Action::Disarm(timer) => self.timers[timer as usize] = None,
            Action::Interim => {
                self.life.hit("process: an app outlives an assumed budget");
                self.life.drains.unblock();
            }
            Action::Release => {
                self.plan.app_exited(now);
                self.life.drains.unblock();
            }
            Action::PassOn(_) | Action::LastCall => {
                if let Some(family) = &self.family {
                    family.stop_others();
                }
            }
            Action::KillAll => {
                let killed = self.family.as_ref().map_or(0, |family| family.kill());
                if killed > 0 {
                    self.life.hit("process: a kill");
                }
            }
            Action::GiveUp => {}
            Action::CloseIntake => self.life.finish_intake(),
            Action::Flush => {
                let end_at = self.timers[Timer::End as usize].unwrap_or(now);
                self.flushing = true;
                self.settled = self.life.drains.settled();
                self.life.flush(end_at);
            }
            Action::Exit(ending) => self.outcome = Some(ending),
        }
    }

    fn spawn(&mut self) {
        self.uncaught = false;
        // A stop that comes while the app is being started.
        if self.life.knobs.stop_during_spawn && self.started.is_none() {
            self.feed(Event::Stop(Signal::TERM));
        }
        let Some(script) = self.life.script() else {
            self.life.hit("process: a spawn fails");
            return self.feed(Event::SpawnFailed(Ending::NotFound));
        };
        self.life.say("the app starts");
        self.streams = Stream::ALL.into();
        self.family = Some(self.life.attach(script));
        self.started = Some(Self::now());
        self.feed(Event::Spawned);
    }

    fn relay(&mut self) {
        let Some(family) = &self.family else { return };
        self.uncaught = self.life.manner() == Manner::Dies;
        // Dead, and not reaped yet: it can't be told.
        if family.app_lives() {
            family.stop_app();
        }
    }

    fn arm(&mut self, timer: Timer) {
        let at = self.plan.at(timer, Self::now());
        self.timers[timer as usize] = Some(at);
        if timer == Timer::End && self.flushing {
            self.life.drains.set_end(at);
        }
    }
}
