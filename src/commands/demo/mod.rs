//! `lastword demo`: a stop on one machine, with lastword and with a plain init, and what became of the app's last words.
//!
//! Nothing is claimed that did not just happen: the app keeps its own record of what it wrote, the receivers are real ones on
//! loopback, the plain init is really run, and the tables compare line by line. Six seconds, nothing left behind.

mod ending;
mod judge;
pub mod plain_init;
mod screen;
mod stage;
mod watch;
pub mod worker;

use super::sink::{Event as SinkEvent, Sink, SinkOptions, Source};
use crate::say;
use judge::Side;
use nix::sys::signal::Signal;
use screen::Screen;
use stage::Stage;
use std::{
    ffi::OsStr,
    fs, io,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long the receivers go on listening after lastword is gone.
const SINK_GRACE: Duration = Duration::from_secs(1);

/// The shell of the app: `$0` is this program, `$1` the worker's own record.
const SHELL: &str = r#"until "$0" demo-worker "$1"; do sleep 1; done"#;

/// Why the demo ends before its time.
enum Curtain {
    /// By a signal.
    Interrupted(Signal),
    /// Nobody reads our output.
    Closed,
    /// Something does not work here.
    Failed(String),
}

impl From<io::Error> for Curtain {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs the demo. Returns the exit code: 0 if every line that the app wrote under lastword is in both drains.
pub fn run() -> u8 {
    let mut screen = Screen::new();
    match play(&mut screen) {
        Ok(true) | Err(Curtain::Closed) => 0,
        Ok(false) => 1,
        Err(Curtain::Interrupted(signal)) => u8::try_from(128 + signal as i32).unwrap_or(1),
        Err(Curtain::Failed(reason)) => {
            say!("demo: {reason}");
            1
        }
    }
}

fn play(screen: &mut Screen<io::Stdout>) -> Result<bool, Curtain> {
    let mut demo = Demo { screen, stage: Stage::new()?, exe: std::env::current_exe()? };
    demo.require_shell()?;
    demo.introduce();
    let with = demo.under_lastword()?;
    let without = demo.under_plain_init()?;
    Ok(ending::tell(demo.screen, &with, &without))
}

struct Demo<'a> {
    screen: &'a mut Screen<io::Stdout>,
    stage: Stage,
    exe: PathBuf,
}

/// What came of one run of the app.
struct Act {
    /// By the app's own record.
    written: Side,
    /// What each receiver got.
    got: Vec<Side>,
    performance: watch::Performance,
}

impl Demo<'_> {
    /// An image from scratch has none.
    fn require_shell(&self) -> Result<(), Curtain> {
        let status = self.command("sh").args(["-c", ":"]).status();
        status.map(drop).map_err(|error| Curtain::Failed(format!("the app of the demo needs a shell: sh: {error}")))
    }

    fn introduce(&mut self) {
        self.screen.heading("lastword demo: what becomes of an app's last words");
        self.screen.line("");
        self.screen.line("  The app is a shell that keeps a worker running, as in many images:");
        self.screen.line("      sh -c 'until worker; do sleep 1; done'");
        self.screen.line("  Told to stop, the worker finishes its job first and says goodbye 1.5 s later.");
    }

    fn under_lastword(&mut self) -> Result<Act, Curtain> {
        let lines = Arc::new(Mutex::new([const { Vec::new() }; 2]));
        let sink = self.receivers(&lines)?;
        let url = |source: Source, name: &str| {
            sink.address(source).map(|address| source.url(address) + "#name=" + name).unwrap_or_default()
        };
        let (http, syslog) = (url(Source::Http, "http"), url(Source::Tcp, "syslog"));
        self.screen.heading("1. Under lastword, with two drains (built-in receivers on loopback)");
        self.screen.line("");
        self.screen.line(format!("  $ lastword --drain {http} \\"));
        self.screen.line(format!("             --drain {syslog} \\"));
        self.screen.line("             --stop-timeout 10s --verbose -- sh -c '...'");
        self.screen.line("");
        let mut command = self.command(&self.exe);
        command.args(["--drain", &http, "--drain", &syslog, "--stop-timeout", "10s", "--verbose"]);
        // The account at the end is of the app's lines alone.
        command.args(["--lifecycle-lines", "off", "--"]);
        let record = self.add_app(&mut command, "with");
        let performance = watch::perform(self.screen, &self.stage, &mut command)?;
        sink.stop(SINK_GRACE);
        let [http, syslog] = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
        let got = vec![
            Side::new("drain http", http),
            Side::new("drain syslog", syslog),
            Side::new("the platform's log", performance.stdout.clone()),
        ];
        Ok(Act { written: written(&record)?, got, performance })
    }

    fn receivers(&self, lines: &Arc<Mutex<[Vec<String>; 2]>>) -> Result<Sink, Curtain> {
        let lines = Arc::clone(lines);
        let receive = move |event| {
            // Gap lines are lastword's own and tell of a loss, which the judge finds by itself.
            if let SinkEvent::Line(received) = event
                && received.lost.is_none()
            {
                let text = String::from_utf8_lossy(&received.text).into_owned();
                let side = usize::from(received.source != Source::Http);
                lines.lock().unwrap_or_else(PoisonError::into_inner)[side].push(text);
            }
        };
        Sink::start(&SinkOptions { udp: None, ..SinkOptions::ephemeral() }, receive)
            .map_err(|error| Curtain::Failed(error.to_string()))
    }

    fn under_plain_init(&mut self) -> Result<Act, Curtain> {
        self.screen.heading("2. The same app and the same stop under a plain init");
        self.screen.line("");
        self.screen.line("  It passes the signal to its child and exits when that child is gone, as tini");
        self.screen.line("  does. Its stdout is what a platform's log collector would get.");
        self.screen.line("");
        let mut command = self.command(&self.exe);
        command.args(["plain-init", "--namespace", "--"]);
        let record = self.add_app(&mut command, "without");
        let performance = watch::perform(self.screen, &self.stage, &mut command)?;
        let got = vec![Side::new("the platform's log", performance.stdout.clone())];
        Ok(Act { written: written(&record)?, got, performance })
    }

    /// A program with nothing of the user's own settings or proxies in its environment.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_ascii_lowercase();
            if text.starts_with("lastword_") || text.ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Appends the app; returns where the worker keeps its record.
    fn add_app(&self, command: &mut Command, name: &str) -> PathBuf {
        let record = self.stage.folder().join(name);
        command.args(["sh", "-c", SHELL]).arg(&self.exe).arg(&record);
        record
    }
}

/// The worker's record.
fn written(record: &PathBuf) -> Result<Side, Curtain> {
    let text = fs::read_to_string(record).map_err(|error| Curtain::Failed(format!("the app's record: {error}")))?;
    Ok(Side::new("the app wrote", text.lines().map(str::to_owned).collect()))
}
