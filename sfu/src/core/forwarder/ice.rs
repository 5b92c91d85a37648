//! STUN: clients' checks, our own, and what follows from both: whose an address is, and where media goes.

use super::Forwarder;
use crate::control::protocol::{IceCredentials, RequestId, RestartError, SessionId};
use crate::core::demux;
use crate::core::ice::IceSessionNumber;
use crate::core::ice_check::{AddressCheck, Allowance, Path, Step};
use crate::core::outbox::{SessionEvent, Transmit};
use crate::core::plan::{Role, are_ice_credentials};
use crate::core::session::{Life, Session};
use crate::core::stun::{Class, Message, TransactionId};
use crate::stats::{DropReason, JoinPhase};
use std::time::Instant;

impl Forwarder {
    /// A STUN message arrived.
    pub(super) fn handle_stun(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        let Some(message) = Message::parse(datagram) else {
            return self.meters.dropped(DropReason::NotMedia, 1);
        };
        let found = match message.class {
            Class::Request => self.by_ufrag(&message).ok_or(DropReason::UnknownUfrag),
            Class::Indication => self.addresses.get(&path).copied().ok_or(DropReason::UnknownAddress),
            Class::Success | Class::Error => {
                self.checks.get(&message.transaction).copied().ok_or(DropReason::UnknownTransaction)
            }
        };
        match (found, message.class) {
            (Err(reason), _) => self.meters.dropped(reason, 1),
            // Keeps a NAT's door open (RFC 8445 §11) and asks for nothing.
            (Ok(_), Class::Indication) => {}
            (Ok(slot), Class::Request) => {
                self.guarded(now, slot, |core| {
                    core.handle_request(now, slot, path, (&message, datagram.len()))
                });
            }
            (Ok(slot), _) => self.guarded(now, slot, |core| core.handle_response(now, slot, path, &message)),
        }
    }

    fn by_ufrag(&self, request: &Message<'_>) -> Option<usize> {
        let (ours, _) = request.ufrags?;
        let slot = demux::slot_of(ours)?;
        self.sessions.get(slot)?.ice.is_called(ours).then_some(slot)
    }

    /// A client checks the way to us. Only a request with good integrity is answered and changes anything.
    fn handle_request(
        &mut self,
        now: Instant,
        slot: usize,
        path: Path,
        (request, bytes): (&Message<'_>, usize),
    ) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if session.is_ending() {
            return; // consent is revoked (RFC 7675 §5.2)
        }
        let owner = self.addresses.get(&path).copied();
        let Some(ice) = session.ice.session_of(request) else {
            return self.meters.dropped(DropReason::Rejected, 1);
        };
        if owner.is_none() && !session.may_bring_address(now) {
            return self.meters.dropped(DropReason::Rejected, 1);
        }
        let (number, contents) = (ice.number, ice.answer(request, path.1));
        let answer_bytes = contents.len();
        self.out.transmits.push(Transmit { socket: path.0, to: path.1, contents });
        if request.ice_controlled {
            return; // it was told to take the control, and will check again
        }
        session.consented(now, path);
        session.renew_address(path);
        let left = session.is_connected() && session.path != Some(path) && session.is_path_silent(now);
        let is_foreign = owner.is_some_and(|owner| owner != slot && self.is_alive(owner));
        match (is_foreign, request.use_candidate || left) {
            (false, nominated) => {
                self.admit(slot, path);
                if nominated {
                    self.nominate(now, slot, path, (number, bytes));
                }
            }
            // An address is not taken from another session by a request, whose source may be forged.
            (true, nominated) => self.begin_check(now, slot, path, (number, nominated, bytes)),
        }
        if let Some(session) = self.sessions.get_mut(slot) {
            session.count_unproven(path, bytes, answer_bytes);
        }
    }

    fn is_alive(&self, slot: usize) -> bool {
        self.sessions.get(slot).is_some_and(|session| !session.is_ending())
    }

