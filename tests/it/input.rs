//! Bad input: one line that names the setting, what is wrong and what would be right; exit 125; the app not started.

use crate::support::wrapper::Setup;
use std::time::Duration;

/// Runs `touch MARKER` with these flags and variables, and checks the refusal.
#[track_caller]
fn refused(flags: &[&str], variables: &[(&str, &str)], must_say: &[&str]) {
    let mut setup = Setup::new();
    for flag in flags {
        setup = setup.flags([*flag]);
    }
    for (name, value) in variables {
        setup = setup.env(name, value);
    }
    let marker = setup.path("started");
    let done = setup.start(&["touch".as_ref(), marker.as_os_str()]).finish(Duration::from_secs(10));
    let err = done.err();
    assert_eq!(done.code(), 125, "{flags:?} {variables:?}: {err}");
    assert!(!marker.exists(), "{flags:?} {variables:?}: the app was started");
    assert_eq!(err.lines().count(), 1, "{flags:?} {variables:?} takes more than one line: {err}");
    for word in must_say {
        assert!(err.contains(word), "{flags:?} {variables:?} does not say {word:?}: {err}");
    }
    assert!(done.stdout.is_empty());
}

#[test]
fn bad_drain_urls_are_refused_in_one_line() {
    for (url, must_say) in [
        ("gopher://host:70", "gopher"),
        ("no-url-at-all", "scheme"),
        ("syslog+tcp://", "host"),
        ("syslog+tcp://host:99999", "port"),
        ("syslog+tcp://host:0", "port"),
        ("http://user:%zz@host/", "percent"),
        ("http://127.0.0.1:9/#colour=red", "colour"),
        ("http://127.0.0.1:9/#stream=stdin", "stream"),
        ("http://127.0.0.1:9/#bearer=${LW_TEST_UNSET}", "LW_TEST_UNSET"),
        ("https://127.0.0.1:9/#ca=/no/such/ca.pem", "/no/such/ca.pem"),
        ("file:", "file"),
    ] {
        refused(&["--drain", url], &[], &["--drain", must_say]);
        refused(&[], &[("LASTWORD_DRAIN", url)], &["LASTWORD_DRAIN", must_say]);
        refused(&[], &[("LASTWORD_DRAIN_AUDIT", url)], &["LASTWORD_DRAIN_AUDIT", must_say]);
    }
}

#[test]
fn a_file_of_a_credential_that_is_empty_is_refused_by_name() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = file.path().to_string_lossy().into_owned();
    for option in ["bearer=file:", "header=X-Key:file:"] {
        let name = option.split_once('=').expect("an option").0;
        let empty = format!("`{path}` is empty");
        refused(&["--drain", &format!("http://127.0.0.1:9/#{option}{path}")], &[], &["--drain", name, &empty]);
    }
}

#[test]
fn bad_flags_and_variables_are_refused_in_one_line_50() {
    refused(&["--stop-timeout", "soon"], &[], &["--stop-timeout", "soon"]);
    refused(&[], &[("LASTWORD_STOP_TIMEOUT", "soon")], &["STOP_TIMEOUT", "soon"]);
    refused(&["--memory", "lots"], &[], &["--memory", "lots"]);
    refused(&["--max-line", "0"], &[], &["--max-line"]);
    refused(&["--when-full", "panic"], &[], &["--when-full", "drop-oldest"]);
    refused(&["--stop-signal", "SIGNOPE"], &[], &["--stop-signal", "SIGNOPE"]);
    refused(&["--no-such-flag"], &[], &["--no-such-flag"]);
    refused(&[], &[("LASTWORD_LOG", "lastword=loud")], &["LASTWORD_LOG", "lastword=loud", "lastword=debug"]);
}

#[test]
fn a_missing_command_and_a_missing_double_dash_are_explained() {
    let done = Setup::new().start::<&str>(&[]).finish(Duration::from_secs(10));
    assert_eq!((done.code(), done.err().lines().count()), (125, 1), "{}", done.err());
    let done = Setup::new().flags(["python", "app.py"]).start::<&str>(&[]).finish(Duration::from_secs(10));
    assert_eq!((done.code(), done.err().lines().count()), (125, 1), "{}", done.err());
    assert!(done.err().contains("lastword -- python"), "{}", done.err());
}

#[test]
fn secrets_do_not_show_in_refusals_49() {
    let url = "https://me:hunter2@host:99999/";
    let done = Setup::new().flags(["--drain", url]).start(&["true"]).finish(Duration::from_secs(10));
    assert_eq!(done.code(), 125);
    assert!(!done.err().contains("hunter2"), "{}", done.err());
}

#[test]
fn an_unknown_variable_is_a_warning_and_the_app_runs() {
    let done = Setup::new()
        .env("LASTWORD_SERVICE_HOST", "10.0.0.1")
        .start(&["sh", "-c", "exit 8"])
        .finish(Duration::from_secs(10));
    assert_eq!(done.code(), 8, "{}", done.err());
}

#[test]
fn a_drain_that_is_down_is_weather_and_the_app_runs() {
    let setup = Setup::new().drain("http://127.0.0.1:1/#name=x").flags(["--flush-timeout", "1s"]);
    let done = setup.start(&["sh", "-c", "exit 8"]).finish(Duration::from_secs(10));
    assert_eq!(done.code(), 8, "{}", done.err());
}

/// It was taken for the end of the input: code 0, and not a word.
#[test]
fn an_input_of_tee_that_cannot_be_read_is_said_and_is_a_failure() {
    let directory = std::fs::File::open("/").expect("a directory");
    let setup = Setup::command(&["tee"]).stdin(directory.into()).flags(["--quiet"]);
    let done = setup.start::<&str>(&[]).finish(Duration::from_secs(10));
    assert_eq!(done.code(), 1, "{}", done.err());
    assert_eq!(done.err(), "lastword: the input can't be read any further: is a directory\n");
}
