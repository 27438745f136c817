//! `--spool DIR`, `--spool-max`, `--spool-sync`, `--spool-required`.

use super::{
    environment::Environment,
    problem::{Exit, Problem},
    units,
};
use crate::cli::Options;
use std::path::PathBuf;

/// `--spool DIR` and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolSpec {
    /// Where it is.
    pub dir: PathBuf,
    /// `--spool-max`, in bytes.
    pub max_bytes: u64,
    /// `--spool-sync`.
    pub sync: SpoolSync,
    /// `--spool-required`: no start without it.
    pub required: bool,
    /// `spool send`: the directory must be there, and nobody else's.
    pub existing: bool,
}

/// When the spool is made safe against a crash of the machine. A crash of lastword alone never needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolSync {
    /// The kernel writes when it likes.
    Never,
    /// Every second, and at once when a stop begins.
    Interval,
    /// After every write.
    Always,
}

pub(super) fn read(options: &Options, environment: &Environment) -> Result<Option<SpoolSpec>, Exit> {
    let dir = options.spool.clone().or_else(|| environment.raw("LASTWORD_SPOOL").map(Into::into));
    let (max, sync) =
        (environment.flag("--spool-max", &options.spool_max)?, environment.flag("--spool-sync", &options.spool_sync)?);
    let required = environment.flag("--spool-required", &options.spool_required)?;
    let max_bytes = max.map(|found| found.read(|text| units::size_between(text, 64 << 10, 1 << 50))).transpose()?;
    let sync = sync.map(|found| found.read(spool_sync)).transpose()?;
    let dir = dir.filter(|dir| !dir.as_os_str().is_empty());
    let required = required.map(|found| found.read(|text| required_spool(text, dir.is_some()))).transpose()?;
    Ok(dir.map(|dir| SpoolSpec {
        dir,
        max_bytes: max_bytes.map_or(1 << 30, |bytes| bytes as u64),
        sync: sync.unwrap_or(SpoolSync::Interval),
        required: required.unwrap_or(false),
        existing: false,
    }))
}

/// Whoever requires a spool has most likely misspelt the setting that names it, if none does.
fn required_spool(text: &str, is_there: bool) -> Result<bool, Problem> {
    let required = units::switch(text)?;
    if required && !is_there {
        return Err(Problem::new("there is no spool", "name one with --spool DIR or LASTWORD_SPOOL"));
    }
    Ok(required)
}

fn spool_sync(text: &str) -> Result<SpoolSync, Problem> {
    match text {
        "never" => Ok(SpoolSync::Never),
        "interval" => Ok(SpoolSync::Interval),
        "always" => Ok(SpoolSync::Always),
        _ => Err(Problem::new(format!("unknown way `{text}`"), "write `never`, `interval` or `always`")),
    }
}
