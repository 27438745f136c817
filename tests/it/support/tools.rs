//! Programs that tests need. What is missing fails the test, with the way to get it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Words before a command that give every signal its default action: whoever runs the tests may ignore some (`nohup`, a
/// shell's `&`), and that would reach lastword and the app.
pub const DEFAULT_SIGNALS: [&str; 2] = ["env", "--default-signal"];

/// Where a program of Debian is; fails if it is missing.
#[track_caller]
pub fn program(path: &'static str, package: &str) -> &'static str {
    assert!(Path::new(path).exists(), "{path} is missing: apt-get install {package} (scripts/test does it)");
    path
}

/// Fails unless we are root.
#[track_caller]
pub fn root() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root: PID namespaces, other users, podman");
}

/// The directory of this crate.
pub fn crate_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file beside the tests.
pub fn fixture(name: &str) -> String {
    crate_root().join("tests/it/fixtures").join(name).to_string_lossy().into_owned()
}

/// The binary under test: `LASTWORD_UNDER_TEST`, or the one that cargo has just built.
pub fn lastword() -> PathBuf {
    std::env::var_os("LASTWORD_UNDER_TEST").map_or_else(built, PathBuf::from)
}

fn built() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_lastword"))
}

/// The static binary of `scripts/static-build ci`, built if need be; the test apps are in `examples/` beside it.
#[track_caller]
pub fn static_lastword() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| static_build("ci"))
}

/// The binary that is shipped, built if need be, which takes minutes.
#[track_caller]
pub fn shipped_lastword() -> PathBuf {
    static_build("release")
}

#[track_caller]
fn static_build(profile: &str) -> PathBuf {
    let output = Command::new(crate_root().join("scripts/static-build")).arg(profile).output().expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("a path");
    PathBuf::from(text.lines().last().expect("the last line is the binary's path"))
}

/// The test app, which `cargo test` builds as an example.
#[track_caller]
pub fn oracle_app() -> String {
    let path = built().parent().expect("the binary is in a directory").join("examples/oracle_app");
    assert!(path.exists(), "{} is missing: cargo build --example oracle_app", path.display());
    path.to_string_lossy().into_owned()
}

/// Debian's own python3 (a version manager's shim would be one shell more).
#[track_caller]
pub fn python() -> &'static str {
    program("/usr/bin/python3", "python3")
}

/// Node.
#[track_caller]
pub fn node() -> &'static str {
    program("/usr/bin/node", "nodejs")
}
