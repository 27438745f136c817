//! The search: breadth first over all worlds, then backwards from the exits.

use super::{
    Bug, Cause, EXITED, Ending, Event, KILLED, Left, Leftovers, Life, Manners, Scenario, Spawn, State, Status, Timer,
    Work, World,
};
use crate::{lifecycle::Stage, signals::Signal};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::Write,
};

/// What the world may do next: a name for traces, and the world after it.
type Moves = Vec<(String, Result<World, String>)>;

impl World {
    fn with(&self, moves: &mut Moves, event: Event, bug: Option<Bug>, change: impl FnOnce(&mut Self)) {
        let mut next = self.clone();
        change(&mut next);
        let result = next.feed(event, bug);
        moves.push((format!("{event:?}"), result.map(|()| next)));
    }

    fn moves(&self, bug: Option<Bug>) -> Moves {
        let mut moves = self.certain_moves(bug);
        if !self.begun {
            self.with(&mut moves, Event::Begin, bug, |next| next.begun = true);
        }
        if self.signals_left > 0 {
            let signals = [
                Event::Stop(Signal::TERM),
                Event::Broadcast(Signal::TERM),
                Event::SoftStop(Signal::QUIT),
                Event::Other(Signal::HUP),
                Event::Interrupt,
            ];
            for event in signals {
                self.with(&mut moves, event, bug, |next| next.signals_left -= 1);
            }
        }
        if self.spawn == Spawn::UnderWay {
            self.with(&mut moves, Event::SpawnFailed(Ending::NotFound), bug, |next| next.spawn = Spawn::Over);
        }
        for timer in Timer::ALL.into_iter().filter(|&timer| self.may_fire(timer)) {
            self.with(&mut moves, Event::Fired(timer), bug, |next| next.timers &= !(1 << timer as u8));
        }
        self.quiet_moves(&mut moves);
        moves
    }

    /// What the kernel does sooner or later, whoever else hangs.
    fn certain_moves(&self, bug: Option<Bug>) -> Moves {
        let mut moves = Moves::new();
        let scenario = self.scenario;
        if self.spawn == Spawn::UnderWay {
            self.with(&mut moves, Event::Spawned, bug, |next| {
                next.spawn = Spawn::Over;
                next.app = Life::BORN;
                next.worker = if scenario.worker.is_some() { Life::BORN } else { Life::Absent };
                next.filter = if scenario.filter { Life::BORN } else { Life::Absent };
            });
        }
        for (who, life, manners) in self.processes() {
            if matches!(life, Life::Alive { killed: true, .. }) && manners != Manners::Stuck {
                moves.push((format!("{who} dies of KILL"), Ok(self.after_death(who, KILLED))));
            }
        }
        self.reaping(&mut moves, bug);
        if self.readers == Work::Asked && self.unread == 0 && !scenario.readers_hang {
            // Never what could not be started; else the shell leaves it to the machine.
            let again = self.restarts_left > 0 && self.app != Life::Absent;
            self.with(&mut moves, Event::IntakeDone { again }, bug, |next| next.readers = Work::Done);
        }
        if self.drains == Work::Asked && !scenario.drains_hang {
            self.with(&mut moves, Event::FlushDone, bug, |next| next.drains = Work::Done);
        }
        if self.unread > 0 && !scenario.readers_hang && self.readers != Work::Done {
            let mut next = self.clone();
            next.unread -= 1;
            moves.push(("a byte is read".into(), Ok(next)));
        }
        moves
    }

    /// The news that `waitpid` has.
    fn reaping(&self, moves: &mut Moves, bug: Option<Bug>) {
        let mut after = self.clone();
        let app_died = self.app == Life::Dead;
        let other_died = [self.worker, self.filter].contains(&Life::Dead);
        // A descendant's death is its parent's news while the app lives.
        if !app_died && (self.app.is_there() || !other_died) {
            return;
        }
        for life in [&mut after.app, &mut after.worker, &mut after.filter] {
            if *life == Life::Dead {
                *life = Life::Reaped;
            }
        }
        let gone = !after.someone_is_there();
        let only_filters = !after.worker.is_there();
        let event = if app_died {
            let ending = self.ending.unwrap_or(KILLED);
            let unaware = self.relayed && matches!(ending, Ending::App(Status::Signaled(it)) if it != Signal::KILL);
            let left = match (gone, unaware) {
                (true, _) => Left::Nobody,
                (false, true) => Left::Unaware(Signal::TERM),
                (false, false) => Left::Others,
            };
            Event::AppExited { ending, left }
        } else if gone {
            Event::Gone
        } else {
            Event::Remaining { only_filters }
        };
        let mut result = after.feed(event, bug);
        // After passing a stop on, the shell looks who remains.
        if result.is_ok() && app_died && !gone {
            result = after.feed(Event::Remaining { only_filters }, bug);
        }
        moves.push((format!("{event:?}"), result.map(|()| after)));
    }

