//! The ways to a client: the addresses that it was heard from, the one that its media goes to, and its consent to that.

use super::ice::IceSessionNumber;
use super::ice_check::{AddressCheck, Allowance, Heard, Path, Quota};
use std::time::{Duration, Instant};

/// Consent to send ends so long after the last authenticated packet (RFC 7675 §5.1).
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// A path that was silent for so long is left for an address from which the client is heard. Chromium nominates again when its
/// address changes, Firefox does not; reports come every second or two, and checks of a pair in use every 2.5 or 5 s.
const PATH_SILENT: Duration = Duration::from_secs(3);
/// After a restart what is still on its way from the old addresses is taken for so long.
const OLD_ADDRESSES_TIMEOUT: Duration = Duration::from_secs(5);
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

/// An address of the client.
#[derive(Debug, Clone, Copy)]
struct Known {
    path: Path,
    /// The latest of which a request came from there.
    ice_session: IceSessionNumber,
}

/// One session's.
#[derive(Debug)]
pub struct Paths {
    created: Instant,
    /// The first pair that the client nominated, then those that it nominated and that answered a check.
    selected: Option<Path>,
    /// What the first one may be sent until DTLS has proved that it hears us. `None` once proved.
    unproven: Option<Allowance>,
    withheld: Vec<Vec<u8>>,
    /// When an authentic packet came from the selected one, and from anywhere.
    selected_heard: Instant,
    heard: Instant,
    /// The selected one was a TCP connection that has ended.
    selected_is_gone: bool,
    /// The last other address that a check came from.
    rival: Option<Heard>,
    /// From where requests with good integrity came, the oldest first.
    known: Vec<Known>,
    brought: Quota,
    /// ICE has restarted: addresses of which no request came in an ICE session that is alive are forgotten then.
    forget_old_at: Option<Instant>,
    /// The one from which DTLS, RTP or RTCP came last.
    heard_from: Option<Path>,
    /// The check of ours that is on its way.
    pub check: Option<AddressCheck>,
    checks: Quota,
}

impl Paths {
    /// Of a client that has not been heard.
    pub fn new(now: Instant) -> Paths {
        Paths {
            created: now,
            selected: None,
            unproven: None,
            withheld: Vec::new(),
            selected_heard: now,
            heard: now,
            selected_is_gone: false,
            rival: None,
            known: Vec::new(),
            brought: Quota::new(ADDRESSES_AT_ONCE, ADDRESS_INTERVAL),
            forget_old_at: None,
            heard_from: None,
            check: None,
            checks: Quota::new(CHECKS_AT_ONCE, CHECK_INTERVAL),
        }
    }

