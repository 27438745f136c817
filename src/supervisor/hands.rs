//! The supervisor's hands: one function an action.

use super::{FlushEnd, Notice, Outcome, Plant, Supervisor};
use crate::{
    child::{Family, Pipes, SpawnError, spawn},
    clock,
    config::{Leftovers, RelayTo},
    exit::Ending,
    lifecycle::{Action, Event, State, Timer},
    line::Stream,
    restart::When,
    signals::Signal,
};
use nix::{errno::Errno, libc};
use std::time::Duration;

impl<P: Plant> Supervisor<'_, P> {
    pub(super) fn perform(&mut self, action: Action, event: Event) {
        let now = clock::now();
        match action {
            Action::Spawn => self.spawn(),
            Action::Remember => self.remembered.push((event.kept(), self.received)),
            Action::Replay => self.replay(),
            Action::Relay(signal) => self.relay(signal, event),
            Action::AllTold(signal) => {
                self.family.all_told(self.received_at.unwrap_or(now), self.shared);
                self.plant.notify(&Notice::Broadcast(signal));
            }
            Action::StartBudget => self.plan.stop(self.received_at.unwrap_or(now)),
            Action::BudgetFromSoftStop => self.plan.stop_at_soft(now),
            Action::Hurry => {
                self.plant.hurry(self.plan.stop_ends(now));
                if self.released {
                    self.plant.app_exited();
                }
            }
            Action::Arm(timer) => self.arm(timer),
            Action::Disarm(timer) => self.timers[timer as usize] = None,
            Action::Interim => {
                self.plant.interim();
                self.plant.notify(&Notice::Interim(self.plan.since_stop(now)));
            }
            Action::Release => {
                self.plan.app_exited(now);
                self.released = true;
                // Leftovers that are waited for go on in the app's stead, and wait for drains and stdout as it did.
                if self.setup.leftovers != Leftovers::Wait || self.first_stop.is_some() {
                    self.plant.app_exited();
                }
            }
            Action::PassOn(signal) => self.pass_on(signal),
            Action::LastCall => {
                let told = self.family.last_call();
                self.plant.notify(&Notice::LastCall(told));
            }
            Action::KillAll => self.kill_all(),
            Action::Leave => {
                let left = self.family.survey(None).map(|(count, _)| count);
                self.plant.notify(&Notice::Left(left));
            }
            Action::GiveUp => {
                self.gave_up = true;
                let left = self.family.survey(None).map(|(count, _)| count);
                self.plant.notify(&Notice::GaveUp(left));
            }
            Action::CloseIntake => {
                self.closed_at = Some(now);
                self.plant.app_exited();
                self.plant.close_intake();
            }
            Action::Flush => {
                let end_at = self.timers[Timer::End as usize].unwrap_or(now);
                self.flushing = true;
                self.signs = self.plant.signs_of_life();
                self.awaited = self.plant.outlets().into_iter().collect();
                if !self.awaited.is_empty() {
                    self.plant.notify(&Notice::Flushing(end_at.saturating_duration_since(now)));
                }
                self.plant.flush(end_at);
            }
            Action::Exit(ending) => self.exit(ending, event),
        }
    }

    fn spawn(&mut self) {
        let Some(command) = self.setup.command.clone() else { return self.feed(Event::Spawned) };
        // What was killed between two runs was not of this one.
        self.memory.new_kills(false);
        (self.uncaught, self.passed, self.suspended, self.released) = (None, None, false, false);
        self.killed = 0;
        if let (Some(terminal), Some(_)) = (&self.terminal, self.started) {
            terminal.restore();
        }
        let failed = |error| SpawnError::Failed(command.first().cloned().unwrap_or_default(), error);
        let pipes = Pipes::new(self.setup.pipe_size).map_err(|errno| failed(errno.into()));
        let app = pipes.and_then(|(pipes, readers)| {
            self.plant.attach(readers).map_err(failed)?;
            self.streams = Stream::ALL.into();
            spawn(&command, pipes, &self.setup.inherited, self.shared)
        });
        match app {
            Ok(app) => {
                // A later run is given the same ones.
                if self.setup.restart.when == When::Never {
                    self.setup.inherited.close_descriptors();
                }
                self.reaper.watch(app.pid());
                self.guard.app_born(Family::born(app.pid()));
                self.plant.started(app.pid());
                self.started = Some(clock::now());
                self.runs += 1;
                let why = self.setup.budget_why.clone();
                self.plant.notify(&Notice::Started {
                    pid: app.pid(),
                    budget: self.setup.budget,
                    why,
                    memory_kills_all: self.memory.kills_all(),
                });
                self.app = Some(app);
                self.feed(Event::Spawned);
            }
            Err(error) => {
                self.plant.notify(&Notice::SpawnFailed(error.to_string()));
                self.feed(Event::SpawnFailed(error.ending()));
            }
        }
    }

    fn replay(&mut self) {
        for (event, received) in std::mem::take(&mut self.remembered) {
            self.received = received;
            self.feed(event);
        }
        self.received = None;
    }

    fn relay(&mut self, signal: Signal, event: Event) {
        let Some(app) = &self.app else { return };
        let pid = app.pid();
        let is_stop = matches!(event, Event::Stop(_) | Event::SoftStop(_));
        let rewrite = self.setup.rewrites.iter().rev().find(|(from, _)| *from == signal.0);
        let sent = rewrite.map_or(Some(signal), |(_, to)| to.map(Signal));
        let Some(sent) = sent.filter(|_| self.setup.relay != RelayTo::None) else {
            if is_stop {
                self.family.all_told(clock::now(), false);
            }
            return self.plant.notify(&Notice::NotRelayed(signal));
        };
        if is_stop {
            self.family.was_told(pid);
            if !Family::catches(pid, sent) {
                self.uncaught = Some(sent);
            }
        }
        // The group was continued with us, and the app with the group.
        if signal == Signal::CONT && std::mem::take(&mut self.suspended) && !Family::is_stopped(pid) {
            return;
        }
        let stopped = is_stop && Family::is_stopped(pid);
        let result = app.signal(sent.0);
        if stopped {
            // A stop that waits behind a SIGSTOP is no stop.
            let _ = app.signal(libc::SIGCONT);
        }
        let others = match self.setup.relay {
            RelayTo::Group => self.family.relay(sent, pid, true, is_stop),
            RelayTo::Tree => self.family.relay(sent, pid, false, is_stop),
            RelayTo::App | RelayTo::None => 0,
        };
        match result {
            // It died; the news is under way.
            Ok(()) | Err(Errno::ESRCH) => self.plant.notify(&Notice::Relayed { signal, sent, others }),
            Err(errno) => self.plant.notify(&Notice::RelayFailed(signal, errno.desc().to_owned())),
        }
    }

    /// Stops ourselves after the app, so that the shell which started us sees its job stopped, as Ctrl-Z asks.
    pub(super) fn suspend(&mut self) {
        let own = nix::unistd::getpid().as_raw();
        if own != 1 {
            self.suspended = true;
            let _ = crate::sys::kill(own, libc::SIGSTOP);
        }
    }

    fn arm(&mut self, timer: Timer) {
        let now = clock::now();
        let at = self.plan.at(timer, now);
        self.timers[timer as usize] = Some(at);
        match timer {
            Timer::Linger => self.plant.notify(&Notice::Lingering(at.saturating_duration_since(now))),
            Timer::Restart => {
                if let State::BackOff(Ending::App(ending)) = self.machine.state() {
                    let delay = at.saturating_duration_since(now);
                    self.plant.notify(&Notice::Restarting { ending, delay });
                }
            }
            Timer::End if self.flushing => self.plant.set_end(at),
            _ => {}
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        if planted!(relay_after_reap) {
            self.relay(signal, Event::Stop(signal));
        }
        self.passed = Some(signal);
        let told = self.family.pass_on(signal);
        self.plant.notify(&Notice::PassedOn { signal, told: told.told, filters: told.filters });
    }

    fn kill_all(&mut self) {
        let app = self.app.as_ref().is_some_and(|app| app.signal(libc::SIGKILL).is_ok());
        let count = self.family.kill().max(usize::from(app && self.killed == 0));
        self.killed += count;
        if count > 0 {
            self.plant.notify(&Notice::Killed { count, app });
        }
    }

    fn exit(&mut self, ending: Ending, event: Event) {
        let now = clock::now();
        self.flush_end = match event {
            Event::FlushDone => FlushEnd::Done,
            Event::Fired(Timer::Stall) => FlushEnd::Stalled,
            Event::Interrupt => FlushEnd::Interrupted,
            _ => FlushEnd::Deadline,
        };
        if self.flush_end != FlushEnd::Done {
            self.plant.notify(&Notice::FlushCut(self.flush_end));
        }
        self.outcome = Some(Outcome {
            ending,
            runs: self.runs,
            stop: self.first_stop,
            killed: self.killed,
            gave_up: self.gave_up,
            unread: !self.streams.is_empty(),
            flush: self.closed_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at)),
            flush_end: self.flush_end,
            last_words_by: self.plan.last_words_by(now),
        });
    }
}
