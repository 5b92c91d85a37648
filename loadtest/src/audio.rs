//! The sound every publisher sends: two seconds of Opus, made by `assets/make-opus-loop.py`.

use std::sync::Arc;

/// RTP clock of Opus (RFC 7587), per second.
pub const CLOCK_RATE: u32 = 48_000;
/// Length of each packet in the loop, milliseconds.
pub const PACKET_MS: u32 = 20;

const LOOP: &[u8] = include_bytes!("../assets/opus-loop.bin");

/// RTP payloads of the loop, in order.
pub fn opus_loop() -> Vec<Arc<[u8]>> {
    let mut packets = Vec::new();
    let mut rest = LOOP;
    while let Some((size, tail)) = rest.split_first_chunk::<2>() {
        let Some((packet, tail)) = tail.split_at_checked(u16::from_be_bytes(*size).into()) else { break };
        packets.push(packet.into());
        rest = tail;
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_is_two_seconds_of_single_frame_stereo_packets() {
        let packets = opus_loop();
        assert_eq!(packets.len() as u32 * PACKET_MS, 2000);
        for packet in packets {
            // TOC byte (RFC 6716 section 3.1): stereo, one frame, and a configuration of 20 ms.
            assert_eq!(packet[0] & 0x07, 0x04);
            let config = packet[0] >> 3;
            assert!(matches!(config, 1 | 5 | 9 | 13 | 15 | 19 | 23 | 27 | 31), "{config}");
        }
    }
}
