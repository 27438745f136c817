//! `lastword spool ls|cat|verify DIR`: what a spool holds, without changing it. (`send` is a run without an app.)
//!
//! All may look at a spool that a running lastword writes to: what they see is then the state of a moment.

use crate::{
    config::one_line,
    format::{StampText, thousands},
    line::Batch,
    say::say,
    spool::{
        disk::{Disk, ReadOnly},
        open::{is_spool, seconds},
        recovery::{Found, Range, Segment, recover, segment_name},
        scan::{Item, Scanner},
    },
};
use std::{
    collections::BTreeSet,
    io::{self, BufWriter, Write, stdout},
    path::{Path, PathBuf},
};

/// Which, and of what directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpoolCommand {
    /// Segments, and what each drain is owed.
    Ls(PathBuf),
    /// The lines as they were written.
    Cat {
        /// The spool.
        dir: PathBuf,
        /// Only what this drain is owed.
        drain: Option<String>,
    },
    /// Whether every frame is whole.
    Verify(PathBuf),
}

/// Runs it. 0: all is well; 1: something is damaged, or there is no such drain; 2: the directory can't be read, or there is
/// nothing to verify in it.
pub fn run(command: &SpoolCommand) -> u8 {
    let mut out = BufWriter::new(stdout().lock());
    let result = match command {
        SpoolCommand::Ls(dir) => ls(dir, &mut out),
        SpoolCommand::Cat { dir, drain } => cat(dir, drain.as_deref(), &mut out),
        SpoolCommand::Verify(dir) => verify(dir, &mut out),
    };
    match result.and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => code,
        // `spool cat DIR | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            say(format_args!("spool: {error}"));
            2
        }
    }
}

/// One directory of a spool.
struct Part {
    /// What stands before the names of its files: nothing, or `second-1/`.
    prefix: String,
    disk: ReadOnly,
    found: Found,
}

/// The spool, and behind it what runs left in it that could not have it: the next run takes their lines, too.
fn open(dir: &Path) -> io::Result<Vec<Part>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", dir.display()));
    let is_there = is_spool(&ReadOnly::new(dir.to_owned())).map_err(named)?;
    let part = |dir: PathBuf, prefix: String| {
        let disk = ReadOnly::new(dir);
        Part { prefix, found: recover(&disk), disk }
    };
    let seconds = seconds(dir).filter(|second| second.is_dir()).map(|second| {
        let name = second.file_name().unwrap_or_default().to_string_lossy().into_owned();
        part(second, name + "/")
    });
    let all: Vec<_> = std::iter::once(part(dir.to_owned(), String::new())).chain(seconds).collect();
    if !is_there && all.len() == 1 {
        return Err(named(io::Error::new(io::ErrorKind::NotFound, "there is no spool in it")));
    }
    Ok(all)
}

/// Identities that segments name.
fn drains(parts: &[Part]) -> BTreeSet<&str> {
    let segments = parts.iter().flat_map(|part| &part.found.segments);
    segments.flat_map(|segment| segment.drains.iter()).map(|owed| owed.identity.as_str()).collect()
}

fn ls(dir: &Path, out: &mut impl Write) -> io::Result<u8> {
    let parts = open(dir)?;
    for Part { prefix, found, .. } in &parts {
        for segment in &found.segments {
            let Segment { number, bytes, first_seq, end_seq, source, .. } = segment;
            let origin = &source.origin;
            let whose = format!("{} on {}, run {}", origin.app, origin.host, origin.run);
            writeln!(
                out,
                "{prefix}{}  {:>13} bytes  {:>9} lines  seq {first_seq}-{}  {}",
                segment_name(*number),
                thousands(*bytes),
                thousands(end_seq - first_seq),
                end_seq - 1,
                one_line(&whose),
            )?;
        }
    }
    for identity in drains(&parts) {
        let owed = |part: &Part| part.found.owed(&part.disk, identity).iter().map(|range| range.units).sum::<u64>();
        let units: u64 = parts.iter().map(owed).sum();
        writeln!(out, "{}: {} lines to send", one_line(identity), thousands(units))?;
    }
    for Part { prefix, found, .. } in &parts {
        for note in &found.notes {
            writeln!(out, "{prefix}{}", one_line(note))?;
        }
        for (name, bytes) in &found.set_aside {
            let (name, bytes) = (one_line(name), thousands(*bytes));
            writeln!(out, "{prefix}{name}: {bytes} bytes set aside by an earlier run, never read; delete it at will")?;
        }
    }
    if parts.iter().all(|part| part.found.segments.is_empty() && part.found.unreadable.files == 0) {
        writeln!(out, "nothing is waiting")?;
    }
    Ok(0)
}

