//! WHIP and WHEP endpoints: an SDP offer in, a session and an SDP answer out. The two differ by [`Role`] alone.

use super::counter_offer;
use super::events;
use super::limits::read_text;
use super::problem::Problem;
use super::{App, Peer, Response, empty};
use crate::auth::open;
use crate::candidates;
use crate::config::NoPublisher;
use crate::media::{Claim, CreateFailure, Ready};
use crate::random;
use crate::registry::{self, Admission, Candidacy, FreshIds, NameError, Refusal, StreamName, UrlId};
use crate::sdp::{self, LocalDescription, Offer, OfferError};
use crate::time::unix_seconds;
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LINK, LOCATION, RETRY_AFTER,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, StatusCode};
use sfu::control::protocol::WorkerIndex;
use sfu::core::codec::MediaKind;
use sfu::core::plan::{Role, StreamId};
use std::net::SocketAddr;
use std::time::Instant;

/// What the endpoints take, and session URLs as the answer to an offer of ours.
pub const SDP: &str = "application/sdp";
const METHODS: &str = "OPTIONS, GET, HEAD, POST";
/// What the session URLs take.
pub const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// What a POST may bring.
pub const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// Not in RFC 9725 any more, but clients and the working group's test suite look for it.
pub const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// Any request to an endpoint.
pub async fn endpoint(
    app: &App,
    peer: Peer,
    role: Role,
    name: Result<StreamName, NameError>,
    request: Request<Incoming>,
) -> Result<Response, Problem> {
    if *request.method() == Method::OPTIONS {
        return Ok(options_of_endpoint(app, peer, request));
    }
    let name = name?;
    match *request.method() {
        Method::POST => post(app, peer, role, name, request).await,
        // WHEP wants 200 for a HEAD ("WHEP Endpoint URL Discoverability"), and the headers of GET.
        Method::HEAD if role == Role::Viewer => Ok(discovered(StatusCode::OK)),
        Method::GET | Method::HEAD => Ok(discovered(StatusCode::NO_CONTENT)),
        ref other => Err(Problem::method(other, METHODS)),
    }
}

fn discovered(status: StatusCode) -> Response {
    with_header(empty(status), CONTENT_TYPE, HeaderValue::from_static(SDP))
}

/// The answer to any OPTIONS. Preflights carry no Authorization, so nobody is asked for one.
pub fn options() -> Response {
    let response = with_header(empty(StatusCode::OK), ACCEPT_POST, HeaderValue::from_static(SDP));
    with_header(response, ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT))
}

/// Clients that cannot take servers after their offer ask for them before it (RFC 9725 §4.6). Preflights are not told, nor is who
/// may not POST: credentials for TURN are worth something.
fn options_of_endpoint(app: &App, peer: Peer, request: Request<Incoming>) -> Response {
    let mut response = options();
    let (head, _) = request.into_parts();
    let is_preflight = head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if !is_preflight && app.access.media(&head, peer.remote.ip()).is_ok() {
        app.ice_servers.add_to(response.headers_mut());
    }
    response
}

fn with_header(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}

/// The life of an offer: allowed, parsed, planned, admitted, created, answered.
async fn post(
    app: &App,
    peer: Peer,
    role: Role,
    name: StreamName,
    request: Request<Incoming>,
) -> Result<Response, Problem> {
    let arrived = Instant::now();
    app.stays()?;
    let (head, body) = request.into_parts();
    let credential = app.access.media(&head, peer.remote.ip())?;
    if counter_offer::is_wanted(role, &head, &body) {
        return counter_offer::offer(app, peer, name, credential, &head, body).await;
    }
    if !is_content_type(&head.headers, SDP) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The body must be an SDP offer with Content-Type: application/sdp.",
        ));
    }
    let offer = Offer::parse(&read_text(&head.headers, body, app.config.limits).await?)?;
    let plan = sdp::plan(&offer, role, registry::NO_STREAM, registry::NO_EPOCH, &mut random_ssrc)?;
    let ready = app.media.ready()?;
    wait_or_refuse(app, role, &name)?;
    let candidacy = Candidacy { name, credential, plan, ids: fresh_ids()? };
    let admission = app.media.registry().admit(candidacy, unix_seconds())?;
    let claim = app.media.create(admission.clone()).await?;
    let answer = answer(app, peer, &offer, &admission, &claim, &ready)?;
    let response = created(app, peer, &head, &admission, answer)?;
    claim.keep();
    app.metrics.answered(arrived.elapsed());
    tracing::debug!(name = %admission.blob.name, ?role, worker = admission.worker.0, "session created");
    Ok(response)
}

/// A viewer without a publisher: by default it is let in and sees the picture as soon as there is one. Whoever would rather
/// not hold such sessions refuses (WHEP, "Session Management": 409 with Retry-After).
pub fn wait_or_refuse(app: &App, role: Role, name: &StreamName) -> Result<(), Refusal> {
    let refused = role == Role::Viewer && app.config.no_publisher == NoPublisher::Refuse;
    if refused && !app.media.registry().is_live(name, unix_seconds()) {
        Err(Refusal::NotLive)
    } else {
        Ok(())
    }
}

