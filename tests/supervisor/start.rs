//! Starting the app: what it inherits, how failures are told, and its exit code.

use crate::run::{BOTH, Place, Run, has, open_directory, program, script, wrapped};
use std::process::Command;

#[test]
fn the_apps_exit_code_is_ours_38() {
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
fn a_parent_sees_the_signal_that_ended_the_app_if_it_is_to_39() {
    use std::os::unix::process::ExitStatusExt;
    let end = |place, options: &[&str], signal: i32| {
        let options = [&["--exit-signal", "always"], options].concat();
        let mut outer = wrapped(place, &options, &["sh", "-c", &format!("kill -{signal} $$")]);
        let status = outer.stderr(std::process::Stdio::null()).status().expect("unshare and the program");
        assert!(!status.core_dumped(), "{status}");
        (status.code(), status.signal())
    };
    for signal in [1, 2, 3, 6, 9, 11, 13, 15, 35, 64] {
        assert_eq!(end(Place::Elsewhere, &[], signal), (None, Some(signal)));
    }
    // No signal of its own ends PID 1; and a code that was asked for is a code.
    assert_eq!(end(Place::Pid1, &[], 15), (Some(143), None));
    assert_eq!(end(Place::Elsewhere, &["--exit-map", "143=0"], 15), (Some(0), None));
    // Off a terminal, the default is the code.
    let (code, _) = Run::start(Place::Elsewhere, &[], &["sh", "-c", "kill -TERM $$"]).end();
    assert_eq!(code, 143);
}

#[test]
fn failures_to_start_are_told_as_shells_tell_them_5() {
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
fn a_script_without_a_first_line_is_the_shells_6() {
    let dir = tempfile::tempdir().expect("a directory");
    let plain = script(&dir, "plain", "echo \"arguments: $*\"\nexit 5\n");
    let (code, lines) = Run::start(Place::Elsewhere, &[], &[&plain, "one", "two"]).end();
    assert_eq!(code, 5);
    assert!(has(&lines, "arguments: one two"), "{lines:#?}");
}

#[test]
fn the_app_gets_the_mask_and_the_ignored_signals_that_we_got_4() {
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
fn an_app_that_dropped_root_can_open_its_output_again_27_28() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root, as the containers have it");
    let app = "echo out > /dev/stdout; echo err > /dev/stderr";
    let command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", app];
    let (code, lines) = Run::start(Place::Pid1, &[], &command).end();
    assert_eq!(code, 0, "{lines:#?}");
    assert!(has(&lines, "out") && has(&lines, "err"), "{lines:#?}");
}

#[test]
fn our_own_variables_are_not_the_apps_10() {
    let mut outer = Command::new(program());
    outer.env("LASTWORD_DRAIN", "https://user:secret@example").env("OTHER", "kept").args(["--", "env"]);
    let (_, lines) = Run::spawn(outer, Place::Elsewhere).end();
    assert!(has(&lines, "OTHER=kept"), "{lines:#?}");
    assert!(!has(&lines, "LASTWORD_"), "{lines:#?}");
}

#[test]
fn handed_sockets_are_the_apps_with_their_number_and_ours_no_more_9() {
    // As systemd does it: descriptor 3, and the number of the process that it is for. Its reader sees the end of the
    // pipe when the app has closed it, though we live on.
    let outer_script = "import os, sys
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    os.dup2(writer, 3); os.set_inheritable(3, True)
    os.environ['LISTEN_PID'] = str(os.getpid()); os.environ['LISTEN_FDS'] = '1'
    os.execv(sys.argv[1], sys.argv[1:])
os.close(writer)
print('read', os.read(reader, 100).decode(), flush=True)
print('end', len(os.read(reader, 100)), flush=True)
print('code', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)";
    let app = "[ \"$LISTEN_PID\" = $$ ] && [ \"$LISTEN_FDS\" = 1 ] && echo mine >&3; exec 3>&-; \
               sleep 0.3; echo later; exit 7";
    let mut outer = Command::new("python3");
    outer.args(["-c", outer_script, program(), "--", "sh", "-c", app]);
    let (code, lines) = Run::spawn(outer, Place::Elsewhere).end();
    assert_eq!(code, 0, "{lines:#?}");
    assert!(has(&lines, "read mine") && has(&lines, "code 7"), "{lines:#?}");
    let at = |text: &str| lines.iter().position(|line| line == text).expect(text);
    assert!(at("end 0") < at("later"), "we held it open: {lines:#?}");
}

#[test]
fn a_listen_pid_of_somebody_else_stays_9() {
    let mut outer = Command::new(program());
    outer.env("LISTEN_PID", "1").args(["--", "sh", "-c", "echo \"pid $LISTEN_PID\""]);
    let (_, lines) = Run::spawn(outer, Place::Elsewhere).end();
    assert!(has(&lines, "pid 1"), "{lines:#?}");
}

#[test]
fn limits_umask_niceness_and_directory_are_as_given_7_8() {
    let look = "ulimit -n; ulimit -c; umask; nice; pwd; cat /proc/self/oom_score_adj";
    let run = |through: &str| {
        let mut outer = Command::new("bash");
        let setup = "ulimit -n 777; ulimit -c 0; umask 027; cd /usr/lib; exec nice -n 3 ";
        outer.args(["-c", &format!("{setup}{through} bash -c '{look}'")]);
        let (code, lines) = Run::spawn(outer, Place::Elsewhere).end();
        assert_eq!(code, 0, "{lines:#?}");
        lines
    };
    let bare = run("");
    assert!(has(&bare, "777") && has(&bare, "0027") && has(&bare, "/usr/lib"), "{bare:#?}");
    assert_eq!(run(&format!("{} --", program())), bare);
}

#[test]
fn descriptors_that_are_closed_at_the_start_harm_nothing_11() {
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let text = format!("\"$0\" -- sh -c 'read -r word; echo out; echo err >&2; exit 6' {closed}; echo \"code $?\"");
        let mut outer = Command::new("sh");
        outer.args(["-c", &text]).arg(program());
        let (_, lines) = Run::spawn(outer, Place::Elsewhere).end();
        assert!(has(&lines, "code 6"), "{closed}: {lines:#?}");
        assert_eq!(has(&lines, "out"), !closed.contains(" >") && !closed.starts_with('>'), "{closed}: {lines:#?}");
    }
}

#[test]
fn arguments_and_the_environment_are_byte_exact_7() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let odd = OsStr::from_bytes(b"\xff\xfe a=b\n--");
    let mut outer = Command::new(program());
    outer.env("ODD", odd).args([
        "--",
        "python3",
        "-c",
        "import os, sys
print(os.fsencode(sys.argv[1]), os.fsencode(sys.argv[2]), os.environb[b'ODD'])",
    ]);
    outer.arg(odd).arg("");
    let (_, lines) = Run::spawn(outer, Place::Elsewhere).end();
    let shown = r"b'\xff\xfe a=b\n--'";
    assert!(has(&lines, &format!("{shown} b'' {shown}")), "{lines:#?}");
}

