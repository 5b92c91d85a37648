//! The `uringcast` binary.

#[allow(dead_code, unused_imports, reason = "the HTTP side that calls it lands with the session endpoints")]
mod sdp;

fn main() {}
