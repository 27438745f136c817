//! The HTTP client: TLS by rustls and ring, names by our own resolver, proxies that the configuration found.
//!
//! HTTP/2 where the server agrees to it in the TLS handshake (ALPN), HTTP/1.1 everywhere else; one connection either way.
//! There are no HTTP/2 pings: a dead peer is noticed by TCP (keepalive, unacknowledged bytes), a hung one by the
//! request's own time limit, and servers may take pings for an attack.

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
/// What an HTTP/2 server may send of an answer before it is read: they are short, and what is too long is not read.
const ANSWER_WINDOW: u32 = 128 << 10;

/// The client of one drain. Nothing is installed process-wide.
#[derive(Debug, Default)]
pub(super) struct Dialer {
    client: Option<Client>,
    /// Outlives the client: reading the platform's roots takes milliseconds and a megabyte.
    tls: Option<ClientConfig>,
    /// The server asked for HTTP/1.1.
    old: bool,
}

impl Dialer {
    /// A client with the connection of the last request, if that was in order.
    ///
    /// # Errors
    /// In words: no usable root or client certificate.
    pub(super) fn client(&mut self, target: &HttpTarget) -> Result<Client, String> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let mut tls = match &self.tls {
            Some(tls) => tls.clone(),
            None => self.tls.insert(config(target)?).clone(),
        };
        // TLS under a plain `http:` is that of a proxy.
        let old = self.old || target.url.scheme() == "http";
        let versions: &[&[u8]] = if old { &[b"http/1.1"] } else { &[b"h2", b"http/1.1"] };
        tls.alpn_protocols = versions.iter().map(|version| version.to_vec()).collect();
        let client = self.client.insert(build(target, tls, old)?);
        Ok(client.clone())
    }

    /// The next request goes over a fresh connection: nothing is known to be well with this one.
    pub(super) fn hang_up(&mut self) {
        self.client = None;
    }

    /// The same, and files of certificates are read again: they may have been rotated.
    pub(super) fn forget(&mut self) {
        (self.client, self.tls) = (None, None);
    }

    /// From now on HTTP/1.1 alone. False if that is how it was.
    pub(super) fn step_down(&mut self) -> bool {
        self.hang_up();
        !std::mem::replace(&mut self.old, true)
    }
}

fn build(target: &HttpTarget, tls: ClientConfig, old: bool) -> Result<Client, String> {
    let mut client = Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Names)
        .redirect(redirect::Policy::none())
        .http2_initial_stream_window_size(ANSWER_WINDOW)
        .http2_initial_connection_window_size(ANSWER_WINDOW)
        .connect_timeout(target.timeout.map_or(CONNECT_TIME, |timeout| timeout.min(CONNECT_TIME)))
        .pool_idle_timeout(IDLE_TIME)
        .pool_max_idle_per_host(1)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(15))
        .tcp_user_timeout(USER_TIMEOUT)
        .user_agent(concat!("lastword/", env!("CARGO_PKG_VERSION")))
        // The configuration has read the variables, as curl does.
        .no_proxy();
    if old {
        client = client.http1_only();
    }
    let proxy = target.proxy.as_ref().map(|proxy| reqwest::Proxy::all(proxy.url.clone())).transpose();
    match proxy {
        Ok(Some(proxy)) => client = client.proxy(proxy),
        Ok(None) => {}
        Err(error) => return Err(format!("no such proxy: {}", super::verdict::innermost(&error))),
    }
    client.build().map_err(|error| format!("no HTTP client: {}", super::verdict::innermost(&error)))
}

/// Without roots where nothing is encrypted.
fn config(target: &HttpTarget) -> Result<ClientConfig, String> {
    let by_proxy = target.proxy.as_ref().is_some_and(|proxy| proxy.url.scheme() == "https");
    if target.url.scheme() == "https" || by_proxy {
        let host = target.url.host_str().unwrap_or_default();
        return tls::client_config(&target.tls, host).map(Arc::unwrap_or_clone);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("no TLS: {error}"))?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}
