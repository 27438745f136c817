//! The life of a run as a pure machine: `on(event) -> actions`. No I/O, no clock, no numbers: timers are names, which
//! [`crate::budget`] turns into instants, so that the machine is finite and is checked state by state (`model`).
//!
//! Invariants, proved over every reachable state of machine and environment: the app is never relayed to after its
//! reaping; the intake closes only when every descendant is gone or was given up after a KILL; a living app is killed on
//! a stated budget alone, and nobody is killed without a last call before; what is in the pipes when all are gone is
//! read; the app is run again only when all of its last run are gone and read, and never after a stop; the exit code is
//! that of the last run; from every state there is a way to the exit, which comes once.

#[cfg(test)]
mod leftover_tests;
#[cfg(test)]
mod model;
#[cfg(test)]
mod soft_tests;
mod table;
mod words;

pub use table::markdown;
pub use words::{Action, Cause, Event, Left, Stage, State, Timer};

use crate::{
    config::Leftovers,
    exit::{Ending, Status},
    signals::Signal,
};

/// The machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    state: State,
    /// The budget is stated, not assumed: the app may be killed on it.
    stated: bool,
    /// What is done about those whom the app leaves behind.
    leftovers: Leftovers,
    /// The terminal's user pressed Ctrl-C before.
    interrupted: bool,
    /// Somebody outlived a KILL: the app is not run again beside them.
    gave_up: bool,
}

impl Machine {
    /// At the start. `stated`: the user named the budget.
    pub const fn new(stated: bool) -> Self {
        Self { state: State::Starting, stated, leftovers: Leftovers::Term, interrupted: false, gave_up: false }
    }

    /// With another policy for leftovers than the usual one.
    pub const fn with_leftovers(self, leftovers: Leftovers) -> Self {
        Self { leftovers, ..self }
    }

