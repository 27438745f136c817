//! The machine against its world, exhaustively: every reachable state of both, every order of events.
//!
//! The world: an app that may be deaf or stuck in the kernel, a worker and a filter behind it, unread bytes in the pipe,
//! readers and drains that may hang, a second run, three signals at any moment, a spawn that may fail, timers that fire at any time
//! (but LastCall before Kill, as their instants are ordered, and GiveUp not before the news of the app's death). What must hold is in `World::check_*`; that the checks can
//! fail is shown by planted bugs, each of which must be found.

mod bugs;
mod search;

use super::{Action, Cause, Ending, Event, Left, Leftovers, Machine, Signal, State, Status, Timer};
use bugs::Bug;

/// A process of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    Absent,
    Alive {
        told: bool,
        killed: bool,
    },
    /// Dead, and not reaped yet.
    Dead,
    Reaped,
}

impl Life {
    const BORN: Self = Self::Alive { told: false, killed: false };

    fn is_there(self) -> bool {
        matches!(self, Self::Alive { .. } | Self::Dead)
    }
}

/// How a process takes TERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Manners {
    /// Ends after it, in its own time.
    Polite,
    /// Does not mind it.
    Deaf,
    /// Does not even mind KILL (D state).
    Stuck,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Work {
    Open,
    Asked,
    Done,
}

/// What does not change in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Scenario {
    stated: bool,
    app: Manners,
    /// The app has a handler for stops.
    catches: bool,
    worker: Option<Manners>,
    filter: bool,
    leftovers: Leftovers,
    readers_hang: bool,
    drains_hang: bool,
    /// `--restart` would have it run once more, stop or no stop.
    restart: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Spawn {
    NotYet,
    UnderWay,
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    scenario: Scenario,
    machine: Machine,
    begun: bool,
    spawn: Spawn,
    app: Life,
    worker: Life,
    filter: Life,
    /// How the app will be found to have ended.
    ending: Option<Ending>,
    /// Unread bytes that the app or its descendants wrote.
    unread: u8,
    readers: Work,
    drains: Work,
    timers: u8,
    remembered: Vec<Event>,
    signals_left: u8,
    restarts_left: u8,
    /// What happened, for the checks.
    stopped: bool,
    interrupted: bool,
    stopped_in_time: Option<Signal>,
    pass_on_due: bool,
    /// The app was told by relay.
    relayed: bool,
    filter_may_be_told: bool,
    called: bool,
    gave_up: bool,
    budgets: u8,
    released: bool,
    excused: bool,
    exits: u8,
}

const EXITED: Ending = Ending::App(Status::Exited(3));
const KILLED: Ending = Ending::App(Status::Signaled(Signal::KILL));

impl World {
    fn new(scenario: Scenario) -> Self {
        Self {
            machine: Machine::new(scenario.stated).with_leftovers(scenario.leftovers),
            scenario,
            begun: false,
            spawn: Spawn::NotYet,
            app: Life::Absent,
            worker: Life::Absent,
            filter: Life::Absent,
            ending: None,
            unread: 0,
            readers: Work::Open,
            drains: Work::Open,
            timers: 0,
            remembered: Vec::new(),
            // Where readers or drains hang, less happens after it; what is special about a policy shows early; two runs are
            // much to search.
            signals_left: match scenario {
                Scenario { restart: true, worker: Some(_), .. } => 1,
                Scenario { app: Manners::Stuck, .. } | Scenario { restart: true, .. } => 2,
                Scenario { leftovers: Leftovers::Term, readers_hang: false, drains_hang: false, .. } => 3,
                _ => 2,
            },
            restarts_left: u8::from(scenario.restart),
            stopped: false,
            interrupted: false,
            stopped_in_time: None,
            pass_on_due: false,
            relayed: false,
            filter_may_be_told: false,
            called: false,
            gave_up: false,
            budgets: 0,
            released: false,
            excused: false,
            exits: 0,
        }
    }

    fn is_armed(&self, timer: Timer) -> bool {
        self.timers >> (timer as u8) & 1 == 1
    }

    fn someone_is_there(&self) -> bool {
        self.app.is_there() || self.worker.is_there() || self.filter.is_there()
    }

