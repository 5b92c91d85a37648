//! The sending half of the table.

use super::senders::{self, BATCH, Sender};
use super::{Direction, Method, Plan, Samples, Way};
use crate::clock::ThreadClock;
use crate::error::Error;
use crate::inputs::DATAGRAM_BYTES;
use crate::sink::{Sink, SinkKind};
use std::time::Duration;

/// Destinations; a batch goes round all of them, but for connected sendmmsg, which can only reach one.
const DESTINATIONS: usize = BATCH;

/// The baseline first.
const METHODS: [Method; 6] =
    [Method::Sendto, Method::Sendmmsg, Method::TokioUring, Method::Driver, Method::DriverTcp, Method::Ring];

/// Measures every way to send to one kind of sink.
pub(super) fn run(plan: &Plan, clock: ThreadClock, kind: SinkKind) -> Result<Vec<super::Row>, Error> {
    let sink = Sink::open(kind, DESTINATIONS)?;
    let mut all: Vec<Samples> = ways(plan, kind).into_iter().map(Samples::new).collect();
    for _ in 0..plan.rounds {
        for samples in &mut all {
            let mut sender = senders::open(samples.way, &sink)?;
            sender.send(0)?; // warms up
            sink.drain()?;
            sender.drain()?;
            measure(plan, clock, &sink, sender.as_mut(), samples)?;
        }
    }
    Ok(Samples::rows(&all))
}

fn measure(
    plan: &Plan,
    clock: ThreadClock,
    sink: &Sink,
    sender: &mut dyn Sender,
    samples: &mut Samples,
) -> Result<(), Error> {
    let per_batch = BATCH as u64 * u64::from(samples.way.train);
    let mut spent = Duration::ZERO;
    for batch in 0..plan.batches {
        let dropped = sink.dropped()?;
        let (time, result) = clock.time(|| sender.send(batch));
        result?;
        spent += time;
        samples.sent += per_batch;
        samples.arrived += match sink.kind() {
            SinkKind::Dropped => (sink.dropped()? - dropped) * u64::from(samples.way.train),
            SinkKind::Loopback | SinkKind::LoopbackGro => {
                sink.drain()? / DATAGRAM_BYTES as u64 + sender.drain()?
            }
        };
    }
    samples.ns.push(spent.as_nanos() as f64 / (plan.batches as u64 * per_batch) as f64);
    Ok(())
}

/// The baseline first.
fn ways(plan: &Plan, sink: SinkKind) -> Vec<Way> {
    let mut ways = vec![];
    for &train in &plan.trains {
        for method in METHODS {
            for connected in [false, true] {
                for zero_copy in [false, true] {
                    let way = Way { direction: Direction::Send, sink, method, connected, train, zero_copy };
                    ways.extend(exists(way).then_some(way));
                }
            }
        }
    }
    ways
}

/// The server's ring addresses each send and copies, and its TCP connections need somebody who accepts; system calls without a ring cannot send in place as simply. Receivers
/// with GRO differ for trains only.
fn exists(way: Way) -> bool {
    let baseline = way.method == Method::Sendto && !way.connected;
    let zero_copy = matches!(way.method, Method::TokioUring | Method::Ring);
    let connected = !matches!(way.method, Method::Driver | Method::DriverTcp);
    let sink = way.method != Method::DriverTcp || way.sink == SinkKind::Loopback;
    sink && (zero_copy || !way.zero_copy)
        && (connected || !way.connected)
        && (way.sink != SinkKind::LoopbackGro || way.train > 1 || baseline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_comes_first_and_no_way_twice() {
        for sink in [SinkKind::Loopback, SinkKind::LoopbackGro, SinkKind::Dropped] {
            let ways = ways(&Plan::full(), sink);
            let first = ways[0];
            assert!(
                first.method == Method::Sendto && first.train == 1 && !first.connected && !first.zero_copy
            );
            for (index, way) in ways.iter().enumerate() {
                assert!(!ways[..index].contains(way), "{way:?}");
            }
        }
    }
}
