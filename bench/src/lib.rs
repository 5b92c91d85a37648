//! Benchmarks of uringcast, and the physical floor beside them.
//!
//! `cargo bench -p bench` times the small pieces (`benches/core.rs`) and lanes between cores (`benches/lanes.rs`); the `bench`
//! binary times whole paths: [`io`] is the table of I/O methods, [`egress`] the way of a packet to its viewers; and [`count`]
//! counts the instructions of the small pieces. `README.md` says how to read the figures.

// The one exception is `ring.rs`, which hands addresses to the kernel.
#![deny(unsafe_code)]

pub mod client;
pub mod clock;
pub mod count;
pub mod egress;
pub mod endpoint;
pub mod error;
pub mod inputs;
pub mod io;
pub mod machine;
pub mod mux;
pub mod netns;
pub mod pieces;
pub mod report;
#[allow(unsafe_code, reason = "io_uring reads memory through the addresses that it is given")]
pub mod ring;
pub mod seal;
pub mod sessions;
pub mod sink;
pub mod stats;
