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
    /// Worker `i` uses port `udp_port + i` on each address, or all use this one.
    pub udp_port: u16,
    /// Whether all workers share the UDP port.
    pub udp_mux: bool,
    /// Clients whose UDP is blocked connect to this TCP port, on each address, one for all workers; none for no TCP.
    pub tcp_port: Option<u16>,
    /// The cores to pin to, one worker each. Not empty, at most [`WORKERS_MAX`].
    pub cores: Vec<usize>,
    /// Hash of the configuration that signaling compares before it adopts a running media process.
    pub config_hash: u64,
}

impl MediaConfig {
    /// The UDP port of each worker.
    pub fn udp_ports(&self) -> impl Iterator<Item = u16> {
        let step = u16::from(!self.udp_mux);
        (0..self.cores.len() as u16).map(move |index| self.udp_port + index * step)
    }

    /// File descriptors that the process needs: a ring, a waker and an event per worker, its sockets twice, and the rest.
    pub fn descriptors_needed(&self) -> u64 {
        let workers = self.cores.len() as u64;
        let tcp = if self.tcp_port.is_some() { self.bind.len() as u64 + TCP_WAITING_MAX as u64 } else { 0 };
        workers * (3 + 2 * self.bind.len() as u64) + tcp + DESCRIPTORS_BESIDE_WORKERS
    }

    /// TCP connections that each worker may have, of `descriptors` that the process may open.
    pub fn tcp_connections(&self, descriptors: u64) -> usize {
        let spare = descriptors.saturating_sub(self.descriptors_needed()) / self.cores.len().max(1) as u64;
        usize::try_from(spare).unwrap_or(usize::MAX).min(TCP_CONNECTIONS_MAX)
    }
}

/// Control connections, the control thread's own ring, standard streams, and room.
const DESCRIPTORS_BESIDE_WORKERS: u64 = 64;
/// TCP connections of one worker. Each may hold `driver::STREAM_QUEUE_BYTES` while its client is slow: 1 GiB if all are.
pub const TCP_CONNECTIONS_MAX: usize = 4096;
/// TCP connections that have not sent a request yet, all together: one takes a round trip, so 5,000 joins/s at 100 ms are 500.
/// Each is a descriptor and at most some 3 kB. Above, the oldest is closed, so that idle ones cannot keep others out.
pub const TCP_WAITING_MAX: usize = 512;
/// Those of one source, an IPv4 address or an IPv6 /64: a venue behind one address, whose viewers join at once, has room.
pub const TCP_WAITING_PER_SOURCE: usize = 64;
/// In this time a connection must have sent its first request: two retransmissions of a SYN's data after 1 and 2 s, and some.
pub const TCP_REQUEST_SECONDS: u64 = 5;
/// Workers in one media process. A worker set is one 64-bit mask.
pub const WORKERS_MAX: usize = 64;
/// Sessions on one worker; bounds the slab, the timers and the ufrag's slot number.
pub const SESSIONS_MAX: usize = 16_384;
/// Sessions in one process; bounds the hello to signaling, 200 MB at 1 kB a session.
pub const PROCESS_SESSIONS_MAX: usize = 200_000;
/// With signaling gone and no session left, media ends after this many seconds.
pub const ORPHAN_SECONDS: u64 = 60;
