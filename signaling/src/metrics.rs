//! `/metrics`: what the workers count, what the registry knows and what HTTP counts, as Prometheus families.

use crate::registry::Counts;
use prometheus::core::Collector;
use prometheus::proto::{Bucket, Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, TextEncoder};
use sfu::control::protocol::EndReason;
use sfu::core::plan::Role;
use sfu::stats::{DropReason, HistogramSnapshot, JoinPhase, StreamEnd, WorkerSnapshot};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// A family of the media process or of the registry.
#[derive(Debug, Clone, Copy)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::COUNTER }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::GAUGE }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::HISTOGRAM }
}

const BUILD_INFO: Family = gauge("uringcast_build_info", "Always 1; the version is a label.");
const MEDIA_UP: Family = gauge("uringcast_media_up", "Whether the media process is connected and reports.");
const SESSIONS: Family = gauge("uringcast_sessions", "Sessions by role, those included that still connect.");
const STREAMS: Family = gauge("uringcast_streams", "Streams that somebody publishes now.");
const VIEWERS: Family =
    gauge("uringcast_viewers", "Viewers whose transport is up: they watch, or wait for a publisher.");
const RTP_PACKETS: Family =
    counter("uringcast_rtp_packets_total", "RTP packets from publishers (in) and to viewers (out).");
const RTP_BYTES: Family =
    counter("uringcast_rtp_bytes_total", "Bytes of RTP packets from publishers (in) and to viewers (out).");
const RTP_LOST: Family = counter(
    "uringcast_rtp_lost_packets_total",
    "Packets of publishers that never came, after retransmission.",
);
const RETRANSMITTED: Family =
    counter("uringcast_retransmitted_packets_total", "Packets sent again to viewers after a NACK.");
const DROPPED: Family =
    counter("uringcast_dropped_packets_total", "Datagrams and packets dropped, by reason.");
const TRAIN_PACKETS: Family =
    histogram("uringcast_egress_train_packets", "Datagrams that left in one send operation.");
const TRAINS_REFUSED: Family = counter(
    "uringcast_egress_trains_refused_total",
    "Trains that the kernel refused whole; their datagrams left one by one.",
);
const KEYFRAME_REQUESTS: Family =
    counter("uringcast_keyframe_requests_total", "Key-frame requests sent to publishers.");
const MESH_DROPPED: Family =
    counter("uringcast_mesh_dropped_packets_total", "Packets that found the ring to another worker full.");
const HANDED_OVER: Family = counter(
    "uringcast_handed_over_datagrams_total",
    "Datagrams that the kernel gave to another worker than their session's, behind the shared UDP port (--udp-mux).",
);
const TCP_CONNECTIONS: Family =
    gauge("uringcast_tcp_connections", "TCP connections of clients that belong to a session.");
const TCP_CLOSED: Family = counter(
    "uringcast_tcp_connections_closed_total",
    "TCP connections that ended: no_request (none came in time), not_stun (something else came), too_many (of one source, or of \
     all), rejected (no session, or no good integrity), peer (the client, or its network), oversize (a frame longer than any \
     datagram), session (its session ended).",
);
const TCP_OVERFLOWS: Family = counter(
    "uringcast_tcp_overflows_total",
    "Times that a viewer was set back to the next key frame because it did not read its TCP connection fast enough.",
);
const FORWARD_LATENCY: Family = histogram(
    "uringcast_forward_latency_seconds",
    "From the arrival of a datagram until its last copy was handed to the kernel.",
);
const JOIN: Family =
    histogram("uringcast_join_seconds", "How long a join took until this phase; answer is the HTTP request.");
const WORKER_BUSY: Family =
    gauge("uringcast_worker_busy_ratio", "Share of the last second that a worker worked.");
const WORKER_LOOP: Family = histogram(
    "uringcast_worker_loop_seconds",
    "How long one turn of a worker's loop took, without its wait.",
);
const WORKER_SESSIONS: Family = gauge("uringcast_worker_sessions", "Sessions on a worker.");
const HTTP_REQUESTS: Family =
    counter("uringcast_http_requests_total", "HTTP requests by route and status code.");
const HTTP_REFUSED: Family = counter(
    "uringcast_http_connections_closed_total",
    "HTTP connections that the server closed: evicted (too many; the oldest without a request in progress goes), \
     refused (too many; each had a request in progress), timeout (a handshake or request took too long, or none came).",
);
const EVENT_STREAMS: Family = gauge("uringcast_event_streams", "Open event streams of viewers.");
const EVENTS_SKIPPED: Family = counter(
    "uringcast_events_skipped_total",
    "States of a stream that viewers were not told, because they read slower than it changed.",
);
const SESSIONS_ENDED: Family =
    counter("uringcast_sessions_ended_total", "Sessions that ended, by role and reason.");
