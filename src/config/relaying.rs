//! Who is signalled with what: `--relay`, `--signal`, `--broadcast-guard`, `--linger`, `--leftovers`.

use super::{
    Config, Environment,
    problem::{Exit, Problem},
    stop_signals::number,
    units,
};
use crate::cli::Options;
use nix::libc;

/// `--relay`: who gets the signals that we get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayTo {
    /// The app alone.
    App,
    /// The app's process group.
    Group,
    /// The app and all its descendants.
    Tree,
    /// Nobody: the platform signals them itself.
    None,
}

/// `--leftovers`: what becomes of descendants that outlive the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leftovers {
    /// A quiet linger, TERM, and KILL in the end.
    Term,
    /// A quiet linger, and KILL.
    Kill,
    /// They are waited for as the app is.
    Wait,
    /// They are neither waited for nor signalled.
    Leave,
}

/// Reads the five settings into `config`.
///
/// # Errors
/// A complaint about a value, with the name of its flag or variable.
pub(super) fn read(config: &mut Config, options: &Options, environment: &Environment) -> Result<(), Exit> {
    if let Some(found) = environment.flag("--relay", &options.relay)? {
        config.relay = found.read(relay)?;
    }
    config.rewrites = environment.list("--signal", &options.signal, rewrites)?;
    // Nothing can be told twice by those who tell nothing.
    config.broadcast_guard = config.relay != RelayTo::None;
    if let Some(found) = environment.flag("--broadcast-guard", &options.broadcast_guard)? {
        config.broadcast_guard &= found.read(units::switch)?;
    }
    if let Some(found) = environment.flag("--linger", &options.linger)? {
        config.linger = Some(found.read(units::duration)?);
    }
    if let Some(found) = environment.flag("--leftovers", &options.leftovers)? {
        config.leftovers = found.read(leftovers)?;
    }
    Ok(())
}

fn relay(text: &str) -> Result<RelayTo, Problem> {
    match text {
        "app" => Ok(RelayTo::App),
        "group" => Ok(RelayTo::Group),
        "tree" => Ok(RelayTo::Tree),
        "none" => Ok(RelayTo::None),
        _ => Err(Problem::new(format!("`{text}` is nobody"), "write `app`, `group`, `tree` or `none`")),
    }
}

fn leftovers(text: &str) -> Result<Leftovers, Problem> {
    match text {
        "term" => Ok(Leftovers::Term),
        "kill" => Ok(Leftovers::Kill),
        "wait" => Ok(Leftovers::Wait),
        "leave" => Ok(Leftovers::Leave),
        _ => Err(Problem::new(format!("unknown treatment `{text}`"), "write `term`, `kill`, `wait` or `leave`")),
    }
}

/// A comma-separated list of `NAME=ignore` and `NAME=NAME`.
fn rewrites(text: &str) -> Result<Vec<(i32, Option<i32>)>, Problem> {
    text.split(',').map(|one| rewrite(one.trim())).collect()
}

fn rewrite(text: &str) -> Result<(i32, Option<i32>), Problem> {
    let right = "write it as in `TERM=QUIT` or `HUP=ignore`";
    let (from, to) = text.split_once('=').ok_or_else(|| Problem::new(format!("`{text}` has no `=`"), right))?;
    let signal = |name: &str| {
        let known = number(name).filter(|number| ![32, 33].contains(number));
        known.ok_or_else(|| Problem::new(format!("`{name}` is not a signal"), right))
    };
    let from_number = signal(from.trim())?;
    if [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD].contains(&from_number) {
        return Err(Problem::new(format!("`{}` is never passed on", from.trim()), right));
    }
    let to = to.trim();
    Ok((from_number, if to.eq_ignore_ascii_case("ignore") { None } else { Some(signal(to)?) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites_are_read_by_name_and_number() {
        assert_eq!(rewrites("HUP=ignore"), Ok(vec![(libc::SIGHUP, None)]));
        let both = vec![(libc::SIGTERM, Some(libc::SIGQUIT)), (libc::SIGRTMIN() + 3, Some(15))];
        assert_eq!(rewrites("SIGTERM=quit, RTMIN+3=15"), Ok(both));
    }

    #[test]
    fn what_is_no_rewrite_is_refused() {
        for text in
            ["", "HUP", "HUP=", "=HUP", "FOO=HUP", "HUP=FOO", "KILL=TERM", "STOP=ignore", "CHLD=HUP", "33=1", "HUP=1,"]
        {
            assert!(rewrites(text).is_err(), "{text}");
        }
    }
}
