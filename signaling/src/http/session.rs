//! Session URLs. Whoever knows one may end the session, so no token is asked for.

use super::counter_offer;
use super::offer::options;
use super::patch::patch;
use super::problem::Problem;
use super::{App, Peer, Response, empty};
use crate::media::CreateFailure;
use crate::registry::{Session, UrlId};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use sfu::core::plan::Role;

const METHODS: &str = "OPTIONS, GET, HEAD, PATCH, DELETE";

/// Any request to a session URL. Also says whose protocol it is, as far as one can know.
pub async fn session(
    app: &App,
    peer: Peer,
    url: Option<UrlId>,
    request: Request<Incoming>,
) -> (Role, Result<Response, Problem>) {
    let request = match counter_offer::pending(app, url, request).await {
        Ok(answered) => return (Role::Viewer, answered),
        Err(request) => request,
    };
    if *request.method() == Method::DELETE
        && let Some(role) = url.and_then(|url| app.media.end(url))
    {
        return (role, Ok(ended()));
    }
    let session = url.and_then(|url| app.media.registry().session(url).cloned());
    let role = session.as_ref().map_or(Role::Publisher, |session| session.role);
    (role, answer(app, peer, session, request).await)
}

async fn answer(
    app: &App,
    peer: Peer,
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
        Method::PATCH => patch(app, peer, session.blob.url, request).await,
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
fn ended() -> Response {
    let mut response = Response::new(Bytes::from_static(b"The session has ended.\n").into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
