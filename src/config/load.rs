//! From what was typed and the environment to what it means.

use super::{
    Budget, Command, Config, Environment, Fallback, Invocation, LifecycleLines, WhenFull, drains,
    environment::PREFIX,
    memory, origin, platform,
    problem::{Exit, Problem, nearest},
    process, relaying, spool, stop_signals, units,
};
use crate::{
    cli::{self, Options, SpoolWhat, Subcommands, Typed},
    clock,
    commands::{demo::plain_init::PlainInitOptions, sink::SinkOptions, spool::SpoolCommand},
};
use std::{
    ffi::OsString,
    hash::{BuildHasher, Hasher, RandomState},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// Variables that belong to no flag: the filter of diagnostics, and the seed of every random choice.
const MORE_VARIABLES: [&str; 2] = [LOG, SEED];
const LOG: &str = "LASTWORD_LOG";
const SEED: &str = "LASTWORD_SEED";

/// Resolves a whole command line (program name included) in an environment.
///
/// Files are read where a setting names one (`ca=`, `file:`), and /proc and /sys for the defaults of `--host` and
/// `--memory`.
///
/// # Errors
/// Help and version texts with exit code 0; every complaint about a setting with 125.
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, Exit> {
    let environment = Environment::new(environment);
    let Typed { options, subcommand, command } = cli::parse(args)?;
    let Some(subcommand) = subcommand else {
        return config(&options, some_command(command)?, Role::Run, &environment).map(Invocation::Run);
    };
    let is_ours = !matches!(subcommand, Subcommands::Other(_));
    if is_ours && options != Options::default() {
        let right = "write the options behind the name, as in `lastword tee --drain URL`";
        return Err(
            Problem::new("options stand before the name of one of lastword's own commands", right).of("command")
        );
    }
    let takes_command = !is_ours || matches!(subcommand, Subcommands::Check { .. } | Subcommands::PlainInit { .. });
    if command.is_some() && !takes_command {
        return Err(
            Problem::new("it can't be run and something of lastword's own, too", "leave one of them out").of("command")
        );
    }
    let command = match subcommand {
        Subcommands::Tee { options } => {
            return config(&options, Vec::new(), Role::Tee, &environment).map(Invocation::Tee);
        }
        Subcommands::Check { options } => {
            Command::Check(Box::new(config(&options, command.unwrap_or_default(), Role::Check, &environment)?))
        }
        Subcommands::Sink(options) => Command::Sink(sink(&options, &environment)?),
        Subcommands::Spool { what } => match what {
            SpoolWhat::Ls { dir } => Command::Spool(SpoolCommand::Ls(dir)),
            SpoolWhat::Cat { dir, only } => Command::Spool(SpoolCommand::Cat { dir, drain: only }),
            SpoolWhat::Verify { dir } => Command::Spool(SpoolCommand::Verify(dir)),
            SpoolWhat::Send { dir, from, options } => {
                let options = Options { spool: Some(dir), ..*options };
                return to_send(options, from, &environment).map(Invocation::Send);
            }
        },
        Subcommands::Demo => Command::Demo,
        Subcommands::Completions { shell } => Command::Completions(shell),
        Subcommands::DemoWorker { record } => Command::DemoWorker(record),
        Subcommands::PlainInit { namespace } => {
            Command::PlainInit(PlainInitOptions { namespace, command: some_command(command)? })
        }
        Subcommands::Other(words) => return Err(no_dashes(&words, command.as_deref())),
    };
    Ok(Invocation::Command(command))
}

/// What `spool send` works with.
fn to_send(options: Options, from: Option<String>, environment: &Environment) -> Result<Config, Exit> {
    let options = Options { spool_required: Some("on".into()), ..options };
    let mut config = config(&options, Vec::new(), Role::Tee, environment)?;
    if config.drains.is_empty() {
        let right =
            "write `lastword spool send DIR --drain URL`; `lastword spool ls DIR` names the drains that are owed lines";
        return Err(Problem::new("there is no drain to send to", right).of("spool send"));
    }
    if from.is_some() && config.drains.len() > 1 {
        let right = "leave it one: `lastword spool send DIR --from NAME --drain URL`, with LASTWORD_DRAIN unset";
        return Err(Problem::new(format!("there are {} drains to send to", config.drains.len()), right).of("--from"));
    }
    config.backlog_of = from;
    config.passthrough = false;
    config.spool.iter_mut().for_each(|spool| spool.existing = true);
    Ok(config)
}

fn some_command(command: Option<Vec<OsString>>) -> Result<Vec<OsString>, Exit> {
    let right = "write it behind `--`, as in `lastword -- python app.py`";
    command.filter(|command| !command.is_empty()).ok_or_else(|| Problem::new("it is missing", right).of("command"))
}

/// What the settings are for; some defaults differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Run,
    Tee,
    Check,
}

