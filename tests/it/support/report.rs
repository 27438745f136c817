//! The report that lastword writes with `--report FILE`.

use serde::Deserialize;
use std::{collections::BTreeMap, fs, path::Path};

/// A whole report.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// How often the app was started.
    pub runs: u32,
    /// The books of each drain.
    pub drains: Vec<Books>,
    /// What became of the spool; null without one.
    #[serde(default)]
    pub spool: serde_json::Value,
}

/// The books of one drain.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Books {
    /// `#name=`.
    pub name: String,
    /// Units published to it.
    pub read: u64,
    /// Units taken over from an earlier run.
    #[serde(default)]
    pub adopted: u64,
    /// The receiving application said so.
    pub confirmed: u64,
    /// The peer's kernel said so.
    pub accepted: u64,
    /// Nobody can say.
    pub sent: u64,
    /// On disk.
    #[serde(default)]
    pub spooled: u64,
    /// Where `--fallback` says.
    #[serde(default)]
    pub fallback: u64,
    /// By reason.
    pub lost: BTreeMap<String, u64>,
}

impl Books {
    /// Units lost for any reason.
    pub fn lost(&self) -> u64 {
        self.lost.values().sum()
    }
}

impl Report {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read(path).map_err(|error| format!("no report in {}: {error}", path.display()))?;
        serde_json::from_slice(&text).map_err(|error| format!("{error} in {}", String::from_utf8_lossy(&text)))
    }

    /// The books of the drain called `name`.
    pub fn of(&self, name: &str) -> &Books {
        self.drains.iter().find(|books| books.name == name).unwrap_or_else(|| panic!("no drain {name} in {self:?}"))
    }
}