    /// Where the run stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Takes an event; says what to do.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let (next, actions) = match self.state {
            State::Starting => self.starting(event),
            State::Spawning => spawning(event),
            State::Running { soft } => self.running(soft, event),
            State::Stopping { called } => self.stopping(called, event),
            State::Draining(ending, cause, stage) => self.draining(ending, cause, stage, event),
            State::Killing(ending, cause) => killing(ending, cause, event),
            State::Closing(ending, cause) => self.closing(ending, cause, event),
            State::BackOff(ending) => back_off(ending, event),
            State::Flushing(ending, cause) => self.flushing(ending, cause, event),
            State::Exit(_) => (self.state, vec![]),
        };
        self.state = next;
        self.interrupted |= event == Event::Interrupt;
        self.gave_up |= actions.contains(&Action::GiveUp);
        actions
    }

    fn starting(&self, event: Event) -> Step {
        match event {
            Event::Begin => (State::Spawning, vec![Action::Spawn]),
            Event::Stop(signal) | Event::Broadcast(signal) => stop_before_spawn(signal),
            Event::Interrupt => stop_before_spawn(Signal::INT),
            Event::SoftStop(_) | Event::Other(_) => (self.state, vec![Action::Remember]),
            Event::Spawned
            | Event::SpawnFailed(_)
            | Event::AppExited { .. }
            | Event::Remaining { .. }
            | Event::Gone
            | Event::IntakeDone { .. }
            | Event::FlushDone
            | Event::Fired(_) => self.ignore(),
        }
    }

    fn running(&self, soft: bool, event: Event) -> Step {
        match event {
            Event::Stop(signal) | Event::Broadcast(signal) => {
                let tell = if event == Event::Stop(signal) { Action::Relay(signal) } else { Action::AllTold(signal) };
                let mut actions = vec![Action::StartBudget, Action::Disarm(Timer::Soft), tell];
                actions.extend([Action::Hurry, Action::Arm(Timer::Kill)]);
                if self.stated {
                    actions.push(Action::Arm(Timer::LastCall));
                }
                (State::Stopping { called: false }, actions)
            }
            Event::SoftStop(signal) if soft => (self.state, vec![Action::Relay(signal)]),
            Event::SoftStop(signal) => {
                (State::Running { soft: true }, vec![Action::Relay(signal), Action::Arm(Timer::Soft)])
            }
            Event::Other(signal) => (self.state, vec![Action::Relay(signal)]),
            Event::Fired(Timer::Soft) => (State::Running { soft: false }, vec![]),
            // Leftovers that are waited for go on, and a soft stop arms no kill.
            Event::AppExited { ending, left }
                if soft && (self.leftovers != Leftovers::Wait || left == Left::Nobody) =>
            {
                let (next, rest) = self.app_exited(ending, Cause::Stop, left, false);
                let mut actions = vec![Action::Disarm(Timer::Soft), Action::Release];
                actions.extend([Action::BudgetFromSoftStop, Action::Hurry]);
                actions.extend(rest);
                (next, actions)
            }
            Event::AppExited { ending, left } => released(self.app_exited(ending, Cause::Itself, left, false)),
            Event::Gone => released(close(Ending::Own, Cause::Itself)),
            Event::Begin
            | Event::Spawned
            | Event::SpawnFailed(_)
            | Event::Interrupt
            | Event::Remaining { .. }
            | Event::IntakeDone { .. }
            | Event::FlushDone
            | Event::Fired(_) => self.ignore(),
        }
    }

    fn stopping(&self, called: bool, event: Event) -> Step {
        match event {
            Event::Stop(signal) | Event::SoftStop(signal) | Event::Other(signal) => {
                (self.state, vec![Action::Relay(signal)])
            }
            Event::Broadcast(signal) => (self.state, vec![Action::AllTold(signal)]),
            Event::Fired(Timer::LastCall) if self.stated && !called => {
                (State::Stopping { called: true }, vec![Action::LastCall])
            }
            Event::Fired(Timer::Kill) if self.stated => kill(None, Cause::Stop),
            Event::Fired(Timer::Kill) => (self.state, vec![Action::Interim]),
            Event::AppExited { ending, left } => released(self.app_exited(ending, Cause::Stop, left, called)),
            Event::Gone => released(close(Ending::Own, Cause::Stop)),
            Event::Begin
            | Event::Spawned
            | Event::SpawnFailed(_)
            | Event::Interrupt
            | Event::Remaining { .. }
            | Event::IntakeDone { .. }
            | Event::FlushDone
            | Event::Fired(_) => self.ignore(),
        }
    }

    fn draining(&self, ending: Ending, cause: Cause, stage: Stage, event: Event) -> Step {
        let called = stage == Stage::Called;
        match event {
            Event::Stop(_) | Event::Broadcast(_) | Event::SoftStop(_) if cause == Cause::Itself => {
                self.stop_while_draining(ending, stage, event)
            }
            Event::Broadcast(signal) => (self.state, vec![Action::AllTold(signal)]),
            Event::Remaining { only_filters: true } if stage == Stage::Passed => {
                (State::Draining(ending, cause, Stage::Lingering), vec![Action::Arm(Timer::Linger)])
            }
            Event::Fired(Timer::Linger) if stage == Stage::Lingering && self.leftovers == Leftovers::Kill => {
                kill(Some(ending), cause)
            }
            Event::Fired(Timer::Linger) if stage == Stage::Lingering => last_call(ending, cause),
            Event::Fired(Timer::LastCall) if !called => last_call(ending, cause),
            // They are the app now, and no app is killed on a guess.
            Event::Fired(Timer::Kill) if self.leftovers == Leftovers::Wait && !self.stated => {
                (self.state, vec![Action::Interim])
            }
            Event::Fired(Timer::Kill) => kill(Some(ending), cause),
            // A second Ctrl-C: the user wants out. One more after the last call does not wait either.
            Event::Interrupt if self.interrupted && (called || self.leftovers == Leftovers::Kill) => {
                kill(Some(ending), cause)
            }
            Event::Interrupt if self.interrupted => last_call(ending, cause),
            Event::Gone => close(ending, cause),
            Event::Stop(_)
            | Event::SoftStop(_)
            | Event::Other(_)
            | Event::Begin
            | Event::Spawned
            | Event::SpawnFailed(_)
            | Event::Interrupt
            | Event::AppExited { .. }
            | Event::Remaining { .. }
            | Event::IntakeDone { .. }
            | Event::FlushDone
            | Event::Fired(_) => self.ignore(),
        }
    }

    /// A first stop when the app is gone and others are not.
    fn stop_while_draining(&self, ending: Ending, stage: Stage, event: Event) -> Step {
        let mut actions = vec![Action::StartBudget, Action::Hurry];
        let (Event::Stop(signal) | Event::Broadcast(signal) | Event::SoftStop(signal)) = event else {
            return self.ignore();
        };
        let stage = match (event, stage) {
            (Event::SoftStop(_), Stage::Waiting) => return (self.state, vec![Action::PassOn(signal)]),
            (Event::Stop(_), Stage::Lingering) if self.leftovers != Leftovers::Kill => {
                actions.push(Action::Disarm(Timer::Linger));
                Stage::Passed
            }
            _ => stage,
        };
        // A linger that was asked for may have put these beyond the budget.
        actions.push(Action::Arm(Timer::Kill));
        let may_call = match self.leftovers {
            Leftovers::Term => stage != Stage::Called,
            Leftovers::Wait => stage != Stage::Called && self.stated,
            Leftovers::Kill | Leftovers::Leave => false,
        };
        if may_call {
            actions.push(Action::Arm(Timer::LastCall));
        }
        match event {
            Event::Broadcast(_) => actions.push(Action::AllTold(signal)),
            Event::Stop(_) if matches!(stage, Stage::Passed | Stage::Waiting) => actions.push(Action::PassOn(signal)),
            _ => {}
        }
        (State::Draining(ending, Cause::Stop, stage), actions)
    }

    /// From the app's reaping on. `called`: its descendants had their last call while it lived.
    fn app_exited(&self, ending: Ending, cause: Cause, left: Left, called: bool) -> Step {
        let draining = |stage, actions| (State::Draining(ending, cause, stage), actions);
        let pass_on = match left {
            Left::Nobody => return close(ending, cause),
            Left::Unaware(signal) => vec![Action::PassOn(signal)],
            Left::Others => vec![],
        };
        let arm = |timers: &[Timer]| timers.iter().copied().map(Action::Arm).collect::<Vec<_>>();
        match self.leftovers {
            Leftovers::Leave => {
                let (next, rest) = close(ending, cause);
                (next, [vec![Action::Leave], rest].concat())
            }
            _ if called => draining(Stage::Called, arm(&[Timer::Kill])),
            Leftovers::Wait if cause == Cause::Itself => draining(Stage::Waiting, pass_on),
            Leftovers::Wait if self.stated => {
                draining(Stage::Waiting, [pass_on, arm(&[Timer::Kill, Timer::LastCall])].concat())
            }
            Leftovers::Wait => draining(Stage::Waiting, [pass_on, arm(&[Timer::Kill])].concat()),
            Leftovers::Kill => draining(Stage::Lingering, arm(&[Timer::Linger, Timer::Kill])),
            Leftovers::Term if pass_on.is_empty() => {
                draining(Stage::Lingering, arm(&[Timer::Linger, Timer::Kill, Timer::LastCall]))
            }
            Leftovers::Term => draining(Stage::Passed, [pass_on, arm(&[Timer::Kill, Timer::LastCall])].concat()),
        }
    }

    fn closing(&self, ending: Ending, cause: Cause, event: Event) -> Step {
        match event {
            // Never after a stop, and Ctrl-C is one.
            Event::IntakeDone { again: true } if cause == Cause::Itself && !self.interrupted && !self.gave_up => {
                (State::BackOff(ending), vec![Action::Disarm(Timer::End), Action::Arm(Timer::Restart)])
            }
            Event::IntakeDone { .. } => {
                let mut actions = vec![Action::Flush];
                if cause == Cause::Itself {
                    actions.push(Action::Arm(Timer::Stall));
                }
                (State::Flushing(ending, cause), actions)
            }
            Event::Stop(_) | Event::Broadcast(_) | Event::SoftStop(_) if cause == Cause::Itself => {
                let actions = vec![Action::StartBudget, Action::Hurry, Action::Arm(Timer::End)];
                (State::Closing(ending, Cause::Stop), actions)
            }
            Event::Interrupt if !self.interrupted && cause == Cause::Itself => self.closing(ending, cause, INTERRUPT),
            Event::Interrupt if self.interrupted => exit(ending),
            Event::Fired(Timer::End) => exit(ending),
            // It was given up after a KILL, and ended after all.
            Event::AppExited { ending, .. } => (State::Closing(ending, cause), vec![]),
            Event::Stop(_)
            | Event::Broadcast(_)
            | Event::SoftStop(_)
            | Event::Other(_)
            | Event::Begin
            | Event::Spawned
            | Event::SpawnFailed(_)
            | Event::Interrupt
            | Event::Remaining { .. }
            | Event::Gone
            | Event::FlushDone
            | Event::Fired(_) => self.ignore(),
        }
    }

    fn flushing(&self, ending: Ending, cause: Cause, event: Event) -> Step {
        match event {
            Event::FlushDone => exit(ending),
            Event::Stop(_) | Event::Broadcast(_) | Event::SoftStop(_) if cause == Cause::Itself => {
                let mut actions = vec![Action::StartBudget, Action::Hurry];
                actions.extend([Action::Disarm(Timer::Stall), Action::Arm(Timer::End)]);
                (State::Flushing(ending, Cause::Stop), actions)
            }
            Event::Interrupt if !self.interrupted && cause == Cause::Itself => self.flushing(ending, cause, INTERRUPT),
            Event::Interrupt if self.interrupted => exit(ending),
            Event::Fired(Timer::End) => exit(ending),
            Event::Fired(Timer::Stall) if cause == Cause::Itself => exit(ending),
            // It was given up after a KILL, and ended after all.
            Event::AppExited { ending, .. } => (State::Flushing(ending, cause), vec![]),
            Event::Stop(_)
            | Event::Broadcast(_)
            | Event::SoftStop(_)
            | Event::Other(_)
            | Event::Begin
            | Event::Spawned
            | Event::SpawnFailed(_)
            | Event::Interrupt
            | Event::Remaining { .. }
            | Event::Gone
            | Event::IntakeDone { .. }
            | Event::Fired(_) => self.ignore(),
        }
    }

    fn ignore(&self) -> Step {
        (self.state, vec![])
    }
}