    /// Gives an event to the machine and lets its actions work on the world.
    fn feed(&mut self, event: Event, bug: Option<Bug>) -> Result<(), String> {
        self.before(event);
        let was_there = self.app.is_there() && !matches!(self.app, Life::Alive { killed: true, .. }) && !self.gave_up;
        let actions = bugs::on(bug, &mut self.machine, event);
        let answers = |action: &Action| matches!(action, Action::Relay(_) | Action::Remember);
        if matches!(event, Event::Stop(_) | Event::SoftStop(_) | Event::Other(_)) {
            let due = was_there || self.spawn == Spawn::UnderWay;
            if due && !actions.iter().any(answers) && !matches!(self.machine.state(), State::Killing(..)) {
                return Err(format!("{event:?} never reaches the app"));
            }
        } else if matches!(event, Event::Broadcast(_)) && self.spawn == Spawn::UnderWay {
            if !actions.iter().any(answers) {
                return Err("a broadcast that may have missed the app is forgotten".into());
            }
        } else if actions.iter().any(|action| matches!(action, Action::Relay(_))) {
            return Err(format!("{event:?} is relayed"));
        } else if matches!(event, Event::Broadcast(_)) && actions.iter().any(|it| matches!(it, Action::PassOn(_))) {
            return Err("leftovers are told twice of a broadcast".into());
        }
        for action in actions {
            self.act(action, event, bug)?;
        }
        self.check()
    }

    fn before(&mut self, event: Event) {
        // Who is out of time, out of progress or told to hurry twice may leave lines behind. No other event excuses it.
        self.excused = match event {
            Event::Fired(Timer::End) => true,
            Event::Fired(Timer::Stall) => !self.stopped,
            Event::Interrupt => self.machine.interrupted,
            _ => false,
        };
        match event {
            Event::Stop(signal) => {
                self.stopped |= self.spawn != Spawn::UnderWay;
                if self.spawn == Spawn::NotYet {
                    self.stopped_in_time.get_or_insert(signal);
                }
                self.pass_on_due |= !self.app.is_there();
            }
            Event::Broadcast(signal) => {
                self.stopped |= self.spawn != Spawn::UnderWay;
                if self.spawn == Spawn::NotYet {
                    self.stopped_in_time.get_or_insert(signal);
                }
                tell(&mut self.app);
                tell(&mut self.worker);
                tell(&mut self.filter);
            }
            // Leftovers that are waited for are what the app was.
            Event::SoftStop(_) => self.pass_on_due |= self.scenario.leftovers == Leftovers::Wait,
            Event::Interrupt => {
                self.interrupted = true;
                if self.spawn == Spawn::NotYet {
                    self.stopped_in_time.get_or_insert(Signal::INT);
                }
                self.filter_may_be_told |= self.machine.interrupted;
            }
            Event::AppExited { left: Left::Unaware(_), .. } => self.pass_on_due = true,
            Event::Fired(Timer::Linger | Timer::LastCall) => self.filter_may_be_told = true,
            _ => {}
        }
    }

    fn act(&mut self, action: Action, event: Event, bug: Option<Bug>) -> Result<(), String> {
        match action {
            Action::Spawn => self.run()?,
            Action::Remember => self.remembered.push(event.kept()),
            Action::Replay => {
                for event in std::mem::take(&mut self.remembered) {
                    self.feed(event, bug)?;
                }
            }
            Action::Relay(_) => self.relay(event)?,
            Action::StartBudget | Action::BudgetFromSoftStop => self.budgets += 1,
            Action::Arm(timer) => self.timers |= 1 << timer as u8,
            Action::Disarm(timer) => self.timers &= !(1 << timer as u8),
            Action::Release => self.released = true,
            Action::PassOn(_) => {
                if self.scenario.leftovers == Leftovers::Kill || self.scenario.leftovers == Leftovers::Leave {
                    return Err("a stop was passed on against the policy".into());
                }
                if !self.pass_on_due || self.app.is_there() {
                    return Err("a stop was passed on that the app had caught".into());
                }
                tell(&mut self.worker);
            }
            Action::LastCall => {
                self.called = true;
                tell(&mut self.worker);
                if self.filter.is_there() && !self.filter_may_be_told {
                    return Err("a filter was told without its linger".into());
                }
                tell(&mut self.filter);
            }
            Action::KillAll => self.kill_all()?,
            Action::GiveUp => self.gave_up = true,
            Action::CloseIntake => self.close_intake()?,
            Action::Flush => self.flush()?,
            Action::Exit(ending) => self.exit(ending)?,
            Action::Leave if self.scenario.leftovers != Leftovers::Leave => {
                return Err("left against the policy".into());
            }
            Action::Hurry | Action::Interim | Action::AllTold(_) | Action::Leave => {}
        }
        Ok(())
    }