    /// What changes nothing that the machine hears of.
    fn quiet_moves(&self, moves: &mut Moves) {
        for (who, life, manners) in self.processes() {
            let Life::Alive { told, .. } = life else { continue };
            let most = if self.scenario.restart { 1 } else { 2 };
            if self.unread < most && self.readers != Work::Done {
                let mut next = self.clone();
                next.unread += 1;
                moves.push((format!("{who} writes"), Ok(next)));
            }
            // A filter ends at the end of its input.
            let ends = who != "filter" || !(self.worker.is_there() || self.app.is_there());
            if manners != Manners::Stuck && ends {
                moves.push((format!("{who} ends"), Ok(self.after_death(who, EXITED))));
            }
            if told && manners == Manners::Polite {
                let uncaught = who == "app" && !self.scenario.catches;
                let ending = if uncaught { Ending::App(Status::Signaled(Signal::TERM)) } else { EXITED };
                moves.push((format!("{who} ends as told"), Ok(self.after_death(who, ending))));
            }
        }
    }

    fn processes(&self) -> [(&'static str, Life, Manners); 3] {
        let worker = self.scenario.worker.unwrap_or(Manners::Polite);
        [
            ("app", self.app, self.scenario.app),
            ("worker", self.worker, worker),
            ("filter", self.filter, Manners::Polite),
        ]
    }

    fn after_death(&self, who: &str, ending: Ending) -> Self {
        let mut next = self.clone();
        match who {
            "app" => {
                next.app = Life::Dead;
                next.ending = Some(ending);
            }
            "worker" => next.worker = Life::Dead,
            _ => next.filter = Life::Dead,
        }
        next
    }

    fn may_fire(&self, timer: Timer) -> bool {
        let later = match timer {
            Timer::Kill => self.is_armed(Timer::LastCall),
            // The shell reaps before it lets this timer fire.
            Timer::GiveUp => self.app == Life::Dead,
            _ => false,
        };
        self.is_armed(timer) && !later
    }

    /// Whether there must be an end in bounded time, whatever the app, its descendants, readers and drains do.
    fn is_bounded(&self) -> bool {
        let app_lives = matches!(self.app, Life::Alive { .. } | Life::Dead);
        match self.machine.state() {
            State::Starting | State::Spawning | State::BackOff(_) => false,
            State::Running { .. } => !app_lives,
            State::Stopping { .. } => !app_lives || self.scenario.stated,
            State::Draining(..) if self.scenario.leftovers == Leftovers::Wait => self.scenario.stated && self.stopped,
            _ => true,
        }
    }

    /// Just the kernel and the clock work on: is there an exit, or another run?
    fn ends_by_itself(&self, bug: Option<Bug>) -> bool {
        let mut world = self.clone();
        for _ in 0..40 {
            let again = matches!(world.machine.state(), State::BackOff(_)) && world.is_armed(Timer::Restart);
            if world.exits > 0 || again {
                return true;
            }
            let certain = world.certain_moves(bug).into_iter().next();
            let timer = Timer::ALL.into_iter().find(|&timer| world.may_fire(timer));
            match (certain, timer) {
                (Some((_, Ok(next))), _) => world = next,
                (None, Some(timer)) => {
                    world.timers &= !(1 << timer as u8);
                    if world.feed(Event::Fired(timer), bug).is_err() {
                        return true;
                    }
                }
                // A violation on the way is found as such.
                (Some((_, Err(_))), _) => return true,
                (None, None) => return false,
            }
        }
        false
    }
}

fn scenarios() -> Vec<Scenario> {
    let manners = [Manners::Polite, Manners::Deaf, Manners::Stuck];
    let mut all = Vec::new();
    // One thing hangs at most. An app that can end by itself is run again where nothing does, without a filter, which no
    // restart looks at.
    for bits in (0..64_u8).filter(|bits| (bits & 56).count_ones() < 2 && bits & 36 != 36) {
        let [stated, catches, filter, readers_hang, drains_hang, restart] =
            [1, 2, 4, 8, 16, 32].map(|bit| bits & bit != 0);
        for app in manners.into_iter().filter(|&app| !restart || app == Manners::Polite) {
            for worker in [None, Some(Manners::Polite), Some(Manners::Deaf), Some(Manners::Stuck)] {
                let leftovers = Leftovers::Term;
                let usual =
                    Scenario { stated, app, catches, worker, filter, leftovers, readers_hang, drains_hang, restart };
                all.push(usual);
                // How an app takes its signals has nothing to do with what comes after it.
                if worker.is_some() && app == Manners::Polite && !readers_hang && !drains_hang && !restart {
                    let others = [Leftovers::Kill, Leftovers::Wait, Leftovers::Leave];
                    all.extend(others.map(|leftovers| Scenario { leftovers, ..usual }));
                }
            }
        }
    }
    all
}

/// What a search without a violation found.
struct Found {
    worlds: usize,
    moves: usize,
    states: HashSet<State>,
}

/// Visits every world; or the first violation, with the way to it.
fn search(bug: Option<Bug>, scenario: Scenario) -> Result<Found, String> {
    let start = World::new(scenario);
    let mut worlds = vec![start.clone()];
    let mut known = HashMap::from([(start, 0_usize)]);
    let mut from: Vec<(usize, String)> = vec![(0, String::new())];
    let mut back: Vec<Vec<usize>> = vec![vec![]];
    let mut todo = VecDeque::from([0]);
    let mut edges = 0;
    let trace = |from: &[(usize, String)], mut at: usize, last: &str| {
        let mut steps = vec![last.to_owned()];
        while at != 0 {
            steps.push(from[at].1.clone());
            at = from[at].0;
        }
        steps.reverse();
        steps.join(" → ")
    };
    while let Some(at) = todo.pop_front() {
        let world = worlds[at].clone();
        if world.is_bounded() && !world.ends_by_itself(bug) {
            return Err(format!("no end: {} in {world:?}", trace(&from, at, "")));
        }
        for (name, result) in world.moves(bug) {
            edges += 1;
            let next = result.map_err(|violation| format!("{violation}: {} {scenario:?}", trace(&from, at, &name)))?;
            let number = *known.entry(next.clone()).or_insert_with(|| {
                worlds.push(next);
                from.push((at, name));
                back.push(vec![]);
                todo.push_back(worlds.len() - 1);
                worlds.len() - 1
            });
            back[number].push(at);
        }
    }
    if let Some(at) = stranded(&worlds, &back) {
        return Err(format!("no way to the exit: {}", trace(&from, at, "")));
    }
    let states = worlds.iter().map(|world| world.machine.state()).collect();
    Ok(Found { worlds: worlds.len(), moves: edges, states })
}

/// A world from which no exit can be reached. Stuck apps that nobody may kill are excused: they have none.
fn stranded(worlds: &[World], back: &[Vec<usize>]) -> Option<usize> {
    let mut reaches = vec![false; worlds.len()];
    let mut todo: Vec<usize> = (0..worlds.len()).filter(|&at| worlds[at].exits > 0).collect();
    while let Some(at) = todo.pop() {
        if !std::mem::replace(&mut reaches[at], true) {
            todo.extend(&back[at]);
        }
    }
    let excused = |world: &World| {
        let waits = world.scenario.leftovers == Leftovers::Wait && matches!(world.worker, Life::Alive { .. });
        (matches!(world.app, Life::Alive { .. }) && world.scenario.app == Manners::Stuck)
            || (waits && world.scenario.worker == Some(Manners::Stuck))
    };
    (0..worlds.len()).find(|&at| !reaches[at] && !excused(&worlds[at]))
}

#[test]
fn every_reachable_state_keeps_the_promises_and_has_a_way_to_the_exit() {
    let (mut worlds, mut moves) = (0, 0);
    let mut states = HashSet::new();
    for scenario in scenarios() {
        let found = search(None, scenario).unwrap_or_else(|violation| panic!("{violation}"));
        worlds += found.worlds;
        moves += found.moves;
        states.extend(found.states);
    }
    // The figure that docs/TESTING.md quotes.
    let _ = writeln!(
        std::io::stderr(),
        "lifecycle: {worlds} states, {moves} moves, {} of the machine's own, 0 violations",
        states.len()
    );
    assert!(worlds > 16_000, "the model shrank: {worlds}");
    for cause in [Cause::Itself, Cause::Stop] {
        let stages = [Stage::Lingering, Stage::Waiting, Stage::Called];
        let mut shapes: Vec<State> = stages.map(|stage| State::Draining(EXITED, cause, stage)).to_vec();
        shapes.push(State::Draining(EXITED, Cause::Stop, Stage::Passed));
        shapes.extend([State::Killing(Some(EXITED), cause), State::Closing(EXITED, cause)]);
        shapes.extend([
            State::Flushing(EXITED, cause),
            State::Exit(EXITED),
            State::Stopping { called: true },
            State::BackOff(EXITED),
        ]);
        let missed: Vec<State> = shapes.into_iter().filter(|shape| !states.contains(shape)).collect();
        assert!(missed.is_empty(), "the model never met {missed:?}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    let missed: Vec<Bug> = Bug::ALL
        .into_iter()
        .filter(|&bug| {
            let mut scenarios = scenarios();
            scenarios.retain(|scenario| scenario.restart || !bug.is_of_restarts());
            scenarios.into_iter().all(|scenario| search(Some(bug), scenario).is_ok())
        })
        .collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
