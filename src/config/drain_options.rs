//! The options of a drain, from its URL's fragment: `#name=papertrail,stream=stderr`.
//!
//! A comma separates, since `&` backgrounds a command in an unquoted Procfile; one inside a value is `%2C`.

use super::{
    Secret,
    component::expand,
    drain_url::DrainUrl,
    drains,
    environment::Environment,
    problem::{Problem, nearest},
    schemes::{Encoding, SCHEMES, Scheme, Way},
    units,
};
use crate::{
    format::{Format, gelf::Carrier, http::Compress, logplex::Data, otlp, syslog::Framing, webhook::Preset},
    ledger::Grade,
    line::Stream,
};
use rustls::pki_types::pem::PemObject;
use std::{fs, io::Read, path::PathBuf, time::Duration};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
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
struct Rule {
    kind: Kind,
    name: &'static str,
    fits: fn(&Scheme) -> bool,
    example: &'static str,
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

/// All options of a drain; what was not given is None or empty.
#[derive(Debug, Default)]
pub(crate) struct DrainOptions {
    pub(crate) name: Option<String>,
    pub(crate) stream: Option<Stream>,
    pub(crate) framing: Option<Framing>,
    /// `auto` is None, as is no option.
    pub(crate) replay: Option<u64>,
    /// The file, already read.
    pub(crate) ca_pem: Option<Vec<u8>>,
    pub(crate) bearer: Option<Secret>,
    pub(crate) headers: Vec<(String, Secret)>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) fingerprint: Option<[u8; 32]>,
    pub(crate) servername: Option<String>,
    pub(crate) max_message: Option<usize>,
    pub(crate) window: Option<usize>,
    pub(crate) rotate: Option<u64>,
    pub(crate) rotate_age: Option<Duration>,
    pub(crate) keep: Option<usize>,
    /// `compress` of a file: files set aside.
    pub(crate) compress_old: Option<bool>,
    pub(crate) mode: Option<u32>,
    /// The service's own kind of token, without the prefix that its format puts before it.
    pub(crate) token: Option<Secret>,
    /// `compress` of an HTTP drain: request bodies.
    pub(crate) compress: Option<Compress>,
    pub(crate) encoding: Option<otlp::Encoding>,
    pub(crate) data: Option<Data>,
    /// `rfc=3164`.
    pub(crate) old_syslog: bool,
    pub(crate) bulk: bool,
    pub(crate) body: Option<Format>,
}

impl DrainOptions {
    /// Those of `url`.
    pub(crate) fn parse(url: &DrainUrl<'_>, environment: &Environment) -> Result<Self, Problem> {
        let mut options = Self::default();
        let Some(fragment) = url.options.filter(|fragment| !fragment.is_empty()) else {
            return Ok(options);
        };
        let mut seen: Vec<&str> = Vec::new();
        for item in fragment.split(',') {
            let Some((name, value)) = item.split_once('=') else {
                // Not repeated: it may be the rest of a password with a `#`.
                return Err(Problem::new(
                    "an option without `=` behind `#`",
                    "write `#NAME=VALUE,NAME=VALUE`, a literal `,` as `%2C`, and `#` in a password as `%23`",
                ));
            };
            let rule = rule(name, url.scheme)?;
            if seen.contains(&rule.name) && rule.kind != Kind::Header {
                return Err(Problem::new(format!("option `{name}` is given twice"), "give it once"));
            }
            seen.push(rule.name);
            let value = expand(value, &format!("option `{name}`"), environment)?;
            options.set(rule, value, url.scheme)?;
        }
        Ok(options)
    }

