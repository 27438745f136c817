//! A soft stop: a signal that may be the platform's stop, or a request for a thread dump. What the search can't judge, since either
//! reading keeps the promises.

use super::{Action, Cause, Ending, Event, Left, Machine, State, Timer};
use crate::{exit::Status, signals::Signal};

const SOFT: Event = Event::SoftStop(Signal::QUIT);
const EXITED: Ending = Ending::App(Status::Exited(0));
const GONE: Event = Event::AppExited { ending: EXITED, left: Left::Nobody };

fn running() -> Machine {
    let mut machine = Machine::new(true);
    machine.on(Event::Begin);
    machine.on(Event::Spawned);
    machine
}

#[test]
fn an_app_that_ends_after_a_soft_stop_was_stopped_by_it() {
    let mut machine = running();
    assert_eq!(machine.on(SOFT), [Action::Relay(Signal::QUIT), Action::Arm(Timer::Soft)]);
    assert!(machine.on(GONE).contains(&Action::BudgetFromSoftStop));
    assert_eq!(machine.state(), State::Closing(EXITED, Cause::Stop));
}

#[test]
fn an_app_that_ends_long_after_a_soft_stop_ended_by_itself() {
    let mut machine = running();
    machine.on(SOFT);
    assert_eq!(machine.on(Event::Fired(Timer::Soft)), []);
    assert!(!machine.on(GONE).contains(&Action::BudgetFromSoftStop));
    assert_eq!(machine.state(), State::Closing(EXITED, Cause::Itself));
}

#[test]
fn a_second_soft_stop_is_relayed_and_the_first_one_keeps_the_time() {
    let mut machine = running();
    machine.on(SOFT);
    assert_eq!(machine.on(SOFT), [Action::Relay(Signal::QUIT)], "the budget counts from the first");
    assert_eq!(machine.state(), State::Running { soft: true });
}