#[test]
fn it_works_under_tini_under_itself_and_as_another_user_without_a_writable_place_12_13() {
    let worker = format!("sh -c '{}' & wait", crate::run::WORKER.replace('\'', "'\\''"));
    for outer in [&["tini", "-s", "--"][..], &["tini", "-g", "--"], &[program(), "--verbose", "--"]] {
        let mut command = Command::new(outer[0]);
        command.args(&outer[1..]).args([program(), "--verbose", "--", "sh", "-c", &worker]);
        let mut run = Run::spawn(command, Place::Elsewhere);
        run.wait_for("ready");
        run.signal(nix::sys::signal::Signal::SIGTERM);
        let (code, lines) = run.end();
        assert_eq!(code, 143, "{outer:?}: {lines:#?}");
        let goodbyes = lines.iter().filter(|line| *line == "goodbye").count();
        assert_eq!(goodbyes, 1, "{outer:?}: {lines:#?}");
    }
    let mut command = Command::new("unshare");
    let text = "mount -t tmpfs -o ro none /tmp; cd /; exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
                --bounding-set=-all \"$0\" -- sh -c 'id -u; exit 5'";
    let dir = open_directory();
    let copy = dir.path().join("lastword");
    std::fs::copy(program(), &copy).expect("a copy");
    command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", text]).arg(&copy);
    let (code, lines) = Run::spawn(command, Place::Elsewhere).end();
    assert_eq!(code, 5, "{lines:#?}");
    assert!(has(&lines, "65534"), "{lines:#?}");
}

#[test]
fn no_process_to_be_had_is_125_and_said_49() {
    let mut outer = Command::new("setpriv");
    let dir = open_directory();
    let copy = dir.path().join("lastword");
    std::fs::copy(program(), &copy).expect("a copy");
    // Another user with no process to spare: our threads count too, so the pass-through fails or the spawn does.
    outer
        .args(["--reuid=61234", "--regid=61234", "--clear-groups", "prlimit", "--nproc=1"])
        .arg(&copy)
        .args(["--", "true"]);
    let (code, lines) = Run::spawn(outer, Place::Elsewhere).end();
    assert_eq!(code, 125, "{lines:#?}");
    assert!(has(&lines, "temporarily unavailable") || has(&lines, "could not"), "{lines:#?}");
}

#[test]
fn pipes_have_the_size_that_was_asked_for_30() {
    let app = "import fcntl; print('sizes', fcntl.fcntl(1, 1032), fcntl.fcntl(2, 1032))";
    for (options, sizes) in [(&[][..], "sizes 262144 262144"), (&["--pipe-size", "64KiB"], "sizes 65536 65536")] {
        let (_, lines) = Run::start(Place::Elsewhere, options, &["python3", "-c", app]).end();
        assert!(has(&lines, sizes), "{options:?}: {lines:#?}");
    }
}

#[test]
fn a_descriptor_that_was_meant_for_the_app_is_there_in_every_run_of_it() {
    let mut outer = Command::new("sh");
    let script = r#"exec "$0" --restart on-failure --restart-delay 100ms --max-restarts 1 -- sh -c \
        '[ "$(readlink /proc/self/fd/3)" = /dev/null ] && echo has three; exit 1' 3</dev/null"#;
    outer.args(["-c", script]).arg(program());
    let (code, lines) = Run::spawn(outer, Place::Elsewhere).end();
    assert_eq!(code, 1);
    assert_eq!(lines.iter().filter(|line| *line == "has three").count(), 2, "{lines:#?}");
}
