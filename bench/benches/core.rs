//! The small pieces of the packet path and of a join.

use bench::client::Client;
use bench::inputs::{self, DATAGRAM_BYTES, HEADER_BYTES};
use bench::seal::{Sealer, TAG_BYTES};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use sfu::control::protocol::RequestId;
use sfu::core::demux::{DatagramKind, local_ufrag, slot_of};
use sfu::core::identity::Identity;
use sfu::core::keyframe::starts_keyframe;
use sfu::core::receive_log::ReceiveLog;
use sfu::core::rewrite::RtpRewriter;
use sfu::mesh::{Inbox, MeshPacket};
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Instant;

fn demux(c: &mut Criterion) {
    let stun = inputs::binding_request();
    c.bench_function("demux: classify STUN and find its slot", |b| {
        b.iter(|| {
            let stun = black_box(stun.as_slice());
            (DatagramKind::of(stun), local_ufrag(stun).and_then(slot_of))
        });
    });
    let mut rtp = vec![0x80, 0x66];
    rtp.resize(1_200, 0);
    c.bench_function("demux: classify RTP", |b| b.iter(|| DatagramKind::of(black_box(&rtp))));
}

fn packet(c: &mut Criterion) {
    let packet = inputs::packet();
    c.bench_function("packet: look for a key frame", |b| {
        b.iter(|| starts_keyframe(inputs::H264, black_box(&packet.payload)));
    });
    let (mut log, mut sequence) = (ReceiveLog::new(), 0);
    c.bench_function("packet: receive log", |b| {
        b.iter(|| {
            sequence += 1;
            log.record(black_box(sequence))
        });
    });
    let now = Instant::now();
    let (mut rewriter, mut sequence) = (RtpRewriter::new(1), 0);
    rewriter.switch(&packet.header, packet.header.timestamp, now);
    c.bench_function("packet: rewrite sequence and timestamp", |b| {
        b.iter(|| {
            sequence += 1;
            rewriter.rewrite(black_box(sequence), 0, now)
        });
    });
}

fn mesh(c: &mut Criterion) {
    let (packet, inbox) = (inputs::packet(), Inbox::new());
    c.bench_function("mesh: copy, push, pop and unpack 1200 bytes", |b| {
        b.iter(|| {
            if let Some(copy) = MeshPacket::copy_of(black_box(&packet)) {
                inbox.packets.force_push(copy);
            }
            inbox.packets.pop().map(|copy| copy.to_packet())
        });
    });
}

fn seal(c: &mut Criterion) {
    let ciphers = [("AES-128-GCM", Sealer::aes_128(1)), ("AES-256-GCM", Sealer::aes_256(1))];
    for (cipher, sealer) in ciphers {
        let Ok(mut sealer) = sealer else { continue };
        let packet = [0x5c; DATAGRAM_BYTES - TAG_BYTES];
        let mut buffer = Vec::with_capacity(DATAGRAM_BYTES);
        c.bench_function(&format!("seal: copy and seal 1200 bytes in place, {cipher}"), |b| {
            b.iter(|| {
                buffer.clear();
                buffer.extend_from_slice(black_box(&packet));
                sealer.seal(&mut buffer, 0, HEADER_BYTES)
            });
        });
    }
}

fn session(c: &mut Criterion) {
    let Ok(identity) = Identity::generate() else { return };
    let server = SocketAddr::from(([127, 0, 0, 1], 8_200));
    let forwarder = || inputs::forwarder(identity.clone(), server);
    let now = Instant::now();
    c.bench_function("session: build a viewer", |b| {
        b.iter_batched_ref(
            forwarder,
            |forwarder| forwarder.create(now, RequestId(0), inputs::viewer_plan()),
            BatchSize::SmallInput,
        );
    });
    let address = SocketAddr::from(([127, 0, 0, 1], 5_000));
    c.bench_function(
        "session: join of a viewer, both sides of ICE and DTLS, the client's build not counted",
        |b| {
            b.iter_batched_ref(
                || (Client::new(now, address, server), forwarder()),
                |(client, forwarder)| {
                    let joined =
                        client.as_mut().map(|client| client.connect(now, forwarder, identity.fingerprint));
                    assert!(matches!(joined, Ok(Ok(_))), "{joined:?}");
                },
                BatchSize::SmallInput,
            );
        },
    );
}

criterion_group!(benches, demux, packet, mesh, seal, session);
criterion_main!(benches);
