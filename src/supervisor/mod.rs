//! The machine's shell: signals, reaping and timers in; relaying, killing, flushing and the exit out.
//!
//! One thread, asleep in `poll` on the signalfd and the [bell](crate::event::Bell) until something happens or a timer is due. It decides
//! nothing: [`crate::lifecycle`] says what to do and [`crate::budget`] says when. The readers and drains are behind
//! [`Plant`], whose calls all return at once.

mod guard;
mod hands;
mod news;
mod notice;
mod plant;

pub use notice::{FlushEnd, Notice};
pub use plant::{Outcome, Plant, Setup};

use crate::{
    budget::Plan,
    cgroup::MemoryLimit,
    child::{App, Canary, Family, Reaper, Terminal},
    clock,
    event::Event as Rung,
    exit::{Ending, Status},
    lifecycle::{Action, Event, Left, Machine, State, Timer},
    line::Stream,
    restart::{Restarts, When},
    signals::{Meaning, Received, Sender, Signal, Signals},
};
use guard::{Guard, Verdict};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    collections::HashSet,
    io::{self, IsTerminal},
    path::Path,
    time::{Duration, Instant},
};

/// How often the flush is looked at for progress.
const LOOK: Duration = Duration::from_millis(500);

/// Runs the app to its end, and its leftovers, and the flush. Call after [`crate::signals::block_all`], with no other
/// thread that waits for children.
///
/// # Errors
/// If the kernel has no descriptor for the signals; nothing was started then.
pub fn supervise<P: Plant>(setup: Setup, canary: Option<Canary>, plant: &mut P) -> io::Result<Outcome> {
    let signals = Signals::open()?;
    // PID 1 gets orphans anyway; without /proc or on an old kernel, direct children alone are waited for.
    if nix::unistd::getpid().as_raw() != 1 {
        let _ = nix::sys::prctl::set_child_subreaper(true);
    }
    let mut supervisor = Supervisor::new(setup, canary, plant);
    // A stop before the spawn means no spawn; `tee` reads already.
    if !supervisor.is_tee() {
        supervisor.read_signals(&signals);
    }
    supervisor.feed(Event::Begin);
    loop {
        supervisor.read_signals(&signals);
        supervisor.read_bell();
        supervisor.hear_canary();
        supervisor.fire();
        supervisor.progress();
        if let Some(outcome) = supervisor.outcome.take() {
            return Ok(outcome);
        }
        supervisor.sleep(&signals);
    }
}

/// The state around the machine. What it does is in `hands`.
struct Supervisor<'a, P> {
    plant: &'a mut P,
    setup: Setup,
    machine: Machine,
    plan: Plan,
    timers: [Option<Instant>; Timer::ALL.len()],
    remembered: Vec<(Event, Option<Received>)>,
    /// The signal behind the event that is being handled.
    received: Option<Received>,
    /// When that signal came, if it was held.
    received_at: Option<Instant>,
    guard: Guard,
    app: Option<App>,
    /// When the app was started.
    started: Option<Instant>,
    /// How long its last run took.
    lasted: Duration,
    /// How often it was started.
    runs: u32,
    restarts: Restarts,
    /// A restart is due, but a queue is full.
    waits_for_room: bool,
    memory: MemoryLimit,
    reaper: Reaper,
    family: Family,
    /// The app is in our process group.
    shared: bool,
    /// The terminal as the first run found it, if there may be others.
    terminal: Option<Terminal>,
    /// We lead the session: a hang-up is told to us alone.
    leader: bool,
    /// We stopped ourselves after the app, for the terminal's sake.
    suspended: bool,
    /// The app of this run is gone.
    released: bool,
    /// The last stop that went to the app uncaught.
    uncaught: Option<Signal>,
    /// The stop that leftovers were told of.
    passed: Option<Signal>,
    streams: HashSet<Stream>,
    /// Rings that the flush waits for.
    awaited: HashSet<Rung>,
    /// Those that came already.
    rung: HashSet<Rung>,
    flushing: bool,
    signs: u64,
    first_stop: Option<Received>,
    killed: usize,
    gave_up: bool,
    closed_at: Option<Instant>,
    flush_end: FlushEnd,
    outcome: Option<Outcome>,
}

