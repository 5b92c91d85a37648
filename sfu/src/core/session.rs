//! A session: a peer connection, its plan, and where it is in its life.

use super::extensions::ExtensionIds;
use super::layers::Wish;
use super::peer::{Drained, Local, Peer, rtp_ssrc};
use super::plan::{Role, SessionPlan};
use super::publisher::Publisher;
use super::srtp::{MasterKeys, PeerRtp};
use crate::control::protocol::{EndReason, SessionId};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use str0m::RtcError;
use str0m_proto::crypto::SrtpProvider;

/// ICE and DTLS must be up within this time after the answer, else the session is freed.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// str0m reports Disconnected after 15 s without a check; RFC 7675 §5.1 ends consent after 30 s.
pub const DISCONNECTED_TIMEOUT: Duration = Duration::from_secs(15);
/// A close that could not drain is dropped after this time.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Pairs of our socket and a client's address that one session may have at a time: eight interfaces on each side meet in 64
/// pairs, of which those heard from last are kept.
pub const ADDRESSES_MAX: usize = 64;
/// New pairs that a session may bring: so many at once, then one in this time. A NAT rebinds once in minutes; str0m keeps
/// 1.9 kB for each, and sorts them.
const ADDRESSES_AT_ONCE: u64 = 128;
const ADDRESS_INTERVAL: Duration = Duration::from_secs(10);

/// SSRCs that a publisher uses at a time: audio, simulcast layers, their RTX, probes, and those of a restart.
const SSRCS_MAX: usize = 32;

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Waiting for ICE and DTLS.
    Connecting {
        /// Freed then.
        until: Instant,
    },
    /// Media flows.
    Connected,
    /// Checks stopped coming; freed then.
    Disconnected {
        /// Freed then.
        until: Instant,
    },
    /// BYE and close_notify are on their way.
    Closing {
        /// Dropped then.
        until: Instant,
        /// What to report.
        reason: EndReason,
    },
}

/// What only a publisher has. A viewer's is beside the session, see [`Viewer`](super::viewer::Viewer).
#[derive(Debug)]
pub enum RoleState {
    /// WHIP.
    Publisher(Publisher),
    /// WHEP.
    Viewer,
}

/// One session on this worker.
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The ufrag under which clients find it.
    pub ice_ufrag: String,
    /// What it was made from.
    pub plan: SessionPlan,
    /// Its transport.
    pub peer: Peer,
    /// Publisher: checks the first packet of each SSRC, once DTLS has given the keys.
    peer_rtp: Option<PeerRtp>,
    /// Publisher: the ids of its header extensions.
    pub extensions: ExtensionIds,
    /// Viewer: the keys, until it is connected.
    pub keys: Option<MasterKeys>,
    /// Where it wants its media: the pair that it nominated, before that the one on which DTLS runs.
    pub path: Option<(usize, SocketAddr)>,
    /// SSRCs of which an authentic packet has been seen.
    authentic: Vec<u32>,
    /// Where it is in its life.
    pub life: Life,
    /// Publisher or viewer state.
    pub role: RoleState,
    /// Viewer: which simulcast layer it wants.
    pub wish: Wish,
    /// When the plan arrived.
    pub created: Instant,
    /// Validated source addresses, each with the socket on which it arrived.
    pub addresses: Vec<(usize, SocketAddr)>,
    /// How many it has brought in its life.
    addresses_seen: u64,
    /// The one from which DTLS, RTP or RTCP came last.
    pub heard_from: Option<(usize, SocketAddr)>,
    /// The earliest entry of this session in the timer heap.
    pub scheduled: Option<Instant>,
}