const COUNTER_OFFERS: Family = counter(
    "uringcast_counter_offers_total",
    "Offers of the server's own to players, by outcome: answered, withdrawn (the player sent DELETE), expired (no answer came in \
     30 s, or media was restarted), refused_source (too many to one address waited for their answers; all players behind a proxy on another host have its \
     address), refused_all (too many to all).",
);

/// Seconds from a POST to its 201: mostly one turn of the control socket, seconds when media is stuck.
const ANSWER_BOUNDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Why an HTTP connection was closed by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionClosed {
    /// The limit was reached and this was the oldest one without a request in progress.
    Evicted,
    /// The limit was reached and none could be evicted.
    Refused,
    /// It did not finish a handshake or a request in time, or stayed idle too long.
    Timeout,
}

impl ConnectionClosed {
    fn label(self) -> &'static str {
        match self {
            ConnectionClosed::Evicted => "evicted",
            ConnectionClosed::Refused => "refused",
            ConnectionClosed::Timeout => "timeout",
        }
    }
}

/// What became of an offer of ours to a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfferEnd {
    /// There is a session.
    Answered,
    /// The player did not want it any more.
    Withdrawn,
    /// No answer came in time, or it was for another media process.
    Expired,
    /// It was not made: too many to this source wait.
    RefusedSource,
    /// It was not made: too many wait.
    RefusedAll,
}

impl OfferEnd {
    fn label(self) -> &'static str {
        match self {
            OfferEnd::Answered => "answered",
            OfferEnd::Withdrawn => "withdrawn",
            OfferEnd::Expired => "expired",
            OfferEnd::RefusedSource => "refused_source",
            OfferEnd::RefusedAll => "refused_all",
        }
    }
}

/// Every counter of signaling, and the last report of media.
pub struct Metrics {
    http_requests: IntCounterVec,
    connections_closed: IntCounterVec,
    sessions_ended: IntCounterVec,
    counter_offers: IntCounterVec,
    event_streams: IntGauge,
    events_skipped: IntCounter,
    answer: Histogram,
    media: Mutex<MediaReport>,
}

/// The workers' counters. A worker or media process that starts anew counts from 0, so what its predecessor had
/// counted is kept: a sum that goes backwards would look like a burst of traffic.
#[derive(Default)]
struct MediaReport {
    fingerprint: [u8; 32],
    latest: Vec<WorkerSnapshot>,
    retired: WorkerSnapshot,
}

