//! STUN: clients' checks, our own, and what follows from both: whose an address is, and where media goes.

use super::Forwarder;
use crate::control::protocol::{IceCredentials, RequestId, RestartError, SessionId};
use crate::core::demux;
use crate::core::ice::IceSessionNumber;
use crate::core::ice_check::{AddressCheck, Heard, Path, Step};
use crate::core::outbox::{SessionEvent, Transmit};
use crate::core::plan::{Role, are_ice_credentials};
use crate::core::session::{Life, Session};
use crate::core::shared_port::Origin;
use crate::core::stun::{Class, Message};
use crate::stats::{DropReason, JoinPhase};
use std::time::Instant;

impl Forwarder {
    /// A STUN message arrived.
    pub(super) fn handle_stun(&mut self, now: Instant, origin: Origin, datagram: &[u8]) {
        let Some(message) = Message::parse(datagram) else {
            return self.meters.dropped(DropReason::NotMedia, 1);
        };
        let path = origin.path;
        let found = match message.class {
            Class::Request => self.by_ufrag(&message).ok_or(DropReason::UnknownUfrag),
            Class::Indication => self.addresses.get(&path).copied().ok_or(DropReason::UnknownAddress),
            Class::Success | Class::Error => {
                self.checks.get(&message.transaction).copied().ok_or(DropReason::UnknownTransaction)
            }
        };
        match (found, message.class) {
            (Err(reason), class) => {
                let named = match class {
                    Class::Request => message.ufrags.and_then(|(ours, _)| demux::worker_of(ours)),
                    Class::Indication => self.owner_elsewhere(path),
                    Class::Success | Class::Error => Some(demux::worker_of_transaction(message.transaction)),
                };
                self.pass_on(origin, named, reason, datagram);
            }
            // Keeps a NAT's door open (RFC 8445 §11) and asks for nothing.
            (Ok(_), Class::Indication) => {}
            (Ok(slot), Class::Request) => {
                self.guarded(now, slot, |core| {
                    core.handle_request(now, slot, origin, (&message, datagram.len()))
                });
            }
            (Ok(slot), _) => {
                self.guarded(now, slot, |core| core.handle_response(now, slot, origin, &message));
            }
        }
    }

    fn by_ufrag(&self, request: &Message<'_>) -> Option<usize> {
        let (ours, _) = request.ufrags?;
        let slot = match demux::slot_of(ours)? {
            demux::CHOSEN_SLOT => *self.chosen.get(ours)?,
            slot => slot,
        };
        self.sessions.get(slot)?.ice.is_called(ours).then_some(slot)
    }

    /// Whether a client of ours wrote this request.
    pub(super) fn is_genuine(&self, datagram: &[u8]) -> bool {
        let request = Message::parse(datagram).filter(|message| message.class == Class::Request);
        let Some(request) = request else { return false };
        let session = self.by_ufrag(&request).and_then(|slot| self.sessions.get(slot));
        session.is_some_and(|session| !session.is_ending() && session.ice.session_of(&request).is_some())
    }

