//! Stand-in that lets the rest compile until the real module is merged over it. It accepts nothing.

use sfu::core::plan::{Epoch, Role, SessionPlan, StreamId};
use std::net::SocketAddr;

/// A parsed offer.
pub struct Offer;

/// Why an offer is refused.
#[derive(Debug, thiserror::Error)]
#[error("this build has no SDP module")]
pub struct OfferError;

impl OfferError {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        422
    }
}

impl Offer {
    /// Parses.
    pub fn parse(_body: &str) -> Result<Offer, OfferError> {
        Err(OfferError)
    }
}

/// Plans.
pub fn plan(
    _offer: &Offer,
    _role: Role,
    _stream: StreamId,
    _epoch: Epoch,
    _ssrc: &mut dyn FnMut() -> u32,
) -> Result<SessionPlan, OfferError> {
    Err(OfferError)
}

/// What the answer says of us.
#[allow(missing_docs, reason = "stand-in")]
#[allow(dead_code, reason = "stand-in")]
pub struct LocalDescription<'a> {
    pub ice_ufrag: &'a str,
    pub ice_pwd: &'a str,
    pub fingerprint: [u8; 32],
    pub candidates: &'a [SocketAddr],
    pub origin_id: u64,
    pub msid: &'a str,
    pub cname: &'a str,
}

/// Answers.
pub fn answer(_offer: &Offer, _plan: &SessionPlan, _local: &LocalDescription<'_>) -> String {
    String::new()
}
