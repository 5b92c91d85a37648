//! What all sessions of a process share: one DTLS certificate and one validated DTLS configuration.
//!
//! str0m's stock provider validates a whole crypto provider for each session, which costs more than all the rest of building
//! it; sharing one `dimpl::Config` does that once (`cargo bench -p bench`, "session: build a viewer").

use super::srtp::MasterKeys;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;
use str0m::config::{CryptoProvider, DtlsCert};
use str0m::crypto::dtls::{DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion};
use str0m_proto::crypto::{CryptoError, DtlsVersion};

/// The process's certificate and crypto provider. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    pub(crate) certificate: DtlsCert,
    pub(crate) provider: Arc<CryptoProvider>,
    /// SHA-256 of the certificate, for `a=fingerprint`.
    pub fingerprint: [u8; 32],
}

/// The crypto library refused to make a certificate or a DTLS configuration.
#[derive(Debug, thiserror::Error)]
#[error("the crypto library cannot set up DTLS: {0}")]
pub struct IdentityError(String);

impl Identity {
    /// Makes a P-256 certificate and a DTLS configuration. Once per process: the configuration is leaked, because
    /// str0m wants its provider `'static`.
    pub fn generate() -> Result<Identity, IdentityError> {
        let stock = str0m_aws_lc_rs::default_provider();
        let certificate = stock
            .dtls_provider
            .generate_certificate()
            .ok_or_else(|| IdentityError("no certificate was generated".into()))?;
        let config = dimpl::Config::builder()
            .with_crypto_provider(str0m_aws_lc_rs::dimpl_crypto_provider())
            // ICE has validated the return path before DTLS starts, so a cookie would only cost a round trip.
            .use_server_cookie(false)
            .build()
            .map_err(|error| IdentityError(error.to_string()))?;
        let shared: &'static SharedDtls = Box::leak(Box::new(SharedDtls { config: Arc::new(config) }));
        let fingerprint = stock.sha256_provider.sha256(&certificate.certificate);
        Ok(Identity {
            certificate,
            provider: Arc::new(CryptoProvider { dtls_provider: shared, ..stock }),
            fingerprint,
        })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// Makes every session's DTLS from one configuration.
#[derive(Debug)]
struct SharedDtls {
    config: Arc<dimpl::Config>,
}

impl DtlsProvider for SharedDtls {
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
        Ok(Box::new(SharedDtlsInstance(dtls)))
    }
}

/// Forwards every call, and copies the SRTP keys as they pass.
#[derive(Debug)]
struct SharedDtlsInstance(dimpl::Dtls);

impl DtlsInstance for SharedDtlsInstance {
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
