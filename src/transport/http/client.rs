//! The HTTP client: TLS by rustls and ring, roots of the platform or else compiled in, names by our own resolver.

use crate::{config::HttpTarget, names::Names, transport::tls};
use reqwest::{Client, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use std::{sync::Arc, time::Duration};

/// Time for one connection, TLS included.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Idle connections are given up before most servers do (60 s is usual).
const IDLE_TIME: Duration = Duration::from_secs(50);
/// How long written bytes may stay unacknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(15);

/// A client for one target. Nothing is installed process-wide.
///
/// # Errors
/// In words, if no client can be made: no usable root certificate.
pub(super) fn build(target: &HttpTarget) -> Result<Client, String> {
    let client = Client::builder()
        .tls_backend_preconfigured(config(target)?)
        .dns_resolver(Names)
        .redirect(redirect::Policy::none())
        .http1_only()
        .connect_timeout(CONNECT_TIME.min(target.timeout))
        .pool_idle_timeout(IDLE_TIME)
        .pool_max_idle_per_host(1)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(15))
        .tcp_user_timeout(USER_TIMEOUT)
        .user_agent(concat!("lastword/", env!("CARGO_PKG_VERSION")));
    client.build().map_err(|error| format!("no HTTP client: {}", super::verdict::innermost(&error)))
}

fn config(target: &HttpTarget) -> Result<ClientConfig, String> {
    // Reading the platform's roots takes milliseconds and a megabyte, which plain HTTP need not pay.
    let roots =
        if target.url.scheme() == "https" { tls::roots(target.ca_pem.as_deref())? } else { RootCertStore::empty() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("no TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
