//! `scripts/compare`, which measures lastword beside other inits: it works, and what it must show for lastword and for
//! tini, whatever the machine, stands in its tables.

use crate::support::tools;
use std::{collections::BTreeMap, process::Command};

/// Rows by their first cell; a row of the second table is added to that of the first.
fn rows(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut rows = BTreeMap::<_, Vec<_>>::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")) {
        let mut cells = line.split(" | ");
        rows.entry(cells.next().unwrap_or_default()).or_default().extend(cells);
    }
    rows
}

#[test]
fn the_comparison_with_other_inits_runs_and_has_every_figure() {
    tools::root();
    tools::program("/usr/bin/tini", "tini");
    let output = Command::new(tools::python())
        .arg(tools::crate_root().join("scripts/compare"))
        .args(["--quick", "--only", "lastword,tini", "--lastword"])
        .arg(tools::lastword())
        .output()
        .expect("python3 starts");
    let (text, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{err}");
    assert!(text.starts_with("`scripts/compare --quick") && text.contains("; tini 0."), "{text}");
    let rows = rows(&text);
    assert_eq!(rows["lastword"][..6], ["2/2", "2/2", "2/2", "2/2", "2/2", "7/7"], "{text}");
    for drained in ["lastword, TCP drain", "lastword, HTTP drain"] {
        assert_eq!(rows[drained][..6], ["2/2, drain 2/2"; 4].into_iter().chain(["–"; 2]).collect::<Vec<_>>(), "{text}");
    }
    // What its table is there to show: the worker itself is kept, the one behind a shell is not.
    assert_eq!(rows["tini"][..2], ["2/2", "0/2"], "{text}");
    assert_eq!(rows["tini"][5], "7/7", "{text}");
    for (name, row) in rows.iter().filter(|(name, _)| ["lastword", "tini"].iter().any(|known| name.starts_with(known)))
    {
        let costs: Vec<f64> = row[6..].iter().filter_map(|cell| cell.replace(',', "").parse().ok()).collect();
        // The first, the time to tini's exit, may be less than its last digit.
        assert!(costs.len() == 5 && costs[0] >= 0.0 && costs[1..].iter().all(|&cost| cost > 0.0), "{name}: {text}");
    }
}
