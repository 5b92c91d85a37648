//! Counters of a worker, as they cross to signaling: cumulative, absolute, copied out whole.

use serde::{Deserialize, Serialize};

/// Why a datagram, packet or session was dropped: the closed set of values of the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(usize)]
pub enum DropReason {
    /// No session has this source address, and it is no STUN request or response.
    UnknownAddress,
    /// STUN whose USERNAME names no session.
    UnknownUfrag,
    /// Not STUN, DTLS, RTP or RTCP (RFC 7983), or shorter than its header.
    NotMedia,
    /// The session refused it: bad integrity, bad authentication, malformed.
    Rejected,
    /// RTP payload, or behind a shared port a datagram, that is larger than its place in the mesh.
    Oversize,
    /// Of a simulcast layer that no viewer of the stream takes, or of none that was offered.
    UnselectedLayer,
    /// A packet of a publisher that was replaced.
    Superseded,
    /// No send slot was free.
    SendQueueFull,
    /// The kernel refused the datagram.
    SendFailed,
    /// The ring's receive buffers ran out for a moment; the datagrams waited in the socket.
    ReceiveBuffersExhausted,
    /// A socket's receive buffer was full and the kernel dropped the datagram.
    SocketBufferFull,
    /// A viewer asked again for more than its byte budget allows.
    RetransmissionBudget,
    /// A viewer asked again for a packet that was sent again less than a round trip ago.
    RetransmissionRepeated,
    /// A viewer asked again for a packet that the store no longer holds.
    RetransmissionExpired,
    /// RTCP whose SRTCP index was seen before or is too old (RFC 3711 §3.3.2).
    RtcpReplayed,
    /// Withheld from a viewer that waits for a key frame.
    AwaitingKeyframe,
    /// Came twice, or too late to be of use: older than all that is kept, or than what a viewer began with.
    TooLate,
    /// A STUN response to no check of ours.
    UnknownTransaction,
    /// Withheld from an address that has not proved that it hears us, or is not heard any more.
    UnprovenAddress,
    /// Too much waits for a TCP connection that the client does not read fast enough, or the connection is gone.
    TcpQueueFull,
    /// It came in at another worker behind the shared port, and too much waited for the worker of its session.
    HandoverFull,
}

impl DropReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [DropReason; 21] = [
        DropReason::UnknownAddress,
        DropReason::UnknownUfrag,
        DropReason::NotMedia,
        DropReason::Rejected,
        DropReason::Oversize,
        DropReason::UnselectedLayer,
        DropReason::Superseded,
        DropReason::SendQueueFull,
        DropReason::SendFailed,
        DropReason::ReceiveBuffersExhausted,
        DropReason::SocketBufferFull,
        DropReason::RetransmissionBudget,
        DropReason::RetransmissionRepeated,
        DropReason::RetransmissionExpired,
        DropReason::RtcpReplayed,
        DropReason::AwaitingKeyframe,
        DropReason::TooLate,
        DropReason::UnknownTransaction,
        DropReason::UnprovenAddress,
        DropReason::TcpQueueFull,
        DropReason::HandoverFull,
    ];

    /// The label value.
    pub fn label(self) -> &'static str {
        match self {
            DropReason::UnknownAddress => "unknown_address",
            DropReason::UnknownUfrag => "unknown_ufrag",
            DropReason::NotMedia => "not_media",
            DropReason::Rejected => "rejected",
            DropReason::Oversize => "oversize",
            DropReason::UnselectedLayer => "unselected_layer",
            DropReason::Superseded => "superseded",
            DropReason::SendQueueFull => "send_queue_full",
            DropReason::SendFailed => "send_failed",
            DropReason::ReceiveBuffersExhausted => "receive_buffers_exhausted",
            DropReason::SocketBufferFull => "socket_buffer_full",
            DropReason::RetransmissionBudget => "retransmission_budget",
            DropReason::RetransmissionRepeated => "retransmission_repeated",
            DropReason::RetransmissionExpired => "retransmission_expired",
            DropReason::RtcpReplayed => "rtcp_replayed",
            DropReason::AwaitingKeyframe => "awaiting_keyframe",
            DropReason::TooLate => "too_late",
            DropReason::UnknownTransaction => "unknown_transaction",
            DropReason::UnprovenAddress => "unproven_address",
            DropReason::TcpQueueFull => "tcp_queue_full",
            DropReason::HandoverFull => "handover_full",
        }
    }
}

/// Why a TCP connection ended: the closed set of values of its metric's `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(usize)]
pub enum StreamEnd {
    /// It sent no whole STUN request in time.
    NoRequest,
    /// What it sent first is not a STUN request to one of our sessions, or is longer than any datagram.
    NotStun,
    /// Too many at once, of one source or of all; or the worker's lane was full.
    TooMany,
    /// Its request names no session, or has no good integrity.
    Rejected,
    /// The client closed it, or takes nothing any more.
    Peer,
    /// A later frame is longer than any datagram.
    Oversize,
    /// Its session ended, or keeps other addresses.
    Session,
}

impl StreamEnd {
    /// Every reason, in the order of their numbers.
    pub const ALL: [StreamEnd; 7] = [
        StreamEnd::NoRequest,
        StreamEnd::NotStun,
        StreamEnd::TooMany,
        StreamEnd::Rejected,
        StreamEnd::Peer,
        StreamEnd::Oversize,
        StreamEnd::Session,
    ];

