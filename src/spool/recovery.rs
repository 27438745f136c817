//! Recovery: from a directory in any state to what is owed to whom.
//!
//! It cannot fail. Whatever is odd becomes a note, and costs at most what it damaged; a second recovery finds what the
//! first one left, and changes nothing.

use super::{
    codec::{
        BadHeader, FOOTER_LEN, FRAME_FIXED, Footer, HEADER_FIXED, Header, Owed, VERSION, decode_footer, decode_header,
        encode_footer, frame_head, header_len,
    },
    cursor::{Cursor, Place},
    disk::Disk,
    scan::{Item, Scanner},
};
use crate::{
    format::{Instance, Origin, thousands},
    line::{Source, Stream},
    report::Unreadable,
};
use std::{collections::BTreeMap, io, sync::Arc};

/// No run gets there: it takes 2^16 torn cursors, or 2^48 segments. What says that it did must not use the numbers up: a
/// cursor is none then, and a segment gets a number that a run could have given it.
const NUMBER_MAX: u64 = 1 << 48;
/// What is named by a higher number is no segment, whatever is in it.
const NAME_MAX: u64 = u64::MAX >> 1;
/// A torn slot of a cursor may have held a place that is ahead of the other slot's by fewer segments than this: what a run
/// wrote between two stores. Numbers that are behind it are safe from it, whatever a crash of the machine brings back.
const TORN: u64 = 1 << 32;

/// A segment that is no longer written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Where the first frame begins, and what its checksum starts from.
    pub(crate) body: u64,
    pub(crate) salt: u32,
    pub(crate) first_seq: u64,
    pub(crate) end_seq: u64,
    /// Units of stdout and of stderr.
    pub(crate) units: [u64; 3],
    /// Who wrote it.
    pub(crate) source: Arc<Source>,
    /// Who is owed it.
    pub(crate) drains: Arc<[Owed]>,
}

/// Units of one segment that one drain is owed: sequence numbers `from..to` of a stream, or of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) segment: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) stream: Option<Stream>,
    /// How many units that are.
    pub(crate) units: u64,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In the order of their lines.
    pub(crate) segments: Vec<Segment>,
    /// By identity.
    pub(crate) cursors: BTreeMap<String, Cursor>,
    /// Files of cursors that can't be read, or not now: see [`super::cursor::forget`].
    pub(crate) doubtful: Vec<String>,
    /// Whether the directory told its files. If not, nothing is known, and no number may be given.
    pub(crate) listed: bool,
    /// No file has this number or a higher one.
    pub(crate) next_number: u64,
    /// What was odd, one line each.
    pub(crate) notes: Vec<String>,
    /// Segments that can't be read, found now.
    pub(crate) unreadable: Unreadable,
    /// Files that an earlier recovery set aside, with their lengths.
    pub(crate) set_aside: Vec<(String, u64)>,
}

/// The file of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    if planted!(segment_misnamed) {
        return format!("{number:016}.seg");
    }
    format!("{number:016x}.seg")
}

fn segment_number(name: &str) -> Option<u64> {
    let digits = name.get(..16).filter(|_| name.get(16..).is_some_and(|rest| rest.starts_with(".seg")))?;
    u64::from_str_radix(digits, 16).ok().filter(|&number| number <= NAME_MAX)
}

/// Reads the directory, and mends what can be mended.
pub(crate) fn recover(disk: &dyn Disk) -> Found {
    let mut found = Found { next_number: 1, listed: true, ..Found::default() };
    let mut files = match disk.list() {
        Ok(files) => files,
        Err(error) => {
            found.notes.push(format!("the directory can't be listed: {error}"));
            found.listed = false;
            return found;
        }
    };
    files.sort();
    let mut unreachable = Vec::new();
    for (name, len) in files {
        if let Some(number) = segment_number(&name) {
            if number <= NUMBER_MAX {
                found.reserve(number);
            }
            // Other spellings of the same number are looked for by nobody.
            if name != segment_name(number) {
                found.set_aside.push((name, len));
            } else if number <= NUMBER_MAX {
                found.segment(disk, name, number, len);
            } else {
                unreachable.push((name, number, len));
            }
        } else if name.ends_with(".cur") {
            found.cursor(disk, &name);
        }
    }
    for (name, number, len) in unreachable {
        found.renumber(disk, name, number, len);
    }
    found
}

