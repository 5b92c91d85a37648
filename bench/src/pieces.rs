//! The small pieces of the packet path, each as a function to be called over and over: timed by `cargo bench`, counted by
//! `bench count`.

use crate::error::Error;
use crate::inputs::{self, DATAGRAM_BYTES, HEADER_BYTES};
use crate::seal::{Sealer, TAG_BYTES};
use sfu::core::demux::{DatagramKind, local_ufrag, slot_of};
use sfu::core::keyframe::starts_keyframe;
use sfu::core::receive_log::ReceiveLog;
use sfu::core::rewrite::RtpRewriter;
use sfu::mesh::{Inbox, MeshPacket};
use std::hint::black_box;
use std::time::Instant;

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
        ("packet: rewrite sequence and timestamp", erased(rewrite())),
        ("seal: copy and seal 1200 bytes in place, AES-128-GCM", erased(seal(Sealer::aes_128(1)?))),
        ("seal: copy and seal 1200 bytes in place, AES-256-GCM", erased(seal(Sealer::aes_256(1)?))),
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
        DatagramKind::of(stun).is_some() && local_ufrag(stun).and_then(slot_of).is_some()
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
    let (packet, now) = (inputs::packet(), Instant::now());
    let (mut rewriter, mut sequence) = (RtpRewriter::new(1), 0);
    rewriter.switch(&packet.header, packet.header.timestamp, now);
    move || {
        sequence += 1;
        black_box(rewriter.rewrite(black_box(sequence), 0, now)).is_some()
    }
}

fn cross_mesh() -> impl FnMut() -> bool {
    let (packet, inbox) = (inputs::packet(), Inbox::new());
    move || {
        if let Some(copy) = MeshPacket::copy_of(black_box(&packet)) {
            inbox.packets.force_push(copy);
        }
        black_box(inbox.packets.pop().map(|copy| copy.to_packet())).is_some()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_does_its_work_each_time() {
        assert_eq!(classify_rtp()(), Some(DatagramKind::Rtp));
        let (mut stun, mut rewrite, mut mesh) = (find_stun_slot(), rewrite(), cross_mesh());
        let mut seal = seal(Sealer::aes_128(1).expect("a key"));
        assert!((0..100).all(|_| stun() && rewrite() && mesh() && seal()));
    }
}
