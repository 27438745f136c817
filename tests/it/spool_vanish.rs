//! The spool's directory moved, removed or replaced by somebody while it is in use: what is called spooled must be where the next
//! run looks, and what is nowhere must be counted. Each time both runs are judged as one: what the first could not deliver and the
//! second sent, and what the books of both say of it.

use crate::{
    spool::{look, moody, numbers},
    support::{
        http::HttpSink,
        judge::{Terms, judge},
        ms,
        report::Books,
        until,
        wrapper::{Finished, Running, Setup},
    },
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const NOTICED: &str = "it was moved, removed or replaced";

/// A run whose receiver is down, on a spool of its own.
struct Case {
    home: tempfile::TempDir,
    http: HttpSink,
    well: Arc<AtomicBool>,
}

impl Case {
    fn new() -> Self {
        let (http, well) = moody(1);
        Self { home: tempfile::tempdir().expect("a temporary directory"), http, well }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn setup(&self) -> Setup {
        let dir = self.path("spool").to_string_lossy().into_owned();
        Setup::loud().flags(["--spool", &dir, "--flush-timeout", "1s"]).drain(&self.http.url("http"))
    }

    /// A run with lines in the spool.
    fn start(&self, flags: [&str; 2], oracle: &str, lines: usize) -> Running {
        let run = self.setup().flags(flags).start_oracle(oracle);
        until("lines in the spool", ms(20_000), || lines_in(&self.path("spool")) >= lines);
        run
    }

    /// The next run, with a receiver that is well.
    fn next(&self) -> Finished {
        self.well.store(true, Ordering::SeqCst);
        self.setup().start(&["true"]).finish(Duration::from_secs(60))
    }

    /// Ends the run, and judges it with the next one. Returns the books of both.
    #[track_caller]
    fn judge(self, mut run: Running) -> (Books, Books) {
        run.stop();
        let one = run.finish(Duration::from_secs(20));
        let books = one.report.as_ref().expect("a report").of("http").clone();
        let held = lines_in(&self.path("spool")) as u64;
        let two = self.next();
        let after = two.report.as_ref().expect("a report").of("http").clone();
        let context = format!("{books:?}; {after:?}; {}", one.err());
        assert_eq!((books.read, books.confirmed), (books.spooled + books.lost(), 0), "{context}");
        assert_eq!((books.spooled, after.adopted, after.confirmed), (held, held, held), "{context}");
        let both = Books { confirmed: after.confirmed, spooled: 0, ..books.clone() };
        let terms = Terms { lossy: books.lost() > 0, ..Terms::default() };
        let verdict = judge(&one.record, Some(&both), &self.http.collect(), terms);
        assert!(verdict.is_ok(), "{verdict:?}; {context}");
        assert_eq!(one.err().matches(NOTICED).count(), 1, "said once: {context}");
        (books, after)
    }
}

fn lines_in(dir: &Path) -> usize {
    look(&["cat"], dir).1.iter().filter(|&&byte| byte == b'\n').count()
}

/// Also if something is written into it meanwhile.
fn remove_all(dir: &Path) {
    while let Err(error) = fs::remove_dir_all(dir) {
        assert_eq!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty, "{error}");
    }
}

/// Does this to a spool that holds lines, all of which are in memory, too: none is lost.
#[track_caller]
fn loses_nothing(change: impl Fn(&Case)) {
    let case = Case::new();
    let run = case.start(["--memory", "4MiB"], "--rate 1000 --err-every 3", 100);
    change(&case);
    run.says(NOTICED, 1);
    let done = run.record().done();
    run.wrote(done + 200);
    let (books, _) = case.judge(run);
    assert_eq!((books.spooled, books.lost()), (books.read, 0), "{books:?}");
}

#[test]
fn a_spool_that_is_removed_is_made_anew_with_all_that_memory_holds() {
    loses_nothing(|case| remove_all(&case.path("spool")));
}

#[test]
fn a_spool_that_is_moved_away_for_another_one_is_written_anew_where_the_path_leads() {
    loses_nothing(|case| {
        fs::create_dir(case.path("other")).expect("a fresh name");
        fs::rename(case.path("spool"), case.path("old")).expect("it is there");
        symlink(case.path("other"), case.path("spool")).expect("a fresh name");
    });
}

#[test]
fn a_spool_that_is_replaced_by_one_with_a_backlog_leaves_that_to_the_next_run() {
    let case = Case::new();
    let earlier = case.setup().start_oracle("--count 50 --rate 0 --source earlier").finish(Duration::from_secs(20));
    fs::rename(case.path("spool"), case.path("backlog")).expect("it is there");
    let mut run = case.start(["--memory", "4MiB"], "--rate 1000 --source later", 100);
    fs::rename(case.path("spool"), case.path("old")).expect("it is there");
    fs::rename(case.path("backlog"), case.path("spool")).expect("a fresh name");
    run.says(NOTICED, 1);
    let done = run.record().done();
    run.wrote(done + 200);
    run.stop();
    let run = run.finish(Duration::from_secs(20));
    let books = run.report.as_ref().expect("a report").of("http");
    assert_eq!((books.spooled, books.lost(), books.adopted), (books.read, 0, 0), "{books:?}; {}", run.err());
    let next = case.next();
    let after = next.report.as_ref().expect("a report").of("http");
    assert_eq!((after.adopted, after.confirmed), (50 + books.spooled, 50 + books.spooled), "{after:?}; {}", next.err());
    let arrived = numbers(case.http.collect().units.iter().map(|unit| &unit.text[..]));
    for (source, extent) in earlier.record.sources.iter().chain(&run.record.sources) {
        assert!((1..=extent.done).all(|number| arrived[source].contains(&number)), "{source:?}: {extent:?}");
    }
}

#[test]
fn a_spool_whose_segments_alone_are_removed_is_written_anew() {
    loses_nothing(|case| {
        for entry in fs::read_dir(case.path("spool")).expect("it is there") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|end| end == "seg") {
                fs::remove_file(path).expect("it is there");
            }
        }
    });
}

