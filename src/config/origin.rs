//! Who the lines are from: `--name`, `--host`, what the platform calls them, and else what the machine does.

use super::{
    environment::Environment,
    labels,
    load::Role,
    platform::Platform,
    problem::{Exit, Problem},
};
use crate::{
    cli::Options,
    format::{Instance, Origin},
};
use std::{
    ffi::{OsStr, OsString},
    fs,
    path::Path,
};

/// An instance that no platform names is the pid of the command, and not known yet.
pub(super) fn read(
    options: &Options,
    command: &[OsString],
    role: Role,
    platform: Option<&Platform>,
    environment: &Environment,
) -> Result<Origin, Exit> {
    let app = match environment.flag("--name", &options.name)? {
        Some(found) => found.read(identity)?,
        None => platform.and_then(|platform| platform.app.clone()).unwrap_or_else(|| {
            let own = || if role == Role::Tee { "tee" } else { "lastword" }.into();
            command.first().map_or_else(own, |app| basename(app))
        }),
    };
    let host = match environment.flag("--host", &options.host)? {
        Some(found) => found.read(identity)?,
        None => platform.and_then(|platform| platform.host.clone()).unwrap_or_else(|| host_name(environment)),
    };
    let instance = match platform.and_then(|platform| platform.instance.clone()) {
        Some(name) => Instance::known(name),
        None if role == Role::Run => Instance::default(),
        None => Instance::known(std::process::id().to_string()),
    };
    Ok(Origin {
        host,
        app,
        instance,
        run: uuid::Uuid::now_v7().to_string(),
        labels: labels::read(options, environment)?,
    })
}

/// A name that formats can carry; they escape or cut it as they must.
fn identity(text: &str) -> Result<String, Problem> {
    let is_bad = text.is_empty() || text.chars().any(|character| character.is_control() || character.is_whitespace());
    match is_bad {
        true => Err(Problem::new("the name is empty or has white space in it", "write one word, as in `web-1`")),
        false => Ok(text.to_string()),
    }
}

fn basename(path: &OsStr) -> String {
    Path::new(path).file_name().unwrap_or(path).to_string_lossy().into_owned()
}

/// `$HOSTNAME` (set by container engines and shells), else the kernel's node name.
fn host_name(environment: &Environment) -> String {
    let stated = environment.text("HOSTNAME").ok().flatten().map(str::to_string);
    let kernel = || fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = stated.or_else(kernel).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".into() } else { name.into() }
}
