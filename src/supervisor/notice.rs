//! What the supervisor has to say, in plain words, one line each and without the `lastword: ` in front.

use crate::{
    config::Budget,
    exit::{Ending, Status},
    report::Usage,
    signals::{Sender, Signal},
};
use std::{fmt, time::Duration};

/// Something that the user may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The app runs.
    Started {
        /// Its number.
        pid: i32,
        /// The time between the platform's stop signal and its SIGKILL.
        budget: Budget,
        /// Where the budget comes from.
        why: String,
        /// The memory limit kills us with the app.
        memory_kills_all: bool,
    },
    /// It does not; the line says why.
    SpawnFailed(String),
    /// A stop came: the first, unless `repeated`.
    Stop {
        /// Which signal.
        signal: Signal,
        /// From whom.
        sender: Sender,
        /// The time until the platform's SIGKILL.
        budget: Budget,
        /// It is not the first.
        repeated: bool,
    },
    /// The stop went to everybody: the app has it already.
    Broadcast(Signal),
    /// The canary is gone: broadcasts are no longer told from direct signals.
    GuardOff,
    /// A signal was passed to the app, and perhaps to others.
    Relayed {
        /// Which signal came.
        signal: Signal,
        /// What it was passed on as.
        sent: Signal,
        /// Who got it, beside the app.
        others: usize,
    },
    /// A signal was not passed on, as asked.
    NotRelayed(Signal),
    /// The app could not be signalled.
    RelayFailed(Signal, String),
    /// The app ended.
    AppExited {
        /// How.
        ending: Status,
        /// The kernel wrote a core file.
        core: bool,
        /// From its start.
        after: Duration,
        /// What it used, with the children that it waited for.
        usage: Usage,
        /// Processes that the memory limit killed meanwhile; the app is one of them if a KILL ended it.
        memory_kills: u64,
        /// Descendants that live on; None if they cannot be counted (no /proc).
        left: Option<usize>,
    },
    /// The app is run again after this.
    Restarting {
        /// How its last run ended.
        ending: Status,
        /// How long it waits.
        delay: Duration,
    },
    /// It would be, but a drain's queue is full and `--when-full` is `block`.
    RestartWaits,
    /// The app is not run again: so many restarts in a row were enough.
    EnoughRestarts(u32),
    /// The stop was passed on to leftovers that it had not reached.
    PassedOn {
        /// Which signal.
        signal: Signal,
        /// To how many.
        told: usize,
        /// Filters (`worker | tee`), left in peace.
        filters: usize,
    },
    /// Leftovers are left in peace for so long.
    Lingering(Duration),
    /// TERM went to so many descendants that had not been told.
    LastCall(usize),
    /// KILL went to so many processes.
    Killed {
        /// How many.
        count: usize,
        /// The app was among them.
        app: bool,
    },
    /// So many leftovers are left to themselves, as asked.
    Left(Option<usize>),
    /// So many processes survived a KILL, or would not be waited for.
    GaveUp(Option<usize>),
    /// The assumed budget is nearly over and the app lives.
    Interim(Duration),
    /// Everybody is gone: the drains have so long to send what they have.
    Flushing(Duration),
    /// The flush goes on: units settled so far.
    Progress(u64),
    /// The flush was cut short.
    FlushCut(FlushEnd),
}

/// How the flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushEnd {
    /// Every drain finished.
    Done,
    /// Time ran out.
    Deadline,
    /// No drain made progress.
    Stalled,
    /// The terminal's user would not wait.
    Interrupted,
}

impl Notice {
    /// Whether this is said though nobody asked for `--verbose`: something was or may be lost, or a setting is missing.
    pub const fn is_important(&self) -> bool {
        match self {
            Self::AppExited { memory_kills: 1.., .. } => true,
            Self::SpawnFailed(_)
            | Self::RelayFailed(..)
            | Self::GuardOff
            | Self::Killed { .. }
            | Self::GaveUp(_)
            | Self::Interim(_)
            | Self::RestartWaits
            | Self::EnoughRestarts(_)
            | Self::FlushCut(_) => true,
            Self::Started { .. }
            | Self::Stop { .. }
            | Self::Broadcast(_)
            | Self::Relayed { .. }
            | Self::NotRelayed(_)
            | Self::Left(_)
            | Self::AppExited { .. }
            | Self::Restarting { .. }
            | Self::PassedOn { .. }
            | Self::Lingering(_)
            | Self::LastCall(_)
            | Self::Flushing(_)
            | Self::Progress(_) => false,
        }
    }

