//! The machine's table as Markdown, made by asking the machine itself. A test compares it with docs/ARCHITECTURE.md.

use super::{Action, Cause, Ending, Event, Left, Leftovers, Machine, Signal, Stage, State, Status, Timer};
use std::fmt::Write;

/// The table: one row for each state and event that does something; events without a row are ignored there.
pub fn markdown() -> String {
    let mut table = String::from("| state | event | then | next state |\n|---|---|---|---|\n");
    for (name, states) in rows() {
        for event in events() {
            let mut cells: Vec<(String, Vec<&str>)> = Vec::new();
            for &(condition, machine) in &states {
                let cell = cell(machine, event);
                match cells.iter_mut().find(|(known, _)| *known == cell) {
                    Some((_, conditions)) => conditions.push(condition),
                    None => cells.push((cell, vec![condition])),
                }
            }
            let all_alike = cells.len() == 1;
            for (cell, conditions) in cells.iter().filter(|(cell, _)| !cell.is_empty()) {
                let condition = if all_alike { String::new() } else { format!(" ({})", conditions.join("; ")) };
                // Writing to a String cannot fail.
                let _ = writeln!(table, "| {name}{condition} | {} | {cell} |", event_name(event));
            }
        }
    }
    table
}

const APP: Ending = Ending::App(Status::Exited(0));

type Row = (&'static str, Vec<(&'static str, Machine)>);

fn rows() -> Vec<Row> {
    let of =
        |state, stated, interrupted| Machine { state, stated, leftovers: Leftovers::Term, interrupted, gave_up: false };
    let plain = |state| vec![("", of(state, true, false))];
    let budget = |state| vec![("stated budget", of(state, true, false)), ("assumed budget", of(state, false, false))];
    let ending = |state: fn(Cause) -> State| {
        vec![
            ("by itself", of(state(Cause::Itself), true, false)),
            ("by itself, after Ctrl-C", of(state(Cause::Itself), true, true)),
            ("stopped", of(state(Cause::Stop), true, false)),
            ("stopped, after Ctrl-C", of(state(Cause::Stop), true, true)),
        ]
    };
    vec![
        ("Starting", plain(State::Starting)),
        ("Spawning", plain(State::Spawning)),
        ("Running", budget(State::Running { soft: false })),
        ("Running, soft stop", budget(State::Running { soft: true })),
        ("Stopping", budget(State::Stopping { called: false })),
        ("Stopping, called", plain(State::Stopping { called: true })),
        ("Draining, passed", ending(|cause| State::Draining(APP, cause, Stage::Passed))),
        ("Draining, lingering", ending(|cause| State::Draining(APP, cause, Stage::Lingering))),
        ("Draining, called", ending(|cause| State::Draining(APP, cause, Stage::Called))),
        ("Killing", ending(|cause| State::Killing(None, cause))),
        ("Closing", ending(|cause| State::Closing(APP, cause))),
        ("BackOff", plain(State::BackOff(APP))),
        ("Flushing", ending(|cause| State::Flushing(APP, cause))),
    ]
}

fn events() -> Vec<Event> {
    let mut events = vec![
        Event::Begin,
        Event::Spawned,
        Event::SpawnFailed(Ending::NotFound),
        Event::Stop(Signal::TERM),
        Event::Broadcast(Signal::TERM),
        Event::SoftStop(Signal::TERM),
        Event::Other(Signal::TERM),
        Event::Interrupt,
    ];
    let left = [Left::Nobody, Left::Others, Left::Unaware(Signal::TERM)];
    events.extend(left.map(|left| Event::AppExited { ending: APP, left }));
    events.extend([true, false].map(|only_filters| Event::Remaining { only_filters }));
    events.extend([
        Event::Gone,
        Event::IntakeDone { again: false },
        Event::IntakeDone { again: true },
        Event::FlushDone,
    ]);
    events.extend(Timer::ALL.map(Event::Fired));
    events
}

fn cell(mut machine: Machine, event: Event) -> String {
    let before = machine.state();
    let actions = machine.on(event);
    if actions.is_empty() && machine.state() == before {
        return String::new();
    }
    let actions: Vec<String> = actions.iter().filter_map(action_name).collect();
    format!("{} | {}", actions.join(", "), state_name(machine.state()))
}

fn event_name(event: Event) -> String {
    match event {
        Event::SpawnFailed(_) => "spawn failed".into(),
        Event::Stop(_) => "stop".into(),
        Event::Broadcast(_) => "stop to everybody".into(),
        Event::SoftStop(_) => "soft stop".into(),
        Event::Other(_) => "other signal".into(),
        Event::Interrupt => "Ctrl-C".into(),
        Event::AppExited { left: Left::Nobody, .. } => "app exited, nobody left".into(),
        Event::AppExited { left: Left::Others, .. } => "app exited, others left".into(),
        Event::AppExited { left: Left::Unaware(_), .. } => "app exited, others unaware".into(),
        Event::Remaining { only_filters: true } => "only filters remain".into(),
        Event::Remaining { only_filters: false } => "others remain".into(),
        Event::Gone => "all gone".into(),
        Event::IntakeDone { again: false } => "pipes read".into(),
        Event::IntakeDone { again: true } => "pipes read, to be run again".into(),
        Event::FlushDone => "drains done".into(),
        Event::Begin => "begin".into(),
        Event::Spawned => "spawned".into(),
        Event::Fired(timer) => format!("timer {timer:?}"),
    }
}

/// Timers that are stopped are left out: they go without saying where a state is left.
fn action_name(action: &Action) -> Option<String> {
    match action {
        Action::Disarm(_) => None,
        Action::Relay(_) => Some("Relay".into()),
        Action::PassOn(_) => Some("PassOn".into()),
        Action::AllTold(_) => Some("AllTold".into()),
        Action::Arm(timer) => Some(format!("arm {timer:?}")),
        Action::Exit(_) => Some("Exit".into()),
        other => Some(format!("{other:?}")),
    }
}

fn state_name(state: State) -> String {
    match state {
        State::Running { soft: true } => "Running, soft stop".into(),
        State::Running { soft: false } => "Running".into(),
        State::Stopping { called: true } => "Stopping, called".into(),
        State::Stopping { called: false } => "Stopping".into(),
        State::Draining(_, _, stage) => format!("Draining, {stage:?}").to_lowercase().replacen('d', "D", 1),
        State::Killing(..) => "Killing".into(),
        State::Closing(..) => "Closing".into(),
        State::BackOff(_) => "BackOff".into(),
        State::Flushing(..) => "Flushing".into(),
        State::Exit(_) => "Exit".into(),
        State::Starting | State::Spawning => format!("{state:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- lifecycle:begin -->\n";
    const END: &str = "<!-- lifecycle:end -->";

    /// `LASTWORD_UPDATE=1 cargo test --lib the_table` writes the section anew.
    #[test]
    fn the_table_in_the_documentation_is_the_machines() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ARCHITECTURE.md");
        let page = std::fs::read_to_string(path).unwrap();
        let begin = page.find(BEGIN).expect("begin marker") + BEGIN.len();
        let end = page.find(END).expect("end marker");
        if std::env::var_os("LASTWORD_UPDATE").is_some() {
            let fresh = format!("{}{}{}", &page[..begin], markdown(), &page[end..]);
            std::fs::write(path, fresh).unwrap();
        } else {
            assert!(page[begin..end] == markdown(), "docs/ARCHITECTURE.md is stale: run with LASTWORD_UPDATE=1");
        }
    }
}
