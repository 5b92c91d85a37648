//! The `uringcast` binary.

fn main() {}
