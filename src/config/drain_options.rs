//! The options of a drain, from its URL's fragment: `#name=papertrail,stream=stderr`.
//!
//! A comma separates, since `&` backgrounds a command in an unquoted Procfile; one inside a value is `%2C`.

use super::{
    Secret,
    component::expand,
    drain_url::DrainUrl,
    drains,
    environment::Environment,
    option_files::{certificates, key_file},
    option_rules::{Kind, Rule, rule, some},
    problem::Problem,
    schemes::{Scheme, Way},
    units,
};
use crate::{
    format::{Format, http::Compress, logplex::Data, otlp, syslog::Framing, webhook::Preset},
    ledger::Grade,
    line::Stream,
};
use std::{path::PathBuf, time::Duration};

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

/// RFC 9110 §5.5, without obs-text.
pub(crate) fn is_header_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
