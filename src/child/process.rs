//! What /proc says of processes. Every answer may be stale when it arrives; callers must not mind.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::PathBuf,
    time::Duration,
};

/// A process as /proc/PID/stat shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    /// Process group.
    pub(super) group: i32,
    /// R, S, D, T, Z…
    pub(super) state: u8,
    /// In clock ticks since the boot: with the number, a name for ever.
    pub(super) started: u64,
}

impl Process {
    /// When it began, since the boot, to 10 ms.
    pub(super) const fn born(&self) -> Duration {
        // USER_HZ is 100 wherever Rust runs.
        Duration::from_millis(self.started.saturating_mul(10))
    }

    /// What tells it from a later process of the same number.
    pub(super) const fn name(&self) -> (i32, u64) {
        (self.pid, self.started)
    }
}

/// What a process does about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// It has a handler.
    Catches,
    /// It is deaf to it.
    Ignores,
    /// The default.
    Default,
}

/// Our own number.
pub(super) fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// Our own process group, as /proc shows it.
pub(super) fn own_group() -> Option<i32> {
    read(own_pid()).map(|process| process.group)
}

/// Every process that we can see, or None without /proc.
pub(super) fn all() -> Option<Vec<Process>> {
    let names = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let found: Vec<Process> = names.filter_map(read).collect();
    // An empty directory of that name is no /proc; one that does not show us belongs to another pid namespace.
    found.iter().any(|process| process.pid == own_pid()).then_some(found)
}

/// The process of this number, if there is one.
pub(super) fn read(pid: i32) -> Option<Process> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(pid: i32, stat: &str) -> Option<Process> {
    // The name is in parentheses and may hold blanks and parentheses of its own: the last one counts.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // `starttime` is field 22 of proc_pid_stat(5); field 5 was the last one read.
    let started = fields.nth(16)?.parse().ok()?;
    Some(Process { pid, parent, group, state, started })
}

/// Those who descend from `root`, zombies included, without `except` and what descends from them alone.
pub(super) fn descendants(all: &[Process], root: i32, except: &HashSet<i32>) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(*process);
    }
    let mut found = Vec::new();
    let mut todo = vec![root];
    // Each process is in one parent's list, and each list is taken once: this ends though /proc change meanwhile.
    while let Some(parent) = todo.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            if !except.contains(&process.pid) {
                todo.push(process.pid);
                found.push(process);
            }
        }
    }
    found
}

/// Our living and unreaped children, without `except`.
pub(super) fn children(except: &HashSet<i32>) -> Option<Vec<Process>> {
    let mut all = all()?;
    all.retain(|process| process.parent == own_pid() && !except.contains(&process.pid));
    Some(all)
}

/// What a process does about a signal, or None if it is gone.
pub(super) fn reaction(pid: i32, signal: i32) -> Option<Reaction> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(if mask(&status, "SigCgt:")? >> (signal - 1) & 1 == 1 {
        Reaction::Catches
    } else if mask(&status, "SigIgn:")? >> (signal - 1) & 1 == 1 {
        Reaction::Ignores
    } else {
        Reaction::Default
    })
}

/// Whether a signal waits for a process.
pub(super) fn waits_for(pid: i32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    ["SigPnd:", "ShdPnd:"].iter().filter_map(|name| mask(&status, name)).any(|set| set >> (signal - 1) & 1 == 1)
}

fn mask(status: &str, name: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

/// Whether a process reads from a pipe that is not the one which we read from ourselves.
pub(super) fn reads_a_pipe(pid: i32) -> bool {
    let ours = fs::read_link("/proc/self/fd/0").ok();
    let theirs: Option<PathBuf> = fs::read_link(format!("/proc/{pid}/fd/0")).ok();
    theirs.is_some_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"pipe:") && ours != Some(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process { pid, parent, group: 0, state: b'S', started: 0 }
    }

    #[test]
    fn names_with_blanks_and_parentheses_are_read_past() {
        let stat = "7 (a) b (c) R 3 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 10 11";
        assert_eq!(parse(7, stat), Some(Process { pid: 7, parent: 3, group: 7, state: b'R', started: 98_765 }));
        assert_eq!(parse(7, "7 (cut"), None);
    }

    #[test]
    fn the_whole_tree_is_found_and_those_before_us_are_not() {
        let all = [process(1, 0), process(2, 1), process(3, 2), process(4, 1), process(5, 4), process(9, 8)];
        let mut found: Vec<i32> = descendants(&all, 1, &HashSet::from([4])).iter().map(|found| found.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [2, 3]);
    }

    #[test]
    fn a_circle_of_stale_answers_ends() {
        let all = [process(2, 3), process(3, 2), process(4, 1)];
        assert_eq!(descendants(&all, 1, &HashSet::new()).len(), 1);
        assert_eq!(descendants(&all, 2, &HashSet::new()).len(), 2);
    }

    #[test]
    fn we_see_ourselves() {
        let own = read(own_pid()).expect("/proc is needed for the tests");
        assert!(all().expect("/proc").iter().any(|process| process.pid == own.pid && process.started == own.started));
        assert_eq!(reaction(own.pid, nix::libc::SIGPIPE), Some(Reaction::Ignores), "Rust's runtime ignores it");
    }
}
