//! Containers, really run by podman: the static binary as ENTRYPOINT, a stop by the platform, and what arrived.
//!
//! The static binaries are built by `scripts/static-build ci`; the Debian base image comes from debootstrap and is kept
//! in target/container. Nothing but the loopback is used when the containers run.

use crate::support::{judge::Terms, pair::Pair, record::Record, tools, until, wrapper::raw};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// One container test at a time: each is a second of copying images, and has its limits in seconds.
static ALONE: Mutex<()> = Mutex::new(());

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
struct Podman {
    storage: TempDir,
}

impl Podman {
    fn new() -> Self {
        tools::root();
        tools::program("/usr/sbin/runc", "runc");
        Self { storage: tempfile::tempdir_in(work()).expect("target can be written") }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(tools::program("/usr/bin/podman", "podman"));
        // vfs and cgroupfs work on any kernel and in any container.
        command.args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--runtime=runc"]);
        for (option, name) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(option).arg(self.storage.path().join(name));
        }
        command
    }

    /// Builds an image from a Dockerfile and the files that it copies.
    fn build(&self, tag: &str, dockerfile: &str, files: &[(&str, &Path)]) {
        let context = tempfile::tempdir().expect("a temporary directory");
        for (name, path) in files {
            fs::copy(path, context.path().join(name)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        fs::write(context.path().join("Dockerfile"), dockerfile).expect("a fresh file");
        self.build_in(context.path(), tag, &[]);
    }

    fn build_in(&self, context: &Path, tag: &str, options: &[&str]) {
        // One layer: vfs copies the whole image for each.
        let fixed = ["build", "--quiet", "--layers=false", "--network=none", "--tag", tag];
        run(self.command().args(fixed).args(options).arg(context));
    }
}

/// A container that is removed at the end.
struct Container<'a> {
    podman: &'a Podman,
    name: String,
    /// What the container sees as /test: its record and its report.
    shared: TempDir,
}