    /// A client checks the way to us. Only a request with good integrity is answered and changes anything.
    fn handle_request(
        &mut self,
        now: Instant,
        slot: usize,
        origin: Origin,
        (request, bytes): (&Message<'_>, usize),
    ) {
        let path = origin.path;
        let owner = self.addresses.get(&path).copied();
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if session.is_ending() {
            return; // consent is revoked (RFC 7675 §5.2)
        }
        let known = owner.is_some() || session.paths.may_bring(now);
        let Some(ice) = session.ice.session_of(request).filter(|_| known) else {
            return self.meters.dropped(DropReason::Rejected, 1);
        };
        let (number, contents) = (ice.number, ice.answer(request, path.1));
        let answer_bytes = contents.len();
        self.out.transmits.push(Transmit { socket: path.0, to: path.1, contents });
        // One that was told to take the control checks again, over the same TCP connection if it came by one.
        let nominates = request.use_candidate && !request.ice_controlled;
        session.paths.consented(now, path);
        let check = Heard { path, ice_session: number, bytes };
        let is_anothers = match owner {
            Some(owner) => owner != slot && self.is_alive(owner),
            None => origin.is_taken() || self.owner_elsewhere(path).is_some(),
        };
        if is_anothers {
            // An address is not taken from another session by a request, whose source may be forged.
            self.begin_check(now, slot, check, nominates);
        } else {
            self.admit(slot, origin, number, false);
            self.follow_request(now, slot, check, nominates);
        }
        if let Some(session) = self.sessions.get_mut(slot) {
            session.paths.received(path, bytes);
            session.paths.answered(path, answer_bytes);
        }
    }

    /// What a good request from an address of the session means for where its media goes.
    fn follow_request(&mut self, now: Instant, slot: usize, heard: Heard, nominated: bool) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Heard { path, ice_session, .. } = heard;
        match (nominated, session.paths.selected()) {
            (false, current) if current == Some(path) => {}
            (false, Some(_)) if session.is_connected() => session.paths.heard_elsewhere(heard),
            (false, _) => {}
            (true, None) => self.select_first(now, slot, path),
            (true, Some(current)) if current == path => {
                if session.paths.check.as_ref().is_some_and(|check| check.path != path) {
                    self.cancel_check(slot);
                }
                self.select(now, slot, path, ice_session);
            }
            (true, Some(_)) => self.begin_check(now, slot, heard, true),
        }
    }

    pub(super) fn is_alive(&self, slot: usize) -> bool {
        self.sessions.get(slot).is_some_and(|session| !session.is_ending())
    }

