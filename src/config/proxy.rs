//! Proxies of HTTP drains, from the variables that curl reads.
//!
//! `https_proxy` is for `https:` drains, `http_proxy` for `http:` ones, `all_proxy` for both; each is looked for in small
//! letters first, then in capitals. What `no_proxy` names is reached directly. `HTTP_PROXY` in capitals counts unless
//! `REQUEST_METHOD` is set: in a CGI program a client's header `Proxy:` would end up in it (httpoxy), which is why curl
//! never reads it. An empty variable is an unset one.

use super::{environment::Environment, problem::Problem};
use hyper_util::client::proxy::matcher::Matcher;
use std::fmt;
use url::Url;

const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// The proxy that a drain is reached through.
#[derive(Clone)]
pub struct Proxy {
    /// With its user and password: never shown.
    pub(crate) url: Url,
    /// The variable that named it.
    pub(crate) variable: &'static str,
}

impl Proxy {
    /// The one for `target`, if there is one.
    pub(crate) fn of(target: &Url, environment: &Environment) -> Result<Option<Self>, Problem> {
        let Some((variable, text)) = named(target, environment)? else { return Ok(None) };
        if spared(target, environment)? {
            return Ok(None);
        }
        // As curl has it: without a scheme it is an HTTP proxy.
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        match Url::parse(&whole) {
            Ok(url) if SCHEMES.contains(&url.scheme()) && url.has_host() => Ok(Some(Self { url, variable })),
            // Not repeated: it may hold a password.
            _ => Err(Problem::new(
                format!("the variable {variable} is not the URL of a proxy"),
                "write `http://HOST:PORT` into it, or name the drain's host in NO_PROXY",
            )),
        }
    }
}

/// `HOST:PORT`, without credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port_or_known_default() {
            Some(port) => write!(f, "{host}:{port}"),
            None => f.write_str(host),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// The first variable that is set and fits the target's scheme.
fn named<'a>(target: &Url, environment: &'a Environment) -> Result<Option<(&'static str, &'a str)>, Problem> {
    let own = if target.scheme() == "https" { ["https_proxy", "HTTPS_PROXY"] } else { ["http_proxy", "HTTP_PROXY"] };
    let is_cgi = environment.raw("REQUEST_METHOD").is_some();
    for variable in own.into_iter().chain(["all_proxy", "ALL_PROXY"]) {
        if variable == "HTTP_PROXY" && is_cgi {
            continue;
        }
        let text = environment.text(variable).map_err(|problem| problem.within(&format!("the variable {variable}")))?;
        if let Some(text) = text {
            return Ok(Some((variable, text.trim())));
        }
    }
    Ok(None)
}

/// Whether `no_proxy` names the target: hosts with all below them, addresses, networks, or `*` for all.
fn spared(target: &Url, environment: &Environment) -> Result<bool, Problem> {
    for variable in ["no_proxy", "NO_PROXY"] {
        let text = environment.text(variable).map_err(|problem| problem.within(&format!("the variable {variable}")))?;
        let Some(text) = text else { continue };
        if text.split(',').any(|entry| entry.trim() == "*") {
            return Ok(true);
        }
        let matcher = Matcher::builder().all("http://proxy").no(text).build();
        let origin = target.origin().ascii_serialization();
        return Ok(origin.parse().is_ok_and(|uri| matcher.intercept(&uri).is_none()));
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(target: &str, variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let found = Proxy::of(&target.parse().unwrap(), &Environment::from(variables));
        found.map(|proxy| proxy.map(|proxy| format!("{proxy} {}", proxy.variable))).map_err(|error| error.to_string())
    }

    #[test]
    fn small_letters_come_before_capitals_and_the_own_scheme_before_all() {
        let all = [
            ("https_proxy", "http://a:1"),
            ("HTTPS_PROXY", "http://b:1"),
            ("http_proxy", "c:1"),
            ("HTTP_PROXY", "http://d:1"),
            ("all_proxy", "socks5h://e:1"),
            ("ALL_PROXY", "https://f:1"),
        ];
        let found = |target: &str, from: usize| proxy(target, &all[from..]).unwrap().unwrap();
        assert_eq!(found("https://h", 0), "a:1 https_proxy");
        assert_eq!(found("https://h", 1), "b:1 HTTPS_PROXY");
        assert_eq!(found("https://h", 2), "e:1 all_proxy");
        assert_eq!(found("http://h", 0), "c:1 http_proxy");
        assert_eq!(found("http://h", 3), "d:1 HTTP_PROXY");
        assert_eq!(found("http://h", 5), "f:1 ALL_PROXY");
        assert_eq!(proxy("http://h", &all[..2]), Ok(None));
        assert_eq!(proxy("https://h", &[("HTTPS_PROXY", "")]), Ok(None), "empty is unset");
        assert_eq!(proxy("https://h", &[("HTTPS_PROXY", "https://p")]), Ok(Some("p:443 HTTPS_PROXY".into())));
    }

    #[test]
    fn capitals_are_not_believed_in_a_cgi_program() {
        let cgi = ("REQUEST_METHOD", "POST");
        assert_eq!(proxy("http://h", &[cgi, ("HTTP_PROXY", "http://evil")]), Ok(None));
        assert_eq!(proxy("http://h", &[cgi, ("http_proxy", "http://p")]), Ok(Some("p:80 http_proxy".into())));
    }

    #[test]
    fn what_no_proxy_names_is_reached_directly() {
        let spared = |target: &str, list: &str| {
            let variables = [("ALL_PROXY", "http://p:1"), ("NO_PROXY", list)];
            proxy(target, &variables).unwrap().is_none()
        };
        for (target, list) in [
            ("https://logs.example", "other, .example"),
            ("https://logs.example:444", "logs.example"),
            ("http://10.1.2.3:9", "10.0.0.0/8"),
            ("http://[::1]:9", "::1"),
            ("http://10.1.2.3", "*"),
        ] {
            assert!(spared(target, list), "{target} {list}");
        }
        assert!(!spared("https://catalogs.example", "logs.example"));
        assert!(!spared("https://logs.example", "10.0.0.0/8,other"));
        let both = [("ALL_PROXY", "p:1"), ("no_proxy", "a"), ("NO_PROXY", "h")];
        assert!(proxy("https://h", &both).unwrap().is_some(), "small letters first");
    }

    #[test]
    fn a_bad_one_is_named_by_its_variable_and_not_repeated() {
        for text in ["ftp://u:s3cret@p", "http://u:s3cret@p:x", "http://u:s3cret@"] {
            let complaint = proxy("https://h", &[("HTTPS_PROXY", text)]).unwrap_err();
            assert!(complaint.starts_with("the variable HTTPS_PROXY is not the URL of a proxy; write"), "{complaint}");
            assert!(!complaint.contains("s3cret"), "{complaint}");
        }
        let found = Proxy::of(&"https://h".parse().unwrap(), &Environment::from(&[("ALL_PROXY", "u:s3cret@p:1")][..]));
        let found = found.unwrap().unwrap();
        assert_eq!(format!("{found} {found:?}"), "p:1 Proxy(p:1)");
        assert_eq!(found.url.password(), Some("s3cret"));
    }
}
