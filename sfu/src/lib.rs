//! The media engine of uringcast.
//!
//! `core/` is sans-IO, `driver/` is the only code that talks to the kernel about datagrams, `mesh/` carries packets
//! between workers, `worker.rs` is the one loop, `control/` speaks with signaling and runs the process.

#[cfg(not(target_os = "linux"))]
compile_error!("uringcast needs Linux 6.1 or newer: its packet path is io_uring");

pub mod config;
pub mod control;
pub mod core;
pub mod door;
pub mod driver;
pub mod error;
pub mod mesh;
pub mod stats;
pub mod worker;

pub use control::run;
