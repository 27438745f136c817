//! Starting the app: real pipes, the original signal mask and ignored signals, its own process group unless it shares a
//! terminal with us, and failures told as shells tell them.

use crate::{exit::Ending, signals::Inherited, sys};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::stat::{Mode, fchmod},
    unistd::{AccessFlags, access, pipe2},
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The read and write ends of the app's stdout and stderr.
#[derive(Debug)]
pub struct Pipes {
    writers: [OwnedFd; 2],
}

impl Pipes {
    /// Makes two pipes of `size` bytes (or what the kernel grants); returns the read ends of stdout and stderr too.
    ///
    /// # Errors
    /// If the kernel has no descriptor left.
    pub fn new(size: usize) -> nix::Result<(Self, [OwnedFd; 2])> {
        let (out_reader, out_writer) = pipe(size)?;
        let (err_reader, err_writer) = pipe(size)?;
        Ok((Self { writers: [out_writer, err_writer] }, [out_reader, err_reader]))
    }
}

fn pipe(size: usize) -> nix::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    // Both are best effort. The mode lets an app that has given up root open /dev/stdout again.
    let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(i32::try_from(size).unwrap_or(i32::MAX)));
    let _ = fchmod(&writer, Mode::from_bits_truncate(0o666));
    Ok((reader, writer))
}

/// The running app, until it is reaped: its number is forgotten then, so that nobody else gets its signals.
#[derive(Debug)]
pub struct App {
    pid: i32,
    pidfd: Option<OwnedFd>,
}

impl App {
    /// Its number. Valid while this value lives, for nobody else reaps.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends it a signal. An app that just died, or that changed its user, is no error of ours.
    pub fn signal(&self, signal: i32) -> nix::Result<()> {
        match &self.pidfd {
            Some(pidfd) => match sys::pidfd_send_signal(pidfd, signal) {
                // A sandbox may know the one call and refuse the other.
                Err(Errno::ENOSYS) => sys::kill(self.pid, signal),
                result => result,
            },
            None => sys::kill(self.pid, signal),
        }
    }
}

/// Why the app does not run: one line for the user.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No such program.
    #[error("cannot start {0:?}: not found{1}")]
    NotFound(OsString, &'static str),
    /// It is there, but the interpreter in its first line is not.
    #[error("cannot start {0:?}: its interpreter {1:?} (first line of the file) does not exist")]
    NoInterpreter(PathBuf, String),
    /// It is there, but its loader or libraries' format is not.
    #[error("cannot start {0:?}: the file is there, but the loader that it names is not (built for another libc?)")]
    NoLoader(PathBuf),
    /// It may not be executed.
    #[error("cannot start {0:?}: {hint}", hint = .1.desc())]
    NotExecutable(PathBuf, Errno),
    /// The kernel has no process for us.
    #[error("cannot start {0:?}: {1}")]
    Failed(OsString, io::Error),
}

impl SpawnError {
    /// What that means for the exit code.
    pub const fn ending(&self) -> Ending {
        match self {
            Self::NotFound(..) | Self::NoInterpreter(..) | Self::NoLoader(_) => Ending::NotFound,
            Self::NotExecutable(..) => Ending::NotExecutable,
            Self::Failed(..) => Ending::Own,
        }
    }
}

/// Starts `command` (program and arguments, byte for byte). `shared`: it stays in our process group.
///
/// When this returns, the app has executed: the standard library waits for that. Until then a signal at its number or
/// group is not lost either: it ends the app, or waits in its mask.
///
/// # Errors
/// [`SpawnError`], ready to be shown.
pub fn spawn(command: &[OsString], pipes: Pipes, inherited: &Inherited, shared: bool) -> Result<App, SpawnError> {
    let program = command.first().map(OsString::as_os_str).unwrap_or_default();
    let [out, err] = pipes.writers;
    let clones = out.try_clone().and_then(|out| Ok((out, err.try_clone()?)));
    let again = clones.map_err(|error| SpawnError::Failed(program.into(), error))?;
    let mut app = Command::new(program);
    app.args(command.get(1..).unwrap_or_default());
    match start(app, out, err, inherited, shared) {
        Err(error) if error.raw_os_error() == Some(Errno::ENOEXEC as i32) => {
            // As execvp(3) does: a script without a first line is the shell's.
            let found = lookup(program).unwrap_or_else(|| program.into());
            let mut shell = Command::new("/bin/sh");
            shell.arg(&found).args(command.get(1..).unwrap_or_default());
            let result = if is_script(&found) { start(shell, again.0, again.1, inherited, shared) } else { Err(error) };
            result.map_err(|error| explain(program, error))
        }
        result => result.map_err(|error| explain(program, error)),
    }
}

