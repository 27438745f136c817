//! What the settings say of the app's lines, life and end: `--multiline`, `--lifecycle-lines`, `--exit-map`, `--exit-on-loss`,
//! `--exit-signal`, `--restart`; and which diagnostics to show: `LASTWORD_LOG`.

use super::problem::Problem;
use crate::{line::Beginning, restart::When};
use regex_lite::Regex;
use tracing_subscriber::filter::{Directive, LevelFilter};

/// `--lifecycle-lines`: where lastword tells of the app's start, stop and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleLines {
    /// In the drains, between the app's lines.
    On,
    /// Nowhere, but for what `--verbose` tells.
    Off,
    /// On our own stderr.
    Stderr,
}

/// `--exit-signal`: when to end by the signal that ended the app, and not with 128+n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitSignal {
    /// In the foreground of a terminal: a shell ends its loop only if Ctrl-C ended what it ran.
    Auto,
    /// Wherever the kernel does it, which is not as PID 1.
    Always,
    /// The exit code says it.
    Never,
}

pub(crate) fn lifecycle_lines(text: &str) -> Result<LifecycleLines, Problem> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(LifecycleLines::On),
        "off" | "false" | "no" | "0" => Ok(LifecycleLines::Off),
        "stderr" => Ok(LifecycleLines::Stderr),
        _ => Err(Problem::new(format!("`{text}` is no place for lines"), "write `on`, `off` or `stderr`")),
    }
}

/// `off`, `indented`, or a pattern of the lines that begin an event.
pub(crate) fn multiline(text: &str) -> Result<Option<Beginning>, Problem> {
    match text {
        "off" => Ok(None),
        "indented" => Ok(Some(Beginning::NotIndented)),
        _ => match Regex::new(text) {
            Ok(pattern) => Ok(Some(Beginning::Match(pattern))),
            Err(error) => Err(Problem::new(
                format!("`{text}` is no regular expression ({error})"),
                r"write `indented`, `off`, or a pattern of first lines, as in `^\d{4}-`",
            )),
        },
    }
}

pub(crate) fn restart(text: &str) -> Result<When, Problem> {
    match text {
        "never" => Ok(When::Never),
        "on-failure" => Ok(When::OnFailure),
        "always" => Ok(When::Always),
        _ => Err(Problem::new(format!("unknown policy `{text}`"), "write `never`, `on-failure` or `always`")),
    }
}

pub(crate) fn exit_signal(text: &str) -> Result<ExitSignal, Problem> {
    match text {
        "auto" => Ok(ExitSignal::Auto),
        "always" => Ok(ExitSignal::Always),
        "never" => Ok(ExitSignal::Never),
        _ => Err(Problem::new(format!("unknown policy `{text}`"), "write `auto`, `always` or `never`")),
    }
}

pub(crate) fn count(text: &str) -> Result<u32, Problem> {
    text.parse().map_err(|_| Problem::new(format!("`{text}` is no count"), "write a whole number, as in `5`"))
}

/// `143=0,3=1`: what the app's exit codes become.
pub(crate) fn exit_map(text: &str) -> Result<Vec<(u8, u8)>, Problem> {
    text.split(',').map(|pair| exit_pair(pair.trim())).collect()
}

fn exit_pair(text: &str) -> Result<(u8, u8), Problem> {
    let pair = text.split_once('=');
    let pair = pair.and_then(|(from, to)| Some((from.trim().parse().ok()?, to.trim().parse().ok()?)));
    pair.ok_or_else(|| {
        Problem::new(format!("`{text}` is no pair of exit codes"), "write FROM=TO, both from 0 to 255, as in `143=0`")
    })
}

pub(crate) fn exit_on_loss(text: &str) -> Result<u8, Problem> {
    let code = text.parse().ok().filter(|&code| code != 0);
    code.ok_or_else(|| Problem::new(format!("`{text}` is no exit code of a failure"), "write a number from 1 to 255"))
}

/// `LASTWORD_LOG`: a filter of `tracing`, as it is. A bare word that is no level would be taken for a target and show nothing, so
/// `debgu` is refused.
pub(crate) fn log_filter(text: &str) -> Result<String, Problem> {
    let right = "write `debug` or another level (error, warn, info, trace), or TARGET=LEVEL, as in `lastword=debug`";
    let has_fields = text.contains(['[', '{']);
    for piece in text.split(',').filter(|piece| !piece.is_empty()) {
        if !has_fields && !piece.contains('=') && piece.parse::<LevelFilter>().is_err() {
            return Err(Problem::new(format!("`{piece}` is no level"), right));
        }
        if let Err(error) = piece.parse::<Directive>() {
            return Err(Problem::new(format!("`{piece}` is no part of a filter ({error})"), right));
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_are_told_by_a_word_or_a_pattern() {
        assert!(matches!(multiline("indented"), Ok(Some(Beginning::NotIndented))));
        assert!(matches!(multiline(r"^\d{4}-"), Ok(Some(Beginning::Match(_)))));
        assert!(matches!(multiline("off"), Ok(None)));
        let problem = multiline("[a").unwrap_err().to_string();
        assert!(
            problem.starts_with("`[a` is no regular expression (") && problem.contains("write `indented`"),
            "{problem}"
        );
    }

    #[test]
    fn filters_of_diagnostics_are_taken_as_tracing_takes_them_but_no_word_that_would_show_nothing() {
        for right in ["debug", "DEBUG", "off", "lastword=debug", "info,hyper=warn,", "lastword[lifecycle]=trace"] {
            assert_eq!(log_filter(right), Ok(right.to_owned()));
        }
        for wrong in ["debgu", "info,lastword", "lastword=loud", "=", "lastword[=debug", "info, hyper=loud"] {
            let problem = log_filter(wrong).expect_err(wrong).to_string();
            assert!(problem.contains("TARGET=LEVEL") && problem.lines().count() == 1, "{problem}");
        }
    }

    #[test]
    fn pairs_of_exit_codes_are_read_and_others_refused() {
        assert_eq!(exit_map("143=0"), Ok(vec![(143, 0)]));
        assert_eq!(exit_map(" 143 = 0 , 3=255"), Ok(vec![(143, 0), (3, 255)]));
        for wrong in ["", "143", "143=", "=0", "143=256", "-1=0", "143=0,", "143=0=1", "TERM=0"] {
            assert!(exit_map(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(exit_on_loss("75"), Ok(75));
        assert!(["0", "256", "x", ""].into_iter().all(|wrong| exit_on_loss(wrong).is_err()));
    }
}
