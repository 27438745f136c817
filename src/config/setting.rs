//! One setting: what was typed, else its variable. A complaint about it names the one that held.

use super::{
    environment::Environment,
    problem::{Exit, Problem},
};
use crate::cli;

/// The value of a setting, and where it was found.
pub(super) struct Setting {
    /// The flag or the variable.
    name: String,
    text: String,
}

impl Setting {
    pub(super) fn read<T>(self, parse: impl FnOnce(&str) -> Result<T, Problem>) -> Result<T, Exit> {
        parse(self.text.trim()).map_err(|problem| problem.of(&self.name))
    }

    pub(super) fn is(&self, word: &str) -> bool {
        self.text.trim() == word
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Environment {
    /// A flag, if it was typed, else its variable.
    pub(super) fn flag(&self, flag: &str, typed: &Option<String>) -> Result<Option<Setting>, Exit> {
        self.flag_or(flag, &cli::variable(flag), typed)
    }

    /// The same with a variable of another name.
    pub(super) fn flag_or(&self, flag: &str, variable: &str, typed: &Option<String>) -> Result<Option<Setting>, Exit> {
        match typed {
            Some(text) => Ok(Some(Setting { name: flag.into(), text: text.clone() })),
            None => self.variable(variable),
        }
    }

    /// What only a variable sets.
    pub(super) fn variable(&self, name: &str) -> Result<Option<Setting>, Exit> {
        let text = self.text(name).map_err(|problem| problem.of(name))?;
        Ok(text.map(|text| Setting { name: name.into(), text: text.into() }))
    }

    /// A flag that repeats, each time with a list; if it is not there, the list in its variable.
    pub(super) fn list<T>(
        &self,
        flag: &str,
        typed: &[String],
        parse: fn(&str) -> Result<Vec<T>, Problem>,
    ) -> Result<Vec<T>, Exit> {
        if typed.is_empty() {
            let found = self.variable(&cli::variable(flag))?;
            return found.map_or_else(|| Ok(Vec::new()), |found| found.read(parse));
        }
        let mut all = Vec::new();
        for text in typed {
            all.extend(parse(text.trim()).map_err(|problem| problem.of(flag))?);
        }
        Ok(all)
    }
}
