//! Which options there are, which schemes take them, and how they are written.

use super::{
    problem::{Problem, nearest},
    schemes::{Encoding, SCHEMES, Scheme, Way},
};
use crate::format::{Format, gelf::Carrier};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Stream,
    Framing,
    Replay,
    Ca,
    Bearer,
    Header,
    Timeout,
    Require,
    Cert,
    Key,
    Fingerprint,
    Servername,
    MaxMessage,
    Window,
    Rotate,
    RotateAge,
    Keep,
    Compress,
    Mode,
    Token,
    Encoding,
    Data,
    Rfc,
    Bulk,
    Body,
}

/// An option's name, which schemes take it, and how to write it.
pub(super) struct Rule {
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    fits: fn(&Scheme) -> bool,
    pub(super) example: &'static str,
}

const RULES: &[Rule] = &[
    Rule { kind: Kind::Name, name: "name", fits: |_| true, example: "name=papertrail" },
    Rule { kind: Kind::Stream, name: "stream", fits: |_| true, example: "stream=stderr" },
    Rule { kind: Kind::Require, name: "require", fits: |_| true, example: "require=confirmed" },
    Rule {
        kind: Kind::Framing,
        name: "framing",
        fits: |s| s.encoding == Encoding::Syslog && s.way == Way::Tcp,
        example: "framing=lf",
    },
    Rule { kind: Kind::Replay, name: "replay", fits: |s| matches!(s.way, Way::Tcp | Way::Tls), example: "replay=1MiB" },
    Rule { kind: Kind::Ca, name: "ca", fits: Scheme::has_tls, example: "ca=/etc/ssl/own-ca.pem" },
    Rule { kind: Kind::Cert, name: "cert", fits: Scheme::has_tls, example: "cert=/run/tls/client.pem" },
    Rule { kind: Kind::Key, name: "key", fits: Scheme::has_tls, example: "key=/run/tls/client.key" },
    Rule { kind: Kind::Fingerprint, name: "fingerprint", fits: Scheme::has_tls, example: "fingerprint=sha256:4a…" },
    Rule { kind: Kind::Servername, name: "servername", fits: Scheme::has_tls, example: "servername=logs.example" },
    Rule {
        kind: Kind::MaxMessage,
        name: "max-message",
        fits: |s| s.is_relp() || s.encoding == Encoding::Syslog && matches!(s.way, Way::Tcp | Way::Tls),
        example: "max-message=64KiB",
    },
    Rule { kind: Kind::Window, name: "window", fits: Scheme::is_relp, example: "window=128" },
    Rule { kind: Kind::Bearer, name: "bearer", fits: Scheme::is_http, example: "bearer=${TOKEN}" },
    Rule { kind: Kind::Header, name: "header", fits: Scheme::is_http, example: "header=X-Api-Key:${KEY}" },
    Rule { kind: Kind::Timeout, name: "timeout", fits: Scheme::is_http, example: "timeout=10s" },
    Rule { kind: Kind::Rotate, name: "rotate", fits: |s| s.way == Way::File, example: "rotate=100MiB" },
    Rule { kind: Kind::RotateAge, name: "rotate-age", fits: |s| s.way == Way::File, example: "rotate-age=24h" },
    Rule { kind: Kind::Keep, name: "keep", fits: |s| s.way == Way::File, example: "keep=5" },
    Rule {
        kind: Kind::Compress,
        name: "compress",
        fits: |s| s.is_http() || s.way == Way::File,
        example: "compress=off",
    },
    Rule { kind: Kind::Mode, name: "mode", fits: |s| s.way == Way::File, example: "mode=640" },
    Rule { kind: Kind::Token, name: "token", fits: Scheme::is_http, example: "token=${TOKEN}" },
    Rule {
        kind: Kind::Encoding,
        name: "encoding",
        fits: |s| matches!(s.encoding, Encoding::Of(Format::Otlp(_))),
        example: "encoding=json",
    },
    Rule {
        kind: Kind::Data,
        name: "sd",
        fits: |s| matches!(s.encoding, Encoding::Of(Format::Logplex(_))),
        example: "sd=nil",
    },
    Rule {
        kind: Kind::Rfc,
        name: "rfc",
        fits: |s| s.encoding == Encoding::Syslog && s.way != Way::Unix,
        example: "rfc=3164",
    },
    Rule {
        kind: Kind::Bulk,
        name: "bulk",
        fits: |s| s.encoding == Encoding::Of(Format::Gelf(Carrier::Single)),
        example: "bulk=on",
    },
    Rule {
        kind: Kind::Body,
        name: "body",
        fits: |s| s.is_http() && s.encoding == Encoding::Ndjson,
        example: "body=array",
    },
];

/// The rule of an option that the scheme takes.
pub(super) fn rule(name: &str, scheme: &Scheme) -> Result<&'static Rule, Problem> {
    let taken = || RULES.iter().filter(|rule| (rule.fits)(scheme)).map(|rule| rule.name);
    if let Some(rule) = RULES.iter().find(|rule| rule.name == name) {
        if (rule.fits)(scheme) {
            return Ok(rule);
        }
        let takers = some(rule.fits);
        return Err(Problem::new(format!("`{}` takes no option `{name}`", scheme.name), format!("it is for {takers}")));
    }
    // A name that looks like none may be the rest of a password with a `#`: not repeated.
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic() || b"-_".contains(&byte));
    let wrong =
        if is_name { format!("unknown option `{name}`") } else { "an option with a bad name behind `#`".into() };
    Err(match nearest(name, taken()) {
        Some(near) => Problem::new(wrong, format!("did you mean `{near}`?")),
        None => Problem::new(wrong, format!("`{}` takes {}", scheme.name, taken().collect::<Vec<_>>().join(", "))),
    })
}

/// The names of the schemes that fit. A list of thirty helps nobody: many HTTP drains are called that.
pub(super) fn some(fits: impl Fn(&Scheme) -> bool) -> String {
    const FEW: usize = 6;
    let fitting = SCHEMES.iter().filter(|scheme| fits(scheme));
    let (web, others): (Vec<&Scheme>, Vec<_>) = fitting.partition(|scheme| scheme.is_http());
    let mut names: Vec<_> = others.iter().map(|scheme| scheme.name).collect();
    if web.len() <= FEW {
        names.extend(web.iter().map(|scheme| scheme.name));
    } else {
        let secure = web.iter().all(|scheme| scheme.way == Way::Https);
        names.push(if secure { "HTTPS drains" } else { "HTTP drains" });
    }
    names.join(", ")
}
