//! Other inits before lastword, and lastword before itself.

use crate::support::{
    stops::{Case, shell, stop_all, worker},
    tools,
};

/// A worker behind a shell that dies of the stop: an init that waits for its direct child alone would lose the goodbye.
fn stop_behind(name: &'static str, in_front: &[&str]) {
    let in_front = in_front.iter().map(ToString::to_string).collect();
    let command = |_: &_| shell("sh", &format!("while true; do {}; sleep 1; done", worker()));
    stop_all(&Case { name, in_front, command, goodbye: 1.0, code: 143, ..Case::default() }, 6);
}

#[test]
fn the_goodbye_arrives_with_tini_in_front_13() {
    let tini = tools::program("/usr/bin/tini", "tini");
    stop_behind("tini", &[tini, "-s", "--"]);
    // To the group of lastword, which is not that of the app.
    stop_behind("tini -g", &[tini, "-s", "-g", "--"]);
}

#[test]
fn the_goodbye_arrives_under_lastword_under_itself_13() {
    let lastword = tools::lastword();
    stop_behind("itself", &[&lastword.to_string_lossy(), "--stop-timeout", "5s", "--"]);
}
