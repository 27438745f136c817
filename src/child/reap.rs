//! The one owner of `waitpid(-1)`: who ended, and whether anybody is left.

use super::process;
use crate::{
    exit::Status,
    report::Usage,
    signals::Signal,
    sys::{self, Spent, Wait},
};
use std::collections::HashSet;

/// The news of one round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// The app ended so.
    pub app: Option<Status>,
    /// What it used.
    pub usage: Usage,
    /// The kernel wrote a core file.
    pub core: bool,
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
            let (wait, spent) = sys::wait_any();
            match wait {
                Wait::Exited(pid, code) => self.ended(pid, Status::Exited(code), spent, &mut news),
                Wait::Signaled(pid, signal) => self.ended(pid, Status::Signaled(Signal(signal)), spent, &mut news),
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
            if planted!(zombie_left) {
                return news;
            }
        }
    }

    fn ended(&mut self, pid: i32, status: Status, spent: Spent, news: &mut Reaped) {
        if self.app == Some(pid) {
            self.app = None;
            news.app = Some(status);
            news.usage = Usage { cpu: spent.cpu, max_rss_kib: spent.max_rss_kib };
            news.core = spent.core;
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
