//! On a terminal: the app shares our process group, keys reach it without us, and Ctrl-Z stops the whole job.
//!
//! A terminal needs a session of its own, which Python's `pty.fork` gives; the driver types and prints what it sees.

use crate::run::{Place, Run, hanging_drain, has, program};
use std::process::Command;

/// `see(text)` waits for text on the terminal, `key(bytes)` types, `state(pid)` reads /proc.
const DRIVER: &str = r#"
import os, pty, re, select, signal, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
screen = ''
def more(timeout):
    global screen
    if not select.select([terminal], [], [], timeout)[0]: return False
    try: data = os.read(terminal, 65536)
    except OSError: return None
    screen += data.decode(errors='replace')
    return bool(data) or None
def see(text):
    global screen
    end = time.monotonic() + 20
    while text not in screen:
        if time.monotonic() > end or more(0.1) is None:
            print('missing:', text, 'in', repr(screen), flush=True); os.kill(pid, 9); sys.exit(99)
    before, screen = screen.split(text, 1)
    return before
def key(data): os.write(terminal, data)
def until(condition):
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end: print('timed out, screen', repr(screen), flush=True); os.kill(pid, 9); sys.exit(98)
        time.sleep(0.01)
def state(number): return open(f'/proc/{number}/stat').read().rsplit(')', 1)[1].split()[0]
# The screen stays as it is: what the app says may stand before it.
def number_after(text):
    find = lambda: re.search(re.escape(text) + r'(\d+)\s', screen)
    until(lambda: find() or more(0.1) is None)
    return int(find()[1])
def finish():
    global screen
    end = time.monotonic() + 20
    while more(0.2) is not None:
        if time.monotonic() > end: print('no end, screen', repr(screen), flush=True); os.kill(pid, 9); sys.exit(97)
    status = os.waitpid(pid, 0)[1]
    print(screen)
    print('code', os.waitstatus_to_exitcode(status), flush=True)
exec(sys.argv[1])
"#;

fn drive(steps: &str, command: &[&str]) -> Vec<String> {
    let mut outer = Command::new("python3");
    outer.args(["-c", DRIVER, steps]).args(command);
    let (code, lines) = Run::spawn(outer, Place::Elsewhere).end();
    assert_eq!(code, 0, "{lines:#?}");
    lines
}

const COUNTING: &str = "import signal, sys, time
def handler(number, frame):
    print('got', number, flush=True)
for number in (2, 3, 28): signal.signal(number, handler)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
print('ready', flush=True)
while True: time.sleep(0.1)";

#[test]
fn keys_reach_the_app_once_and_the_stop_still_works() {
    let program = program();
    let steps = "see('ready'); key(b'\\x03'); see('got 2'); key(b'\\x1c'); see('got 3'); key(b'\\x03'); see('got 2')
os.kill(pid, signal.SIGTERM); finish()";
    let lines = drive(steps, &[program, "--verbose", "--", "python3", "-c", COUNTING]);
    assert!(has(&lines, "code 5"), "{lines:#?}");
    assert!(!has(&lines, "got"), "a key was told twice: {lines:#?}");
}

#[test]
fn keys_reach_the_app_once_with_us_as_pid_1_of_a_container_with_a_terminal_21() {
    let steps = "see('ready'); key(b'\\x03'); see('got 2'); key(b'\\x03'); see('got 2')
pid1 = int(open(f'/proc/{pid}/task/{pid}/children').read().split()[0])
os.kill(pid1, signal.SIGTERM); finish()";
    let unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let command = [&unshare[..], &[program(), "--verbose", "--", "python3", "-c", COUNTING]].concat();
    let lines = drive(steps, &command);
    assert!(has(&lines, "code 5"), "{lines:#?}");
    assert!(!has(&lines, "got"), "a key was told twice: {lines:#?}");
}