#[test]
fn what_was_in_a_spool_that_is_removed_and_in_no_memory_is_lost_and_counted() {
    let case = Case::new();
    let run = case.start(["--memory", "256KiB"], "--rate 4000 --err-every 3 --shape f300", 3000);
    remove_all(&case.path("spool"));
    run.says(NOTICED, 1);
    let done = run.record().done();
    run.wrote(done + 200);
    let (books, _) = case.judge(run);
    let lost = books.lost.get("spool_error").copied().unwrap_or(0);
    assert!(lost > 0 && lost == books.lost() && books.spooled > 200, "{books:?}");
}

#[test]
fn a_second_lastword_in_a_spool_that_was_removed_and_made_anew_gets_in_nobodys_way() {
    let case = Case::new();
    let mut one = case.start(["--memory", "4MiB"], "--rate 1000 --source one", 100);
    remove_all(&case.path("spool"));
    fs::create_dir(case.path("spool")).expect("a fresh name");
    let mut two = case.setup().start_oracle("--rate 1000 --source two");
    one.says(NOTICED, 1);
    for run in [&one, &two] {
        let done = run.record().done();
        run.wrote(done + 200);
    }
    one.stop();
    two.stop();
    let runs = [one.finish(Duration::from_secs(20)), two.finish(Duration::from_secs(20))];
    let mut spooled = 0;
    for run in &runs {
        let books = run.report.as_ref().expect("a report").of("http");
        assert_eq!((books.spooled, books.lost()), (books.read, 0), "{books:?}; {}", run.err());
        spooled += books.spooled;
    }
    let next = case.next();
    let books = next.report.as_ref().expect("a report").of("http");
    assert_eq!((books.adopted, books.confirmed), (spooled, spooled), "{books:?}; {}", next.err());
    let seen = case.http.collect();
    assert_eq!(seen.units.len() as u64, spooled);
    let arrived = numbers(seen.units.iter().map(|unit| &unit.text[..]));
    for (source, extent) in runs.iter().flat_map(|run| &run.record.sources) {
        assert!((1..=extent.done).all(|number| arrived[source].contains(&number)), "{source:?}: {extent:?}");
    }
}

#[test]
fn verify_says_that_there_is_no_spool_where_there_is_none() {
    let home = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(look(&["verify"], home.path()), (2, Vec::new()));
}
