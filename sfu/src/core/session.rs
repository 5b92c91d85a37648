//! A session: a peer connection, its plan, and where it is in its life.

use super::dtls::HandshakeError;
use super::extensions::ExtensionIds;
use super::ice::LiteAgent;
use super::identity::Identity;
use super::layers::Wish;
use super::paths::Paths;
use super::peer::{Drained, Peer, rtp_ssrc};
use super::plan::{Role, SessionPlan};
use super::publisher::Publisher;
use super::srtp::{MasterKeys, PeerRtp};
use crate::control::protocol::{EndReason, SessionId};
use std::time::{Duration, Instant};
use str0m::RtcError;
use str0m_proto::crypto::SrtpProvider;

/// ICE and DTLS must be up within this time after the answer, else the session is freed.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// What a client sends before it knows that its session has ended is no stranger's for so long.
const AFTERMATH: Duration = Duration::from_secs(2);
/// A close that could not drain is dropped after this time.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
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
    /// BYE and close_notify are on their way.
    Closing {
        /// Dropped then.
        until: Instant,
        /// What to report.
        reason: EndReason,
    },
    /// Over and reported. What still comes from the client is not counted as a stranger's.
    Over {
        /// Freed then.
        until: Instant,
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
    /// Its ICE credentials.
    pub ice: LiteAgent,
    /// Its addresses, and where its media goes.
    pub paths: Paths,
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
    /// What was last wrong with the handshake.
    pub handshake_error: Option<HandshakeError>,
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
    /// The earliest entry of this session in the timer heap.
    pub scheduled: Option<Instant>,
}

impl Session {
    /// Builds the session. The plan must have passed `validate`.
    pub fn new(
        now: Instant,
        id: SessionId,
        plan: SessionPlan,
        ice: LiteAgent,
        identity: &Identity,
        out: &mut Drained,
    ) -> Result<Session, RtcError> {
        let peer = Peer::new(now, &plan, identity, out)?;
        let role = match plan.role {
            Role::Publisher => RoleState::Publisher(Publisher::new(now, &plan)),
            Role::Viewer => RoleState::Viewer,
        };
        Ok(Session {
            id,
            ice,
            paths: Paths::new(now),
            extensions: plan
                .sections
                .iter()
                .fold(ExtensionIds::default(), |ids, section| ids.with(&section.extensions)),
            plan,
            peer,
            peer_rtp: None,
            keys: None,
            handshake_error: None,
            authentic: Vec::new(),
            life: Life::Connecting { until: now + CONNECT_TIMEOUT },
            role,
            wish: Wish::default(),
            created: now,
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
        matches!(self.life, Life::Connected)
    }

    /// Whether it has said goodbye, or is past that.
    pub fn is_ending(&self) -> bool {
        matches!(self.life, Life::Closing { .. } | Life::Over { .. })
    }

    /// It is over and reported.
    pub fn linger(&mut self, now: Instant) {
        self.life = Life::Over { until: now + AFTERMATH };
    }

    /// Whether nothing more can come from the client.
    pub fn is_forgotten(&self, now: Instant) -> bool {
        matches!(self.life, Life::Over { until } if now >= until)
    }

    /// When consent ends. A viewer's is that of its path alone; a publisher that is heard from anywhere goes on, and is sent
    /// nothing once its path is silent.
    fn consent_until(&self) -> Instant {
        match self.role {
            RoleState::Publisher(_) => self.paths.heard_until(),
            RoleState::Viewer => self.paths.consent_until(),
        }
    }

    /// Says goodbye; the session is dropped once its BYE and close_notify have been drained.
    pub fn close(&mut self, now: Instant, reason: EndReason, out: &mut Drained) {
        if !self.is_ending() {
            self.life = Life::Closing { until: now + CLOSE_TIMEOUT, reason };
            // An error here means that there is nothing to close; the timeout drops the session.
            let _ = self.peer.with(now, out, |rtc| rtc.close());
        }
    }

    /// When something is due.
    pub fn deadline(&self, now: Instant) -> Instant {
        let life = match self.life {
            Life::Connected => self.consent_until(),
            Life::Connecting { until } | Life::Closing { until, .. } => until,
            Life::Over { until } => return until,
        };
        let role = match &self.role {
            RoleState::Publisher(publisher) => publisher.deadline(now),
            RoleState::Viewer => None,
        };
        let others = [role, self.paths.deadline()].into_iter().flatten();
        others.fold(self.peer.deadline().min(life), Instant::min)
    }

    /// What a session died of that did not connect in time.
    fn timeout_reason(&self) -> EndReason {
        match &self.handshake_error {
            Some(error) if error.explains_timeout() => EndReason::DtlsFailed,
            _ => EndReason::ConnectTimeout,
        }
    }

    /// Why the session is over at `now`, if it is.
    pub fn over(&self, now: Instant) -> Option<EndReason> {
        match self.life {
            Life::Connecting { until } if now >= until => Some(self.timeout_reason()),
            Life::Connected if now >= self.consent_until() => Some(EndReason::ConsentExpired),
            Life::Over { .. } => None,
            Life::Closing { until, reason } if now >= until || !self.peer.is_alive() => Some(reason),
            Life::Connecting { .. } if !self.peer.is_alive() => Some(EndReason::DtlsFailed),
            _ if !self.peer.is_alive() => Some(EndReason::ClosedByPeer),
            _ => None,
        }
    }
}
