//! All drains of a run: from flags and variables to [`DrainSpec`]s with names of their own.

use super::{
    DrainSpec, FileTarget, HttpTarget, Identity, Proxy, RelpTarget, Secret, Target, TcpTarget, TlsTarget,
    drain_options::DrainOptions,
    drain_url::DrainUrl,
    environment::Environment,
    option_files::is_directory,
    problem::{Exit, Problem},
    schemes::{Encoding, Scheme, Way},
};
use crate::{
    format::{Format, gelf::Carrier, syslog::Framing},
    transport,
};
use base64::{Engine, prelude::BASE64_STANDARD};

/// Longest name of a Unix socket (unix(7)), the NUL behind it not counted.
const SOCKET_NAME_MAX: usize = 107;

/// Those of `--drain` in their order, then those of the variables, sorted by name. The same URL counts once.
pub(crate) fn all(typed: &[String], environment: &Environment) -> Result<Vec<DrainSpec>, Exit> {
    let sources = sources(typed, environment)?;
    let mut drains: Vec<DrainSpec> = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        if sources[..index].iter().any(|earlier| earlier.text == source.text) {
            continue;
        }
        let drain = one(source, environment, &drains).map_err(|problem| problem.of(&source.setting))?;
        drains.push(drain);
    }
    Ok(drains)
}

/// A drain URL and where it was found.
struct Source<'a> {
    /// The flag or variable, for messages.
    setting: String,
    /// What the variable's suffix calls the drain.
    name: Option<String>,
    text: &'a str,
}

fn sources<'a>(typed: &'a [String], environment: &'a Environment) -> Result<Vec<Source<'a>>, Exit> {
    let mut sources = Vec::new();
    for (index, text) in typed.iter().enumerate() {
        let setting = match typed.len() {
            1 => "--drain".to_string(),
            many => format!("--drain ({} of {many})", index + 1),
        };
        sources.push(Source { setting, name: None, text: text.trim() });
    }
    for (variable, name) in environment.drains() {
        let text = environment.text(variable).map_err(|problem| problem.of(variable))?.unwrap_or_default();
        sources.push(Source { setting: variable.to_string(), name, text: text.trim() });
    }
    Ok(sources)
}

fn one(source: &Source<'_>, environment: &Environment, others: &[DrainSpec]) -> Result<DrainSpec, Problem> {
    let url = DrainUrl::cut(source.text)?;
    // Before the options: a password with a `#` in it first shows as a bad port, and the message about that helps.
    let mut target = target(&url, environment)?;
    let mut options = DrainOptions::parse(&url, environment)?;
    let name = match options.name.take().or_else(|| source.name.clone()) {
        Some(name) if others.iter().any(|other| other.name == name) => {
            return Err(Problem::new(format!("the name `{name}` is taken"), "give each drain its own with `#name=`"));
        }
        Some(name) => name,
        None => free_name(url.default_name(), others),
    };
    let (format, stream) = (format(url.scheme, &options), options.stream);
    apply(options, url.scheme, format, &mut target)?;
    Ok(DrainSpec { name, url: url.redacted(), format, target, stream })
}

fn free_name(name: String, others: &[DrainSpec]) -> String {
    let is_free = |name: &String| others.iter().all(|other| other.name != *name);
    if is_free(&name) {
        return name;
    }
    (2..).map(|number| format!("{name} ({number})")).find(is_free).unwrap_or(name)
}

/// The format of a scheme without options.
pub(crate) fn untuned(scheme: &Scheme) -> Format {
    format(scheme, &DrainOptions::default())
}

/// The format of a scheme with the options that are the format's. That they fit it was checked when they were parsed.
fn format(scheme: &Scheme, options: &DrainOptions) -> Format {
    let framing = match scheme.way {
        Way::Udp | Way::Unix => Framing::Datagram,
        Way::File => Framing::Lf,
        Way::Tcp | Way::Tls | Way::Relp | Way::RelpTls | Way::Http | Way::Https => {
            options.framing.unwrap_or(Framing::Counted)
        }
    };
    match scheme.encoding {
        Encoding::Ndjson => options.body.unwrap_or(Format::Ndjson),
        Encoding::Raw => Format::Raw,
        Encoding::Syslog if scheme.way == Way::Unix => Format::LocalSyslog,
        Encoding::Syslog if options.old_syslog => Format::Syslog3164(framing),
        Encoding::Syslog => Format::Syslog(framing),
        Encoding::Of(Format::Otlp(encoding)) => Format::Otlp(options.encoding.unwrap_or(encoding)),
        Encoding::Of(Format::Logplex(data)) => Format::Logplex(options.data.unwrap_or(data)),
        Encoding::Of(Format::Gelf(Carrier::Single)) if options.bulk => Format::Gelf(Carrier::Bulk),
        Encoding::Of(format) => format,
    }
}

