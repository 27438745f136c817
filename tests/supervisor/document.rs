//! The tests that docs/PROCESS.md, docs/DELIVERY.md and docs/GUARANTEES.md name exist.

use std::{fs, path::Path};

fn sources(dir: &Path, all: &mut String) {
    for entry in fs::read_dir(dir).expect("a directory of ours").flatten() {
        if entry.path().is_dir() {
            sources(&entry.path(), all);
        } else if entry.path().extension().is_some_and(|ending| ending == "rs") {
            *all += &fs::read_to_string(entry.path()).expect("a source");
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn all_sources() -> String {
    let mut all = String::new();
    sources(&root().join("tests"), &mut all);
    sources(&root().join("src"), &mut all);
    all
}

#[test]
fn every_guarantee_names_a_test_or_a_file_that_exists() {
    let all = all_sources();
    let page = fs::read_to_string(root().join("docs/GUARANTEES.md")).expect("the page");
    let mut named = 0;
    for row in page.lines().filter(|row| row.starts_with("| ")) {
        for word in row.split('`').skip(1).step_by(2) {
            if let Some((_, test)) = word.split_once("::") {
                assert!(all.contains(&format!("fn {test}()")), "there is no test `{word}`");
                named += 1;
            } else if word.starts_with("src/") {
                assert!(root().join(word).is_file(), "there is no file `{word}`");
                named += 1;
            }
        }
    }
    assert!(named > 30, "only {named} names were found");
}

/// The numbers that a name ends in: `…_32_40` is a test of the items 32 and 40.
fn numbers(test: &str) -> Vec<u32> {
    test.rsplit('_').map_while(|word| word.parse().ok()).collect()
}

/// What docs/DELIVERY.md has: items 51 to 56 are the spool's.
const DELIVERY: [std::ops::RangeInclusive<u32>; 2] = [1..=50, 57..=65];

#[test]
fn every_item_of_the_process_side_has_a_test_that_exists_and_bears_its_number() {
    assert!(items("docs/PROCESS.md").into_iter().eq(1..=51));
}

#[test]
fn every_item_of_the_log_side_has_a_test_that_exists_and_bears_its_number() {
    assert!(items("docs/DELIVERY.md").into_iter().eq(DELIVERY.into_iter().flatten()));
}

/// The items of a page's tables, each of which names tests in its last cell: they exist, and one has the item's number.
#[track_caller]
fn items(page: &str) -> Vec<u32> {
    let all = all_sources();
    let page = fs::read_to_string(root().join(page)).expect("the page");
    let mut items = Vec::new();
    for row in page.lines().filter(|row| row.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let Some(item) = cells[0].split_once('.').and_then(|(number, _)| number.parse::<u32>().ok()) else { continue };
        items.push(item);
        let tests = cells[2].split('`').skip(1).step_by(2);
        let tests: Vec<&str> = tests.map(|test| test.rsplit("::").next().unwrap_or(test)).collect();
        assert!(!tests.is_empty(), "item {item} names no test");
        assert!(
            tests.iter().any(|test| numbers(test).contains(&item)),
            "no test of item {item} has its number: {tests:?}"
        );
        for test in tests {
            assert!(all.contains(&format!("fn {test}()")), "item {item}: there is no test `{test}`");
        }
    }
    items
}
