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

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    /// The text of all sources under a directory, but for this file.
    fn sources(dir: &Path) -> String {
        let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let others = paths.filter(|path| *path != root().join(file!()));
        others
            .map(|path| if path.is_dir() { sources(&path) } else { fs::read_to_string(path).unwrap_or_default() })
            .collect()
    }

    #[test]
    fn every_planted_bug_has_a_line_that_says_which_test_finds_it() {
        let (product, tests) = (sources(&root().join("src")), sources(&root().join("tests")));
        let marks = product.split("planted!(").skip(1).filter_map(|rest| rest.split_once(')'));
        let planted: BTreeSet<_> = marks.map(|(name, _)| name).collect();
        let table = fs::read_to_string(root().join("tests/bugs.txt")).unwrap();
        let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut listed = BTreeSet::new();
        for words in lines.map(|line| line.split_whitespace().collect::<Vec<_>>()) {
            let [bug, _, _, _, test] = words[..] else { panic!("{words:?}") };
            // A number may have been put behind its name since: see docs/PROCESS.md.
            let function = format!("fn {}", test.rsplit("::").next().unwrap());
            let stands = |text: &str| ["(", "_"].iter().any(|end| text.contains(&format!("{function}{end}")));
            assert!(stands(&product) || stands(&tests), "{bug}: there is no {test}");
            listed.insert(bug);
        }
        assert_eq!(planted, listed);
        assert!(planted.len() >= 25, "{planted:?}");
    }
}
