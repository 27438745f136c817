//! What is written at the exit (`--fallback`, `--report`) where it hangs, or nobody takes it: the exit comes in time all the
//! same, and what was not written is counted and said.

use crate::{
    spool::{moody, numbers},
    spool_disk::SmallDisk,
    support::{
        http::{Act, HttpSink},
        judge::Terms,
        ms,
        tools::lastword,
        wrapper::{Setup, without_own},
    },
};
use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io::Read,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    process::Command,
};

/// A run with its report on a disk that hangs.
fn setup(disk: &SmallDisk) -> Setup {
    let [nsenter, namespace] = disk.launcher();
    Setup::loud().launcher(&[&nsenter, &namespace]).flags(["--report", &disk.inside("report")])
}

#[test]
fn a_disk_that_hangs_keeps_neither_report_nor_fallback_from_the_exit_and_its_lines_are_counted_as_lost() {
    for pid1 in [false, true] {
        let disk = SmallDisk::hanging();
        let (http, _never_well) = moody(1);
        let [report, fallback] = ["report", "fallback"].map(|name| disk.inside(name));
        let setup = setup(&disk).pid1(pid1).stop_timeout(6).flags(["--fallback", &fallback]).drain(&http.url("http"));
        let mut run = setup.start_oracle("--rate 500 --on-term goodbye:20");
        run.wrote(20);
        run.stop();
        let done = run.finish(ms(30_000));
        let (err, lines) = (done.err(), done.record.done());
        assert!(done.since_stop < Some(ms(6000)), "{:?}; {err}", done.since_stop);
        let lost = format!("--fallback {fallback}: there was no time for more; {lines} lines are lost");
        assert!(err.contains(&lost), "{err}");
        assert!(err.contains(&format!("drain http: read {lines} = lost {lines} (deadline {lines})")), "{err}");
        assert!(err.contains(&format!("--report {report}: not written in 0.")), "{err}");
        done.all_said_goodbye();
    }
}

/// It waited for the first path's answer for ever.
#[test]
fn check_names_each_setting_whose_disk_hangs_and_does_not_wait_for_it() {
    let disk = SmallDisk::hanging();
    let [nsenter, namespace] = disk.launcher();
    let [spool, fallback, report] = ["spool", "fallback", "report"].map(|name| disk.inside(name));
    let setup = Setup::command(&["check"]).launcher(&[&nsenter, &namespace]);
    let setup = setup.flags(["--spool", &spool, "--fallback", &fallback, "--report", &report]);
    let done = setup.start::<&str>(&[]).finish(ms(30_000));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.code(), 1, "{said}");
    for place in [format!("--spool {spool}"), format!("--fallback {fallback}"), format!("--report {report}")] {
        assert!(said.contains(&format!("CAN'T BE WRITTEN: {place}: no answer in 2 s: its disk hangs\n")), "{said}");
    }
    assert!(done.took < ms(10_000), "{:?}", done.took);
}

/// A misspelt `--report` was noticed at the exit, when the run that it was to tell of was over.
#[test]
fn what_cannot_be_written_at_the_exit_is_said_while_the_app_runs() {
    let setup = Setup::loud();
    let [report, fallback] = ["no/report", "no/fallback"].map(|name| setup.path(name).to_string_lossy().into_owned());
    let setup = setup.flags(["--report", &report, "--fallback", &fallback]).drain("file:/dev/null");
    let mut run = setup.start(&["sleep", "60"]);
    for place in [format!("--report {report}"), format!("--fallback {fallback}")] {
        run.says(&format!("lastword: {place}: no such file or directory; it is tried again at the exit\n"), 1);
    }
    run.stop();
    assert_eq!(run.finish(ms(30_000)).code(), 143);
}

/// What was asked for and could not be written was a success.
#[test]
fn a_help_text_that_nobody_gets_is_no_success() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let help = Command::new(lastword()).arg("--help").stdout(full).output().expect("lastword runs");
    assert_eq!(help.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&help.stderr), "lastword: stdout: No space left on device (os error 28)\n");
}

#[test]
fn a_report_that_hangs_after_all_is_delivered_costs_two_seconds_and_no_line() {
    let disk = SmallDisk::hanging();
    let setup = setup(&disk).drain("file:/dev/null");
    let done = setup.start(&["sh", "-c", "echo one; exit 7"]).finish(ms(30_000));
    let err = done.err();
    assert_eq!(done.code(), 7, "{err}");
    assert!(done.took >= ms(2000) && done.took < ms(10_000), "{:?}; {err}", done.took);
    assert!(err.contains("read 1 = confirmed 1 + lost 0"), "{err}");
    assert!(err.contains(&format!("--report {}: not written in 2.0 s", disk.inside("report"))), "{err}");
}

/// The first word hung, and with it all of lastword: here before the app was started.
#[test]
fn a_stderr_on_a_disk_that_hangs_keeps_neither_lines_from_the_drains_nor_signals_from_the_app_nor_the_exit() {
    for pid1 in [false, true] {
        let disk = SmallDisk::hanging_once_open();
        let [nsenter, namespace] = disk.launcher();
        let redirected = [&nsenter, &namespace, "sh", "-c", "exec \"$@\" 2>>\"$0\"", &disk.inside("stderr")];
        let http = HttpSink::start(|_, _| Act::Take);
        // A word at the start, words of each state of the app, and many in a row at the end.
        let setup = Setup::loud().launcher(&redirected).pid1(pid1).env("LASTWORD_NO_SUCH", "1");
        let setup = setup.flags(["--verbose", "--lifecycle-lines", "stderr"]).stop_timeout(6).drain(&http.url("http"));
        let mut run = setup.start_oracle("--rate 500 --on-term goodbye:20");
        run.wrote(20);
        run.stop();
        let done = run.finish(ms(30_000));
        assert!(done.since_stop < Some(ms(6000)), "{:?}", done.since_stop);
        done.acquit("http", &http.collect(), Terms { confirmed: true, ..Terms::default() });
        done.all_said_goodbye();
    }
}

#[test]
fn what_a_stderr_that_nobody_reads_took_is_counted_to_the_line_and_the_rest_is_lost() {
    let (http, _never_well) = moody(1);
    let setup = Setup::new().flags(["--fallback", "stderr", "--flush-timeout", "1s"]).drain(&http.url("http"));
    let fifo = setup.path("stderr");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fresh name");
    let mut pipe =
        OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open(&fifo).expect("it");
    let size = nix::fcntl::fcntl(pipe.as_fd(), nix::fcntl::FcntlArg::F_GETPIPE_SZ).expect("a pipe");
    let redirected = ["sh", "-c", "exec \"$@\" 2>\"$0\"", &fifo.to_string_lossy()];
    let run = setup.launcher(&redirected).start_oracle("--count 5000 --rate 0 --shape f200");
    let done = run.finish(ms(30_000));
    let mut took = Vec::new();
    let _ = pipe.read_to_end(&mut took);
    assert!(took.len() > size as usize / 2, "{} bytes of {size}", took.len());
    let text = without_own(&took);
    let whole = numbers(text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()));
    let whole: usize = whole.values().map(BTreeSet::len).sum();
    let books = done.report.as_ref().expect("a report").of("http");
    assert_eq!((books.read, books.fallback as usize), (5000, whole), "{books:?}");
    assert_eq!(books.lost(), 5000 - books.fallback, "{books:?}");
}
