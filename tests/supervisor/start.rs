//! Starting the app: what it inherits, how failures are told, and its exit code.

use crate::run::{BOTH, Place, Run, has, program, script};
use std::process::Command;

#[test]
fn the_apps_exit_code_is_ours() {
    for place in BOTH {
        for code in [0, 1, 7, 125, 126, 127, 128, 200, 255] {
            let (got, _) = Run::start(place, &[], &["sh", "-c", &format!("exit {code}")]).end();
            assert_eq!(got, code, "{place:?}");
        }
        for signal in [1, 9, 11, 15, 35] {
            let (got, _) = Run::start(place, &[], &["sh", "-c", &format!("kill -{signal} $$")]).end();
            assert_eq!(got, 128 + signal, "{place:?}");
        }
    }
}

#[test]
fn failures_to_start_are_told_as_shells_tell_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let no_interpreter = script(&dir, "no-interpreter", "#!/no/such/interpreter\n");
    for (command, code, says) in [
        ("no-such-program", 127, "not found in PATH"),
        ("/no/such/program", 127, "not found"),
        (no_interpreter.as_str(), 127, "/no/such/interpreter"),
        ("/etc/passwd", 126, "Permission denied"),
        ("/etc", 126, "Permission denied"),
        ("sh -c", 127, "separate words"),
    ] {
        let (got, lines) = Run::start(Place::Elsewhere, &[], &[command]).end();
        assert_eq!(got, code, "{command}");
        assert!(has(&lines, says), "{command}: {lines:#?}");
    }
}

#[test]
fn a_script_without_a_first_line_is_the_shells() {
    let dir = tempfile::tempdir().expect("a directory");
    let plain = script(&dir, "plain", "echo \"arguments: $*\"\nexit 5\n");
    let (code, lines) = Run::start(Place::Elsewhere, &[], &[&plain, "one", "two"]).end();
    assert_eq!(code, 5);
    assert!(has(&lines, "arguments: one two"), "{lines:#?}");
}

#[test]
fn the_app_gets_the_mask_and_the_ignored_signals_that_we_got() {
    let setup = "import os, signal, sys
for number in (signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD): signal.signal(number, signal.SIG_IGN)
for number in (signal.SIGXFSZ,): signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGRTMIN + 5])
os.execv(sys.argv[1], sys.argv[1:])";
    let program = program();
    let masks = |through: &[&str]| {
        let mut outer = Command::new("python3");
        outer.args(["-c", setup]).args(through).args(["/bin/cat", "/proc/self/status"]);
        let (code, lines) = Run::spawn(outer, Place::Elsewhere).end();
        assert_eq!(code, 0, "{lines:#?}");
        ["SigBlk:", "SigIgn:"].map(|name| {
            let hex = lines.iter().find_map(|line| line.strip_prefix(name)).expect("a mask");
            // 32 and 33 are the C library's own, and posix_spawn leaves them in odd states.
            u64::from_str_radix(hex.trim(), 16).expect("a mask") & !(0b11 << 31)
        })
    };
    let bare = masks(&[]);
    assert!(bare[0] != 0 && bare[1].count_ones() >= 3, "{bare:x?}");
    assert_eq!(masks(&[program, "--"]), bare);
}

#[test]
fn the_exit_code_arrives_though_sigchld_came_in_ignored() {
    let mut outer = Command::new("sh");
    outer.args(["-c", "trap '' CHLD; exec \"$0\" -- sh -c 'exit 9'"]).arg(program());
    assert_eq!(Run::spawn(outer, Place::Elsewhere).end().0, 9);
}

#[test]
fn an_app_that_dropped_root_can_open_its_output_again() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root, as the containers have it");
    let app = "echo out > /dev/stdout; echo err > /dev/stderr";
    let command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", app];
    let (code, lines) = Run::start(Place::Pid1, &[], &command).end();
    assert_eq!(code, 0, "{lines:#?}");
    assert!(has(&lines, "out") && has(&lines, "err"), "{lines:#?}");
}

#[test]
fn our_own_variables_are_not_the_apps() {
    let mut outer = Command::new(program());
    outer.env("LASTWORD_DRAIN", "https://user:secret@example").env("OTHER", "kept").args(["--", "env"]);
    let (_, lines) = Run::spawn(outer, Place::Elsewhere).end();
    assert!(has(&lines, "OTHER=kept"), "{lines:#?}");
    assert!(!has(&lines, "LASTWORD_"), "{lines:#?}");
}
