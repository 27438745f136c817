//! Whole command lines in whole environments, and what they come to.

use super::*;
use crate::{
    cli,
    format::Instance,
    line::Beginning,
    restart::{Policy, When},
};
use nix::libc;
use std::net::SocketAddr;

pub(super) fn load_in(variables: &[(&str, &str)], args: &[&str]) -> Result<Invocation, Exit> {
    let args = std::iter::once("lastword").chain(args.iter().copied()).map(OsString::from);
    load(args, variables.iter().map(|&(name, value)| (name.into(), value.into())))
}

fn run_in(variables: &[(&str, &str)], args: &[&str]) -> Config {
    match load_in(variables, args) {
        Ok(Invocation::Run(config)) => config,
        Ok(other) => panic!("{args:?} is {other:?}"),
        Err(exit) => panic!("{args:?}: {}", exit.message),
    }
}

#[test]
fn everything_has_a_default() {
    let config = run_in(&[("HOSTNAME", "web-1")], &["--", "/usr/bin/python3", "app.py", "--drain"]);
    assert_eq!(config.command, ["/usr/bin/python3", "app.py", "--drain"]);
    assert!(config.drains.is_empty() && config.stop_signals.is_empty() && config.warnings.is_empty());
    assert_eq!(config.budget, Budget::Assumed(Duration::from_secs(10)));
    assert_eq!(config.flush_timeout, Duration::from_secs(60));
    assert_eq!((config.max_line, config.pipe_size), (64 << 10, 256 << 10));
    assert!((2 << 20..=32 << 20).contains(&config.memory));
    assert_eq!(config.when_full, WhenFull::DropOldest);
    assert!(config.passthrough && !config.quiet && !config.verbose);
    assert_eq!((config.restart, config.restart.when), (Policy::default(), When::Never));
    assert!(config.exit_map.is_empty() && config.exit_on_loss.is_none());
    assert_eq!(config.exit_signal, ExitSignal::Auto);
    assert_eq!((config.report, config.lifecycle_lines), (None, LifecycleLines::On));
    assert_eq!((config.origin.app.as_str(), config.origin.host.as_str()), ("python3", "web-1"));
    assert_eq!(config.origin.instance, Instance::default(), "the pid is known after the spawn");
    assert_eq!(uuid::Uuid::parse_str(&config.origin.run).unwrap().get_version_num(), 7);
    assert_ne!(config.seed, run_in(&[], &["--", "x"]).seed);
}

