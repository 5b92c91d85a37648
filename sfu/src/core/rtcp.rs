//! Placeholder.
#![allow(missing_docs)]
use super::plan::Ssrc;
#[derive(Debug, Clone, Copy)]
pub struct ReportBlock {
    pub ssrc: u32,
    pub last_sender_report: u32,
    pub delay: u32,
}
pub enum Feedback<'a> {
    Report(ReportBlock),
    Nack { media_ssrc: u32, sequences: Sequences<'a> },
    Pli { media_ssrc: u32 },
    Fir { media_ssrc: u32 },
    Other,
}
pub struct Sequences<'a>(&'a [u8], u32);
impl Iterator for Sequences<'_> {
    type Item = u16;
    fn next(&mut self) -> Option<u16> {
        let item = self.0.get(..4)?;
        let pid = u16::from_be_bytes([item[0], item[1]]);
        let mask = u32::from(u16::from_be_bytes([item[2], item[3]])) << 1 | 1;
        let left = mask >> self.1 << self.1;
        let bit = left.trailing_zeros();
        if left >> (bit.min(31)) <= 1 {
            self.0 = &self.0[4..];
            self.1 = 0;
        } else {
            self.1 = bit + 1;
        }
        Some(pid.wrapping_add(bit as u16))
    }
}
pub fn parse(mut rest: &[u8]) -> impl Iterator<Item = Feedback<'_>> {
    let mut all = vec![];
    while let Some((head, _)) = rest.split_at_checked(4) {
        let bytes = 4 * (usize::from(u16::from_be_bytes([head[2], head[3]])) + 1);
        let Some((packet, after)) = rest.split_at_checked(bytes) else { break };
        rest = after;
        let (count, pt) = (packet[0] & 31, packet[1]);
        let word =
            |at: usize| packet.get(at..at + 4).map_or(0, |w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]));
        match (pt, count) {
            (200 | 201, _) => {
                let start = if pt == 200 { 28 } else { 8 };
                for block in 0..usize::from(count) {
                    let at = start + 24 * block;
                    if packet.len() >= at + 24 {
                        all.push(Feedback::Report(ReportBlock {
                            ssrc: word(at),
                            last_sender_report: word(at + 16),
                            delay: word(at + 20),
                        }));
                    }
                }
            }
            (205, 1) => all.push(Feedback::Nack {
                media_ssrc: word(8),
                sequences: Sequences(&packet[12.min(packet.len())..], 0),
            }),
            (206, 1) => all.push(Feedback::Pli { media_ssrc: word(8) }),
            (206, 4) => all.push(Feedback::Fir { media_ssrc: word(12) }),
            _ => {}
        }
    }
    all.into_iter()
}
pub fn sender_report(out: &mut Vec<u8>, ssrc: Ssrc, ntp: u64, timestamp: u32, packets: u64, octets: u64) {
    out.extend([0x80, 200, 0, 6]);
    out.extend(ssrc.0.to_be_bytes());
    out.extend(ntp.to_be_bytes());
    out.extend(timestamp.to_be_bytes());
    out.extend((packets as u32).to_be_bytes());
    out.extend((octets as u32).to_be_bytes());
}
pub fn source_description(out: &mut Vec<u8>, ssrc: Ssrc, cname: &str) {
    let mut chunk = ssrc.0.to_be_bytes().to_vec();
    chunk.extend([1, cname.len() as u8]);
    chunk.extend(cname.as_bytes());
    chunk.push(0);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    out.extend([0x81, 202]);
    out.extend(((chunk.len() / 4) as u16).to_be_bytes());
    out.extend(chunk);
}
pub fn bye(out: &mut Vec<u8>, ssrcs: &[Ssrc]) {
    out.extend([0x80 | ssrcs.len() as u8, 203, 0, ssrcs.len() as u8]);
    ssrcs.iter().for_each(|ssrc| out.extend(ssrc.0.to_be_bytes()));
}
