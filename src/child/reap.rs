//! The one owner of `waitpid(-1)`: who ended, and whether anybody is left.

use super::process;
use crate::{
    exit::Status,
    signals::Signal,
    sys::{self, Wait},
};
use std::collections::HashSet;

/// The news of one round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// The app ended so.
    pub app: Option<Status>,
    /// A job-control signal stopped the app; it lives.
    pub app_stopped: Option<Signal>,
    /// Other children that ended.
    pub others: usize,
    /// Nobody is left, but for those who were there before us.
    pub gone: bool,
}

/// Reaps, and knows whom to count.
#[derive(Debug)]
pub struct Reaper {
    /// Children that came with our process (`sh -c 'filter & exec lastword …'`), and their descendants then: they are
    /// reaped if they end, but neither waited for nor signalled.
    before: HashSet<i32>,
    app: Option<i32>,
}

impl Reaper {
    /// Looks who is there already. Before the spawn.
    pub fn new() -> Self {
        // Looking through /proc takes milliseconds on a busy machine, and mostly there is nobody.
        let all = sys::has_children().then(process::all).flatten().unwrap_or_default();
        let before = process::descendants(&all, process::own_pid(), &HashSet::new());
        Self { before: before.into_iter().map(|process| process.pid).collect(), app: None }
    }

    /// From now on this is the app.
    pub fn watch(&mut self, app: i32) {
        self.app = Some(app);
    }

    /// Those who were there before us.
    pub const fn before(&self) -> &HashSet<i32> {
        &self.before
    }

    /// Takes all news that wait.
    pub fn reap(&mut self) -> Reaped {
        let mut news = Reaped::default();
        loop {
            match sys::wait_any() {
                Wait::Exited(pid, code) => self.ended(pid, Status::Exited(code), &mut news),
                Wait::Signaled(pid, signal) => self.ended(pid, Status::Signaled(Signal(signal)), &mut news),
                Wait::Stopped(pid, signal) if self.app == Some(pid) => news.app_stopped = Some(Signal(signal)),
                Wait::Stopped(..) => {}
                Wait::NoChildren => {
                    news.gone = true;
                    return news;
                }
                Wait::Nothing => {
                    news.gone = self.app.is_none() && self.only_those_before();
                    return news;
                }
            }
        }
    }

    fn ended(&mut self, pid: i32, status: Status, news: &mut Reaped) {
        if self.app == Some(pid) {
            self.app = None;
            news.app = Some(status);
        } else if !self.before.remove(&pid) {
            news.others += 1;
        }
    }

    fn only_those_before(&self) -> bool {
        // Without /proc, strangers cannot be told from leftovers: the stages' timers end the wait.
        !self.before.is_empty() && process::children(&self.before).is_some_and(|children| children.is_empty())
    }
}

impl Default for Reaper {
    fn default() -> Self {
        Self::new()
    }
}
