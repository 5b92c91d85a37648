//! Session URLs. Whoever knows one may end the session, so no token is asked for.

use super::counter_offer;
use super::fragment;
use super::limits::read_text;
use super::offer::{ACCEPT_PATCH, FRAGMENT, is_content_type, options};
use super::problem::Problem;
use super::{App, Response, empty};
use crate::media::CreateFailure;
use crate::registry::{Session, UrlId};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, IF_MATCH};
use hyper::{HeaderMap, Method, Request, StatusCode};
use sfu::core::plan::Role;

const METHODS: &str = "OPTIONS, GET, HEAD, PATCH, DELETE";

/// Any request to a session URL. Also says whose protocol it is, as far as one can know.
pub async fn session(
    app: &App,
    url: Option<UrlId>,
    request: Request<Incoming>,
) -> (Role, Result<Response, Problem>) {
    let request = match counter_offer::pending(app, url, request).await {
        Ok(answered) => return (Role::Viewer, answered),
        Err(request) => request,
    };
    let session = url.and_then(|url| app.media.registry().session(url).cloned());
    let role = session.as_ref().map_or(Role::Publisher, |session| session.role);
    (role, answer(app, session, request).await)
}

async fn answer(
    app: &App,
    session: Option<Session>,
    request: Request<Incoming>,
) -> Result<Response, Problem> {
    match *request.method() {
        Method::OPTIONS => return Ok(options()),
        Method::GET | Method::HEAD | Method::DELETE | Method::PATCH => {}
        ref other => return Err(Problem::method(other, METHODS)),
    }
    let session = session.ok_or_else(|| unknown(app))?;
    match *request.method() {
        Method::DELETE => delete(app, session.blob.url),
        Method::PATCH => patch(app, &session, request).await,
        _ => Ok(empty(StatusCode::NO_CONTENT)),
    }
}

/// While media is away nobody knows which sessions live; they may come back with it.
fn unknown(app: &App) -> Problem {
    if let Err(away @ CreateFailure::Unavailable) = app.media.ready() {
        return away.into();
    }
    let detail = "There is no such session; it may have ended. POST an offer to the endpoint for a new one.";
    Problem::not_found(detail)
}

/// 200 because OBS takes nothing else for a success, and a body because ffmpeg logs an error without one.
fn delete(app: &App, url: UrlId) -> Result<Response, Problem> {
    if !app.media.end(url) {
        return Err(Problem::not_found("The session has ended already."));
    }
    let mut response = Response::new(Bytes::from_static(b"The session has ended.\n").into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// Trickled candidates are taken and not needed; an ICE restart is refused (RFC 9725 §4.3.1).
async fn patch(app: &App, session: &Session, request: Request<Incoming>) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    if !is_content_type(&head.headers, FRAGMENT) {
        let detail = "A PATCH here has Content-Type: application/trickle-ice-sdpfrag.";
        let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
        return Err(problem.with(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT)));
    }
    let body = read_text(body, app.config.limits).await?;
    let ufrags = fragment::ice_ufrags(&body)
        .map_err(|malformed| Problem::new(StatusCode::BAD_REQUEST, malformed.to_string()))?;
    if ufrags.iter().any(|ufrag| *ufrag != session.remote_ufrag) {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "ICE restarts are not supported. Go on with this session, or DELETE it and POST a new offer.",
        ));
    }
    if !matches_etag(&head.headers, &session.blob.etag()) {
        let detail = "If-Match names another ICE session. Use the ETag of the 201, or *.";
        return Err(Problem::new(StatusCode::PRECONDITION_FAILED, detail));
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

/// A missing If-Match is forgiven: whip-whep's player and @eyevinn/whip-web-client never send it, and RFC 9725 asks
/// for it only where ICE restarts are supported.
fn matches_etag(headers: &HeaderMap, etag: &str) -> bool {
    let mut tags = headers.get_all(IF_MATCH).iter().peekable();
    let matches = |tag: &str| tag == etag || tag == "*" || tag == "\"*\"";
    tags.peek().is_none()
        || tags.any(|value| value.to_str().is_ok_and(|list| list.split(',').map(str::trim).any(matches)))
}