    /// The first run, or another.
    fn run(&mut self) -> Result<(), String> {
        if self.stopped_in_time.is_some() || self.stopped || (self.interrupted && self.app != Life::Absent) {
            return Err("spawned after a stop".into());
        }
        if self.app != Life::Absent {
            if self.someone_is_there() {
                return Err("run again beside what the last run left behind".into());
            }
            if self.readers != Work::Done || self.unread > 0 {
                return Err("run again before the pipes were read".into());
            }
            if self.timers != 0 {
                return Err("a timer of the last run is armed".into());
            }
            self.restarts_left = self.restarts_left.checked_sub(1).ok_or("run again though nobody wants it")?;
            (self.app, self.worker, self.filter) = (Life::Absent, Life::Absent, Life::Absent);
            (self.ending, self.readers) = (None, Work::Open);
            (self.released, self.called, self.pass_on_due, self.filter_may_be_told) = (false, false, false, false);
        }
        if self.drains != Work::Open {
            return Err("run with closed drains".into());
        }
        self.spawn = Spawn::UnderWay;
        Ok(())
    }

    fn relay(&mut self, event: Event) -> Result<(), String> {
        if !self.app.is_there() {
            return Err("relayed to a number that may be someone else's".into());
        }
        let is_stop = matches!(event, Event::Stop(_) | Event::SoftStop(_));
        if let (Life::Alive { told, .. }, true) = (&mut self.app, is_stop) {
            *told = true;
            self.relayed = true;
        }
        Ok(())
    }

    fn kill_all(&mut self) -> Result<(), String> {
        if matches!(self.app, Life::Alive { .. }) && !(self.scenario.stated && self.stopped) {
            return Err("the app was killed on a guess".into());
        }
        // (The third Ctrl-C would, but this world has two signals.)
        let waited_for = self.scenario.leftovers == Leftovers::Wait;
        if waited_for && !(self.scenario.stated && self.stopped) {
            return Err("leftovers that are waited for were killed on a guess".into());
        }
        let others = [self.worker, self.filter];
        let as_asked = self.scenario.leftovers == Leftovers::Kill && !matches!(self.app, Life::Alive { .. });
        if !self.called && !as_asked && others.iter().any(|life| matches!(life, Life::Alive { killed: false, .. })) {
            return Err("killed without a last call".into());
        }
        for life in [&mut self.app, &mut self.worker, &mut self.filter] {
            if let Life::Alive { killed, .. } = life {
                *killed = true;
            }
        }
        Ok(())
    }

    fn close_intake(&mut self) -> Result<(), String> {
        if self.readers != Work::Open {
            return Err("the intake was closed twice".into());
        }
        let left_alone = self.scenario.leftovers == Leftovers::Leave && !self.app.is_there();
        if self.someone_is_there() && !self.gave_up && !left_alone {
            return Err("the intake was closed while someone could write".into());
        }
        if self.spawn == Spawn::Over && self.app != Life::Absent && !self.released {
            return Err("the readers wait for the pass-through of a dead app".into());
        }
        self.readers = Work::Asked;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        if self.readers != Work::Done || self.drains != Work::Open {
            return Err("flushed before the pipes were read".into());
        }
        self.drains = Work::Asked;
        Ok(())
    }

    fn exit(&mut self, ending: Ending) -> Result<(), String> {
        self.exits += 1;
        let right = match (self.app, self.stopped_in_time, self.ending) {
            (Life::Absent, Some(signal), _) => Ending::StoppedBeforeSpawn(signal),
            (Life::Absent, None, _) => Ending::NotFound,
            (Life::Reaped, _, Some(ending)) => ending,
            _ => KILLED,
        };
        if ending != right {
            return Err(format!("exit with {ending:?} for {right:?}"));
        }
        if self.readers == Work::Open {
            return Err("exit with an open intake".into());
        }
        let unread = self.unread > 0 && !self.gave_up && self.scenario.leftovers != Leftovers::Leave;
        if (self.drains != Work::Done || unread) && !self.excused {
            return Err("exit with lines on the way and time to send them".into());
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let over = matches!(self.machine.state(), State::Exit(_));
        if over != (self.exits == 1) || self.exits > 1 {
            return Err(format!("{} exits in {:?}", self.exits, self.machine.state()));
        }
        if self.budgets > 1 {
            return Err("a later stop moved the budget".into());
        }
        if !self.remembered.is_empty() && self.spawn == Spawn::Over {
            return Err("remembered and forgotten".into());
        }
        Ok(())
    }
}

fn tell(life: &mut Life) {
    if let Life::Alive { told, .. } = life {
        *told = true;
    }
}