#[test]
fn ctrl_c_ends_an_app_that_does_not_mind_it() {
    let lines = drive(
        "see('ready'); key(b'\\x03'); finish()",
        &[program(), "--verbose", "--", "sh", "-c", "echo ready; exec sleep 60"],
    );
    // As without us: the shell that waits for it must see that the signal ended it.
    assert!(has(&lines, "code -2"), "{lines:#?}");
}

#[test]
fn a_loop_of_a_shell_ends_at_ctrl_c_as_without_us_39() {
    // bash asks of what its command died: only if Ctrl-C ended it, its loop ends too.
    for (when, goes_on) in [("auto", false), ("never", true)] {
        let lastword = format!("{} --exit-signal {when} -- sh -c 'echo ready $i; exec sleep 60'", program());
        let script = format!("for i in 1 2; do {lastword}; done; echo after");
        let steps = "see('ready 1'); key(b'\\x03')
if goes_on: see('ready 2'); key(b'\\x03'); see('after')
finish()";
        let steps = format!("goes_on = {}\n{steps}", if goes_on { "True" } else { "False" });
        let lines = drive(&steps, &["bash", "-c", &format!("export i; {script}")]);
        assert_eq!(has(&lines, "code -2"), !goes_on, "{when}: {lines:#?}");
        assert!(!has(&lines, "after"), "{when}: {lines:#?}");
    }
}

#[test]
fn a_second_ctrl_c_does_not_wait_for_the_flush() {
    let lines = drive(
        "see('ready'); key(b'\\x03'); see('flush:'); key(b'\\x03'); finish()",
        &[program(), "--verbose", "--drain", &hanging_drain(), "--", "sh", "-c", "echo ready; exec sleep 60"],
    );
    assert!(has(&lines, "code -2") && has(&lines, "interrupted"), "{lines:#?}");
}

#[test]
fn ctrl_z_stops_the_whole_job_and_fg_goes_on_23() {
    let program = program();
    let job =
        format!("{} --verbose -- sh -c 'echo rea''dy; while :; do read -r word; echo \"word:$word\"; done'\n", program);
    let steps = format!(
        "key({job:?}.encode()); wrapper = None
app = number_after('the app is pid ')
see('ready')
wrapper = int(open(f'/proc/{{app}}/stat').read().rsplit(')', 1)[1].split()[1])
key(b'\\x1a')
until(lambda: state(app) == 'T' and state(wrapper) == 'T')
see('Stopped')
key(b'fg\\n')
until(lambda: state(app) != 'T' and state(wrapper) != 'T')
key(b'hello\\n'); see('word:hello')
key(b'\\x03'); see('the app exited'); key(b'exit\\n'); finish()"
    );
    let lines = drive(&steps, &["bash", "--norc", "--noprofile", "-i"]);
    assert!(has(&lines, "code 130"), "{lines:#?}");
}

#[test]
fn a_signal_at_the_group_that_the_app_shares_with_us_reaches_it_once_19() {
    // As `timeout` and shells send it. With a terminal the app is in our group, and so is the canary.
    let steps = "see('ready'); time.sleep(0.1); os.kill(-pid, signal.SIGUSR1); time.sleep(0.1)
os.killpg(os.getpgid(pid), signal.SIGTERM); see('stop 1'); time.sleep(0.3)
os.kill(pid, signal.SIGUSR2); finish()";
    let app =
        "$| = 1; $SIG{TERM} = sub { $n++; print \"stop $n\\n\" }; $SIG{USR1} = 'IGNORE'; $SIG{USR2} = sub { exit $n };
print \"ready\\n\"; sleep 60 while 1";
    let lines = drive(steps, &[program(), "--verbose", "--", "perl", "-e", app]);
    assert!(has(&lines, "code 1"), "{lines:#?}");
}

