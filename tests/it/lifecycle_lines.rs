//! The lines that lastword writes about the app's life: in the drains, in order, counted, and out before the drains close.

use crate::support::{
    judge::{Seen, Terms},
    ms,
    pair::Pair,
    tools, until,
    wrapper::Setup,
};
use std::{fs, os::unix::ffi::OsStrExt, path::PathBuf, time::Duration};

const LIMIT: Duration = Duration::from_secs(20);

/// lastword's own lines without their tag.
fn own(seen: &Seen) -> Vec<String> {
    let text = |unit: &crate::support::judge::Unit| String::from_utf8_lossy(&unit.text).into_owned();
    let tagless = |line: String| line.strip_prefix("lastword: ").expect("the tag").to_owned();
    seen.own.iter().map(text).map(tagless).collect()
}

/// Each line begins with its text; there are no others.
#[track_caller]
fn assert_tells(seen: &Seen, story: &[&str]) {
    let told = own(seen);
    let same = told.len() == story.len() && told.iter().zip(story).all(|(line, begin)| line.starts_with(begin));
    assert!(same, "{told:#?}\nis not\n{story:#?}");
}

#[test]
fn a_stop_is_told_in_every_drain_around_the_apps_own_lines() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let setup = pair.setup().pid1(pid1).stop_timeout(5).env("LASTWORD_LIFECYCLE_LINES", "on");
        let mut run = setup.start_oracle("--on-term goodbye:300 --exit 3");
        run.wrote(5);
        run.stop();
        let done = run.finish(LIMIT);
        assert_eq!(done.code(), 3, "stderr: {}", done.err());
        done.acquit_passthrough();
        let drains = [("http", pair.http.collect()), ("tcp", pair.tcp.collect())];
        for (name, seen) in &drains {
            done.acquit(name, seen, Terms { confirmed: true, ..Terms::default() });
            assert_tells(
                seen,
                &["start: lastword ", "stop: SIGTERM from ", "exit: the app exited 3 after ", "flush: "],
            );
            let first_and_last = |units: &[crate::support::judge::Unit]| (units[0].seq, units[units.len() - 1].seq);
            let (first, last) = first_and_last(&seen.units);
            assert_eq!(seen.own[0].seq, Some(1), "the start stands before all");
            assert!(first > seen.own[0].seq && last > seen.own[1].seq && last < seen.own[2].seq, "{:?}", seen.own);
            let told = own(seen);
            assert!(
                told[0].contains(concat!(
                    "lastword ",
                    env!("CARGO_PKG_VERSION"),
                    ", stop budget 5 s (stated by --stop-timeout)"
                )),
                "{told:?}"
            );
            assert!(told[2].contains(", CPU 0") && told[2].contains(" MiB"), "{told:?}");
        }
        assert_eq!(own(&drains[0].1), own(&drains[1].1));
        // Nobody asked for them on stderr.
        assert_eq!(done.err(), "", "pid1 {pid1}");
    }
}

#[test]
fn a_crash_is_told_with_its_signal_after_the_apps_last_line() {
    let pair = Pair::start();
    let setup = pair.setup().flags(["--lifecycle-lines", "on"]);
    let done = setup.start_oracle("--count 500 --rate 0 --batch 20 --die SIGSEGV").finish(LIMIT);
    assert_eq!(done.code(), 139, "stderr: {}", done.err());
    let seen = pair.http.collect();
    done.acquit("http", &seen, Terms { confirmed: true, ..Terms::default() });
    assert_tells(&seen, &["start: ", "exit: the app exited 139 (SIGSEGV", "flush: "]);
    assert!(seen.own[1].seq > seen.units.last().expect("500 lines").seq);
}

#[test]
fn leftovers_that_are_told_and_killed_are_in_the_story() {
    let pair = Pair::start();
    let setup = pair.setup().stop_timeout(3).env("LASTWORD_LIFECYCLE_LINES", "on");
    let mut command = setup.oracle("--on-term goodbye:0 --exit 6");
    let record = setup.path("record");
    command.extend(["--daemon".into(), format!("--record {} --source d --on-term ignore", record.display())]);
    let mut run = setup.start(&command);
    until("both to write", LIMIT, || run.record().sources.values().filter(|extent| extent.done > 3).count() == 2);
    run.stop();
    let done = run.finish(LIMIT);
    assert_eq!(done.code(), 6, "stderr: {}", done.err());
    let seen = pair.tcp.collect();
    done.acquit("tcp", &seen, Terms { confirmed: true, ..Terms::default() });
    let story = [
        "start: ",
        "stop: SIGTERM",
        "exit: the app exited 6 after",
        "leftovers: last call, SIGTERM to 1 process",
        "time is up: SIGKILL to 1 process",
        "flush: ",
    ];
    assert_tells(&seen, &story);
    assert!(own(&seen)[2].ends_with("; left 1 process behind"), "{:?}", own(&seen));
}

