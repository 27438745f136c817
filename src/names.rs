//! Names to addresses, for all transports: a static binary cannot load glibc's NSS modules, so hickory asks instead.
//!
//! In order: literal addresses, `localhost` (RFC 6761 section 6.3), `/etc/hosts`, DNS as `/etc/resolv.conf` says. The
//! files are read at each lookup, which happens once a connection: a change takes effect without a restart, and a
//! container without resolv.conf still reaches addresses and hosts entries. Nothing is cached beyond one lookup.

use hickory_resolver::{
    TokioResolver,
    config::LookupIpStrategy,
    net::{DnsError, NetError},
    proto::op::ResponseCode,
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Where names come from before DNS is asked.
const HOSTS: &str = "/etc/hosts";

/// All addresses of `host`, IPv4 first; at least one.
///
/// # Errors
/// In words fit for "cannot resolve HOST: …".
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses = match without_dns(host) {
        Some(addresses) => addresses,
        None => ask(host).await?,
    };
    Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

/// The same as reqwest wants it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names;

impl reqwest::dns::Resolve for Names {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            let addresses = lookup(name.as_str(), 0).await?;
            let addresses: reqwest::dns::Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

fn without_dns(host: &str) -> Option<Vec<IpAddr>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse() {
        return Some(vec![address]);
    }
    let hosts = std::fs::read(HOSTS).unwrap_or_default();
    let name = host.trim_end_matches('.');
    let mut found = in_hosts(&hosts, name);
    let local = name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost");
    if found.is_empty() && local {
        found = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    }
    (!found.is_empty()).then_some(found)
}

/// hosts(5): an address and its names on each line, `#` to the end is a comment, in whatever encoding.
fn in_hosts(hosts: &[u8], name: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for line in String::from_utf8_lossy(hosts).lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

async fn ask(host: &str) -> io::Result<Vec<IpAddr>> {
    let resolver = resolver().map_err(|error| io::Error::other(format!("no usable /etc/resolv.conf ({error})")))?;
    let answer = resolver.lookup_ip(host).await.map_err(|error| io::Error::other(in_words(&error)))?;
    let mut addresses: Vec<_> = answer.iter().collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    if addresses.is_empty() { Err(io::Error::other("it has no address")) } else { Ok(addresses) }
}

/// hickory's words for a name without addresses show the innards of its query, and not which of these it is.
fn in_words(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(found)) => match found.response_code {
            ResponseCode::NXDomain => "DNS: there is no such name".into(),
            ResponseCode::NoError => "DNS: the name has no address".into(),
            code => format!("DNS error: {code}"),
        },
        _ => error.to_string(),
    }
}

fn resolver() -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = 0;
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::{net::NoRecords, proto::op::Query};

    #[test]
    fn a_name_that_does_not_exist_is_told_from_one_without_addresses_and_neither_shows_the_query() {
        let text = |code| in_words(&NetError::Dns(DnsError::NoRecordsFound(NoRecords::new(Query::default(), code))));
        assert_eq!(text(ResponseCode::NXDomain), "DNS: there is no such name");
        assert_eq!(text(ResponseCode::NoError), "DNS: the name has no address");
        assert_eq!(text(ResponseCode::ServFail), "DNS error: Server Failure");
    }

    #[tokio::test]
    async fn literals_and_localhost_need_no_files_and_no_dns() {
        for (host, first) in [("127.0.0.9", "127.0.0.9:7"), ("::1", "[::1]:7"), ("[::1]", "[::1]:7")] {
            assert_eq!(lookup(host, 7).await.unwrap(), [first.parse().unwrap()], "{host}");
        }
        for host in ["localhost", "LOCALHOST.", "api.localhost"] {
            assert!(lookup(host, 7).await.unwrap().iter().all(|address| address.ip().is_loopback()), "{host}");
        }
    }

    #[test]
    fn hosts_entries_are_found_by_any_of_their_names() {
        // A comment in Latin-1 hid all entries.
        let hosts =
            b"# caf\xe9\n127.0.0.1 localhost\n::1 db.example\n10.0.0.7\tdb DB.example # main\nbad db\n10.0.0.7 db\n";
        let expect: [IpAddr; 2] = ["10.0.0.7".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(in_hosts(hosts, "db.EXAMPLE"), expect);
        assert_eq!(in_hosts(hosts, "db"), expect[..1]);
        assert!(in_hosts(hosts, "main").is_empty());
    }
}
