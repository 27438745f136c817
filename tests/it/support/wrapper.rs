//! The harness: runs lastword, as PID 1 of its own namespace or not, and gathers all there is to judge.

use super::{
    judge::{Facts, Seen, Terms, Unit, judge},
    pause,
    record::Record,
    report::Report,
    tools, until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    ffi::{OsStr, OsString},
    fs,
    io::Read,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A run to be.
pub struct Setup {
    dir: TempDir,
    program: PathBuf,
    flags: Vec<OsString>,
    env: Vec<(String, String)>,
    pid1: bool,
    launcher: Vec<String>,
    in_front: Vec<String>,
    stdin: Stdio,
    stdout: Option<Stdio>,
}

impl Setup {
    /// A run with `--quiet`, a report, and a record directory.
    pub fn new() -> Self {
        Self::loud().flags(["--quiet"])
    }

    /// As [`Setup::new`], but lastword says at the end what became of every line.
    pub fn loud() -> Self {
        Self::command(&[])
    }

    /// As [`Setup::loud`], for one of lastword's own commands.
    pub fn command(words: &[&str]) -> Self {
        // In memory, where there is such a place: a disk that is busy with someone's fsync would hold up the writers at
        // each line of their record, for longer than the budgets of these tests.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let dir = dir.expect("a temporary directory");
        fs::create_dir(dir.path().join("record")).expect("a fresh directory takes one more");
        // Writers may be other users.
        for (path, mode) in [(dir.path().to_owned(), 0o755), (dir.path().join("record"), 0o777)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own directory");
        }
        let report = dir.path().join("report.json").into_os_string();
        let mut flags: Vec<OsString> = words.iter().map(OsString::from).collect();
        flags.extend(["--report".into(), report]);
        Self {
            dir,
            program: tools::lastword(),
            flags,
            env: Vec::new(),
            pid1: false,
            launcher: Vec::new(),
            in_front: Vec::new(),
            stdin: Stdio::null(),
            stdout: None,
        }
    }

    /// Another build of lastword.
    pub fn program(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.program);
        self
    }

    /// Adds a drain.
    pub fn drain(mut self, url: &str) -> Self {
        self.flags.extend(["--drain".into(), url.into()]);
        self
    }

    /// Adds a flag with its value, or words of any kind.
    pub fn flags<const N: usize>(mut self, words: [&str; N]) -> Self {
        self.flags.extend(words.iter().map(OsString::from));
        self
    }

    /// States the budget.
    pub fn stop_timeout(self, seconds: u64) -> Self {
        self.flags(["--stop-timeout", &format!("{seconds}s")])
    }

    /// Runs as PID 1 of a namespace of its own.
    pub fn pid1(mut self, yes: bool) -> Self {
        self.pid1 = yes;
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Words before `lastword` (`sh -c 'exec "$@" >&-' sh`).
    pub fn launcher(mut self, words: &[&str]) -> Self {
        self.launcher = words.iter().map(ToString::to_string).collect();
        self
    }

    /// Words right before `lastword`, behind `unshare`: another init, which is PID 1 then, and to which signals go.
    pub fn in_front(mut self, words: &[String]) -> Self {
        self.in_front = words.to_vec();
        self
    }

    /// Standard input, instead of /dev/null.
    pub fn stdin(mut self, stdin: Stdio) -> Self {
        self.stdin = stdin;
        self
    }

    /// Standard output, instead of being captured.
    pub fn stdout(mut self, stdout: Stdio) -> Self {
        self.stdout = Some(stdout);
        self
    }

    /// A file in the run's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The test app with its record and these options (split at spaces).
    pub fn oracle(&self, options: &str) -> Vec<String> {
        let record = self.path("record").to_string_lossy().into_owned();
        let words = options.split_whitespace().map(|word| word.replace("%r", &record));
        [tools::oracle_app(), "--record".into(), record.clone()].into_iter().chain(words).collect()
    }

    /// Starts lastword with this command.
    #[track_caller]
    pub fn start<S: AsRef<OsStr>>(self, command: &[S]) -> Running {
        let mut words: Vec<OsString> = tools::DEFAULT_SIGNALS.iter().map(OsString::from).collect();
        words.extend(self.launcher.iter().map(OsString::from));
        if self.pid1 {
            tools::root();
            tools::program("/usr/bin/unshare", "util-linux");
            words.extend(["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"].map(OsString::from));
        }
        words.extend(self.in_front.into_iter().map(OsString::from));
        words.push(self.program.into());
        words.extend(self.flags);
        if !command.is_empty() {
            words.push("--".into());
            words.extend(command.iter().map(|word| word.as_ref().to_owned()));
        }
        let mut spawn = Command::new(&words[0]);
        spawn.args(&words[1..]).stdin(self.stdin).stderr(Stdio::piped());
        spawn.stdout(self.stdout.unwrap_or_else(Stdio::piped));
        // Neither settings nor a platform, wherever the tests run.
        let platforms =
            ["LASTWORD_", "DYNO", "APTIBLE_", "KUBERNETES_", "ECS_", "FLY_", "K_", "RENDER", "RAILWAY_", "NOMAD_"];
        for (name, _) in std::env::vars().filter(|(name, _)| platforms.iter().any(|mark| name.starts_with(mark))) {
            spawn.env_remove(name);
        }
        // Most tests compare what arrived with what the app wrote; those of lastword's own lines switch them on.
        spawn.env("LASTWORD_LIFECYCLE_LINES", "off");
        // On a tester's terminal as without one.
        spawn.env("LASTWORD_EXIT_SIGNAL", "never");
        spawn.env("RECORD", self.dir.path().join("record")).envs(self.env);
        let started = lastword::clock::now();
        let mut child = spawn.spawn().unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let stdout = Tap::new(child.stdout.take());
        let stderr = Tap::new(child.stderr.take());
        let mut running = Running {
            dir: self.dir,
            pid: Pid::from_raw(child.id() as i32),
            child,
            stdout,
            stderr,
            started,
            stop: None,
        };
        if self.pid1 {
            running.find_pid1();
        }
        running
    }

    /// Starts the test app under lastword.
    #[track_caller]
    pub fn start_oracle(self, options: &str) -> Running {
        let command = self.oracle(options);
        self.start(&command)
    }
}

/// Reads a pipe to its end on a thread; what came so far can be seen.
struct Tap {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Tap {
    fn new(pipe: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let thread = pipe.map(|mut pipe| {
            let bytes = Arc::clone(&bytes);
            thread::spawn(move || {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(count) = pipe.read(&mut buffer)
                    && count > 0
                {
                    bytes.lock().expect("no panic while held").extend_from_slice(&buffer[..count]);
                }
            })
        });
        Self { bytes, thread }
    }

    fn now(&self) -> Vec<u8> {
        self.bytes.lock().expect("no panic while held").clone()
    }

    fn end(&mut self) -> Vec<u8> {
        if let Some(thread) = self.thread.take() {
            let end = lastword::clock::now() + Duration::from_secs(5);
            while !thread.is_finished() {
                assert!(lastword::clock::now() < end, "lastword has exited, but something still holds its output");
                pause(Duration::from_millis(2));
            }
        }
        std::mem::take(&mut *self.bytes.lock().expect("no panic while held"))
    }
}

/// A run.
pub struct Running {
    dir: TempDir,
    child: Child,
    /// lastword itself, as seen from here.
    pub pid: Pid,
    stdout: Tap,
    stderr: Tap,
    started: Instant,
    stop: Option<Instant>,
}

impl Running {
    fn find_pid1(&mut self) {
        let unshare = self.pid;
        let mut found = None;
        until("unshare to fork", Duration::from_secs(10), || {
            found = children(unshare).first().copied();
            // Before its exec it is still unshare.
            found
                .is_some_and(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| !exe.ends_with("unshare")))
                || fs::read_to_string(format!("/proc/{unshare}/stat")).is_ok_and(|stat| stat.contains(") Z "))
        });
        self.pid = found.unwrap_or(unshare);
    }

    /// Sends a signal to lastword.
    pub fn signal(&mut self, signal: Signal) {
        kill(self.pid, signal).unwrap_or_else(|error| panic!("{signal} to lastword: {error}"));
    }

    /// The platform's stop.
    pub fn stop(&mut self) {
        self.stop = Some(lastword::clock::now());
        self.signal(Signal::SIGTERM);
    }

    /// A stop that may come too late, for tests that stop at random moments.
    pub fn try_stop(&mut self) {
        self.stop = Some(lastword::clock::now());
        let _ = kill(self.pid, Signal::SIGTERM);
    }

    /// What the writers say now.
    pub fn record(&self) -> Record {
        Record::read(&self.dir.path().join("record")).expect("a readable record")
    }

    /// Waits until the writers have written this many lines.
    #[track_caller]
    pub fn wrote(&self, lines: u64) {
        until("the app to write", Duration::from_secs(20), || self.record().done() >= lines);
    }

    /// The app's standard output so far, as passed through.
    pub fn stdout(&self) -> Vec<u8> {
        self.stdout.now()
    }

    /// Waits until standard error has said this, and that so many times.
    #[track_caller]
    pub fn says(&self, words: &str, times: usize) {
        let said = || String::from_utf8_lossy(&self.stderr.now()).matches(words).count();
        until(&format!("lastword to say `{words}`"), Duration::from_secs(20), || said() >= times);
    }

    /// Standard error so far.
    pub fn stderr(&self) -> Vec<u8> {
        self.stderr.now()
    }

    /// A file in the run's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The most memory that lastword has had so far, in KiB.
    pub fn peak_memory(&self) -> usize {
        self.memory("VmHWM:")
    }

    /// A line of /proc/PID/status, in KiB.
    pub fn memory(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it runs");
        let amount = status.lines().find_map(|line| line.strip_prefix(name)).expect("a known name");
        amount.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Waits for lastword's exit, which must come within this time from now.
    #[track_caller]
    pub fn finish(mut self, within: Duration) -> Finished {
        let end = lastword::clock::now() + within;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                break status;
            }
            if lastword::clock::now() > end {
                let tree = process_tree(self.pid);
                self.kill();
                let stderr = self.stderr.now();
                let stderr = String::from_utf8_lossy(&stderr[stderr.len().saturating_sub(2000)..]).into_owned();
                panic!("lastword did not exit within {within:?}\nits processes:\n{tree}\nits stderr:\n{stderr}");
            }
            pause(Duration::from_millis(2));
        };
        let now = lastword::clock::now();
        Finished {
            status,
            took: now - self.started,
            since_stop: self.stop.map(|stop| now - stop),
            stdout: self.stdout.end(),
            stderr: self.stderr.end(),
            record: self.record(),
            report: Report::read(&self.dir.path().join("report.json")),
            running: self,
        }
    }

    /// Waits for lastword's exit, asleep: when that was, by the monotonic clock, and the app's standard output.
    #[track_caller]
    pub fn exited_at(mut self) -> (Duration, Vec<u8>) {
        let status = self.child.wait().expect("our own child");
        let at = nix::time::ClockId::CLOCK_MONOTONIC.now().expect("every Linux has it");
        assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&self.stderr.end()));
        (at.into(), self.stdout.end())
    }

    fn kill(&mut self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// Direct children of a process, lastword's canary aside.
pub fn children(pid: Pid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let is_canary =
        |pid: &&str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "lw-canary\n");
    let children = text.split_whitespace().filter(|pid| !is_canary(pid));
    children.filter_map(|word| word.parse().ok()).map(Pid::from_raw).collect()
}