#[test]
fn the_platform_gives_budget_and_names_unless_they_are_stated() {
    let heroku = [("DYNO", "web.1"), ("HEROKU_APP_NAME", "shop"), ("HOSTNAME", "h1")];
    for args in [&["--", "app"][..], &["--stop-timeout", "auto", "--", "app"]] {
        let config = run_in(&heroku, args);
        assert_eq!(config.budget, Budget::Stated(Duration::from_secs(30)));
        assert_eq!(config.budget_why, "stated: Heroku always gives that, and DYNO is set");
        let origin = &config.origin;
        assert_eq!((&*origin.app, &*origin.host, origin.instance.wait()), ("shop", "h1", "web.1"));
    }
    let config = run_in(&heroku, &["--stop-timeout", "7s", "--name", "x", "--host", "y", "--", "app"]);
    assert_eq!(config.budget, Budget::Stated(Duration::from_secs(7)));
    assert_eq!(config.budget_why, "stated by --stop-timeout");
    assert_eq!((&*config.origin.app, &*config.origin.host), ("x", "y"));
    let kubernetes = [("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("LASTWORD_STOP_TIMEOUT", "auto")];
    assert_eq!(run_in(&kubernetes, &["--", "app"]).budget, Budget::Assumed(Duration::from_secs(30)));
    let stated = [("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("LASTWORD_STOP_TIMEOUT", "60s")];
    let config = run_in(&stated, &["--", "app"]);
    assert_eq!(
        (config.budget, &*config.budget_why),
        (Budget::Stated(Duration::from_secs(60)), "stated by LASTWORD_STOP_TIMEOUT")
    );
}

#[test]
fn every_flag_can_be_given() {
    let config = run_in(
        &[],
        &[
            "--drain=syslog+tcp://a",
            "--drain",
            "file:x",
            "--stop-timeout",
            "1m30s",
            "--stop-signal",
            "USR1",
            "--stop-signal",
            "SIGHUP,USR1",
            "--flush-timeout",
            "5",
            "--max-line",
            "16KiB",
            "--memory",
            "1MiB",
            "--when-full",
            "block",
            "--passthrough",
            "off",
            "--pipe-size",
            "1MiB",
            "--quiet",
            "--verbose",
            "--restart",
            "on-failure",
            "--max-restarts=0",
            "--exit-map",
            "143=0",
            "--exit-map=1=2,2=3",
            "--exit-on-loss",
            "9",
            "--exit-signal=always",
            "--lifecycle-lines",
            "off",
            "--report",
            "/tmp/r.json",
            "--name",
            "shop",
            "--host",
            "h1",
            "--",
            "app",
        ],
    );
    assert_eq!(config.drains.iter().map(|drain| drain.url.as_str()).collect::<Vec<_>>(), ["syslog+tcp://a", "file:x"]);
    assert_eq!(config.budget, Budget::Stated(Duration::from_secs(90)));
    assert_eq!(config.stop_signals, [libc::SIGHUP, libc::SIGUSR1]);
    assert_eq!(config.flush_timeout, Duration::from_secs(5));
    assert_eq!((config.max_line, config.memory, config.pipe_size), (16 << 10, 1 << 20, 1 << 20));
    assert_eq!(config.when_full, WhenFull::Block);
    assert!(!config.passthrough && config.quiet && config.verbose);
    assert_eq!(config.report, Some("/tmp/r.json".into()));
    assert_eq!(config.lifecycle_lines, LifecycleLines::Off);
    assert_eq!((config.exit_map, config.exit_on_loss), (vec![(143, 0), (1, 2), (2, 3)], Some(9)));
    assert_eq!(config.exit_signal, ExitSignal::Always);
    assert_eq!((config.restart.when, config.restart.max), (When::OnFailure, Some(0)));
    assert_eq!((config.origin.app.as_str(), config.origin.host.as_str()), ("shop", "h1"));
}

#[test]
fn every_flag_has_a_variable_and_the_flag_wins() {
    let variables = [
        ("LASTWORD_DRAIN", "file:a"),
        ("LASTWORD_WHEN_FULL", "drop-newest"),
        ("LASTWORD_SPOOL", "/tmp/spool"),
        ("LASTWORD_SPOOL_MAX", "64MiB"),
        ("LASTWORD_SPOOL_SYNC", "never"),
        ("LASTWORD_SPOOL_REQUIRED", "on"),
        ("LASTWORD_FALLBACK", "stderr"),
        ("LASTWORD_FLUSH_TIMEOUT", "7s"),
        ("LASTWORD_STOP_TIMEOUT", "30"),
        ("LASTWORD_STOP_SIGNAL", "USR1,USR2"),
        ("LASTWORD_RELAY", "tree"),
        ("LASTWORD_SIGNAL", "HUP=ignore,TERM=QUIT"),
        ("LASTWORD_BROADCAST_GUARD", "off"),
        ("LASTWORD_LINGER", "5s"),
        ("LASTWORD_LEFTOVERS", "wait"),
        ("LASTWORD_PASSTHROUGH", "off"),
        ("LASTWORD_QUIET", "1"),
        ("LASTWORD_VERBOSE", "on"),
        ("LASTWORD_LIFECYCLE_LINES", "stderr"),
        ("LASTWORD_RESTART", "always"),
        ("LASTWORD_MAX_RESTARTS", "3"),
        ("LASTWORD_RESTART_DELAY", "2s"),
        ("LASTWORD_RESTART_DELAY_MAX", "5s"),
        ("LASTWORD_HEALTHY_AFTER", "7s"),
        ("LASTWORD_EXIT_MAP", "143=0,3=4"),
        ("LASTWORD_EXIT_ON_LOSS", "75"),
        ("LASTWORD_EXIT_SIGNAL", "never"),
        ("LASTWORD_REPORT", "r.json"),
        ("LASTWORD_METRICS", "9464"),
        ("LASTWORD_NAME", "shop"),
        ("LASTWORD_HOST", "h1"),
        ("LASTWORD_LABEL", "env=prod,team=a"),
        ("LASTWORD_MAX_LINE", "1KiB"),
        ("LASTWORD_MULTILINE", "indented"),
        ("LASTWORD_MEMORY", "2MiB"),
        ("LASTWORD_PIPE_SIZE", "64KiB"),
    ];
    let mut flags = cli::variables();
    flags.retain(|name| !name.starts_with("LASTWORD_SINK_"));
    assert_eq!(flags.len(), variables.len(), "{flags:?}");
    assert!(variables.iter().all(|(name, _)| flags.iter().any(|flag| flag == name)), "{flags:?}");
    let config = run_in(&variables, &["--", "app"]);
    assert_eq!(config.drains.len(), 1);
    assert_eq!(config.when_full, WhenFull::DropNewest);
    let spool = config.spool.unwrap();
    assert_eq!((spool.dir.as_path(), spool.max_bytes), (std::path::Path::new("/tmp/spool"), 64 << 20));
    assert_eq!((spool.sync, spool.required), (SpoolSync::Never, true));
    assert_eq!(config.fallback, Some(Fallback::Stderr));
    assert_eq!(config.flush_timeout, Duration::from_secs(7));
    assert_eq!(config.budget, Budget::Stated(Duration::from_secs(30)));
    assert_eq!(config.stop_signals, [libc::SIGUSR1, libc::SIGUSR2]);
    assert_eq!(config.relay, RelayTo::Tree);
    assert_eq!(config.rewrites, [(libc::SIGHUP, None), (libc::SIGTERM, Some(libc::SIGQUIT))]);
    assert_eq!((config.linger, config.leftovers), (Some(Duration::from_secs(5)), Leftovers::Wait));
    assert!(!config.broadcast_guard);
    assert!(!config.passthrough && config.quiet && config.verbose);
    assert_eq!(config.report, Some("r.json".into()));
    assert_eq!(config.lifecycle_lines, LifecycleLines::Stderr);
    assert_eq!((config.exit_map, config.exit_on_loss), (vec![(143, 0), (3, 4)], Some(75)));
    assert_eq!(config.exit_signal, ExitSignal::Never);
    assert_eq!(config.metrics, Some("127.0.0.1:9464".parse().unwrap()));
    let [delay, cap, healthy] = [2, 5, 7].map(Duration::from_secs);
    assert_eq!(config.restart, Policy { when: When::Always, max: Some(3), delay, cap, healthy });
    assert_eq!((config.origin.app.as_str(), config.origin.host.as_str()), ("shop", "h1"));
    assert_eq!(config.origin.labels, [("env".into(), "prod".into()), ("team".into(), "a".into())]);
    assert_eq!((config.max_line, config.memory, config.pipe_size), (1 << 10, 2 << 20, 64 << 10));
    assert!(matches!(config.multiline, Some(Beginning::NotIndented)));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);

    let flagged = run_in(
        &variables,
        &[
            "--stop-timeout=5s",
            "--quiet=off",
            "--stop-signal",
            "HUP",
            "--report",
            "other",
            "--drain",
            "file:b",
            "--",
            "app",
        ],
    );
    assert_eq!(flagged.budget, Budget::Stated(Duration::from_secs(5)));
    assert!(!flagged.quiet);
    assert_eq!(flagged.stop_signals, [libc::SIGHUP]);
    assert_eq!(flagged.report, Some("other".into()));
    assert_eq!(flagged.drains.len(), 2, "drains add up");
}

#[test]
fn the_broadcast_guard_is_on_unless_nobody_is_told() {
    assert!(run_in(&[], &["--", "app"]).broadcast_guard);
    assert!(!run_in(&[], &["--relay", "none", "--", "app"]).broadcast_guard);
    assert!(!run_in(&[], &["--relay", "none", "--broadcast-guard", "on", "--", "app"]).broadcast_guard);
    let config = run_in(&[], &["--signal", "HUP=ignore", "--signal", "usr1=USR2", "--", "app"]);
    assert_eq!(config.rewrites, [(libc::SIGHUP, None), (libc::SIGUSR1, Some(libc::SIGUSR2))]);
}

#[test]
fn an_empty_variable_is_an_unset_one_and_the_last_flag_counts() {
    let config =
        run_in(&[("LASTWORD_STOP_TIMEOUT", ""), ("LASTWORD_DRAIN", ""), ("LASTWORD_NAME", "")], &["--", "app"]);
    assert_eq!(config.budget, Budget::Assumed(Duration::from_secs(10)));
    assert!(config.drains.is_empty());
    assert_eq!(config.origin.app, "app");
    let config = run_in(&[], &["--stop-timeout", "5", "--stop-timeout", "6", "--", "app"]);
    assert_eq!(config.budget, Budget::Stated(Duration::from_secs(6)));
}

#[test]
fn our_own_variables_are_taken_from_the_app_and_unknown_ones_warned_about_once() {
    let service = [
        ("LASTWORD_SERVICE_HOST", "10.0.0.1"),
        ("LASTWORD_SERVICE_PORT", "80"),
        ("LASTWORD_PORT", "tcp://10.0.0.1:80"),
        ("LASTWORD_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("LASTWORD_STOP_TIMEOUT", "5s"),
        ("LASTWORD_SEED", "42"),
        ("LASTWORD_LOG", "debug"),
        ("PATH", "/bin"),
    ];
    let config = run_in(&service, &["--", "app"]);
    assert_eq!(
        config.warnings,
        [
            "LASTWORD_PORT, LASTWORD_PORT_80_TCP, LASTWORD_SERVICE_HOST, LASTWORD_SERVICE_PORT are not settings of lastword \
         and ignored"
        ]
    );
    assert_eq!(config.seed, 42);
    assert_eq!(
        run_in(&[("LASTWORD_STOP_TIMOUT", "5s")], &["--", "app"]).warnings,
        ["LASTWORD_STOP_TIMOUT is not a setting of lastword and ignored; did you mean LASTWORD_STOP_TIMEOUT?"]
    );
}

#[test]
fn automatic_memory_grows_with_the_largest_line() {
    assert_eq!(run_in(&[], &["--max-line", "64MiB", "--", "app"]).memory, 256 << 20);
    assert_eq!(run_in(&[], &["--max-line", "64MiB", "--memory=auto", "--", "app"]).memory, 256 << 20);
}

#[test]
fn the_other_commands_have_their_own_defaults() {
    let Ok(Invocation::Tee(tee)) = load_in(&[], &["tee", "--drain", "file:x"]) else { panic!("no tee") };
    assert_eq!(tee.lifecycle_lines, LifecycleLines::Off);
    assert_eq!((tee.when_full, tee.drains.len(), tee.origin.app.as_str()), (WhenFull::Block, 1, "tee"));
    assert_eq!(tee.origin.instance.wait(), std::process::id().to_string());
    let Ok(Invocation::Command(Command::Check(check))) =
        load_in(&[], &["check", "--drain", "file:x", "--", "/bin/app", "-x"])
    else {
        panic!("no check")
    };
    assert_eq!((check.command.len(), check.origin.app.as_str()), (2, "app"));
    let Ok(Invocation::Command(Command::Sink(sink))) =
        load_in(&[("LASTWORD_SINK_UDP", "off")], &["sink", "--http", "9000"])
    else {
        panic!("no sink")
    };
    let shown = |address: Option<SocketAddr>| address.map(|address| address.to_string());
    assert_eq!(shown(sink.http).as_deref(), Some("127.0.0.1:9000"));
    assert_eq!(shown(sink.tcp).as_deref(), Some("127.0.0.1:5140"));
    assert_eq!(sink.udp, None);
    assert!(matches!(load_in(&[], &["demo"]), Ok(Invocation::Command(Command::Demo))));
    assert!(matches!(
        load_in(&[], &["completions", "zsh"]),
        Ok(Invocation::Command(Command::Completions(clap_complete::Shell::Zsh)))
    ));
    let Ok(Invocation::Command(Command::PlainInit(PlainInitOptions { namespace: true, command }))) =
        load_in(&[], &["plain-init", "--namespace", "--", "sh", "-c"])
    else {
        panic!("no plain-init")
    };
    assert_eq!(command, ["sh", "-c"]);
    assert!(
        matches!(load_in(&[], &["demo-worker", "/r"]), Ok(Invocation::Command(Command::DemoWorker(path))) if path.as_os_str() == "/r")
    );
    assert_eq!(run_in(&[], &["--", "tee"]).command, ["tee"], "behind `--` stands an app, whatever its name");
}

#[test]
fn help_and_version_are_no_complaints_and_fit_into_80_columns() {
    let texts: &[&[&str]] =
        &[&["-h"], &["--help"], &["tee", "-h"], &["sink", "--help"], &["check", "--help"], &["help", "demo"]];
    for args in texts {
        let exit = load_in(&[], args).unwrap_err();
        assert_eq!((exit.to, exit.code), (Output::Stdout, 0), "{args:?}");
        for line in exit.message.lines() {
            assert!(line.chars().count() <= 80, "{args:?}: {line}");
        }
    }
    let long = load_in(&[], &["--help"]).unwrap_err().message;
    let short = load_in(&[], &["-h"]).unwrap_err().message;
    assert!(short.lines().count() < long.lines().count());
    for name in cli::variables().iter().filter(|name| !name.contains("_SINK_")) {
        assert!(long.contains(&format!("[env: {name}]")), "{name} is not in the help");
    }
    let version = load_in(&[], &["--version"]).unwrap_err();
    assert_eq!((version.message.as_str(), version.code), (concat!("lastword ", env!("CARGO_PKG_VERSION"), "\n"), 0));
}

#[test]
fn the_example_of_every_scheme_is_a_drain() {
    for scheme in schemes::SCHEMES {
        let drains = run_in(&[], &["--drain", scheme.example, "--", "app"]).drains;
        assert_eq!(drains[0].url, scheme.example);
    }
}

#[test]
fn completions_know_commands_and_options() {
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
        let script = String::from_utf8(cli::completions(shell)).unwrap();
        assert!(script.contains("stop-timeout") && script.contains("check"), "{shell}");
    }
}
