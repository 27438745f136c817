//! The environment as settings: `LASTWORD_*`, and the `${NAME}`s of drain URLs.
//!
//! It is an argument, never read from the process, so that tests are pure. An empty variable is an unset one: compose
//! files and Procfiles cannot unset.

use super::problem::Problem;
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

/// What all of lastword's variables begin with.
pub(crate) const PREFIX: &str = "LASTWORD_";
/// `LASTWORD_DRAIN` adds a drain, `LASTWORD_DRAIN_NAME` one with that name.
const DRAIN: &str = "LASTWORD_DRAIN";

/// All variables, sorted by name. (No `Debug`: their values are credentials, some of them.)
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Of a process: `std::env::vars_os()`.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// The value of a variable that is set and not empty.
    pub(crate) fn raw(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).filter(|value| !value.is_empty()).map(OsString::as_os_str)
    }

    /// The same as text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        value.to_str().map(Some).ok_or_else(|| Problem::new("the value is not UTF-8", "write it in UTF-8"))
    }

    /// `LASTWORD_DRAIN` and `LASTWORD_DRAIN_*` that are set, sorted: (variable, the drain's name).
    pub(crate) fn drains(&self) -> Vec<(&str, Option<String>)> {
        self.own_names()
            .filter(|&name| self.raw(name).is_some() && !self.is_of_a_kubernetes_service(name))
            .filter_map(|name| match name.strip_prefix(DRAIN)? {
                "" => Some((name, None)),
                suffix => {
                    suffix.strip_prefix('_').filter(|s| !s.is_empty()).map(|s| (name, Some(s.to_ascii_lowercase())))
                }
            })
            .collect()
    }

    /// `LASTWORD_*` variables that are neither drains nor in `known`: somebody else's, or misspelt.
    pub(crate) fn unknown(&self, known: impl Fn(&str) -> bool) -> Vec<&str> {
        let drains = self.drains();
        self.own_names()
            .filter(|&name| self.raw(name).is_some() && !known(name) && !drains.iter().any(|&(drain, _)| drain == name))
            .collect()
    }

    fn own_names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|name| name.to_str()).filter(|name| name.starts_with(PREFIX))
    }

    /// Kubernetes sets `S_SERVICE_HOST`, `S_SERVICE_PORT`, `S_SERVICE_PORT_*`, `S_PORT` and `S_PORT_*` in each
    /// container for each Service of its namespace (kubernetes.io, "Discovering services"). A Service named
    /// `lastword-drain-x` must not keep the app from starting by looking like a drain.
    fn is_of_a_kubernetes_service(&self, name: &str) -> bool {
        ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|mark| {
            name.match_indices(mark).any(|(at, _)| {
                let tail = &name[at + mark.len()..];
                (tail.is_empty() || tail.starts_with('_')) && self.has_service(&name[..at])
            })
        })
    }

    fn has_service(&self, service: &str) -> bool {
        self.raw(&format!("{service}_SERVICE_HOST")).is_some() && self.raw(&format!("{service}_SERVICE_PORT")).is_some()
    }
}

#[cfg(test)]
impl From<&[(&str, &str)]> for Environment {
    fn from(variables: &[(&str, &str)]) -> Self {
        Self::new(variables.iter().map(|&(name, value)| (name.into(), value.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::from(variables)
    }

    #[test]
    fn drains_are_sorted_and_named_by_their_suffix() {
        let environment = environment(&[
            ("LASTWORD_DRAIN_ZULU", "z"),
            ("LASTWORD_DRAIN", "plain"),
            ("LASTWORD_DRAIN_My_Logs", "m"),
            ("LASTWORD_DRAIN_OFF", ""),
            ("LASTWORD_DRAIN_", "x"),
            ("LASTWORD_DRAINS", "x"),
            ("DRAIN", "x"),
        ]);
        assert_eq!(
            environment.drains(),
            [
                ("LASTWORD_DRAIN", None),
                ("LASTWORD_DRAIN_My_Logs", Some("my_logs".into())),
                ("LASTWORD_DRAIN_ZULU", Some("zulu".into())),
            ]
        );
        assert_eq!(environment.unknown(|_| false), ["LASTWORD_DRAINS", "LASTWORD_DRAIN_"]);
    }

    #[test]
    fn a_kubernetes_service_is_no_drain() {
        let environment = environment(&[
            ("LASTWORD_DRAIN_SERVICE_HOST", "10.0.0.7"),
            ("LASTWORD_DRAIN_SERVICE_PORT", "514"),
            ("LASTWORD_DRAIN_SERVICE_PORT_SYSLOG", "514"),
            ("LASTWORD_DRAIN_PORT", "tcp://10.0.0.7:514"),
            ("LASTWORD_DRAIN_PORT_514_TCP", "tcp://10.0.0.7:514"),
            ("LASTWORD_DRAIN_PORT_514_TCP_ADDR", "10.0.0.7"),
            ("LASTWORD_DRAIN_MAIN", "file:x"),
            ("LASTWORD_DRAIN_MAIN_PORT", "file:y"),
        ]);
        assert_eq!(
            environment.drains(),
            [("LASTWORD_DRAIN_MAIN", Some("main".into())), ("LASTWORD_DRAIN_MAIN_PORT", Some("main_port".into()))]
        );
        assert_eq!(environment.unknown(|_| false).len(), 6);
    }
}
