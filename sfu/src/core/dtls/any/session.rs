//! One session: OpenSSL's handshake behind str0m's trait.

use super::Template;
use super::records;
use super::timer::Timer;
use super::wire::Wire;
use crate::core::dtls::HandshakeError;
use openssl::error::ErrorStack;
use openssl::srtp::SrtpProfileId;
use openssl::ssl::{ErrorCode, SslRef, SslStream};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use str0m::config::KeyingMaterial;
use str0m::crypto::dtls::{DtlsImplError, DtlsInstance, DtlsOutput, ProtocolVersion, SrtpProfile};

/// The label of RFC 5764 §4.2.
const EXPORTER: &str = "EXTRACTOR-dtls_srtp";
/// Bits of strength that NIST SP 800-57 asks for: 2048 bits of RSA.
const STRENGTH_BITS_MIN: u32 = 112;
/// A finished session has nothing to wait for; str0m wants a time.
const IDLE_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Bytes that a client may send before its handshake ends: one takes 3 KiB, with a chain and six retransmissions below 64.
/// It bounds what OpenSSL keeps of fragments and of records that come too early.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A server that has heard nothing yet.
    Idle,
    Handshaking,
    Established,
    Failed,
    Closed,
}

/// What str0m is to be told, in this order.
#[derive(Debug)]
enum Ready {
    Certificate(Vec<u8>),
    Keys(Vec<u8>, SrtpProfile),
    Connected,
    CloseNotify,
}

/// One session.
#[derive(Debug)]
pub(super) struct OpenSsl {
    template: Template,
    /// OpenSSL's part, from the first flight on: it is most of what a session takes, and a client that only POSTs is not worth it.
    stream: Option<SslStream<Wire>>,
    active: bool,
    phase: Phase,
    now: Instant,
    /// Runs since the first flight.
    timer: Option<Timer>,
    ready: VecDeque<Ready>,
    handshake_bytes: usize,
}

impl OpenSsl {
    /// A session that has neither heard nor said anything.
    pub fn new(template: Template, now: Instant) -> OpenSsl {
        OpenSsl {
            template,
            stream: None,
            active: false,
            phase: Phase::Idle,
            now,
            timer: None,
            ready: VecDeque::new(),
            handshake_bytes: 0,
        }
    }

    fn begin(&mut self) {
        match self.template.stream() {
            Ok(stream) => {
                self.stream = Some(stream);
                self.phase = Phase::Handshaking;
            }
            Err(error) => self.fail(HandshakeError::OpenSsl(error.to_string())),
        }
    }

    /// Lets OpenSSL read what is there, retransmit what is due, and write; whether it wrote anything.
    fn go_on(&mut self) -> bool {
        let waiting = self.waiting();
        if self.phase == Phase::Handshaking {
            self.shake_hands();
        }
        if self.phase == Phase::Established {
            self.read();
        }
        self.waiting() > waiting
    }

    /// Datagrams that wait to be sent.
    fn waiting(&self) -> usize {
        self.stream.as_ref().map_or(0, |stream| stream.get_ref().outgoing.len())
    }

    fn shake_hands(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let done = if self.active { stream.connect() } else { stream.accept() };
        match done {
            Ok(()) => match result(stream.ssl()) {
                Ok(ready) => {
                    self.phase = Phase::Established;
                    self.ready.extend(ready);
                    self.timer = None;
                    stream.get_mut().incoming = Vec::new();
                }
                Err(reason) => {
                    say_goodbye(stream);
                    self.fail(reason);
                }
            },
            Err(error) if waits(error.code()) => {}
            Err(error) => self.fail(HandshakeError::OpenSsl(error.to_string())),
        }
    }

    fn fail(&mut self, reason: HandshakeError) {
        self.phase = Phase::Failed;
        reason.leave();
    }

