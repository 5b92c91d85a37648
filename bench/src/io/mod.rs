//! `bench io`: what sending and receiving a datagram costs by each method the kernel offers.

mod receive;
mod receivers;
mod send;
mod senders;
mod tcp;

use crate::clock::ThreadClock;
use crate::error::Error;
use crate::inputs::DATAGRAM_BYTES;
use crate::sink::SinkKind;
use crate::stats::Figure;
use serde::{Deserialize, Serialize};
use sfu::driver::raise_descriptor_limit;
use std::fmt;

/// What every method sends: one datagram from its start, or a train.
pub(crate) static PAYLOAD: [u8; TRAIN_MAX as usize * DATAGRAM_BYTES] =
    [0x5c; TRAIN_MAX as usize * DATAGRAM_BYTES];
/// Datagrams in the longest train: 48 kB of the 65,507 bytes that fit one send.
const TRAIN_MAX: u16 = 40;
/// Destinations, receivers, connected sockets, rings.
const DESCRIPTORS: u64 = 1_024;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Out.
    Send,
    /// In.
    Receive,
}

/// How a datagram gets into or out of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A system call for each datagram or train: the baseline.
    Sendto,
    /// A system call for a batch, all to one socket.
    Sendmmsg,
    /// The tokio-uring crate, a task for each send.
    TokioUring,
    /// The server's own ring through its interface: SENDMSG out, multishot RECVMSG and a buffer ring in.
    Driver,
    /// The same over TCP, each datagram behind its length: what a client whose UDP is blocked costs.
    DriverTcp,
    /// A ring with nothing around it: SEND and SEND_ZC.
    Ring,
}

impl Method {
    /// As the call is named in this direction.
    pub fn name(self, direction: Direction) -> &'static str {
        match (self, direction) {
            (Method::Sendto, Direction::Send) => "sendto",
            (Method::Sendto, Direction::Receive) => "recvmsg",
            (Method::Sendmmsg, Direction::Send) => "sendmmsg",
            (Method::Sendmmsg, Direction::Receive) => "recvmmsg",
            (Method::TokioUring, _) => "tokio-uring",
            (Method::Driver, _) => "sfu::driver",
            (Method::DriverTcp, _) => "sfu::driver, TCP",
            (Method::Ring, _) => "bare ring",
        }
    }
}

/// One way to move datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// In or out.
    pub direction: Direction,
    /// Out: where they go. In: whether the receiving socket has UDP_GRO.
    pub sink: SinkKind,
    /// The call.
    pub method: Method,
    /// The socket is connected to one peer.
    pub connected: bool,
    /// Datagrams that travel as one buffer (UDP_SEGMENT); 1 is none.
    pub train: u16,
    /// The kernel reads the payload in place.
    pub zero_copy: bool,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method.name(self.direction))?;
        if self.connected {
            f.write_str(", connected")?;
        }
        if self.zero_copy {
            f.write_str(", zero copy")?;
        }
        Ok(())
    }
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was done.
    #[serde(flatten)]
    pub way: Way,
    /// Nanoseconds of CPU per datagram, user space and kernel.
    pub ns: Figure,
    /// Times the baseline of the same sink (sendto or recvmsg, unconnected, no train), round by round. Below 1 is cheaper.
    pub over_baseline: Figure,
    /// Datagrams that arrived (or reached the device), in parts of those sent.
    pub delivered: f64,
}

/// How much to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where datagrams are sent to.
    pub sinks: Vec<SinkKind>,
    /// Train lengths; 1 must be among them, it is the baseline.
    pub trains: Vec<u16>,
    /// Samples of each figure.
    pub rounds: usize,
    /// Batches of 64 sends in a sample; what is received in one is 512 datagrams.
    pub batches: usize,
}

impl Plan {
    /// The outline, in under a second.
    pub fn quick() -> Plan {
        Plan { sinks: vec![SinkKind::Loopback], trains: vec![1, 10], rounds: 3, batches: 2 }
    }

    /// All of it; about half a minute.
    pub fn full() -> Plan {
        Plan {
            sinks: vec![SinkKind::Loopback, SinkKind::LoopbackGro, SinkKind::Dropped],
            trains: vec![1, 4, 10, TRAIN_MAX],
            rounds: 9,
            batches: 16,
        }
    }
}

/// Measures all that `plan` asks for. `progress` hears what comes next.
pub fn run(plan: &Plan, clock: ThreadClock, mut progress: impl FnMut(&str)) -> Result<Vec<Row>, Error> {
    raise_descriptor_limit(DESCRIPTORS)?;
    let mut rows = vec![];
    for &sink in &plan.sinks {
        progress(&format!("io: send, {sink}"));
        rows.extend(send::run(plan, clock, sink)?);
    }
    for sink in [SinkKind::Loopback, SinkKind::LoopbackGro] {
        progress(&format!("io: receive, {sink}"));
        rows.extend(receive::run(plan, clock, sink)?);
    }
    Ok(rows)
}

/// The samples of one way.
pub(crate) struct Samples {
    way: Way,
    ns: Vec<f64>,
    sent: u64,
    arrived: u64,
}

impl Samples {
    fn new(way: Way) -> Samples {
        Samples { way, ns: vec![], sent: 0, arrived: 0 }
    }

    /// The rows of one sink; the first of `all` is the baseline.
    fn rows(all: &[Samples]) -> Vec<Row> {
        let row = |samples: &Samples| Row {
            way: samples.way,
            ns: Figure::of(&samples.ns),
            over_baseline: Figure::ratio(&samples.ns, &all[0].ns),
            delivered: samples.arrived as f64 / samples.sent as f64,
        };
        all.iter().map(row).collect()
    }
}
