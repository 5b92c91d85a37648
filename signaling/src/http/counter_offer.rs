//! The WHEP draft's second mode (§4.2.2): the server offers, the player answers in a PATCH to the session's URL.
//!
//! Only for players that ask, because others take a 406 for something else (@eyevinn/webrtc-player drops its audio): by an
//! empty POST, which gets the offer in a 201, or by `?offer=server`, which gets it in the draft's 406. Until the answer comes
//! there is nothing in media; what the offer promised waits here, bounded and for as long as the draft says. Checks that
//! overtake the answer are lost and repeated by the player.

use super::events;
use super::limits::read_text;
use super::offer::{
    ACCEPT_PATCH, SDP, candidates_of, fresh_ids, is_content_type, location, random_bytes, random_ssrc,
    wait_or_refuse,
};
use super::problem::Problem;
use super::source::Source;
use super::waiting_offers::{NoRoom, VALID, Waiting};
use super::{App, Peer, Response, empty};
use crate::auth::Credential;
use crate::metrics::OfferEnd;
use crate::random;
use crate::registry::{Blob, Candidacy, StreamName, UrlId};
use crate::sdp::{AnswerError, CounterOffer, LocalDescription, Offer};
use crate::time::unix_seconds;
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue, LINK, LOCATION};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use sfu::control::protocol::{IceCredentials, WorkerIndex};
use sfu::core::demux::chosen_ufrag;
use sfu::core::plan::{Role, SessionPlan};
use std::time::{Instant, SystemTime};

/// Whether a POST asks for an offer of ours.
pub fn is_wanted(role: Role, head: &Parts, body: &Incoming) -> bool {
    role == Role::Viewer && (body.is_end_stream() || is_asked_for(head))
}

fn is_asked_for(head: &Parts) -> bool {
    head.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "offer=server"))
}

/// Answers such a POST. An offer of the player's own is looked at for its form alone.
pub async fn offer(
    app: &App,
    peer: Peer,
    name: StreamName,
    credential: Credential,
    head: &Parts,
    body: Incoming,
) -> Result<Response, Problem> {
    if !body.is_end_stream() {
        if !is_content_type(&head.headers, SDP) {
            return Err(not_sdp(
                "The body must be an SDP offer with Content-Type: application/sdp, or be empty.",
            ));
        }
        Offer::parse(&read_text(&head.headers, body, app.config.limits).await?)?;
    }
    let ready = app.media.ready()?;
    wait_or_refuse(app, Role::Viewer, &name)?;
    let now = unix_seconds();
    let prospect = app.media.registry().prospect(&name, now)?;
    let offer = CounterOffer::new(&prospect.codecs, &mut random_ssrc)?;
    let waiting = Waiting {
        offer,
        ids: fresh_ids()?,
        local: credentials(prospect.worker)?,
        fingerprint: ready.fingerprint,
        source: Source::of(head, peer),
        expires: Instant::now() + VALID,
        name,
        credential,
    };
    let (candidates, tcp_candidates) = candidates_of(app, peer, &ready, prospect.worker)?;
    let local = LocalDescription {
        ice_ufrag: &waiting.local.ufrag,
        ice_pwd: &waiting.local.pwd,
        fingerprint: ready.fingerprint,
        candidates: &candidates,
        tcp_candidates: &tcp_candidates,
        origin_id: u64::from_be_bytes(random_bytes()?) >> 1,
        msid: waiting.name.as_str(),
        cname: &prospect.stream.unwrap_or(waiting.ids.stream).cname(),
    };
    let response = offered(app, peer, head, &waiting, waiting.offer.text(&local))?;
    app.counter_offers.keep(waiting, Instant::now())?;
    Ok(response)
}

fn credentials(worker: WorkerIndex) -> Result<IceCredentials, Problem> {
    let ufrag = chosen_ufrag(worker, u64::from_be_bytes(random_bytes()?));
    Ok(IceCredentials { ufrag, pwd: random::hex(&random_bytes::<16>()?) })
}