    /// Whether this is a line about the app's life: one that stands in the drains.
    pub const fn is_lifecycle(&self) -> bool {
        match self {
            Self::Started { .. }
            | Self::SpawnFailed(_)
            | Self::AppExited { .. }
            | Self::Restarting { .. }
            | Self::EnoughRestarts(_)
            | Self::Killed { .. }
            | Self::GaveUp(_)
            | Self::GuardOff
            | Self::Interim(_)
            | Self::Left(_)
            | Self::Flushing(_) => true,
            Self::Stop { repeated, .. } => !*repeated,
            Self::PassedOn { told, .. } | Self::LastCall(told) => *told > 0,
            // A line more would cost a full queue one.
            Self::RestartWaits
            | Self::Broadcast(_)
            | Self::Relayed { .. }
            | Self::NotRelayed(_)
            | Self::RelayFailed(..)
            | Self::Lingering(_)
            | Self::Progress(_)
            | Self::FlushCut(_) => false,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { pid, budget, why, memory_kills_all } => {
                let (version, budget) = (env!("CARGO_PKG_VERSION"), Seconds(budget.duration()));
                let memory = if *memory_kills_all { KILLS_ALL } else { "" };
                write!(f, "start: lastword {version}, stop budget {budget} ({why}){memory}; the app is pid {pid}")
            }
            Self::SpawnFailed(why) => f.write_str(why),
            Self::Stop { signal, sender, repeated: true, .. } => write!(f, "stop: {signal} again, from {sender}"),
            Self::Stop { signal, sender, budget, repeated: false } => {
                let kind = if matches!(budget, Budget::Stated(_)) { "stated" } else { "assumed" };
                write!(f, "stop: {signal} from {sender}, budget {} ({kind})", Seconds(budget.duration()))
            }
            Self::Broadcast(signal) => write!(f, "relay: {signal} went to everybody, the app has it already"),
            Self::GuardOff => f.write_str(
                "the broadcast guard is off, for its canary was killed: \
                 a stop that goes to every process will reach the app twice",
            ),
            Self::Relayed { signal, sent, others } => {
                write!(f, "relay: {signal} to the app")?;
                if *others > 0 {
                    write!(f, " and {}", Count(*others, "other process"))?;
                }
                if sent == signal { Ok(()) } else { write!(f, " as {sent}") }
            }
            Self::NotRelayed(signal) => write!(f, "relay: {signal} is not passed on, as --signal or --relay says"),
            Self::Left(Some(left)) => write!(f, "leftovers: {} left to themselves", Count(*left, "process")),
            Self::Left(None) => f.write_str("leftovers: who still runs is left to itself"),
            Self::RelayFailed(signal, why) => write!(f, "relay: {signal} did not reach the app: {why}"),
            Self::AppExited { ending, core, after, usage, memory_kills, left } => {
                let core = if *core { ", core dumped" } else { "" };
                let (after, cpu, memory) = (Seconds(*after), Seconds(usage.cpu), usage.max_rss_kib.div_ceil(1024));
                let killed = *memory_kills > 0 && *ending == Status::Signaled(Signal::KILL);
                let by = if killed { "was killed by the memory limit: " } else { "" };
                let ending = Exited(*ending, core);
                write!(f, "exit: the app {by}{ending} after {after}, CPU {cpu}, memory at most {memory} MiB")?;
                if *memory_kills > 0 && !killed {
                    let count = Count(*memory_kills as usize, "process");
                    write!(f, "; the memory limit killed {count} of its own")?;
                }
                match left {
                    Some(0) => Ok(()),
                    Some(left) => write!(f, "; left {} behind", Count(*left, "process")),
                    None => f.write_str("; others may still run"),
                }
            }
            Self::Restarting { ending, delay } => {
                write!(f, "restart: the app {}, restarting in {}", Exited(*ending, ""), Seconds(*delay))
            }
            Self::RestartWaits => f.write_str("restart: waiting for a drain, which is full (--when-full block)"),
            Self::EnoughRestarts(0) => f.write_str("restart: --max-restarts 0 allows none"),
            Self::EnoughRestarts(count) => {
                write!(f, "restart: no more, after {} in a row (--max-restarts)", Count(*count as usize, "restart"))
            }
            Self::PassedOn { signal, told, filters } => {
                write!(f, "leftovers: {signal} passed on to {}", Count(*told, "process"))?;
                if *filters > 0 {
                    write!(f, ", not to {}, which end at the end of their input", Count(*filters, "filter"))?;
                }
                Ok(())
            }
            Self::Lingering(time) => write!(f, "leftovers: {} of quiet to end by themselves", Seconds(*time)),
            Self::LastCall(told) => write!(f, "leftovers: last call, SIGTERM to {}", Count(*told, "process")),
            Self::Killed { count, app } => {
                let app = if *app { " with the app" } else { "" };
                write!(f, "time is up: SIGKILL to {}{app}", Count(*count, "process"))
            }
            Self::GaveUp(Some(0)) => f.write_str("a killed process is held by its tracer, and is left behind"),
            Self::GaveUp(Some(left)) => {
                write!(f, "{} did not end after SIGKILL and are left behind", Count(*left, "process"))
            }
            Self::GaveUp(None) => f.write_str("some processes are left behind"),
            Self::Interim(time) => write!(
                f,
                "the app still runs {} after the stop; it is not killed on an assumed budget: \
                 set --stop-timeout to what the platform gives",
                Seconds(*time)
            ),
            Self::Flushing(time) => write!(f, "flush: everybody is gone, up to {} to send the rest", Seconds(*time)),
            Self::Progress(settled) => write!(f, "flush: {settled} lines settled"),
            Self::FlushCut(end) => f.write_str(match end {
                FlushEnd::Done => "flush: done",
                FlushEnd::Deadline => "flush: out of time",
                FlushEnd::Stalled => "flush: given up, no drain makes progress",
                FlushEnd::Interrupted => "flush: interrupted",
            }),
        }
    }
}

