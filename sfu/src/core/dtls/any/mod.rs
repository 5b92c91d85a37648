//! DTLS with clients of any certificate, RSA among them: OpenSSL, without I/O.
//!
//! DTLS 1.2 with ephemeral ECDH and AEAD ciphers alone; the certificate is whatever the client's offer has the fingerprint
//! of, which str0m compares. One context is shared by all sessions.
//!
//! OpenSSL reads the system's clock for its retransmission timer, and looks at it when it is asked to go on and finds nothing
//! to read. `Timer` follows that timer by str0m's time, to ask when it has run out.

mod records;
mod session;
#[cfg(test)]
mod tests;
mod timer;
mod wire;

use super::Watched;
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    Ssl, SslContext, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslStream, SslVerifyMode,
    SslVersion,
};
use openssl::x509::X509;
use session::OpenSsl;
use std::time::Instant;
use str0m::config::DtlsCert;
use str0m::crypto::dtls::{DtlsInstance, DtlsProvider};
use str0m_proto::crypto::{CryptoError, DtlsVersion};
use wire::Wire;

/// Suites of RFC 5289 and RFC 7905: what every client of today has, and nothing without forward secrecy.
const CIPHERS: &str = "ECDHE+AESGCM:ECDHE+CHACHA20";
/// Key exchange, in our order.
const GROUPS: &str = "X25519:P-256:P-384";
/// Signatures that we make and take. Nothing with SHA-1.
const SIGNATURES: &str =
    "ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256:ECDSA+SHA384:RSA-PSS+SHA384:RSA+SHA384:RSA-PSS+SHA512:RSA+SHA512";
/// As a server we take the first that the client has as well.
const SRTP_PROFILES: &str = "SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80";
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
        let template = Template { context: self.context.clone(), mtu: mtu.unwrap_or(MTU) as u32 };
        Ok(Box::new(Watched(OpenSsl::new(template, now))))
    }
}

/// What OpenSSL's part of a session is made from.
#[derive(Debug)]
struct Template {
    context: SslContext,
    /// Bytes of a datagram.
    mtu: u32,
}

impl Template {
    fn stream(&self) -> Result<SslStream<Wire>, ErrorStack> {
        let mut ssl = Ssl::new(&self.context)?;
        ssl.set_mtu(self.mtu)?;
        SslStream::new(ssl, Wire::default())
    }
}
