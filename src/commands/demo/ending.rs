//! The end of the demo: the tables, and in words what they show.

use super::{
    Act, judge,
    plain_init::Announcement,
    screen::{Screen, WIDTH, wrap},
};
use std::io::Write;

/// Tells what came of both runs. Returns whether lastword kept its promise.
pub(crate) fn tell<W: Write>(screen: &mut Screen<W>, with: &Act, without: &Act) -> bool {
    screen.heading("3. What the app wrote, and what arrived");
    screen.line("");
    screen.line(judge::head());
    for (name, act) in [("under lastword", with), ("under the plain init", without)] {
        screen.line(format!(" {name}"));
        screen.line(judge::judged(&act.written, None));
        act.got.iter().for_each(|side| screen.line(judge::judged(side, Some(&act.written))));
    }
    let kept = tell_with(screen, with);
    tell_without(screen, without);
    screen.heading("Next");
    screen.line("  In an image:       ENTRYPOINT [\"lastword\", \"--\"]");
    screen.line("  Watch lines come:  lastword sink             (prints the URLs to send to)");
    screen.line("  Your own app:      lastword --drain URL -- your-app      lastword --help");
    kept
}

fn tell_with<W: Write>(screen: &mut Screen<W>, act: &Act) -> bool {
    let accounts: Vec<_> = act.performance.said.iter().filter(|line| is_account(line)).collect();
    if !accounts.is_empty() {
        screen.line("");
        screen.line("  lastword's own account:");
        accounts.iter().for_each(|line| paragraph(screen, line, "    "));
    }
    let drains = act.got.iter().filter(|side| side.name.starts_with("drain "));
    let (unsaid, _) = act.written.missing_farewell();
    let absent: Vec<_> =
        drains.flat_map(|side| side.missing(&act.written).into_iter().map(|line| (&side.name, line))).collect();
    screen.line("");
    let kept = unsaid.is_empty() && absent.is_empty();
    if kept {
        paragraph(screen, "Under lastword the worker finished its job, and every line is in both drains.", "  ");
    } else {
        paragraph(screen, "Under lastword lines are missing. That is a bug; please report it:", "  ");
        unsaid.iter().for_each(|text| screen.line(format!("    never written: {text}")));
        absent.iter().for_each(|(name, line)| screen.line(format!("    not in {name}: {line}")));
    }
    kept
}

fn tell_without<W: Write>(screen: &mut Screen<W>, act: &Act) {
    let (unsaid, _) = act.written.missing_farewell();
    screen.line("");
    if unsaid.is_empty() {
        paragraph(screen, "Under the plain init nothing was lost here: this shell waits for its worker.", "  ");
        return;
    }
    let performance = &act.performance;
    let killer = match &performance.announcement {
        Some(Announcement::Ordinary(_, reason)) => format!(
            "the demo killed the rest (processes: {}), which in a container the kernel does. (It would have here, too, \
             but a PID namespace is not to be had: {reason}.)",
            performance.killed
        ),
        _ => "the kernel killed the rest of its PID namespace, as it does in a container.".to_owned(),
    };
    let exit = performance.exit.unwrap_or_default().as_millis();
    let text = format!(
        "Under the plain init the shell died of the signal without passing it on, the init exited with it after {exit} \
         ms, and {killer} The worker never heard of the stop. These lines never came:"
    );
    paragraph(screen, &text, "  ");
    unsaid.iter().for_each(|text| screen.line(format!("    {text}")));
}

/// Whether lastword's account of a drain is in this line.
fn is_account(said: &str) -> bool {
    ["read", "confirmed", "lost"].iter().all(|word| said.contains(word))
}

fn paragraph<W: Write>(screen: &mut Screen<W>, text: &str, indent: &str) {
    wrap(text, WIDTH - indent.len()).iter().for_each(|line| screen.line(format!("{indent}{line}")));
}

#[cfg(test)]
mod tests {
    use super::{super::judge::Side, super::watch::Performance, *};
    use crate::commands::demo::worker;

    fn act(written: &[&str], got: &[&str], announcement: Option<Announcement>) -> Act {
        let side = |name: &str, lines: &[&str]| Side::new(name, lines.iter().map(|&line| line.to_owned()).collect());
        let performance = Performance { announcement, killed: 2, ..Performance::default() };
        Act { written: side("the app wrote", written), got: vec![side("drain http", got)], performance }
    }

    fn told(with: &Act, without: &Act) -> (bool, String) {
        let mut out = Vec::new();
        let kept = tell(&mut Screen::plain(&mut out), with, without);
        (kept, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_line_that_a_drain_lacks_is_named_and_fails_the_demo() {
        let farewell = worker::farewell(1).map(|text| format!("0002 {text}"));
        let lines: Vec<&str> =
            ["0001 job 1: record 1 of 4"].into_iter().chain(farewell.iter().map(String::as_str)).collect();
        let whole = act(&lines, &lines, None);
        let cut = act(&lines, &lines[..4], None);
        let killed = act(&lines[..1], &lines[..1], Some(Announcement::Namespace(7)));
        let (kept, text) = told(&whole, &killed);
        assert!(kept && text.contains("every line is in both drains"), "{text}");
        assert!(
            text.contains("the kernel\n  killed the rest") || text.contains("the kernel killed the rest"),
            "{text}"
        );
        let (kept, text) = told(&cut, &killed);
        assert!(!kept && text.contains("    not in drain http: 0002 goodbye: all work saved"), "{text}");
        assert!(!text.contains("every line is in both drains"), "{text}");
        let (kept, text) = told(&act(&lines[..1], &lines[..1], None), &killed);
        assert!(!kept && text.contains("never written: goodbye: all work saved"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn who_killed_is_told() {
        let line = &["0001 job 1: record 1 of 4"][..];
        let ordinary = Some(Announcement::Ordinary(7, "Operation not permitted".into()));
        let (_, text) = told(&act(line, line, None), &act(line, line, ordinary));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("the demo killed the rest (processes: 2)"), "{text}");
        assert!(text.contains("is not to be had: Operation not permitted.)"), "{text}");
    }
}
