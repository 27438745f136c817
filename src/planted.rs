//! Bugs on purpose: they show that the tests can fail.
//!
//! Each is one line at the place where it would be made, `if planted!(name) { … }`. Unit tests have them all compiled in, and so
//! has a build with `--cfg lastword_bugs` (`scripts/planted-bugs` makes one); `LASTWORD_BUG=name` switches one on. Everywhere
//! else the macro is `false`, and nothing of them is left in the program. tests/bugs.txt says which test finds which.

/// Whether this bug is switched on.
#[cfg(any(test, lastword_bugs))]
macro_rules! planted {
    ($bug:ident) => {
        crate::planted::is(stringify!($bug))
    };
}

/// Whether this bug is switched on: no.
#[cfg(not(any(test, lastword_bugs)))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

/// Variables that are no settings, and no mistakes either.
#[cfg(any(test, lastword_bugs))]
pub(crate) const VARIABLES: &[&str] = &["LASTWORD_BUG"];
#[cfg(not(any(test, lastword_bugs)))]
pub(crate) const VARIABLES: &[&str] = &[];

#[cfg(any(test, lastword_bugs))]
pub(crate) fn is(bug: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("LASTWORD_BUG").ok()).as_deref() == Some(bug)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    /// The names in all `planted!(…)` under a directory.
    fn hooks(dir: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                hooks(&path, names);
            } else if path != Path::new(env!("CARGO_MANIFEST_DIR")).join(file!()) {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let marks = text.split("planted!(").skip(1);
                names.extend(marks.filter_map(|rest| rest.split_once(')')).map(|(name, _)| name.to_owned()));
            }
        }
    }

    #[test]
    fn every_planted_bug_has_a_line_that_says_which_test_finds_it() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut planted = BTreeSet::new();
        hooks(&root.join("src"), &mut planted);
        let table = fs::read_to_string(root.join("tests/bugs.txt")).unwrap();
        let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let listed: BTreeSet<_> = lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
        assert_eq!(planted, listed);
        assert!(planted.len() >= 25, "{planted:?}");
    }
}
