//! Containers, really run by podman, from images that are built here. Nothing but the loopback is used when they run.

use super::{
    judge::{Seen, Terms, judge},
    record::Record,
    report::Report,
    tools,
    wrapper::raw,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// One container test at a time: each is a second of copying images, and has its limits in seconds.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits for the other container tests.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work() -> PathBuf {
    let work = tools::crate_root().join("target/container");
    fs::create_dir_all(&work).expect("target can be written");
    work
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

/// Podman with a storage of its own, which goes with it: a storage of an earlier run could not be told from a fresh
/// one, and does not survive that its directory is moved.
pub struct Podman {
    storage: TempDir,
    /// Sockets are in it, so podman refuses a path of more than 50 characters, wherever somebody's checkout is.
    state: TempDir,
}

impl Podman {
    pub fn new() -> Self {
        tools::root();
        tools::program("/usr/sbin/runc", "runc");
        let storage = tempfile::tempdir_in(work()).expect("target can be written");
        Self { storage, state: tempfile::tempdir_in("/tmp").expect("/tmp can be written") }
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(tools::program("/usr/bin/podman", "podman"));
        // vfs and cgroupfs work on any kernel and in any container.
        command.args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--runtime=runc"]);
        command.arg("--root").arg(self.storage.path());
        command.arg("--runroot").arg(self.state.path().join("run"));
        command.arg("--tmpdir").arg(self.state.path().join("tmp"));
        command
    }

    /// Builds an image from a Dockerfile and the files that it copies.
    pub fn build(&self, tag: &str, dockerfile: &str, files: &[(&str, impl AsRef<Path>)]) {
        let context = tempfile::tempdir().expect("a temporary directory");
        for (name, path) in files {
            let path = path.as_ref();
            fs::copy(path, context.path().join(name)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        fs::write(context.path().join("Dockerfile"), dockerfile).expect("a fresh file");
        self.build_in(context.path(), tag, &[]);
    }

    pub fn build_in(&self, context: &Path, tag: &str, options: &[&str]) {
        // One layer: vfs copies the whole image for each.
        let fixed = ["build", "--quiet", "--layers=false", "--network=none", "--tag", tag];
        run(self.command().args(fixed).args(options).arg(context));
    }
}

/// A container that is removed at the end.
pub struct Container<'a> {
    podman: &'a Podman,
    name: String,
    /// What the container sees as /test: its record and its report.
    shared: TempDir,
}

impl<'a> Container<'a> {
    pub fn start(podman: &'a Podman, image: &str, options: &[&str], command: &[&str]) -> Self {
        let shared = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(shared.path().join("record")).expect("a fresh directory");
        let name = format!("lastword-test-{}", lastword::clock::stamp().0);
        let volume = format!("{}:/test", shared.path().display());
        // The limits that podman sets by itself need rights that a container in a container lacks.
        let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096", "--network=host"];
        run(podman
            .command()
            .args(["run", "--detach", "--name", &name, "--volume", &volume, "--env=RECORD=/test/record"])
            .arg("--env=LASTWORD_LIFECYCLE_LINES=off")
            .args(limits)
            .args(options)
            .arg(image)
            .args(command));
        Self { podman, name, shared }
    }

    pub fn record(&self) -> Record {
        Record::read(&self.shared.path().join("record")).expect("a readable record")
    }

    /// `podman stop -t SECONDS`; says how long it took, and the exit code.
    pub fn stop(&self, seconds: u64) -> (Duration, i32) {
        let begin = lastword::clock::now();
        run(self.podman.command().args(["stop", "--time", &seconds.to_string(), &self.name]));
        (elapsed(begin), self.exit_code())
    }

    fn exit_code(&self) -> i32 {
        let output = run(self.podman.command().args(["inspect", "--format", "{{.State.ExitCode}}", &self.name]));
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("an exit code")
    }

    /// What the platform's own log has: (stdout, stderr).
    pub fn logs(&self) -> (Vec<u8>, Vec<u8>) {
        let output = run(self.podman.command().args(["logs", &self.name]));
        (output.stdout, output.stderr)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.podman.command().args(["rm", "--force", "--time=0", &self.name]).output();
    }
}

fn elapsed(begin: Instant) -> Duration {
    lastword::clock::now() - begin
}

/// Debian bookworm with python3, as a local image. The archive that it is made from is kept.
pub fn debian_image(podman: &Podman) {
    let archive = work().join("bookworm.tar");
    if !archive.exists() {
        let root = tempfile::tempdir_in(work()).expect("target can be written");
        let debootstrap = tools::program("/usr/sbin/debootstrap", "debootstrap");
        let options = ["--variant=minbase", "--include=python3-minimal", "bookworm"];
        run(Command::new(debootstrap).args(options).arg(root.path()));
        for waste in ["var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"] {
            let _ = fs::remove_dir_all(root.path().join(waste));
        }
        // Under its name only when it is whole.
        let partial = work().join("bookworm.partial");
        run(Command::new("tar").arg("-C").arg(root.path()).arg("-cf").arg(&partial).arg("."));
        fs::rename(&partial, &archive).expect("one directory");
    }
    run(podman.command().arg("import").arg(&archive).arg("lastword-test-debian"));
}

pub fn acquit(container: &Container<'_>, drains: [(&str, Seen); 2]) {
    let record = container.record();
    let report = Report::read(&container.shared.path().join("report.json"));
    let report =
        report.unwrap_or_else(|error| panic!("{error}; logs: {}", String::from_utf8_lossy(&container.logs().1)));
    let terms = Terms { confirmed: true, ..Terms::default() };
    for (name, seen) in drains {
        if let Err(violations) = judge(&record, Some(report.of(name)), &seen, terms) {
            panic!("{name}: {violations:?}\nbooks: {:?}\nrecord: {record:?}", report.of(name));
        }
    }
    let passed = raw(&container.logs().0, 'o');
    let terms = Terms { broken: true, ..Terms::default() };
    judge(&record, None, &passed, terms).unwrap_or_else(|found| panic!("podman logs: {found:?}"));
}