type Step = (State, Vec<Action>);

/// A first Ctrl-C when the app is gone shortens the end as any stop does.
const INTERRUPT: Event = Event::Stop(Signal::INT);

/// An app that was killed and not reaped ended so.
const KILLED: Ending = Ending::App(Status::Signaled(Signal::KILL));

fn spawning(event: Event) -> Step {
    match event {
        Event::Spawned => (State::Running { soft: false }, vec![Action::Replay]),
        Event::SpawnFailed(ending) => {
            let (next, mut actions) = close(ending, Cause::Itself);
            actions.push(Action::Replay);
            (next, actions)
        }
        Event::Stop(_) | Event::Broadcast(_) | Event::SoftStop(_) | Event::Other(_) => {
            (State::Spawning, vec![Action::Remember])
        }
        Event::Begin
        | Event::Interrupt
        | Event::AppExited { .. }
        | Event::Remaining { .. }
        | Event::Gone
        | Event::IntakeDone { .. }
        | Event::FlushDone
        | Event::Fired(_) => (State::Spawning, vec![]),
    }
}

fn back_off(ending: Ending, event: Event) -> Step {
    match event {
        Event::Fired(Timer::Restart) => (State::Spawning, vec![Action::Spawn]),
        Event::Stop(_) | Event::Broadcast(_) | Event::SoftStop(_) | Event::Interrupt => {
            let mut actions = vec![Action::StartBudget, Action::Hurry, Action::Disarm(Timer::Restart)];
            actions.extend([Action::Arm(Timer::End), Action::Flush]);
            (State::Flushing(ending, Cause::Stop), actions)
        }
        Event::Other(_)
        | Event::Begin
        | Event::Spawned
        | Event::SpawnFailed(_)
        | Event::AppExited { .. }
        | Event::Remaining { .. }
        | Event::Gone
        | Event::IntakeDone { .. }
        | Event::FlushDone
        | Event::Fired(_) => (State::BackOff(ending), vec![]),
    }
}

