//! The small pieces of the packet path, each as a function to be called over and over: timed by `cargo bench`, counted by
//! `bench count`.

use crate::client;
use crate::error::Error;
use crate::inputs::{self, DATAGRAM_BYTES, HEADER_BYTES};
use crate::seal::{Sealer, TAG_BYTES};
use sfu::control::protocol::WorkerIndex;
use sfu::core::demux::{DatagramKind, slot_of};
use sfu::core::egress::{TrainLimits, Trains};
use sfu::core::identity::Identity;
use sfu::core::keyframe::starts_keyframe;
use sfu::core::receive_log::ReceiveLog;
use sfu::core::rewrite::RtpRewriter;
use sfu::core::shared_port::{Holder, Origin};
use sfu::core::store::PacketStore;
use sfu::core::stun::Message;
use sfu::mesh::{Handover, Inbox, MeshPacket};
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A piece without its result.
pub type Piece = Box<dyn FnMut()>;

/// All pieces with their names, in the order of a packet's life.
pub fn all() -> Result<Vec<(&'static str, Piece)>, Error> {
    Ok(vec![
        ("nothing: the call that is in every line below", erased(|| ())),
        ("demux: classify RTP", erased(classify_rtp())),
        ("demux: classify STUN and find its slot", erased(find_stun_slot())),
        ("packet: look for a key frame", erased(look_for_keyframe())),
        ("packet: receive log", erased(log_receipt())),
        ("mesh: copy, push, pop and unpack 1200 bytes", erased(cross_mesh())),
        ("mesh: hand over 100 bytes that came to the wrong worker", erased(hand_over())),
        ("store: insert", erased(store_insert())),
        ("packet: rewrite sequence and timestamp", erased(rewrite())),
        ("seal: copy and seal 1200 bytes in place, AES-128-GCM", erased(seal(Sealer::aes_128(1)?))),
        ("seal: copy and seal 1200 bytes in place, AES-256-GCM", erased(seal(Sealer::aes_256(1)?))),
        ("fan-out: a frame of 8 packets to 10 viewers, AES-256-GCM", erased(fan_out()?)),
    ])
}

fn erased<R>(mut piece: impl FnMut() -> R + 'static) -> Piece {
    Box::new(move || {
        black_box(piece());
    })
}

fn classify_rtp() -> impl FnMut() -> Option<DatagramKind> {
    let mut rtp = vec![0x80, 0x66];
    rtp.resize(DATAGRAM_BYTES, 0);
    move || DatagramKind::of(black_box(&rtp))
}

fn find_stun_slot() -> impl FnMut() -> bool {
    let stun = inputs::binding_request();
    move || {
        let stun = black_box(stun.as_slice());
        let request = Message::parse(stun).filter(|_| DatagramKind::of(stun).is_some());
        request.and_then(|request| slot_of(request.ufrags?.0)).is_some()
    }
}

fn look_for_keyframe() -> impl FnMut() -> bool {
    let packet = inputs::packet();
    move || starts_keyframe(inputs::H264, black_box(&packet.payload))
}

fn log_receipt() -> impl FnMut() {
    let (mut log, mut sequence) = (ReceiveLog::new(), 0);
    move || {
        sequence += 1;
        black_box(log.record(black_box(sequence)));
    }
}

fn rewrite() -> impl FnMut() -> bool {
    let packet = inputs::packet();
    let (mut rewriter, mut sequence) = (RtpRewriter::new(1), 0);
    rewriter.switch(&packet.header, &packet.header, None);
    move || {
        sequence += 1;
        black_box(rewriter.rewrite(black_box(sequence), 0)).is_some()
    }
}

fn cross_mesh() -> impl FnMut() -> bool {
    let (packet, inbox) = (inputs::packet(), Inbox::new());
    move || {
        if let Some(copy) = MeshPacket::copy_of(black_box(&packet), false) {
            inbox.packets.force_push(copy);
        }
        black_box(inbox.packets.pop().map(|copy| copy.to_packet())).is_some()
    }
}

