//! What the media process must be told, and every capacity it has.

use std::net::IpAddr;
use std::path::PathBuf;

/// Configuration of the media process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaConfig {
    /// Path of the control socket, created with mode 0600.
    pub control: PathBuf,
    /// Addresses on which every worker opens one UDP socket. Not empty.
    pub bind: Vec<IpAddr>,
    /// Worker `i` uses port `udp_port + i` on each address.
    pub udp_port: u16,
    /// The cores to pin to, one worker each. Not empty, at most [`WORKERS_MAX`].
    pub cores: Vec<usize>,
    /// Hash of the configuration that signaling compares before it adopts a running media process.
    pub config_hash: u64,
}

impl MediaConfig {
    /// File descriptors that the process needs: a ring, a waker and an event per worker, its sockets, and the rest.
    pub fn descriptors_needed(&self) -> u64 {
        let workers = self.cores.len() as u64;
        workers * (3 + self.bind.len() as u64) + DESCRIPTORS_BESIDE_WORKERS
    }
}

/// Control connections, the control thread's own ring, standard streams, and room.
const DESCRIPTORS_BESIDE_WORKERS: u64 = 64;
/// Workers in one media process. A worker set is one 64-bit mask.
pub const WORKERS_MAX: usize = 64;
/// Sessions on one worker; bounds the slab, the timers and the ufrag's slot number.
pub const SESSIONS_MAX: usize = 16_384;
/// Sessions in one process; bounds the hello to signaling, 200 MB at 1 kB a session.
pub const PROCESS_SESSIONS_MAX: usize = 200_000;
/// With signaling gone and no session left, media ends after this many seconds.
pub const ORPHAN_SECONDS: u64 = 60;
