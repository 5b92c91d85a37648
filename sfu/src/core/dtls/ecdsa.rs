//! DTLS with clients that have ECDSA certificates: dimpl, with one configuration for all sessions.
//!
//! str0m's stock provider validates a whole crypto provider for each session, which costs more than all the rest of building
//! it; sharing one `dimpl::Config` does that once (`cargo bench -p bench`, "session: build a viewer").

use super::{HandshakeError, Watched};
use dimpl::{CertificateError, SecurityError};
use std::sync::Arc;
use std::time::Instant;
use str0m::config::DtlsCert;
use str0m::crypto::dtls::{DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion};
use str0m_proto::crypto::{CryptoError, DtlsVersion};

/// Makes every session's DTLS from one configuration.
#[derive(Debug)]
pub struct EcdsaDtls {
    config: Arc<dimpl::Config>,
}

impl EcdsaDtls {
    /// Validates the configuration, once per process.
    pub fn new() -> Result<EcdsaDtls, DtlsImplError> {
        let config = dimpl::Config::builder()
            .with_crypto_provider(str0m_aws_lc_rs::dimpl_crypto_provider())
            // ICE has validated the return path before DTLS starts, so a cookie would only cost a round trip.
            .use_server_cookie(false)
            .build()?;
        Ok(EcdsaDtls { config: Arc::new(config) })
    }
}

impl DtlsProvider for EcdsaDtls {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        None // the process has one already
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        _mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let config = Arc::clone(&self.config);
        let certificate = dimpl::DtlsCertificate {
            certificate: certificate.certificate.clone(),
            private_key: certificate.private_key.clone(),
        };
        let dtls = match version {
            DtlsVersion::Dtls12 => dimpl::Dtls::new_12(config, certificate, now),
            DtlsVersion::Dtls13 => dimpl::Dtls::new_13(config, certificate, now),
            _ => dimpl::Dtls::new_auto(config, certificate, now),
        };
        Ok(Box::new(Watched(Dimpl { dtls, now, connected: false, failed: false })))
    }
}

/// dimpl keeps waiting after an error that nothing can mend; this ends it.
#[derive(Debug)]
struct Dimpl {
    dtls: dimpl::Dtls,
    now: Instant,
    connected: bool,
    failed: bool,
}

impl Dimpl {
    fn noted(&mut self, result: Result<(), DtlsImplError>) -> Result<(), DtlsImplError> {
        let Err(error) = &result else { return result };
        let reason = match error {
            DtlsImplError::CertificateError(
                CertificateError::NoClientCertificateReceived
                | CertificateError::MissingEcCurveParameter
                | CertificateError::InvalidSubjectPublicKey,
            ) => HandshakeError::NotEcdsa,
            DtlsImplError::SecurityError(SecurityError::FatalAlert { description }) => {
                HandshakeError::Alert(*description)
            }
            error => HandshakeError::Ecdsa(error.clone()),
        };
        self.failed |= reason.is_final() && !self.connected;
        reason.leave();
        result
    }
}

impl DtlsInstance for Dimpl {
    fn set_active(&mut self, active: bool) {
        self.dtls.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        let handled = self.dtls.handle_packet(packet);
        self.noted(handled)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        match self.dtls.poll_output(buf) {
            DtlsOutput::Timeout(_) if self.failed => DtlsOutput::Timeout(self.now),
            DtlsOutput::Connected => {
                self.connected = true;
                DtlsOutput::Connected
            }
            output => output,
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.now = now;
        if self.failed {
            return Err(DtlsImplError::ConnectionClosed);
        }
        self.dtls.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.dtls.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.dtls.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.dtls.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.dtls.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.dtls.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.dtls.close()
    }
}
