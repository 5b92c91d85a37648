//! A viewer in memory: an [`Endpoint`] in the browser's role, connected to a [`Forwarder`] without sockets.

use crate::endpoint::{Endpoint, Introduction, STEP, STEPS_MAX, Side, words};
use crate::error::Error;
use crate::inputs::viewer_plan;
use sfu::control::protocol::RequestId;
use sfu::core::forwarder::Forwarder;
use sfu::core::outbox::SessionEvent;
use sfu::core::plan::{DtlsRole, PeerCertificate, RemoteTransport};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The client's half of a join.
pub struct Client {
    endpoint: Endpoint,
    certificate: PeerCertificate,
}

impl Client {
    /// A client at `address` that will talk to `server`. Not connected; this is the costly part (0.6 ms).
    pub fn new(now: Instant, address: SocketAddr, server: SocketAddr) -> Result<Client, String> {
        let endpoint = Endpoint::new(now, Side::Client, address, server)?;
        Ok(Client { endpoint, certificate: PeerCertificate::Ecdsa })
    }

    /// The same, as one of which the server knows this much; its certificate is ECDSA.
    pub fn known_as(self, certificate: PeerCertificate) -> Client {
        Client { certificate, ..self }
    }

    /// Creates a session in `forwarder` and goes through ICE and DTLS with it, all in a moment of virtual time that starts
    /// at `now`. `fingerprint` is the forwarder's. Returns the virtual time it took.
    pub fn connect(
        &mut self,
        now: Instant,
        forwarder: &mut Forwarder,
        fingerprint: [u8; 32],
    ) -> Result<Duration, String> {
        let mut plan = viewer_plan();
        plan.remote = self.transport()?;
        forwarder.create(now, RequestId(0), plan);
        let created = match forwarder.out.events.pop_front() {
            Some(SessionEvent::Created { result: Ok(created), .. }) => created,
            other => return Err(format!("no session: {other:?}")),
        };
        self.endpoint.start(Introduction {
            ufrag: created.ice_ufrag,
            password: created.ice_pwd,
            fingerprint: fingerprint.into(),
        })?;
        for step in 0..STEPS_MAX {
            let now = now + STEP * step;
            self.exchange(now, forwarder)?;
            let connected = |event: &SessionEvent| *event == SessionEvent::Connected(created.session);
            if forwarder.out.events.drain(..).any(|event| connected(&event)) {
                // The last flight belongs to the client.
                self.exchange(now, forwarder)?;
                return Ok(STEP * step);
            }
        }
        Err("ICE or DTLS did not end".into())
    }

    fn transport(&mut self) -> Result<RemoteTransport, String> {
        let Introduction { ufrag, password, fingerprint } = self.endpoint.introduction();
        Ok(RemoteTransport {
            ice_ufrag: ufrag,
            ice_pwd: password,
            fingerprint: fingerprint.as_slice().try_into().map_err(words)?,
            dtls_role: DtlsRole::Passive,
            certificate: self.certificate,
        })
    }

    /// Each side takes what the other has sent, twice, so that what is answered at once arrives at once.
    fn exchange(&mut self, now: Instant, forwarder: &mut Forwarder) -> Result<(), String> {
        let address = self.endpoint.address();
        self.endpoint.advance(now)?;
        for _ in 0..2 {
            for datagram in self.endpoint.take_outgoing() {
                forwarder.handle_datagram(now, 0, address, &datagram);
            }
            for transmit in std::mem::take(&mut forwarder.out.transmits) {
                if transmit.to == address {
                    self.endpoint.receive(now, &transmit.contents)?;
                }
            }
        }
        Ok(())
    }
}

/// Builds a client and connects it; `viewer` is for the error.
pub fn join(
    viewer: usize,
    now: Instant,
    address: SocketAddr,
    server: SocketAddr,
    forwarder: &mut Forwarder,
    fingerprint: [u8; 32],
) -> Result<Duration, Error> {
    Client::new(now, address, server)
        .and_then(|mut client| client.connect(now, forwarder, fingerprint))
        .map_err(|why| Error::Join { viewer, why })
}
