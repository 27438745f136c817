//! What the settings say of the app's life and end: `--lifecycle-lines`, `--exit-map`, `--exit-on-loss`, `--restart`.

use super::{LifecycleLines, problem::Problem};

pub(crate) fn lifecycle_lines(text: &str) -> Result<LifecycleLines, Problem> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(LifecycleLines::On),
        "off" | "false" | "no" | "0" => Ok(LifecycleLines::Off),
        "stderr" => Ok(LifecycleLines::Stderr),
        _ => Err(Problem::new(format!("`{text}` is no place for lines"), "write `on`, `off` or `stderr`")),
    }
}
