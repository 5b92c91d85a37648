//! The forwarding core: sans-IO state machines. Time and bytes come in as arguments, bytes and deadlines come out.
//!
//! Read [`forwarder`] first; it drives the rest.

pub mod capture_clock;
pub mod codec;
pub mod demux;
pub mod forwarder;
pub mod identity;
pub mod keyframe;
pub mod meters;
pub mod outbox;
pub mod packet;
pub mod peer;
pub mod plan;
pub mod publisher;
pub mod receive_log;
pub mod rewrite;
pub mod rtcp;
pub mod session;
pub mod srtp;
pub mod streams;
pub mod viewer;