impl<'a, P: Plant> Supervisor<'a, P> {
    fn new(setup: Setup, canary: Option<Canary>, plant: &'a mut P) -> Self {
        let plan = Plan::new(setup.budget, setup.flush_timeout)
            .with_leftovers(setup.linger, setup.leftovers)
            .with_spool(setup.spooled);
        let reaper = Reaper::new();
        let tee = setup.command.is_none();
        Self {
            machine: Machine::new(plan.is_stated()).with_leftovers(setup.leftovers),
            plan,
            timers: [None; Timer::ALL.len()],
            remembered: Vec::new(),
            received: None,
            received_at: None,
            app: None,
            started: None,
            lasted: Duration::ZERO,
            runs: 0,
            restarts: Restarts::new(setup.restart, setup.seed),
            waits_for_room: false,
            memory: MemoryLimit::find(Path::new("/")),
            family: Family::new(reaper.before().iter().copied().chain(canary.as_ref().map(Canary::pid)).collect()),
            guard: Guard::new(canary),
            reaper,
            shared: setup.shared,
            terminal: (setup.restart.when != When::Never).then(Terminal::look).flatten(),
            leader: nix::unistd::getsid(None) == Ok(nix::unistd::getpid()),
            suspended: false,
            released: false,
            uncaught: None,
            passed: None,
            streams: if tee { HashSet::from([Stream::Stdout]) } else { HashSet::new() },
            awaited: HashSet::new(),
            rung: HashSet::new(),
            flushing: false,
            signs: 0,
            first_stop: None,
            killed: 0,
            gave_up: false,
            closed_at: None,
            flush_end: FlushEnd::Done,
            outcome: None,
            plant,
            setup,
        }
    }

    /// Hands an event to the machine and does what it says.
    fn feed(&mut self, event: Event) {
        self.note(event);
        let before = self.machine.state();
        let actions = self.machine.on(event);
        tracing::debug!(?event, ?before, after = ?self.machine.state(), ?actions, "lifecycle");
        for &action in &actions {
            self.perform(action, event);
        }
        if actions.iter().any(|action| matches!(action, Action::PassOn(_))) {
            self.survey();
        }
        if actions.contains(&Action::KillAll) && self.is_tee() {
            self.cut_input();
        }
    }

    fn note(&mut self, event: Event) {
        let (Event::Stop(signal) | Event::Broadcast(signal) | Event::SoftStop(signal)) = event else { return };
        let sender = self.received.map_or(Sender::Kernel, |received| received.sender);
        let repeated = self.first_stop.is_some();
        let remembered = self.machine.state() == State::Spawning;
        if !matches!(event, Event::SoftStop(_)) && !remembered {
            self.first_stop.get_or_insert(Received { signal, sender });
            self.plant.notify(&Notice::Stop { signal, sender, budget: self.setup.budget, repeated });
        }
    }