/// What a start line says of a memory limit that spares nobody.
const KILLS_ALL: &str =
    "; the memory limit kills the whole container at once (memory.oom.group): only lines in a spool survive that";

/// `exited 3`, `exited 139 (SIGSEGV, core dumped)`: the exit code first, as platforms show it.
struct Exited<'a>(Status, &'a str);

impl fmt::Display for Exited<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status, core) = self;
        write!(f, "exited {}", Ending::App(*status).code())?;
        match status {
            Status::Exited(_) => Ok(()),
            Status::Signaled(signal) => write!(f, " ({signal}{core})"),
        }
    }
}

/// `1.5 s`, `10 s`, `0.02 s`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = (self.0.as_secs_f64() * 100.0).round() / 100.0;
        write!(f, "{rounded} s")
    }
}

/// `1 process`, `2 processes`.
struct Count(usize, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, word) = self;
        let ending = if word.ends_with('s') { "es" } else { "s" };
        write!(f, "{count} {word}{}", if *count == 1 { "" } else { ending })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_plain_sentences() {
        let budget = Budget::Assumed(Duration::from_secs(10));
        let sender = Sender::Process(12);
        let stop = Notice::Stop { signal: Signal::TERM, sender, budget, repeated: false };
        assert_eq!(stop.to_string(), "stop: SIGTERM from pid 12, budget 10 s (assumed)");
        let passed = Notice::PassedOn { signal: Signal::TERM, told: 1, filters: 2 };
        assert_eq!(
            passed.to_string(),
            "leftovers: SIGTERM passed on to 1 process, not to 2 filters, which end at the end of their input"
        );
        let budget = Budget::Assumed(Duration::from_secs(30));
        let start = Notice::Started {
            pid: 7,
            budget,
            why: "assumed: the default of Render, as RENDER is set".into(),
            memory_kills_all: false,
        };
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            start.to_string(),
            format!(
                "start: lastword {version}, stop budget 30 s (assumed: the default of Render, as RENDER is set); \
                 the app is pid 7"
            )
        );
        let usage = Usage { cpu: Duration::from_millis(1_234), max_rss_kib: 45 * 1024 };
        let after = Duration::from_millis(12_345);
        let exit =
            |ending, core, left| Notice::AppExited { ending, core, after, usage, memory_kills: 0, left }.to_string();
        assert_eq!(
            exit(Status::Signaled(Signal(11)), true, Some(2)),
            "exit: the app exited 139 (SIGSEGV, core dumped) after 12.35 s, CPU 1.23 s, memory at most 45 MiB; left 2 processes behind"
        );
        assert_eq!(
            exit(Status::Exited(3), false, Some(0)),
            "exit: the app exited 3 after 12.35 s, CPU 1.23 s, memory at most 45 MiB"
        );
        let exit = |ending, memory_kills| {
            Notice::AppExited { ending, core: false, after, usage, memory_kills, left: Some(0) }.to_string()
        };
        assert_eq!(
            exit(Status::Signaled(Signal::KILL), 1),
            "exit: the app was killed by the memory limit: exited 137 (SIGKILL) after 12.35 s, CPU 1.23 s, memory at most 45 MiB"
        );
        assert!(exit(Status::Exited(1), 2).ends_with("45 MiB; the memory limit killed 2 processes of its own"));
        let again = Notice::Restarting { ending: Status::Signaled(Signal(11)), delay: Duration::from_secs(2) };
        assert_eq!(again.to_string(), "restart: the app exited 139 (SIGSEGV), restarting in 2 s");
        assert_eq!(
            Notice::EnoughRestarts(3).to_string(),
            "restart: no more, after 3 restarts in a row (--max-restarts)"
        );
        assert!(Notice::Interim(Duration::from_millis(7_500)).to_string().contains("7.5 s after the stop"));
    }
}
