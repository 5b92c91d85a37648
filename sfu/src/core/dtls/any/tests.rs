//! Handshakes with clients that are less strict than we are.

use super::*;
use crate::core::dtls::HandshakeError;
use crate::core::srtp::MasterKeys;
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::Private;
use openssl::rsa::Rsa;
use openssl::x509::X509NameBuilder;
use str0m::crypto::dtls::{DtlsOutput, SrtpProfile};

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

fn server() -> Box<dyn DtlsInstance> {
    let stock = str0m_aws_lc_rs::default_provider();
    let certificate = stock.dtls_provider.generate_certificate().expect("a certificate");
    let provider = AnyDtls::new(&certificate).expect("a context");
    let mut server =
        provider.new_dtls(&certificate, Instant::now(), DtlsVersion::Dtls12, None).expect("a session");
    server.set_active(false);
    server
}

/// What a server of ours says of a handshake with `client`.
fn handshake(mut client: Client) -> (Vec<String>, Option<HandshakeError>) {
    let mut server = server();
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

#[test]
fn a_hello_with_any_one_byte_changed_does_no_harm() {
    let hello = Client::new(2048, Some(GCM_128), "ALL").handle(&[]).remove(0);
    let mut buffer = [0; 2000];
    for at in 0..hello.len() {
        let (mut server, mut changed) = (server(), hello.clone());
        changed[at] = !changed[at];
        let _ = server.handle_packet(&changed);
        let _ = server.handle_packet(&hello);
        while let DtlsOutput::Packet(packet) = server.poll_output(&mut buffer) {
            assert!(packet.len() <= MTU);
        }
        assert_eq!(server.protocol_version(), None);
    }
    drop(HandshakeError::take());
}