fn hand_over() -> impl FnMut() -> bool {
    let (inbox, from) = (Inbox::behind_shared_port(), SocketAddr::from(([127, 0, 0, 1], 9)));
    let origin = Origin { path: (0, from), via: Some((WorkerIndex(1), Holder::Receiver)) };
    let rtcp = [0x80; 100];
    move || {
        if let Some(handover) = Handover::copy_of(black_box(&rtcp), origin) {
            inbox.handovers.force_push(handover);
        }
        black_box(inbox.handovers.pop()).is_some_and(|handover| handover.datagram().len() == rtcp.len())
    }
}

fn seal(mut sealer: Sealer) -> impl FnMut() -> bool {
    let packet = [0x5c; DATAGRAM_BYTES - TAG_BYTES];
    let mut buffer = Vec::with_capacity(DATAGRAM_BYTES);
    move || {
        buffer.clear();
        buffer.extend_from_slice(black_box(&packet));
        sealer.seal(&mut buffer, 0, HEADER_BYTES).is_ok()
    }
}

fn store_insert() -> impl FnMut() -> bool {
    let (mut store, mut packet) = (PacketStore::default(), inputs::packet());
    move || {
        packet.header.sequence += 1;
        store.insert(black_box(packet.clone()))
    }
}

const FAN_OUT_VIEWERS: u64 = 10;
const FAN_OUT_PACKETS: u64 = 8;

/// From the packets of a turn to sealed trains, without the kernel.
fn fan_out() -> Result<impl FnMut() -> bool, Error> {
    let identity = Identity::generate().map_err(|error| Error::Crypto(error.to_string()))?;
    let (server, fingerprint) = (SocketAddr::from(([127, 0, 0, 1], 9)), identity.fingerprint);
    let mut forwarder = inputs::forwarder(identity);
    let mut now = Instant::now();
    for viewer in 0..FAN_OUT_VIEWERS {
        let address = SocketAddr::from(([127, 0, 0, 1], 10 + viewer as u16));
        client::join(viewer as usize, now, address, server, &mut forwarder, fingerprint)?;
    }
    now += Duration::from_secs(1);
    let (mut packet, mut trains) = (inputs::packet(), Reusing::default());
    packet.header.keyframe = true;
    Ok(move || {
        // So little that no sender report falls due in what is counted.
        now += Duration::from_nanos(100);
        for _ in 0..FAN_OUT_PACKETS {
            packet.header.sequence += 1;
            forwarder.handle_packet(packet.clone(), false);
            packet.header.keyframe = false;
        }
        trains.bytes = 0;
        forwarder.fan_out(now, &mut trains);
        forwarder.forwarded.clear();
        trains.bytes >= FAN_OUT_VIEWERS * FAN_OUT_PACKETS * DATAGRAM_BYTES as u64
    })
}

/// Gives the same buffer again and again, as the driver does.
#[derive(Default)]
struct Reusing {
    buffer: Vec<u8>,
    bytes: u64,
}

impl Trains for Reusing {
    fn limits(&self) -> TrainLimits {
        TrainLimits { segments: 128, bytes: 65_507 }
    }

    fn buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    fn send(&mut self, _socket: usize, _to: SocketAddr, _segment: usize, mut datagrams: Vec<u8>) {
        self.bytes += datagrams.len() as u64;
        datagrams.clear();
        self.buffer = datagrams;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_does_its_work_each_time() {
        assert_eq!(classify_rtp()(), Some(DatagramKind::Rtp));
        let (mut stun, mut rewrite, mut mesh) = (find_stun_slot(), rewrite(), cross_mesh());
        let mut hand_over = hand_over();
        let mut seal = seal(Sealer::aes_128(1).expect("a key"));
        let (mut insert, mut fan_out) = (store_insert(), fan_out().expect("viewers"));
        assert!((0..100).all(|_| stun()
            && rewrite()
            && mesh()
            && hand_over()
            && seal()
            && insert()
            && fan_out()));
    }
}