    /// Nothing is sent inside DTLS but goodbyes; answers a repeated last flight on the way.
    fn read(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        // Reading asks this thread's list of errors what happened, and does not empty it first.
        drop(ErrorStack::get());
        let mut unused = [0; 512];
        loop {
            match stream.ssl_read(&mut unused) {
                Ok(_) => {}
                Err(error) if waits(error.code()) => return,
                // A close_notify or a fatal alert, both authentic.
                Err(_) => {
                    self.ready.push_back(Ready::CloseNotify);
                    return;
                }
            }
        }
    }

    fn deadline(&self) -> Instant {
        let idle = self.now + IDLE_INTERVAL;
        match self.phase {
            Phase::Failed => self.now,
            Phase::Handshaking => self.timer.as_ref().map_or(idle, |timer| timer.due.unwrap_or(self.now)),
            Phase::Idle | Phase::Established | Phase::Closed => idle,
        }
    }
}

impl DtlsInstance for OpenSsl {
    fn set_active(&mut self, active: bool) {
        self.active = active;
        if active {
            self.begin();
            self.go_on();
            self.timer = Some(Timer::default());
        }
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        if matches!(self.phase, Phase::Failed | Phase::Closed) {
            return Err(DtlsImplError::ConnectionClosed);
        }
        if self.phase != Phase::Established {
            self.handshake_bytes += packet.len();
            if self.handshake_bytes > HANDSHAKE_BYTES_MAX {
                return Err(DtlsImplError::ReceiveQueueFull);
            }
        }
        let mut admitted = Vec::new();
        let alert = records::admit(packet, &mut admitted);
        if self.phase == Phase::Idle && !admitted.is_empty() {
            self.begin();
        }
        if let Some(stream) = &mut self.stream {
            stream.get_mut().incoming = admitted;
        }
        if self.go_on() {
            self.timer = Some(Timer::default());
        }
        match alert {
            Some(number) if self.phase != Phase::Established => {
                HandshakeError::Alert(number).leave();
                Err(DtlsImplError::SecurityError(dimpl::SecurityError::FatalAlert { description: number }))
            }
            _ if self.phase == Phase::Failed => Err(DtlsImplError::ConnectionClosed),
            _ => Ok(()),
        }
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let fits = |datagram: &Vec<u8>| datagram.len() <= buf.len();
        let next = self.stream.as_mut().and_then(|stream| stream.get_mut().outgoing.pop_front());
        if let Some(datagram) = next.filter(fits) {
            return DtlsOutput::Packet(filled(buf, &datagram));
        }
        match self.ready.pop_front() {
            Some(Ready::Certificate(der)) if der.len() > buf.len() => {
                self.ready.clear();
                self.fail(HandshakeError::CertificateSize(der.len()));
                DtlsOutput::Timeout(self.now)
            }
            Some(Ready::Certificate(der)) => DtlsOutput::PeerCert(filled(buf, &der)),
            Some(Ready::Keys(keys, profile)) => {
                DtlsOutput::KeyingMaterial(KeyingMaterial::new(&keys), profile)
            }
            Some(Ready::Connected) => DtlsOutput::Connected,
            Some(Ready::CloseNotify) => DtlsOutput::CloseNotify,
            None => DtlsOutput::Timeout(self.deadline()),
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.now = now;
        if self.phase == Phase::Failed {
            return Err(DtlsImplError::ConnectionClosed);
        }
        let is_due = |timer: &mut Timer| timer.has_run_out(now);
        if self.phase == Phase::Handshaking && self.timer.as_mut().is_some_and(is_due) {
            let has_retransmitted = self.go_on();
            self.timer.iter_mut().for_each(|timer| timer.asked(now, has_retransmitted));
        }
        Ok(())
    }

    /// There are no data channels.
    fn send_application_data(&mut self, _data: &[u8]) -> Result<usize, DtlsImplError> {
        Ok(0)
    }

    fn is_active(&self) -> bool {
        self.active
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        (self.phase == Phase::Established).then_some(ProtocolVersion::DTLS1_2)
    }

    fn is_closing(&self) -> bool {
        self.phase == Phase::Closed
    }

    fn is_closed(&self) -> bool {
        self.phase == Phase::Closed && self.waiting() == 0
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        if let (Phase::Established, Some(stream)) = (self.phase, &mut self.stream) {
            say_goodbye(stream);
        }
        self.phase = Phase::Closed;
        Ok(())
    }
}

/// What the handshake agreed on.
fn result(ssl: &SslRef) -> Result<[Ready; 3], HandshakeError> {
    let own = |error: ErrorStack| HandshakeError::OpenSsl(error.to_string());
    let certificate = ssl.peer_certificate().ok_or(HandshakeError::OpenSsl("no certificate".into()))?;
    let strength = certificate.public_key().map_err(own)?.security_bits();
    if strength < STRENGTH_BITS_MIN {
        return Err(HandshakeError::WeakKey(strength));
    }
    let profile = ssl.selected_srtp_profile().and_then(|profile| profile_of(profile.id()));
    let profile = profile.ok_or(HandshakeError::NoSrtpProfile)?;
    let mut keys = vec![0; profile.keying_material_len()];
    ssl.export_keying_material(&mut keys, EXPORTER, None).map_err(own)?;
    let certificate = certificate.to_der().map_err(own)?;
    Ok([Ready::Certificate(certificate), Ready::Keys(keys, profile), Ready::Connected])
}

fn say_goodbye(stream: &mut SslStream<Wire>) {
    drop(ErrorStack::get());
    // There is nothing to do about a goodbye that cannot be said.
    let _ = stream.shutdown();
}

/// Whether OpenSSL waits for more datagrams or for time.
fn waits(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::WANT_READ | ErrorCode::WANT_WRITE)
}

