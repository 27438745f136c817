//! Descendants: finding them, telling them of the stop, and ending them.
//!
//! They are found by walking /proc from ourselves down, for a group or session does not hold a daemon. A process is
//! signalled through a pidfd that was checked after it was opened, so that a reused number hits nobody. Without /proc,
//! PID 1 has `kill(-1)`; a subreaper has nothing, and the stages' timers end the wait.

use super::process::{self, Process, Reaction};
use crate::{clock, signals::Signal, sys};
use nix::{errno::Errno, libc};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// What became of a round of signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Processes that were signalled.
    pub told: usize,
    /// Filters, left in peace.
    pub filters: usize,
}

/// The app's descendants, and who of them was told already.
#[derive(Debug)]
pub struct Family {
    before: HashSet<i32>,
    told: HashSet<(i32, u64)>,
    killed: HashSet<(i32, u64)>,
}

impl Family {
    /// `before`: those whom we neither count nor signal.
    pub fn new(before: HashSet<i32>) -> Self {
        Self { before, told: HashSet::new(), killed: HashSet::new() }
    }

    /// The app gets its signals by relay: the last call is not for it.
    pub fn was_told(&mut self, pid: i32) {
        self.told.extend(process::read(pid).map(|process| process.name()));
    }

    /// Everybody was told at `at`, or all of our own process group: not those who were born later.
    pub fn all_told(&mut self, at: Instant, group: bool) {
        let at = clock::boot_time(at);
        let own = process::own_group();
        let there = self.living().unwrap_or_default().into_iter();
        let told = there.filter(|process| process.born() <= at && (!group || Some(process.group) == own));
        self.told.extend(told.map(|process| process.name()));
    }

    /// Sends a signal to the app's descendants, or to the rest of its process group: not to the app itself, nor to us.
    /// `is_stop`: they are told then. Returns how many got it.
    pub fn relay(&mut self, signal: Signal, app: i32, group: bool, is_stop: bool) -> usize {
        let app_group = process::read(app).map(|process| process.group);
        let mut living = self.living().unwrap_or_default();
        living.retain(|process| process.pid != app && (!group || Some(process.group) == app_group));
        let mut count = 0;
        for process in living {
            count += usize::from(send(process, signal));
            if is_stop {
                self.told.insert(process.name());
            }
        }
        count
    }

    /// When a process was born, since the boot; now, if it cannot be asked.
    pub fn born(pid: i32) -> Duration {
        process::read(pid).map_or_else(clock::since_boot, |process| process.born())
    }

    /// Whether the app catches a signal; an app that cannot be asked is taken for one that does.
    pub fn catches(pid: i32, signal: Signal) -> bool {
        process::reaction(pid, signal.0).is_none_or(|reaction| reaction != Reaction::Default)
    }

    /// Whether a process is stopped (Ctrl-Z, SIGSTOP): a signal waits then until it goes on.
    pub fn is_stopped(pid: i32) -> bool {
        process::read(pid).is_some_and(|process| matches!(process.state, b'T' | b't'))
    }

    /// Passes a stop on to the leftovers, and below those that do not catch it to their children: one that does will
    /// pass it on itself, or knows why not. Neither filters are told, nor those who were told before.
    pub fn pass_on(&mut self, signal: Signal) -> Told {
        let mut result = Told::default();
        // Who was told may have forked while we looked: look again until nobody is new.
        for _ in 0..3 {
            let Some(living) = self.living() else { break };
            let round = self.pass_on_to(&living, signal);
            result = Told { told: result.told + round.told, filters: round.filters };
            if round.told == 0 {
                break;
            }
        }
        result
    }

    fn pass_on_to(&mut self, living: &[Process], signal: Signal) -> Told {
        let mut round = Told::default();
        let mut parents = vec![process::own_pid()];
        while let Some(parent) = parents.pop() {
            for process in living.iter().filter(|process| process.parent == parent) {
                let reaction = process::reaction(process.pid, signal.0);
                if reaction != Some(Reaction::Catches) && process::reads_a_pipe(process.pid) {
                    round.filters += 1;
                    continue;
                }
                if reaction != Some(Reaction::Catches) {
                    parents.push(process.pid);
                }
                // A background process of a shell ignores INT and QUIT: for it, the last call is the first.
                let hears = reaction != Some(Reaction::Ignores) && !self.told.contains(&process.name());
                if hears && tell(*process, signal) {
                    round.told += 1;
                    self.told.insert(process.name());
                }
            }
        }
        round
    }

    /// TERM to all who were not told. Returns how many.
    pub fn last_call(&mut self) -> usize {
        let Some(living) = self.living() else { return everyone(Signal::TERM) };
        let told = &mut self.told;
        living.into_iter().filter(|process| told.insert(process.name()) && tell(*process, Signal::TERM)).count()
    }

    /// KILL to all. Returns how many had not had one before.
    pub fn kill(&mut self) -> usize {
        let Some(living) = self.living() else { return everyone(Signal::KILL) };
        let killed = &mut self.killed;
        living.into_iter().filter(|process| send(*process, Signal::KILL) && killed.insert(process.name())).count()
    }

    /// How many live, and whether all of these are filters for `signal`. None without /proc.
    pub fn survey(&self, signal: Option<Signal>) -> Option<(usize, bool)> {
        let living = self.living()?;
        let only_filters = signal.is_some_and(|signal| living.iter().all(|process| is_filter(process.pid, signal)));
        Some((living.len(), only_filters))
    }

    /// The living descendants: zombies are their parents' business.
    fn living(&self) -> Option<Vec<Process>> {
        let mut found = process::descendants(&process::all()?, process::own_pid(), &self.before);
        found.retain(|process| !matches!(process.state, b'Z' | b'X'));
        Some(found)
    }
}

/// `worker | tee`: a filter ends by itself once it has read everything, and a signal would cost what it has not.
fn is_filter(pid: i32, signal: Signal) -> bool {
    process::reaction(pid, signal.0) != Some(Reaction::Catches) && process::reads_a_pipe(pid)
}

fn tell(process: Process, signal: Signal) -> bool {
    let reached = send(process, signal);
    if reached && matches!(process.state, b'T' | b't') {
        send(process, Signal::CONT);
    }
    reached
}

/// Whether the signal went out. A process that is gone, or not ours to signal, is no error.
fn send(process: Process, signal: Signal) -> bool {
    // A child of ours keeps its number until we reap it.
    if process.parent == process::own_pid() {
        return sys::kill(process.pid, signal.0).is_ok();
    }
    match sys::pidfd_open(process.pid) {
        Ok(pidfd) => {
            let same = process::read(process.pid).is_some_and(|now| now.started == process.started);
            same && sys::pidfd_send_signal(&pidfd, signal.0).is_ok()
        }
        Err(Errno::ESRCH) => false,
        Err(_) => sys::kill(process.pid, signal.0).is_ok(),
    }
}

/// Without /proc: as PID 1, everybody in the namespace but us. Else nobody, for that would be the whole machine.
fn everyone(signal: Signal) -> usize {
    let alone = process::own_pid() == 1;
    debug_assert!(signal.0 != libc::SIGSTOP);
    usize::from(alone && sys::kill(-1, signal.0).is_ok())
}
