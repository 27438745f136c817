//! The memory limit of our control group: how many processes it killed, and whether it kills all at once.
//!
//! Version 2 counts in `memory.events`, version 1 in `memory.oom_control` (Linux 4.13; before that there is `failcnt`,
//! which counts how often the limit was met and is taken for a hint beside a SIGKILL). The kernel counts before it sends the
//! signal, so the number is up to date when the death is known. A machine that is out of memory as a whole is counted
//! the same way and called a limit, too: for the container it is one.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The control groups of this process that have to do with memory: (directory, its ancestors up to the mount point).
/// `root` is `/`, but in tests.
pub(crate) fn memory_groups(root: &Path) -> Vec<Group> {
    let membership = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    membership.lines().filter_map(|line| Group::parse(root, line)).collect()
}

/// A control group with its ancestors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Of the hierarchy: 1 or 2.
    pub(crate) version: u8,
    /// Its own first. Without a cgroup namespace its path is the host's and not visible here; the container's own group is
    /// then the mount point, which is the last.
    pub(crate) directories: Vec<PathBuf>,
}

impl Group {
    /// One line of /proc/self/cgroup (cgroups(7)): `ID:CONTROLLERS:PATH`; ID 0 without controllers is the v2 hierarchy.
    fn parse(root: &Path, line: &str) -> Option<Self> {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (version, mount) = if id == "0" && controllers.is_empty() {
            (2, "sys/fs/cgroup")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (1, "sys/fs/cgroup/memory")
        } else {
            return None;
        };
        let mount = root.join(mount);
        let own = mount.join(path.trim_start_matches('/'));
        let directories = own.ancestors().take_while(|directory| directory.starts_with(&mount));
        Some(Self { version, directories: directories.map(Path::to_owned).collect() })
    }
}

/// Watches what the memory limit does to us.
#[derive(Debug)]
pub struct MemoryLimit {
    counter: Option<(PathBuf, &'static str)>,
    kills_all: bool,
    seen: u64,
}

impl MemoryLimit {
    /// Looks for the limit of this process. `root` is `/`, but in tests.
    pub fn find(root: &Path) -> Self {
        let groups = memory_groups(root);
        let counter = groups.iter().find_map(counter);
        // Any ancestor's limit may be the one that is met.
        let is_set = |directory: &PathBuf| {
            fs::read_to_string(directory.join("memory.oom.group")).is_ok_and(|text| text.trim() == "1")
        };
        let kills_all = groups.iter().any(|group| group.version == 2 && group.directories.iter().any(is_set));
        let mut limit = Self { counter, kills_all, seen: 0 };
        limit.seen = limit.count();
        limit
    }

    /// Whether it kills every process of the container at once, us among them (`memory.oom.group`).
    pub const fn kills_all(&self) -> bool {
        self.kills_all
    }

    /// Processes that it killed since the last call, or since the start. `sigkill`: a KILL that is not ours ended the app,
    /// without which a mere meeting with the limit says nothing.
    pub fn new_kills(&mut self, sigkill: bool) -> u64 {
        let now = self.count();
        let new = now.saturating_sub(std::mem::replace(&mut self.seen, now));
        let is_hint = self.counter.as_ref().is_some_and(|(_, key)| key.is_empty());
        if is_hint { new.min(u64::from(sigkill)) } else { new }
    }

    fn count(&self) -> u64 {
        let count = |(path, key): &(PathBuf, &str)| number(&fs::read_to_string(path).ok()?, key);
        self.counter.as_ref().and_then(count).unwrap_or(0)
    }
}

/// The file that counts, and the word before the number in it.
fn counter(group: &Group) -> Option<(PathBuf, &'static str)> {
    let files: &[(&str, &str)] = match group.version {
        2 => &[("memory.events", "oom_kill")],
        _ => &[("memory.oom_control", "oom_kill"), ("memory.failcnt", "")],
    };
    let here = |directory: &PathBuf| {
        files.iter().find_map(|&(file, key)| {
            let path = directory.join(file);
            number(&fs::read_to_string(&path).ok()?, key).map(|_| (path, key))
        })
    };
    group.directories.iter().find_map(here)
}

/// `KEY NUMBER` on a line of its own; without a key the number alone.
fn number(text: &str, key: &str) -> Option<u64> {
    let value = |line: &str| match line.trim().rsplit_once(' ') {
        Some((name, value)) => (name == key).then(|| value.to_owned()),
        None => key.is_empty().then(|| line.trim().to_owned()),
    };
    text.lines().find_map(value)?.parse().ok()
}

#[cfg(test)]
pub(crate) mod testing {
    use std::fs;

    /// A machine of these files.
    pub(crate) fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::machine, *};

    fn kills(files: &[(&str, &str)], counter: &str, later: &str) -> [u64; 3] {
        let root = machine(files);
        let mut limit = MemoryLimit::find(root.path());
        let before = limit.new_kills(true);
        fs::write(root.path().join(counter), later).unwrap();
        [before, limit.new_kills(true), limit.new_kills(true)]
    }

    #[test]
    fn kills_are_counted_from_the_start_on_in_both_versions() {
        let events = "sys/fs/cgroup/memory.events";
        let version_2 =
            [("proc/self/cgroup", "0::/\n"), (events, "low 0\nhigh 0\nmax 9\noom 4\noom_kill 4\noom_group_kill 0\n")];
        assert_eq!(kills(&version_2, events, "oom 6\noom_kill 6\noom_group_kill 1\n"), [0, 2, 0]);
        let control = "sys/fs/cgroup/memory/docker/abc/memory.oom_control";
        let version_1 = [
            ("proc/self/cgroup", "12:cpu:/\n4:memory:/docker/abc\n0::/\n"),
            (control, "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"),
        ];
        assert_eq!(kills(&version_1, control, "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"), [0, 1, 0]);
        let failures = "sys/fs/cgroup/memory/memory.failcnt";
        let old = [
            ("proc/self/cgroup", "4:memory:/docker/abc\n"),
            ("sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n"),
            (failures, "0\n"),
        ];
        assert_eq!(kills(&old, failures, "63\n"), [0, 1, 0]);
        let root = machine(&old);
        let mut limit = MemoryLimit::find(root.path());
        fs::write(root.path().join(failures), "63\n").unwrap();
        assert_eq!(limit.new_kills(false), 0, "the limit was met, and page cache made room");
    }

    #[test]
    fn where_nothing_counts_nothing_was_killed() {
        let mut limit = MemoryLimit::find(machine(&[]).path());
        assert_eq!((limit.new_kills(true), limit.kills_all()), (0, false));
    }

    #[test]
    fn a_limit_that_kills_all_is_known_also_from_an_ancestor() {
        let files = |group| [("proc/self/cgroup", "0::/pod/app\n"), ("sys/fs/cgroup/pod/memory.oom.group", group)];
        assert!(MemoryLimit::find(machine(&files("1\n")).path()).kills_all());
        assert!(!MemoryLimit::find(machine(&files("0\n")).path()).kills_all());
    }
}
