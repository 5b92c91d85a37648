//! DTLS, of two kinds: [`ecdsa`] is quick and takes clients with ECDSA certificates, [`any`] takes RSA as well.
//!
//! An offer does not name the kind of key, and a handshake cannot change hands, so signaling says in
//! [`PeerCertificate`](super::plan::PeerCertificate) which one a session gets. str0m drives both through the same traits;
//! what str0m does not hand out is copied as it passes here: the SRTP keys, and why a handshake failed.

pub mod any;
pub mod ecdsa;

use super::srtp::MasterKeys;
use std::cell::RefCell;
use std::time::Instant;
use str0m::crypto::dtls::{DtlsImplError, DtlsInstance, DtlsOutput, ProtocolVersion};

/// Why a client's handshake went no further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The client has a certificate that is not ECDSA, and its offer looked like one of a client that always has.
    #[error(
        "the client has no ECDSA certificate, though its offer looks like that of a client that always has one; \
         make the client use one, or change the origin line (o=) of its offer so that it is not taken for such a client"
    )]
    NotEcdsa,
    /// The client ended it with an alert of this number (RFC 5246 §7.2). Anybody can forge one, so the session goes on.
    #[error(
        "the client sent the fatal alert {0}; 40 and 47 mean that it shares no cipher or certificate type with us"
    )]
    Alert(u8),
    /// The key in its certificate can be broken.
    #[error(
        "the key in the client's certificate has a strength of {0} bits; 112 are needed: 2048 bits of RSA or 224 of ECDSA"
    )]
    WeakKey(u32),
    /// No SRTP profile in common (RFC 5764 §4.1.2).
    #[error(
        "the client shares no SRTP profile with us: AEAD_AES_256_GCM, AEAD_AES_128_GCM or AES128_CM_SHA1_80"
    )]
    NoSrtpProfile,
    /// The certificate does not fit into what str0m reads.
    #[error("the client's certificate has {0} bytes, and 2000 is the most; shorten its names or its key")]
    CertificateSize(usize),
    /// It is not who its offer says.
    #[error(
        "the client's certificate is not the one of its offer; its offer must name the SHA-256 of the certificate that it \
         uses, in a=fingerprint"
    )]
    OtherCertificate,
    /// What dimpl says.
    #[error("{0}")]
    Ecdsa(DtlsImplError),
    /// What OpenSSL says.
    #[error("{0}")]
    OpenSsl(String),
}

impl HandshakeError {
    /// Whether nothing that the client sends can help any more.
    pub fn is_final(&self) -> bool {
        !matches!(self, HandshakeError::Alert(_) | HandshakeError::Ecdsa(_))
    }

    /// Whether the client itself gave up, or has to be told to: such a session that ran out of time failed for this reason.
    pub fn explains_timeout(&self) -> bool {
        !matches!(self, HandshakeError::Ecdsa(_))
    }

    /// The last error on this thread, once. Like [`MasterKeys::take`], it belongs to the session at hand.
    pub fn take() -> Option<HandshakeError> {
        LEFT.take()
    }

    /// Leaves it for [`HandshakeError::take`].
    pub fn leave(self) {
        LEFT.with_borrow_mut(|left| *left = Some(self));
    }
}

thread_local! {
    /// str0m turns errors into text of its own, so they go past it.
    static LEFT: RefCell<Option<HandshakeError>> = const { RefCell::new(None) };
}

/// Forwards every call and copies the SRTP keys as they pass. They pass after the certificate, which str0m checks first.
#[derive(Debug)]
struct Watched<D>(D);

impl<D: DtlsInstance> DtlsInstance for Watched<D> {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let active = self.0.is_active();
        let output = self.0.poll_output(buf);
        if let DtlsOutput::KeyingMaterial(material, profile) = &output {
            MasterKeys::leave(material, *profile, active);
        }
        output
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}