    /// Where media goes.
    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// The addresses that belong to the client.
    pub fn known(&self) -> impl Iterator<Item = Path> {
        self.known.iter().map(|known| known.path)
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.created)
    }

    /// Whether the client may bring another address now.
    pub fn may_bring(&self, now: Instant) -> bool {
        self.brought.is_left(self.age(now))
    }

    /// Adds an address of the client, from which a request of this ICE session came; returns the one that had to make room.
    pub fn add(&mut self, path: Path, ice_session: IceSessionNumber) -> Option<Path> {
        let full = self.known.len() >= ADDRESSES_MAX;
        let in_use = [self.heard_from, self.selected];
        let oldest = self.known.iter().position(|known| !in_use.contains(&Some(known.path)));
        let evicted = oldest.filter(|_| full).map(|index| self.known.remove(index).path);
        self.known.push(Known { path, ice_session });
        self.brought.take();
        evicted
    }

    /// A request of this ICE session came from an address of the client.
    pub fn renew(&mut self, path: Path, ice_session: IceSessionNumber) {
        if let Some(known) = self.known.iter_mut().find(|known| known.path == path) {
            known.ice_session = known.ice_session.max(ice_session);
        }
    }

    /// An address belongs to somebody else, or to nobody.
    pub fn remove(&mut self, path: Path) {
        self.known.retain(|known| known.path != path);
    }

    /// The TCP connection behind an address has ended.
    pub fn disconnected(&mut self, path: Path) {
        self.remove(path);
        self.rival.take_if(|rival| rival.path == path);
        self.selected_is_gone |= self.selected == Some(path);
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
        if self.selected == Some(from) {
            self.selected_heard = now;
            self.selected_is_gone = false;
        }
    }

    /// DTLS, RTP or RTCP came.
    pub fn heard_from(&mut self, from: Path) {
        self.heard_from = Some(from);
    }

    /// When consent to send to the selected path ends.
    pub fn consent_until(&self) -> Instant {
        self.selected_heard + CONSENT_TIMEOUT
    }

    /// When the client has not been heard from any address for that long.
    pub fn heard_until(&self) -> Instant {
        self.heard + CONSENT_TIMEOUT
    }

    /// The client nominated its first pair. DTLS will prove that it hears us there; until then it is sent little.
    pub fn select_first(&mut self, now: Instant, path: Path) {
        self.unproven = Some(Allowance::of_first_address());
        self.select(now, path);
    }

    /// Media goes there from now on.
    pub fn select(&mut self, now: Instant, path: Path) {
        self.selected = Some(path);
        self.rival = None;
        self.consented(now, path);
    }

    /// The selected path hears us; returns what waited for that.
    pub fn proven(&mut self) -> Vec<Vec<u8>> {
        self.unproven = None;
        std::mem::take(&mut self.withheld)
    }

    /// So many bytes came from an address.
    pub fn received(&mut self, from: Path, bytes: usize) {
        if let Some(limit) = self.unproven.as_mut().filter(|_| self.selected == Some(from)) {
            limit.received(bytes);
        }
    }

    /// So many bytes answer a request. An answer is shorter than its request, so there is always room for it.
    pub fn answered(&mut self, to: Path, bytes: usize) {
        let check = self.check.as_mut().filter(|check| check.path == to).map(|check| &mut check.allowance);
        let selected = self.unproven.as_mut().filter(|_| self.selected == Some(to));
        for limit in [check, selected].into_iter().flatten() {
            limit.take(bytes);
        }
    }

    /// Whether so many bytes may be sent to the selected path: it must have proved that it hears us, and be heard.
    pub fn may_send(&mut self, now: Instant, bytes: usize) -> bool {
        now < self.consent_until() && self.unproven.as_mut().is_none_or(|limit| limit.take(bytes))
    }

    /// Whether so many bytes of a check may be sent.
    pub fn may_check(&mut self, bytes: usize) -> bool {
        let Some(check) = &mut self.check else { return false };
        let selected = self.unproven.as_mut().filter(|_| self.selected == Some(check.path));
        selected.unwrap_or(&mut check.allowance).take(bytes)
    }

    /// Keeps a datagram for when the selected path is proven; false if it is, or if too many wait.
    pub fn withhold(&mut self, contents: Vec<u8>) -> bool {
        let fits = self.unproven.is_some() && self.withheld.len() < WITHHELD_MAX;
        if fits {
            self.withheld.push(contents);
        }
        fits
    }

    /// A check came from an address that media does not go to.
    pub fn heard_elsewhere(&mut self, rival: Heard) {
        self.rival = Some(rival);
    }

    /// A path may be silent for a while; one that is gone will not be heard again.
    fn rival_due(&self) -> Option<Instant> {
        let silent = if self.selected_is_gone { Duration::ZERO } else { PATH_SILENT };
        self.rival.map(|_| self.selected_heard + silent)
    }

    /// Where the client is heard now that the selected path is silent or gone.
    pub fn take_rival(&mut self, now: Instant) -> Option<Heard> {
        let is_due = self.rival_due().is_some_and(|due| now >= due);
        self.rival.take_if(|_| is_due)
    }

    /// An ICE session has taken the place of another, whose addresses are the client's for a while yet.
    pub fn retire(&mut self, now: Instant) {
        self.forget_old_at = Some(now + OLD_ADDRESSES_TIMEOUT);
    }

    /// Forgets the addresses that were heard in no ICE session that is alive, once it is time; returns them. Media may go on to
    /// the selected one.
    pub fn forget_old(&mut self, now: Instant, is_alive: impl Fn(IceSessionNumber) -> bool) -> Vec<Path> {
        if self.forget_old_at.take_if(|at| now >= *at).is_none() {
            return Vec::new();
        }
        let is_old = |known: &mut Known| Some(known.path) != self.selected && !is_alive(known.ice_session);
        self.known.extract_if(.., is_old).map(|known| known.path).collect()
    }

    /// When something is due, consent apart.
    pub fn deadline(&self) -> Option<Instant> {
        let check = self.check.as_ref().map(AddressCheck::deadline);
        [check, self.forget_old_at, self.rival_due()].into_iter().flatten().min()
    }
}