fn process_tree(pid: Pid) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut tree = stat.split_whitespace().take(7).collect::<Vec<_>>().join(" ") + "\n";
    for child in children(pid) {
        tree += &process_tree(child);
    }
    tree
}

/// A run that is over.
pub struct Finished {
    /// How lastword ended.
    pub status: ExitStatus,
    /// From its start to its exit.
    pub took: Duration,
    /// From the stop signal to its exit.
    pub since_stop: Option<Duration>,
    /// All of it.
    pub stdout: Vec<u8>,
    /// All of it.
    pub stderr: Vec<u8>,
    /// What the writers wrote.
    pub record: Record,
    /// What lastword says.
    pub report: Result<Report, String>,
    /// Keeps the directory.
    #[expect(dead_code, reason = "its drop removes the directory")]
    running: Running,
}

impl Finished {
    /// Exit code; 1000 + n if lastword itself died of signal n.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 1000 + self.status.signal().unwrap_or_default())
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Judges one drain; fails with all that the judge found.
    #[track_caller]
    pub fn acquit(&self, name: &str, seen: &Seen, terms: Terms) -> Facts {
        self.acquit_with(&self.record, name, seen, terms)
    }

    /// Judges a drain that gets part of what was written (`#stream=`).
    #[track_caller]
    pub fn acquit_with(&self, record: &Record, name: &str, seen: &Seen, terms: Terms) -> Facts {
        let report = self.report.as_ref().unwrap_or_else(|error| panic!("{error}; stderr: {}", self.err()));
        match judge(record, Some(report.of(name)), seen, terms) {
            Ok(facts) => facts,
            Err(violations) => self.convict(name, &format!("{:?}", report.of(name)), &violations),
        }
    }