    fn set(&mut self, rule: &Rule, value: String, scheme: &Scheme) -> Result<(), Problem> {
        let inside = |problem: Problem| problem.within(&format!("option `{}`", rule.name));
        let wrong = |right: &str| Problem::new(format!("option `{}`: bad value `{value}`", rule.name), right);
        if value.is_empty() {
            return Err(Problem::new(
                format!("option `{}` is empty", rule.name),
                format!("write it as in `#{}`", rule.example),
            ));
        }
        match rule.kind {
            Kind::Name => {
                self.name = Some(name(&value).ok_or_else(|| wrong("a name has letters, digits, `.`, `_`, `-`"))?);
            }
            Kind::Stream => {
                let stream = Stream::ALL.into_iter().find(|stream| stream.name() == value);
                self.stream = Some(stream.ok_or_else(|| wrong("write `stdout` or `stderr`"))?);
            }
            Kind::Framing => {
                self.framing = Some(match value.as_str() {
                    "counted" => Framing::Counted,
                    "lf" => Framing::Lf,
                    _ => return Err(wrong("write `counted` or `lf`")),
                });
            }
            Kind::Replay if value == "auto" => self.replay = None,
            Kind::Replay => self.replay = Some(units::size_between(&value, 0, 64 << 20).map_err(inside)? as u64),
            Kind::Timeout => {
                let timeout = units::duration(&value).map_err(inside)?;
                self.timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
                self.timeout.ok_or_else(|| wrong("write a time above 0, as in `10s`"))?;
            }
            Kind::Ca => self.ca_pem = Some(certificates("ca", &value)?),
            Kind::Bearer => self.bearer = Some(Secret::parse(&value, "Bearer ", "option `bearer`")?),
            Kind::Header => self.headers.push(header(&value)?),
            Kind::Require => require(&value, scheme)?.map_or(Ok(()), |right| Err(wrong(right)))?,
            _ => self.set_of_format(rule, value, scheme)?,
        }
        Ok(())
    }

    fn set_of_format(&mut self, rule: &Rule, value: String, scheme: &Scheme) -> Result<(), Problem> {
        let inside = |problem: Problem| problem.within(&format!("option `{}`", rule.name));
        let wrong = |right: &str| Problem::new(format!("option `{}`: bad value `{value}`", rule.name), right);
        match rule.kind {
            // Files that were set aside are compressed, or not; bodies of requests in one of several ways.
            Kind::Compress if scheme.way == Way::File => {
                self.compress_old = Some(units::switch(&value).map_err(inside)?);
            }
            Kind::Compress => {
                let known = [Compress::Off, Compress::Gzip, Compress::Zstd];
                let taken = drains::untuned(scheme).protocol().compress;
                let found = known.into_iter().find(|compress| compress.name() == value && taken.contains(compress));
                let names: Vec<_> = taken.iter().map(|compress| format!("`{}`", compress.name())).collect();
                let right = format!("write {}", names.join(" or "));
                self.compress = Some(found.ok_or_else(|| wrong(&right))?);
            }
            Kind::Token => {
                let prefix = drains::untuned(scheme).protocol().token.1;
                self.token = Some(Secret::parse(&value, prefix, "option `token`")?);
            }
            Kind::Encoding => {
                self.encoding = Some(match value.as_str() {
                    "protobuf" => otlp::Encoding::Protobuf,
                    "json" => otlp::Encoding::Json,
                    _ => return Err(wrong("write `protobuf` or `json`")),
                });
            }
            Kind::Data => {
                self.data = Some(match value.as_str() {
                    "omit" => Data::Omit,
                    "nil" => Data::Nil,
                    _ => return Err(wrong("write `omit` or `nil`")),
                });
            }
            Kind::Rfc => {
                self.old_syslog = match value.as_str() {
                    "5424" => false,
                    "3164" => true,
                    _ => return Err(wrong("write `5424` or `3164`")),
                };
            }
            Kind::Bulk => self.bulk = units::switch(&value).map_err(inside)?,
            Kind::Body => {
                self.body = Some(match value.as_str() {
                    "ndjson" => Format::Ndjson,
                    "array" => Format::Webhook(Preset::Array),
                    "wrapped" => Format::Webhook(Preset::Wrapped),
                    "text" => Format::Webhook(Preset::Text),
                    _ => return Err(wrong("write `ndjson`, `array`, `wrapped` or `text`")),
                });
            }
            _ => self.set_of_transport(rule, value)?,
        }
        Ok(())
    }

