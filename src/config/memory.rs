//! `--memory auto`: a share of what the container may use.

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

/// min(32 MiB, cgroup limit / 16), at least 2 MiB. `root` is `/`, but in tests.
pub(crate) fn automatic(root: &Path) -> u64 {
    cgroup_limit(root).map_or(MOST, |limit| (limit / SHARE).clamp(LEAST, MOST))
}

/// The tightest memory limit of this process' cgroup and its ancestors, as far as they can be seen, in bytes.
fn cgroup_limit(root: &Path) -> Option<u64> {
    let membership = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    membership.lines().filter_map(|line| limit_of(root, line)).min()
}

/// One line of /proc/self/cgroup (cgroups(7)): `ID:CONTROLLERS:PATH`; ID 0 without controllers is the v2 hierarchy.
fn limit_of(root: &Path, line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (mount, file) = if id == "0" && controllers.is_empty() {
        ("sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|controller| controller == "memory") {
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return None;
    };
    // Without a cgroup namespace the path is the host's and not visible here; the container's own limit is then at the
    // mount point, which is the last ancestor.
    let mount = root.join(mount);
    let own: PathBuf = mount.join(path.trim_start_matches('/'));
    own.ancestors()
        .take_while(|directory| directory.starts_with(&mount))
        .filter_map(|directory| fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok())
        .filter(|&limit| limit < NO_LIMIT)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

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