    /// The client wants its media there.
    fn nominate(
        &mut self,
        now: Instant,
        slot: usize,
        path: Path,
        (number, bytes): (IceSessionNumber, usize),
    ) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        match session.path {
            // DTLS will prove that this one hears us; until then it is sent little.
            None => {
                session.unproven = Some(Allowance::default());
                self.select(now, slot, path, number);
            }
            Some(current) if current == path => {
                if session.check.as_ref().is_some_and(|check| check.path != path) {
                    self.cancel_check(slot);
                }
                self.select(now, slot, path, number);
            }
            Some(_) => self.begin_check(now, slot, path, (number, true, bytes)),
        }
    }

    /// Media goes there from now on, and the ICE session is the current one.
    fn select(&mut self, now: Instant, slot: usize, path: Path, number: IceSessionNumber) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let is_first = session.path.is_none();
        session.select(now, path);
        if let Some(Some(viewer)) = self.viewers.get_mut(slot) {
            viewer.path = path;
        }
        if session.ice.nominated(number) {
            session.retire_addresses(now);
        }
        if !is_first {
            return;
        }
        if session.plan.role == Role::Viewer {
            self.meters.joined(JoinPhase::Ice, now.saturating_duration_since(session.created));
        }
        if session.peer.nominated(now, &mut self.drained).is_err() {
            self.meters.dropped(DropReason::Rejected, 1);
        }
    }

    /// Notes that the address belongs to the session.
    fn admit(&mut self, slot: usize, path: Path) {
        let previous = self.addresses.insert(path, slot);
        if previous == Some(slot) {
            return;
        }
        if let Some(loser) = previous.and_then(|previous| self.sessions.get_mut(previous)) {
            loser.addresses.retain(|address| *address != path);
        }
        if let Some(evicted) = self.sessions.get_mut(slot).and_then(|session| session.add_address(path)) {
            self.addresses.remove(&evicted);
            self.hang_up(evicted);
        }
    }

    /// Forgets the addresses of the ICE session before the last.
    pub(super) fn forget_addresses(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let mut forgotten = session.expired_addresses(now);
        forgotten.retain(|path| session.path != Some(*path) && self.addresses.get(path) == Some(&slot));
        session.addresses.retain(|address| !forgotten.contains(address));
        for path in forgotten {
            self.addresses.remove(&path);
            self.hang_up(path);
        }
    }

    /// Asks whether the client hears us at this address, unless it is being asked. One check at a time: the last word counts.
    fn begin_check(
        &mut self,
        now: Instant,
        slot: usize,
        path: Path,
        (number, nominated, bytes): (IceSessionNumber, bool, usize),
    ) {
        let transaction = TransactionId(self.random_bytes());
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if let Some(check) = &mut session.check
            && (check.path, check.ice_session) == (path, number)
        {
            check.allowance.received(bytes);
            check.nominated |= nominated;
            return;
        }
        if !session.take_check(now) {
            return self.meters.dropped(DropReason::Rejected, 1);
        }
        self.cancel_check(slot);
        let mut check = AddressCheck::new(now, path, transaction, number);
        check.allowance.received(bytes);
        check.nominated = nominated;
        self.checks.insert(transaction, slot);
        if let Some(session) = self.sessions.get_mut(slot) {
            session.check = Some(check);
        }
        self.step_check(now, slot);
    }

    /// Sends the request of a check, for the first time or again, or gives it up.
    pub(super) fn step_check(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Session { ice, check: Some(check), path, unproven, .. } = session else { return };
        match check.step(now) {
            Step::Wait => {}
            Step::Failed => self.cancel_check(slot),
            Step::Send => {
                let Some(contents) = ice.check(check.ice_session, check.transaction) else {
                    return self.cancel_check(slot); // another restart came between
                };
                let of_path = unproven.as_mut().filter(|_| *path == Some(check.path));
                if of_path.unwrap_or(&mut check.allowance).take(contents.len()) {
                    let (socket, to) = check.path;
                    self.out.transmits.push(Transmit { socket, to, contents });
                }
            }
        }
    }

    /// What may not be sent before the address has proved that it hears us: a long flight of DTLS. It waits for that.
    pub(super) fn withhold(&mut self, now: Instant, slot: usize, contents: Vec<u8>) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        match session.path.filter(|_| session.unproven.is_some() && session.withhold(contents)) {
            Some(path) => {
                let number = session.ice.current();
                self.begin_check(now, slot, path, (number, true, 0));
            }
            None => self.meters.dropped(DropReason::UnprovenAddress, 1),
        }
    }

    /// Forgets the check that is on its way.
    pub(super) fn cancel_check(&mut self, slot: usize) {
        let check = self.sessions.get_mut(slot).and_then(|session| session.check.take());
        if let Some(check) = check {
            self.checks.remove(&check.transaction);
        }
    }

    /// A client answers a check of ours.
    fn handle_response(&mut self, now: Instant, slot: usize, path: Path, response: &Message<'_>) {
        let Some(Session { ice, check: Some(check), .. }) = self.sessions.get(slot) else { return };
        let proven = response.class == Class::Success
            && check.path == path
            && ice.session(check.ice_session).is_some_and(|session| session.is_answered_by(response));
        if !proven {
            return self.meters.dropped(DropReason::Rejected, 1);
        }
        let (number, nominated) = (check.ice_session, check.nominated);
        self.cancel_check(slot);
        self.admit(slot, path);
        if let Some(session) = self.sessions.get_mut(slot) {
            session.consented(now, path);
        }
        if !nominated {
            return;
        }
        if let Some(session) = self.sessions.get_mut(slot) {
            self.drained.datagrams.append(&mut session.proven());
        }
        self.select(now, slot, path, number);
    }

    /// Restarts a session's ICE and answers with [`SessionEvent::IceRestarted`].
    pub fn restart_ice(&mut self, request: RequestId, session: SessionId, remote: IceCredentials) {
        let result = self.try_restart_ice(session, remote);
        self.out.events.push_back(SessionEvent::IceRestarted { request, result });
    }

    fn try_restart_ice(
        &mut self,
        id: SessionId,
        remote: IceCredentials,
    ) -> Result<IceCredentials, RestartError> {
        let local = self.fresh_credentials(id);
        let found = self.sessions.get_mut(id.slot as usize).filter(|session| session.id == id);
        let session = found.ok_or(RestartError::NoSession)?;
        match session.life {
            Life::Connecting { .. } => return Err(RestartError::NotConnected),
            Life::Closing { .. } | Life::Over { .. } => return Err(RestartError::NoSession),
            Life::Connected => {}
        }
        // Ours is new by 32 random bits; a client's may be anything.
        let good = are_ice_credentials(&remote.ufrag, &remote.pwd) && session.ice.is_restarted_by(&remote);
        if !good || session.ice.is_called(local.ufrag.as_bytes()) {
            return Err(RestartError::BadCredentials);
        }
        session.ice.restart(local.clone(), remote);
        Ok(local)
    }
}