    fn sleep(&self, signals: &Signals) {
        let now = clock::now();
        let timer = self.timers.iter().flatten().min().map(|at| at.saturating_duration_since(now));
        let look = self.timers[Timer::Stall as usize].map(|_| LOOK);
        let held = self.guard.due().map(|at| at.saturating_duration_since(now));
        let wait = timer.into_iter().chain(look).chain(held).min();
        // Rounded up, or the last millisecond would be spent spinning.
        let wait = wait.map(|wait| u32::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(u32::MAX));
        let timeout = wait.map_or(PollTimeout::NONE, |wait| PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX));
        let bell = self.setup.bell.fd();
        let watched = [signals.fd(), bell].into_iter().chain(self.guard.fd());
        let mut fds: Vec<_> = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // An error here is EINTR or ENOMEM: both queues are looked at either way.
        let _ = poll(&mut fds, timeout);
    }

    fn read_signals(&mut self, signals: &Signals) {
        let mut children = false;
        while let Some(received) = signals.next() {
            match received.meaning(&self.setup.stop_signals, self.shared, self.leader) {
                Meaning::Child => children = true,
                Meaning::Stop => self.stop(received),
                Meaning::SoftStop => self.signal(Event::SoftStop(received.signal), received),
                Meaning::Other => self.signal(Event::Other(received.signal), received),
                Meaning::Interrupt if self.is_tee() => self.interrupt_tee(received),
                Meaning::Interrupt => self.signal(Event::Interrupt, received),
                Meaning::Nothing => {}
            }
        }
        if children {
            self.reap();
        }
    }

    /// A stop that may have gone to everybody waits for the canary's word.
    fn stop(&mut self, received: Received) {
        let told = matches!(self.machine.state(), State::Running { .. } | State::Stopping { .. } | State::Draining(..));
        if told && self.guard.is_on() {
            self.guard.hold(received, clock::now());
            self.hear_canary();
        } else {
            self.signal(Event::Stop(received.signal), received);
        }
    }

    fn hear_canary(&mut self) {
        // A KILL to everybody, for want of /proc, is ours.
        if !self.guard.listen() && !matches!(self.machine.state(), State::Killing(..) | State::Closing(..)) {
            self.plant.notify(&Notice::GuardOff);
        }
        let known = self.guard.known(clock::now(), false);
        self.release(known);
    }

    fn release(&mut self, known: Vec<Verdict>) {
        for Verdict { received, at, broadcast } in known {
            let signal = received.signal;
            self.received_at = Some(at);
            self.signal(if broadcast { Event::Broadcast(signal) } else { Event::Stop(signal) }, received);
            self.received_at = None;
        }
    }

    fn signal(&mut self, event: Event, received: Received) {
        self.received = Some(received);
        self.feed(event);
        self.received = None;
    }

    /// `tee` has no app that the terminal's Ctrl-C would end. Whoever writes into it got the same Ctrl-C and may have
    /// last words; a second one, or a terminal for input, does not wait for them.
    fn interrupt_tee(&mut self, received: Received) {
        let repeated = self.first_stop.is_some();
        self.signal(Event::Stop(received.signal), received);
        if repeated || io::stdin().is_terminal() {
            self.cut_input();
            self.signal(Event::Interrupt, received);
        }
    }

    fn read_bell(&mut self) {
        for rung in self.setup.bell.take() {
            match rung {
                Rung::ReaderDone(stream) => {
                    self.streams.remove(&stream);
                }
                done @ (Rung::DrainDone(_) | Rung::PassthroughDone(_)) => {
                    self.rung.insert(done);
                }
            }
        }
    }

    /// What is complete already is told when the machine waits for it.
    fn progress(&mut self) {
        if self.streams.is_empty() {
            match self.machine.state() {
                State::Closing(..) => {
                    let again = self.is_run_again();
                    self.feed(Event::IntakeDone { again });
                }
                // The end of `tee`'s input is the end of its app.
                State::Running { .. } | State::Stopping { .. } if self.is_tee() => self.end_of_input(),
                _ => {}
            }
        }
        if self.flushing && self.awaited.is_subset(&self.rung) {
            self.feed(Event::FlushDone);
        }
    }

    fn end_of_input(&mut self) {
        self.feed(Event::AppExited { ending: Ending::App(Status::Exited(0)), left: Left::Nobody });
        self.progress();
    }

    /// The input of `tee` goes on, but its time is over.
    fn cut_input(&mut self) {
        let signal = self.first_stop.map_or(Signal::TERM, |stop| stop.signal);
        self.feed(Event::AppExited { ending: Ending::App(Status::Signaled(signal)), left: Left::Nobody });
    }

    const fn is_tee(&self) -> bool {
        self.setup.command.is_none()
    }

    fn fire(&mut self) {
        let now = clock::now();
        self.look_for_progress(now);
        for timer in Timer::ALL {
            let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            if is_due(self.timers[timer as usize]) && matches!(timer, Timer::Kill | Timer::GiveUp) {
                // Who is dead already is neither killed nor given up.
                self.reap();
            }
            if is_due(self.timers[timer as usize]) && self.outcome.is_none() {
                self.timers[timer as usize] = None;
                if timer != Timer::Restart || self.may_run_again(now) {
                    self.feed(Event::Fired(timer));
                }
            }
        }
    }

    fn look_for_progress(&mut self, now: Instant) {
        if self.timers[Timer::Stall as usize].is_none() {
            return;
        }
        let signs = self.plant.signs_of_life();
        if signs > self.signs {
            self.signs = signs;
            self.timers[Timer::Stall as usize] = Some(self.plan.at(Timer::Stall, now));
            let settled = self.plant.settled();
            self.plant.notify(&Notice::Progress(settled));
        }
    }
}
