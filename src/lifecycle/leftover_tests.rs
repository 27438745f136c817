//! What becomes of those whom an app leaves behind, timer by timer: choices that the search can't judge, since it holds each
//! of them for as good as the other.

use super::{Action, Cause, Ending, Event, Left, Machine, Stage, State, Timer};
use crate::{
    config::Leftovers::{self, Kill, Leave, Term, Wait},
    exit::Status,
    signals::Signal,
};

const EXITED: Ending = Ending::App(Status::Exited(0));
const STOP: Event = Event::Stop(Signal::TERM);
const LAST_CALL: Event = Event::Fired(Timer::LastCall);
const LINGERED: Event = Event::Fired(Timer::Linger);

fn exited(left: Left) -> Event {
    Event::AppExited { ending: EXITED, left }
}

/// A machine after these events, and what the last of them asked for.
fn after(stated: bool, leftovers: Leftovers, events: &[Event]) -> (Machine, Vec<Action>) {
    let mut machine = Machine::new(stated).with_leftovers(leftovers);
    let begin = [Event::Begin, Event::Spawned];
    let actions = begin.iter().chain(events).map(|&event| machine.on(event)).last().unwrap_or_default();
    (machine, actions)
}

/// Where it stands then.
fn state(stated: bool, leftovers: Leftovers, events: &[Event]) -> State {
    after(stated, leftovers, events).0.state()
}

/// What the last event asked for.
fn asked(stated: bool, leftovers: Leftovers, events: &[Event]) -> Vec<Action> {
    after(stated, leftovers, events).1
}

const fn draining(cause: Cause, stage: Stage) -> State {
    State::Draining(EXITED, cause, stage)
}

#[test]
fn descendants_have_one_last_call_on_a_stated_budget_and_none_while_the_app_lives_on_an_assumed_one() {
    assert_eq!(asked(true, Term, &[STOP, LAST_CALL]), [Action::LastCall]);
    assert_eq!(asked(true, Term, &[STOP, LAST_CALL, LAST_CALL]), []);
    assert_eq!(asked(false, Term, &[STOP, LAST_CALL]), [], "no app is hurried on a guess");
}

#[test]
fn whom_nobody_told_of_the_stop_is_told_when_the_app_died_of_it() {
    let unaware = exited(Left::Unaware(Signal::TERM));
    let told = asked(true, Term, &[STOP, unaware]);
    assert!(told.contains(&Action::PassOn(Signal::TERM)) && !told.contains(&Action::Arm(Timer::Linger)), "{told:?}");
    assert_eq!(state(true, Term, &[STOP, unaware]), draining(Cause::Stop, Stage::Passed));
    // Filters end by themselves when what they read ends: they get the linger.
    let filters = Event::Remaining { only_filters: true };
    assert_eq!(asked(true, Term, &[STOP, unaware, filters]), [Action::Arm(Timer::Linger)]);
    assert_eq!(state(true, Term, &[STOP, unaware, filters]), draining(Cause::Stop, Stage::Lingering));
    assert_eq!(asked(true, Term, &[STOP, unaware, Event::Remaining { only_filters: false }]), []);
    assert_eq!(asked(true, Term, &[STOP, exited(Left::Others), filters]), [], "they linger already");
}

#[test]
fn others_linger_and_then_have_their_last_call() {
    let others = exited(Left::Others);
    for events in [&[others][..], &[STOP, others]] {
        let actions = asked(true, Term, events);
        let timers = [Timer::Linger, Timer::Kill, Timer::LastCall].map(Action::Arm);
        assert!(timers.iter().all(|timer| actions.contains(timer)), "{actions:?}");
        assert!(!actions.iter().any(|action| matches!(action, Action::PassOn(_))), "{actions:?}");
        let called = [events, &[LINGERED]].concat();
        assert!(asked(true, Term, &called).contains(&Action::LastCall));
        let again = [&called[..], &[LAST_CALL]].concat();
        assert_eq!(asked(true, Term, &again), [], "one is enough");
    }
    assert_eq!(asked(true, Wait, &[others, LINGERED]), [], "who is waited for does not linger");
}

#[test]
fn with_kill_the_linger_ends_in_a_kill_and_otherwise_in_a_last_call() {
    let events = [exited(Left::Others), LINGERED];
    assert!(asked(true, Kill, &events).contains(&Action::KillAll));
    assert!(!asked(true, Term, &events).contains(&Action::KillAll));
}

#[test]
fn a_first_stop_after_the_apps_end_reaches_who_lingers() {
    let lingering = [exited(Left::Others), STOP];
    let actions = asked(true, Term, &lingering);
    assert!(actions.contains(&Action::Disarm(Timer::Linger)) && actions.contains(&Action::PassOn(Signal::TERM)));
    assert!(actions.contains(&Action::Arm(Timer::LastCall)), "{actions:?}");
    assert_eq!(state(true, Term, &lingering), draining(Cause::Stop, Stage::Passed));
    // With kill they keep their linger, are not told, and have no last call.
    let actions = asked(true, Kill, &lingering);
    assert_eq!(actions, [Action::StartBudget, Action::Hurry, Action::Arm(Timer::Kill)]);
    assert_eq!(state(true, Kill, &lingering), draining(Cause::Stop, Stage::Lingering));
    // After the last call there is nothing more to say.
    let called = [exited(Left::Others), LINGERED, STOP];
    assert_eq!(asked(true, Term, &called), [Action::StartBudget, Action::Hurry, Action::Arm(Timer::Kill)]);
    // A stop that went to everybody is not repeated.
    let actions = asked(true, Term, &[exited(Left::Others), Event::Broadcast(Signal::TERM)]);
    assert!(actions.contains(&Action::AllTold(Signal::TERM)), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::PassOn(_))), "{actions:?}");
}