/// A first word that is none of our commands.
fn no_dashes(words: &[OsString], behind_dashes: Option<&[OsString]>) -> Exit {
    let dashes = OsString::from("--");
    let rest = behind_dashes.into_iter().flat_map(|rest| std::iter::once(&dashes).chain(rest));
    let shown = words.iter().chain(rest).map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ");
    let first = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    let ours = nearest(&first, ["tee", "sink", "spool", "check", "demo", "completions"]);
    let or = ours.map(|ours| format!("`lastword {ours}`, or ")).unwrap_or_default();
    Problem::new("no `--` stands before the command", format!("did you mean {or}`lastword -- {shown}`?")).of("command")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(&byte) || !byte.is_ascii();
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn config(options: &Options, command: Vec<OsString>, role: Role, environment: &Environment) -> Result<Config, Exit> {
    let platform = platform::detect(environment);
    let mut config =
        Config::defaults(origin::read(options, &command, role, platform.as_ref(), environment)?, seed(environment)?);
    if role == Role::Tee {
        config.when_full = WhenFull::Block;
        // Nobody lives there.
        config.lifecycle_lines = LifecycleLines::Off;
    }
    config.command = command;
    config.drains = drains::all(&options.drain, environment)?;
    if let Some(found) = environment.flag("--when-full", &options.when_full)? {
        config.when_full = found.read(when_full)?;
    }
    config.spool = spool::read(options, environment)?;
    config.fallback =
        environment.flag("--fallback", &options.fallback)?.map(|found| found.read(fallback)).transpose()?;
    if let Some(found) = environment.flag("--flush-timeout", &options.flush_timeout)? {
        config.flush_timeout = found.read(units::duration)?;
    }
    if let Some(platform) = &platform {
        (config.budget, config.budget_why) = (platform.budget, platform.why());
    }
    if let Some(found) = environment.flag("--stop-timeout", &options.stop_timeout)?.filter(|found| !found.is("auto")) {
        config.budget_why = format!("stated by {}", found.name());
        config.budget = Budget::Stated(found.read(stop_timeout)?);
    }
    config.stop_signals = stop_signals(options, environment)?;
    relaying::read(&mut config, options, environment)?;
    if let Some(found) = environment.flag("--passthrough", &options.passthrough)? {
        config.passthrough = found.read(units::switch)?;
    }
    if let Some(found) = environment.flag("--quiet", &options.quiet)? {
        config.quiet = found.read(units::switch)?;
    }
    if let Some(found) = environment.flag("--verbose", &options.verbose)? {
        config.verbose = found.read(units::switch)?;
    }
    config.log = environment.variable(LOG)?.map(|found| found.read(process::log_filter)).transpose()?;
    if let Some(found) = environment.flag("--restart", &options.restart)? {
        config.restart.when = found.read(process::restart)?;
    }
    if let Some(found) = environment.flag("--max-restarts", &options.max_restarts)? {
        config.restart.max = Some(found.read(process::count)?);
    }
    for (flag, typed, time) in [
        ("--restart-delay", &options.restart_delay, &mut config.restart.delay),
        ("--restart-delay-max", &options.restart_delay_max, &mut config.restart.cap),
        ("--healthy-after", &options.healthy_after, &mut config.restart.healthy),
    ] {
        if let Some(found) = environment.flag(flag, typed)? {
            *time = found.read(units::duration)?;
        }
    }
    config.exit_map = environment.list("--exit-map", &options.exit_map, process::exit_map)?;
    if let Some(found) = environment.flag("--exit-on-loss", &options.exit_on_loss)? {
        config.exit_on_loss = Some(found.read(process::exit_on_loss)?);
    }
    if let Some(found) = environment.flag("--exit-signal", &options.exit_signal)? {
        config.exit_signal = found.read(process::exit_signal)?;
    }
    if let Some(found) = environment.flag("--lifecycle-lines", &options.lifecycle_lines)? {
        config.lifecycle_lines = found.read(process::lifecycle_lines)?;
    }
    if let Some(found) = environment.flag("--metrics", &options.metrics)? {
        config.metrics = found.read(units::address)?;
    }
    config.report = options.report.clone().or_else(|| environment.raw("LASTWORD_REPORT").map(Into::into));
    if let Some(found) = environment.flag("--pipe-size", &options.pipe_size)? {
        // F_SETPIPE_SZ takes an int; what the kernel does not grant is weather.
        config.pipe_size = found.read(|text| units::size_between(text, 4 << 10, 1 << 30))?;
    }
    if let Some(found) = environment.flag("--multiline", &options.multiline)? {
        config.multiline = found.read(process::multiline)?;
    }
    let max_line = environment.flag("--max-line", &options.max_line)?;
    let memory = environment.flag("--memory", &options.memory)?;
    (config.max_line, config.memory) = memory::with_line(max_line, memory, config.max_line)?;
    config.warnings.extend(unknown_variables(environment));
    if config.drains.is_empty() && (config.spool.is_some() || config.fallback.is_some()) {
        let warning =
            "there is no drain, so --spool and --fallback keep nothing: they are for what a drain did not take";
        config.warnings.push(warning.to_owned());
    }
    Ok(config)
}

fn fallback(text: &str) -> Result<Fallback, Problem> {
    match text {
        "" => Err(Problem::new("the name is empty", "name a file, write `stderr`, or leave it out")),
        "stderr" => Ok(Fallback::Stderr),
        path => Ok(Fallback::File(path.into())),
    }
}

fn when_full(text: &str) -> Result<WhenFull, Problem> {
    match text {
        "drop-oldest" => Ok(WhenFull::DropOldest),
        "drop-newest" => Ok(WhenFull::DropNewest),
        "block" => Ok(WhenFull::Block),
        _ => Err(Problem::new(format!("unknown policy `{text}`"), "write `drop-oldest`, `drop-newest` or `block`")),
    }
}

fn stop_timeout(text: &str) -> Result<Duration, Problem> {
    let time = units::duration(text)?;
    if time < Duration::from_secs(1) {
        return Err(Problem::new(format!("`{text}` is too short to stop anything"), "write at least `1s`"));
    }
    Ok(time)
}

fn stop_signals(options: &Options, environment: &Environment) -> Result<Vec<i32>, Exit> {
    let mut signals = environment.list("--stop-signal", &options.stop_signal, stop_signals::parse)?;
    signals.sort_unstable();
    signals.dedup();
    Ok(signals)
}

fn seed(environment: &Environment) -> Result<u64, Exit> {
    match environment.variable(SEED)? {
        Some(found) => found.read(|text| {
            text.parse()
                .map_err(|_| Problem::new(format!("`{text}` is not a seed"), "write a whole number from 0 to 2^64-1"))
        }),
        None => Ok(random_seed()),
    }
}

/// The standard library seeds each `RandomState` from the kernel's generator.
pub(super) fn random_seed() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_i64(clock::stamp().0);
    hasher.finish()
}

