//! Planted bugs: machines that are wrong in one place. The search must find each.

use super::{Action, Cause, Ending, Event, Left, Leftovers, Machine, State, Timer};
use crate::{lifecycle::Stage, signals::Signal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    ExitAtTheAppsDeath,
    StopDuringSpawnLost,
    SpawnAfterStop,
    RelayAfterReaping,
    KillOnAnAssumedBudget,
    SoftStopArmsTheKill,
    NoLastCall,
    SecondStopMovesTheBudget,
    FlushBeforeThePipesAreRead,
    IntakeNeverClosed,
    IntakeClosedAtTheAppsDeath,
    SurvivorsWaitedForForEver,
    FlushWithoutEnd,
    LeftoversUnbounded,
    ExitCodeLost,
    ExitTwice,
    CaughtStopPassedOn,
    FiltersNotSpared,
    InterruptRelayed,
    RememberedNotReplayed,
    PassThroughWaitedFor,
    SecondTermEndsTheFlush,
    AppSpared,
    BroadcastRelayed,
    BroadcastPassedOn,
    EarlyBroadcastForgotten,
    LeaversWaitedFor,
    AwaitedKilled,
    RestartAfterAStop,
    RestartAfterCtrlC,
    RestartDuringAStop,
    RestartBesideLeftovers,
    RestartBesideTheUnkillable,
    RestartBeforeThePipesAreRead,
    EndLeftArmed,
    RestartForgotten,
}

impl Bug {
    pub(super) const ALL: [Self; 36] = [
        Self::ExitAtTheAppsDeath,
        Self::StopDuringSpawnLost,
        Self::SpawnAfterStop,
        Self::RelayAfterReaping,
        Self::KillOnAnAssumedBudget,
        Self::SoftStopArmsTheKill,
        Self::NoLastCall,
        Self::SecondStopMovesTheBudget,
        Self::FlushBeforeThePipesAreRead,
        Self::IntakeNeverClosed,
        Self::IntakeClosedAtTheAppsDeath,
        Self::SurvivorsWaitedForForEver,
        Self::FlushWithoutEnd,
        Self::LeftoversUnbounded,
        Self::ExitCodeLost,
        Self::ExitTwice,
        Self::CaughtStopPassedOn,
        Self::FiltersNotSpared,
        Self::InterruptRelayed,
        Self::RememberedNotReplayed,
        Self::PassThroughWaitedFor,
        Self::SecondTermEndsTheFlush,
        Self::AppSpared,
        Self::BroadcastRelayed,
        Self::BroadcastPassedOn,
        Self::EarlyBroadcastForgotten,
        Self::LeaversWaitedFor,
        Self::AwaitedKilled,
        Self::RestartAfterAStop,
        Self::RestartAfterCtrlC,
        Self::RestartDuringAStop,
        Self::RestartBesideLeftovers,
        Self::RestartBesideTheUnkillable,
        Self::RestartBeforeThePipesAreRead,
        Self::EndLeftArmed,
        Self::RestartForgotten,
    ];
}

impl Bug {
    /// Shows where the app is run again, and nowhere else.
    pub(super) fn is_of_restarts(self) -> bool {
        self as usize >= Self::RestartAfterAStop as usize
    }
}

