//! A drain URL, cut into its components and each of them expanded.
//!
//! `FORMAT+TRANSPORT://[USER[:PASSWORD]@]HOST[:PORT][/PATH][?QUERY][#OPTION=VALUE,…]`, or `FORMAT+file:PATH[#…]`.
//!
//! The text is cut first and expanded then, so that a `${NAME}` can hold any characters without changing where a
//! component ends. What a variable gave is data: it is never searched for variables again, and is percent-encoded where
//! the result is a URL. Messages repeat neither userinfo nor query, nor anything that a misplaced delimiter may have made
//! out of a password.

use super::{
    HostPort,
    component::{expand, expand_encoded},
    environment::Environment,
    problem::Problem,
    schemes::{self, Scheme, Way},
};

/// The components of a drain URL as they were typed.
#[derive(Clone, Debug)]
pub(crate) struct DrainUrl<'a> {
    pub(crate) scheme: &'static Scheme,
    userinfo: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
    /// From its `/` on, or empty. For a file: its path.
    path: &'a str,
    query: Option<&'a str>,
    /// Behind the `#`.
    pub(crate) options: Option<&'a str>,
}

impl<'a> DrainUrl<'a> {
    /// Cuts `text`. Nothing is decoded or looked up yet.
    pub(crate) fn cut(text: &'a str) -> Result<Self, Problem> {
        let text = text.trim();
        if text.starts_with("${") {
            return Err(Problem::new(
                "a variable can't stand for the scheme",
                "set `LASTWORD_DRAIN` to the whole URL, or write the scheme out, as in `https://${HOST}/`",
            ));
        }
        if text.chars().any(char::is_control) {
            return Err(Problem::new(
                "there is a control character in the URL",
                "percent-encode it: a line break is `%0A`",
            ));
        }
        let (scheme, rest) = cut_scheme(text)?;
        let (rest, options) = split(rest, '#');
        if scheme.is_path() {
            return Self::cut_file(scheme, rest, options);
        }
        // Quoted, a file's name or an option (`header=X-A: b`) may well have a space; a URL has none.
        if rest.contains(char::is_whitespace) {
            return Err(Problem::new("there is a space in the URL", "percent-encode it as `%20`"));
        }
        let Some(rest) = rest.strip_prefix("//") else {
            return Err(Problem::new(
                format!("`//` is missing behind `{}:`", scheme.name),
                format!("write it as in `{}`", scheme.example),
            ));
        };
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, behind) = rest.split_at(authority_end);
        if behind.contains('@') || options.is_some_and(|options| options.contains('@')) {
            // `https://user:pa@ss/word@host` would make host `ss` out of a part of the password, and show it.
            return Err(Problem::new(
                "there is an `@` behind the host",
                "write it as `%40`, and in a password `/` as `%2F` and `?` as `%3F`",
            ));
        }
        let (path, query) = split(behind, '?');
        let (userinfo, host_port) = match authority.rsplit_once('@') {
            Some((userinfo, host_port)) => (Some(userinfo), host_port),
            None => (None, authority),
        };
        let (host, port) = cut_host_port(host_port)?;
        Ok(Self { scheme, userinfo, host, port, path, query, options })
    }

    fn cut_file(scheme: &'static Scheme, rest: &'a str, options: Option<&'a str>) -> Result<Self, Problem> {
        let right = || format!("write `{0}:/PATH`, or `{0}:PATH` for a relative one", scheme.name);
        let what = if scheme.way == Way::Unix { "socket" } else { "file" };
        let path = match rest.strip_prefix("//") {
            Some(path) if path.starts_with('/') => path,
            Some(_) => return Err(Problem::new(format!("a {what} has no host"), right())),
            None => rest,
        };
        // A space before the `#` is no part of a name; one that is can be written `%20`.
        let mut path = path.trim_end();
        // As the system reads it; shown with more of them, the rest would look like a host.
        while path.starts_with("//") {
            path = &path[1..];
        }
        if options.is_some_and(|options| options.contains('@')) {
            // A second URL, with a password perhaps, which a complaint about the option would show.
            return Err(Problem::new(
                "there is an `@` behind the `#`",
                "write it as `%40`, and give each drain its own `--drain`",
            ));
        }
        if path.is_empty() || path.ends_with('/') {
            return Err(Problem::new(format!("the {what}'s name is missing"), right()));
        }
        Ok(Self { scheme, userinfo: None, host: "", port: None, path, query: None, options })
    }

    /// The URL as messages and reports may show it: variables by their names, no userinfo, no query, no options. The
    /// path is shown, as it tells endpoints apart: a secret path belongs into a variable.
    pub(crate) fn redacted(&self) -> String {
        let userinfo = if self.userinfo.is_some() { "***@" } else { "" };
        let query = if self.query.is_some() { "?***" } else { "" };
        match self.scheme.way {
            Way::File | Way::Unix => format!("{}:{}", self.scheme.name, self.path),
            _ => format!("{}://{userinfo}{}{}{query}", self.scheme.name, self.typed_host_port(), self.path),
        }
    }

    /// Scheme, host and port (for a file, its path): the name of a drain that was given none.
    pub(crate) fn default_name(&self) -> String {
        match self.scheme.way {
            Way::File | Way::Unix => format!("{}:{}", self.scheme.name, self.path),
            _ => format!("{}://{}", self.scheme.name, self.typed_host_port()),
        }
    }

    fn typed_host_port(&self) -> String {
        let colon = if self.port.is_some() { ":" } else { "" };
        format!("{}{colon}{}", self.host, self.port.unwrap_or_default())
    }

    /// Host and port for transports that connect themselves, and have neither path nor user.
    pub(crate) fn host_port(&self, environment: &Environment) -> Result<HostPort, Problem> {
        let host = match self.host(environment)? {
            url::Host::Domain(name) => name,
            url::Host::Ipv4(address) => address.to_string(),
            url::Host::Ipv6(address) => address.to_string(),
        };
        let right = || format!("write it as in `{}`", self.scheme.example);
        let Some(port) = self.port(environment)?.or(self.scheme.default_port) else {
            return Err(Problem::new("the port is missing", right()));
        };
        let extra = match (self.userinfo, self.path, self.query) {
            (Some(_), _, _) => "a user",
            (_, path, _) if !path.is_empty() && path != "/" => "a path",
            (_, _, Some(_)) => "a query",
            _ => return Ok(HostPort { host, port }),
        };
        Err(Problem::new(format!("`{}` takes no host with {extra}", self.scheme.name), right()))
    }

    /// The URL to request: http(s), expanded, without userinfo and options.
    pub(crate) fn http_url(&self, environment: &Environment) -> Result<url::Url, Problem> {
        let host = self.host(environment)?;
        let port = self.port(environment)?.map(|port| format!(":{port}")).unwrap_or_default();
        let path = expand_encoded(self.path, "path", environment)?;
        let query = match self.query {
            Some(query) => format!("?{}", expand_encoded(query, "query", environment)?),
            None => String::new(),
        };
        let scheme = if self.scheme.way == Way::Https { "https" } else { "http" };
        url::Url::parse(&format!("{scheme}://{host}{port}{path}{query}")).map_err(|error| {
            Problem::new(format!("bad URL: {error}"), format!("write it as in `{}`", self.scheme.example))
        })
    }

    /// The path of a file or socket, expanded.
    pub(crate) fn file(&self, environment: &Environment) -> Result<std::path::PathBuf, Problem> {
        Ok(expand(self.path, "path", environment)?.into())
    }

    /// User and password, expanded.
    pub(crate) fn user(&self, environment: &Environment) -> Result<Option<(String, String)>, Problem> {
        let Some(userinfo) = self.userinfo else { return Ok(None) };
        let (user, password) = split(userinfo, ':');
        let user = expand(user, "user", environment)?;
        let password = expand(password.unwrap_or_default(), "password", environment)?;
        Ok(Some((user, password)))
    }

    fn host(&self, environment: &Environment) -> Result<url::Host, Problem> {
        let host = expand(self.host, "host", environment)?;
        if host.is_empty() {
            return Err(Problem::new("the host is missing", format!("write it as in `{}`", self.scheme.example)));
        }
        url::Host::parse(&host).map_err(|_| {
            Problem::new(format!("`{}` is not a host", self.host), "write a name, an IPv4 address or an [IPv6 address]")
        })
    }

    fn port(&self, environment: &Environment) -> Result<Option<u16>, Problem> {
        let Some(port) = self.port else { return Ok(None) };
        let port = expand(port, "port", environment)?;
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            // Not repeated: `https://user:pa/ss@host` looks like host `user` and port `pa`.
            return Err(Problem::new(
                "the port is not a number",
                "ports go from 1 to 65535, and in a password `/` is `%2F`, `?` is `%3F`, `#` is `%23`",
            ));
        }
        match port.parse() {
            Ok(0) | Err(_) => Err(Problem::new(format!("port {port} is out of range"), "ports go from 1 to 65535")),
            Ok(port) => Ok(Some(port)),
        }
    }
}

