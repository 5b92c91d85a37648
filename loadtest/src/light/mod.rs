//! `--mode light`: thousands of viewers. Every packet is counted from its header, a sample is decrypted and
//! checked; STUN, DTLS and RTCP are real.

mod first;
mod frames;
pub mod header;
mod rtcp;
mod stream;
pub mod viewer;