fn target(url: &DrainUrl<'_>, environment: &Environment) -> Result<Target, Problem> {
    Ok(match url.scheme.way {
        Way::File => {
            let path = url.file(environment)?;
            if is_directory(&path) {
                return Err(Problem::new("the path is a directory", "name a file in it"));
            }
            Target::File(FileTarget::new(path))
        }
        Way::Unix => {
            let path = url.file(environment)?;
            if path.as_os_str().len() > SOCKET_NAME_MAX {
                let right = format!("name one of at most {SOCKET_NAME_MAX} bytes");
                return Err(Problem::new("the path is too long for a socket", right));
            }
            Target::Unix(path)
        }
        Way::Http | Way::Https => {
            let mut http = HttpTarget::new(url.http_url(environment)?);
            http.headers.extend(basic(url.user(environment)?)?);
            http.proxy = Proxy::of(&http.url, environment)?;
            Target::Http(http)
        }
        Way::Tcp | Way::Tls => Target::Tcp(TcpTarget::new(url.host_port(environment)?)),
        Way::Relp | Way::RelpTls => Target::Relp(RelpTarget::new(url.host_port(environment)?)),
        Way::Udp => Target::Udp(url.host_port(environment)?),
    })
}

/// RFC 7617 §2: a user has no colon; base64 makes a header value of anything.
fn basic(user: Option<(String, String)>) -> Result<Option<(String, Secret)>, Problem> {
    let Some((user, password)) = user else { return Ok(None) };
    if user.contains(':') {
        return Err(Problem::new("the user has a `:` in it", "basic authentication needs one without"));
    }
    if password.starts_with("file:") {
        return Err(Problem::new(
            "a password can't be a file",
            "use `${NAME}`, or `#header=Authorization:file:PATH` with the whole header value in the file",
        ));
    }
    let value = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
    Ok(Some(("Authorization".to_string(), Secret::Value(value))))
}

/// Options that belong to the transport. That they fit it was checked when they were parsed.
fn apply(mut options: DrainOptions, scheme: &Scheme, format: Format, target: &mut Target) -> Result<(), Problem> {
    match target {
        Target::Tcp(tcp) => {
            (tcp.replay, tcp.max_message) = (options.replay, options.max_message);
            tcp.tls = tls(&mut options, scheme)?;
        }
        Target::Relp(relp) => {
            relp.tls = tls(&mut options, scheme)?;
            relp.max_message = options.max_message.unwrap_or(relp.max_message);
            relp.window = options.window.unwrap_or(relp.window);
        }
        Target::File(file) => {
            (file.rotate, file.rotate_age) = (options.rotate, options.rotate_age);
            file.keep = options.keep.unwrap_or(file.keep);
            file.compress = options.compress_old.unwrap_or(file.compress);
            file.mode = options.mode.unwrap_or(file.mode);
        }
        Target::Http(http) => {
            let protocol = format.protocol();
            protocol.complete(&mut http.url);
            http.compress = options.compress.unwrap_or(protocol.compress[0]);
            http.tls = tls(&mut options, scheme)?.unwrap_or_default();
            http.headers.extend(options.token.map(|token| (protocol.token.0.to_string(), token)));
            http.headers.extend(options.bearer.map(|bearer| ("Authorization".to_string(), bearer)));
            http.headers.extend(options.headers);
            http.timeout = options.timeout;
            if http.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization")).count() > 1 {
                return Err(Problem::new(
                    "there are several credentials",
                    "use one of `user:password@`, `token=`, `bearer=` and `header=Authorization:`",
                ));
            }
        }
        Target::Udp(_) | Target::Unix(_) => {}
    }
    Ok(())
}

