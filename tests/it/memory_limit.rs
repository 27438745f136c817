//! The memory limit: an app that it kills is named as such, and its last lines arrive.

use crate::support::{
    closed::Closed,
    judge::{Seen, Terms},
    pair::Pair,
    tools,
    wrapper::Setup,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(20);

/// A control group of 64 MiB, removed at the end.
struct Group(PathBuf);

impl Group {
    /// In the first hierarchy that has the memory controller; the tests run as root.
    #[track_caller]
    fn new(name: &str) -> Self {
        tools::root();
        let name = format!("lastword-{name}-{}", std::process::id());
        let version_1 = PathBuf::from("/sys/fs/cgroup/memory");
        let (group, limit) = if version_1.exists() {
            (version_1.join(name), "memory.limit_in_bytes")
        } else {
            // Lets children of the top group have the controller, where they do not have it yet.
            let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
            (PathBuf::from("/sys/fs/cgroup").join(name), "memory.max")
        };
        fs::create_dir(&group).unwrap_or_else(|error| panic!("{}: {error}: no control groups here?", group.display()));
        let group = Self(group);
        fs::write(group.0.join(limit), "67108864").unwrap_or_else(|error| panic!("{limit}: {error}"));
        // Where there is swap, it would have to be full first.
        let _ = fs::write(group.0.join("memory.swap.max"), "0");
        group
    }

    /// Words before lastword that put it into the group.
    fn launcher(&self) -> [String; 4] {
        let join = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.0.display());
        ["sh".into(), "-c".into(), join, "sh".into()]
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn own(seen: &Seen) -> Vec<String> {
    seen.own.iter().map(|unit| String::from_utf8_lossy(&unit.text).into_owned()).collect()
}

fn exit_line(seen: &Seen) -> String {
    let told = own(seen);
    let found = told.iter().find(|line| line.starts_with("lastword: exit: ")).cloned();
    found.unwrap_or_else(|| panic!("no exit in {told:?}"))
}

/// Takes 200 MB.
fn glutton() -> String {
    format!("{} -c 'x = bytearray(200 << 20)'", tools::python())
}

#[test]
fn an_app_that_the_memory_limit_kills_is_named_and_its_last_lines_arrive() {
    let group = Group::new("app");
    let launcher = group.launcher();
    let pair = Pair::start();
    let setup = pair.setup().launcher(&launcher.each_ref().map(String::as_str)).env("LASTWORD_LIFECYCLE_LINES", "on");
    let oracle = setup.oracle("--count 200 --rate 0 --batch 10 --no-newline").join(" ");
    let done = setup.start(&["sh", "-c", &format!("{oracle}; exec {}", glutton())]).finish(LIMIT);
    assert_eq!(done.code(), 137, "stderr: {}", done.err());
    let terms = Terms { confirmed: true, ..Terms::default() };
    for (name, seen) in [("http", pair.http.collect()), ("tcp", pair.tcp.collect())] {
        done.acquit(name, &seen, terms);
        let line = exit_line(&seen);
        let begin = "lastword: exit: the app was killed by the memory limit: exited 137 (SIGKILL) after ";
        assert!(line.starts_with(begin), "{line}");
        // Where nobody reads drains, it is said, too.
        assert!(done.err().contains(&line), "{line} is not in {}", done.err());
    }
}

#[test]
fn a_flood_into_a_drain_that_is_down_is_shed_and_the_memory_limit_kills_nobody_19() {
    let group = Group::new("flood");
    let launcher = group.launcher();
    let down = Closed::port();
    let setup = Setup::new().drain(&format!("syslog+tcp://{down}#name=down")).flags(["--flush-timeout", "100ms"]);
    let setup = setup.launcher(&launcher.each_ref().map(String::as_str)).stdout(Stdio::null());
    let done = setup.start(&["sh", "-c", "yes a line of the flood | head -c 100000000"]).finish(LIMIT);
    assert!(done.code() == 0 && !done.err().contains("memory limit"), "{}: {}", done.code(), done.err());
    let books = done.report.as_ref().expect("a report").of("down");
    // 64 MiB, a sixteenth of it for lines.
    assert!(books.lost["overflow"] > 4_000_000 && books.lost() == books.read, "{books:?}");
}

#[test]
fn a_worker_that_the_memory_limit_kills_is_told_of_with_the_apps_exit() {
    let group = Group::new("worker");
    let launcher = group.launcher();
    let pair = Pair::start();
    let setup = pair.setup().launcher(&launcher.each_ref().map(String::as_str)).env("LASTWORD_LIFECYCLE_LINES", "on");
    let done = setup.start(&["sh", "-c", &format!("{}; exit 3", glutton())]).finish(LIMIT);
    assert_eq!(done.code(), 3, "stderr: {}", done.err());
    let line = exit_line(&pair.http.collect());
    assert!(
        line.contains("the app exited 3 after ") && line.ends_with("; the memory limit killed 1 process of its own"),
        "{line}"
    );
}

#[test]
fn a_kill_by_somebody_else_is_not_blamed_on_the_memory_limit() {
    let group = Group::new("other");
    let launcher = group.launcher();
    let pair = Pair::start();
    let setup = pair.setup().launcher(&launcher.each_ref().map(String::as_str)).env("LASTWORD_LIFECYCLE_LINES", "on");
    let done = setup.start(&["sh", "-c", "kill -KILL $$"]).finish(LIMIT);
    assert_eq!((done.code(), done.err().as_str()), (137, ""));
    let line = exit_line(&pair.http.collect());
    assert!(
        line.starts_with("lastword: exit: the app exited 137 (SIGKILL) after ") && !line.contains("limit"),
        "{line}"
    );
}

/// A version 2 hierarchy of files that a test can write, in a mount namespace of its own.
const PRETENDED: &str = "mount -t tmpfs none /sys/fs/cgroup && cd /sys/fs/cgroup && echo 1 > memory.oom.group \
    && printf 'oom 0\\noom_kill 7\\n' > memory.events && cd / && exec \"$@\"";

#[test]
fn a_limit_that_kills_the_whole_container_is_named_at_the_start_and_by_check() {
    tools::root();
    let launcher = ["unshare", "--mount", "sh", "-c", PRETENDED, "sh"];
    let pair = Pair::start();
    let setup = pair.setup().launcher(&launcher).env("LASTWORD_LIFECYCLE_LINES", "on");
    let count = "printf 'oom 1\\noom_kill 8\\n' > /sys/fs/cgroup/memory.events; kill -KILL $$";
    let done = setup.start(&["sh", "-c", count]).finish(LIMIT);
    assert_eq!(done.code(), 137, "stderr: {}", done.err());
    let seen = pair.tcp.collect();
    let whole =
        "the memory limit kills the whole container at once (memory.oom.group): only lines in a spool survive that";
    assert!(own(&seen)[0].contains(whole), "{:?}", own(&seen));
    assert!(exit_line(&seen).contains("was killed by the memory limit"), "{:?}", own(&seen));
    let done = Setup::command(&["check"]).launcher(&launcher).start::<&str>(&[]).finish(LIMIT);
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(out.contains("kills the whole container at once (memory.oom.group)"), "{out}{}", done.err());
}

/// Copies a program and its libraries below `root`, at their own paths.
fn copy_program(root: &Path, program: &str) {
    let libraries = Command::new("ldd").arg(program).output().expect("ldd runs");
    let text = String::from_utf8_lossy(&libraries.stdout).into_owned();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/')).chain([program]);
    for path in paths {
        let copy = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().expect("not the root")).expect("a directory of our own");
        fs::copy(path, copy).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

#[test]
fn in_a_container_of_64_mib_the_kill_is_named_and_nothing_is_lost() {
    tools::root();
    tools::program("/usr/sbin/runc", "runc");
    let podman = tools::program("/usr/bin/podman", "podman");
    let pair = Pair::start();
    let setup = pair.setup();
    let at = |name: &str| setup.path(name).display().to_string();
    let root = setup.path("rootfs");
    for program in [&*tools::lastword().to_string_lossy(), &tools::oracle_app(), "/bin/sh", "/usr/bin/tail"] {
        copy_program(&root, program);
    }
    for mount_point in ["proc", "sys", "dev", "etc", "tmp"] {
        fs::create_dir_all(root.join(mount_point)).expect("a directory of our own");
    }
    // vfs and cgroupfs work on any kernel; the limits that podman sets by itself need rights that a container lacks. The
    // run's directory is at the same place inside.
    // conmon leaves a file called `oom` where it was started.
    let mut launcher: Vec<String> = vec!["env".into(), "-C".into(), at(""), podman.into()];
    launcher.extend(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--runtime=runc"].map(str::to_owned));
    for (option, name) in [("--root", "storage"), ("--runroot", "run"), ("--tmpdir", "podman")] {
        launcher.extend([option.into(), at(name)]);
    }
    let options =
        ["run", "--rm", "--memory=64m", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096", "--network=host"];
    launcher.extend(options.map(str::to_owned));
    launcher.extend(["--env=LASTWORD_LIFECYCLE_LINES=on".into(), format!("--volume={0}:{0}", at(""))]);
    launcher.extend(["--rootfs".into(), root.display().to_string()]);
    let oracle = setup.oracle("--count 200 --rate 0 --batch 10").join(" ");
    let launcher: Vec<&str> = launcher.iter().map(String::as_str).collect();
    // It never finds the end of a line.
    let hungry = format!("{oracle}; exec /usr/bin/tail /dev/zero");
    let done = setup.launcher(&launcher).start(&["/bin/sh", "-c", &hungry]).finish(LIMIT);
    assert_eq!((done.code(), done.record.done()), (137, 200), "stderr: {}", done.err());
    let terms = Terms { confirmed: true, ..Terms::default() };
    for (name, seen) in [("http", pair.http.collect()), ("tcp", pair.tcp.collect())] {
        done.acquit(name, &seen, terms);
        assert!(exit_line(&seen).contains("the app was killed by the memory limit"), "{:?}", own(&seen));
    }
}