fn killing(ending: Option<Ending>, cause: Cause, event: Event) -> Step {
    match event {
        Event::AppExited { ending, left: Left::Nobody } => released(close(ending, cause)),
        Event::AppExited { ending, left: Left::Others | Left::Unaware(_) } => {
            released((State::Killing(Some(ending), cause), vec![Action::KillAll]))
        }
        // A KILL frees the children of those it reached, and these are ours now.
        Event::Remaining { .. } => (State::Killing(ending, cause), vec![Action::KillAll]),
        Event::Gone => close(ending.unwrap_or(KILLED), cause),
        Event::Fired(Timer::GiveUp) => {
            let (next, rest) = close(ending.unwrap_or(KILLED), cause);
            let mut actions = vec![Action::GiveUp, Action::Release];
            actions.extend(rest);
            (next, actions)
        }
        Event::Stop(_) | Event::Broadcast(_) | Event::SoftStop(_) if cause == Cause::Itself => {
            (State::Killing(ending, Cause::Stop), vec![Action::StartBudget, Action::Hurry])
        }
        Event::Stop(_)
        | Event::Broadcast(_)
        | Event::SoftStop(_)
        | Event::Other(_)
        | Event::Begin
        | Event::Spawned
        | Event::SpawnFailed(_)
        | Event::Interrupt
        | Event::IntakeDone { .. }
        | Event::FlushDone
        | Event::Fired(_) => (State::Killing(ending, cause), vec![]),
    }
}