/// Compares the media type without case and without parameters, which some clients add.
pub fn is_content_type(headers: &HeaderMap, wanted: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted)
}

fn answer(
    app: &App,
    peer: Peer,
    offer: &Offer,
    admission: &Admission,
    claim: &Claim,
    ready: &Ready,
) -> Result<String, Problem> {
    let created = claim.created();
    let (candidates, tcp_candidates) = candidates_of(app, peer, ready, admission.worker)?;
    let local = LocalDescription {
        ice_ufrag: &created.ice_ufrag,
        ice_pwd: &created.ice_pwd,
        fingerprint: ready.fingerprint,
        candidates: &candidates,
        tcp_candidates: &tcp_candidates,
        origin_id: u64::from_be_bytes(random_bytes()?) >> 1,
        msid: admission.blob.name.as_str(),
        cname: &admission.plan.stream.cname(),
    };
    Ok(sdp::answer(offer, &admission.plan, &local))
}

/// What a client of a worker is told of its addresses.
pub fn candidates_of(
    app: &App,
    peer: Peer,
    ready: &Ready,
    worker: WorkerIndex,
) -> Result<(Vec<SocketAddr>, Vec<SocketAddr>), Problem> {
    let worker = ready.workers.get(usize::from(worker.0)).ok_or(CreateFailure::Unavailable)?;
    let ordered = |bound| candidates::ordered(bound, &app.config.public_ip, peer.local.ip());
    let (udp, mut tcp) = (ordered(&worker.addresses), ordered(&worker.tcp_addresses));
    tcp.truncate(candidates::TCP_CANDIDATES_MAX);
    Ok((udp, tcp))
}

fn created(
    app: &App,
    peer: Peer,
    head: &Parts,
    admission: &Admission,
    answer: String,
) -> Result<Response, Problem> {
    let value = |text: String| HeaderValue::try_from(text).map_err(|_| internal());
    let mut response = Response::new(answer.into());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    let session = location(app, peer, head, admission.blob.url);
    if admission.plan.role == Role::Viewer {
        for link in events::links(&session, admission.plan.section(MediaKind::Video).is_some()) {
            headers.append(LINK, value(link)?);
        }
    }
    headers.insert(LOCATION, value(session)?);
    headers.insert(ETAG, value(admission.blob.etag())?);
    app.ice_servers.add_to(headers);
    Ok(response)
}

/// Absolute where we know our own name, for node-fetch and redirected clients; else a path without a query, which
/// OBS and Cloudflare's client also understand. Never the request's query: it may hold a token.
pub fn location(app: &App, peer: Peer, head: &Parts, url: UrlId) -> String {
    format!("{}/session/{url}", base(app, peer, head).unwrap_or_default())
}

/// What URLs of ours begin with, where we know our own name.
pub fn base(app: &App, peer: Peer, head: &Parts) -> Option<String> {
    if let Some(base) = &app.config.public_url {
        return Some(base.clone());
    }
    let here = open::from_this_host(head, peer.remote.ip()).is_ok() && peer.local.ip().is_loopback();
    // Who names the very socket that it reached tells us nothing that we do not know; a proxy may name it for others.
    let is_socket = |host: &str| host.parse() == Ok(peer.local) && !open::is_proxied(head);
    let scheme = if peer.tls { "https" } else { "http" };
    let host = open::authority(head).filter(|host| here || is_socket(host));
    host.map(|host| format!("{scheme}://{host}"))
}

/// Random numbers for one session.
pub fn fresh_ids() -> Result<FreshIds, Problem> {
    Ok(FreshIds {
        url: UrlId(random_bytes()?),
        etag: u64::from_be_bytes(random_bytes()?),
        stream: StreamId(u64::from_be_bytes(random_bytes()?)),
    })
}

/// `N` bytes that nobody can guess.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], Problem> {
    random::bytes().map_err(|_| internal())
}

/// SSRCs need to be unlikely to collide, no more (RFC 3550 §8.1); the plan checks that they are not 0.
pub fn random_ssrc() -> u32 {
    random::bytes().map_or(1, u32::from_be_bytes)
}

/// 500
pub fn internal() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The server could not build its answer; its log says more.",
    )
}

impl From<OfferError> for Problem {
    fn from(error: OfferError) -> Problem {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Problem::new(status, error.to_string())
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Taken => Problem::new(StatusCode::CONFLICT, detail),
            Refusal::NotLive => {
                Problem::new(StatusCode::CONFLICT, detail).with(RETRY_AFTER, HeaderValue::from_static("5"))
            }
            Refusal::Unplayable { .. } => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
            Refusal::Full | Refusal::Saturated => Problem::unavailable(detail),
            Refusal::Blob => Problem::new(StatusCode::BAD_REQUEST, detail),
        }
    }
}

impl From<CreateFailure> for Problem {
    fn from(failure: CreateFailure) -> Problem {
        Problem::unavailable(failure.to_string())
    }
}