    /// Judges the pass-through: every line there once, in order, nothing else.
    #[track_caller]
    pub fn acquit_passthrough(&self) {
        let (out, err) = (raw(&self.stdout, 'o'), raw(&without_own(&self.stderr), 'e'));
        let seen = Seen { units: out.units.into_iter().chain(err.units).collect(), ..Seen::default() };
        if let Err(violations) = judge(&self.record, None, &seen, Terms { broken: true, ..Terms::default() }) {
            self.convict("pass-through", "", &violations);
        }
    }

    #[track_caller]
    fn convict(&self, name: &str, books: &str, violations: &[impl std::fmt::Debug]) -> ! {
        let list: Vec<String> = violations.iter().take(12).map(|found| format!("{found:.600?}")).collect();
        let err = String::from_utf8_lossy(&self.stderr[self.stderr.len().saturating_sub(3000)..]);
        panic!(
            "{name}: {} violations:\n  {}\nbooks: {books}\nrecord: {:?}\ncode {}, stderr: {err}",
            violations.len(),
            list.join("\n  "),
            self.record,
            self.code(),
        );
    }

    /// Every writer that got as far as catching signals said its goodbye; at least one did.
    #[track_caller]
    pub fn all_said_goodbye(&self) {
        let silent: Vec<_> = self.record.ready.iter().filter(|source| !self.record.goodbyes.contains(source)).collect();
        assert!(silent.is_empty(), "killed before their goodbye: {silent:?}; stderr: {}", self.err());
        assert!(!self.record.goodbyes.is_empty(), "nobody said goodbye; stderr: {}", self.err());
    }
}

/// Raw lines as the judge sees them.
pub fn raw(bytes: &[u8], stream: char) -> Seen {
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    // What stands after the last newline is a line only if it has bytes.
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let unit = |text: &[u8]| Unit { seq: None, stream: Some(stream), text: text.to_vec(), part: None };
    Seen { units: lines.into_iter().map(unit).collect(), ..Seen::default() }
}

/// Standard error without lastword's own words.
pub fn without_own(stderr: &[u8]) -> Vec<u8> {
    stderr
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| !line.starts_with(b"lastword"))
        .flatten()
        .copied()
        .collect()
}
