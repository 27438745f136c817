//! A wall clock that jumps (checklist item 50): by an hour, forth and back, at each look at it, from shortly before the stop
//! on. Budgets, back-offs and the order of lines do not mind.

use crate::support::{
    http::{Act, HttpSink},
    judge::Terms,
    ms,
    pair::Pair,
    tools, until,
};
use std::{fs, path::Path, process::Command, time::Duration};

/// A library for LD_PRELOAD.
fn jumping_clock(dir: &Path) -> String {
    let library = dir.join("jumping_clock.so").display().to_string();
    let mut gcc = Command::new(tools::program("/usr/bin/gcc", "gcc"));
    gcc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", &library]);
    let status = gcc.arg(tools::fixture("jumping_clock.c")).arg("-ldl").status();
    assert!(status.expect("gcc runs").success());
    library
}

#[test]
fn a_wall_clock_that_jumps_moves_no_deadline_and_loses_no_line_50() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let refusing =
            HttpSink::start(|number, _| if number < 2 { Act::Refuse(503, "Retry-After: 1\r\n") } else { Act::Take });
        let setup = pair.setup().drain(&refusing.url("refusing")).pid1(pid1).stop_timeout(3);
        let jump = setup.path("jump");
        let library = jumping_clock(jump.parent().expect("a directory"));
        let setup = setup.env("LD_PRELOAD", &library).env("JUMP", &jump.to_string_lossy());
        let mut run = setup.start_oracle("--on-term ignore --err-every 3");
        run.wrote(20);
        fs::write(&jump, "").expect("a fresh file");
        let seen = run.path("jump.seen");
        until("lastword to look at the clock", ms(5000), || seen.exists());
        run.wrote(run.record().done() + 20);
        run.stop();
        let done = run.finish(Duration::from_secs(3));
        assert_eq!(done.code(), 137, "pid1 {pid1}; stderr: {}", done.err());
        let since = done.since_stop.expect("it was stopped");
        assert!((ms(1700)..ms(3000)).contains(&since), "its time was 1.85 s, and it took {since:?}");
        done.acquit("refusing", &refusing.collect(), Terms { confirmed: true, ..Terms::default() });
        pair.acquit(&done);
    }
}
