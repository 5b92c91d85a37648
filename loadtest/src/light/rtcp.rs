//! The RTCP of a light viewer: receiver reports and PLI out, sender reports in.

const VERSION: u8 = 0x80;
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const PAYLOAD_FEEDBACK: u8 = 206;
/// PLI among payload-specific feedback (RFC 4585 section 6.3.1).
const PLI: u8 = 1;
/// Words of an RTCP packet beside its header word: a receiver report without blocks has one, a block six.
const BLOCK_WORDS: usize = 6;
/// A count of blocks has five bits.
const BLOCKS_MAX: usize = 31;

/// One report block (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Block {
    pub ssrc: u32,
    /// Of 256, since the report before.
    pub fraction_lost: u8,
    /// Since the start.
    pub lost: u32,
    /// Highest sequence number with its cycles.
    pub highest: u32,
    pub jitter: u32,
    /// Middle of the last sender report's NTP time; 0 if none came.
    pub last_sr: u32,
    /// Since then, in 1/65536 s.
    pub delay: u32,
}

/// A receiver report from `sender`; blocks beyond what fits are left out.
pub fn receiver_report(sender: u32, blocks: &[Block]) -> Vec<u8> {
    let blocks = &blocks[..blocks.len().min(BLOCKS_MAX)];
    let words = (1 + blocks.len() * BLOCK_WORDS) as u16;
    let mut packet = vec![VERSION | blocks.len() as u8, RECEIVER_REPORT];
    packet.extend(words.to_be_bytes());
    packet.extend(sender.to_be_bytes());
    for block in blocks {
        let lost = u32::from(block.fraction_lost) << 24 | block.lost.min(0x007f_ffff);
        for word in [block.ssrc, lost, block.highest, block.jitter, block.last_sr, block.delay] {
            packet.extend(word.to_be_bytes());
        }
    }
    packet
}

/// Asks for a key frame of `media`.
pub fn add_pli(packet: &mut Vec<u8>, sender: u32, media: u32) {
    packet.extend([VERSION | PLI, PAYLOAD_FEEDBACK, 0, 2]);
    packet.extend(sender.to_be_bytes());
    packet.extend(media.to_be_bytes());
}

/// Calls `visit` with SSRC and middle NTP time of every sender report in a compound packet.
pub fn visit_sender_reports(mut compound: &[u8], mut visit: impl FnMut(u32, u32)) {
    while let [_, kind, high, low, ..] = compound {
        let len = 4 + 4 * usize::from(u16::from_be_bytes([*high, *low]));
        let Some((packet, rest)) = compound.split_at_checked(len) else { return };
        let word = |at: usize| Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?));
        if let (SENDER_REPORT, Some(ssrc), Some(high), Some(low)) = (*kind, word(4), word(8), word(12)) {
            visit(ssrc, high << 16 | low >> 16);
        }
        compound = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_with_a_pli_is_laid_out_as_the_rfcs_say() {
        let block = Block {
            ssrc: 7,
            fraction_lost: 128,
            lost: 3,
            highest: 65_537,
            jitter: 9,
            last_sr: 10,
            delay: 11,
        };
        let mut packet = receiver_report(1, &[block]);
        add_pli(&mut packet, 1, 7);
        let expected = [
            [0x81, 201, 0, 7],
            [0, 0, 0, 1],
            [0, 0, 0, 7],
            [128, 0, 0, 3],
            [0, 1, 0, 1],
            [0, 0, 0, 9],
            [0, 0, 0, 10],
            [0, 0, 0, 11],
            [0x81, 206, 0, 2],
            [0, 0, 0, 1],
            [0, 0, 0, 7],
        ];
        assert_eq!(packet, expected.concat());
    }

    #[test]
    fn sender_reports_are_found_in_a_compound_and_cut_off_ones_are_passed_over() {
        let mut compound = receiver_report(5, &[Block::default()]);
        compound.extend([0x80, 200, 0, 6, 0, 0, 0, 7, 0, 1, 0, 2, 0, 3, 0, 4]);
        compound.extend([0; 12]);
        let found = |bytes: &[u8]| {
            let mut found = Vec::new();
            visit_sender_reports(bytes, |ssrc, middle| found.push((ssrc, middle)));
            found
        };
        assert_eq!(found(&compound), [(7, 0x0002_0003)]);
        for len in 0..compound.len() {
            assert_eq!(found(&compound[..len]), [], "{len}");
        }
    }
}
