//! The forwarding core: sans-IO state machines. Time and bytes come in as arguments, bytes and deadlines come out.

pub mod codec;
pub mod plan;
