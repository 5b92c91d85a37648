//! A simulcast publisher's encoder, and what a viewer makes of its pictures.

use crate::world::{ClientIndex, World};
use std::time::Duration;
use str0m::media::Rid;

/// From one frame to the next.
pub const FRAME: Duration = Duration::from_micros(33_333);
/// The layers' names, from the smallest to the largest.
pub const RIDS: [&str; 3] = ["q", "h", "f"];
/// Sequence parameter sets of 320x180, 640x360 and 1280x720.
const SPS: [&[u8]; 3] = [
    &[0x67, 0x42, 0xc0, 0x1f, 0xf4, 0x0a, 0x0c, 0xfc, 0xe8],
    &[0x67, 0x42, 0xc0, 0x1f, 0xf4, 0x05, 0x01, 0x7f, 0xca, 0x80],
    &[0x67, 0x42, 0xc0, 0x1f, 0xf4, 0x02, 0x80, 0x2d, 0xc8],
];

/// One frame of a layer: parameter sets and an IDR picture in one packet, or a slice. Larger layers have larger frames.
pub fn picture(layer: usize, frame: u64, is_keyframe: bool) -> Vec<u8> {
    let name = [layer as u8, (frame >> 8) as u8, frame as u8];
    let filling = vec![0xaa; 200 << layer];
    if !is_keyframe {
        return [&[0x41, 0x9a], &name[..], &filling].concat();
    }
    let idr = [&[0x65, 0x88], &name[..], &filling].concat();
    let sized = |nal: &[u8]| [&(nal.len() as u16).to_be_bytes()[..], nal].concat();
    [&[0x78][..], &sized(SPS[layer]), &sized(&idr)].concat()
}

/// What a viewer received: layer, frame, and whether a decoder can begin there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    pub layer: usize,
    pub frame: u64,
    pub is_keyframe: bool,
    pub sequence: u64,
    pub timestamp: u32,
}

/// What it received in the order of sequence numbers; checks that a decoder can follow.
pub fn seen(world: &mut World, viewer: ClientIndex) -> Vec<Seen> {
    let mut all: Vec<Seen> = world
        .client(viewer)
        .received()
        .iter()
        .map(|packet| {
            let is_keyframe = packet.payload[0] == 0x78;
            let name = if is_keyframe { 1 + 2 + usize::from(packet.payload[2]) + 2 + 2 } else { 2 };
            let [layer, high, low] = packet.payload[name..name + 3] else { panic!() };
            Seen {
                layer: layer.into(),
                frame: u64::from(high) << 8 | u64::from(low),
                is_keyframe,
                sequence: *packet.seq_no,
                timestamp: packet.header.timestamp,
            }
        })
        .collect();
    all.sort_unstable_by_key(|seen| seen.sequence);
    all.dedup_by_key(|seen| seen.sequence);
    assert!(all.first().is_none_or(|first| first.is_keyframe));
    for pair in all.windows(2) {
        let [before, after] = pair else { panic!() };
        assert_eq!(after.sequence, before.sequence + 1, "no number is left out: {pair:?}");
        assert!(
            after.layer == before.layer || after.is_keyframe,
            "a layer begins with a key frame: {pair:?}"
        );
        let step = after.timestamp.wrapping_sub(before.timestamp);
        assert!((1..90_000 * 3).contains(&step), "time goes on: {pair:?}");
    }
    all
}

/// The layers in the order in which they were seen.
pub fn order(seen: &[Seen]) -> Vec<usize> {
    let mut layers: Vec<usize> = seen.iter().map(|seen| seen.layer).collect();
    layers.dedup();
    layers
}

/// A publisher's encoder.
pub struct Encoder {
    pub publisher: ClientIndex,
    pub frame: u64,
    pub layers: Vec<usize>,
    /// Packets sent of each layer.
    pub sent: [u64; 3],
    /// It answers key-frame requests.
    pub listens: bool,
    /// Frames from one key frame to the next; 0 = only the first and what is asked for.
    pub interval: u64,
    /// Layers whose next frame is a key frame.
    pub due: Vec<usize>,
    /// The rids of which key frames were asked for.
    pub asked: Vec<Rid>,
}

impl Encoder {
    /// Its first frames are key frames of all layers.
    pub fn new(publisher: ClientIndex) -> Encoder {
        let layers = vec![0, 1, 2];
        Encoder {
            publisher,
            frame: 0,
            due: layers.clone(),
            layers,
            sent: [0; 3],
            listens: true,
            interval: 0,
            asked: vec![],
        }
    }

    /// Publishes frames of all its layers, one turn each.
    pub fn publish(&mut self, world: &mut World, frames: u64) {
        for _ in 0..frames {
            for rid in world.client(self.publisher).take_requested_rids().into_iter().flatten() {
                self.asked.push(rid);
                let layer = RIDS.iter().position(|known| Rid::from(*known) == rid).unwrap();
                self.due.extend(Some(layer).filter(|_| self.listens));
            }
            for &layer in &self.layers {
                let natural = self.interval > 0 && self.frame.is_multiple_of(self.interval);
                let payload = picture(layer, self.frame, natural || self.due.contains(&layer));
                world.client(self.publisher).send_layer(layer, self.sent[layer], self.frame, &payload);
                self.sent[layer] += 1;
            }
            self.due.retain(|layer| !self.layers.contains(layer));
            self.frame += 1;
            world.run(FRAME);
        }
    }
}