    fn set_of_transport(&mut self, rule: &Rule, value: String) -> Result<(), Problem> {
        let inside = |problem: Problem| problem.within(&format!("option `{}`", rule.name));
        let wrong = |right: &str| Problem::new(format!("option `{}`: bad value `{value}`", rule.name), right);
        let number = |least, most, right| {
            let number = value.parse().ok().filter(|number| (least..=most).contains(number));
            number.ok_or_else(|| wrong(right))
        };
        match rule.kind {
            Kind::Cert => {
                certificates("cert", &value)?;
                self.cert = Some(value.into());
            }
            Kind::Key => self.key = Some(key_file(&value)?),
            Kind::Fingerprint => {
                let right = "write `sha256:` and 64 hexadecimal digits, with or without colons";
                self.fingerprint = Some(fingerprint(&value).ok_or_else(|| wrong(right))?);
            }
            Kind::Servername => {
                let right = "write the name in the certificate, as in `servername=logs.example`";
                let name = rustls::pki_types::ServerName::try_from(value.as_str());
                self.servername = Some(name.map_err(|_| wrong(right))?.to_str().into_owned());
            }
            Kind::MaxMessage => {
                self.max_message = Some(units::size_between(&value, 512, 128 << 10).map_err(inside)?);
            }
            Kind::Window => self.window = Some(number(1, 1024, "write a number from 1 to 1024")?),
            Kind::Rotate => {
                self.rotate = Some(units::size_between(&value, 64 << 10, 1 << 40).map_err(inside)? as u64);
            }
            Kind::RotateAge => {
                let age = units::duration(&value).map_err(inside)?;
                self.rotate_age = Some(age).filter(|age| *age >= Duration::from_secs(60));
                self.rotate_age.ok_or_else(|| wrong("write at least `1m`"))?;
            }
            Kind::Keep => self.keep = Some(number(0, 1000, "write a number from 0 to 1000")?),
            Kind::Mode => {
                let mode = u32::from_str_radix(&value, 8).ok().filter(|mode| *mode <= 0o777 && mode & 0o200 != 0);
                self.mode = Some(mode.ok_or_else(|| wrong("write octal permissions, as in `mode=640`"))?);
            }
            _ => {}
        }
        Ok(())
    }
}

fn rule(name: &str, scheme: &Scheme) -> Result<&'static Rule, Problem> {
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
fn some(fits: impl Fn(&Scheme) -> bool) -> String {
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

/// Names stand in reports and gap lines: short and plain.
fn name(value: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (value.len() <= 64 && value.bytes().all(is_plain)).then(|| value.to_string())
}

/// Whether the scheme's transport can have the evidence that is asked for. `Some`: what would be a right value.
fn require(value: &str, scheme: &Scheme) -> Result<Option<&'static str>, Problem> {
    let wanted = match value {
        "confirmed" => Grade::Confirmed,
        "accepted" => Grade::Accepted,
        _ => return Ok(Some("write `confirmed` or `accepted`")),
    };
    let (best, why) = scheme.way.evidence();
    if best >= wanted {
        return Ok(None);
    }
    let others = some(|scheme| scheme.way.evidence().0 >= wanted);
    Err(Problem::new(format!("option `require`: `{}` {why}", scheme.name), format!("use one of {others}")))
}

/// `sha256:` and the digits, as openssl prints them or without colons.
fn fingerprint(value: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = value.strip_prefix("sha256:")?.bytes().filter(|&byte| byte != b':').collect();
    let mut fingerprint = [0; 32];
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in fingerprint.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(fingerprint)
}

fn key_file(path: &str) -> Result<PathBuf, Problem> {
    let wrong = |what: String| Problem::new(format!("option `key`: {what}"), "name a readable file with a PEM key");
    let pem = regular_file(path).map_err(|why| wrong(format!("can't read `{path}`: {why}")))?;
    rustls::pki_types::PrivateKeyDer::from_pem_slice(&pem).map_err(|_| wrong(format!("no key in `{path}`")))?;
    Ok(path.into())
}

fn certificates(option: &str, path: &str) -> Result<Vec<u8>, Problem> {
    let pem = regular_file(path).map_err(|why| {
        Problem::new(
            format!("option `{option}`: can't read `{path}`: {why}"),
            "name a readable file of PEM certificates",
        )
    })?;
    let mark = b"-----BEGIN CERTIFICATE-----";
    match pem.windows(mark.len()).any(|window| window == mark) {
        true => Ok(pem),
        false => Err(Problem::new(
            format!("option `{option}`: no certificate in `{path}`"),
            "name a readable file of PEM certificates (`-----BEGIN CERTIFICATE-----`)",
        )),
    }
}

/// `Name:Value` or `Name: Value`.
fn header(text: &str) -> Result<(String, Secret), Problem> {
    let right = "write it as in `#header=X-Api-Key:${KEY}`";
    let Some((name, value)) = text.split_once(':') else {
        return Err(Problem::new("option `header` has no `:`", right));
    };
    // RFC 9110 §5.6.2.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(Problem::new("option `header` has a bad name", right));
    }
    // lastword frames the requests itself.
    if ["connection", "content-length", "transfer-encoding"].iter().any(|own| name.eq_ignore_ascii_case(own)) {
        return Err(Problem::new(format!("option `header`: `{name}` is lastword's own"), "leave it out"));
    }
    let value = value.strip_prefix(' ').unwrap_or(value);
    Ok((name.to_string(), Secret::parse(value, "", &format!("option `header`, `{name}`"))?))
}

