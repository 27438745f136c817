//! What is wrong with a setting, and how lastword ends before it has started anything.
//!
//! Every complaint is one line, `lastword: SETTING: what is wrong; what would be right`, on stderr, with exit code 125.
//! It names the setting as it was typed (`--drain` or `LASTWORD_DRAIN_PAPERTRAIL`) and never repeats a credential.

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

/// Exit code of lastword's own usage and configuration errors, as with `env`, `timeout` and `docker run`.
pub const EXIT_CONFIG: u8 = 125;

/// A wrong value, in words that fit behind the name of its setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wrong}; {right}")]
pub struct Problem {
    wrong: String,
    right: String,
}

impl Problem {
    /// `wrong` says what is wrong, `right` what would be right; both lower-case fragments.
    pub(crate) fn new(wrong: impl Into<String>, right: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), right: right.into() }
    }

    /// The same, said of a part of the setting.
    pub(crate) fn within(self, part: &str) -> Self {
        Self { wrong: format!("{part}: {}", self.wrong), right: self.right }
    }

    /// The complaint about `setting`, ready to be printed.
    pub(crate) fn of(&self, setting: &str) -> Exit {
        Exit {
            message: format!("lastword: {}\n", one_line(&format!("{setting}: {self}"))),
            to: Output::Stderr,
            code: EXIT_CONFIG,
        }
    }
}

/// An end before the start: a help text that was asked for, or a complaint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// What to print, with its last newline.
    pub message: String,
    /// Where to.
    pub to: Output,
    /// The exit code: 0 or [`EXIT_CONFIG`].
    pub code: u8,
}

/// One of lastword's own output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For what was asked for.
    Stdout,
    /// For complaints.
    Stderr,
}

impl Exit {
    /// Prints the message (to whoever still reads) and returns the exit code: 1 for an answer that could not be written.
    pub fn print(&self) -> ExitCode {
        let mut stdout = std::io::stdout();
        let written = match self.to {
            Output::Stdout => stdout.write_all(self.message.as_bytes()).and_then(|()| stdout.flush()),
            // A closed stderr does not change what is wrong, nor the exit code.
            Output::Stderr => std::io::stderr().write_all(self.message.as_bytes()).or(Ok(())),
        };
        match written {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                let _ = writeln!(std::io::stderr(), "lastword: stdout: {error}");
                ExitCode::FAILURE
            }
            _ => ExitCode::from(self.code),
        }
    }
}

/// Values come from anywhere; their control characters must neither break the line nor drive the terminal.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() { line.extend(character.escape_default()) } else { line.push(character) }
    }
    line
}

/// The candidate that was probably meant: at most a quarter of its characters differ.
pub(crate) fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(typed, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= (candidate.len() / 4).max(1))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_one_line_whatever_the_value_holds() {
        let exit = Problem::new("`a\nb\x1b[31m` is wrong", "write `c`").of("--x");
        assert_eq!(exit.message, "lastword: --x: `a\\nb\\u{1b}[31m` is wrong; write `c`\n");
        assert_eq!(exit.code, 125);
        assert_eq!(exit.to, Output::Stderr);
    }

    #[test]
    fn the_nearest_name_is_near() {
        let names = ["stream", "framing", "name"];
        assert_eq!(nearest("steam", names), Some("stream"));
        assert_eq!(nearest("frmaing", names), Some("framing"));
        assert_eq!(nearest("compress", names), None);
    }
}
