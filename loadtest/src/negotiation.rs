//! Offer and answer: what a peer is before it has a connection.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use socket2::Socket;
use str0m::change::{SdpAnswer, SdpApi, SdpPendingOffer};
use str0m::{Candidate, Rtc, RtcConfig};

use crate::dtls::{self, KeySlot};
use crate::failure::Failure;
use crate::local::{better_ip, candidate_ips, open_candidate};

/// A session on its way to becoming a [`Peer`](crate::peer::Peer): its offer is out.
pub struct Offered {
    rtc: Rtc,
    keys: KeySlot,
    socket: Socket,
    local: Candidate,
    pending: SdpPendingOffer,
    /// To be sent to the server.
    pub offer: String,
}

impl Offered {
    /// Opens a UDP port on `ip` and makes the offer that `declare` asks for.
    pub fn new(
        config: RtcConfig,
        ip: IpAddr,
        declare: impl FnOnce(&mut SdpApi<'_>),
    ) -> Result<Offered, Failure> {
        let (mut rtc, keys) = dtls::build(config, Instant::now());
        let (socket, local) = open_candidate(ip)?;
        rtc.add_local_candidate(local.clone());
        let mut api = rtc.sdp_api();
        declare(&mut api);
        let (offer, pending) = api.apply().ok_or_else(|| Failure::Answer("nothing was offered".into()))?;
        Ok(Offered { rtc, keys, socket, local, pending, offer: offer.to_sdp_string() })
    }

    /// Takes the server's answer.
    pub fn answered(mut self, answer: &str) -> Result<Connecting, Failure> {
        let refused = |error: &dyn std::fmt::Display| Failure::Answer(error.to_string());
        let candidates = candidate_ips(answer);
        let answer = SdpAnswer::from_sdp_string(answer).map_err(|error| refused(&error))?;
        self.rtc.sdp_api().accept_answer(self.pending, answer).map_err(|error| refused(&error))?;
        if let Some(ip) = better_ip(self.local.addr().ip(), &candidates) {
            self.rtc.direct_api().invalidate_candidate(&self.local);
            (self.socket, self.local) = open_candidate(ip)?;
            self.rtc.add_local_candidate(self.local.clone());
        }
        Ok(Connecting { rtc: self.rtc, keys: self.keys, socket: self.socket, local: self.local.addr() })
    }
}

/// A session with both descriptions, not yet driven.
pub struct Connecting {
    /// To look up what was agreed.
    pub rtc: Rtc,
    /// Will hold what the handshake agrees on.
    pub keys: KeySlot,
    /// Bound, not blocking.
    pub socket: Socket,
    /// Where it is bound.
    pub local: SocketAddr,
}

#[cfg(test)]
impl Connecting {
    /// The other side of an offer, for tests without a server: takes it on `ip` and answers.
    pub fn answering(mut rtc: Rtc, ip: IpAddr, offer: &str) -> Result<(Connecting, String), String> {
        let (socket, local) = open_candidate(ip).map_err(|error| error.to_string())?;
        rtc.add_local_candidate(local.clone());
        let offer = str0m::change::SdpOffer::from_sdp_string(offer).map_err(|error| error.to_string())?;
        let answer = rtc.sdp_api().accept_offer(offer).map_err(|error| error.to_string())?;
        Ok((
            Connecting { rtc, keys: KeySlot::default(), socket, local: local.addr() },
            answer.to_sdp_string(),
        ))
    }
}
