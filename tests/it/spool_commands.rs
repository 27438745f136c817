//! `lastword spool`, by hand: what is said of files that are damaged, of others, or not there, and what `send` comes to.

use crate::{
    spool::{look, moody},
    support::{
        http::HttpSink,
        ms,
        record::identify,
        tools, until,
        wrapper::{Finished, Setup},
    },
};
use nix::sys::signal::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A spool with the backlog of a drain called `http`, whose receiver is down until it is told to be well.
struct Backlog {
    http: HttpSink,
    well: Arc<AtomicBool>,
    first: Finished,
    spool: PathBuf,
}

impl Backlog {
    fn new(oracle: &str) -> Self {
        let (http, well) = moody(1);
        let setup = Setup::new();
        let spool = setup.path("spool");
        let setup =
            setup.flags(["--spool", &spool.to_string_lossy(), "--flush-timeout", "1s"]).drain(&http.url("http"));
        let first = setup.start_oracle(oracle).finish(Duration::from_secs(30));
        Self { http, well, first, spool }
    }

    fn segment(&self) -> PathBuf {
        let files = fs::read_dir(&self.spool).expect("the spool").map(|entry| entry.expect("an entry").path());
        let mut segments = files.filter(|path| path.extension().is_some_and(|end| end == "seg"));
        segments.next().expect("a segment")
    }

    fn send(&self) -> (i32, String) {
        send(&self.spool, &["--drain", &self.http.url("http"), "--flush-timeout", "1s"])
    }

    /// Another run on it, with the same drain.
    fn next_run(&self) -> Finished {
        let setup = Setup::loud().flags(["--spool", &self.spool.to_string_lossy()]).drain(&self.http.url("http"));
        setup.start(&["true"]).finish(Duration::from_secs(60))
    }
}

fn send(dir: &Path, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(tools::lastword());
    let Output { status, stderr, .. } = command.args(["spool", "send"]).arg(dir).args(words).output().expect("it runs");
    (status.code().expect("it ends by itself"), String::from_utf8_lossy(&stderr).into_owned())
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("readable");
    change(&mut bytes);
    fs::write(path, bytes).expect("writable");
}

#[test]
fn send_tells_by_its_exit_code_whether_all_was_sent() {
    let backlog = Backlog::new("--count 40 --rate 0");
    let (code, said) = backlog.send();
    assert!(code == 1 && said.contains("adopted 40 = spooled 40"), "{code}: {said}");
    backlog.well.store(true, Ordering::SeqCst);
    let (code, said) = backlog.send();
    assert!(code == 0 && said.contains("adopted 40 = confirmed 40"), "{code}: {said}");
    assert_eq!(backlog.send().0, 0, "nothing to do is no failure");
    assert_eq!(backlog.http.collect().units.len(), 40);
}

#[test]
fn send_refuses_what_can_only_be_a_mistake() {
    let backlog = Backlog::new("--count 4 --rate 0");
    let (code, said) = send(&backlog.spool, &[]);
    assert!(code == 125 && said.contains("there is no drain to send to"), "{code}: {said}");
    let nowhere = backlog.spool.join("nowhere");
    let (code, said) = send(&nowhere, &["--drain", &backlog.http.url("http")]);
    assert!(code == 125 && said.contains("No such file or directory") && !nowhere.exists(), "{code}: {said}");
    // One without a spool became one, with nothing to send in it, and code 0.
    fs::create_dir(&nowhere).expect("a fresh directory");
    let (code, said) = send(&nowhere, &["--drain", &backlog.http.url("http")]);
    let left = fs::read_dir(&nowhere).expect("it is there").count();
    assert!(code == 125 && said.contains("there is no spool in it") && left == 0, "{code}: {said}");
}

#[test]
fn send_leaves_a_spool_alone_that_a_lastword_works_with() {
    let (http, _never_well) = moody(1);
    let setup = Setup::new();
    let spool = setup.path("spool");
    let mut owner =
        setup.flags(["--spool", &spool.to_string_lossy()]).drain(&http.url("http")).start_oracle("--rate 50");
    until("lines in the spool", ms(10_000), || !look(&["cat"], &spool).1.is_empty());
    let (code, said) = send(&spool, &["--drain", &http.url("http")]);
    assert!(code == 125 && said.contains("a lastword that runs has it"), "{code}: {said}");
    assert!(!spool.join("second-1").exists());
    owner.signal(Signal::SIGKILL);
    owner.finish(Duration::from_secs(20));
}

