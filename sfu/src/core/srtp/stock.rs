//! What we seal, a stock str0m opens; what it seals, we open. Keys and nonces are its own.

use super::tests::provider;
use super::{MasterKeys, OpenError, RtcpOpener, RtcpSealer, RtpSealer};
use crate::core::identity::Identity;
use crate::core::plan::{PeerCertificate, Ssrc};
use crate::core::rtcp::{Compound, Feedback, SenderInfo, build};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use str0m::format::{Codec, FormatParams};
use str0m::media::{Frequency, KeyframeRequestKind, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RawPacket;
use str0m::rtp::rtcp::{Rtcp, SdesType};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

const PT: u8 = 102;
const MEDIA: u32 = 1000;
/// Three packets before the sequence number wraps.
const FIRST_INDEX: u64 = 65_533;

/// One end of a peer connection.
struct End {
    rtc: Rtc,
    address: SocketAddr,
    outgoing: Vec<Vec<u8>>,
    events: Vec<Event>,
}

impl End {
    fn new(config: RtcConfig, now: Instant, port: u16) -> End {
        let address = SocketAddr::from(([10, 0, 0, 1], port));
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").expect("an address"));
        End { rtc, address, outgoing: vec![], events: vec![] }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.rtc.handle_input(input).expect("handled");
        loop {
            match self.rtc.poll_output().expect("polled") {
                Output::Transmit(transmit) => self.outgoing.push(transmit.contents.to_vec()),
                Output::Event(event) => self.events.push(event),
                Output::Timeout(_) => return,
            }
        }
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let receive = Receive::new(Protocol::Udp, from, self.address, datagram).expect("a datagram");
        self.handle(Input::Receive(now, receive));
    }

    /// RTP payloads, and what RTCP said.
    fn take(&mut self) -> (Vec<Vec<u8>>, Vec<Rtcp>) {
        let (mut payloads, mut reports) = (vec![], vec![]);
        for event in self.events.drain(..) {
            match event {
                Event::RtpPacket(packet) => payloads.push(packet.payload.to_vec()),
                Event::RawPacket(raw) => {
                    if let RawPacket::RtcpRx(rtcp) = *raw {
                        reports.push(rtcp);
                    }
                }
                _ => {}
            }
        }
        (payloads, reports)
    }
}

/// Our end, which only did ICE and DTLS, and a stock receiver that is connected to it.
struct Session {
    now: Instant,
    server: End,
    client: End,
    keys: MasterKeys,
}

impl Session {
    fn connected() -> Session {
        let now = Instant::now();
        let identity = Identity::generate().expect("an identity");
        let config = RtcConfig::new()
            .set_ice_lite(true)
            .set_crypto_provider(identity.provider(PeerCertificate::Ecdsa).clone());
        let mut server = End::new(config.set_dtls_cert(identity.certificate), now, 1);
        let mut config = RtcConfig::new().set_rtp_mode(true).clear_codecs().enable_raw_packets(true);
        let format = FormatParams::default();
        config.codec_config().add_config(PT.into(), None, Codec::H264, Frequency::NINETY_KHZ, None, format);
        let mut client = End::new(config, now, 2);
        introduce(&mut server, &mut client);
        introduce(&mut client, &mut server);
        server.rtc.direct_api().start_dtls(false).expect("DTLS");
        let mut api = client.rtc.direct_api();
        api.set_ice_controlling(true);
        api.declare_media("0".into(), MediaKind::Video);
        api.expect_stream_rx(MEDIA.into(), None, "0".into(), None).suppress_nack(false);
        api.start_dtls(true).expect("DTLS");
        let connected = Session::pass_until_connected(now, &mut server, &mut client);
        let keys = MasterKeys::take().expect("DTLS exported keys");
        server.outgoing.clear();
        client.events.clear();
        Session { now: connected, server, client, keys }
    }

    fn pass_until_connected(mut now: Instant, server: &mut End, client: &mut End) -> Instant {
        for _ in 0..200 {
            now += Duration::from_millis(5);
            client.handle(Input::Timeout(now));
            server.handle(Input::Timeout(now));
            for datagram in std::mem::take(&mut client.outgoing) {
                server.receive(now, client.address, &datagram);
            }
            for datagram in std::mem::take(&mut server.outgoing) {
                client.receive(now, server.address, &datagram);
            }
            let is_connected = |end: &End| end.events.iter().any(|event| matches!(event, Event::Connected));
            if is_connected(server) && is_connected(client) {
                return now;
            }
        }
        unreachable!("not connected after a second")
    }

    fn deliver(&mut self, datagram: &[u8]) {
        self.client.receive(self.now, self.server.address, datagram);
    }

    /// Lets time pass for the client; returns the SRTCP that it sends.
    fn feedback_after(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(5);
            self.client.handle(Input::Timeout(self.now));
        }
        let is_rtcp = |datagram: &Vec<u8>| datagram[0] >> 6 == 2 && (192..224).contains(&datagram[1]);
        std::mem::take(&mut self.client.outgoing).into_iter().filter(is_rtcp).collect()
    }
}

