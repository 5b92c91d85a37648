//! What all peers of this process share: one certificate, one validated DTLS configuration, and a way to the
//! keys that a handshake yields, for viewers that open packets themselves.
//!
//! str0m's stock provider validates a whole crypto provider for each session, 600 µs; sharing one
//! `dimpl::Config` makes thousands of joins cheap.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use str0m::config::{CryptoProvider, DtlsCert};
use str0m::crypto::dtls::{
    DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion, SrtpProfile,
};
use str0m::{Rtc, RtcConfig};
use str0m_proto::crypto::{CryptoError, DtlsVersion};

/// What a handshake agreed on for SRTP (RFC 5764 section 4.2).
pub struct Agreed {
    /// Client key, server key, client salt, server salt.
    pub material: Vec<u8>,
    pub profile: SrtpProfile,
    /// Whether we were the client.
    pub client: bool,
}

/// Filled when the handshake is done. The peer is proven only when str0m says that it is connected.
pub type KeySlot = Arc<OnceLock<Agreed>>;

thread_local! {
    /// For the session that is being built on this thread: str0m makes its DTLS inside `build`.
    static NEXT_SLOT: RefCell<KeySlot> = RefCell::default();
}

struct Shared {
    certificate: DtlsCert,
    provider: Arc<CryptoProvider>,
}

/// A configuration with the shared certificate. `None` if the crypto library refuses to make one; then
/// every session makes its own, slowly.
fn shared() -> Option<&'static Shared> {
    static SHARED: OnceLock<Option<Shared>> = OnceLock::new();
    SHARED.get_or_init(make_shared).as_ref()
}

fn make_shared() -> Option<Shared> {
    let stock = str0m_aws_lc_rs::default_provider();
    let certificate = stock.dtls_provider.generate_certificate()?;
    let config = dimpl::Config::builder()
        .with_crypto_provider(str0m_aws_lc_rs::dimpl_crypto_provider())
        .build()
        .ok()?;
    // Once per process: str0m wants its provider 'static.
    let provider: &'static Provider = Box::leak(Box::new(Provider { config: Arc::new(config) }));
    Some(Shared { certificate, provider: Arc::new(CryptoProvider { dtls_provider: provider, ..stock }) })
}

/// Builds a session from `config`; the slot will hold its keys.
pub fn build(config: RtcConfig, now: Instant) -> (Rtc, KeySlot) {
    let slot = KeySlot::default();
    NEXT_SLOT.set(slot.clone());
    let config = match shared() {
        Some(shared) => {
            config.set_crypto_provider(shared.provider.clone()).set_dtls_cert(shared.certificate.clone())
        }
        None => config,
    };
    (config.build(now), slot)
}

#[derive(Debug)]
struct Provider {
    config: Arc<dimpl::Config>,
}

impl DtlsProvider for Provider {
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
        Ok(Box::new(Instance { dtls, slot: NEXT_SLOT.take() }))
    }
}

/// Forwards every call and copies the keys as they pass.
struct Instance {
    dtls: dimpl::Dtls,
    slot: KeySlot,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

impl DtlsInstance for Instance {
    fn set_active(&mut self, active: bool) {
        self.dtls.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.dtls.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let client = self.dtls.is_active();
        let output = self.dtls.poll_output(buf);
        if let DtlsOutput::KeyingMaterial(material, profile) = &output {
            let agreed = Agreed { material: material.to_vec(), profile: *profile, client };
            // A second handshake on one session does not happen; if it did, the first keys stand.
            let _ = self.slot.set(agreed);
        }
        output
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
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