#[test]
fn a_file_with_a_bad_header_is_said_once_with_its_lines_and_stands_in_the_report() {
    let backlog = Backlog::new("--count 60 --rate 0");
    let segment = backlog.segment();
    let bytes = fs::metadata(&segment).expect("it is there").len();
    change(&segment, |bytes| bytes[30] ^= 1);
    let name = segment.file_name().expect("a name").to_string_lossy().into_owned();
    let lost = format!("its 60 lines ({} bytes) are lost", lastword::format::thousands(bytes));
    let (code, said) = look(&["verify"], &backlog.spool);
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(code == 1 && said.contains(&format!("{name}: bad-header; {lost}")), "{code}: {said}");
    backlog.well.store(true, Ordering::SeqCst);
    let run = backlog.next_run();
    assert!(run.err().contains(&format!("{name}: bad-header; kept as {name}.bad-bad-header, {lost}")), "{}", run.err());
    let unreadable = &run.report.as_ref().expect("a report").spool["unreadable"];
    assert_eq!(
        (&unreadable["files"], &unreadable["lines"], &unreadable["bytes"]),
        (&1.into(), &60.into(), &bytes.into())
    );
    let again = backlog.next_run();
    assert!(!again.err().contains("bad-header"), "{}", again.err());
    let (code, said) = look(&["verify"], &backlog.spool);
    assert!(code == 1 && String::from_utf8_lossy(&said).contains("set aside by an earlier run"), "until it is deleted");
}

#[test]
fn files_of_others_and_of_newer_versions_are_said_and_left_as_they_are() {
    let backlog = Backlog::new("--count 4 --rate 0");
    let (newer, other) = (backlog.segment(), backlog.spool.join("00000000000000ff.seg"));
    change(&newer, |bytes| bytes[8] = 9);
    fs::write(&other, "not one of ours").expect("writable");
    let before = [&newer, &other].map(|path| fs::read(path).expect("readable"));
    let run = backlog.next_run();
    assert!(run.err().contains("written by another version of lastword (format 9, this one reads 2); left alone"));
    assert!(run.err().contains("00000000000000ff.seg: not a file of lastword's; left alone"), "{}", run.err());
    assert_eq!([&newer, &other].map(|path| fs::read(path).expect("readable")), before);
}

#[test]
fn a_drain_that_is_no_longer_configured_keeps_its_backlog_and_it_is_said() {
    let (http, well) = moody(1);
    let setup = Setup::new();
    let dir = setup.path("spool").to_string_lossy().into_owned();
    let one = setup
        .flags(["--spool", &dir, "--flush-timeout", "1s"])
        .drain(&http.url("old"))
        .start_oracle("--count 70 --rate 0")
        .finish(Duration::from_secs(30));
    assert_eq!(one.report.as_ref().expect("a report").of("old").spooled, 70);
    well.store(true, Ordering::SeqCst);
    let two = Setup::loud().flags(["--spool", &dir]).drain(&http.url("new"));
    let two = two.start_oracle("--count 30 --rate 0 --source two").finish(Duration::from_secs(30));
    assert!(two.err().contains("70 lines for old, which is no drain now, are kept"), "{}", two.err());
    let books = two.report.as_ref().expect("a report").of("new");
    assert_eq!((books.adopted, books.confirmed), (0, 30), "{books:?}");
    // `spool send` with the old drain.
    let url = http.url("old");
    let out = Command::new(tools::lastword()).args(["spool", "send", &dir, "--drain", &url]).output().expect("it runs");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("adopted 70 = confirmed 70"), "{said}");
    assert_eq!(http.collect().units.len(), 100);
}

