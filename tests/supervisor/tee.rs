//! Without an app: standard input is read to its end, and the same stages hold.

use crate::run::{Place, Run, has, now, program};
use nix::sys::signal::Signal;
use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

fn tee() -> Command {
    let mut outer = Command::new(program());
    outer.args(["tee", "--verbose"]);
    outer
}

#[test]
fn the_end_of_the_input_is_the_end() {
    let mut run = Run::spawn_reading(tee(), Place::Elsewhere, Stdio::piped());
    let mut input = run.input();
    input.write_all(b"one\ntwo").expect("it reads");
    drop(input);
    let (code, lines) = run.end();
    assert_eq!(code, 0);
    assert!(has(&lines, "one") && has(&lines, "two"), "{lines:#?}");
}

#[test]
fn a_stop_waits_for_the_end_of_the_input() {
    let mut run = Run::spawn_reading(tee(), Place::Elsewhere, Stdio::piped());
    let mut input = run.input();
    input.write_all(b"ready\n").expect("it reads");
    run.wait_for("ready");
    run.signal(Signal::SIGTERM);
    run.wait_for("stop: SIGTERM");
    input.write_all(b"goodbye\n").expect("it still reads");
    drop(input);
    let (code, lines) = run.end();
    assert_eq!(code, 0);
    assert!(has(&lines, "goodbye"), "{lines:#?}");
}

#[test]
fn a_stated_budget_ends_an_input_that_goes_on() {
    let mut outer = tee();
    outer.args(["--stop-timeout", "2"]);
    let mut run = Run::spawn_reading(outer, Place::Elsewhere, Stdio::piped());
    let mut input = run.input();
    input.write_all(b"ready\n").expect("it reads");
    run.wait_for("ready");
    let start = now();
    run.signal(Signal::SIGTERM);
    let (code, _) = run.end();
    assert_eq!(code, 143);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    drop(input);
}
