//! Where the demo's programs run: starts them, hears what they say and when they end, and leaves nobody behind.
//!
//! The stage is a subreaper: whatever is orphaned below it becomes its child and can be found, so that it is empty after every act,
//! also after Ctrl-C. Programs have a process group of their own, which keeps a Ctrl-C of the terminal from them.

use crate::{clock, commands::signals, line::Stream};
use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};
use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Instant,
};

/// What happens on the stage.
#[derive(Debug)]
pub(crate) enum Cue {
    /// The program, or somebody below it, wrote a line.
    Line(Stream, String),
    /// The stream is at its end: nobody has it open any more.
    End(Stream),
    /// The program ended; an error if it was taken by [`Stage::clear`].
    Exited(io::Result<ExitStatus>),
    /// Somebody wants the demo to end.
    Interrupted(Signal),
}

/// See the module. Dropping it clears it and removes its folder.
pub(crate) struct Stage {
    cues: Receiver<Cue>,
    sender: SyncSender<Cue>,
    folder: PathBuf,
}

impl Stage {
    /// Call it before any thread is started: signals are blocked from here on.
    pub(crate) fn new() -> io::Result<Self> {
        let (sender, cues) = sync_channel(1024);
        let interrupts = sender.clone();
        signals::forward(move |signal| drop(interrupts.send(Cue::Interrupted(signal))))?;
        prctl::set_child_subreaper(true)?;
        let folder = std::env::temp_dir().join(format!("lastword-demo-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot make the folder {}: {error}", folder.display()))
        })?;
        Ok(Self { cues, sender, folder })
    }

    /// A folder of the demo's own.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a program with both streams read line by line, and no input.
    pub(crate) fn start(&self, command: &mut Command) -> io::Result<Pid> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = signals::spawn_unblocked(command)?;
        let pid = Pid::from_raw(child.id().cast_signed());
        if let Some(stdout) = child.stdout.take() {
            self.listen(Stream::Stdout, stdout)?;
        }
        if let Some(stderr) = child.stderr.take() {
            self.listen(Stream::Stderr, stderr)?;
        }
        let sender = self.sender.clone();
        spawn("waiter", move || drop(sender.send(Cue::Exited(child.wait()))))?;
        Ok(pid)
    }

    fn listen(&self, stream: Stream, pipe: impl Read + Send + 'static) -> io::Result<()> {
        let sender = self.sender.clone();
        spawn(stream.name(), move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let _ = sender.send(Cue::Line(stream, String::from_utf8_lossy(&line).into_owned()));
            }
            let _ = sender.send(Cue::End(stream));
        })
    }

    /// The next cue; `None` when `until` has passed.
    pub(crate) fn next(&self, until: Instant) -> Option<Cue> {
        self.cues.recv_timeout(until.saturating_duration_since(clock::now())).ok()
    }

    /// Kills all that is on the stage, and returns how many there were that were still running.
    pub(crate) fn clear() -> usize {
        // Each round takes one generation; the bound is for programs that fork faster than they are killed.
        const ROUNDS: usize = 100;
        let mut killed = 0;
        for _ in 0..ROUNDS {
            let children = children();
            if children.is_empty() {
                break;
            }
            for (pid, running) in children {
                killed += usize::from(running);
                let _ = kill(pid, Signal::SIGKILL);
                let _ = waitpid(pid, None);
            }
        }
        killed
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        Self::clear();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(run).map(drop)
}

/// The processes whose parent is this one, and whether each is more than a zombie.
fn children() -> Vec<(Pid, bool)> {
    let own = std::process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| {
            let pid = name.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // `pid (comm) state ppid …`; comm may hold spaces and parentheses.
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            let (state, parent) = (fields.next()?, fields.next()?);
            (parent == own).then_some((Pid::from_raw(pid), state != "Z"))
        })
        .collect()
}
