//! RTCP with viewers: what they report ([`Compound`]), and the reports that we send ([`build`]). RFC 3550 §6, RFC 4585, RFC 5104.
//!
//! Plain packets; [`super::srtp`] opens and seals them.

pub mod build;
mod items;
mod parse;

pub use items::{FirEntries, FirEntry, NackedSequences, ReportBlock, ReportBlocks, SenderInfo, Sources};
pub use parse::{Compound, Feedback};

/// Packet types: RFC 3550 §12.1, RFC 4585 §6.1, RFC 3611 §2.
mod packet_type {
    pub const SENDER_REPORT: u8 = 200;
    pub const RECEIVER_REPORT: u8 = 201;
    pub const SOURCE_DESCRIPTION: u8 = 202;
    pub const BYE: u8 = 203;
    pub const TRANSPORT_FEEDBACK: u8 = 205;
    pub const PAYLOAD_FEEDBACK: u8 = 206;
    pub const EXTENDED_REPORT: u8 = 207;
}

/// The two bits in front of every packet, RFC 3550 §6.4.1.
const VERSION: u8 = 2;
/// Version, count, packet type and length.
const HEADER_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    /// From the notation of the RFCs: words in hexadecimal.
    pub(super) fn bytes(words: &str) -> Vec<u8> {
        let words = words.split_whitespace().map(|word| u32::from_str_radix(word, 16).expect("a word"));
        words.flat_map(u32::to_be_bytes).collect()
    }

    pub(super) const RECEIVER_REPORT: &str =
        "81c90007 00000001 000003e8 40fffffe 00014e20 0000002a 11223344 00008000";
    pub(super) const SENDER_REPORT: &str = "80c80006 00000001 e0000001 80000000 00000bb8 00000064 0000fde8";
}