/// `content`, where str0m wants it. The buffer is known to be large enough.
fn filled<'a>(buffer: &'a mut [u8], content: &[u8]) -> &'a [u8] {
    let place = &mut buffer[..content.len()];
    place.copy_from_slice(content);
    place
}

fn profile_of(id: SrtpProfileId) -> Option<SrtpProfile> {
    match id {
        SrtpProfileId::SRTP_AEAD_AES_256_GCM => Some(SrtpProfile::AEAD_AES_256_GCM),
        SrtpProfileId::SRTP_AEAD_AES_128_GCM => Some(SrtpProfile::AEAD_AES_128_GCM),
        SrtpProfileId::SRTP_AES128_CM_SHA1_80 => Some(SrtpProfile::AES128_CM_SHA1_80),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::ssl::{SslContext, SslMethod};

    fn idle() -> OpenSsl {
        let context = SslContext::builder(SslMethod::dtls()).expect("a context").build();
        OpenSsl::new(Template { context, mtu: 1200 }, Instant::now())
    }

    fn hello() -> Vec<u8> {
        let mut client = idle();
        client.set_active(true);
        assert!(client.stream.is_some(), "a client speaks first");
        match client.poll_output(&mut [0; 2000]) {
            DtlsOutput::Packet(hello) => hello.to_vec(),
            _ => vec![],
        }
    }

    #[test]
    fn a_session_that_hears_no_handshake_has_nothing_of_openssl() {
        let mut server = idle();
        server.set_active(false);
        let plaintext_alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 2, 40];
        for noise in [&[][..], &[22; 40], &plaintext_alert] {
            let _ = server.handle_packet(noise);
            let _ = server.handle_timeout(server.now + Duration::from_secs(1));
            assert!(server.stream.is_none());
        }
        assert!(matches!(server.poll_output(&mut [0; 2000]), DtlsOutput::Timeout(_)));
        let _ = server.handle_packet(&hello());
        assert!(server.stream.is_some(), "it answers whoever means it");
        drop(HandshakeError::take());
    }

    #[test]
    fn a_session_may_be_closed_before_anything_was_heard() {
        let mut server = idle();
        server.set_active(false);
        assert!(server.close().is_ok());
        assert!(server.is_closed());
        assert!(server.handle_packet(&hello()).is_err());
    }
}
