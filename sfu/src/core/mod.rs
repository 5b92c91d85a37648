//! The forwarding core: sans-IO state machines. Time and bytes come in as arguments, bytes and deadlines come out.
//!
//! Read [`forwarder`] first; it drives the rest.

pub mod capture_clock;
pub mod codec;
pub mod demux;
pub mod dtls;
pub mod egress;
pub mod extensions;
pub mod following;
pub mod forwarder;
pub mod framing;
pub mod header;
pub mod ice;
pub mod ice_check;
pub mod identity;
pub mod keyframe;
pub mod layer_meter;
pub mod layers;
pub mod meters;
pub mod ntp;
pub mod outbox;
pub mod packet;
pub mod paths;
pub mod peer;
pub mod picture_size;
pub mod plan;
pub mod publisher;
pub mod receive_log;
pub mod reports;
pub mod retransmission;
pub mod rewrite;
pub mod rtcp;
pub mod session;
pub mod shared_port;
pub mod srtp;
pub mod store;
pub mod streams;
pub mod stun;
pub mod subscribers;
pub mod track;
pub mod viewer;
pub mod vp8;
