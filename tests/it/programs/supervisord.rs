//! supervisord as the app, with two children that it copies.

use crate::support::{
    stops::{Case, stop_all},
    tools,
    wrapper::Setup,
};
use std::fs;

/// Two slow workers, one into each of the usual names of standard output.
fn supervisord(setup: &Setup) -> Vec<String> {
    let program = tools::program("/usr/bin/supervisord", "supervisor");
    let worker = format!("{} {}", tools::python(), tools::fixture("worker.py"));
    let (config, pidfile) = (setup.path("supervisord.conf"), setup.path("pid"));
    let child = |name: &str, out: &str| {
        format!("[program:{name}]\ncommand={worker}\nstdout_logfile={out}\nstdout_logfile_maxbytes=0\n")
    };
    let text = format!(
        "[supervisord]\nnodaemon=true\nsilent=true\nuser=root\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={}\n\n{}\n{}",
        pidfile.display(),
        child("one", "/dev/stdout"),
        child("two", "/dev/fd/1"),
    );
    fs::write(&config, text).expect("a fresh file");
    vec![program.into(), "--configuration".into(), config.display().to_string()]
}

#[test]
fn the_last_words_of_both_children_of_supervisord_arrive() {
    tools::root();
    let case = Case { name: "supervisord", command: supervisord, budget: 10, goodbye: 0.6, ..Case::default() };
    stop_all(&Case { writers: 2, ..case }, 6);
}