fn cat(dir: &Path, drain: Option<&str>, out: &mut impl Write) -> io::Result<u8> {
    let parts = open(dir)?;
    if let Some(drain) = drain.filter(|&drain| !drains(&parts).contains(drain)) {
        let known: Vec<_> = drains(&parts).into_iter().collect();
        let known =
            if known.is_empty() { "nothing is waiting".into() } else { format!("there are: {}", known.join(", ")) };
        say(format_args!("spool: no drain `{drain}` in {}; {known}", dir.display()));
        return Ok(1);
    }
    for Part { disk, found, .. } in &parts {
        let whole = |segment: &Segment| Range {
            segment: segment.number,
            from: segment.first_seq,
            to: segment.end_seq,
            stream: None,
            units: 0,
        };
        let ranges: Vec<Range> = match drain {
            None => found.segments.iter().map(whole).collect(),
            Some(drain) => found.owed(disk, drain),
        };
        for range in ranges {
            let Some(segment) = found.segments.iter().find(|segment| segment.number == range.segment) else { continue };
            each_frame(disk, segment, |item| {
                if let Item::Frame { batch, .. } = item
                    && range.stream.is_none_or(|stream| stream == batch.stream())
                {
                    print(&batch, &range, out)?;
                }
                Ok(())
            })?;
        }
    }
    Ok(0)
}