impl Found {
    /// What a drain is owed, oldest first.
    pub(crate) fn owed(&self, disk: &dyn Disk, identity: &str) -> Vec<Range> {
        let place = self.cursors.get(identity).map_or(Place::default(), |cursor| cursor.place);
        let mut ranges = Vec::new();
        for segment in &self.segments {
            let Some(owed) = segment.drains.iter().find(|owed| owed.identity == identity) else { continue };
            let from = match segment.number {
                number if number < place.segment => segment.end_seq,
                number if number == place.segment => place.seq.max(segment.first_seq),
                _ => segment.first_seq,
            };
            let stream = owed.stream;
            let units = match stream {
                _ if from >= segment.end_seq => 0,
                None => segment.end_seq - from,
                Some(stream) if from == segment.first_seq => segment.units[stream as usize],
                Some(stream) => count(disk, segment, stream, from),
            };
            if units > 0 {
                ranges.push(Range { segment: segment.number, from, to: segment.end_seq, stream, units });
            }
        }
        ranges
    }

    fn reserve(&mut self, number: u64) {
        self.next_number = self.next_number.max(number.saturating_add(1));
    }

    fn cursor(&mut self, disk: &dyn Disk, name: &str) {
        let reach = |cursor: &Cursor| cursor.place.segment.saturating_add(if cursor.is_torn { TORN } else { 0 });
        let why = match Cursor::load(disk, name) {
            Ok(Some(cursor)) if reach(&cursor) <= NUMBER_MAX => {
                self.reserve(reach(&cursor));
                self.cursors.insert(cursor.identity.clone(), cursor);
                return;
            }
            Ok(Some(_)) => "it names a segment that no run reaches".to_owned(),
            Ok(None) => "both slots are bad".to_owned(),
            Err(error) => error.to_string(),
        };
        self.notes.push(format!("{name}: {why}; its drain gets its lines again"));
        self.doubtful.push(name.to_owned());
    }

    /// Puts a segment that no run can have numbered behind those that one has, where no cursor is ahead of it. All that are
    /// reserved are below `number`, and so is the next one, or it is `number` itself: no other file has that name.
    fn renumber(&mut self, disk: &dyn Disk, name: String, number: u64, len: u64) {
        let to = self.next_number;
        if to == number {
            self.reserve(number);
            return self.segment(disk, name, number, len);
        }
        let renamed = match read_header(disk, &name) {
            Ok(Ok(_)) => disk.rename(&name, &segment_name(to)),
            // No segment, or one that can't be read: as with any other number.
            _ => return self.segment(disk, name, number, len),
        };
        match renamed {
            Ok(()) => {
                self.notes.push(format!("{name}: no run reaches that number; it is {} now", segment_name(to)));
                self.reserve(to);
                self.segment(disk, segment_name(to), to, len);
            }
            // Who only looks sees it under its own.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => self.segment(disk, name, number, len),
            Err(error) => self.leave(&name, len, &error),
        }
    }

    fn segment(&mut self, disk: &dyn Disk, name: String, number: u64, len: u64) {
        let (header, body, salt) = match read_header(disk, &name) {
            Ok(Ok(read)) => read,
            Ok(Err(BadHeader::Torn)) if len == 0 => return self.remove(disk, &name, "empty"),
            Ok(Err(bad @ (BadHeader::Foreign | BadHeader::Version(_)))) => {
                return self.notes.push(format!("{name}: {}; left alone", words(bad)));
            }
            Ok(Err(bad)) => return self.quarantine(disk, &name, len, &bad.to_string()),
            Err(error) => return self.leave(&name, len, &error),
        };
        let (footer, bytes) = match sealed(disk, &name, len) {
            Ok(Some(footer)) => (footer, len),
            Ok(None) => match read_through(disk, &name, body, salt, len) {
                Ok(Read { footer, .. }) if footer.first_seq == footer.end_seq => {
                    return self.without_frames(disk, &name, body, len);
                }
                Ok(read) => (read.footer, self.mend(disk, &name, &read, len)),
                Err(error) => return self.leave(&name, len, &error),
            },
            Err(error) => return self.leave(&name, len, &error),
        };
        let Footer { first_seq, end_seq, units, .. } = footer;
        let Header { run, host, app, instance, labels, drains } = header;
        let origin = Origin { host, app, instance: Instance::known(instance), run, labels };
        let source = Arc::new(Source { origin, segment: number });
        let drains = drains.into();
        self.segments.push(Segment { number, bytes, body, salt, first_seq, end_seq, units, source, drains });
    }