impl<'a> Container<'a> {
    fn start(podman: &'a Podman, image: &str, options: &[&str], command: &[&str]) -> Self {
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

    fn record(&self) -> Record {
        Record::read(&self.shared.path().join("record")).expect("a readable record")
    }

    /// `podman stop -t SECONDS`; says how long it took, and the exit code.
    fn stop(&self, seconds: u64) -> (Duration, i32) {
        let begin = lastword::clock::now();
        run(self.podman.command().args(["stop", "--time", &seconds.to_string(), &self.name]));
        (elapsed(begin), self.exit_code())
    }

    fn exit_code(&self) -> i32 {
        let output = run(self.podman.command().args(["inspect", "--format", "{{.State.ExitCode}}", &self.name]));
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("an exit code")
    }

    /// What the platform's own log has: (stdout, stderr).
    fn logs(&self) -> (Vec<u8>, Vec<u8>) {
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

fn acquit(container: &Container<'_>, pair: Pair) {
    let record = container.record();
    let report = crate::support::report::Report::read(&container.shared.path().join("report.json"));
    let report =
        report.unwrap_or_else(|error| panic!("{error}; logs: {}", String::from_utf8_lossy(&container.logs().1)));
    let terms = Terms { confirmed: true, ..Terms::default() };
    for (name, seen) in [("http", pair.http.collect()), ("tcp", pair.tcp.collect())] {
        if let Err(violations) = crate::support::judge::judge(&record, Some(report.of(name)), &seen, terms) {
            panic!("{name}: {violations:?}\nbooks: {:?}\nrecord: {record:?}", report.of(name));
        }
    }
    let passed = raw(&container.logs().0, 'o');
    let terms = Terms { broken: true, ..Terms::default() };
    crate::support::judge::judge(&record, None, &passed, terms)
        .unwrap_or_else(|found| panic!("podman logs: {found:?}"));
}

#[test]
fn a_scratch_image_with_nothing_but_two_binaries_loses_no_word_at_podman_stop() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let podman = Podman::new();
    let lastword = tools::static_build("ci");
    let app = lastword.parent().expect("a directory").join("examples/oracle_app");
    let dockerfile = "FROM scratch\nCOPY lastword oracle_app /\nENTRYPOINT [\"/lastword\", \"--\"]\n";
    podman.build("lastword-test-scratch", dockerfile, &[("lastword", &lastword), ("oracle_app", &app)]);
    let pair = Pair::start();
    let (tcp, http) = (pair.tcp.url("tcp"), pair.http.url("http"));
    let drains = [format!("--env=LASTWORD_DRAIN_TCP={tcp}"), format!("--env=LASTWORD_DRAIN_HTTP={http}")];
    let options = [&drains[0], &drains[1], "--env=LASTWORD_STOP_TIMEOUT=5s", "--env=LASTWORD_REPORT=/test/report.json"];
    let command =
        ["/oracle_app", "--record", "/test/record", "--rate", "500", "--on-term", "goodbye:1500", "--exit", "3"];
    let container = Container::start(&podman, "lastword-test-scratch", &options, &command);
    until("the app to write", Duration::from_secs(20), || container.record().done() > 200);
    let (took, code) = container.stop(5);
    assert_eq!(code, 3, "logs: {}", String::from_utf8_lossy(&container.logs().1));
    assert!(took < Duration::from_secs(5), "podman stop took {took:?}");
    assert_eq!(container.record().goodbyes, ["app"]);
    acquit(&container, pair);
}

/// Debian bookworm with python3, as a local image. The archive that it is made from is kept.
fn debian_image(podman: &Podman) {
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

#[test]
fn the_worker_in_a_shell_loop_says_goodbye_in_a_debian_container() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let podman = Podman::new();
    let lastword = tools::static_build("ci");
    debian_image(&podman);
    let worker = PathBuf::from(tools::fixture("worker.py"));
    let dockerfile = "FROM localhost/lastword-test-debian\nCOPY lastword /usr/local/bin/\nCOPY worker.py /\n\
        ENTRYPOINT [\"lastword\", \"--\"]\n\
        CMD [\"sh\", \"-c\", \"while true; do python3 worker.py; sleep 1; done\"]\n";
    podman.build("lastword-test-worker", dockerfile, &[("lastword", &lastword), ("worker.py", &worker)]);
    let pair = Pair::start();
    let (tcp, http) = (pair.tcp.url("tcp"), pair.http.url("http"));
    let drains = [format!("--env=LASTWORD_DRAIN_TCP={tcp}"), format!("--env=LASTWORD_DRAIN_HTTP={http}")];
    let options = [&drains[0], &drains[1], "--env=LASTWORD_STOP_TIMEOUT=5s", "--env=LASTWORD_REPORT=/test/report.json"];
    let container = Container::start(&podman, "lastword-test-worker", &options, &[]);
    until("the worker to write", Duration::from_secs(20), || container.record().done() > 20);
    let (took, code) = container.stop(5);
    assert_eq!(code, 143, "logs: {}", String::from_utf8_lossy(&container.logs().1));
    assert!(took < Duration::from_secs(5), "podman stop took {took:?}");
    let record = container.record();
    assert!(!record.ready.is_empty() && record.ready == record.goodbyes, "{record:?}");
    acquit(&container, pair);
}

/// The image of our own Dockerfile, its build stage replaced by the binary that was built outside.
fn our_own_image(podman: &Podman, lastword: &Path) {
    let stage = tempfile::tempdir().expect("a temporary directory");
    let certificates = "etc/ssl/certs/ca-certificates.crt";
    fs::create_dir_all(stage.path().join("etc/ssl/certs")).expect("a fresh directory");
    fs::write(stage.path().join(certificates), "").expect("a fresh file");
    fs::copy(lastword, stage.path().join("lastword")).expect("the binary is there");
    let stage = format!("--build-context=build={}", stage.path().display());
    podman.build_in(tools::crate_root(), "lastword-test-binary", &[&stage]);
}

#[test]
fn the_images_in_examples_are_built_and_say_goodbye() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let podman = Podman::new();
    let lastword = tools::static_build("ci");
    debian_image(&podman);
    for (example, last) in [("python", "goodbye after "), ("shell", "worker: goodbye")] {
        // Again for each: a build without layers takes the images of its other stages along when it tidies up.
        our_own_image(&podman, &lastword);
        let directory = tools::crate_root().join("examples").join(example);
        let tag = format!("lastword-test-{example}");
        let arguments = [
            "--build-arg=LASTWORD_IMAGE=localhost/lastword-test-binary",
            "--build-arg=BASE_IMAGE=localhost/lastword-test-debian",
        ];
        podman.build_in(&directory, &tag, &arguments);
        let pair = Pair::start();
        let (tcp, http) = (pair.tcp.url("tcp"), pair.http.url("http"));
        let drains = [format!("--env=LASTWORD_DRAIN_TCP={tcp}"), format!("--env=LASTWORD_DRAIN_HTTP={http}")];
        let options = [&drains[0], &drains[1], "--env=LASTWORD_STOP_TIMEOUT=8s"];
        let container = Container::start(&podman, &tag, &options, &[]);
        until("its first lines", Duration::from_secs(20), || pair.tcp.messages() > 1);
        let (took, _) = container.stop(8);
        assert!(took < Duration::from_secs(8), "podman stop took {took:?}");
        let passed = String::from_utf8_lossy(&container.logs().0).into_owned();
        for seen in [pair.tcp.collect(), pair.http.collect()] {
            let lines = seen.units.iter().map(|unit| String::from_utf8_lossy(&unit.text).into_owned() + "\n");
            assert_eq!(lines.collect::<String>(), passed);
        }
        assert!(passed.lines().last().is_some_and(|line| line.starts_with(last)), "{passed}");
    }
}