    /// The label value.
    pub fn label(self) -> &'static str {
        match self {
            StreamEnd::NoRequest => "no_request",
            StreamEnd::NotStun => "not_stun",
            StreamEnd::TooMany => "too_many",
            StreamEnd::Rejected => "rejected",
            StreamEnd::Peer => "peer",
            StreamEnd::Oversize => "oversize",
            StreamEnd::Session => "session",
        }
    }
}

/// Buckets of [`WorkerSnapshot::train_packets`], in datagrams: powers of two up to 128, the most segments that the kernel
/// takes in one send (`UDP_MAX_SEGMENTS`).
pub const TRAIN_PACKETS_BOUNDS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
/// Buckets of [`WorkerSnapshot::loop_seconds`]. An idle turn takes some 10 µs; at 33 ms a turn misses a frame of 30/s, and a
/// second is a hang.
pub const LOOP_SECONDS_BOUNDS: &[f64] =
    &[0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.033, 0.1, 0.3, 1.0];

/// A cumulative histogram in the shape that Prometheus wants.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HistogramSnapshot {
    /// Upper bounds in the metric's unit, ascending, without +Inf.
    pub bounds: Vec<f64>,
    /// Observations per bucket, not cumulated; one longer than `bounds`.
    pub counts: Vec<u64>,
    /// Sum of all observations in the metric's unit.
    pub sum: f64,
}

/// The phases of a join, counted from the arrival of the plan: values of the `phase` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(usize)]
pub enum JoinPhase {
    /// ICE connected.
    Ice,
    /// DTLS connected.
    Dtls,
    /// First RTP packet sent to the viewer.
    FirstPacket,
    /// First key frame sent to the viewer.
    FirstKeyframe,
}

impl JoinPhase {
    /// Every phase, in the order of their numbers. `answer` is measured by signaling.
    pub const ALL: [JoinPhase; 4] =
        [JoinPhase::Ice, JoinPhase::Dtls, JoinPhase::FirstPacket, JoinPhase::FirstKeyframe];

    /// The label value.
    pub fn label(self) -> &'static str {
        match self {
            JoinPhase::Ice => "ice",
            JoinPhase::Dtls => "dtls",
            JoinPhase::FirstPacket => "first_packet",
            JoinPhase::FirstKeyframe => "first_keyframe",
        }
    }
}

/// One worker at one moment. Counters count since the worker started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerSnapshot {
    /// Publisher sessions now.
    pub publishers: u64,
    /// Viewer sessions now.
    pub viewers: u64,
    /// RTP packets accepted from publishers.
    pub rtp_packets_in: u64,
    /// Their bytes, header and payload.
    pub rtp_bytes_in: u64,
    /// RTP packets handed to the kernel for viewers, retransmissions included.
    pub rtp_packets_out: u64,
    /// Their bytes, header, payload and authentication tag.
    pub rtp_bytes_out: u64,
    /// Packets of publishers that never came, after retransmission.
    pub rtp_lost_packets: u64,
    /// Packets sent again after a NACK.
    pub retransmitted_packets: u64,
    /// Key-frame requests sent to publishers.
    pub keyframe_requests: u64,
    /// Packets that found a full mesh ring.
    pub mesh_dropped_packets: u64,
    /// Datagrams that came in here behind the shared port and were handed over to the worker that they name or that claimed their
    /// address.
    pub handed_over: u64,
    /// Trains that the kernel refused whole; their datagrams then left one by one, so nothing was lost.
    pub egress_trains_refused: u64,
    /// TCP connections of clients now.
    pub tcp_connections: u64,
    /// Times that a viewer was set back to the next key frame because too much waited for its TCP connection.
    pub tcp_overflows: u64,
    /// TCP connections that ended, by [`StreamEnd`].
    pub tcp_ended: [u64; StreamEnd::ALL.len()],
    /// By [`DropReason`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Time spent outside the wait, in nanoseconds.
    pub busy_ns: u64,
    /// Time since the worker started, in nanoseconds.
    pub elapsed_ns: u64,
    /// Share of the last second spent outside the wait, 0–1.
    pub busy_ratio: f64,
    /// Datagrams per send operation, [`TRAIN_PACKETS_BOUNDS`].
    pub train_packets: HistogramSnapshot,
    /// Time from the end of a wait to the begin of the next, one turn of the loop, [`LOOP_SECONDS_BOUNDS`].
    pub loop_seconds: HistogramSnapshot,
    /// Datagram in → last copy handed to the kernel, seconds.
    pub forward_latency: HistogramSnapshot,
    /// By [`JoinPhase`], seconds.
    pub join: [HistogramSnapshot; JoinPhase::ALL.len()],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drop_reason_counts_in_its_own_place_under_its_own_label() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
            let same = DropReason::ALL.iter().filter(|other| other.label() == reason.label());
            assert_eq!(same.count(), 1, "{}", reason.label());
        }
        for (index, end) in StreamEnd::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, index, "{end:?}");
            assert_eq!(StreamEnd::ALL.iter().filter(|other| other.label() == end.label()).count(), 1);
        }
    }
}
