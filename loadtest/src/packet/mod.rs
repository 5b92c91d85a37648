//! What goes into RTP payloads and what is read back out of them.

pub mod h264;
pub mod sei;
pub mod size;
pub mod vp8;
