//! What tests do to the world: to sessions, to the network, and as strangers.

use super::{Client, ClientIndex, TCP, World, new_worker, socket_of};
use sfu::control::protocol::{IceCredentials, LayerChoice, RequestId, RestartError, SessionId};
use sfu::core::outbox::SessionEvent;
use sfu::core::stun::{Request as StunRequest, TransactionId};
use std::net::SocketAddr;
use std::ops::Range;

impl World {
    /// The viewer wants a layer.
    pub fn select_layer(&mut self, index: ClientIndex, choice: LayerChoice) {
        let seat = &self.seats[index.0];
        self.workers[seat.worker].select_layer(self.now, seat.session, choice.into());
    }

    /// Signals between workers wait, as they do before a full inbox.
    pub fn hold_signals(&mut self, hold: bool) {
        self.signals_held = hold;
    }

    /// The client makes a good check from another port; whether it was answered.
    pub fn check_from(&mut self, index: ClientIndex, port: u16) -> bool {
        let address = SocketAddr::from(([10, 0, 0, 1], port));
        let check = self.good_check(index, false);
        let worker = &mut self.workers[self.seats[index.0].worker];
        worker.handle_datagram(self.now, 0, address, &check);
        worker.out.transmits.iter().any(|transmit| transmit.to == address)
    }

    /// A check with the client's credentials, nominating or not.
    pub fn good_check(&mut self, index: ClientIndex, nominates: bool) -> Vec<u8> {
        let seat = &mut self.seats[index.0];
        let theirs = seat.client.credentials().ufrag;
        let request = StunRequest {
            to: &seat.ufrag,
            from: &theirs,
            password: &seat.password,
            tie_breaker: 1,
            nominates: true,
        };
        let mut bytes = request.write(TransactionId([3; 12]));
        if !nominates {
            let username = format!("{}:{theirs}", seat.ufrag);
            bytes = Client::binding_request(&username, &seat.password);
        }
        bytes
    }

    /// A check of the client that believes that we are in control.
    pub fn confused_check(&mut self, index: ClientIndex) -> Vec<u8> {
        let seat = &mut self.seats[index.0];
        let from = &seat.client.credentials().ufrag;
        let (to, password) = (&seat.ufrag, &seat.password);
        StunRequest { to, from, password, tie_breaker: 1, nominates: false }.write(TransactionId([4; 12]))
    }

    /// A datagram from any address to the worker of this client.
    pub fn inject_from(&mut self, index: ClientIndex, from: SocketAddr, datagram: &[u8]) {
        let worker = self.seats[index.0].worker;
        self.workers[worker].handle_datagram(self.now, socket_of(from), from, datagram);
    }

    /// A datagram from any address, which the kernel gives to this worker.
    pub fn inject_at(&mut self, worker: usize, from: SocketAddr, datagram: &[u8]) {
        self.workers[worker].handle_datagram(self.now, socket_of(from), from, datagram);
    }

    /// A worker starts anew after a fault.
    pub fn restart_worker(&mut self, index: usize) {
        let count = self.workers.len() as u16;
        let mut worker = new_worker(self.now, &self.identity, index as u16, count, self.shares_port);
        worker.announce_restart();
        self.workers[index] = worker;
    }

    /// Restarts a client's ICE in the server; the client does not know of it yet.
    pub fn restart(
        &mut self,
        index: ClientIndex,
        remote: &IceCredentials,
    ) -> Result<IceCredentials, RestartError> {
        let seat = &self.seats[index.0];
        let worker = &mut self.workers[seat.worker];
        worker.restart_ice(RequestId(77), seat.session, remote.clone());
        match worker.out.events.pop_back() {
            Some(SessionEvent::IceRestarted { request: RequestId(77), result }) => {
                result.map(|(credentials, _)| credentials)
            }
            other => panic!("no answer to the restart: {other:?}"),
        }
    }

    /// Our own checks are lost from now on.
    pub fn lose_checks(&mut self) {
        self.checks_lost = true;
    }

    /// The client's STUN is lost from now on.
    pub fn mute_stun(&mut self, index: ClientIndex) {
        self.seats[index.0].stun_muted = true;
    }

    /// The client reads so slowly that its connection takes only so many bytes from now on.
    pub fn set_room(&mut self, index: ClientIndex, bytes: usize) {
        self.rooms.insert(self.seats[index.0].client.address(), bytes);
    }

    /// The TCP connection of the client is gone.
    pub fn disconnect(&mut self, index: ClientIndex) {
        let (socket, address) = self.way(index);
        let worker = &mut self.workers[self.seats[index.0].worker];
        worker.disconnected(self.now, socket, address);
        assert!(!worker.knows(socket, address));
        self.rooms.insert(address, 0);
    }

    /// The same, and the client goes on over a new one from this port.
    pub fn reconnect(&mut self, index: ClientIndex, port: u16) {
        self.disconnect(index);
        let (_, mut address) = self.way(index);
        address.set_port(port);
        self.seats[index.0].client.move_to(address);
    }

    /// A TCP connection to the worker of this client begins with this datagram; whether it is taken.
    pub fn connect_from(&mut self, index: ClientIndex, from: SocketAddr, first: &[u8]) -> bool {
        let worker = &mut self.workers[self.seats[index.0].worker];
        worker.connected(self.now, TCP, from, first)
    }

    /// Nothing passes between this client and the workers from now on.
    pub fn mute(&mut self, index: ClientIndex) {
        self.seats[index.0].muted = true;
    }

    /// Loses the next media packet that the client sends.
    pub fn lose_next_from(&mut self, index: ClientIndex, lose: bool) {
        self.seats[index.0].lose_from = lose;
    }

    /// Loses the next media packet on its way to the client.
    pub fn lose_next_to(&mut self, index: ClientIndex, lose: bool) {
        self.seats[index.0].lose_to = lose;
    }

    /// Loses these of the DTLS datagrams between the client and its worker, counted from 0 in either direction.
    pub fn lose_dtls(&mut self, index: ClientIndex, lost: Range<u32>) {
        self.seats[index.0].lost_dtls = lost;
    }

    /// Deletes a session.
    pub fn delete(&mut self, worker: usize, session: SessionId) {
        self.workers[worker].delete(self.now, session);
    }

    /// A datagram from an address that belongs to nobody.
    pub fn inject(&mut self, worker: usize, datagram: &[u8]) {
        let stranger = SocketAddr::from(([10, 0, 0, 66], 6_666));
        self.workers[worker].handle_datagram(self.now, 0, stranger, datagram);
    }

    /// A datagram that claims to come from this client.
    pub fn inject_as(&mut self, index: ClientIndex, datagram: &[u8]) {
        let seat = &self.seats[index.0];
        self.workers[seat.worker].handle_datagram(self.now, 0, seat.client.address(), datagram);
    }
}
