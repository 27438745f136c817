//! `--metrics ADDRESS`: what can be asked while it runs.
//!
//! - `/metrics`: the accounts for Prometheus (OpenMetrics text);
//! - `/status`: the same and more, as JSON;
//! - `/healthz`: 200 as long as the process lives; a drain that is down is no reason to restart the app.
//!
//! A thread of its own answers, one connection after another is no burden to it, and it is never waited for. Nothing that
//! it says has a credential in it.

mod text;

use crate::{
    clock,
    drain::{DrainStatus, Drains},
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// Connections at a time; more wait.
const CONNECTIONS: usize = 16;
/// Time for a connection, which is one request: whoever does not send its head or read its answer is not waited for, so
/// that sixteen of those don't keep a health check from being answered.
const CONNECTION_TIME: Duration = Duration::from_secs(5);

/// What is asked about.
#[derive(Clone, Debug)]
struct Source {
    drains: Drains,
    run: String,
    begun: Instant,
}

/// The answer to `/status`.
#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    run: String,
    uptime_ms: u64,
    drains: Vec<DrainStatus>,
}

/// An address that is bound and not served yet.
#[derive(Debug)]
pub struct Metrics {
    listener: TcpListener,
}

impl Metrics {
    /// Binds the address, so that one that is in use is known before anything starts.
    ///
    /// # Errors
    /// If it cannot be bound; the address is named.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("--metrics {address}: {error}"));
        let listener = TcpListener::bind(address).map_err(named)?;
        listener.set_nonblocking(true).map_err(named)?;
        Ok(Self { listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers from a thread of its own, for as long as the process lives. `run` names the run.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn serve(self, drains: Drains, run: String) -> io::Result<()> {
        let source = Source { drains, run, begun: clock::now() };
        thread::Builder::new().name("metrics".into()).spawn(move || {
            let served = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .and_then(|runtime| runtime.block_on(accept(self.listener, source)));
            if let Err(error) = served {
                tracing::warn!(%error, "no metrics any more");
            }
        })?;
        Ok(())
    }
}

async fn accept(listener: TcpListener, source: Source) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, or a client that left: others may follow.
                tracing::debug!(%error, "metrics: accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let source = source.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(source.answer(&request))));
            // The time limit of the whole is enough; hyper's own, of heads, would want a timer.
            let connection = http1::Builder::new()
                .keep_alive(false)
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(CONNECTION_TIME, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "metrics"),
                Err(late) => tracing::debug!(%late, "metrics"),
            }
            drop(permit);
        });
    }
}

impl Source {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET or HEAD\n".into());
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => {
                let text = text::render(&self.drains.statuses(), &self.run);
                response(StatusCode::OK, text::CONTENT_TYPE, text)
            }
            "/status" => {
                let status = Status {
                    version: env!("CARGO_PKG_VERSION"),
                    run: self.run.clone(),
                    uptime_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                    drains: self.drains.statuses(),
                };
                // Strings and numbers alone: nothing in it can fail.
                let text = serde_json::to_string_pretty(&status).unwrap_or_default() + "\n";
                response(StatusCode::OK, "application/json", text)
            }
            "/healthz" => response(StatusCode::OK, "text/plain", "ok\n".into()),
            _ => response(StatusCode::NOT_FOUND, "text/plain", "/metrics, /status or /healthz\n".into()),
        }
    }
}

fn response(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}
