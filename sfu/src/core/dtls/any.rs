//! DTLS with clients of any certificate, RSA among them: OpenSSL, without I/O.
//!
//! DTLS 1.2 with ephemeral ECDH and AEAD ciphers alone; the certificate is whatever the client's offer has the fingerprint
//! of, which str0m compares. One context is shared by all sessions.
//!
//! OpenSSL reads the system's clock for its retransmission timer, and looks at it when it is asked to go on and finds nothing
//! to read. [`Timer`] follows that timer by str0m's time, to ask when it has run out.

use super::{HandshakeError, Watched, records};
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::srtp::SrtpProfileId;
use openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslStream,
    SslVerifyMode, SslVersion,
};
use openssl::x509::X509;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};
use str0m::config::{DtlsCert, KeyingMaterial};
use str0m::crypto::dtls::{
    DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion, SrtpProfile,
};
use str0m_proto::crypto::{CryptoError, DtlsVersion};

/// Suites of RFC 5289 and RFC 7905: what every client of today has, and nothing without forward secrecy.
const CIPHERS: &str = "ECDHE+AESGCM:ECDHE+CHACHA20";
/// Key exchange, in our order.
const GROUPS: &str = "X25519:P-256:P-384";
/// Signatures that we make and take. Nothing with SHA-1.
const SIGNATURES: &str =
    "ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256:ECDSA+SHA384:RSA-PSS+SHA384:RSA+SHA384:RSA-PSS+SHA512:RSA+SHA512";
/// As a server we take the first that the client has as well.
const SRTP_PROFILES: &str = "SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80";
/// The label of RFC 5764 §4.2.
const EXPORTER: &str = "EXTRACTOR-dtls_srtp";
/// Bits of strength that NIST SP 800-57 asks for: 2048 bits of RSA.
const STRENGTH_BITS_MIN: u32 = 112;
/// After so long OpenSSL sends a flight again, and then after twice as long each time (RFC 6347 §4.2.4.1).
const RETRANSMISSION_TIMEOUT: Duration = Duration::from_secs(1);
/// When OpenSSL's clock was behind ours it is asked again after this time.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// A finished session has nothing to wait for; str0m wants a time.
const IDLE_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Bytes that a client may send before its handshake ends: one takes 3 KiB, with a chain and six retransmissions below 64.
/// It bounds what OpenSSL keeps of fragments and of records that come too early.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a datagram when str0m does not say: the least that IPv6 guarantees, less the headers.
const MTU: usize = 1200;

/// Makes every session's DTLS from one OpenSSL context.
#[derive(Debug)]
pub struct AnyDtls {
    context: SslContext,
}

impl AnyDtls {
    /// Sets OpenSSL up with the process's certificate, once.
    pub fn new(certificate: &DtlsCert) -> Result<AnyDtls, ErrorStack> {
        let mut context = SslContext::builder(SslMethod::dtls())?;
        context.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
        context.set_max_proto_version(Some(SslVersion::DTLS1_2))?;
        context.set_cipher_list(CIPHERS)?;
        context.set_groups_list(GROUPS)?;
        context.set_sigalgs_list(SIGNATURES)?;
        context.set_tlsext_use_srtp(SRTP_PROFILES)?;
        context.set_certificate(&*X509::from_der(&certificate.certificate)?)?;
        context.set_private_key(&*PKey::private_key_from_der(&certificate.private_key)?)?;
        // The fingerprint in the offer is what vouches for a certificate, not an authority. The client still has to prove
        // that it has the key.
        let demanded = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
        context.set_verify_callback(demanded, |_, _| true);
        context.set_session_cache_mode(SslSessionCacheMode::OFF);
        context.set_options(
            SslOptions::NO_QUERY_MTU
                | SslOptions::NO_TICKET
                | SslOptions::NO_RENEGOTIATION
                | SslOptions::NO_COMPRESSION
                | SslOptions::CIPHER_SERVER_PREFERENCE,
        );
        // A session that has connected reads one more datagram in its life.
        context.set_mode(SslMode::RELEASE_BUFFERS);
        Ok(AnyDtls { context: context.build() })
    }
}

impl DtlsProvider for AnyDtls {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        None // the process has one already
    }

    /// The certificate is the process's, which the context has. OpenSSL knows no newer version than DTLS 1.2.
    fn new_dtls(
        &self,
        _certificate: &DtlsCert,
        now: Instant,
        _version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let build = || {
            let mut ssl = Ssl::new(&self.context)?;
            ssl.set_mtu(mtu.unwrap_or(MTU) as u32)?;
            SslStream::new(ssl, Wire::default())
        };
        let stream = build().map_err(|error| CryptoError::Other(error.to_string()))?;
        Ok(Box::new(Watched(OpenSsl {
            stream,
            active: false,
            phase: Phase::Idle,
            now,
            timer: None,
            ready: VecDeque::new(),
            handshake_bytes: 0,
        })))
    }
}

