//! What the demo shows: 80 columns, a column of time, colour on a terminal only (and not with NO_COLOR).

use crate::line::Stream;
use std::{
    fmt,
    io::{self, IsTerminal, Write},
    time::Duration,
};

/// Columns, the newline not counted.
pub(crate) const WIDTH: usize = 80;

/// Where the text of a timed line begins.
const INDENT: usize = 20;

/// Writes the demo's lines. A stdout that is closed is remembered, not an error.
pub(crate) struct Screen<W> {
    out: W,
    colour: bool,
    closed: bool,
}

impl Screen<io::Stdout> {
    pub(crate) fn new() -> Self {
        let out = io::stdout();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = out.is_terminal() && !plain;
        Self { out, colour, closed: false }
    }
}

#[cfg(test)]
impl<W> Screen<W> {
    pub(crate) fn plain(out: W) -> Self {
        Self { out, colour: false, closed: false }
    }
}

/// Who is speaking on a timed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    App(Stream),
    Lastword,
    Demo,
}

impl Speaker {
    const fn name(self) -> &'static str {
        match self {
            Self::App(_) => "app",
            Self::Lastword => "lastword",
            Self::Demo => "demo",
        }
    }

    const fn style(self) -> &'static str {
        match self {
            Self::App(_) => "2",
            Self::Lastword => "0",
            Self::Demo => "1",
        }
    }
}

impl<W: Write> Screen<W> {
    /// Nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn line(&mut self, text: impl fmt::Display) {
        self.closed |= writeln!(self.out, "{text}").and_then(|()| self.out.flush()).is_err();
    }

    pub(crate) fn heading(&mut self, text: &str) {
        let text = self.styled("1", text);
        self.line("");
        self.line(text);
    }

    /// `  +0.52 s  app       text`, the time being since the stop, or since the start where it has no sign.
    pub(crate) fn timed(&mut self, time: &Moment, speaker: Speaker, text: &str) {
        let mut head = format!("{time:>8}  {:<8}", speaker.name());
        for piece in wrap(text, WIDTH - INDENT) {
            let line = self.styled(speaker.style(), &format!("{head:<INDENT$}{piece}"));
            self.line(line);
            head.clear();
        }
    }

    fn styled(&self, style: &str, text: &str) -> String {
        if self.colour && style != "0" { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A time as the demo shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    /// Since the start of a run.
    Running(Duration),
    /// Since its stop.
    Stopping(Duration),
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Running(time) => format!("{:.2} s", time.as_secs_f64()),
            Self::Stopping(time) => format!("+{:.2} s", time.as_secs_f64()),
        };
        f.pad(&text)
    }
}

/// Breaks `text` at spaces into lines of at most `width` characters; a longer word stays whole. At least one line.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line =
            lines.last_mut().filter(|line| line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => line.extend([" ", word]),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(colour: bool, show: impl FnOnce(&mut Screen<&mut Vec<u8>>)) -> String {
        let mut out = Vec::new();
        show(&mut Screen { out: &mut out, colour, closed: false });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_long_line_goes_on_below_itself() {
        let moment = Moment::Stopping(Duration::from_millis(1_525));
        let text = shown(false, |screen| screen.timed(&moment, Speaker::Lastword, &"word ".repeat(20)));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with(" +1.52 s  lastword  word word"), "{text}");
        assert!(lines[1].starts_with("                    word"), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.matches("word").count(), 21);
    }

    #[test]
    fn colour_is_for_terminals() {
        let moment = Moment::Running(Duration::ZERO);
        let app = Speaker::App(Stream::Stdout);
        assert_eq!(shown(false, |screen| screen.timed(&moment, app, "hi")), "  0.00 s  app       hi\n");
        assert_eq!(shown(true, |screen| screen.timed(&moment, app, "hi")), "\x1b[2m  0.00 s  app       hi\x1b[0m\n");
    }

    #[test]
    fn a_closed_stdout_is_remembered() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut screen = Screen { out: Closed, colour: false, closed: false };
        screen.line("hi");
        assert!(screen.is_closed());
    }
}
