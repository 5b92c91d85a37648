//! HTTP: from a request to its answer.

mod body;
mod condition;
mod cors;
mod counter_offer;
mod events;
mod fragment;
mod ice_servers;
mod layer;
pub mod limits;
mod narrator;
mod offer;
mod operator;
mod patch;
mod problem;
mod router;
pub mod server;
mod session;
mod source;
pub mod tls;
mod waiting_offers;

use crate::auth::{Access, open};
use crate::config::Config;
use crate::media::Media;
use crate::metrics::Metrics;
use crate::pages::{self, Asset};
use crate::shutdown::Shutdown;
use body::Body;
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Method, Request, StatusCode};
pub use ice_servers::ToldServers;
use problem::Problem;
use router::{NoRoute, Route};
use sfu::core::plan::Role;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;
pub use waiting_offers::CounterOffers;

/// An answer.
pub type Response = hyper::Response<Body>;

/// What every handler may use.
pub struct App {
    /// The configuration.
    pub config: Config,
    /// The doorkeeper.
    pub access: Access,
    /// The media process and the registry of its sessions.
    pub media: Media,
    /// Told to clients.
    pub ice_servers: ToldServers,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Offers of ours that wait for their answers.
    pub counter_offers: CounterOffers,
    /// Places of event streams, [`limits::event_streams_max`] in all.
    pub events: Arc<Semaphore>,
    /// Over once this process is about to end.
    pub leaving: Shutdown,
    /// The sessions end with this process, because their media process does.
    pub ends_sessions: bool,
}

impl App {
    /// New sessions are still worth their while.
    ///
    /// # Errors
    /// This process is about to end. Its successor is there in a moment.
    pub fn stays(&self) -> Result<(), Problem> {
        if !self.leaving.is_over() {
            return Ok(());
        }
        let problem = Problem::unavailable("The server is shutting down. Try again in a moment.");
        Err(problem.with(RETRY_AFTER, HeaderValue::from_static("1")))
    }
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The client, or the last proxy before us.
    pub remote: SocketAddr,
    /// The address of ours that it reached.
    pub local: SocketAddr,
    /// Through TLS.
    pub tls: bool,
}

/// Which questions a listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// All.
    Everyone,
    /// Metrics and health, without a token: the listener is the operators' own.
    Operators,
}

/// Answers one request and counts it.
pub async fn handle(app: &App, peer: Peer, audience: Audience, request: Request<Incoming>) -> Response {
    let is_head = request.method() == Method::HEAD;
    let (label, mut response) = match Route::find(request.uri().path()) {
        _ if !open::names_its_host(&request) => ("other", no_host().into_response()),
        Ok(route) => (route.label(), dispatch(app, peer, audience, route, request).await),
        Err(nothing) if audience == Audience::Everyone => ("other", nothing_here(nothing, request.headers())),
        Err(nothing) => ("other", Problem::from(nothing).into_response()),
    };
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    app.metrics.http_request(label, response.status().as_u16());
    if is_head { without_body(response) } else { response }
}

/// People read a page, programs a problem.
fn nothing_here(nothing: NoRoute, headers: &HeaderMap) -> Response {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let is_browser =
        accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/html"));
    // The words are those of the enum, without a mark of HTML.
    let html = String::from_utf8_lossy(pages::NOTHING.bytes).replace("{why}", &nothing.to_string());
    let mut response = Problem::from(nothing).into_response();
    if is_browser {
        *response.body_mut() = html.into();
        response.headers_mut().remove(CONTENT_TYPE);
        add(
            response.headers_mut(),
            &[(CONTENT_TYPE, pages::NOTHING.content_type), (CACHE_CONTROL, "no-cache")],
        );
        add(response.headers_mut(), &PAGE_HEADERS);
    }
    add(response.headers_mut(), &[(VARY, "Accept")]);
    response
}

impl From<NoRoute> for Problem {
    fn from(nothing: NoRoute) -> Problem {
        match nothing {
            NoRoute::Unknown => Problem::not_found(nothing.to_string()),
            NoRoute::Name(error) => Problem::from(error),
        }
    }
}

