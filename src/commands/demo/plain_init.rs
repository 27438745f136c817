//! What lastword is compared with: a small init that passes signals on to its child and exits when *that* child is
//! reaped, whoever else is still running: what tini does. (dumb-init signals the child's whole group, and exits by the same rule.)
//!
//! Asked to, it makes itself PID 1 of a new PID namespace, as in a container: the kernel then kills all that is left when it exits. Where
//! that is not allowed it runs as an ordinary process, says so, and the demo does the kernel's part.

use crate::{commands::signals, say};
use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use std::{
    ffi::OsString,
    io::{self, Write},
    process::{Command, ExitStatus},
};

/// What was typed behind `plain-init`.
#[derive(Clone, Debug)]
pub struct PlainInitOptions {
    /// `--namespace`: become PID 1 of a new PID namespace if that is allowed, and say on stderr what became of it.
    pub namespace: bool,
    /// The child and its arguments.
    pub command: Vec<OsString>,
}

/// The first line of `--namespace` on stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Announcement {
    /// The init is PID 1 of its own namespace, and has this PID outside.
    Namespace(i32),
    /// The init is an ordinary process, because of this.
    Ordinary(i32, String),
}

const NAMESPACE: &str = "plain-init: pid 1 of a namespace, outside pid ";
const ORDINARY: &str = "plain-init: no namespace, pid ";

impl Announcement {
    fn announce(&self) {
        let _ = match self {
            Self::Namespace(pid) => writeln!(io::stderr(), "{NAMESPACE}{pid}"),
            Self::Ordinary(pid, reason) => writeln!(io::stderr(), "{ORDINARY}{pid} {reason}"),
        };
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        if let Some(pid) = line.strip_prefix(NAMESPACE) {
            return pid.parse().ok().map(Self::Namespace);
        }
        let (pid, reason) = line.strip_prefix(ORDINARY)?.split_once(' ')?;
        pid.parse().ok().map(|pid| Self::Ordinary(pid, reason.to_owned()))
    }

    pub(crate) fn pid(&self) -> Pid {
        match self {
            Self::Namespace(pid) | Self::Ordinary(pid, _) => Pid::from_raw(*pid),
        }
    }
}

/// Runs the init until its child is reaped. Returns the exit code: the child's, or 128+n.
pub fn run(options: &PlainInitOptions) -> u8 {
    let result = match options.namespace.then(enter_namespace) {
        Some(Ok(())) => run_inside(&options.command),
        Some(Err(error)) => {
            Announcement::Ordinary(Pid::this().as_raw(), error.desc().to_owned()).announce();
            init(&options.command)
        }
        None => init(&options.command),
    };
    result.unwrap_or_else(|error| {
        say!("plain-init: {error}");
        127
    })
}

/// Children of this process will be in a new PID namespace: allowed to root, and in a user namespace of one's own often to
/// others.
fn enter_namespace() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWPID).or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID))
}

/// Starts the init as the first process of the new namespace, and waits for it.
fn run_inside(command: &[OsString]) -> io::Result<u8> {
    let mut inner = Command::new(std::env::current_exe()?);
    let mut child = signals::spawn_unblocked(inner.args(["plain-init", "--"]).args(command))?;
    Announcement::Namespace(child.id().cast_signed()).announce();
    child.wait().map(exit_code)
}

fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// The plain init itself.
fn init(command: &[OsString]) -> io::Result<u8> {
    // When the demo and the process before us are gone, so are we (and with us our namespace).
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let set = signals::block(signals::ENDING.into_iter().chain([Signal::SIGCHLD]))?;
    let child = signals::spawn_unblocked(Command::new(program).args(arguments))?;
    let child = Pid::from_raw(child.id().cast_signed());
    // Reaping comes before waiting: a child that ends while the spawn has the signals open leaves no SIGCHLD to wait for.
    loop {
        if let Some(code) = reap(child) {
            return Ok(code);
        }
        let signal = set.wait()?;
        if signal != Signal::SIGCHLD {
            let _ = kill(child, signal);
        }
    }
}

/// Takes every child that has ended; the exit code, if the direct one is among them.
fn reap(direct: Pid) -> Option<u8> {
    loop {
        let code = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == direct => code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == direct => 128 + signal as i32,
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(_) => continue,
        };
        return Some(u8::try_from(code).unwrap_or(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_reads_back() {
        assert_eq!(Announcement::parse(&format!("{NAMESPACE}41")), Some(Announcement::Namespace(41)));
        let ordinary = Announcement::Ordinary(42, "Operation not permitted".into());
        assert_eq!(Announcement::parse(&format!("{ORDINARY}42 Operation not permitted")), Some(ordinary));
        assert_eq!(Announcement::parse("something else"), None);
    }
}
