//! The closed table of drain URL schemes: adding one is a line here.

use super::problem::{Problem, nearest};
use crate::{
    format::{Format, gelf::Carrier, logplex::Data, otlp, webhook::Preset},
    ledger::Grade,
};

/// How lines become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Ndjson,
    Raw,
    Syslog,
    /// Any other, at its defaults; options may change them.
    Of(Format),
}

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    File,
    Http,
    Https,
    Relp,
    RelpTls,
    Tcp,
    Tls,
    Udp,
    Unix,
}

impl Way {
    /// The best that a line can have while the drain works, and why it is no better.
    pub(crate) fn evidence(self) -> (Grade, &'static str) {
        match self {
            Self::File | Self::Http | Self::Https | Self::Relp | Self::RelpTls => (Grade::Confirmed, ""),
            Self::Tcp | Self::Tls => (
                Grade::Accepted,
                "knows what the peer's kernel took, not what its application did, so its lines are `accepted` until the \
                 connection ends",
            ),
            Self::Udp | Self::Unix => (Grade::Sent, "gets no evidence of arrival, so its lines are `sent` at best"),
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scheme {
    pub(crate) name: &'static str,
    pub(crate) encoding: Encoding,
    pub(crate) way: Way,
    /// None: the URL has to name it (or the URL crate knows it, or there is none).
    pub(crate) default_port: Option<u16>,
    /// A whole URL, for messages.
    pub(crate) example: &'static str,
    /// One line of help; empty for a second name of the same thing.
    pub(crate) help: &'static str,
}

/// Ports: RFC 5426 §3.3 registers 514 for UDP; for plain TCP syslog it is what everyone uses (RFC 6587 §3.2 notes that
/// none is registered), RFC 5425 §4.1 registers 6514 for TLS. RELP has none.
#[rustfmt::skip]
pub(crate) const SCHEMES: &[Scheme] = &[
    Scheme { name: "syslog+tcp",   encoding: Encoding::Syslog, way: Way::Tcp,   default_port: Some(514), example: "syslog+tcp://logs.example:514",         help: "RFC 5424 over TCP" },
    Scheme { name: "syslog+tls",   encoding: Encoding::Syslog, way: Way::Tls,   default_port: Some(6514), example: "syslog+tls://logs.example:6514",       help: "the same over TLS (RFC 5425)" },
    Scheme { name: "relp+tcp",     encoding: Encoding::Syslog, way: Way::Relp,  default_port: None,      example: "relp+tcp://logs.example:2514",          help: "RELP: RFC 5424, each message confirmed" },
    Scheme { name: "relp+tls",     encoding: Encoding::Syslog, way: Way::RelpTls, default_port: None,    example: "relp+tls://logs.example:2514",          help: "" },
    Scheme { name: "syslog+udp",   encoding: Encoding::Syslog, way: Way::Udp,   default_port: Some(514), example: "syslog+udp://logs.example:514",         help: "RFC 5424 datagrams (no acknowledgement)" },
    Scheme { name: "syslog+unix",  encoding: Encoding::Syslog, way: Way::Unix,  default_port: None,      example: "syslog+unix:/dev/log",                  help: "the machine's own syslog" },
    Scheme { name: "https",        encoding: Encoding::Ndjson, way: Way::Https, default_port: None,      example: "https://in.example/ingest",             help: "POST, one JSON object a line" },
    Scheme { name: "http",         encoding: Encoding::Ndjson, way: Way::Http,  default_port: None,      example: "http://in.example/ingest",              help: "" },
    Scheme { name: "ndjson+https", encoding: Encoding::Ndjson, way: Way::Https, default_port: None,      example: "ndjson+https://in.example/",            help: "" },
    Scheme { name: "ndjson+http",  encoding: Encoding::Ndjson, way: Way::Http,  default_port: None,      example: "ndjson+http://in.example/",             help: "" },
    Scheme { name: "ndjson+tcp",   encoding: Encoding::Ndjson, way: Way::Tcp,   default_port: None,      example: "ndjson+tcp://in.example:9000",          help: "the same over TCP" },
    Scheme { name: "ndjson+tls",   encoding: Encoding::Ndjson, way: Way::Tls,   default_port: None,      example: "ndjson+tls://in.example:9443",          help: "" },
    Scheme { name: "file",         encoding: Encoding::Raw,    way: Way::File,  default_port: None,      example: "file:/var/log/app.log",                 help: "the lines as they are, appended" },
    Scheme { name: "ndjson+file",  encoding: Encoding::Ndjson, way: Way::File,  default_port: None,      example: "ndjson+file:/var/log/app.ndjson",       help: "" },
    Scheme { name: "syslog+file",  encoding: Encoding::Syslog, way: Way::File,  default_port: None,      example: "syslog+file:/var/log/app.syslog",       help: "" },
    Scheme { name: "json+https", encoding: Encoding::Of(Format::Webhook(Preset::Array)), way: Way::Https, default_port: None, example: "json+https://in.example/ingest", help: "POST, a JSON array of objects" },
    Scheme { name: "json+http", encoding: Encoding::Of(Format::Webhook(Preset::Array)), way: Way::Http, default_port: None, example: "json+http://in.example/ingest", help: "" },
    Scheme { name: "logplex+https", encoding: Encoding::Of(Format::Logplex(Data::Omit)), way: Way::Https, default_port: None, example: "logplex+https://in.example/logplex", help: "Heroku's log drain protocol" },
    Scheme { name: "logplex+http", encoding: Encoding::Of(Format::Logplex(Data::Omit)), way: Way::Http, default_port: None, example: "logplex+http://in.example/logplex", help: "" },
    Scheme { name: "loki+https", encoding: Encoding::Of(Format::Loki), way: Way::Https, default_port: None, example: "loki+https://loki.example", help: "Grafana Loki push" },
    Scheme { name: "loki+http", encoding: Encoding::Of(Format::Loki), way: Way::Http, default_port: None, example: "loki+http://loki.example", help: "" },
    Scheme { name: "otlp+https", encoding: Encoding::Of(Format::Otlp(otlp::Encoding::Protobuf)), way: Way::Https, default_port: None, example: "otlp+https://collector.example:4318", help: "OpenTelemetry logs" },
    Scheme { name: "otlp+http", encoding: Encoding::Of(Format::Otlp(otlp::Encoding::Protobuf)), way: Way::Http, default_port: None, example: "otlp+http://collector.example:4318", help: "" },
    Scheme { name: "elastic+https", encoding: Encoding::Of(Format::Elastic), way: Way::Https, default_port: None, example: "elastic+https://es.example:9200/logs-shop-prod", help: "Elasticsearch, OpenSearch _bulk" },
    Scheme { name: "elastic+http", encoding: Encoding::Of(Format::Elastic), way: Way::Http, default_port: None, example: "elastic+http://es.example:9200/logs-shop-prod", help: "" },
    Scheme { name: "splunk+https", encoding: Encoding::Of(Format::Splunk), way: Way::Https, default_port: None, example: "splunk+https://splunk.example:8088", help: "Splunk HTTP Event Collector" },
    Scheme { name: "splunk+http", encoding: Encoding::Of(Format::Splunk), way: Way::Http, default_port: None, example: "splunk+http://splunk.example:8088", help: "" },
    Scheme { name: "datadog+https", encoding: Encoding::Of(Format::Datadog), way: Way::Https, default_port: None, example: "datadog+https://http-intake.logs.datadoghq.com", help: "Datadog logs intake v2" },
    Scheme { name: "datadog+http", encoding: Encoding::Of(Format::Datadog), way: Way::Http, default_port: None, example: "datadog+http://http-intake.logs.datadoghq.com", help: "" },
    Scheme { name: "gelf+https", encoding: Encoding::Of(Format::Gelf(Carrier::Single)), way: Way::Https, default_port: None, example: "gelf+https://graylog.example:12201/gelf", help: "Graylog GELF, one message a request" },
    Scheme { name: "gelf+http", encoding: Encoding::Of(Format::Gelf(Carrier::Single)), way: Way::Http, default_port: None, example: "gelf+http://graylog.example:12201/gelf", help: "" },
    Scheme { name: "betterstack+https", encoding: Encoding::Of(Format::Webhook(Preset::BetterStack)), way: Way::Https, default_port: None, example: "betterstack+https://in.logs.betterstack.com", help: "Better Stack (Logtail)" },
    Scheme { name: "betterstack+http", encoding: Encoding::Of(Format::Webhook(Preset::BetterStack)), way: Way::Http, default_port: None, example: "betterstack+http://in.logs.betterstack.com", help: "" },
    Scheme { name: "axiom+https", encoding: Encoding::Of(Format::Webhook(Preset::Axiom)), way: Way::Https, default_port: None, example: "axiom+https://api.axiom.co/v1/datasets/shop/ingest", help: "Axiom" },
    Scheme { name: "axiom+http", encoding: Encoding::Of(Format::Webhook(Preset::Axiom)), way: Way::Http, default_port: None, example: "axiom+http://api.axiom.co/v1/datasets/shop/ingest", help: "" },
    Scheme { name: "newrelic+https", encoding: Encoding::Of(Format::Webhook(Preset::NewRelic)), way: Way::Https, default_port: None, example: "newrelic+https://log-api.newrelic.com", help: "New Relic Log API" },
    Scheme { name: "newrelic+http", encoding: Encoding::Of(Format::Webhook(Preset::NewRelic)), way: Way::Http, default_port: None, example: "newrelic+http://log-api.newrelic.com", help: "" },
    Scheme { name: "victorialogs+https", encoding: Encoding::Of(Format::Webhook(Preset::VictoriaLogs)), way: Way::Https, default_port: None, example: "victorialogs+https://vl.example:9428", help: "VictoriaLogs jsonline" },
    Scheme { name: "victorialogs+http", encoding: Encoding::Of(Format::Webhook(Preset::VictoriaLogs)), way: Way::Http, default_port: None, example: "victorialogs+http://vl.example:9428", help: "" },
    Scheme { name: "gelf+tcp", encoding: Encoding::Of(Format::Gelf(Carrier::Stream)), way: Way::Tcp, default_port: Some(12201), example: "gelf+tcp://graylog.example:12201", help: "Graylog GELF over TCP" },
    Scheme { name: "gelf+tls", encoding: Encoding::Of(Format::Gelf(Carrier::Stream)), way: Way::Tls, default_port: Some(12201), example: "gelf+tls://graylog.example:12201", help: "" },
];

/// Formats and transports that the project means to have, so that their names are not called typing errors.
const LATER: &[&str] = &["forward"];

/// The row of `name`, in any case.
pub(crate) fn find(name: &str) -> Result<&'static Scheme, Problem> {
    let name = name.to_ascii_lowercase();
    if let Some(scheme) = SCHEMES.iter().find(|scheme| scheme.name == name) {
        return Ok(scheme);
    }
    if name.split('+').any(|part| LATER.contains(&part)) {
        return Err(Problem::new(format!("`{name}` is not in this version"), supported()));
    }
    let wrong = format!("unknown scheme `{name}`");
    // `syslog` or `tcp` alone: half of a scheme.
    let halves: Vec<_> = names().filter(|candidate| candidate.split('+').any(|part| part == name)).collect();
    match (nearest(&name, names()), halves.as_slice()) {
        (_, [first, rest @ ..]) => {
            let others: String = rest.iter().map(|other| format!(" or `{other}`")).collect();
            Err(Problem::new(wrong, format!("did you mean `{first}`{others}?")))
        }
        (Some(near), []) => Err(Problem::new(wrong, format!("did you mean `{near}`?"))),
        (None, []) => Err(Problem::new(wrong, supported())),
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    SCHEMES.iter().map(|scheme| scheme.name)
}

/// One name a destination: those that the help shows.
fn supported() -> String {
    let shown = SCHEMES.iter().filter(|scheme| !scheme.help.is_empty()).map(|scheme| scheme.name);
    format!("supported: {}", shown.collect::<Vec<_>>().join(", "))
}

/// A line of help for each scheme that has one.
pub(crate) fn help() -> String {
    let with_help = SCHEMES.iter().filter(|scheme| !scheme.help.is_empty());
    // What a long one is stands below it.
    let row = |scheme: &Scheme| match scheme.example.len() {
        ..=33 => format!("  {:<33} {}", scheme.example, scheme.help),
        _ => format!("  {}\n{:36}{}", scheme.example, "", scheme.help),
    };
    with_help.map(row).collect::<Vec<_>>().join("\n")
}

impl Scheme {
    /// A path stands behind the colon, no host.
    pub(crate) fn is_path(&self) -> bool {
        matches!(self.way, Way::File | Way::Unix)
    }

    pub(crate) fn has_tls(&self) -> bool {
        matches!(self.way, Way::Tls | Way::RelpTls | Way::Https)
    }

    pub(crate) fn is_relp(&self) -> bool {
        matches!(self.way, Way::Relp | Way::RelpTls)
    }

    pub(crate) fn is_http(&self) -> bool {
        matches!(self.way, Way::Http | Way::Https)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_name_and_shown_by_its_example() {
        for scheme in SCHEMES {
            assert_eq!(find(scheme.name), Ok(scheme));
            assert_eq!(find(&scheme.name.to_uppercase()), Ok(scheme));
            assert!(scheme.example.starts_with(&format!("{}:", scheme.name)), "{}", scheme.example);
        }
    }

    #[test]
    fn unknown_names_get_the_best_hint() {
        let hint = |name| find(name).unwrap_err().to_string();
        let supported = supported();
        assert!(supported.starts_with("supported: syslog+tcp, syslog+tls, relp+tcp, syslog+udp, syslog+unix, https,"));
        assert_eq!(hint("syslog+tpc"), "unknown scheme `syslog+tpc`; did you mean `syslog+tcp`?");
        assert_eq!(hint("htps"), "unknown scheme `htps`; did you mean `https`?");
        assert_eq!(
            hint("tcp"),
            "unknown scheme `tcp`; did you mean `syslog+tcp` or `relp+tcp` or `ndjson+tcp` or `gelf+tcp`?"
        );
        assert_eq!(
            hint("syslog"),
            "unknown scheme `syslog`; did you mean `syslog+tcp` or `syslog+tls` or `syslog+udp` or `syslog+unix` or \
             `syslog+file`?"
        );
        assert_eq!(hint("forward+tcp"), format!("`forward+tcp` is not in this version; {supported}"));
        assert_eq!(hint("amqp"), format!("unknown scheme `amqp`; {supported}"));
    }
}
