//! HTTP: any path takes lines of NDJSON, or of plain text, in the body of a POST or PUT.

use super::{Event, Received, Source, server::Hand};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use tokio::net::TcpStream;

/// Longest request body that is taken; more is answered with 413.
const BODY_MAX: usize = 64 << 20;

/// Answers the requests of one connection.
pub(super) async fn serve<F: FnMut(Event)>(stream: TcpStream, mut hand: Hand<F>) {
    let answering = hand.clone();
    let service = service_fn(move |request| {
        let hand = answering.clone();
        async move { Ok::<_, Infallible>(answer(request, &hand).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = hand.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result.as_ref().map_err(|error| error.to_string()) {
        hand.trouble(format!("http: {error}"));
    }
}

/// 204: every line of the body was handed over.
async fn answer<F: FnMut(Event)>(request: Request<Incoming>, hand: &Hand<F>) -> Response<Empty<Bytes>> {
    let status = match request.method() {
        &Method::POST | &Method::PUT => take_body(request, hand).await,
        &Method::GET | &Method::HEAD => StatusCode::OK,
        _ => StatusCode::METHOD_NOT_ALLOWED,
    };
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    response
}

async fn take_body<F: FnMut(Event)>(request: Request<Incoming>, hand: &Hand<F>) -> StatusCode {
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        hand.trouble("http: a compressed body was refused".into());
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    match Limited::new(request.into_body(), BODY_MAX).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            lines.for_each(|line| hand.line(Received::from_json_line(Source::Http, line)));
            StatusCode::NO_CONTENT
        }
        Err(error) if error.is::<LengthLimitError>() => StatusCode::PAYLOAD_TOO_LARGE,
        Err(error) => {
            hand.trouble(format!("http: a body broke off: {error}"));
            StatusCode::BAD_REQUEST
        }
    }
}