/// The socket that OpenSSL believes to have.
#[derive(Debug, Default)]
struct Wire {
    incoming: Vec<u8>,
    outgoing: VecDeque<Vec<u8>>,
}

impl Read for Wire {
    /// One datagram; OpenSSL's buffer holds the largest.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = self.incoming.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.incoming[..length]);
        self.incoming.clear();
        Ok(length)
    }
}

impl Write for Wire {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.outgoing.push_back(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

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
struct OpenSsl {
    stream: SslStream<Wire>,
    active: bool,
    phase: Phase,
    now: Instant,
    /// Runs since the first flight.
    timer: Option<Timer>,
    ready: VecDeque<Ready>,
    handshake_bytes: usize,
}

/// When OpenSSL's retransmission timer runs out.
#[derive(Debug)]
struct Timer {
    timeout: Duration,
    /// `None` after a new flight, until we are told the time.
    due: Option<Instant>,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer { timeout: RETRANSMISSION_TIMEOUT, due: None }
    }
}

impl Timer {
    /// Whether it has run out at `now`.
    fn has_run_out(&mut self, now: Instant) -> bool {
        *self.due.get_or_insert(now + self.timeout) <= now
    }

    /// OpenSSL was asked at `now`, and has retransmitted or not.
    fn asked(&mut self, now: Instant, has_retransmitted: bool) {
        if has_retransmitted {
            self.timeout *= 2;
        }
        self.due = Some(now + if has_retransmitted { self.timeout } else { RETRY_INTERVAL });
    }
}

impl OpenSsl {
    /// Lets OpenSSL read what is there, retransmit what is due, and write; whether it wrote anything.
    fn go_on(&mut self) -> bool {
        let waiting = self.stream.get_ref().outgoing.len();
        if self.phase == Phase::Handshaking {
            self.shake_hands();
        }
        if self.phase == Phase::Established {
            self.read();
        }
        self.stream.get_ref().outgoing.len() > waiting
    }

