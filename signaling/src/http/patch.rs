//! PATCH on a session URL: trickled candidates and ICE restarts (RFC 9725 §4.3).
//!
//! Requests overtake each other, so the user name fragment says which ICE session a fragment belongs to and the entity tag
//! which one the client knew. Candidates change nothing here: a client's addresses are learnt from its checks.

use super::condition::Condition;
use super::fragment::{Fragment, FragmentError, Restarted};
use super::limits::read_text;
use super::offer::{ACCEPT_PATCH, FRAGMENT, candidates_of, is_content_type, random_bytes};
use super::problem::Problem;
use super::{App, Peer, Response, empty};
use crate::media::RestartFailure;
use crate::registry::{IceGeneration, RestartRefusal, Session, UrlId};
use crate::sdp::candidates;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue};
use hyper::{Request, StatusCode};
use sfu::control::protocol::{IceCredentials, RestartError};

/// What a fragment asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// To take candidates.
    Trickle,
    /// To restart ICE with these credentials of the client.
    Restart(IceCredentials),
}

/// Why a fragment is not acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
enum Refused {
    #[error(
        "If-Match is missing. Send the ETag of the last 201 or 200 in it; to restart ICE send If-Match: *."
    )]
    TagMissing,
    #[error(
        "The request belongs to an ICE session that is no longer the current one. Use the ETag of the last 201 or 200, and the credentials that go with it."
    )]
    Outdated,
    #[error("{0}")]
    Restart(#[from] RestartRefusal),
    #[error("{0}")]
    Fragment(#[from] FragmentError),
}

/// Answers a PATCH.
pub async fn patch(
    app: &App,
    peer: Peer,
    url: UrlId,
    request: Request<Incoming>,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    if !is_content_type(&head.headers, FRAGMENT) {
        let detail = "A PATCH here has Content-Type: application/trickle-ice-sdpfrag.";
        let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
        return Err(problem.with(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT)));
    }
    let fragment = Fragment::parse(&read_text(&head.headers, body, app.config.limits).await?)?;
    // While a slow body came, ICE may have restarted.
    let session = app.media.registry().session(url).cloned().ok_or(RestartRefusal::NoSession)?;
    let condition = Condition::of(&head.headers, &session.blob.etag());
    match asked(&fragment, &session, condition, app.config.strict_etag)? {
        Asked::Trickle => {
            let Fragment { candidates, end_of_candidates, .. } = fragment;
            tracing::debug!(candidates, end_of_candidates, "read a client's candidates");
            Ok(empty(StatusCode::NO_CONTENT))
        }
        Asked::Restart(remote) => restart(app, peer, &session, remote).await,
    }
}

/// Judges a fragment by RFC 9725 §4.3.1 and by the clients that there are.
///
/// `strict` is the RFC's letter: a tag that is missing is answered with 428, one that does not match with 412. Without it,
/// candidates whose user name fragment names the current ICE session need no tag: whip-whep's player never sends one with them,
/// and reads none. Every client that restarts ICE says `*`, as it must (§4.3.3), so for a restart the letter holds always: without
/// a tag, new credentials may be those of candidates that overtook their restart.
fn asked(
    fragment: &Fragment,
    session: &Session,
    condition: Condition,
    strict: bool,
) -> Result<Asked, Refused> {
    match condition {
        Condition::Missing if strict => return Err(Refused::TagMissing),
        Condition::Stale if strict => return Err(Refused::Outdated),
        _ => {}
    }
    let generation = match &fragment.ufrag {
        Some(ufrag) => session.ice.generation(ufrag),
        // Nothing but the tag says whose these candidates are.
        None if condition == Condition::Stale => IceGeneration::Previous,
        None => IceGeneration::Current,
    };
    match (generation, condition) {
        (IceGeneration::Current, _) => Ok(Asked::Trickle),
        (IceGeneration::Previous, _) | (IceGeneration::New, Condition::Stale) => Err(Refused::Outdated),
        (IceGeneration::Coming, Condition::Any) => Err(RestartRefusal::Concurrent.into()),
        (IceGeneration::Coming, _) => Ok(Asked::Trickle),
        (IceGeneration::New, Condition::Missing) => Err(Refused::TagMissing),
        (IceGeneration::New, _) => Ok(Asked::Restart(fragment.credentials()?)),
    }
}

async fn restart(
    app: &App,
    peer: Peer,
    session: &Session,
    remote: IceCredentials,
) -> Result<Response, Problem> {
    let etag = u64::from_be_bytes(random_bytes()?);
    let restarted = app.media.restart_ice(session.blob.url, remote, etag).await?;
    let ready = app.media.ready()?;
    let (udp, tcp) = candidates_of(app, peer, &ready, restarted.worker)?;
    // There is room for one: the kind that gets through now.
    let best = if restarted.ice.over_tcp { candidates(&[], &tcp) } else { candidates(&udp, &[]) };
    let answer = Restarted {
        mids: &session.mids,
        kind: session.kind,
        local: &restarted.ice.local,
        candidate: best.first().map(String::as_str),
    };
    let mut response = Response::new(answer.write().into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAGMENT));
    headers.extend(HeaderValue::try_from(restarted.etag).ok().map(|etag| (ETAG, etag)));
    Ok(response)
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        let detail = refused.to_string();
        match refused {
            Refused::TagMissing => Problem::new(StatusCode::PRECONDITION_REQUIRED, detail),
            Refused::Outdated => Problem::new(StatusCode::PRECONDITION_FAILED, detail),
            Refused::Restart(refusal) => refusal.into(),
            Refused::Fragment(error) => error.into(),
        }
    }
}

impl From<RestartRefusal> for Problem {
    fn from(refusal: RestartRefusal) -> Problem {
        let detail = refusal.to_string();
        match refusal {
            RestartRefusal::NoSession => Problem::not_found(detail),
            RestartRefusal::Concurrent => Problem::new(StatusCode::CONFLICT, detail),
        }
    }
}

impl From<FragmentError> for Problem {
    fn from(error: FragmentError) -> Problem {
        let status = match error {
            FragmentError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, error.to_string())
    }
}

impl From<RestartFailure> for Problem {
    fn from(failure: RestartFailure) -> Problem {
        let detail = failure.to_string();
        match failure {
            RestartFailure::Refused(refusal) => refusal.into(),
            RestartFailure::Unavailable(failure) => failure.into(),
            RestartFailure::Media(RestartError::NoSession) => RestartRefusal::NoSession.into(),
            RestartFailure::Media(RestartError::NotConnected | RestartError::InProgress) => {
                Problem::new(StatusCode::CONFLICT, detail)
            }
            RestartFailure::Media(_) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
        }
    }
}