/// Tells `to` who `end` is.
fn introduce(end: &mut End, to: &mut End) {
    let api = end.rtc.direct_api();
    let (creds, fingerprint) = (api.local_ice_credentials(), api.local_dtls_fingerprint().clone());
    to.rtc.add_remote_candidate(Candidate::host(end.address, "udp").expect("an address"));
    let mut api = to.rtc.direct_api();
    api.set_remote_ice_credentials(creds);
    api.set_remote_fingerprint(fingerprint);
}

/// A packet whose payload is its index.
fn sealed(sealer: &RtpSealer, index: u64) -> Vec<u8> {
    let mut packet = vec![0x80, PT];
    packet.extend((index as u16).to_be_bytes());
    packet.extend([0, 0, 0, 9]);
    packet.extend(MEDIA.to_be_bytes());
    packet.extend(index.to_be_bytes());
    sealer.seal(&mut packet, 0, 12, MEDIA, index).expect("sealed");
    packet
}

#[test]
fn a_stock_receiver_takes_our_rtp_across_a_roll_over() {
    let mut session = Session::connected();
    let sealer = RtpSealer::new(&session.keys, provider()).expect("keys");
    let indices = FIRST_INDEX..FIRST_INDEX + 300;
    for index in indices.clone() {
        session.deliver(&sealed(&sealer, index));
    }
    let expected: Vec<Vec<u8>> = indices.map(|index| index.to_be_bytes().to_vec()).collect();
    assert_eq!(session.client.take().0, expected);
}

#[test]
fn a_stock_receiver_reads_our_reports() {
    let mut session = Session::connected();
    let mut sealer = RtcpSealer::new(&session.keys, provider()).expect("keys");
    let cname = build::Cname::new("uringcast").expect("short");
    for packets in 1..=3 {
        let mut report = vec![];
        let ntp = 0xe000_0000_8000_0000;
        let info = SenderInfo { ntp, rtp_timestamp: 90_000, packets, octets: 1000 * packets };
        build::sender_report(&mut report, Ssrc(MEDIA), &info);
        build::source_description(&mut report, Ssrc(MEDIA), &cname);
        build::bye(&mut report, &[Ssrc(MEDIA), Ssrc(MEDIA + 1)]);
        sealer.seal(&mut report, 0).expect("sealed");
        session.deliver(&report);
        let (_, told) = session.client.take();
        let [Rtcp::SenderReport(sr), Rtcp::SourceDescription(sdes), Rtcp::Goodbye(bye)] = &told[..] else {
            unreachable!("an SR, an SDES and a BYE: {told:?}");
        };
        assert_eq!(*sr.sender_info.ssrc, MEDIA);
        assert_eq!(sr.sender_info.rtp_time.numer(), 90_000);
        assert_eq!(
            (sr.sender_info.sender_packet_count, sr.sender_info.sender_octet_count),
            (packets, 1000 * packets)
        );
        let sdes = sdes.reports.get(0).expect("a chunk");
        assert_eq!(sdes.values.get(0), Some(&(SdesType::CNAME, "uringcast".to_owned())));
        assert_eq!(bye.reports.iter().map(|ssrc| **ssrc).collect::<Vec<_>>(), [MEDIA, MEDIA + 1]);
    }
}

#[test]
fn we_read_the_feedback_of_a_stock_receiver_once() {
    let mut session = Session::connected();
    let sealer = RtpSealer::new(&session.keys, provider()).expect("keys");
    let mut opener = RtcpOpener::new(&session.keys, provider()).expect("keys");
    let lost = FIRST_INDEX + 5;
    for index in (FIRST_INDEX..FIRST_INDEX + 20).filter(|index| *index != lost) {
        session.deliver(&sealed(&sealer, index));
    }
    let mut api = session.client.rtc.direct_api();
    api.stream_rx(&MEDIA.into()).expect("a stream").request_keyframe(KeyframeRequestKind::Pli);
    // Long enough for a report, which str0m sends every five seconds at the latest.
    let datagrams = session.feedback_after(Duration::from_secs(6));
    let (mut nacked, mut plis, mut highest) = (vec![], 0, 0);
    let mut scratch = vec![];
    for datagram in &datagrams {
        let mut compound = Compound::new(opener.open(datagram, &mut scratch).expect("authentic"));
        for feedback in &mut compound {
            match feedback {
                Feedback::Nack { media: Ssrc(MEDIA), sequences } => nacked.extend(sequences),
                Feedback::Pli { media: Ssrc(MEDIA) } => plis += 1,
                Feedback::Report { blocks, .. } => {
                    highest = blocks.fold(highest, |highest, block| highest.max(block.highest_sequence));
                }
                _ => {}
            }
        }
        assert!(!compound.is_malformed());
        assert_eq!(opener.open(datagram, &mut scratch), Err(OpenError::Replayed));
    }
    assert!(nacked.iter().all(|sequence| *sequence == lost as u16) && !nacked.is_empty(), "{nacked:?}");
    assert_eq!(plis, 1);
    assert_eq!(u64::from(highest), FIRST_INDEX + 19, "the roll-over is counted in the report");
}