#[test]
fn an_app_that_cannot_be_started_is_told_of_too() {
    let pair = Pair::start();
    let done = pair.setup().env("LASTWORD_LIFECYCLE_LINES", "on").start(&["no-such-program"]).finish(ms(5000));
    assert_eq!(done.code(), 127, "stderr: {}", done.err());
    for seen in [pair.http.collect(), pair.tcp.collect()] {
        assert_tells(&seen, &["cannot start \"no-such-program\": not found in PATH", "flush: "]);
    }
}

#[test]
fn a_stop_before_the_start_is_told_though_there_is_no_app() {
    let pair = Pair::start();
    // The signal is there before lastword is.
    let pending = "import os,signal,sys\nsignal.pthread_sigmask(signal.SIG_BLOCK,[signal.SIGTERM])\n\
        os.kill(os.getpid(),signal.SIGTERM); os.execvp(sys.argv[1],sys.argv[1:])";
    let setup = pair.setup().launcher(&[tools::python(), "-c", pending]).env("LASTWORD_LIFECYCLE_LINES", "on");
    let marker = setup.path("started");
    let done = setup.start(&["touch".as_ref(), marker.as_os_str()]).finish(ms(5000));
    assert_eq!(done.code(), 143, "stderr: {}", done.err());
    assert!(!marker.exists());
    for seen in [pair.http.collect(), pair.tcp.collect()] {
        assert_tells(&seen, &["stop: SIGTERM from pid ", "flush: "]);
    }
}

/// Runs an app of one line with two file drains, one limited to stdout; says what is in the files, and on stderr.
fn files(mode: &str) -> (Vec<String>, Vec<String>, String) {
    let setup = Setup::new().env("LASTWORD_LIFECYCLE_LINES", mode);
    let paths: [PathBuf; 2] = ["all", "stdout"].map(|name| setup.path(name));
    let url = |path: &PathBuf, options: &str| {
        format!("file:{}{options}", String::from_utf8_lossy(path.as_os_str().as_bytes()))
    };
    let setup = setup.drain(&url(&paths[0], "")).drain(&url(&paths[1], "#stream=stdout,name=out"));
    let done = setup.start(&["sh", "-c", "echo hello"]).finish(LIMIT);
    assert_eq!((done.code(), done.stdout.as_slice()), (0, &b"hello\n"[..]), "stderr: {}", done.err());
    let lines = |path: &PathBuf| -> Vec<String> {
        fs::read_to_string(path).expect("a file").lines().map(str::to_owned).collect()
    };
    let found = (lines(&paths[0]), lines(&paths[1]));
    let read = |name: &str| done.report.as_ref().expect("a report").of(name).read;
    let all = done.report.as_ref().expect("a report").drains[0].name.clone();
    assert_eq!((read(&all), read("out")), (found.0.len() as u64, found.1.len() as u64), "every line is in the books");
    (found.0, found.1, done.err())
}

#[test]
fn raw_files_have_them_as_tagged_lines_and_drains_of_one_stream_have_none() {
    let (all, stdout, err) = files("on");
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(all[0].starts_with("lastword: start: lastword "), "{all:?}");
    assert_eq!(all[1], "hello");
    assert!(all[2].starts_with("lastword: exit: the app exited 0 after "), "{all:?}");
    assert!(all[3].starts_with("lastword: flush: "), "{all:?}");
    assert_eq!((stdout, err), (vec!["hello".to_owned()], String::new()));
}

#[test]
fn they_go_to_stderr_or_nowhere_on_request() {
    let (all, stdout, err) = files("stderr");
    assert_eq!((all, stdout), (vec!["hello".to_owned()], vec!["hello".to_owned()]));
    let begins: Vec<_> = err.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(begins, ["start", "exit", "flush"], "{err}");
    let (all, stdout, err) = files("off");
    assert_eq!((all, stdout, err), (vec!["hello".to_owned()], vec!["hello".to_owned()], String::new()));
}

/// An app's very last word, without a newline, and what lastword said of its exit were one line of a raw file.
#[test]
fn a_last_line_without_a_newline_is_a_line_of_its_own_before_ours_and_as_it_is_where_none_follows() {
    for (mode, ends) in [("on", "\nfatal: b\nlastword: exit: "), ("off", "a\nfatal: b")] {
        let setup = Setup::new().env("LASTWORD_LIFECYCLE_LINES", mode);
        let path = setup.path("raw");
        let setup = setup.drain(&format!("file:{}", path.display()));
        let done = setup.start(&["printf", "a\\nfatal: b"]).finish(LIMIT);
        assert_eq!((done.code(), done.stdout.as_slice()), (0, &b"a\nfatal: b"[..]), "{}", done.err());
        let raw = fs::read_to_string(&path).expect("it was written");
        assert!(if mode == "on" { raw.contains(ends) } else { raw == ends }, "{mode}: {raw}");
    }
}
