//! `--exit-map` and `--exit-on-loss` (the second half of checklist item 38).

use crate::support::{closed::Closed, http::HttpSink, ms, wrapper::Setup};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn the_exit_code_is_changed_on_request_alone() {
    for (maps, script, code) in [
        (&["143=0"][..], "kill -TERM $$", 0),
        (&["143=0"], "exit 3", 3),
        (&["143=0,3=4"], "exit 3", 4),
        (&["3=4", "4=5"], "exit 3", 4),
        (&["3=4", "3=5"], "exit 3", 5),
    ] {
        let mut setup = Setup::new();
        for map in maps {
            setup = setup.flags(["--exit-map", map]);
        }
        let done = setup.start(&["sh", "-c", script]).finish(LIMIT);
        assert_eq!((done.code(), done.err().as_str()), (code, ""), "{maps:?} {script}");
    }
    let done = Setup::new().env("LASTWORD_EXIT_MAP", "127=1").start(&["no-such-program"]).finish(LIMIT);
    assert_eq!(done.code(), 1, "{}", done.err());
}

#[test]
fn a_loss_is_an_exit_code_on_request_alone_61() {
    let closed = Closed::port();
    let down = format!("syslog+tcp://{closed}#name=down");
    for (flags, lost, code) in [
        (&["--exit-on-loss", "75"][..], true, 75),
        (&["--exit-on-loss", "75", "--exit-map", "75=0"], true, 75),
        (&["--flush-timeout", "1s"], true, 3),
        (&["--exit-on-loss", "75"], false, 3),
    ] {
        let http = HttpSink::healthy();
        let mut setup = Setup::new().flags(["--flush-timeout", "1s"]).drain(&http.url("http"));
        for flag in flags {
            setup = setup.flags([*flag]);
        }
        if lost {
            setup = setup.drain(&down);
        }
        let done = setup.start(&["sh", "-c", "echo hello; exit 3"]).finish(ms(10_000));
        assert_eq!(done.code(), code, "{flags:?}, lost: {lost}; {}", done.err());
    }
}
