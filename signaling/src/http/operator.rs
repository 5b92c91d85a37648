//! What operators and their tools ask: metrics, health, the list of streams.

use super::problem::Problem;
use super::{App, Peer, Response};
use crate::registry::LiveStream;
use crate::time::{rfc3339, unix_seconds};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use serde::Serialize;
use std::time::Instant;

/// `/metrics`
pub async fn metrics(app: &App) -> Result<Response, Problem> {
    app.media.refresh_stats().await;
    app.counter_offers.sweep(Instant::now());
    let counts = app.media.registry().counts(unix_seconds());
    let text = app.metrics.render(counts, app.media.ready().is_ok()).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("The metrics cannot be written: {error}."))
    })?;
    Ok(typed(text, prometheus::TEXT_FORMAT))
}

/// `/healthz`: this process answers.
pub fn healthz() -> Response {
    typed(b"ok\n".to_vec(), "text/plain")
}

/// `/readyz`: new sessions are taken. Otherwise the detail says what stands in the way.
pub fn readyz(app: &App) -> Result<Response, Problem> {
    app.stays()?;
    app.media.ready()?;
    app.media.registry().takes_sessions()?;
    Ok(typed(b"ready\n".to_vec(), "text/plain"))
}

/// May the request see metrics and names?
pub fn authorize(app: &App, peer: Peer, head: &Parts) -> Result<(), Problem> {
    Ok(app.access.operator(head, peer.remote.ip())?)
}

#[derive(Serialize)]
struct Streams {
    streams: Vec<StreamRow>,
}

#[derive(Serialize)]
struct StreamRow {
    name: String,
    codecs: Vec<String>,
    viewers: usize,
    since: String,
}

impl From<LiveStream> for StreamRow {
    fn from(stream: LiveStream) -> StreamRow {
        StreamRow {
            name: stream.name.to_string(),
            codecs: stream.codecs.iter().map(ToString::to_string).collect(),
            viewers: stream.viewers,
            since: rfc3339(stream.since),
        }
    }
}

/// `/api/v1/streams`: who is live.
pub fn streams(app: &App) -> Response {
    let live = app.media.registry().live_streams(unix_seconds());
    let body = Streams { streams: live.into_iter().map(StreamRow::from).collect() };
    typed(serde_json::to_vec(&body).unwrap_or_default(), "application/json")
}

fn typed(body: Vec<u8>, content_type: &'static str) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
