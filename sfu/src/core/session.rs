//! A session: a peer connection, its plan, and where it is in its life.

use super::extensions::ExtensionIds;
use super::ice::LiteAgent;
use super::ice_check::{AddressCheck, Allowance, Heard, Path, Quota};
use super::identity::Identity;
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
/// Consent to send ends so long after the last authenticated packet (RFC 7675 §5.1).
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// A path that was silent for so long is left for an address from which the client is heard. Chromium nominates again when its
/// address changes, Firefox does not; reports come every second or two, and checks of a pair in use every 2.5 or 5 s.
const PATH_SILENT: Duration = Duration::from_secs(3);
/// After a restart what is still on its way from the old addresses is taken for so long.
const OLD_ADDRESSES_TIMEOUT: Duration = Duration::from_secs(5);
/// What a client sends before it knows that its session has ended is no stranger's for so long.
const AFTERMATH: Duration = Duration::from_secs(2);
/// A close that could not drain is dropped after this time.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Pairs of our socket and a client's address that one session may have at a time: eight interfaces on each side meet in 64
/// pairs, of which those heard from last are kept.
pub const ADDRESSES_MAX: usize = 64;
/// New pairs that a session may bring: so many at once, then one in this time. A NAT rebinds once in minutes.
const ADDRESSES_AT_ONCE: u64 = 128;
const ADDRESS_INTERVAL: Duration = Duration::from_secs(10);
/// Addresses that a session may have checked: so many at once, then one in this time. A client with several interfaces tries
/// each of them as it connects, and moves between them now and then.
const CHECKS_AT_ONCE: u64 = 16;
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Datagrams that wait for the proof that an address hears us: a flight of DTLS.
const WITHHELD_MAX: usize = 8;
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
    /// The check of ours that is on its way.
    pub check: Option<AddressCheck>,
    checks: Quota,
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
    /// Where it wants its media: the first pair that it nominated, then those that it nominated and that answered a check.
    pub path: Option<Path>,
    /// What the first one may be sent until DTLS has proved that it hears us. `None` once proved.
    pub unproven: Option<Allowance>,
    withheld: Vec<Vec<u8>>,
    /// When an authentic packet came from there, and from anywhere.
    path_heard: Instant,
    heard: Instant,
    /// The last other address that a check came from.
    rival: Option<Heard>,
    /// SSRCs of which an authentic packet has been seen.
    authentic: Vec<u32>,
    /// Where it is in its life.
    pub life: Life,
    /// Publisher or viewer state.
    pub role: RoleState,
    /// When the plan arrived.
    pub created: Instant,
    /// From where requests with good integrity came.
    pub addresses: Vec<Path>,
    addresses_brought: Quota,
    /// Those of the ICE session before the restart, forgotten then.
    old_addresses: Option<(Instant, Vec<Path>)>,
    /// The one from which DTLS, RTP or RTCP came last.
    heard_from: Option<Path>,
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
            Role::Publisher => RoleState::Publisher(Publisher::new(now)),
            Role::Viewer => RoleState::Viewer,
        };
        Ok(Session {
            id,
            ice,
            check: None,
            checks: Quota::new(CHECKS_AT_ONCE, CHECK_INTERVAL),
            extensions: plan
                .sections
                .iter()
                .fold(ExtensionIds::default(), |ids, section| ids.with(&section.extensions)),
            plan,
            peer,
            peer_rtp: None,
            keys: None,
            path: None,
            unproven: None,
            withheld: Vec::new(),
            path_heard: now,
            heard: now,
            rival: None,
            authentic: Vec::new(),
            life: Life::Connecting { until: now + CONNECT_TIMEOUT },
            role,
            created: now,
            addresses: Vec::new(),
            addresses_brought: Quota::new(ADDRESSES_AT_ONCE, ADDRESS_INTERVAL),
            old_addresses: None,
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
        matches!(self.life, Life::Connected)
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.created)
    }

    /// Whether the client may bring another address now.
    pub fn may_bring_address(&self, now: Instant) -> bool {
        self.addresses_brought.is_left(self.age(now))
    }

    /// Adds an address of the client; returns the one that had to make room.
    pub fn add_address(&mut self, address: Path) -> Option<Path> {
        let full = self.addresses.len() >= ADDRESSES_MAX;
        let in_use = [self.heard_from, self.path];
        let oldest = self.addresses.iter().position(|known| !in_use.contains(&Some(*known)));
        let evicted = oldest.filter(|_| full).map(|index| self.addresses.remove(index));
        self.addresses.push(address);
        self.addresses_brought.take();
        evicted
    }

    /// One more check of an address, if it may have one.
    pub fn take_check(&mut self, now: Instant) -> bool {
        let left = self.checks.is_left(self.age(now));
        if left {
            self.checks.take();
        }
        left
    }

    /// An authentic packet came: consent to send there.
    pub fn consented(&mut self, now: Instant, from: Path) {
        self.heard = now;
        if self.path == Some(from) {
            self.path_heard = now;
        }
    }

    /// DTLS, RTP or RTCP came.
    pub fn heard_from(&mut self, from: Path) {
        self.heard_from = Some(from);
    }

    /// A request of so many bytes came, and so many go back. An answer is shorter than its request, so there is always room for it.
    pub fn answered(&mut self, to: Path, received: usize, sent: usize) {
        if let Some(limit) = self.unproven.as_mut().filter(|_| self.path == Some(to)) {
            limit.received(received);
            limit.take(sent);
        }
        if let Some(check) = self.check.as_mut().filter(|check| check.path == to) {
            check.allowance.take(sent);
        }
    }

    /// Media goes there from now on: the address has answered, or is the first one.
    pub fn select(&mut self, now: Instant, path: Path) {
        self.path = Some(path);
        self.rival = None;
        self.consented(now, path);
    }

    /// A check came from an address that media does not go to.
    pub fn heard_elsewhere(&mut self, rival: Heard) {
        self.rival = Some(rival).filter(|_| self.is_connected());
    }

    fn rival_due(&self) -> Option<Instant> {
        self.rival.map(|_| self.path_heard + PATH_SILENT)
    }

    /// Where the client is heard now that the path is silent.
    pub fn take_rival(&mut self, now: Instant) -> Option<Heard> {
        let is_due = self.rival_due().is_some_and(|due| now >= due);
        self.rival.take_if(|_| is_due)
    }

    /// Whether so many bytes may be sent to where media goes: it must have proved that it hears us, and be heard.
    pub fn may_send(&mut self, now: Instant, bytes: usize) -> bool {
        now < self.path_heard + CONSENT_TIMEOUT
            && self.unproven.as_mut().is_none_or(|limit| limit.take(bytes))
    }

    /// Keeps a datagram for when the path is proven; false if there are too many.
    pub fn withhold(&mut self, contents: Vec<u8>) -> bool {
        let fits = self.withheld.len() < WITHHELD_MAX;
        if fits {
            self.withheld.push(contents);
        }
        fits
    }

    /// The path hears us; returns what waited for that.
    pub fn proven(&mut self) -> Vec<Vec<u8>> {
        self.unproven = None;
        std::mem::take(&mut self.withheld)
    }

    /// ICE restarted: all addresses but the path are those of the old ICE session.
    pub fn retire_addresses(&mut self, now: Instant) {
        let mut old = self.addresses.clone();
        old.retain(|address| Some(*address) != self.path);
        self.old_addresses = Some((now + OLD_ADDRESSES_TIMEOUT, old));
    }

    /// A check of the current ICE session came from this address.
    pub fn renew_address(&mut self, address: Path) {
        if let Some((_, old)) = &mut self.old_addresses {
            old.retain(|known| *known != address);
        }
    }

    /// The addresses to be forgotten now.
    pub fn expired_addresses(&mut self, now: Instant) -> Vec<Path> {
        let expired = self.old_addresses.take_if(|(until, _)| now >= *until);
        expired.map_or_else(Vec::new, |(_, addresses)| addresses)
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

    /// When consent to send ends. A viewer's is that of its path alone; a publisher that is heard from anywhere goes on, and is
    /// sent nothing once its path is silent.
    fn consent_until(&self) -> Instant {
        let heard = match self.role {
            RoleState::Publisher(_) => self.heard,
            RoleState::Viewer => self.path_heard,
        };
        heard + CONSENT_TIMEOUT
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
        let check = self.check.as_ref().map(AddressCheck::deadline);
        let old_addresses = self.old_addresses.as_ref().map(|(until, _)| *until);
        let others = [role, check, old_addresses, self.rival_due()].into_iter().flatten();
        others.fold(self.peer.deadline().min(life), Instant::min)
    }

    /// Why the session is over at `now`, if it is.
    pub fn over(&self, now: Instant) -> Option<EndReason> {
        match self.life {
            Life::Connecting { until } if now >= until => Some(EndReason::ConnectTimeout),
            Life::Connected if now >= self.consent_until() => Some(EndReason::ConsentExpired),
            Life::Over { .. } => None,
            Life::Closing { until, reason } if now >= until || !self.peer.is_alive() => Some(reason),
            Life::Connecting { .. } if !self.peer.is_alive() => Some(EndReason::DtlsFailed),
            _ if !self.peer.is_alive() => Some(EndReason::ClosedByPeer),
            _ => None,
        }
    }
}