fn cut_scheme(text: &str) -> Result<(&'static Scheme, &str), Problem> {
    let right = "write FORMAT+TRANSPORT://HOST, as in `syslog+tcp://logs.example:514`";
    if text.is_empty() {
        return Err(Problem::new("the URL is empty", right));
    }
    let is_scheme = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    match text.split_once(':') {
        Some((name, rest)) if is_scheme(name) => match schemes::find(name) {
            // `logs.example:514` is a host and a port.
            Err(_) if !rest.starts_with('/') => Err(Problem::new("the scheme is missing", right)),
            found => Ok((found?, rest)),
        },
        _ => Err(Problem::new("the scheme is missing", right)),
    }
}

fn cut_host_port(text: &str) -> Result<(&str, Option<&str>), Problem> {
    let bracket_end = if text.starts_with('[') { text.find(']').map_or(0, |at| at + 1) } else { 0 };
    let (bracketed, rest) = text.split_at(bracket_end);
    let Some((name, port)) = rest.rsplit_once(':') else {
        return Ok((text, None));
    };
    if name.contains(':') {
        return Err(Problem::new(
            "there are several `:` in the host",
            "write an IPv6 address in brackets, as in `[::1]:514`",
        ));
    }
    let host = if bracketed.is_empty() { name } else { &text[..bracket_end + name.len()] };
    Ok((host, Some(port)))
}