impl Session {
    /// Builds the session. The plan must have passed `validate`.
    pub fn new(
        now: Instant,
        id: SessionId,
        plan: SessionPlan,
        local: Local<'_>,
        out: &mut Drained,
    ) -> Result<Session, RtcError> {
        let peer = Peer::new(now, &plan, local, out)?;
        let role = match plan.role {
            Role::Publisher => RoleState::Publisher(Publisher::new(now, &plan)),
            Role::Viewer => RoleState::Viewer,
        };
        Ok(Session {
            id,
            ice_ufrag: local.creds.ufrag.clone(),
            extensions: plan
                .sections
                .iter()
                .fold(ExtensionIds::default(), |ids, section| ids.with(&section.extensions)),
            plan,
            peer,
            peer_rtp: None,
            keys: None,
            path: None,
            authentic: Vec::new(),
            life: Life::Connecting { until: now + CONNECT_TIMEOUT },
            role,
            wish: Wish::default(),
            created: now,
            addresses: Vec::new(),
            addresses_seen: 0,
            heard_from: None,
            scheduled: None,
        })
    }

    /// Whether str0m may see this RTP packet: it ties an unknown SSRC to a track before it checks the packet.
    pub fn trusts(&mut self, rtp: &[u8]) -> bool {
        let Some(ssrc) = rtp_ssrc(rtp) else { return false };
        if self.authentic.contains(&ssrc) {
            return true;
        }
        let authentic = self.peer_rtp.as_ref().is_some_and(|keys| keys.authenticates(rtp));
        if authentic {
            self.authentic.truncate(SSRCS_MAX - 1);
            self.authentic.insert(0, ssrc);
        }
        authentic
    }

    /// DTLS has given the keys. They may be used once str0m has accepted the peer's fingerprint, which `Connected` says.
    pub fn set_keys(&mut self, keys: MasterKeys, crypto: &dyn SrtpProvider) {
        match self.role {
            RoleState::Publisher(_) => self.peer_rtp = PeerRtp::new(&keys, crypto),
            RoleState::Viewer => self.keys = Some(keys),
        }
    }

    /// Whether media may flow.
    pub fn is_connected(&self) -> bool {
        matches!(self.life, Life::Connected | Life::Disconnected { .. })
    }

    /// Whether the client may bring another address now.
    pub fn may_bring_address(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.created).as_secs();
        self.addresses_seen < ADDRESSES_AT_ONCE + age / ADDRESS_INTERVAL.as_secs()
    }

    /// Adds a validated address; returns the one that had to make room.
    pub fn add_address(&mut self, address: (usize, SocketAddr)) -> Option<(usize, SocketAddr)> {
        let full = self.addresses.len() >= ADDRESSES_MAX;
        let oldest = self.addresses.iter().position(|known| Some(*known) != self.heard_from);
        let evicted = oldest.filter(|_| full).map(|index| self.addresses.remove(index));
        self.addresses.push(address);
        self.addresses_seen += 1;
        evicted
    }

    /// Says goodbye; the session is dropped once its BYE and close_notify have been drained.
    pub fn close(&mut self, now: Instant, reason: EndReason, out: &mut Drained) {
        if !matches!(self.life, Life::Closing { .. }) {
            self.life = Life::Closing { until: now + CLOSE_TIMEOUT, reason };
            // An error here means that there is nothing to close; the timeout drops the session.
            let _ = self.peer.with(now, out, |rtc| rtc.close());
        }
    }

    /// When something is due.
    pub fn deadline(&self, now: Instant) -> Instant {
        let life = match self.life {
            Life::Connected => None,
            Life::Connecting { until } | Life::Disconnected { until } | Life::Closing { until, .. } => {
                Some(until)
            }
        };
        let role = match &self.role {
            RoleState::Publisher(publisher) => publisher.deadline(now),
            RoleState::Viewer => None,
        };
        [life, role].into_iter().flatten().fold(self.peer.deadline(), Instant::min)
    }

    /// Why the session is over at `now`, if it is.
    pub fn over(&self, now: Instant) -> Option<EndReason> {
        match self.life {
            Life::Connecting { until } if now >= until => Some(EndReason::ConnectTimeout),
            Life::Disconnected { until } if now >= until => Some(EndReason::ConsentExpired),
            Life::Closing { until, reason } if now >= until || !self.peer.is_alive() => Some(reason),
            Life::Connecting { .. } if !self.peer.is_alive() => Some(EndReason::DtlsFailed),
            _ if !self.peer.is_alive() => Some(EndReason::ClosedByPeer),
            _ => None,
        }
    }
}
