//! What all sessions of a process share: one DTLS certificate, and the crypto providers made with it.

use super::dtls::any::AnyDtls;
use super::dtls::ecdsa::EcdsaDtls;
use super::plan::PeerCertificate;
use std::fmt;
use std::sync::Arc;
use str0m::config::{CryptoProvider, DtlsCert};
use str0m_proto::crypto::SrtpProvider;

/// The process's certificate and crypto providers. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    pub(crate) certificate: DtlsCert,
    ecdsa: Arc<CryptoProvider>,
    any: Arc<CryptoProvider>,
    /// SHA-256 of the certificate, for `a=fingerprint`.
    pub fingerprint: [u8; 32],
}

/// The crypto library refused to make a certificate or a DTLS configuration.
#[derive(Debug, thiserror::Error)]
#[error("the crypto library cannot set up DTLS: {0}")]
pub struct IdentityError(String);

impl Identity {
    /// Makes a P-256 certificate and the DTLS configurations. Once per process: they are leaked, because str0m wants its
    /// providers `'static`.
    pub fn generate() -> Result<Identity, IdentityError> {
        let stock = str0m_aws_lc_rs::default_provider();
        let certificate = stock
            .dtls_provider
            .generate_certificate()
            .ok_or_else(|| IdentityError("no certificate was generated".into()))?;
        let ecdsa = EcdsaDtls::new().map_err(|error| IdentityError(error.to_string()))?;
        let any = AnyDtls::new(&certificate).map_err(|error| IdentityError(error.to_string()))?;
        let fingerprint = stock.sha256_provider.sha256(&certificate.certificate);
        Ok(Identity {
            certificate,
            ecdsa: Arc::new(CryptoProvider { dtls_provider: Box::leak(Box::new(ecdsa)), ..stock.clone() }),
            any: Arc::new(CryptoProvider { dtls_provider: Box::leak(Box::new(any)), ..stock }),
            fingerprint,
        })
    }

    /// SRTP is the same with both.
    pub(crate) fn srtp_provider(&self) -> &'static dyn SrtpProvider {
        self.ecdsa.srtp_provider
    }

    /// The provider for a session with such a client. They differ in DTLS alone.
    pub(crate) fn provider(&self, peer: PeerCertificate) -> &Arc<CryptoProvider> {
        match peer {
            PeerCertificate::Ecdsa => &self.ecdsa,
            PeerCertificate::Any => &self.any,
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}