fn start(mut command: Command, out: OwnedFd, err: OwnedFd, inherited: &Inherited, shared: bool) -> io::Result<App> {
    command.stdout(Stdio::from(out)).stderr(Stdio::from(err));
    sys::set_environment(&mut command, environment());
    if !shared {
        command.process_group(0);
    }
    sys::restore_signals(&mut command, inherited.mask(), inherited.ignored().to_vec());
    // The command owns the write ends and drops them with it: the pipes' ends are the app's alone from then on.
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(|_| Errno::ESRCH)?;
    Ok(App { pid, pidfd: sys::pidfd_open(pid).ok() })
}

/// What the app sees: everything but our own variables. The number of the process that sockets were handed to
/// (sd_listen_fds(3)) becomes the app's, if it is ours: None is where that goes.
fn environment() -> Vec<(OsString, Option<OsString>)> {
    let own = std::process::id().to_string();
    let ours = std::env::vars_os().filter(|(name, _)| !name.as_bytes().starts_with(b"LASTWORD_"));
    ours.map(|(name, value)| if name == "LISTEN_PID" && value == *own { (name, None) } else { (name, Some(value)) })
        .collect()
}

fn explain(program: &OsStr, error: io::Error) -> SpawnError {
    let found = lookup(program);
    match (Errno::from_raw(error.raw_os_error().unwrap_or(0)), found) {
        (Errno::ENOENT, Some(path)) => match interpreter(&path) {
            Some(interpreter) => SpawnError::NoInterpreter(path, interpreter),
            None => SpawnError::NoLoader(path),
        },
        (Errno::ENOENT | Errno::ENOTDIR, _) => SpawnError::NotFound(program.into(), hint(program)),
        (Errno::EACCES, None) if !program.as_bytes().contains(&b'/') => {
            SpawnError::NotFound(program.into(), hint(program))
        }
        (
            errno @ (Errno::EACCES | Errno::ENOEXEC | Errno::EPERM | Errno::EISDIR | Errno::ETXTBSY | Errno::ELOOP),
            found,
        ) => SpawnError::NotExecutable(found.unwrap_or_else(|| program.into()), errno),
        _ => SpawnError::Failed(program.into(), error),
    }
}
fn hint(program: &OsStr) -> &'static str {
    let bytes = program.as_bytes();
    if bytes.contains(&b' ') {
        " (the program and its arguments are separate words, or use sh -c)"
    } else if bytes.contains(&b'/') {
        ""
    } else {
        " in PATH"
    }
}

/// The file that a program's name means: as execvp(3) looks it up, or the first that is there at all.
fn lookup(program: &OsStr) -> Option<PathBuf> {
    if program.is_empty() {
        return None;
    }
    if program.as_bytes().contains(&b'/') {
        return Path::new(program).exists().then(|| program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let files = || std::env::split_paths(&path).map(|dir| dir.join(program)).filter(|file| file.is_file());
    let executable = files().find(|file| access(file, AccessFlags::X_OK).is_ok());
    executable.or_else(|| files().next())
}

/// The interpreter that a file's `#!` line names, if it has one.
fn interpreter(path: &Path) -> Option<String> {
    let start = head(path)?;
    let line = start.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let text = String::from_utf8_lossy(line).into_owned();
    // Kept with a trailing carriage return, which is then the very thing that is wrong.
    text.trim_start_matches([' ', '\t']).split([' ', '\t']).next().map(str::to_owned)
}

/// No binary of some other machine: text, as shells judge it, has no NUL in its first line.
fn is_script(path: &Path) -> bool {
    let start = head(path).unwrap_or_default();
    !start.split(|&byte| byte == b'\n').next().unwrap_or_default().contains(&0)
}

fn head(path: &Path) -> Option<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path).ok()?.take(256).read_to_end(&mut start).ok()?;
    Some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_blanks_get_a_hint() {
        let error = explain(OsStr::new("python worker.py"), io::Error::from_raw_os_error(Errno::ENOENT as i32));
        assert!(error.to_string().contains("separate words"), "{error}");
        assert_eq!(error.ending(), Ending::NotFound);
    }

    #[test]
    fn a_missing_interpreter_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        std::fs::write(&script, "#!/no/such/python -u\nprint()\n").unwrap();
        let error = explain(script.as_os_str(), io::Error::from_raw_os_error(Errno::ENOENT as i32));
        assert!(error.to_string().contains("\"/no/such/python\""), "{error}");
    }

    #[test]
    fn scripts_are_told_from_foreign_binaries() {
        let dir = tempfile::tempdir().unwrap();
        let (script, binary) = (dir.path().join("script"), dir.path().join("binary"));
        std::fs::write(&script, "echo hello\n").unwrap();
        std::fs::write(&binary, b"\x7fELF\x02\x00\x00").unwrap();
        assert!(is_script(&script) && !is_script(&binary));
    }

    #[test]
    fn pipes_can_be_opened_again_by_anyone() {
        let (pipes, _readers) = Pipes::new(65_536).unwrap();
        for writer in &pipes.writers {
            let stat = nix::sys::stat::fstat(writer).unwrap();
            assert_eq!(stat.st_mode & 0o777, 0o666);
        }
    }
}