fn print(batch: &Batch, range: &Range, out: &mut impl Write) -> io::Result<()> {
    for unit in batch.units().filter(|unit| (range.from..range.to).contains(&unit.seq)) {
        out.write_all(unit.text)?;
        if unit.newline || unit.part.is_none_or(|part| part.last) {
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

fn verify(dir: &Path, out: &mut impl Write) -> io::Result<u8> {
    let mut damaged = false;
    for Part { prefix, disk, found } in open(dir)? {
        damaged |= !found.notes.is_empty() || !found.set_aside.is_empty();
        for note in &found.notes {
            writeln!(out, "{prefix}{}", one_line(note))?;
        }
        for segment in &found.segments {
            write!(out, "{prefix}")?;
            damaged |= verify_one(&disk, segment, out)?;
        }
        for (name, bytes) in &found.set_aside {
            let (name, bytes) = (one_line(name), thousands(*bytes));
            writeln!(out, "{prefix}{name}: {bytes} bytes set aside by an earlier run; its lines are lost")?;
        }
    }
    writeln!(out, "{}", if damaged { "some of it is damaged" } else { "all is well" })?;
    Ok(u8::from(damaged))
}

/// True if lines are missing.
fn verify_one(disk: &dyn Disk, segment: &Segment, out: &mut impl Write) -> io::Result<bool> {
    let (mut units, mut first, mut last, mut bad) = (0, None, None, 0_u32);
    each_frame(disk, segment, |item| {
        match item {
            Item::Frame { batch, .. } => {
                units += batch.len() as u64;
                first.get_or_insert(batch.time());
                last = Some(batch.time());
            }
            Item::Damage { .. } => bad += 1,
            Item::Footer(_) => {}
        }
        Ok(())
    })?;
    let missing = (segment.end_seq - segment.first_seq).saturating_sub(units);
    let verdict = match (missing, bad) {
        (0, 0) => "whole".to_owned(),
        // A torn end is a note of its own.
        (0, _) => "whole but for its torn end".to_owned(),
        (missing, bad) => format!("DAMAGED: lines missing: {}, bad places: {bad}", thousands(missing)),
    };
    let (mut one, mut two) = (StampText::default(), StampText::default());
    let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
    let (name, units) = (segment_name(segment.number), thousands(units));
    writeln!(out, "{name}: {units} lines from {} to {}, {verdict}", one.render(first), two.render(last))?;
    Ok(missing > 0)
}

fn each_frame(disk: &dyn Disk, segment: &Segment, mut look: impl FnMut(Item) -> io::Result<()>) -> io::Result<()> {
    let name = segment_name(segment.number);
    // The spool may be in use: a segment that was just deleted was delivered.
    let Ok(len) = disk.len(&name) else { return Ok(()) };
    let mut scanner = Scanner::new(name, segment.salt, segment.body, len);
    while let Some(item) = scanner.next(disk)? {
        let end = matches!(item, Item::Footer(_));
        look(item)?;
        if end {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        drain::testing::batch,
        spool::{
            codec::testing::header,
            disk::{LOCK, RealDisk},
            log::Log,
        },
    };
    use std::sync::Arc;

    fn spool() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path().to_owned()));
        let mut log = Log::new(Arc::clone(&disk), header(), 400, 1 << 20, recover(&*disk));
        for index in 0..9 {
            log.append(&[batch(1 + 2 * index, 2)], &mut Vec::new()).unwrap();
        }
        dir
    }

    fn text(run: impl FnOnce(&mut Vec<u8>) -> io::Result<u8>) -> (u8, String) {
        let mut out = Vec::new();
        let code = run(&mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn lines_come_out_as_they_went_in_and_looking_changes_nothing() {
        let dir = spool();
        let files = || -> Vec<_> {
            let disk = RealDisk::new(dir.path().to_owned());
            let mut files = disk.list().unwrap();
            files.sort();
            files
        };
        let before = files();
        let want: String = (1..=18).map(|seq| format!("line {seq}\n")).collect();
        assert_eq!(text(|out| cat(dir.path(), None, out)), (0, want.clone()));
        assert_eq!(text(|out| cat(dir.path(), Some("all"), out)), (0, want));
        assert_eq!(text(|out| cat(dir.path(), Some("nobody"), out)).0, 1);
        let (code, list) = text(|out| ls(dir.path(), out));
        assert!(code == 0 && list.contains("all: 18 lines to send") && list.contains("shop on web-7"), "{list}");
        let (code, said) = text(|out| verify(dir.path(), out));
        assert!(code == 0 && said.ends_with("all is well\n"), "{said}");
        assert_eq!(files(), before);
    }

    #[test]
    fn a_directory_without_a_spool_is_not_called_well() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("notes.txt"), "not a spool").unwrap();
        let error = verify(dir.path(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("there is no spool in it"), "{error}");
        // One that has nothing left to send is one all the same.
        std::fs::write(dir.path().join(LOCK), "").unwrap();
        assert_eq!(text(|out| verify(dir.path(), out)), (0, "all is well\n".to_owned()));
    }

    /// One bit of the second line.
    fn damage(dir: &Path) {
        let path = dir.join(segment_name(1));
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(6).position(|window| window == b"line 2").unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }

    /// `ls` said that nothing was waiting where a second lastword had left lines.
    #[test]
    fn what_a_second_lastword_left_is_shown_too() {
        let dir = spool();
        std::fs::rename(spool().keep(), dir.path().join("second-2")).unwrap();
        let lines: String = (1..=18).map(|seq| format!("line {seq}\n")).collect();
        for drain in [None, Some("all")] {
            assert_eq!(text(|out| cat(dir.path(), drain, out)), (0, lines.repeat(2)));
        }
        let (_, list) = text(|out| ls(dir.path(), out));
        assert!(list.contains("all: 36 lines to send") && list.contains("\nsecond-2/0000000000000001.seg "), "{list}");
        damage(&dir.path().join("second-2"));
        let (code, said) = text(|out| verify(dir.path(), out));
        assert!(code == 1 && said.contains("second-2/0000000000000001.seg: "), "{said}");
    }

    #[test]
    fn nothing_is_waiting_only_where_there_is_a_spool_and_all_of_it_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("notes.txt"), "not a spool").unwrap();
        let looks = [ls(dir.path(), &mut Vec::new()), cat(dir.path(), None, &mut Vec::new())];
        assert!(
            looks
                .iter()
                .all(|look| look.as_ref().is_err_and(|error| error.to_string().contains("there is no spool in it")))
        );
        std::fs::write(dir.path().join(LOCK), "").unwrap();
        assert_eq!(text(|out| ls(dir.path(), out)), (0, "nothing is waiting\n".to_owned()));
        std::fs::write(dir.path().join(segment_name(1)), b"LASTWORD\x02\0\0\0\xff\0\0\0").unwrap();
        let (_, list) = text(|out| ls(dir.path(), out));
        assert!(list.contains("lines are lost") && !list.contains("nothing is waiting"), "{list}");
    }

    #[test]
    fn damage_is_found_and_named() {
        let dir = spool();
        damage(dir.path());
        let (code, said) = text(|out| verify(dir.path(), out));
        assert!(code == 1 && said.contains("DAMAGED: lines missing: 2, bad places: 1"), "{said}");
    }
}