#[test]
fn an_interactive_bash_behaves_as_without_us_21() {
    // Keys are for the sleep once it holds the terminal.
    let steps = "def asleep():
    try: return open(f'/proc/{os.tcgetpgrp(terminal)}/comm').read() == 'sleep\\n'
    except OSError: return False
see('# '); key(b'echo one; sleep 60\\n'); see('one\\r\\n'); until(asleep); key(b'\\x03'); see('# ')
key(b'sleep 60\\n'); until(asleep); key(b'\\x1a'); see('Stopped'); see('# ')
key(b'fg\\n'); until(asleep); key(b'\\x03'); see('# '); key(b'exit 7\\n'); finish()";
    let lines = drive(steps, &[program(), "--", "bash", "--norc", "--noprofile", "-i"]);
    assert!(has(&lines, "code 7"), "{lines:#?}");
    assert!(!has(&lines, "no job control") && !has(&lines, "cannot set terminal"), "{lines:#?}");
}

const RESTART: [&str; 4] = ["--restart", "on-failure", "--restart-delay", "100ms"];

#[test]
fn a_shell_that_was_killed_is_run_again_on_a_terminal_that_works_51() {
    // bash gives the terminal to a group of its own and sets its modes; a KILL leaves both as they are.
    let steps = "see('# '); key(b'echo one; stty -echo -icanon; kill -KILL $$\\n'); see('one\\r\\n'); see('# ')
key(b'stty -a | grep -o .icanon; echo two\\n'); see('echo two'); see(' icanon'); see('two\\r\\n')
key(b'sleep 60\\n'); time.sleep(0.3); key(b'\\x03'); see('# '); key(b'exit 0\\n'); finish()";
    let command = [&[program()][..], &RESTART, &["--", "bash", "--norc", "--noprofile", "-i"]].concat();
    let lines = drive(steps, &command);
    assert!(has(&lines, "code 0"), "{lines:#?}");
}

#[test]
fn ctrl_c_ends_a_later_run_and_the_wait_before_one_51() {
    let dir = tempfile::tempdir().expect("a directory");
    let app = "echo run >> $0; [ $(wc -l < $0) = 1 ] && exit 4; echo ready; read word; echo word:$word; exec sleep 60";
    let runs = dir.path().join("runs").display().to_string();
    let steps = "see('ready'); key(b'hello\\n'); see('word:hello'); key(b'\\x03'); finish()";
    let lines = drive(steps, &[&[program()][..], &RESTART, &["--", "sh", "-c", app, &runs]].concat());
    assert!(has(&lines, "code -2"), "{lines:#?}");
    assert_eq!(std::fs::read_to_string(&runs).expect("the app ran"), "run\nrun\n");
    let long = ["--restart", "always", "--restart-delay", "60s", "--verbose"];
    let steps = "see('restarting in'); key(b'\\x03'); finish()";
    let lines = drive(steps, &[&[program()][..], &long, &["--", "sh", "-c", "exit 4"]].concat());
    assert!(has(&lines, "code 4"), "{lines:#?}");
}

#[test]
fn ctrl_z_and_fg_work_in_a_later_run_51() {
    let dir = tempfile::tempdir().expect("a directory");
    let app = "echo run >> $0; [ $(wc -l < $0) = 1 ] && exit 4; echo ready; read word; echo word:$word; exit 0";
    let runs = dir.path().join("runs").display().to_string();
    let job = format!("{} --verbose {} -- sh -c '{app}' {runs}", program(), RESTART.join(" "));
    let steps = format!(
        "key({job:?}.encode() + b'\\n'); wrapper = None
see('restarting in'); app = number_after('the app is pid '); see('ready\\r\\n')
wrapper = int(open(f'/proc/{{app}}/stat').read().rsplit(')', 1)[1].split()[1])
key(b'\\x1a'); until(lambda: state(app) == 'T' and state(wrapper) == 'T'); see('Stopped')
key(b'fg\\n'); until(lambda: state(app) != 'T' and state(wrapper) != 'T')
key(b'hello\\n'); see('word:hello'); see('# '); key(b'exit\\n'); finish()"
    );
    let lines = drive(&steps, &["bash", "--norc", "--noprofile", "-i"]);
    assert!(has(&lines, "code 0"), "{lines:#?}");
}
