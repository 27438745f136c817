//! Copies of src/drain/gate.rs with one bug each, so that the tests can show that they would find it.

use std::{env, fs, path::Path};

/// Name, what is in the file (once), and what stands there instead.
const BUGS: [(&str, &str, &str); 5] = [
    (
        "looks_at_the_mark_before_it_publishes",
        "let mut gated = self.lock();\n        if change(&mut gated.shared) >= gated.wake_at {",
        "let mark = self.lock().wake_at;\n        let mut gated = self.lock();\n        if change(&mut gated.shared) >= mark {",
    ),
    (
        "rings_above_the_mark_alone",
        "if change(&mut gated.shared) >= gated.wake_at",
        "if change(&mut gated.shared) > gated.wake_at",
    ),
    (
        "rings_no_bell_for_an_order",
        "change(&mut self.lock().shared);\n        self.bell.ring();",
        "change(&mut self.lock().shared);",
    ),
    ("wakes_no_publisher_for_an_order", "self.bell.ring();\n        self.room.notify_all();", "self.bell.ring();"),
    ("counts_no_publisher_that_waits", "gated.publishers_waiting += 1;", "gated.publishers_waiting += 0;"),
];

fn main() {
    let gate = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../src/drain/gate.rs");
    println!("cargo::rerun-if-changed={}", gate.display());
    let out = env::var("OUT_DIR").unwrap();
    // A module's own documentation can't be included.
    let text = fs::read_to_string(&gate).unwrap().replace("//!", "//");
    let mut list = String::new();
    for (name, right, wrong) in [("gate", "", "")].into_iter().chain(BUGS) {
        assert!(
            right.is_empty() || text.matches(right).count() == 1,
            "gate.rs has changed: {name} must be planted anew"
        );
        let path = Path::new(&out).join(format!("{name}.rs"));
        fs::write(&path, if right.is_empty() { text.clone() } else { text.replace(right, wrong) }).unwrap();
        list += &format!("pub mod {name} {{ include!({path:?}); crate::model!(); }}\n");
    }
    fs::write(Path::new(&out).join("all.rs"), list).unwrap();
}
