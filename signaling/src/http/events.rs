//! Server-sent events about a stream, for those who watch it (draft-ietf-wish-whep-02 core extensions; the format is that
//! of the HTML standard, "Server-sent events").
//!
//! A POST makes an event stream, GETs of its URL read it, one at a time. Events are **named**, as the draft has it, so an
//! `EventSource` gets them by `addEventListener('active', …)` and not by `onmessage`. whip-whep 1.2.0 has `onmessage` alone
//! and dispatches the event object again while it is being dispatched, which browsers refuse (DOM standard,
//! `dispatchEvent`): unnamed copies would reach nobody and throw in its pages. Listeners on its `eventSource` work.

use super::body::Body;
use super::limits::read_text;
use super::narrator::{self, Narrator, PRELUDE};
use super::offer::{ACCEPT_POST, base, internal, is_content_type, location, random_bytes};
use super::problem::Problem;
use super::{App, Peer, Response, empty};
use crate::media::CreateFailure;
use crate::registry::{EventKind, EventSet, EventsId, ListenError, SubscribeError, UrlId};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use std::sync::Arc;
use tokio::sync::mpsc;

const METHODS: &str = "OPTIONS, POST";
const STREAM_METHODS: &str = "OPTIONS, GET, DELETE";
const EVENT_STREAM: &str = "text/event-stream";
/// nginx holds answers back until they are whole, unless told not to.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// What a browser that comes back to a broken stream sends.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Texts on their way to the connection: one that is written, one that waits.
const PARTS_AHEAD: usize = 2;
/// The type of what the extensions take.
pub const JSON: &str = "application/json";

/// The Link headers of a viewer's 201: the extensions and where they are, for the session at `session` with video or without.
pub fn links(session: &str, video: bool) -> Vec<String> {
    let extension =
        |path: &str, name: &str| format!("<{session}/{path}>; rel=\"urn:ietf:params:whep:ext:core:{name}\"");
    let names: Vec<&str> = EventKind::ALL.into_iter().map(EventKind::name).collect();
    let events = format!("{}; events=\"{}\"", extension("sse", "server-sent-events"), names.join(","));
    [Some(events), video.then(|| extension("layer", "layer"))].into_iter().flatten().collect()
}

/// The answer to any OPTIONS of an extension.
pub fn options() -> Response {
    let mut response = empty(StatusCode::OK);
    response.headers_mut().insert(ACCEPT_POST, HeaderValue::from_static(JSON));
    response
}

/// Any request to `/session/{id}/sse`.
pub async fn entry(
    app: &App,
    peer: Peer,
    url: Option<UrlId>,
    request: Request<Incoming>,
) -> Result<Response, Problem> {
    match *request.method() {
        Method::OPTIONS => return Ok(options()),
        Method::POST => {}
        ref other => return Err(Problem::method(other, METHODS)),
    }
    let url = url.ok_or(SubscribeError::NoSession)?;
    let (head, body) = request.into_parts();
    let body = read_text(&head.headers, body, app.config.limits).await?;
    let wanted = if body.trim().is_empty() { EventSet::ALL } else { wanted(&head, &body)? };
    let id = EventsId { wanted, secret: UrlId(random_bytes()?) };
    app.media.registry().subscribe(url, id)?;
    let mut response = empty(StatusCode::CREATED);
    let place = format!("{}/sse/{id}", location(app, peer, &head, url));
    response.headers_mut().insert(LOCATION, HeaderValue::try_from(place).map_err(|_| internal())?);
    Ok(response)
}

/// The kinds that the body asks for.
fn wanted(head: &Parts, body: &str) -> Result<EventSet, Problem> {
    if !is_content_type(&head.headers, JSON) {
        let detail = "The body must be a JSON array of event names with Content-Type: application/json.";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let names: Vec<String> = serde_json::from_str(body).map_err(|_| {
        bad("The body is no JSON array of event names, such as [\"active\",\"inactive\"].".to_owned())
    })?;
    if names.is_empty() {
        return Err(bad("The array names no event. Send no body for all events.".to_owned()));
    }
    let kind = |name: &String| EventKind::parse(name).ok_or_else(|| bad(unknown_event(name)));
    names.iter().map(kind).collect()
}

fn unknown_event(name: &str) -> String {
    let known: Vec<&str> = EventKind::ALL.into_iter().map(EventKind::name).collect();
    let shown: String = name.chars().take(32).collect();
    format!("There is no event {shown:?} here. There are: {}.", known.join(", "))
}

/// Any request to `/session/{id}/sse/{stream}`.
pub fn stream(
    app: &App,
    peer: Peer,
    url: Option<UrlId>,
    id: Option<EventsId>,
    request: Request<Incoming>,
) -> Result<Response, Problem> {
    let gone = || Problem::from(ListenError::NoStream);
    match *request.method() {
        Method::OPTIONS => Ok(options()),
        Method::GET => read(app, peer, url.zip(id).ok_or_else(gone)?, &request.into_parts().0),
        Method::DELETE => {
            let (url, id) = url.zip(id).ok_or_else(gone)?;
            let found = app.media.registry().unsubscribe(url, id);
            if found { Ok(empty(StatusCode::OK)) } else { Err(gone()) }
        }
        ref other => Err(Problem::method(other, STREAM_METHODS)),
    }
}

fn read(app: &App, peer: Peer, (url, id): (UrlId, EventsId), head: &Parts) -> Result<Response, Problem> {
    let Ok(place) = Arc::clone(&app.events).try_acquire_owned() else {
        let detail = "The server has as many event streams as its --http-connections allow. The video goes on without.";
        return Err(Problem::unavailable(detail));
    };
    let listening = app.media.registry().listen(url, id);
    // While media is away nobody knows which sessions live. A browser comes back to a stream that ends, not to an error.
    let away = || matches!(app.media.ready(), Err(CreateFailure::Unavailable));
    let (listening, reader) = match listening {
        Err(ListenError::NoStream) if away() => return Ok(event_stream(PRELUDE.to_owned().into())),
        listening => listening?,
    };
    let endpoint = base(app, peer, head).map(|base| format!("{base}/{}/whep", listening.name));
    let narrator = Narrator::new(id.wanted, &listening, head.headers.contains_key(LAST_EVENT_ID));
    let (sender, parts) = mpsc::channel(PARTS_AHEAD);
    let farewell = app.ends_sessions.then(|| narrator.farewell(endpoint)).flatten();
    let telling =
        narrator::narrate(narrator, listening, sender, app.leaving.clone(), farewell, app.metrics.clone());
    tokio::spawn(telling);
    Ok(event_stream(Body::events(parts, (place, reader))))
}

fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

impl From<SubscribeError> for Problem {
    fn from(error: SubscribeError) -> Problem {
        let status = match error {
            SubscribeError::NoSession => StatusCode::NOT_FOUND,
            SubscribeError::TooMany => StatusCode::TOO_MANY_REQUESTS,
        };
        Problem::new(status, error.to_string())
    }
}

impl From<ListenError> for Problem {
    fn from(error: ListenError) -> Problem {
        match error {
            ListenError::NoStream => Problem::not_found(error.to_string()),
            ListenError::TooMany => Problem::too_many(error.to_string()),
        }
    }
}
