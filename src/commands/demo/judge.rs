//! What the app wrote beside what arrived, line by line.

use super::{screen::WIDTH, worker};
use std::collections::HashMap;

/// The lines of one side: what the app wrote, or what a receiver got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) lines: Vec<String>,
}

impl Side {
    pub(crate) fn new(name: &str, lines: Vec<String>) -> Self {
        Self { name: name.to_owned(), lines }
    }

    /// Lines of `written` that are not here, each as often as it is missing.
    pub(crate) fn missing<'a>(&self, written: &'a Self) -> Vec<&'a str> {
        let mut here = HashMap::<&str, usize>::new();
        self.lines.iter().for_each(|line| *here.entry(line).or_default() += 1);
        let is_missing = |line: &&'a str| match here.get_mut(line) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        };
        written.lines.iter().map(String::as_str).filter(is_missing).collect()
    }

    /// The farewell lines of the worker that never came, and how many there are in all.
    pub(crate) fn missing_farewell(&self) -> (Vec<String>, usize) {
        let farewell = worker::farewell(self.last_job());
        let all = farewell.len();
        let came = |text: &String| self.lines.iter().any(|line| text_of(line) == text);
        (farewell.into_iter().filter(|text| !came(text)).collect(), all)
    }

    /// The job of the last line that names one.
    fn last_job(&self) -> u32 {
        let job = |line: &String| text_of(line).strip_prefix("job ")?.split(':').next()?.parse().ok();
        self.lines.iter().rev().find_map(job).unwrap_or(1)
    }
}

/// A worker's line without its number.
fn text_of(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(_, text)| text)
}

/// The head of the table.
pub(crate) fn head() -> String {
    row("", "lines", "farewell", "never came", "last line")
}

/// One row: what `side` has of what was `written`. `None`: it is the writer's own row. What never came is what was
/// written and did not arrive, and the farewell that a worker who was killed never wrote.
pub(crate) fn judged(side: &Side, written: Option<&Side>) -> String {
    let (missing, all) = side.missing_farewell();
    let never = written.map(|written| side.missing(written).len() + written.missing_farewell().0.len());
    row(
        &side.name,
        &side.lines.len().to_string(),
        &format!("{} of {all}", all - missing.len()),
        &never.map_or_else(|| "-".to_owned(), |never| never.to_string()),
        side.lines.last().map_or("(nothing)", String::as_str),
    )
}

fn row(name: &str, lines: &str, farewell: &str, never: &str, last: &str) -> String {
    let row = format!("  {name:<18} {lines:>5}  {farewell:>8}  {never:>10}  {last}");
    let row = row.trim_end();
    if row.chars().count() <= WIDTH {
        return row.to_owned();
    }
    row.chars().take(WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(name: &str, lines: &[&str]) -> Side {
        Side::new(name, lines.iter().map(|&line| line.to_owned()).collect())
    }

    fn written() -> Side {
        let mut side = side("the app wrote", &["0001 job 1: record 1 of 4", "0002 job 1: record 2 of 4"]);
        let lines = worker::farewell(1).into_iter().zip(3..).map(|(text, number)| format!("{number:04} {text}"));
        side.lines.extend(lines);
        side
    }

    #[test]
    fn the_table_tells_what_is_missing() {
        let mut got = written();
        got.name = "drain http".into();
        let mut cut = side("drain syslog", &[]);
        cut.lines = written().lines[1..4].to_vec();
        let rows = [
            head(),
            judged(&written(), None),
            judged(&got, Some(&written())),
            judged(&cut, Some(&written())),
            judged(&side("nothing", &[]), Some(&written())),
        ];
        assert_eq!(
            rows.join("\n"),
            "                     lines  farewell  never came  last line
  the app wrote          6    4 of 4           -  0006 goodbye: all work saved
  drain http             6    4 of 4           0  0006 goodbye: all work saved
  drain syslog           3    2 of 4           3  0004 job 1: writing its resul…
  nothing                0    0 of 4           6  (nothing)"
        );
        assert_eq!(cut.missing_farewell().0, ["job 1: committed", "goodbye: all work saved"]);
    }

    #[test]
    fn the_farewell_of_a_killed_worker_never_came() {
        let killed = side("the app wrote", &["0001 job 7: record 1 of 4"]);
        assert!(judged(&killed, Some(&killed)).contains(" 1    0 of 4           4  0001"));
        assert_eq!(killed.missing_farewell().0, worker::farewell(7));
    }

    #[test]
    fn a_line_written_twice_and_received_once_is_missing_once() {
        let twice = side("app", &["a", "b", "a"]);
        assert_eq!(side("got", &["a", "b"]).missing(&twice), ["a"]);
        assert!(side("got", &["a", "a", "b", "b"]).missing(&twice).is_empty(), "duplicates are no loss");
    }
}
