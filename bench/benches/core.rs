//! The small pieces of the packet path and of a join.

use criterion::{Criterion, criterion_group, criterion_main};
use sfu::control::protocol::{RequestId, WorkerIndex};
use sfu::core::demux::{DatagramKind, local_ufrag, slot_of};
use sfu::core::forwarder::Forwarder;
use sfu::core::identity::Identity;
use sfu::core::keyframe::starts_keyframe;
use sfu::core::receive_log::ReceiveLog;
use sfu::core::rewrite::RtpRewriter;
use sfu::mesh::{Inbox, MeshPacket, WorkerSet};
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Instant;

fn demux(c: &mut Criterion) {
    let stun = bench::inputs::binding_request();
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
    let packet = bench::inputs::packet();
    c.bench_function("packet: look for a key frame", |b| {
        b.iter(|| starts_keyframe(bench::inputs::H264, black_box(&packet.payload)));
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
    rewriter.switch(packet.header.source, 1, 0, 90_000, now);
    c.bench_function("packet: rewrite sequence and timestamp", |b| {
        b.iter(|| {
            sequence += 1;
            rewriter.rewrite(black_box(sequence), 0, now)
        });
    });
}

fn mesh(c: &mut Criterion) {
    let (packet, inbox) = (bench::inputs::packet(), Inbox::new());
    c.bench_function("mesh: copy, push, pop and unpack 1200 bytes", |b| {
        b.iter(|| {
            if let Some(copy) = MeshPacket::copy_of(black_box(&packet)) {
                inbox.packets.force_push(copy);
            }
            inbox.packets.pop().map(|copy| copy.to_packet())
        });
    });
}

fn session(c: &mut Criterion) {
    let Ok(identity) = Identity::generate() else { return };
    let socket = SocketAddr::from(([127, 0, 0, 1], 8_200));
    let random = Box::new(|bytes: &mut [u8]| bytes.fill(7));
    let mut forwarder = Forwarder::new(WorkerIndex(0), WorkerSet::default(), vec![socket], identity, random);
    let now = Instant::now();
    let mut request = 0;
    c.bench_function("session: build and drop a viewer", |b| {
        b.iter(|| {
            request += 1;
            forwarder.create(now, RequestId(request), bench::inputs::viewer_plan());
            forwarder.drop_all();
        });
    });
}

criterion_group!(benches, demux, packet, mesh, session);
criterion_main!(benches);