#[test]
fn what_waits_for_a_drain_without_a_name_is_sent_to_another_url() {
    let (old, _never_well) = moody(1);
    let setup = Setup::new().flags(["--flush-timeout", "1s"]);
    let dir = setup.path("spool").to_string_lossy().into_owned();
    let url = old.url("old").split('#').next().expect("a URL").to_owned();
    let one =
        setup.flags(["--spool", &dir]).drain(&url).start_oracle("--count 70 --rate 0").finish(Duration::from_secs(30));
    assert_eq!(one.report.as_ref().expect("a report").drains[0].spooled, 70);
    let new = HttpSink::healthy();
    let send = |from: &str, drains: &[String]| {
        let mut command = Command::new(tools::lastword());
        command.args(["spool", "send", &dir, "--from", from]);
        command.args(drains.iter().flat_map(|drain| ["--drain", drain]));
        let out = command.output().expect("it runs");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, said) = send(&url, &[new.url("new"), new.url("newer")]);
    assert!(code == Some(125) && said.contains("--from: there are 2 drains"), "{said}");
    let (code, said) = send("https://misspelt.example/", &[new.url("new")]);
    assert!(code == Some(1) && said.contains("no lines wait for a drain of that name"), "{said}");
    assert_eq!(new.lines(), 0);
    // The name is the URL, as `ls` and each start say it.
    let name = String::from_utf8(look(&["ls"], Path::new(&dir)).1).expect("text");
    let name = name.lines().find_map(|line| line.strip_suffix(": 70 lines to send")).expect("a backlog").to_owned();
    let (code, said) = send(&name, &[new.url("new")]);
    assert!(code == Some(0) && said.contains("adopted 70 = confirmed 70"), "{said}");
    assert_eq!(new.collect().units.len(), 70);
    assert!(String::from_utf8_lossy(&look(&["ls"], Path::new(&dir)).1).contains("nothing is waiting"));
}

#[test]
fn a_damaged_frame_costs_its_lines_counted_and_announced_and_no_other() {
    let backlog = Backlog::new("--count 400 --rate 2000");
    assert_eq!(backlog.first.report.as_ref().expect("a report").of("http").spooled, 400);
    change(&backlog.segment(), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    });
    assert_eq!(look(&["verify"], &backlog.spool).0, 1);
    backlog.well.store(true, Ordering::SeqCst);
    let two = backlog.next_run();
    let books = two.report.as_ref().expect("a report").of("http").clone();
    let seen = backlog.http.collect();
    let corrupt = books.lost.get("corrupt").copied().unwrap_or(0);
    assert!((1..200).contains(&corrupt), "{books:?}");
    assert_eq!((books.adopted, books.confirmed, books.lost()), (400, 400 - corrupt, corrupt), "{books:?}");
    assert_eq!((seen.units.len() as u64, seen.announced), (400 - corrupt, corrupt));
    let arrived: Vec<u64> = seen.units.iter().filter_map(|unit| unit.seq).collect();
    assert!(arrived.is_sorted_by(|one, two| one < two), "in order");
    for unit in &seen.units {
        assert!(identify(&unit.text).is_some(), "mangled: {unit:?}");
    }
}

#[test]
fn a_check_sends_its_own_line_alone_and_leaves_the_spool_as_it_is() {
    let backlog = Backlog::new("--count 20");
    let before = fs::read(backlog.segment()).expect("the backlog");
    backlog.well.store(true, Ordering::SeqCst);
    let at_first = backlog.http.lines();
    let setup = Setup::command(&["check"]).flags(["--spool", &backlog.spool.to_string_lossy()]);
    let check = setup.drain(&backlog.http.url("http")).start::<&str>(&[]).finish(Duration::from_secs(30));
    let said = String::from_utf8_lossy(&check.stdout);
    assert_eq!((check.code(), said.contains("confirmed by the receiver")), (0, true), "{said}{}", check.err());
    assert_eq!(backlog.http.lines() - at_first, 1, "more than the check's line was sent");
    assert_eq!(fs::read(backlog.segment()).expect("the backlog"), before);
    assert_eq!(backlog.send().0, 0, "the backlog is not there any more");
}

#[test]
fn a_check_says_which_files_of_the_settings_cannot_be_written() {
    let setup = Setup::command(&["check"]);
    let (file, missing) = (setup.path("file"), setup.path("missing/file"));
    fs::write(&file, "x").expect("a file");
    let (file, missing) = (file.to_string_lossy().into_owned(), missing.to_string_lossy().into_owned());
    let setup = setup.flags(["--spool", &file, "--fallback", &missing]).drain("file:/dev/null");
    let check = setup.start::<&str>(&[]).finish(Duration::from_secs(30));
    let said = String::from_utf8_lossy(&check.stdout);
    assert_eq!(check.code(), 1, "{said}");
    assert!(said.contains(&format!("CAN'T BE WRITTEN: --spool {file}: not a directory\n")), "{said}");
    assert!(said.contains(&format!("CAN'T BE WRITTEN: --fallback {missing}: no such file or directory\n")), "{said}");
}