    fn shake_hands(&mut self) {
        let done = if self.active { self.stream.connect() } else { self.stream.accept() };
        match done {
            Ok(()) => match self.result() {
                Ok(ready) => {
                    self.phase = Phase::Established;
                    self.ready.extend(ready);
                    self.timer = None;
                    self.stream.get_mut().incoming = Vec::new();
                }
                Err(reason) => {
                    self.say_goodbye();
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

    /// What the handshake agreed on.
    fn result(&self) -> Result<[Ready; 3], HandshakeError> {
        let ssl = self.stream.ssl();
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

    /// Nothing is sent inside DTLS but goodbyes; answers a repeated last flight on the way.
    fn read(&mut self) {
        // Reading asks this thread's list of errors what happened, and does not empty it first.
        drop(ErrorStack::get());
        let mut unused = [0; 512];
        loop {
            match self.stream.ssl_read(&mut unused) {
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

    fn say_goodbye(&mut self) {
        drop(ErrorStack::get());
        // There is nothing to do about a goodbye that cannot be said.
        let _ = self.stream.shutdown();
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
            self.phase = Phase::Handshaking;
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
        let wire = self.stream.get_mut();
        wire.incoming.clear();
        let alert = records::admit(packet, &mut wire.incoming);
        if self.phase == Phase::Idle && !wire.incoming.is_empty() {
            self.phase = Phase::Handshaking;
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
        if let Some(datagram) = self.stream.get_mut().outgoing.pop_front().filter(fits) {
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
        self.phase == Phase::Closed && self.stream.get_ref().outgoing.is_empty()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        if self.phase == Phase::Established {
            self.say_goodbye();
        }
        self.phase = Phase::Closed;
        Ok(())
    }
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
    use openssl::asn1::Asn1Time;
    use openssl::hash::MessageDigest;
    use openssl::pkey::Private;
    use openssl::rsa::Rsa;
    use openssl::x509::X509NameBuilder;

    /// A client with less strict rules than ours.
    struct Client(SslStream<Wire>);

    impl Client {
        fn new(bits: u32, srtp_profiles: Option<&str>, ciphers: &str) -> Client {
            let key = PKey::from_rsa(Rsa::generate(bits).expect("a key")).expect("a key");
            let mut context = SslContext::builder(SslMethod::dtls()).expect("a context");
            context.set_security_level(0);
            context.set_cipher_list(ciphers).expect("ciphers");
            context.set_certificate(&certificate(&key)).expect("a certificate");
            context.set_private_key(&key).expect("a key");
            context.set_options(SslOptions::NO_QUERY_MTU);
            if let Some(profiles) = srtp_profiles {
                context.set_tlsext_use_srtp(profiles).expect("profiles");
            }
            let mut ssl = Ssl::new(&context.build()).expect("a session");
            ssl.set_mtu(1200).expect("an MTU");
            Client(SslStream::new(ssl, Wire::default()).expect("a stream"))
        }

        /// Goes on with `datagram`; returns what it sends.
        fn handle(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
            self.0.get_mut().incoming = datagram.to_vec();
            let _ = self.0.connect();
            self.0.get_mut().outgoing.drain(..).collect()
        }
    }

    fn certificate(key: &PKey<Private>) -> X509 {
        let name = X509NameBuilder::new().expect("a name").build();
        let mut builder = X509::builder().expect("a builder");
        builder.set_subject_name(&name).expect("a name");
        builder.set_issuer_name(&name).expect("a name");
        builder.set_not_before(&Asn1Time::days_from_now(0).expect("a day")).expect("a day");
        builder.set_not_after(&Asn1Time::days_from_now(1).expect("a day")).expect("a day");
        builder.set_pubkey(key).expect("a key");
        builder.sign(key, MessageDigest::sha256()).expect("a signature");
        builder.build()
    }

    /// What a server of ours says of a handshake with `client`.
    fn handshake(mut client: Client) -> (Vec<String>, Option<HandshakeError>) {
        let stock = str0m_aws_lc_rs::default_provider();
        let certificate = stock.dtls_provider.generate_certificate().expect("a certificate");
        let provider = AnyDtls::new(&certificate).expect("a context");
        let mut server =
            provider.new_dtls(&certificate, Instant::now(), DtlsVersion::Dtls12, None).expect("a session");
        server.set_active(false);
        let (mut said, mut buffer) = (vec![], vec![0; 2000]);
        let mut to_server = client.handle(&[]);
        for _ in 0..10 {
            let mut to_client = vec![];
            for datagram in std::mem::take(&mut to_server) {
                let _ = server.handle_packet(&datagram);
            }
            loop {
                match server.poll_output(&mut buffer) {
                    DtlsOutput::Packet(packet) => to_client.push(packet.to_vec()),
                    DtlsOutput::PeerCert(_) => said.push("certificate".into()),
                    DtlsOutput::KeyingMaterial(_, profile) => said.push(profile.to_string()),
                    DtlsOutput::Connected => said.push("connected".into()),
                    _ => break,
                }
            }
            to_server = to_client.iter().flat_map(|datagram| client.handle(datagram)).collect();
        }
        drop(MasterKeys::take());
        (said, HandshakeError::take())
    }

    use crate::core::srtp::MasterKeys;

    const GCM_128: &str = "SRTP_AEAD_AES_128_GCM";

    #[test]
    fn the_strongest_srtp_profile_of_the_client_is_taken_and_the_certificate_comes_before_the_keys() {
        let gcm_256 = "SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_128_GCM:SRTP_AEAD_AES_256_GCM";
        let cases = [
            (gcm_256, SrtpProfile::AEAD_AES_256_GCM),
            (GCM_128, SrtpProfile::AEAD_AES_128_GCM),
            ("SRTP_AES128_CM_SHA1_32:SRTP_AES128_CM_SHA1_80", SrtpProfile::AES128_CM_SHA1_80),
        ];
        for (offered, taken) in cases {
            let (said, error) = handshake(Client::new(2048, Some(offered), "ALL"));
            assert_eq!(said, ["certificate", &taken.to_string(), "connected"]);
            assert_eq!(error, None);
        }
    }

    #[test]
    fn a_client_without_an_srtp_profile_of_ours_is_refused() {
        for offered in [None, Some("SRTP_AES128_CM_SHA1_32")] {
            let (said, error) = handshake(Client::new(2048, offered, "ALL"));
            assert_eq!((said, error), (vec![], Some(HandshakeError::NoSrtpProfile)));
        }
    }

    #[test]
    fn a_key_that_can_be_broken_is_refused() {
        let (said, error) = handshake(Client::new(1024, Some(GCM_128), "ALL"));
        assert_eq!(said, Vec::<String>::new());
        assert_eq!(error, Some(HandshakeError::WeakKey(80)));
    }

    #[test]
    fn ciphers_without_forward_secrecy_or_authentication_are_refused() {
        for ciphers in ["kRSA", "aNULL", "ECDHE+SHA1"] {
            let (said, error) = handshake(Client::new(2048, Some(GCM_128), ciphers));
            assert_eq!(said, Vec::<String>::new());
            assert!(matches!(error, Some(HandshakeError::OpenSsl(_))), "{ciphers}: {error:?}");
        }
    }
}