#[test]
fn who_is_waited_for_is_the_app_now() {
    let waiting = [exited(Left::Others)];
    assert_eq!(state(true, Wait, &waiting), draining(Cause::Itself, Stage::Waiting));
    assert_eq!(asked(true, Wait, &[waiting[0], Event::SoftStop(Signal::QUIT)]), [Action::PassOn(Signal::QUIT)]);
    let last_call = Action::Arm(Timer::LastCall);
    for (stated, events) in [(true, &[waiting[0], STOP]), (true, &[STOP, waiting[0]])] {
        assert!(asked(stated, Wait, events).contains(&last_call), "{events:?}");
        assert!(!asked(false, Wait, events).contains(&last_call), "no last call on a guess: {events:?}");
    }
    assert!(asked(true, Wait, &[waiting[0], STOP]).contains(&Action::PassOn(Signal::TERM)));
    let kill = Event::Fired(Timer::Kill);
    assert_eq!(asked(false, Wait, &[STOP, waiting[0], kill]), [Action::Interim]);
    assert!(asked(true, Wait, &[STOP, waiting[0], kill]).contains(&Action::KillAll));
    assert_eq!(asked(true, Wait, &[STOP, LAST_CALL, waiting[0]]), [Action::Release, Action::Arm(Timer::Kill)]);
}

#[test]
fn with_leave_nobody_is_waited_for() {
    let events = [exited(Left::Others)];
    assert!(asked(true, Leave, &events).contains(&Action::Leave));
    assert_eq!(state(true, Leave, &events), State::Closing(EXITED, Cause::Itself));
}

#[test]
fn a_second_ctrl_c_calls_and_a_third_kills() {
    let interrupt = Event::Interrupt;
    let lingering = [exited(Left::Others), interrupt];
    assert_eq!(asked(true, Term, &lingering), [], "the first one has reached them through the terminal");
    let second = [&lingering[..], &[interrupt]].concat();
    assert!(asked(true, Term, &second).contains(&Action::LastCall));
    assert!(asked(true, Kill, &second).contains(&Action::KillAll), "with kill there is no last call");
    let third = [&second[..], &[interrupt]].concat();
    assert!(asked(true, Term, &third).contains(&Action::KillAll));
}

#[test]
fn ctrl_c_in_the_closing_is_a_stop_once_and_no_restart_follows() {
    let closing = [exited(Left::Nobody)];
    assert_eq!(state(true, Term, &[closing[0], Event::Interrupt]), State::Closing(EXITED, Cause::Stop));
    let again = Event::IntakeDone { again: true };
    assert_eq!(state(true, Term, &[closing[0], again]), State::BackOff(EXITED));
    assert!(matches!(state(true, Term, &[closing[0], Event::Interrupt, again]), State::Flushing(..)));
    assert!(
        matches!(state(true, Term, &[Event::Interrupt, closing[0], again]), State::Flushing(..)),
        "it was the app's"
    );
    // A second one does not wait, wherever it comes.
    let twice = [Event::Interrupt, Event::Interrupt];
    assert_eq!(state(true, Term, &[&closing[..], &twice].concat()), State::Exit(EXITED));
    assert_eq!(state(true, Term, &[&[twice[0], closing[0]][..], &[twice[1]]].concat()), State::Exit(EXITED));
    let flushing = [closing[0], Event::IntakeDone { again: false }];
    assert_eq!(state(true, Term, &[&flushing[..], &[twice[0]]].concat()), State::Flushing(EXITED, Cause::Stop));
    assert_eq!(state(true, Term, &[&flushing[..], &twice].concat()), State::Exit(EXITED));
    assert!(matches!(state(true, Term, &[closing[0], again, twice[0]]), State::Flushing(..)), "a back-off ends");
}

#[test]
fn a_flush_that_stalls_ends_early_unless_a_stop_gave_it_its_time() {
    let done = Event::IntakeDone { again: false };
    let (by_itself, stopped) = ([exited(Left::Nobody), done], [STOP, exited(Left::Nobody), done]);
    let (arm, stall) = (Action::Arm(Timer::Stall), Event::Fired(Timer::Stall));
    assert!(asked(true, Term, &by_itself).contains(&arm));
    assert!(!asked(true, Term, &stopped).contains(&arm));
    assert_eq!(state(true, Term, &[&by_itself[..], &[stall]].concat()), State::Exit(EXITED));
    assert_eq!(state(true, Term, &[&stopped[..], &[stall]].concat()), State::Flushing(EXITED, Cause::Stop));
    // The first Ctrl-C after a stop says nothing new.
    assert_eq!(asked(true, Term, &[&stopped[..], &[Event::Interrupt]].concat()), []);
}