    /// Says what can't be read, cuts what is torn, and writes the footer that is missing. Returns how long the file is then. A disk
    /// that can't do that leaves it to the next recovery.
    fn mend(&mut self, disk: &dyn Disk, name: &str, read: &Read, len: u64) -> u64 {
        if read.torn > 0 {
            self.notes.push(format!("{name}: torn; its last {} bytes are no whole lines", thousands(read.torn)));
        }
        if read.damaged > 0 {
            let Footer { first_seq, end_seq, .. } = read.footer;
            self.notes.push(format!("{name}: damaged; {} lines of {} lost", read.damaged, end_seq - first_seq));
        }
        let offset = read.footer.offset;
        let sealed = disk.truncate(name, offset).and_then(|()| disk.write(name, offset, &encode_footer(&read.footer)));
        match sealed {
            Ok(()) => offset + FOOTER_LEN as u64,
            Err(error) => {
                if error.kind() != io::ErrorKind::ReadOnlyFilesystem {
                    self.notes.push(format!("{name}: can't be sealed: {error}"));
                }
                len
            }
        }
    }

    /// An append that was cut short leaves a header, or a frame that claims more than there is: nothing was promised.
    fn without_frames(&mut self, disk: &dyn Disk, name: &str, body: u64, len: u64) {
        let mut rest = Vec::new();
        let _ = disk.read(name, body, FRAME_FIXED, &mut rest);
        let torn = frame_head(&rest).is_some_and(|head| (FRAME_FIXED + head.len) as u64 > len - body);
        if torn || rest.iter().all(|&byte| byte == 0) || rest.len() < FRAME_FIXED {
            return self.remove(disk, name, "it has no whole frame");
        }
        self.quarantine(disk, name, len, "no-valid-frame");
    }

    fn remove(&mut self, disk: &dyn Disk, name: &str, reason: &str) {
        if let Err(error) = disk.remove(name)
            && error.kind() != io::ErrorKind::ReadOnlyFilesystem
        {
            self.notes.push(format!("{name}: {reason}, and can't be removed: {error}"));
        }
    }

    /// Nobody knows whose its lines are.
    fn quarantine(&mut self, disk: &dyn Disk, name: &str, len: u64, reason: &str) {
        let lines = lines_of(disk, name, len);
        self.unreadable.add(len, lines);
        let lost = match lines {
            Some(lines) => format!("its {} lines ({} bytes) are lost", thousands(lines), thousands(len)),
            None => format!("its lines are lost, and how many is not known ({} bytes)", thousands(len)),
        };
        let to = format!("{name}.bad-{reason}");
        self.notes.push(match disk.rename(name, &to) {
            Ok(()) => format!("{name}: {reason}; kept as {to}, {lost}"),
            // Who only looks changes nothing, and wants no excuse for it.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => format!("{name}: {reason}; {lost}"),
            Err(error) => format!("{name}: {reason}, and can't be renamed: {error}; {lost}"),
        });
    }

    /// The disk does not give it out, now; it may later.
    fn leave(&mut self, name: &str, len: u64, error: &io::Error) {
        self.unreadable.add(len, None);
        self.notes.push(format!("{name}: {error}; left alone, with {} bytes of lines", thousands(len)));
    }
}

/// What a file is that is not touched.
fn words(bad: BadHeader) -> String {
    match bad {
        BadHeader::Version(version) => {
            format!("written by another version of lastword (format {version}, this one reads {VERSION})")
        }
        _ => "not a file of lastword's".to_owned(),
    }
}

/// How many lines a segment has whose header is bad: as its footer says, or its frames, if the header's checksum, which
/// theirs start from, is whole.
fn lines_of(disk: &dyn Disk, name: &str, len: u64) -> Option<u64> {
    if let Ok(Some(footer)) = sealed(disk, name, len) {
        return Some(footer.end_seq - footer.first_seq);
    }
    let mut fixed = Vec::new();
    disk.read(name, 0, HEADER_FIXED, &mut fixed).ok()?;
    let salt = u32::from_le_bytes(fixed.get(HEADER_FIXED - 4..)?.try_into().ok()?);
    let read = read_through(disk, name, HEADER_FIXED as u64, salt, len).ok()?;
    Some(read.footer.end_seq - read.footer.first_seq).filter(|&lines| lines > 0)
}

