//! `--stop-signal`: names to signal numbers.

use super::problem::Problem;
use nix::{libc, sys::signal::Signal};
use std::str::FromStr;

/// A comma-separated list of names: `USR1`, `SIGUSR1`, `RTMIN+3`; numbers also do.
pub(crate) fn parse(text: &str) -> Result<Vec<i32>, Problem> {
    text.split(',').map(|name| one(name.trim())).collect()
}

fn one(name: &str) -> Result<i32, Problem> {
    let signal = number(name).ok_or_else(|| {
        Problem::new(format!("`{name}` is not a signal"), "write a name, as in `USR1`, `SIGHUP` or `RTMIN+3`")
    })?;
    match Signal::try_from(signal) {
        Ok(Signal::SIGKILL | Signal::SIGSTOP) => {
            Err(Problem::new(format!("`{name}` can't be caught by any process"), "TERM and INT always count as a stop"))
        }
        // These report a fault of the process itself, or news of its children and its terminal.
        Ok(
            Signal::SIGSEGV
            | Signal::SIGBUS
            | Signal::SIGFPE
            | Signal::SIGILL
            | Signal::SIGTRAP
            | Signal::SIGABRT
            | Signal::SIGSYS
            | Signal::SIGCHLD
            | Signal::SIGTSTP
            | Signal::SIGTTIN
            | Signal::SIGTTOU
            | Signal::SIGCONT,
        ) => Err(Problem::new(format!("`{name}` does not ask for a stop"), "use one such as `USR1`, `HUP` or `QUIT`")),
        _ => Ok(signal),
    }
}

/// `TERM`, `sigterm`, `15`, `RTMIN+3`, `RTMAX-1`.
pub(super) fn number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=libc::SIGRTMAX()).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = short.strip_prefix("RTMIN") {
        let signal = libc::SIGRTMIN() + offset_of(offset, '+')?;
        return (signal <= libc::SIGRTMAX()).then_some(signal);
    }
    if let Some(offset) = short.strip_prefix("RTMAX") {
        let signal = libc::SIGRTMAX() - offset_of(offset, '-')?;
        return (signal >= libc::SIGRTMIN()).then_some(signal);
    }
    Some(Signal::from_str(&format!("SIG{short}")).ok()? as i32)
}

/// `""` is 0, `"+3"` is 3 with `sign` `+`. More than two digits are no offset.
fn offset_of(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.strip_prefix(sign)?;
    let is_number = (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read() {
        assert_eq!(parse("USR1"), Ok(vec![libc::SIGUSR1]));
        assert_eq!(parse("SIGUSR1,hup"), Ok(vec![libc::SIGUSR1, libc::SIGHUP]));
        assert_eq!(parse("RTMIN+3"), Ok(vec![libc::SIGRTMIN() + 3]));
        assert_eq!(parse("SIGRTMAX-1"), Ok(vec![libc::SIGRTMAX() - 1]));
        assert_eq!(parse("10"), Ok(vec![10]));
    }

    #[test]
    fn what_no_process_can_be_asked_with_is_refused() {
        for text in
            ["KILL", "SIGSTOP", "9", "SEGV", "CHLD", "FOO", "", "0", "65", "RTMIN+99", "RTMIN+", "RTMIN-1", "USR1,"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