impl Metrics {
    /// All zero.
    ///
    /// # Errors
    /// A family is declared wrongly.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let vector =
            |family: Family, labels: &[&str]| IntCounterVec::new(Opts::new(family.name, family.help), labels);
        let answer = HistogramOpts::new(JOIN.name, JOIN.help).buckets(ANSWER_BOUNDS.to_vec());
        Ok(Metrics {
            http_requests: vector(HTTP_REQUESTS, &["route", "code"])?,
            connections_closed: vector(HTTP_REFUSED, &["reason"])?,
            sessions_ended: vector(SESSIONS_ENDED, &["role", "reason"])?,
            counter_offers: vector(COUNTER_OFFERS, &["outcome"])?,
            event_streams: IntGauge::new(EVENT_STREAMS.name, EVENT_STREAMS.help)?,
            events_skipped: IntCounter::new(EVENTS_SKIPPED.name, EVENTS_SKIPPED.help)?,
            answer: Histogram::with_opts(answer)?,
            media: Mutex::default(),
        })
    }

    /// One HTTP request was answered. `route` is one of the router's own words.
    pub fn http_request(&self, route: &'static str, code: u16) {
        self.http_requests.with_label_values(&[route, &code.to_string()]).inc();
    }

    /// An HTTP connection was closed by us.
    pub fn connection_closed(&self, why: ConnectionClosed) {
        self.connections_closed.with_label_values(&[why.label()]).inc();
    }

    /// A session ended; its role is unknown if signaling never knew it.
    pub fn session_ended(&self, role: Option<Role>, reason: EndReason) {
        let role = role.map_or("unknown", role_label);
        self.sessions_ended.with_label_values(&[role, reason.label()]).inc();
    }

    /// An offer of ours was answered, or will not be.
    pub fn offer_ended(&self, how: OfferEnd) {
        self.counter_offers.with_label_values(&[how.label()]).inc();
    }

    /// A viewer was not told so many states of its stream.
    pub fn events_skipped(&self, states: u64) {
        self.events_skipped.inc_by(states);
    }

    /// An event stream begins (1) or ends (-1).
    pub fn event_stream(&self, change: i64) {
        self.event_streams.add(change);
    }

    /// An offer was answered with 201.
    pub fn answered(&self, after: Duration) {
        self.answer.observe(after.as_secs_f64());
    }

    /// A media process greeted. One with another certificate is another process, which counts from 0.
    pub fn media_connected(&self, fingerprint: [u8; 32]) {
        self.media().greet(fingerprint);
    }

    /// The workers' counters of this moment.
    pub fn report(&self, snapshots: &[WorkerSnapshot]) {
        self.media().report(snapshots);
    }

    fn media(&self) -> MutexGuard<'_, MediaReport> {
        self.media.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// A family is declared wrongly.
    pub fn render(&self, counts: Counts, media_up: bool) -> Result<Vec<u8>, prometheus::Error> {
        let mut families = vec![
            family(BUILD_INFO, vec![gauge_metric(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)]),
            family(MEDIA_UP, vec![gauge_metric(&[], f64::from(u8::from(media_up)))]),
            family(
                SESSIONS,
                vec![
                    gauge_metric(&[("role", role_label(Role::Publisher))], counts.publishers as f64),
                    gauge_metric(&[("role", role_label(Role::Viewer))], counts.viewers as f64),
                ],
            ),
            family(STREAMS, vec![gauge_metric(&[], counts.streams as f64)]),
            family(VIEWERS, vec![gauge_metric(&[], counts.watching as f64)]),
        ];
        families.extend(self.media().families(&self.answer));
        families.extend(self.http_requests.collect());
        families.extend(self.connections_closed.collect());
        families.extend(self.sessions_ended.collect());
        families.extend(self.counter_offers.collect());
        families.extend(self.event_streams.collect());
        families.extend(self.events_skipped.collect());
        families.retain(|family| !family.get_metric().is_empty());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

impl MediaReport {
    fn greet(&mut self, fingerprint: [u8; 32]) {
        if std::mem::replace(&mut self.fingerprint, fingerprint) == fingerprint {
            return;
        }
        for snapshot in std::mem::take(&mut self.latest) {
            add(&mut self.retired, &snapshot);
        }
    }

    fn report(&mut self, snapshots: &[WorkerSnapshot]) {
        for (before, now) in self.latest.iter().zip(snapshots) {
            if now.elapsed_ns < before.elapsed_ns {
                add(&mut self.retired, before);
            }
        }
        self.latest = snapshots.to_vec();
    }

    fn total(&self) -> WorkerSnapshot {
        let mut total = self.retired.clone();
        for snapshot in &self.latest {
            add(&mut total, snapshot);
        }
        total
    }

    fn families(&self, answer: &Histogram) -> Vec<MetricFamily> {
        let total = self.total();
        let directions = |packets_in: u64, packets_out: u64| {
            vec![
                counter_metric(&[("direction", "in")], packets_in),
                counter_metric(&[("direction", "out")], packets_out),
            ]
        };
        let dropped = DropReason::ALL.iter().zip(total.dropped);
        let dropped = dropped.map(|(reason, count)| counter_metric(&[("reason", reason.label())], count));
        let closed = StreamEnd::ALL.iter().zip(total.tcp_ended);
        let closed = closed.map(|(end, count)| counter_metric(&[("reason", end.label())], count));
        let connections: u64 = self.latest.iter().map(|worker| worker.tcp_connections).sum();
        vec![
            family(RTP_PACKETS, directions(total.rtp_packets_in, total.rtp_packets_out)),
            family(RTP_BYTES, directions(total.rtp_bytes_in, total.rtp_bytes_out)),
            family(RTP_LOST, vec![counter_metric(&[], total.rtp_lost_packets)]),
            family(RETRANSMITTED, vec![counter_metric(&[], total.retransmitted_packets)]),
            family(DROPPED, dropped.collect()),
            family(TRAIN_PACKETS, vec![histogram_metric(&[], &total.train_packets)]),
            family(TRAINS_REFUSED, vec![counter_metric(&[], total.egress_trains_refused)]),
            family(KEYFRAME_REQUESTS, vec![counter_metric(&[], total.keyframe_requests)]),
            family(MESH_DROPPED, vec![counter_metric(&[], total.mesh_dropped_packets)]),
            family(HANDED_OVER, vec![counter_metric(&[], total.handed_over)]),
            family(TCP_CONNECTIONS, vec![gauge_metric(&[], connections as f64)]),
            family(TCP_CLOSED, closed.collect()),
            family(TCP_OVERFLOWS, vec![counter_metric(&[], total.tcp_overflows)]),
            family(FORWARD_LATENCY, vec![histogram_metric(&[], &total.forward_latency)]),
            family(JOIN, join_metrics(&total, answer)),
            family(WORKER_BUSY, self.per_worker(|label, worker| gauge_metric(label, worker.busy_ratio))),
            family(
                WORKER_LOOP,
                self.per_worker(|label, worker| histogram_metric(label, &worker.loop_seconds)),
            ),
            family(
                WORKER_SESSIONS,
                self.per_worker(|label, worker| {
                    gauge_metric(label, (worker.publishers + worker.viewers) as f64)
                }),
            ),
        ]
    }

    fn per_worker(&self, metric: impl Fn(&[(&str, &str)], &WorkerSnapshot) -> Metric) -> Vec<Metric> {
        let workers = self.latest.iter().enumerate();
        workers.map(|(index, worker)| metric(&[("worker", &index.to_string())], worker)).collect()
    }
}

/// The phases that media measured, and `answer`, which is ours.
fn join_metrics(total: &WorkerSnapshot, answer: &Histogram) -> Vec<Metric> {
    let mut metrics: Vec<Metric> =
        answer.collect().iter().flat_map(|family| family.get_metric().to_vec()).collect();
    for metric in &mut metrics {
        metric.set_label(labels(&[("phase", "answer")]));
    }
    let phases = JoinPhase::ALL.iter().zip(&total.join);
    metrics.extend(phases.map(|(phase, seconds)| histogram_metric(&[("phase", phase.label())], seconds)));
    metrics
}

fn add(total: &mut WorkerSnapshot, more: &WorkerSnapshot) {
    total.rtp_packets_in += more.rtp_packets_in;
    total.rtp_bytes_in += more.rtp_bytes_in;
    total.rtp_packets_out += more.rtp_packets_out;
    total.rtp_bytes_out += more.rtp_bytes_out;
    total.rtp_lost_packets += more.rtp_lost_packets;
    total.retransmitted_packets += more.retransmitted_packets;
    total.keyframe_requests += more.keyframe_requests;
    total.mesh_dropped_packets += more.mesh_dropped_packets;
    total.handed_over += more.handed_over;
    total.egress_trains_refused += more.egress_trains_refused;
    for (total, more) in total.dropped.iter_mut().zip(more.dropped) {
        *total += more;
    }
    total.tcp_overflows += more.tcp_overflows;
    for (total, more) in total.tcp_ended.iter_mut().zip(more.tcp_ended) {
        *total += more;
    }
    add_histogram(&mut total.train_packets, &more.train_packets);
    add_histogram(&mut total.forward_latency, &more.forward_latency);
    for (total, more) in total.join.iter_mut().zip(&more.join) {
        add_histogram(total, more);
    }
}

fn add_histogram(total: &mut HistogramSnapshot, more: &HistogramSnapshot) {
    if total.counts.is_empty() {
        *total = more.clone();
    } else if total.bounds == more.bounds {
        total.sum += more.sum;
        for (total, more) in total.counts.iter_mut().zip(&more.counts) {
            *total += more;
        }
    }
}

fn role_label(role: Role) -> &'static str {
    match role {
        Role::Publisher => "publisher",
        Role::Viewer => "viewer",
    }
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |&(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    pairs.iter().map(pair).collect()
}

fn family(declared: Family, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(declared.name.to_owned());
    family.set_help(declared.help.to_owned());
    family.set_field_type(declared.kind);
    family.set_metric(metrics);
    family
}

fn counter_metric(label: &[(&str, &str)], value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::from_label(labels(label));
    metric.set_counter(counter);
    metric
}

fn gauge_metric(label: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels(label));
    metric.set_gauge(gauge);
    metric
}

fn histogram_metric(label: &[(&str, &str)], snapshot: &HistogramSnapshot) -> Metric {
    let mut cumulative = 0;
    let mut buckets = Vec::with_capacity(snapshot.bounds.len());
    for (bound, count) in snapshot.bounds.iter().zip(&snapshot.counts) {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(cumulative);
        buckets.push(bucket);
    }
    let mut histogram = prometheus::proto::Histogram::default();
    histogram.set_sample_count(snapshot.counts.iter().sum());
    histogram.set_sample_sum(snapshot.sum);
    histogram.set_bucket(buckets);
    let mut metric = Metric::from_label(labels(label));
    metric.set_histogram(histogram);
    metric
}