/// What a look through an unsealed segment shows.
#[derive(Default)]
struct Read {
    /// What is missing; of a segment without a frame nothing in it means anything.
    footer: Footer,
    /// Bytes behind the last frame, or behind the footer.
    torn: u64,
    /// Units that can't be read.
    damaged: u64,
}

/// The header, the length of it, and the checksum that frames start from.
pub(crate) fn read_header(disk: &dyn Disk, name: &str) -> io::Result<Result<(Header, u64, u32), BadHeader>> {
    let mut bytes = Vec::new();
    disk.read(name, 0, 4096, &mut bytes)?;
    if let Some(more) = header_len(&bytes).and_then(|len| len.checked_sub(bytes.len())) {
        disk.read(name, bytes.len() as u64, more, &mut bytes)?;
    }
    Ok(decode_header(&bytes).map(|(header, len, salt)| (header, len as u64, salt)))
}

fn sealed(disk: &dyn Disk, name: &str, len: u64) -> io::Result<Option<Footer>> {
    let Some(offset) = len.checked_sub(FOOTER_LEN as u64) else { return Ok(None) };
    let mut bytes = Vec::new();
    disk.read(name, offset, FOOTER_LEN, &mut bytes)?;
    Ok(decode_footer(&bytes, offset))
}

fn read_through(disk: &dyn Disk, name: &str, body: u64, salt: u32, len: u64) -> io::Result<Read> {
    let mut scanner = Scanner::new(name.to_owned(), salt, body, len);
    let mut read = Read::default();
    let mut first = true;
    while let Some(item) = scanner.next(disk)? {
        match item {
            Item::Frame { batch, before, end } => {
                let footer = &mut read.footer;
                // They ascend; where they do not, recovery must not fall over it.
                let first_seq = batch.first_seq().saturating_sub(before.iter().sum());
                footer.first_seq = if first { first_seq } else { footer.first_seq.min(first_seq) };
                footer.end_seq = footer.end_seq.max(batch.end_seq());
                read.damaged += missing(footer.units, before);
                footer.units = std::array::from_fn(|stream| footer.units[stream].max(before[stream]));
                footer.units[batch.stream() as usize] += batch.len() as u64;
                footer.offset = end;
                first = false;
            }
            Item::Footer(footer) => {
                // Something was written behind the footer: it says more than what is left before it.
                read.torn = len - footer.offset - FOOTER_LEN as u64;
                read.damaged = read.damaged.saturating_add(missing(read.footer.units, footer.units));
                return Ok(Read { footer, ..read });
            }
            Item::Damage { .. } => {
                if planted!(recovery_truncates_inner) {
                    break;
                }
            }
        }
    }
    read.torn = len - read.footer.offset;
    Ok(read)
}

/// Units that are before a place, and were not seen.
fn missing(seen: [u64; 3], before: [u64; 3]) -> u64 {
    let missing = seen.iter().zip(before).map(|(seen, before)| before.saturating_sub(*seen));
    missing.fold(0, u64::saturating_add)
}

/// Units of a stream from `from` on, damaged ones included.
fn count(disk: &dyn Disk, segment: &Segment, stream: Stream, from: u64) -> u64 {
    let total = segment.units[stream as usize];
    let mut scanner = Scanner::new(segment_name(segment.number), segment.salt, segment.body, segment.bytes);
    let mut passed = 0;
    while let Ok(Some(item)) = scanner.next(disk) {
        match item {
            Item::Frame { batch, before, .. } if batch.end_seq() > from => {
                let before = before[stream as usize];
                let inside = if batch.stream() == stream { from.saturating_sub(batch.first_seq()) } else { 0 };
                // Of what is damaged right before it, no more than there is behind `from`.
                let damaged = before.saturating_sub(passed).min(batch.first_seq().saturating_sub(from));
                return (total.saturating_sub(before + inside) + damaged).min(segment.end_seq - from);
            }
            Item::Frame { batch, before, .. } => {
                passed = before[stream as usize] + if batch.stream() == stream { batch.len() as u64 } else { 0 };
            }
            Item::Damage { .. } => {}
            Item::Footer(_) => break,
        }
    }
    total.saturating_sub(passed).min(segment.end_seq - from)
}