fn no_host() -> Problem {
    let detail = "An HTTP/1.1 request has one Host header, which names the server (RFC 9112 §3.2).";
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

/// The answer to a HEAD tells the length of the body and has none (RFC 9110 §9.3.2). hyper sees to that in HTTP/1 only.
fn without_body(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let length = body.size_hint().exact().filter(|length| *length > 0).map(HeaderValue::from);
    if let Some(length) = length {
        head.headers.insert(CONTENT_LENGTH, length);
    }
    Response::from_parts(head, Body::default())
}

async fn dispatch(
    app: &App,
    peer: Peer,
    audience: Audience,
    route: Route,
    request: Request<Incoming>,
) -> Response {
    if audience == Audience::Operators && !matches!(route, Route::Metrics | Route::Healthz | Route::Readyz) {
        return Problem::not_found("This listener has /metrics, /healthz and /readyz alone.").into_response();
    }
    match route {
        Route::Endpoint(role, name) => {
            let result = offer::endpoint(app, peer, role, name, request).await;
            with_cors(result, role)
        }
        Route::Session(url) => {
            let (role, result) = session::session(app, peer, url, request).await;
            with_cors(result, role)
        }
        Route::Events(url) => with_cors(events::entry(app, peer, url, request).await, Role::Viewer),
        Route::EventStream(url, id) => with_cors(events::stream(app, peer, url, id, request), Role::Viewer),
        Route::Layer(url) => with_cors(layer::layer(app, url, request).await, Role::Viewer),
        route => readable(app, peer, audience, route, request).await.unwrap_or_else(Problem::into_response),
    }
}

fn with_cors(result: Result<Response, Problem>, role: Role) -> Response {
    let mut response = result.unwrap_or_else(Problem::into_response);
    cors::apply(response.headers_mut(), role);
    response
}

/// Everything that can only be read.
async fn readable(
    app: &App,
    peer: Peer,
    audience: Audience,
    route: Route,
    request: Request<Incoming>,
) -> Result<Response, Problem> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Problem::method(request.method(), "GET, HEAD"));
    }
    let (head, _) = request.into_parts();
    if matches!(route, Route::Metrics | Route::Streams) && audience == Audience::Everyone {
        operator::authorize(app, peer, &head)?;
    }
    match route {
        Route::Index => Ok(page(&pages::INDEX)),
        Route::Publish => Ok(page(&pages::PUBLISH)),
        Route::Watch => Ok(page(&pages::WATCH)),
        Route::Client(asset) => Ok(client(asset)),
        Route::Streams => Ok(operator::streams(app)),
        Route::Metrics => operator::metrics(app).await,
        Route::Healthz => Ok(operator::healthz()),
        Route::Readyz => operator::readyz(app),
        Route::Endpoint(..)
        | Route::Session(_)
        | Route::Events(_)
        | Route::EventStream(..)
        | Route::Layer(_) => Err(Problem::not_found(NoRoute::Unknown.to_string())),
    }
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

/// A page may load and talk to this server alone, and no other site may frame it: a click that starts a camera must be
/// the person's own.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const PAGE_HEADERS: [(HeaderName, &str); 4] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (HeaderName::from_static("x-frame-options"), "DENY"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(self), microphone=(self), display-capture=(self), geolocation=()",
    ),
];

fn page(asset: &Asset) -> Response {
    let mut response = file(asset);
    add(response.headers_mut(), &PAGE_HEADERS);
    response
}

/// The browser library may be imported by pages of other origins.
fn client(asset: &Asset) -> Response {
    let mut response = file(asset);
    let shared = [
        (HeaderName::from_static("access-control-allow-origin"), "*"),
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ];
    add(response.headers_mut(), &shared);
    response
}

fn file(asset: &Asset) -> Response {
    let mut response = Response::new(Bytes::from_static(asset.bytes).into());
    // A new version must reach the browser at once; the files are small.
    add(response.headers_mut(), &[(CONTENT_TYPE, asset.content_type), (CACHE_CONTROL, "no-cache")]);
    response
}

fn add(headers: &mut HeaderMap, more: &[(HeaderName, &'static str)]) {
    headers.extend(more.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))));
}

/// Reads a text as the body of a PATCH, for the fuzz target of that name.
#[cfg(fuzzing)]
pub fn fuzz_fragment(text: &str) {
    use sfu::core::plan::are_ice_credentials;
    if let Ok(fragment) = fragment::Fragment::parse(text)
        && let Ok(credentials) = fragment.credentials()
    {
        assert!(
            are_ice_credentials(&credentials.ufrag, &credentials.pwd) && text.contains(&credentials.ufrag)
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_answer_to_a_head_tells_a_length_and_has_no_body() {
        let response = without_body(Response::new(Bytes::from_static(b"ready\n").into()));
        assert_eq!(response.headers()[CONTENT_LENGTH], "6");
        assert_eq!(response.body().size_hint().exact(), Some(0));
        assert!(without_body(empty(StatusCode::OK)).headers().get(CONTENT_LENGTH).is_none());
    }
}