/// 406 to whoever knows the draft. An empty POST is answered 201, because @eyevinn/webrtc-player takes a 2xx alone.
fn offered(
    app: &App,
    peer: Peer,
    head: &Parts,
    waiting: &Waiting,
    text: String,
) -> Result<Response, Problem> {
    let value = |text: String| HeaderValue::try_from(text).map_err(|_| super::offer::internal());
    let mut response = Response::new(text.into());
    let (status, content_type) = if is_asked_for(head) {
        let until = httpdate::fmt_http_date(SystemTime::now() + VALID);
        (StatusCode::NOT_ACCEPTABLE, format!("{SDP}; valid-until=\"{until}\""))
    } else {
        (StatusCode::CREATED, SDP.to_owned())
    };
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, value(content_type)?);
    let session = location(app, peer, head, waiting.ids.url);
    for link in events::links(&session, waiting.offer.has_video()) {
        headers.append(LINK, value(link)?);
    }
    headers.insert(LOCATION, value(session)?);
    headers.insert(ETAG, value(Blob::etag_of(waiting.ids.etag))?);
    headers.insert(ACCEPT_PATCH, HeaderValue::from_static(SDP));
    app.ice_servers.add_to(headers);
    Ok(response)
}

/// Takes a request to the URL of a session-to-be; gives back one for anything else.
pub async fn pending(
    app: &App,
    url: Option<UrlId>,
    request: Request<Incoming>,
) -> Result<Result<Response, Problem>, Request<Incoming>> {
    let Some(waiting) = url.and_then(|url| app.counter_offers.find(url, Instant::now())) else {
        return Err(request);
    };
    match *request.method() {
        Method::PATCH => Ok(answer(app, waiting, request).await),
        Method::GET | Method::HEAD => Ok(Ok(empty(StatusCode::NO_CONTENT))),
        Method::DELETE => {
            app.counter_offers.withdraw(waiting.ids.url);
            let mut response = Response::new(Bytes::from_static(b"The offer is withdrawn.\n").into());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            Ok(Ok(response))
        }
        _ => Err(request),
    }
}

/// The life of an answer: read, planned, admitted, created. A wrong one may be sent again, right.
async fn answer(app: &App, waiting: Waiting, request: Request<Incoming>) -> Result<Response, Problem> {
    let arrived = Instant::now();
    app.stays()?;
    let (head, body) = request.into_parts();
    if !is_content_type(&head.headers, SDP) {
        let detail =
            "This session waits for the answer to its offer: PATCH it with Content-Type: application/sdp.";
        return Err(not_sdp(detail));
    }
    let answer = Offer::parse(&read_text(&head.headers, body, app.config.limits).await?);
    let answer = answer.map_err(AnswerError::from)?;
    let mut plan = waiting.offer.accept(&answer, crate::registry::NO_STREAM)?;
    plan.local = Some(waiting.local);
    let url = waiting.ids.url;
    // Before the offer is taken, so that a media process that is away for a moment costs nobody his offer.
    let fingerprint = app.media.ready()?.fingerprint;
    let Some(taken) = app.counter_offers.take(url) else { return Err(gone()) };
    if fingerprint != taken.waiting.fingerprint {
        taken.over(OfferEnd::Expired);
        return Err(gone());
    }
    create(app, taken.waiting.clone(), plan).await?;
    taken.over(OfferEnd::Answered);
    app.metrics.answered(arrived.elapsed());
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn create(app: &App, waiting: Waiting, plan: SessionPlan) -> Result<(), Problem> {
    let Waiting { name, credential, ids, .. } = waiting;
    let admission = app.media.registry().admit(Candidacy { name, credential, plan, ids }, unix_seconds())?;
    app.media.create(admission).await?.keep();
    Ok(())
}

fn not_sdp(detail: &str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).with(ACCEPT_PATCH, HeaderValue::from_static(SDP))
}

fn gone() -> Problem {
    Problem::not_found(
        "The offer is not valid any more: it has been answered already, or media was restarted. POST again.",
    )
}

impl From<NoRoom> for Problem {
    fn from(full: NoRoom) -> Problem {
        let detail = full.to_string();
        match full {
            NoRoom::Source => Problem::too_many(detail),
            NoRoom::All => Problem::unavailable(detail),
        }
    }
}

impl From<AnswerError> for Problem {
    fn from(error: AnswerError) -> Problem {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Problem::new(status, error.to_string())
    }
}
