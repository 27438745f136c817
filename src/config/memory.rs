//! `--memory`: for `auto` a share of what the container may use, and always room for two of the longest lines (`--max-line`).

use super::{
    problem::{Exit, Problem},
    setting::Setting,
    units,
};
use crate::cgroup::{Group, memory_groups};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Upper limit of the automatic size, in bytes.
const MOST: u64 = 32 << 20;
/// Lower limit of the automatic size, in bytes.
const LEAST: u64 = 2 << 20;
/// The drains together get one part in so many of the container's memory.
const SHARE: u64 = 16;
/// cgroup v1 says "no limit" with a number close to `i64::MAX`; no machine has an exbibyte.
const NO_LIMIT: u64 = 1 << 60;

/// The longest line, and the memory, in bytes. A line must fit into memory twice (in the queue and on its way): an automatic size grows for it, a
/// stated one has to.
pub(super) fn with_line(
    max_line: Option<Setting>,
    memory: Option<Setting>,
    default: usize,
) -> Result<(usize, usize), Exit> {
    let line = match max_line {
        Some(found) => found.read(|text| units::size_between(text, 64, 64 << 20))?,
        None => default,
    };
    let automatic = || usize::try_from(automatic(Path::new("/"))).unwrap_or(usize::MAX).max(4 * line);
    let Some(found) = memory.filter(|found| !found.is("auto")) else { return Ok((line, automatic())) };
    let least = 2 * line as u64;
    let bytes = found.read(|text| {
        let bytes = units::size_between(text, 4 << 10, 64 << 30)?;
        if (bytes as u64) < least {
            let line = units::human_size(line as u64);
            let right = format!("write at least `{}`, or lower --max-line (now `{line}`)", units::human_size(least));
            return Err(Problem::new(format!("`{text}` is less than two lines of the largest size"), right));
        }
        Ok(bytes)
    })?;
    Ok((line, bytes))
}

/// min(32 MiB, cgroup limit / 16), at least 2 MiB. `root` is `/`, but in tests.
fn automatic(root: &Path) -> u64 {
    cgroup_limit(root).map_or(MOST, |limit| (limit / SHARE).clamp(LEAST, MOST))
}

/// The tightest memory limit of this process' cgroup and its ancestors, as far as they can be seen, in bytes.
fn cgroup_limit(root: &Path) -> Option<u64> {
    memory_groups(root).iter().filter_map(limit_of).min()
}

fn limit_of(group: &Group) -> Option<u64> {
    let file = if group.version == 2 { "memory.max" } else { "memory.limit_in_bytes" };
    let limit = |directory: &PathBuf| fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok();
    group.directories.iter().filter_map(limit).filter(|&limit| limit < NO_LIMIT).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::testing::machine;

    #[test]
    fn version_2_takes_the_tightest_ancestor() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/pod/app\n"),
            ("sys/fs/cgroup/pod/app/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/memory.max", "268435456\n"),
            ("sys/fs/cgroup/memory.max", "536870912\n"),
        ]);
        assert_eq!(automatic(root.path()), 16 << 20);
    }

    #[test]
    fn a_host_path_that_is_not_visible_falls_back_to_the_mount_point() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/kubepods/burstable/pod1\n"),
            ("sys/fs/cgroup/memory.max", "134217728\n"),
        ]);
        assert_eq!(automatic(root.path()), 8 << 20);
    }

    #[test]
    fn version_1_is_read_and_its_no_limit_known() {
        let files = |limit| {
            [
                ("proc/self/cgroup", "12:cpu,cpuacct:/a\n5:memory:/docker/abc\n1:name=systemd:/a\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", limit),
            ]
        };
        assert_eq!(automatic(machine(&files("9223372036854771712\n")).path()), 32 << 20);
        assert_eq!(automatic(machine(&files("67108864\n")).path()), 4 << 20);
    }

    #[test]
    fn a_tiny_container_still_gets_2_mib_and_an_unknown_machine_32() {
        let root = machine(&[("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "16777216\n")]);
        assert_eq!(automatic(root.path()), 2 << 20);
        assert_eq!(automatic(machine(&[]).path()), 32 << 20);
    }
}
