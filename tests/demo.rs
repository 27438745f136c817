//! `lastword demo`, as a person runs it: what it shows, that it fails when it should, and that it leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "a test may")]

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::channel,
    time::Duration,
};

const BINARY: &str = env!("CARGO_BIN_EXE_lastword");

/// What a person is promised, doubled for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn start(folder: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(BINARY);
    command.args(args).env("TMPDIR", folder).env_remove("NO_COLOR");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits for the end; the test fails if it does not come.
fn end(mut child: Child) -> (ExitStatus, String) {
    let pid = Pid::from_raw(child.id().cast_signed());
    let (sender, receiver) = channel();
    let waiter = std::thread::spawn(move || {
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        sender.send((child.wait().unwrap(), said)).unwrap_or_default();
    });
    let ended = receiver.recv_timeout(PATIENCE);
    if ended.is_err() {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    waiter.join().unwrap();
    ended.expect("it did not end in time")
}

/// No file in the demo's folder, and no process that was given a path in it.
fn assert_clean(folder: &Path) {
    let files: Vec<_> = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(files.is_empty(), "left behind: {files:?}");
    let needle = folder.to_str().unwrap().as_bytes();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let command_line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let found = command_line.windows(needle.len()).any(|window| window == needle);
        assert!(!found, "still running: {}", String::from_utf8_lossy(&command_line).replace('\0', " "));
    }
}

#[test]
fn the_demo_shows_both_stops_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path(), &["demo"]);
    let mut shown = String::new();
    child.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
    let (status, said) = end(child);
    assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{shown}");
    assert_clean(folder.path());
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(!shown.contains('\x1b'), "colour is for terminals: {shown}");

    let (with, without) = shown.split_once("under the plain init\n").unwrap();
    let row = |part: &str, name: &str| {
        let line = part.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {shown}"));
        line[name.len()..].split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let written = row(with, "  the app wrote");
    assert!(written[0].parse::<u32>().unwrap() >= 10, "{shown}");
    for drain in ["  drain http", "  drain syslog", "  the platform's log"] {
        let got = row(with, drain);
        assert_eq!(got[0], written[0], "{drain}: as many lines as written: {shown}");
        assert_eq!(got[1..5], ["4", "of", "4", "0"], "{drain}: {shown}");
        assert_eq!(got[6..].join(" "), "goodbye: all work saved", "{drain}: {shown}");
    }
    assert_eq!(row(without, "  the platform's log")[1..5], ["0", "of", "4", "4"], "{shown}");
    let (_, never) =
        without.split_once("These lines never came:\n").or_else(|| without.split_once("never came:\n")).unwrap();
    assert!(never.contains("\n    goodbye: all work saved\n"), "{shown}");
    let (_, account) = without.split_once("lastword's own account:\n").expect("the demo repeats the report");
    let account = account.split("\n\n").next().unwrap();
    assert!(account.contains("http") && account.contains("syslog"), "{account}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path(), &["demo"]);
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let lines: Vec<_> = stdout.lines().map_while(Result::ok).take(16).collect();
    assert!(lines.iter().any(|line| line.contains("record 1 of 4")), "it was closed in the run: {lines:?}");
    let (status, said) = end(child);
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    assert_clean(folder.path());
}

#[test]
fn a_machine_without_a_shell_is_told_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(BINARY);
    command.arg("demo").env("TMPDIR", folder.path()).env("PATH", folder.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("lastword: demo: the app of the demo needs a shell: sh: "), "{said}");
    assert!(output.stdout.is_empty());
    assert_clean(folder.path());
}

#[test]
fn ctrl_c_ends_it_and_everything_that_it_started() {
    for act in ["1. ", "2. "] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start(folder.path(), &["demo"]);
        let pid = Pid::from_raw(child.id().cast_signed());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with(act)), "no part {act}");
        assert!(lines.any(|line| line.contains("record 2 of 4")), "part {act} did not run");
        kill(pid, Signal::SIGINT).unwrap();
        let rest = std::thread::spawn(move || lines.count());
        assert_eq!(end(child).0.code(), Some(130));
        rest.join().unwrap();
        assert_clean(folder.path());
    }
}

#[test]
fn the_plain_init_exits_with_its_direct_child_and_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let script = "sleep 30 & echo $!; kill -TERM $$";
    let mut child = start(folder.path(), &["plain-init", "--namespace", "--", "sh", "-c", script]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut orphan = String::new();
    stdout.read_line(&mut orphan).unwrap();
    let (reader, ended) = channel();
    let rest = std::thread::spawn(move || reader.send(stdout.read_to_end(&mut Vec::new())).unwrap_or_default());
    let mut announced = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut announced).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15), "{announced}");
    if announced.starts_with("plain-init: no namespace") {
        // Nobody kills the orphan for us here, which is what the announcement says.
        kill(Pid::from_raw(orphan.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    } else {
        assert!(announced.starts_with("plain-init: pid 1 of a namespace"), "{announced}");
    }
    ended.recv_timeout(Duration::from_secs(10)).expect("the orphan is gone, and stdout at its end").unwrap();
    rest.join().unwrap();
}
