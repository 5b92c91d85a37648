//! The receiving half of the table: how much CPU it takes to empty a full socket.

use super::receivers;
use super::{Direction, Method, PAYLOAD, Plan, Samples, Way};
use crate::clock::ThreadClock;
use crate::error::Error;
use crate::inputs::DATAGRAM_BYTES;
use crate::sink::{SinkKind, enlarge};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// Datagrams that lie in the socket before the clock starts. Booked as 1.2 MB.
const QUEUED: usize = 512;
/// Datagrams of a publisher's frame that leaves as one train.
const TRAIN: u16 = 8;
/// Batches until the driver has used each of its 256 buffers: the first use of a buffer is a page fault. The fewest buffers
/// are used where 8 datagrams come in one.
const WARM_UP_BATCHES: usize = 256 / (QUEUED / TRAIN as usize) + 1;
/// A datagram that was lost on the loopback interface would else be waited for without end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Measures every way to receive, on a socket with or without GRO.
pub(super) fn run(plan: &Plan, clock: ThreadClock, kind: SinkKind) -> Result<Vec<super::Row>, Error> {
    let mut all: Vec<Samples> = ways(kind).into_iter().map(Samples::new).collect();
    for _ in 0..plan.rounds {
        for samples in &mut all {
            measure(plan, clock, samples)?;
        }
    }
    Ok(Samples::rows(&all))
}

fn measure(plan: &Plan, clock: ThreadClock, samples: &mut Samples) -> Result<(), Error> {
    let pair = Pair::open(samples.way)?;
    let mut receiver = receivers::open(samples.way, pair.receiver)?;
    let mut spent = Duration::ZERO;
    for batch in 0..WARM_UP_BATCHES + plan.batches {
        fill(&pair.sender, samples.way.train)?;
        let (time, received) = clock.time(|| receiver.receive(QUEUED));
        if batch >= WARM_UP_BATCHES {
            spent += time;
        }
        samples.sent += QUEUED as u64;
        samples.arrived += received? as u64;
    }
    samples.ns.push(spent.as_nanos() as f64 / (plan.batches * QUEUED) as f64);
    Ok(())
}

struct Pair {
    sender: UdpSocket,
    receiver: UdpSocket,
}

impl Pair {
    fn open(way: Way) -> io::Result<Pair> {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let (sender, receiver) = (bind()?, bind()?);
        sender.connect(receiver.local_addr()?)?;
        if way.connected {
            receiver.connect(sender.local_addr()?)?;
        }
        if way.train > 1 {
            setsockopt(&sender, sockopt::UdpGsoSegment, &(DATAGRAM_BYTES as i32))?;
        }
        let gro = way.sink == SinkKind::LoopbackGro;
        setsockopt(&receiver, sockopt::UdpGroSegment, &gro)?;
        enlarge(&receiver)?;
        receiver.set_read_timeout(Some(PATIENCE))?;
        Ok(Pair { sender, receiver })
    }
}

fn fill(sender: &UdpSocket, train: u16) -> io::Result<()> {
    let train = usize::from(train);
    for _ in 0..QUEUED / train {
        sender.send(&PAYLOAD[..train * DATAGRAM_BYTES])?;
    }
    Ok(())
}

/// The baseline first: single datagrams by recvmsg.
fn ways(sink: SinkKind) -> Vec<Way> {
    let mut ways = vec![];
    for train in [1, TRAIN] {
        for method in [Method::Sendto, Method::Sendmmsg, Method::TokioUring, Method::Driver] {
            // tokio-uring hands out no control data, so it cannot say where the datagrams of a coalesced buffer end.
            if method == Method::TokioUring && sink == SinkKind::LoopbackGro {
                continue;
            }
            for connected in [false, true] {
                let direction = Direction::Receive;
                ways.push(Way { direction, sink, method, connected, train, zero_copy: false });
            }
        }
    }
    ways
}
