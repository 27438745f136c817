//! A run of the program under test, its lines, and its end.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Long enough for a loaded machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    Pid1,
    Elsewhere,
}

pub(crate) const BOTH: [Place; 2] = [Place::Pid1, Place::Elsewhere];

/// The program under test: `LASTWORD_UNDER_TEST`, or the one that cargo has just built.
pub(crate) fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    let built = || env!("CARGO_BIN_EXE_lastword").to_owned();
    PROGRAM.get_or_init(|| std::env::var("LASTWORD_UNDER_TEST").unwrap_or_else(|_| built()))
}

/// The URL of a drain that takes connections and never answers. It lives as long as the test program.
pub(crate) fn hanging_drain() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    url
}

#[expect(clippy::disallowed_methods, reason = "tests measure how long a stop took")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The command line that `start` runs.
pub(crate) fn wrapped(place: Place, options: &[&str], command: &[&str]) -> Command {
    let mut outer = match place {
        Place::Pid1 => {
            let mut outer = Command::new("unshare");
            outer.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(program());
            outer
        }
        Place::Elsewhere => Command::new(program()),
    };
    outer.arg("--verbose").args(options).arg("--").args(command);
    outer
}

/// The same in a pid namespace anyway: as its PID 1, or as the child of a shell that is.
pub(crate) fn inside(place: Place, options: &[&str], command: &[&str]) -> Command {
    let plain = wrapped(Place::Elsewhere, options, command);
    let mut outer = Command::new("unshare");
    outer.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    if place == Place::Elsewhere {
        outer.args(["sh", "-c", "\"$@\"; exit $?", "sh"]);
    }
    outer.arg(plain.get_program()).args(plain.get_args());
    outer
}

/// On a platform whose budget of three seconds is assumed: Railway.
pub(crate) fn on_railway(mut outer: Command) -> Command {
    outer.env("RAILWAY_ENVIRONMENT", "production").env("RAILWAY_PROJECT_ID", "test");
    outer
}

/// A run of the program and the lines that it writes.
pub(crate) struct Run {
    child: Child,
    /// Its number as we see it, also if it is PID 1 for itself.
    pub(crate) pid: Pid,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Run {
    /// Runs a command with these options and `--verbose`.
    pub(crate) fn start(place: Place, options: &[&str], command: &[&str]) -> Self {
        Self::spawn(wrapped(place, options, command), place)
    }

    pub(crate) fn spawn(outer: Command, place: Place) -> Self {
        Self::spawn_reading(outer, place, Stdio::null())
    }

    /// As `spawn`, with something to read.
    pub(crate) fn spawn_reading(mut outer: Command, place: Place, stdin: Stdio) -> Self {
        // Its own group, so that no terminal of the tester's is in play; `setsid` would need a fork.
        // And no setting that is meant for the tests.
        outer.env_remove("LASTWORD_UNDER_TEST");
        outer.process_group(0).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = outer.spawn().expect("unshare and the program");
        let (sender, lines) = channel();
        let pipes: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for pipe in pipes {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                    let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
                }
            });
        }
        let outside = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let mut run = Self { child, pid: outside, lines, seen: Vec::new() };
        if place == Place::Pid1 {
            run.pid = run.child_of(outside);
        }
        run
    }

    /// The first child that runs another program than its parent: not a canary.
    pub(crate) fn child_of(&self, parent: Pid) -> Pid {
        let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        let own = program(&parent.to_string());
        let find = || {
            let children =
                std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
            let mut children = children.split_whitespace();
            children.find(|pid| program(pid).is_some_and(|other| Some(&other) != own.as_ref())).map(str::to_owned)
        };
        self.wait_until("it has a child", || find().is_some());
        Pid::from_raw(find().and_then(|pid| pid.parse().ok()).expect("a pid"))
    }

    /// Polls a condition that nothing announces.
    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let start = now();
        while !condition() {
            assert!(start.elapsed() < PATIENCE, "waited for: {what}; seen: {:#?}", self.seen);
            thread::yield_now();
        }
    }

    /// The pipe that it reads, with `Stdio::piped()`.
    pub(crate) fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("a pipe, taken once")
    }

    /// Waits for a line that contains `text`; returns it.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        if let Some(line) = self.seen.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        self.wait_for_next(text)
    }

    /// As `wait_for`, but what was seen before does not count.
    pub(crate) fn wait_for_next(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("no {text:?} ({error}); seen: {:#?}", self.seen),
            }
        }
    }

    /// Waits for new lines that contain these texts, in any order.
    pub(crate) fn wait_for_all(&mut self, texts: &[&str]) {
        let mut missing = texts.to_vec();
        while !missing.is_empty() {
            let line = self.wait_for_next("");
            missing.retain(|text| !line.contains(text));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("the program is there");
    }

    /// Sends a signal that `nix` has no name for.
    pub(crate) fn signal_number(&self, number: i32) {
        let status = Command::new("kill").arg(format!("-{number}")).arg(self.pid.to_string()).status();
        assert!(status.expect("kill").success(), "kill -{number}");
    }

    /// Waits for the exit; returns the code and all lines.
    pub(crate) fn end(mut self) -> (i32, Vec<String>) {
        let start = now();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("no end; seen: {:#?}", self.seen),
            }
            assert!(start.elapsed() < PATIENCE, "no end; seen: {:#?}", self.seen);
        }
        let status = self.child.wait().expect("its exit");
        let code = status.code().unwrap_or_else(|| panic!("ended by signal {:?}: {:#?}", status.signal(), self.seen));
        (code, std::mem::take(&mut self.seen))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A failed test leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn has(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

/// A shell worker that says goodbye half a second after TERM.
pub(crate) const WORKER: &str = "trap 'sleep 0.5; echo goodbye; exit 0' TERM; echo ready; while :; do sleep 0.02; done";

pub(crate) fn script(dir: &tempfile::TempDir, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.path().join(name);
    let mut file = File::create(&path).expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file.set_permissions(std::fs::Permissions::from_mode(0o755)).expect("executable");
    path.to_str().expect("UTF-8").to_owned()
}

/// A directory that other users can reach, on a file system that honours set-user-id; it goes with the value.
pub(crate) fn open_directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir_in("/usr/local/lib").expect("a directory; this test needs root");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("our own directory");
    dir
}
