//! What clap complains about, in our words and on one line: what is wrong, and what would be right.

use crate::config::{Exit, Output, Problem, one_line};
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Two commands take a word of a list: `help` and `spool`.
pub(super) fn explain(error: &clap::Error, first: &str) -> Exit {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    // `--drain <URL>` and `--quiet[=<on|off>]` to what was typed.
    let typed = text(ContextKind::InvalidArg).unwrap_or_default();
    let flag = typed.split([' ', '[', '=']).next().unwrap_or_default();
    let see_help = "`lastword --help` tells what there is";
    let (setting, problem) = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            return Exit { message: error.render().to_string(), to: Output::Stdout, code: 0 };
        }
        ErrorKind::UnknownArgument if !flag.starts_with('-') => (
            flag,
            Problem::new("unexpected word", "an app to run stands behind `--`, a file for tee behind `--drain file:`"),
        ),
        // `--stop-timeout -5` is an option `-5` to clap.
        ErrorKind::UnknownArgument if flag[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            (flag, Problem::new("unknown option", "times, sizes and counts are not negative"))
        }
        ErrorKind::UnknownArgument => {
            let right = match text(ContextKind::SuggestedArg) {
                Some(near) => format!("did you mean `{near}`?"),
                None => see_help.into(),
            };
            (flag, Problem::new("unknown option", right))
        }
        ErrorKind::MissingRequiredArgument if typed.contains("DIR") => {
            ("spool", Problem::new("the directory is missing", "write `lastword spool ls DIR`"))
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            ("spool", Problem::new("what to do is missing", "write `ls`, `cat`, `verify` or `send`"))
        }
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            match first {
                "help" => (first, Problem::new(format!("there is none on `{word}`"), see_help)),
                _ => (first, Problem::new(format!("unknown word `{word}`"), "write `ls`, `cat`, `verify` or `send`")),
            }
        }
        ErrorKind::MissingRequiredArgument => ("completions", Problem::new("the shell is missing", shells())),
        ErrorKind::InvalidValue if typed.starts_with('-') => {
            (flag, Problem::new("the value is missing", format!("write `{typed}`")))
        }
        ErrorKind::InvalidValue if typed.contains("DIR") => {
            ("spool", Problem::new("the directory's name is empty", "write `lastword spool ls DIR`"))
        }
        ErrorKind::InvalidValue => {
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            ("completions", Problem::new(format!("unknown shell `{value}`"), shells()))
        }
        ErrorKind::InvalidUtf8 => ("an argument", Problem::new("it is not UTF-8", "write it in UTF-8")),
        _ => {
            let rendered = error.render().to_string();
            let first = rendered.lines().next().unwrap_or_default().trim_start_matches("error: ");
            ("command line", Problem::new(one_line(first), see_help))
        }
    };
    problem.of(setting)
}

fn shells() -> String {
    let names: Vec<_> = clap::ValueEnum::value_variants().iter().map(clap_complete::Shell::to_string).collect();
    format!("write one of {}", names.join(", "))
}