/// `text` up to the first `at`, and what is behind it, if there is one.
fn split(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, behind)) => (before, Some(behind)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIABLES: &[(&str, &str)] =
        &[("TOKEN", "a/b?c#d@e:f%zz${X}"), ("HOST", "logs.example"), ("PORT", "6514"), ("EMPTY", "")];

    fn http(text: &str) -> Result<String, String> {
        let environment = Environment::from(VARIABLES);
        let cut = DrainUrl::cut(text).and_then(|url| url.http_url(&environment));
        cut.map(|url| url.to_string()).map_err(|problem| problem.to_string())
    }

    fn tcp(text: &str) -> Result<(String, u16), String> {
        let environment = Environment::from(VARIABLES);
        let cut = DrainUrl::cut(text).and_then(|url| url.host_port(&environment));
        cut.map(|peer| (peer.host, peer.port)).map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_url_that_got_into_a_files_options_is_not_repeated() {
        let complaint = DrainUrl::cut("file:/a.log#name=x://user:s3cret@host").unwrap_err().to_string();
        assert!(
            complaint.starts_with("there is an `@` behind the `#`") && !complaint.contains("s3cret"),
            "{complaint}"
        );
    }

    #[test]
    fn a_files_name_has_no_space_before_its_options_and_one_slash_in_front() {
        let file = |text: &str| DrainUrl::cut(text).map(|url| url.redacted()).map_err(|problem| problem.to_string());
        assert_eq!(file("file:/var/log/app.log #rotate=1MiB").as_deref(), Ok("file:/var/log/app.log"));
        assert_eq!(file("file:/var/log/an app.log").as_deref(), Ok("file:/var/log/an app.log"));
        assert_eq!(file("file:////var/log").as_deref(), Ok("file:/var/log"));
        assert!(file("file:/var/log/ #rotate=1MiB").unwrap_err().contains("the file's name is missing"));
    }

    #[test]
    fn hosts_and_ports_are_read() {
        let peer = |host: &str, port| Ok((host.to_string(), port));
        assert_eq!(tcp("syslog+tcp://logs.example"), peer("logs.example", 514));
        assert_eq!(tcp("  SYSLOG+TCP://Logs.Example:601/ \n"), peer("logs.example", 601));
        assert_eq!(tcp("syslog+tcp://10.0.0.1:1"), peer("10.0.0.1", 1));
        assert_eq!(tcp("syslog+tcp://[::1]:65535"), peer("::1", 65535));
        assert_eq!(tcp("syslog+tcp://[fe80::1]"), peer("fe80::1", 514));
        assert_eq!(tcp("syslog+tcp://my_service:514"), peer("my_service", 514));
        assert_eq!(tcp("syslog+tcp://bücher.example:514"), peer("xn--bcher-kva.example", 514));
        assert_eq!(tcp("syslog+tcp://${HOST}:${PORT}"), peer("logs.example", 6514));
    }

    #[test]
    fn what_a_variable_gives_is_data() {
        assert_eq!(
            http("https://${HOST}/in/${TOKEN}?t=${TOKEN}&u=%20x"),
            Ok("https://logs.example/in/a%2Fb%3Fc%23d%40e%3Af%25zz%24%7BX%7D?t=a%2Fb%3Fc%23d%40e%3Af%25zz%24%7BX%7D&u=%20x".into())
        );
        let environment = Environment::from(VARIABLES);
        let url = DrainUrl::cut("https://me%40x:${TOKEN}@h/").unwrap();
        assert_eq!(url.user(&environment), Ok(Some(("me@x".into(), "a/b?c#d@e:f%zz${X}".into()))));
        assert_eq!(url.redacted(), "https://***@h/");
    }

    #[test]
    fn secrets_are_redacted_and_variables_shown_by_name() {
        let redacted = |text| DrainUrl::cut(text).unwrap().redacted();
        assert_eq!(redacted("https://u:p@h:1/a/${TOKEN}?key=1#bearer=x"), "https://***@h:1/a/${TOKEN}?***");
        assert_eq!(redacted("syslog+tcp://h"), "syslog+tcp://h");
        assert_eq!(redacted("file:/a/b#name=x"), "file:/a/b");
        assert_eq!(DrainUrl::cut("https://u:p@h:1/a?b").unwrap().default_name(), "https://h:1");
    }

    #[test]
    fn files_are_absolute_or_relative() {
        let environment = Environment::from(VARIABLES);
        let file =
            |text| DrainUrl::cut(text).and_then(|url| url.file(&environment)).map(|path| path.display().to_string());
        assert_eq!(file("file:/var/log/a.log"), Ok("/var/log/a.log".into()));
        assert_eq!(file("file:///var/log/a.log"), Ok("/var/log/a.log".into()));
        assert_eq!(file("file:a%23b%20${PORT}"), Ok("a#b 6514".into()));
        assert_eq!(file("ndjson+file:a?b"), Ok("a?b".into()));
    }

    #[test]
    fn a_password_with_a_stray_delimiter_is_not_repeated() {
        for text in [
            "https://u:s3c/ret@h/",
            "https://u:s3c?ret@h/",
            "https://u:s3c#ret@h/",
            "https://u:s3c%ret@h/",
            "https://u:x@s3c/ret@h/",
            "https://s3c/ret@h/",
            "https://s3c?ret@h/",
            "u:s3cret@h",
        ] {
            let environment = Environment::default();
            let complaint = match DrainUrl::cut(text) {
                Err(problem) => problem.to_string(),
                Ok(url) => match url.http_url(&environment).and(url.user(&environment)) {
                    Err(problem) => problem.to_string(),
                    Ok(_) => panic!("{text} is taken"),
                },
            };
            assert!(!complaint.contains("s3c") && !complaint.contains("ret"), "{text}: {complaint}");
        }
    }
}