/// The machine's answer, or a wrong one.
pub(super) fn on(bug: Option<Bug>, machine: &mut Machine, event: Event) -> Vec<Action> {
    let state = machine.state();
    let Some(bug) = bug else { return machine.on(event) };
    let without = |machine: &mut Machine, action: Action| {
        let mut actions = machine.on(event);
        actions.retain(|&other| other != action);
        actions
    };
    match (bug, event, state) {
        (Bug::ExitAtTheAppsDeath, Event::AppExited { ending, left: Left::Others }, _) => {
            machine.on(Event::AppExited { ending, left: Left::Nobody })
        }
        (Bug::StopDuringSpawnLost, Event::Stop(_), State::Spawning)
        | (Bug::SpawnAfterStop, Event::Stop(_), State::Starting) => vec![],
        (Bug::RelayAfterReaping, Event::Stop(signal), State::Draining(..)) => vec![Action::Relay(signal)],
        (Bug::KillOnAnAssumedBudget, _, _) => {
            machine.stated = true;
            machine.on(event)
        }
        (Bug::SoftStopArmsTheKill, Event::SoftStop(signal), State::Running { .. }) => machine.on(Event::Stop(signal)),
        (Bug::NoLastCall, _, _) => without(machine, Action::LastCall),
        (Bug::SecondStopMovesTheBudget, Event::Stop(signal), State::Stopping { .. }) => {
            vec![Action::StartBudget, Action::Relay(signal)]
        }
        (Bug::FlushBeforeThePipesAreRead, Event::Gone, State::Draining(ending, cause, _)) => {
            machine.state = State::Flushing(ending, cause);
            vec![Action::CloseIntake, Action::Flush, Action::Arm(Timer::End)]
        }
        (Bug::IntakeNeverClosed, Event::Gone, _) => without(machine, Action::CloseIntake),
        (Bug::IntakeClosedAtTheAppsDeath, Event::AppExited { left: Left::Unaware(_), .. }, _) => {
            let mut actions = machine.on(event);
            actions.push(Action::CloseIntake);
            actions
        }
        (Bug::SurvivorsWaitedForForEver, _, _) => without(machine, Action::Arm(Timer::GiveUp)),
        (Bug::FlushWithoutEnd, _, _) => without(machine, Action::Arm(Timer::End)),
        (Bug::LeftoversUnbounded, Event::AppExited { .. }, _) => without(machine, Action::Arm(Timer::Kill)),
        (Bug::ExitCodeLost, Event::FlushDone, State::Flushing(..)) => {
            machine.state = State::Exit(Ending::Own);
            vec![Action::Exit(Ending::Own)]
        }
        (Bug::ExitTwice, Event::Fired(Timer::End), State::Exit(ending)) => vec![Action::Exit(ending)],
        (Bug::CaughtStopPassedOn, Event::AppExited { ending, left: Left::Others }, _) => {
            let mut actions = machine.on(Event::AppExited { ending, left: Left::Others });
            actions.push(Action::PassOn(Signal::TERM));
            actions
        }
        (
            Bug::FiltersNotSpared,
            Event::Remaining { only_filters: true },
            State::Draining(ending, cause, Stage::Passed),
        ) => {
            machine.state = State::Draining(ending, cause, Stage::Called);
            vec![Action::LastCall]
        }
        (Bug::InterruptRelayed, Event::Interrupt, State::Running { .. }) => vec![Action::Relay(Signal::INT)],
        (Bug::RememberedNotReplayed, _, _) => without(machine, Action::Replay),
        (Bug::PassThroughWaitedFor, _, _) => without(machine, Action::Release),
        (Bug::SecondTermEndsTheFlush, Event::Stop(_), State::Flushing(ending, Cause::Stop)) => {
            machine.state = State::Exit(ending);
            vec![Action::Exit(ending)]
        }
        (Bug::AppSpared, Event::Fired(Timer::Kill), State::Stopping { .. }) => vec![],
        (Bug::BroadcastRelayed, Event::Broadcast(signal), State::Running { .. })
        | (Bug::BroadcastPassedOn, Event::Broadcast(signal), State::Draining(..)) => machine.on(Event::Stop(signal)),
        (Bug::EarlyBroadcastForgotten, Event::Broadcast(_), State::Spawning) => vec![],
        (Bug::LeaversWaitedFor, Event::AppExited { ending, left: Left::Others }, _)
            if machine.leftovers == Leftovers::Leave =>
        {
            machine.state = State::Draining(ending, Cause::Itself, Stage::Waiting);
            vec![Action::Release]
        }
        (Bug::AwaitedKilled, _, _) if machine.leftovers == Leftovers::Wait => {
            machine.leftovers = Leftovers::Term;
            machine.on(event)
        }
        (Bug::RestartAfterAStop, Event::IntakeDone { again: true }, State::Closing(ending, Cause::Stop)) => {
            machine.state = State::Closing(ending, Cause::Itself);
            machine.on(event)
        }
        (Bug::RestartAfterCtrlC, Event::IntakeDone { .. }, _) => {
            machine.interrupted = false;
            machine.on(event)
        }
        (Bug::RestartDuringAStop, Event::Stop(_), State::BackOff(_)) => vec![],
        (Bug::RestartBesideLeftovers, Event::AppExited { ending, left: Left::Others }, State::Running { .. }) => {
            machine.state = State::BackOff(ending);
            vec![Action::Release, Action::Arm(Timer::Restart)]
        }
        (Bug::RestartBesideTheUnkillable, Event::IntakeDone { .. }, _) => {
            machine.gave_up = false;
            machine.on(event)
        }
        (Bug::RestartBeforeThePipesAreRead, Event::Gone, State::Draining(ending, Cause::Itself, _)) => {
            machine.state = State::BackOff(ending);
            vec![Action::Disarm(Timer::LastCall), Action::Disarm(Timer::Kill), Action::Arm(Timer::Restart)]
        }
        (Bug::EndLeftArmed, Event::IntakeDone { again: true }, _) => without(machine, Action::Disarm(Timer::End)),
        (Bug::RestartForgotten, _, _) => without(machine, Action::Arm(Timer::Restart)),
        _ => machine.on(event),
    }
}