fn tls(options: &mut DrainOptions, scheme: &Scheme) -> Result<Option<TlsTarget>, Problem> {
    if !scheme.has_tls() {
        return Ok(None);
    }
    let identity = match (options.cert.take(), options.key.take()) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(Identity { cert, key }),
        (Some(_), None) => {
            return Err(Problem::new("option `cert` needs the `key`, too", "write `#cert=FILE,key=FILE`"));
        }
        (None, Some(_)) => {
            return Err(Problem::new("option `key` needs the `cert`, too", "write `#cert=FILE,key=FILE`"));
        }
    };
    let (servername, ca_pem, fingerprint) = (options.servername.take(), options.ca_pem.take(), options.fingerprint);
    let target = TlsTarget { servername, ca_pem, identity, fingerprint };
    let right = "name files of PEM certificates, and the key that belongs to the first of `cert`";
    transport::tls::check(&target).map_err(|why| Problem::new(why, right))?;
    Ok(Some(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn drains(typed: &[&str], variables: &[(&str, &str)]) -> Result<Vec<DrainSpec>, String> {
        let typed: Vec<_> = typed.iter().map(|text| text.to_string()).collect();
        all(&typed, &Environment::from(variables)).map_err(|exit| exit.message)
    }

    fn names(drains: &[DrainSpec]) -> Vec<&str> {
        drains.iter().map(|drain| drain.name.as_str()).collect()
    }

    #[test]
    fn flags_come_first_then_sorted_variables_and_the_same_url_once() {
        let drains = drains(
            &["syslog+udp://b", "file:x"],
            &[
                ("LASTWORD_DRAIN_ZED", "syslog+tcp://z"),
                ("LASTWORD_DRAIN", "https://h/a"),
                ("LASTWORD_DRAIN_AGAIN", " file:x"),
                ("LASTWORD_DRAIN_OFF", ""),
            ],
        )
        .unwrap();
        assert_eq!(names(&drains), ["syslog+udp://b", "file:x", "https://h", "zed"]);
        assert_eq!(drains[3].url, "syslog+tcp://z");
    }

    #[test]
    fn chosen_names_must_differ_and_automatic_ones_are_made_to() {
        assert_eq!(
            names(&drains(&["https://h/a", "https://h/b", "https://h/c"], &[]).unwrap()),
            ["https://h", "https://h (2)", "https://h (3)"]
        );
        assert_eq!(
            drains(&["https://h/a#name=x"], &[("LASTWORD_DRAIN_X", "https://h/b")]).unwrap_err(),
            "lastword: LASTWORD_DRAIN_X: the name `x` is taken; give each drain its own with `#name=`\n"
        );
    }

    #[test]
    fn formats_follow_scheme_and_framing() {
        let format = |text| drains(&[text], &[]).unwrap()[0].format;
        assert_eq!(format("syslog+tcp://h"), Format::Syslog(Framing::Counted));
        assert_eq!(format("syslog+tcp://h#framing=lf"), Format::Syslog(Framing::Lf));
        assert_eq!(format("syslog+udp://h"), Format::Syslog(Framing::Datagram));
        assert_eq!(format("syslog+file:x"), Format::Syslog(Framing::Lf));
        assert_eq!(format("file:x"), Format::Raw);
        for text in ["https://h", "ndjson+http://h", "ndjson+tcp://h:1", "ndjson+file:x"] {
            assert_eq!(format(text), Format::Ndjson, "{text}");
        }
    }

    /// A key of another certificate, or what is none, was noticed when the drain connected: the app ran, and its lines were held.
    #[test]
    fn certificates_and_keys_that_cannot_be_used_are_refused_before_the_start() {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/src/transport/http/fixtures");
        let dir = tempfile::tempdir().unwrap();
        let broken = dir.path().join("broken.pem").display().to_string();
        std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n").unwrap();
        let locked = dir.path().join("locked.pem").display().to_string();
        std::fs::write(&locked, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n").unwrap();
        let pem = |name: &str| format!("{fixtures}/{name}.pem");
        let key = format!("{fixtures}/server.key");
        for scheme in ["https", "syslog+tls"] {
            let drain = |options: String| drains(&[&format!("{scheme}://h#{options}")], &[]);
            assert!(drain(format!("ca={},cert={},key={key}", pem("ca"), pem("server"))).is_ok());
            for (options, wrong) in [
                (format!("ca={broken}"), "option `ca`: something in its file is no certificate; ".to_owned()),
                (
                    format!("cert={},key={key}", pem("ca")),
                    format!("the key in `{key}` is not that of `{}`; ", pem("ca")),
                ),
                (format!("cert={broken},key={key}"), format!("what `{broken}` holds first is no certificate; ")),
                (
                    format!("cert={},key={locked}", pem("ca")),
                    format!("option `key`: the key in `{locked}` is encrypted; "),
                ),
            ] {
                let complaint = drain(options).unwrap_err();
                assert!(complaint.starts_with(&format!("lastword: --drain: {wrong}name ")), "{complaint}");
            }
        }
    }

    #[test]
    fn credentials_become_headers_and_show_nowhere() {
        let drains = drains(
            &["https://me:${PASSWORD}@h/in?key=k3y", "https://h/x#bearer=${TOKEN},header=X-A:b,timeout=3s"],
            &[("PASSWORD", "p:w"), ("TOKEN", "t0k3n")],
        )
        .unwrap();
        let [Target::Http(first), Target::Http(second)] = [&drains[0].target, &drains[1].target] else {
            panic!("no http")
        };
        assert_eq!(first.url.as_str(), "https://h/in?key=k3y");
        assert_eq!(first.timeout, None);
        let [(name, Secret::Value(value))] = first.headers.as_slice() else { panic!("no header") };
        assert_eq!((name.as_str(), value.as_str()), ("Authorization", "Basic bWU6cDp3"));
        let [(_, Secret::Value(bearer)), (other, _)] = second.headers.as_slice() else { panic!("no headers") };
        assert_eq!((bearer.as_str(), other.as_str()), ("Bearer t0k3n", "X-A"));
        assert_eq!(second.timeout, Some(Duration::from_secs(3)));
        let shown = format!("{:?}{:?}", drains[0].headers_shown(), drains[1].headers_shown());
        assert!(!shown.contains("t0k3n") && !shown.contains("bWU6"), "{shown}");
        assert_eq!(drains[0].url, "https://***@h/in?***");
    }

    impl DrainSpec {
        fn headers_shown(&self) -> String {
            format!("{self:?}")
        }
    }
}