    /// The path has fallen silent or is gone, and the client is heard elsewhere: is it there?
    pub(super) fn follow_rival(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot).filter(|session| session.is_connected()) else {
            return;
        };
        if let Some(rival) = session.paths.take_rival(now) {
            self.begin_check(now, slot, rival, true);
        }
    }

    /// The client nominated a pair for the first time.
    fn select_first(&mut self, now: Instant, slot: usize, path: Path) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        session.paths.select_first(now, path);
        if session.plan.role == Role::Viewer {
            self.meters.joined(JoinPhase::Ice, now.saturating_duration_since(session.created));
        }
        if session.peer.nominated(now, &mut self.drained).is_err() {
            self.meters.dropped(DropReason::Rejected, 1);
        }
    }

    /// Media goes there from now on, and the ICE session is the current one.
    fn select(&mut self, now: Instant, slot: usize, path: Path, number: IceSessionNumber) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        session.paths.select(now, path);
        if let Some(Some(viewer)) = self.viewers.get_mut(slot) {
            viewer.path = path;
        }
        if session.ice.nominated(number) {
            session.paths.retire(now);
        }
    }

    /// Notes that the address belongs to the session, and was heard in this ICE session.
    fn admit(&mut self, slot: usize, origin: Origin, number: IceSessionNumber, is_proven: bool) {
        let path = origin.path;
        self.claim(origin, is_proven);
        let previous = self.addresses.insert(path, slot);
        if previous == Some(slot) {
            if let Some(session) = self.sessions.get_mut(slot) {
                session.paths.renew(path, number);
            }
            return;
        }
        if let Some(loser) = previous.and_then(|previous| self.sessions.get_mut(previous)) {
            loser.paths.remove(path);
        }
        if let Some(evicted) = self.sessions.get_mut(slot).and_then(|session| session.paths.add(path, number))
        {
            self.forget_address(evicted);
        }
    }

    /// Forgets the addresses of the ICE session before the last restart.
    pub(super) fn forget_addresses(&mut self, now: Instant, slot: usize) {
        let Some(Session { ice, paths, .. }) = self.sessions.get_mut(slot) else { return };
        for path in paths.forget_old(now, |number| ice.session(number).is_some()) {
            self.forget_address(path);
        }
    }

    /// Asks whether the client hears us at this address, unless it is being asked. One check at a time: the last word counts.
    fn begin_check(&mut self, now: Instant, slot: usize, heard: Heard, nominated: bool) {
        let Heard { path, ice_session, bytes } = heard;
        let transaction = demux::transaction(self.worker, self.random_bytes());
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if let Some(check) = &mut session.paths.check
            && (check.path, check.ice_session) == (path, ice_session)
        {
            check.allowance.received(bytes);
            check.nominated |= nominated;
            return;
        }
        if !session.paths.take_check(now) {
            return self.meters.dropped(DropReason::Rejected, 1);
        }
        self.cancel_check(slot);
        let mut check = AddressCheck::new(now, path, transaction, ice_session);
        check.allowance.received(bytes);
        check.nominated = nominated;
        self.checks.insert(transaction, slot);
        if let Some(session) = self.sessions.get_mut(slot) {
            session.paths.check = Some(check);
        }
        self.step_check(now, slot);
    }

    /// Sends the request of a check, for the first time or again, or gives it up.
    pub(super) fn step_check(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Session { ice, paths, .. } = session;
        let Some(check) = &mut paths.check else { return };
        match check.step(now) {
            Step::Wait => {}
            Step::Failed => self.cancel_check(slot),
            Step::Send => {
                let Some(contents) = ice.check(check.ice_session, check.transaction) else {
                    return self.cancel_check(slot); // another restart came between
                };
                let (socket, to) = check.path;
                if paths.may_check(contents.len()) {
                    self.out.transmits.push(Transmit { socket, to, contents });
                }
            }
        }
    }

    /// What may not be sent before the address has proved that it hears us: a long flight of DTLS. It waits for that.
    pub(super) fn withhold(&mut self, now: Instant, slot: usize, contents: Vec<u8>) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let may_wait = !session.is_ending() && session.paths.withhold(contents);
        match session.paths.selected().filter(|_| may_wait) {
            Some(path) => {
                let heard = Heard { path, ice_session: session.ice.current(), bytes: 0 };
                self.begin_check(now, slot, heard, true);
            }
            None => self.meters.dropped(DropReason::UnprovenAddress, 1),
        }
    }

    /// Forgets the check that is on its way.
    pub(super) fn cancel_check(&mut self, slot: usize) {
        let check = self.sessions.get_mut(slot).and_then(|session| session.paths.check.take());
        if let Some(check) = check {
            self.checks.remove(&check.transaction);
        }
    }

    /// A client answers a check of ours.
    fn handle_response(&mut self, now: Instant, slot: usize, origin: Origin, response: &Message<'_>) {
        let path = origin.path;
        let Some(Session { ice, paths, .. }) = self.sessions.get(slot) else { return };
        let Some(check) = &paths.check else { return };
        let proven = response.class == Class::Success
            && check.path == path
            && ice.session(check.ice_session).is_some_and(|session| session.is_answered_by(response));
        if !proven {
            return self.meters.dropped(DropReason::Rejected, 1);
        }
        let (number, nominated) = (check.ice_session, check.nominated);
        self.cancel_check(slot);
        self.admit(slot, origin, number, true);
        if let Some(session) = self.sessions.get_mut(slot) {
            session.paths.consented(now, path);
        }
        match self.sessions.get_mut(slot) {
            Some(session) if nominated && session.paths.selected().is_none() => {
                self.select_first(now, slot, path);
            }
            Some(_) if nominated => self.select(now, slot, path, number),
            _ => return,
        }
        if let Some(session) = self.sessions.get_mut(slot) {
            self.drained.datagrams.append(&mut session.paths.proven());
        }
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
    ) -> Result<(IceCredentials, usize), RestartError> {
        let local = self.fresh_credentials(id);
        let found = self.sessions.get_mut(id.slot as usize).filter(|session| session.id == id);
        let session = found.ok_or(RestartError::NoSession)?;
        let (socket, _) = match (session.life, session.paths.selected()) {
            (Life::Closing { .. } | Life::Over { .. }, _) => return Err(RestartError::NoSession),
            (Life::Connected, Some(path)) => path,
            (Life::Connecting { .. } | Life::Connected, _) => return Err(RestartError::NotConnected),
        };
        // Ours is new by 32 random bits; a client's may be anything.
        let good = are_ice_credentials(&remote.ufrag, &remote.pwd) && session.ice.is_restarted_by(&remote);
        if !good || session.ice.is_called(local.ufrag.as_bytes()) {
            return Err(RestartError::BadCredentials);
        }
        session.ice.restart(local.clone(), remote);
        Ok((local, socket))
    }
}