/// A FIFO would keep the app from starting for as long as nobody writes into it, and a device may never end.
fn open_regular(path: &str) -> Result<fs::File, String> {
    if !fs::metadata(path).map_err(|error| reason(&error))?.is_file() {
        return Err("not a regular file".into());
    }
    fs::File::open(path).map_err(|error| reason(&error))
}

pub(super) fn regular_file(path: &str) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    open_regular(path)?.read_to_end(&mut content).map_err(|error| reason(&error))?;
    Ok(content)
}

/// RFC 9110 §5.5, without obs-text.
pub(crate) fn is_header_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

/// "No such file or directory", without "(os error 2)".
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIABLES: &[(&str, &str)] = &[("KEY", "k,1=2"), ("LINES", "a\nb")];

    fn options(text: &str) -> Result<DrainOptions, String> {
        let url = DrainUrl::cut(text).map_err(|problem| problem.to_string())?;
        DrainOptions::parse(&url, &Environment::from(VARIABLES)).map_err(|problem| problem.to_string())
    }

    fn value(secret: &Secret) -> &str {
        match secret {
            Secret::Value(value) => value,
            Secret::File { .. } => panic!("a file"),
        }
    }

    #[test]
    fn options_are_read() {
        let tcp = options("syslog+tcp://h#name=my.logs,stream=stderr,framing=lf,replay=1MiB").unwrap();
        assert_eq!(tcp.name.as_deref(), Some("my.logs"));
        assert_eq!(tcp.stream, Some(Stream::Stderr));
        assert_eq!(tcp.framing, Some(Framing::Lf));
        assert_eq!(tcp.replay, Some(1 << 20));
        assert_eq!(options("syslog+tcp://h#replay=auto").unwrap().replay, None);
        assert_eq!(options("syslog+tcp://h#replay=0").unwrap().replay, Some(0));
        assert_eq!(options("syslog+tcp://h#").unwrap().name, None);
        let http = options("https://h#timeout=5s,header=X-A: b%2Cc,header=X-Key:${KEY},bearer=t").unwrap();
        assert_eq!(http.timeout, Some(Duration::from_secs(5)));
        assert_eq!(value(http.bearer.as_ref().unwrap()), "Bearer t");
        let headers: Vec<_> = http.headers.iter().map(|(name, secret)| (name.as_str(), value(secret))).collect();
        assert_eq!(headers, [("X-A", "b,c"), ("X-Key", "k,1=2")]);
    }

    #[test]
    fn a_certificate_file_is_read_and_looked_into() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        fs::write(&path, "nothing").unwrap();
        let url = format!("https://h#ca={}", path.display());
        assert!(options(&url).unwrap_err().starts_with("option `ca`: no certificate in"));
        fs::write(&path, "-----BEGIN CERTIFICATE-----\n").unwrap();
        assert_eq!(options(&url).unwrap().ca_pem.as_deref(), Some(&b"-----BEGIN CERTIFICATE-----\n"[..]));
    }

    #[test]
    fn a_fifo_in_the_place_of_a_certificate_is_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let pem = directory.path().join("cert.pem");
        fs::write(&pem, "-----BEGIN CERTIFICATE-----\n").unwrap();
        let (path, pem) = (path.display(), pem.display());
        for (option, text) in [("ca", format!("ca={path}")), ("key", format!("cert={pem},key={path}"))] {
            let complaint = options(&format!("https://h#{text}")).unwrap_err();
            assert!(
                complaint.starts_with(&format!("option `{option}`: can't read `{path}`: not a regular file; name"))
            );
        }
    }

    #[test]
    fn secrets_never_show_in_messages() {
        for text in [
            "https://h#bearer=s3cr\u{e9}t",
            "https://h#bearer=${LINES}",
            "https://h#header=s3cret",
            "https://h#header=s3 cret:x",
            "https://h#s3cret@host/",
            "https://h#s3cret@host=1",
        ] {
            let complaint = options(text).unwrap_err();
            assert!(!complaint.contains("s3c") && !complaint.contains('\n'), "{complaint}");
        }
    }
}
