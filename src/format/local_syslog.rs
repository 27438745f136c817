//! The syslog of the machine itself: `<PRI>ident[pid]: text`, as libc's `syslog(3)` writes it into `/dev/log`.
//!
//! No time and no host: whoever reads the socket has its own of both, and rsyslog's socket input and journald understand
//! nothing newer (RFC 5424 arrives as a program called `1`). The text goes out as with LF framing: on a
//! stream socket a NUL ends a message, and syslog-ng takes a newline for an end, too, and drops a CR before it.

use super::{
    Encode, Gap, Origin,
    syslog::{Framing, escaped},
};
use crate::line::{Stream, Unit};

/// RFC 3164 §4.1.3 allows a tag of 32 characters.
const TAG_MAX: usize = 32;

/// Encodes units as messages for the local syslog.
#[derive(Clone, Debug)]
pub struct LocalSyslog {
    /// `ident[pid]: `.
    tag: String,
}

impl LocalSyslog {
    pub(crate) fn new(origin: &Origin) -> Self {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '_' };
        let ident: String = origin.app.chars().take(TAG_MAX).map(plain).collect();
        let pid: String = origin.instance.wait().chars().take(TAG_MAX).map(plain).collect();
        Self { tag: format!("{ident}[{pid}]: ") }
    }

    fn message(&self, priority: &[u8], text: &[u8], out: &mut Vec<u8>) {
        out.reserve(priority.len() + self.tag.len() + text.len());
        out.extend_from_slice(priority);
        out.extend_from_slice(self.tag.as_bytes());
        out.extend_from_slice(&escaped(Framing::Lf, text));
    }
}

impl Encode for LocalSyslog {
    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        // user(1) with info(6), err(3) and notice(5).
        let priority: &[u8] = match unit.stream {
            Stream::Stdout => b"<14>",
            Stream::Stderr => b"<11>",
            Stream::Own => b"<13>",
        };
        self.message(priority, unit.text, out);
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        self.message(b"<12>", gap.message().as_bytes(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::{origin, unit};

    fn encoded(origin: &Origin, unit: &Unit<'_>) -> String {
        let mut out = Vec::new();
        LocalSyslog::new(origin).unit(unit, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_priority_tag_and_text() {
        assert_eq!(encoded(&origin(), &unit(1, b"GET /cart 200")), "<14>shop[4121]: GET /cart 200");
        let err = Unit { stream: Stream::Stderr, ..unit(1, b"") };
        assert_eq!(encoded(&origin(), &err), "<11>shop[4121]: ");
        let own = Unit { stream: Stream::Own, ..unit(2, b"lastword: app started") };
        assert_eq!(encoded(&origin(), &own), "<13>shop[4121]: lastword: app started");
        assert_eq!(encoded(&origin(), &unit(1, b"a\0\0b\0")), "<14>shop[4121]: a#000#000b#000");
    }

    #[test]
    fn a_tag_ends_where_its_reader_expects_it_to() {
        let odd = Origin { app: "my app[1]: x/y and much more than thirty-two letters".into(), ..origin() };
        assert_eq!(encoded(&odd, &unit(1, b"x")), "<14>my_app_1___x_y_and_much_more_tha[4121]: x");
    }
}
