//! What ought not to happen: a process that survives a KILL [48], and a clock that jumps [50].

use crate::run::{BOTH, Place, Run, has, now};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A tracer that sleeps: what it traces is killed as any other, but is reaped by nobody else before it has looked.
struct Tracer(Child);

impl Tracer {
    fn attach(run: &Run, pid: Pid) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-p", &pid.to_string(), "-o", "/dev/null", "-e", "trace=none", "-e", "signal=none"]);
        let child = strace.stderr(Stdio::null()).spawn().expect("strace");
        let mark = format!("TracerPid:\t{}\n", child.id());
        run.wait_until("it is traced", || {
            fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains(&mark))
        });
        let tracer = Self(child);
        kill(tracer.pid(), Signal::SIGSTOP).expect("it runs");
        tracer
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process whose last argument is this, by its number out here.
fn find(run: &Run, mark: &str) -> Pid {
    let ending = format!("{mark}\0");
    let look = || {
        let names = fs::read_dir("/proc").expect("/proc").flatten();
        let is_it = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(ending.as_str()))
        };
        names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(is_it)
    };
    run.wait_until("it is there", || look().is_some());
    Pid::from_raw(look().expect("it is there"))
}

#[test]
fn what_survives_a_kill_does_not_keep_us_past_the_deadline_48() {
    for place in BOTH {
        for traced in ["leftover", "app"] {
            let mark = format!("left-{place:?}-{}", std::process::id());
            let left = "trap '' TERM; while :; do sleep 0.1; done";
            let deaf = if traced == "app" { "''" } else { "'echo goodbye; exit 3'" };
            let app =
                format!("(setsid sh -c \"$0\" {mark} &); trap {deaf} TERM; echo ready; while :; do sleep 0.02; done");
            let mut run = Run::start(place, &["--stop-timeout", "2"], &["sh", "-c", &app, left]);
            run.wait_for("ready");
            let tracer = Tracer::attach(&run, if traced == "app" { run.child_of(run.pid) } else { find(&run, &mark) });
            let start = now();
            run.signal(Signal::SIGTERM);
            let said = run.wait_for("after SIGKILL");
            assert!(said.contains("1 process did not end"), "{said}");
            assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
            // The kernel keeps a PID 1 until the tracer has looked; else nothing does.
            let tracer = if place == Place::Pid1 {
                drop(tracer);
                None
            } else {
                Some(tracer)
            };
            let (code, lines) = run.end();
            assert!(place == Place::Pid1 || start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
            assert_eq!(code, if traced == "app" { 137 } else { 3 }, "{place:?} {traced}: {lines:#?}");
            assert_eq!(has(&lines, "goodbye"), traced != "app", "{place:?} {traced}: {lines:#?}");
            drop(tracer);
        }
    }
}
