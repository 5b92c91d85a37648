//! Whose the addresses are: those of sessions here, and behind a shared port those of other workers.

use super::Forwarder;
use crate::control::protocol::WorkerIndex;
use crate::core::ice_check::Path;
use crate::core::shared_port::{Holder, Notice, Origin, SharedPort, Told};
use crate::mesh::{Handover, Signal};
use crate::stats::DropReason;

impl Forwarder {
    /// All workers listen at the same port, with so many sockets each, numbered alike.
    pub fn share_port(&mut self, sockets: usize) {
        self.shared_port = Some(SharedPort::new(sockets));
    }

    /// What is known of the shared port.
    pub fn shared_port(&self) -> Option<&SharedPort> {
        self.shared_port.as_ref()
    }

    /// The other worker that has a session at this address, if its datagrams arrive here.
    pub(super) fn owner_elsewhere(&self, path: Path) -> Option<WorkerIndex> {
        self.shared_port.as_ref().and_then(|port| port.owner(path))
    }

    /// A datagram of no session here goes to the worker that it names, or is dropped for `reason`.
    pub(super) fn pass_on(
        &mut self,
        origin: Origin,
        named: Option<WorkerIndex>,
        reason: DropReason,
        datagram: &[u8],
    ) {
        let Origin { path, via } = origin;
        let is_shared = self.shared_port.as_ref().is_some_and(|port| port.is_shared(path));
        // What was handed over is not handed on: two workers could play catch with it.
        let target = named.filter(|named| is_shared && via.is_none() && self.others.contains(*named));
        let Some(target) = target else { return self.meters.dropped(reason, 1) };
        let is_ours = self.addresses.get(&path).is_some_and(|slot| self.is_alive(*slot));
        let holder = match self.owner_elsewhere(path) {
            Some(owner) if owner == target => Holder::Receiver,
            Some(_) => Holder::Another,
            None if is_ours => Holder::Another,
            None => Holder::Nobody,
        };
        let origin = Origin { path, via: Some((self.worker, holder)) };
        match Handover::copy_of(datagram, origin) {
            Some(handover) => self.out.handovers.push((target, handover)),
            None => self.meters.dropped(DropReason::Oversize, 1),
        }
    }

    /// A session here is at the address, and has proved it or not: what comes from there is wanted.
    pub(super) fn claim(&mut self, origin: Origin, is_proven: bool) {
        let told = self.shared_port.as_mut().and_then(|port| port.admitted(origin, is_proven));
        self.tell_notice(told);
    }

    /// What a worker that hands datagrams over does not know: that this address is not, or not any more, that of a session here.
    pub(super) fn disown(&mut self, origin: Origin) {
        if let Some((via, Holder::Receiver)) = origin.via {
            self.tell_notice(Some((via, Notice::Release(origin.path))));
        }
    }

    /// This address is nobody's any more. The driver knows whether a TCP connection belongs to it.
    pub(super) fn forget_address(&mut self, path: Path) {
        self.addresses.remove(&path);
        self.out.closes.push(path);
        let notice = self.shared_port.as_mut().and_then(|port| port.forgotten(path));
        self.tell_notice(notice);
    }

    /// Another worker says whose an address is.
    pub(super) fn handle_notice(&mut self, from: WorkerIndex, notice: Notice) {
        let is_ours = |path| self.addresses.get(&path).is_some_and(|slot| self.is_alive(*slot));
        let is_refused = matches!(notice, Notice::Claim(path, false) if is_ours(path));
        let Some(port) = &mut self.shared_port else { return };
        match notice {
            Notice::Claim(path, _) if is_refused => self.tell_notice(Some((from, Notice::Lost(path)))),
            Notice::Claim(path, is_proven) => {
                let told = port.claimed(path, from, is_proven);
                self.tell_notice(told);
                self.lose_address(path);
            }
            Notice::Release(path) => port.released(path, from),
            Notice::Lost(path) => {
                if port.lost(path, from) {
                    self.lose_address(path);
                }
            }
        }
    }

    /// A session on another worker has the address now.
    fn lose_address(&mut self, path: Path) {
        let loser = self.addresses.remove(&path);
        if let Some(session) = loser.and_then(|slot| self.sessions.get_mut(slot)) {
            session.paths.remove(path);
        }
    }

    /// Another worker was restarted and does not know what was claimed from it.
    pub(super) fn claim_again(&mut self, from: WorkerIndex) {
        let Some(port) = &mut self.shared_port else { return };
        let claims = port.restarted(from).map(|(to, claim)| (to, Signal::Address(claim)));
        self.out.signals.extend(claims);
    }

    fn tell_notice(&mut self, told: Option<Told>) {
        if let Some((worker, notice)) = told {
            self.tell(worker, Signal::Address(notice));
        }
    }
}
