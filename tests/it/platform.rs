//! `--stop-timeout auto`, with the real binary: what the platform's variables come to on the lines and at the start.

use crate::support::wrapper::Setup;
use std::{fs, time::Duration};

const LIMIT: Duration = Duration::from_secs(20);

/// Runs an app of one line with these variables; says what its syslog messages are.
fn messages(variables: &[(&str, &str)], flags: &[&str]) -> Vec<String> {
    let mut setup = Setup::new().env("LASTWORD_LIFECYCLE_LINES", "on");
    for (name, value) in variables {
        setup = setup.env(name, value);
    }
    for flag in flags {
        setup = setup.flags([*flag]);
    }
    let file = setup.path("log");
    let setup = setup.drain(&format!("syslog+file:{}", file.display()));
    let done = setup.start(&["echo", "hello"]).finish(LIMIT);
    assert_eq!((done.code(), done.err().as_str()), (0, ""));
    fs::read_to_string(file).expect("the drain's file").lines().map(str::to_owned).collect()
}

#[test]
fn the_start_line_says_which_budget_was_taken_and_why() {
    let heroku = [("DYNO", "web.1")];
    for (variables, flags, says) in [
        (&heroku[..], &[][..], "stop budget 30 s (stated: Heroku always gives that, and DYNO is set)"),
        (&heroku, &["--stop-timeout", "auto"], "stop budget 30 s (stated: Heroku always gives that, and DYNO is set)"),
        (&heroku, &["--stop-timeout", "9s"], "stop budget 9 s (stated by --stop-timeout)"),
        (&heroku, &["--quiet"], "stop budget 30 s"),
        (
            &[("RAILWAY_SERVICE_ID", "x")],
            &[],
            "stop budget 3 s (assumed: the default of Railway, as RAILWAY_SERVICE_ID is set)",
        ),
        (&[("LASTWORD_STOP_TIMEOUT", "11s")], &[], "stop budget 11 s (stated by LASTWORD_STOP_TIMEOUT)"),
        (&[], &[], "stop budget 10 s (assumed: the environment names no platform)"),
    ] {
        let messages = messages(variables, flags);
        assert!(messages[0].contains("lastword: start: ") && messages[0].contains(says), "{variables:?}: {messages:?}");
    }
}

#[test]
fn lines_carry_the_platforms_names_for_host_app_and_instance() {
    for (variables, header) in [
        (&[("DYNO", "web.1"), ("HEROKU_APP_NAME", "shop"), ("HOSTNAME", "h1")][..], " h1 shop web.1 stdout "),
        (
            &[("APTIBLE_PROCESS_TYPE", "web"), ("APTIBLE_PROCESS_INDEX", "2"), ("HOSTNAME", "h1")],
            " h1 echo web.2 stdout ",
        ),
        (&[("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("HOSTNAME", "shop-7d-x")], " shop-7d-x echo shop-7d-x stdout "),
        (&[("FLY_APP_NAME", "shop"), ("FLY_MACHINE_ID", "e78"), ("HOSTNAME", "h1")], " h1 shop e78 stdout "),
    ] {
        let messages = messages(variables, &[]);
        assert_eq!(messages.iter().filter(|message| message.contains(header)).count(), 1, "{messages:?}");
        let own = header.replace("stdout", "lastword");
        assert!(messages[0].starts_with("<133>1 ") && messages[0].contains(&own), "{messages:?}");
    }
}
