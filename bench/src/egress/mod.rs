//! `bench egress`: what a packet costs on its way to its viewers, and what it would cost without any server.
//!
//! A turn is one frame of K packets brought to N viewers. Each case does it with the real ring to the same destinations;
//! the cases take turns, so that a disturbance of the machine meets all of them.

mod floor;
mod per_viewer;
mod ring;
mod server;

use crate::clock::{Spent, Split, ThreadClock};
use crate::error::Error;
use crate::inputs::{DATAGRAM_BYTES, PAYLOAD_BYTES};
use crate::sink::{Sink, SinkKind};
use crate::stats::Figure;
use floor::Floor;
use per_viewer::PerViewer;
use serde::{Deserialize, Serialize};
use server::Server;
use sfu::core::identity::Identity;
use sfu::driver::raise_descriptor_limit;

/// Media that a 720p30 viewer takes, in bit/s: what "viewers per core" is computed for.
const MEDIA_BITS_PER_SECOND: f64 = 1_400_000.0;
/// Descriptors beside the receivers: rings, sockets, standard streams, and room.
const DESCRIPTORS_BESIDE: u64 = 128;

/// A way to bring a frame to all viewers: the whole path of a packet after its publisher's worker has taken it in, up to the
/// kernel.
pub trait Case {
    /// As in the report.
    fn name(&self) -> &'static str;

    /// Brings `packets` packets of [`DATAGRAM_BYTES`] to each viewer, and fails if it did not. Calls that enter the kernel go
    /// through [`Split::kernel`].
    fn turn(&mut self, packets: usize, split: &mut Split) -> Result<(), Error>;
}

/// The two floors come first: the ratios are over them.
const SINGLES: usize = 0;
const TRAINS: usize = 1;

/// All cases with viewers at the targets of `sink`; each is one line here.
fn cases(sink: &Sink, identity: &Identity) -> Result<Vec<Box<dyn Case>>, Error> {
    Ok(vec![
        Box::new(Floor::singles(sink)?),
        Box::new(Floor::trains(sink)?),
        Box::new(PerViewer::new(sink)?),
        Box::new(Server::new(sink, identity.clone())?),
    ])
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Numbers of viewers.
    pub viewers: Vec<usize>,
    /// Packets of a frame.
    pub frames: Vec<usize>,
    /// Where the packets go.
    pub sinks: Vec<SinkKind>,
    /// Samples of each figure.
    pub rounds: usize,
    /// Viewer-packets of a sample, at least one turn.
    pub packets_per_sample: usize,
}

impl Plan {
    /// Two sizes, a second or so.
    pub fn quick() -> Plan {
        Plan {
            viewers: vec![10, 100],
            frames: vec![1, 4, 8, 16],
            sinks: vec![SinkKind::Loopback],
            rounds: 3,
            packets_per_sample: 500,
        }
    }

    /// The sizes that the project's bars speak of; about two minutes.
    pub fn full() -> Plan {
        Plan {
            viewers: vec![10, 100, 300, 1_000, 3_000],
            frames: vec![1, 4, 8, 16],
            sinks: vec![SinkKind::Loopback, SinkKind::Dropped],
            rounds: 7,
            packets_per_sample: 4_000,
        }
    }
}

/// One line of the table. Times are nanoseconds of CPU per viewer-packet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The name of the way.
    pub case: String,
    /// Where the packets went.
    pub sink: SinkKind,
    /// Viewers of the stream.
    pub viewers: usize,
    /// Packets of a frame.
    pub frame_packets: usize,
    /// Bytes of each datagram, without IP and UDP.
    pub datagram_bytes: usize,
    /// User space and kernel together.
    pub total_ns: Figure,
    /// User space.
    pub user_ns: Figure,
    /// Inside system calls.
    pub kernel_ns: Figure,
    /// Times the floor of one datagram per send, round by round.
    pub over_floor: Figure,
    /// Times the floor of one frame per send.
    pub over_train_floor: Figure,
    /// Viewers of a 1.4 Mbit/s stream that one core could serve if it did nothing else.
    pub viewers_per_core: f64,
    /// Datagrams that arrived (or reached the device), in parts of those sent.
    pub delivered: f64,
}

/// Measures all that `plan` asks for. `progress` hears what comes next.
pub fn run(plan: &Plan, clock: ThreadClock, mut progress: impl FnMut(&str)) -> Result<Vec<Row>, Error> {
    let most = plan.viewers.iter().copied().max().unwrap_or(0);
    raise_descriptor_limit(most as u64 + DESCRIPTORS_BESIDE)?;
    let identity = Identity::generate().map_err(|error| Error::Crypto(error.to_string()))?;
    let mut rows = vec![];
    for &kind in &plan.sinks {
        for &viewers in &plan.viewers {
            progress(&format!("egress: {viewers} viewers, {kind}"));
            let sink = Sink::open(kind, viewers)?;
            let mut cases = cases(&sink, &identity)?;
            for &packets in &plan.frames {
                rows.extend(measure(plan, clock, &sink, packets, &mut cases)?);
            }
        }
    }
    Ok(rows)
}