/// One warning for all: a Kubernetes Service called `lastword` makes half a dozen of them.
fn unknown_variables(environment: &Environment) -> Option<String> {
    // Most environments have none, and the table of flags takes longer to build than anything else here.
    if environment.unknown(|_| false).is_empty() {
        return None;
    }
    let mut known = cli::variables();
    known.extend(MORE_VARIABLES.iter().chain(crate::planted::VARIABLES).map(ToString::to_string));
    let unknown = environment.unknown(|name| known.iter().any(|known| known == name));
    let [first, rest @ ..] = unknown.as_slice() else { return None };
    let names = known.iter().filter_map(|name| name.strip_prefix(PREFIX));
    let hint = match nearest(first.strip_prefix(PREFIX)?, names) {
        Some(near) if rest.is_empty() => format!("; did you mean {PREFIX}{near}?"),
        _ => String::new(),
    };
    let (is, a) = if rest.is_empty() { ("is not", "a setting") } else { ("are not", "settings") };
    Some(format!("{} {is} {a} of lastword and ignored{hint}", unknown.join(", ")))
}

fn sink(options: &cli::SinkOptions, environment: &Environment) -> Result<SinkOptions, Exit> {
    let address = |flag: &str, typed: &Option<String>, port| {
        let variable = cli::variable(&format!("sink-{}", flag.trim_start_matches('-')));
        match environment.flag_or(flag, &variable, typed)? {
            Some(found) => found.read(units::address),
            None => Ok(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))),
        }
    };
    Ok(SinkOptions {
        http: address("--http", &options.http, 8080)?,
        tcp: address("--tcp", &options.tcp, 5140)?,
        udp: address("--udp", &options.udp, 5140)?,
    })
}