fn stop_before_spawn(signal: Signal) -> Step {
    let (next, rest) = close(Ending::StoppedBeforeSpawn(signal), Cause::Stop);
    let mut actions = vec![Action::StartBudget, Action::Hurry];
    actions.extend(rest);
    (next, actions)
}

fn released((next, rest): Step) -> Step {
    let mut actions = vec![Action::Release];
    actions.extend(rest);
    (next, actions)
}

fn last_call(ending: Ending, cause: Cause) -> Step {
    let actions = vec![Action::Disarm(Timer::Linger), Action::Disarm(Timer::LastCall), Action::LastCall];
    (State::Draining(ending, cause, Stage::Called), actions)
}

fn kill(ending: Option<Ending>, cause: Cause) -> Step {
    let mut actions = vec![Action::Disarm(Timer::Linger), Action::Disarm(Timer::LastCall), Action::Disarm(Timer::Kill)];
    actions.extend([Action::KillAll, Action::Arm(Timer::GiveUp)]);
    (State::Killing(ending, cause), actions)
}

fn close(ending: Ending, cause: Cause) -> Step {
    let mut actions: Vec<Action> =
        [Timer::Linger, Timer::LastCall, Timer::Kill, Timer::GiveUp].map(Action::Disarm).to_vec();
    actions.extend([Action::CloseIntake, Action::Arm(Timer::End)]);
    (State::Closing(ending, cause), actions)
}

fn exit(ending: Ending) -> Step {
    (State::Exit(ending), vec![Action::Exit(ending)])
}