#[derive(Default)]
struct Samples {
    total: Vec<f64>,
    user: Vec<f64>,
    kernel: Vec<f64>,
    sent: u64,
    arrived: u64,
}

fn measure(
    plan: &Plan,
    clock: ThreadClock,
    sink: &Sink,
    packets: usize,
    cases: &mut [Box<dyn Case>],
) -> Result<Vec<Row>, Error> {
    let mut samples: Vec<Samples> = cases.iter().map(|_| Samples::default()).collect();
    let per_turn = packets * sink.targets().len();
    let turns = (plan.packets_per_sample / per_turn).max(1);
    for _ in 0..plan.rounds {
        for (case, samples) in cases.iter_mut().zip(&mut samples) {
            // The other cases have had the caches since: what a case finds there is what its own last turn left.
            let mut warm_up = Samples::default();
            turn(clock, sink, packets, case.as_mut(), &mut warm_up)?;
            let mut sum = Spent::default();
            for _ in 0..turns {
                let spent = turn(clock, sink, packets, case.as_mut(), samples)?;
                sum.user += spent.user;
                sum.kernel += spent.kernel;
            }
            samples.add(sum, turns * per_turn);
        }
    }
    let row = |case: &dyn Case, samples_of: &Samples| Row {
        case: case.name().into(),
        sink: sink.kind(),
        viewers: sink.targets().len(),
        frame_packets: packets,
        datagram_bytes: DATAGRAM_BYTES,
        total_ns: Figure::of(&samples_of.total),
        user_ns: Figure::of(&samples_of.user),
        kernel_ns: Figure::of(&samples_of.kernel),
        over_floor: Figure::ratio(&samples_of.total, &samples[SINGLES].total),
        over_train_floor: Figure::ratio(&samples_of.total, &samples[TRAINS].total),
        viewers_per_core: viewers_per_core(Figure::of(&samples_of.total).median),
        delivered: samples_of.arrived as f64 / samples_of.sent as f64,
    };
    Ok(cases.iter().zip(&samples).map(|(case, samples_of)| row(case.as_ref(), samples_of)).collect())
}

impl Samples {
    fn add(&mut self, spent: Spent, packets: usize) {
        let each = |time: std::time::Duration| time.as_nanos() as f64 / packets as f64;
        self.user.push(each(spent.user));
        self.kernel.push(each(spent.kernel));
        self.total.push(each(spent.user + spent.kernel));
    }
}

/// One frame to all viewers, then the receivers are emptied off the clock.
fn turn(
    clock: ThreadClock,
    sink: &Sink,
    packets: usize,
    case: &mut dyn Case,
    samples: &mut Samples,
) -> Result<Spent, Error> {
    let sent = (packets * sink.targets().len()) as u64;
    let dropped = sink.dropped()?;
    let spent = Split::measure(clock, |split| case.turn(packets, split))?;
    samples.sent += sent;
    samples.arrived += match sink.kind() {
        // The device counts buffers, and a train is one: all or nothing is what can be told.
        SinkKind::Dropped => {
            if sink.dropped()? > dropped {
                sent
            } else {
                0
            }
        }
        SinkKind::Loopback | SinkKind::LoopbackGro => sink.drain()? / DATAGRAM_BYTES as u64,
    };
    Ok(spent)
}

fn viewers_per_core(ns_per_packet: f64) -> f64 {
    let packets_per_second = MEDIA_BITS_PER_SECOND / 8.0 / PAYLOAD_BYTES as f64;
    if ns_per_packet > 0.0 { 1e9 / (ns_per_packet * packets_per_second) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_of_1_4_mbit_takes_150_packets_a_second() {
        // 150 packets of 1 µs are 150 µs of each second.
        let viewers = viewers_per_core(1_000.0);
        assert!((6_600.0..6_700.0).contains(&viewers), "{viewers}");
    }

    #[test]
    fn every_case_brings_every_packet_to_every_viewer() {
        let plan =
            Plan { viewers: vec![3], frames: vec![1, 5], rounds: 2, packets_per_sample: 20, ..Plan::quick() };
        let clock = ThreadClock::calibrate().expect("a clock");
        let rows = run(&plan, clock, |_| {}).expect("a run");
        assert_eq!(rows.len(), 2 * 4);
        for row in rows {
            assert_eq!(row.delivered, 1.0, "{}", row.case);
            assert!(row.user_ns.median > 0.0 && row.kernel_ns.median > 0.0, "{}", row.case);
        }
    }
}
