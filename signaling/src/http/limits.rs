//! Bounds of HTTP: how many connections, how long they may take, how large a body may be.

use super::problem::Problem;
use crate::config::HttpLimits;
use crate::metrics::{ConnectionClosed, Metrics};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

/// Largest request body. Chromium's simulcast offer has 8 KiB.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Of a larger body so much is read away, so that its sender sees the answer.
const DISCARDED_BYTES_MAX: usize = 1 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// A request's own time, on top of what its client needs to send it: five seconds for media to answer, and room.
const HANDLING: Duration = Duration::from_secs(15);

/// An event stream whose client has not read for so long is cut. Something is written to it four times in that time.
pub const STALLED: Duration = Duration::from_secs(60);
/// Event streams hold their connections for hours; a quarter of all stays free for everything else.
const EVENT_STREAMS_SHARE: (usize, usize) = (3, 4);

/// How many event streams there may be at once.
pub fn event_streams_max(limits: HttpLimits) -> usize {
    let (of, all) = EVENT_STREAMS_SHARE;
    (limits.connections / all * of).max(1)
}

/// All connections, oldest first.
pub struct Connections {
    limits: HttpLimits,
    metrics: Arc<Metrics>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    activities: BTreeMap<u64, Arc<Activity>>,
}

/// What one connection does.
pub struct Activity {
    state: Mutex<State>,
    evicted: Notify,
    limits: HttpLimits,
}

struct State {
    requests: usize,
    deadline: Instant,
}

/// A place among the connections, free again when dropped.
pub struct Admitted {
    connections: Arc<Connections>,
    number: u64,
    /// What the connection does.
    pub activity: Arc<Activity>,
}

/// A request being handled.
pub struct InFlight<'a>(&'a Activity);

/// An answer that goes on.
pub struct Streaming(Arc<Activity>);

impl Connections {
    /// None yet.
    pub fn new(limits: HttpLimits, metrics: Arc<Metrics>) -> Arc<Connections> {
        Arc::new(Connections { limits, metrics, open: Mutex::default() })
    }

    /// Makes room for one more. At the limit the oldest connection without a request in flight must go: a crowd of
    /// connections that send nothing keeps nobody out who has something to say. `None` if all are at work.
    pub fn admit(self: &Arc<Connections>) -> Option<Admitted> {
        let mut open = self.lock();
        if open.activities.len() >= self.limits.connections {
            let idle = open.activities.iter().find(|(_, activity)| activity.lock().requests == 0);
            let Some(number) = idle.map(|(number, _)| *number) else {
                self.metrics.connection_closed(ConnectionClosed::Refused);
                return None;
            };
            if let Some(activity) = open.activities.remove(&number) {
                activity.evicted.notify_one();
            }
        }
        let number = open.next;
        open.next += 1;
        let activity = Arc::new(Activity::new(self.limits));
        open.activities.insert(number, activity.clone());
        Some(Admitted { connections: self.clone(), number, activity })
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.lock().activities.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.lock().activities.remove(&self.number);
    }
}

impl Admitted {
    /// Counts why this connection is closed.
    pub fn closed(&self, why: ConnectionClosed) {
        self.connections.metrics.connection_closed(why);
    }
}

impl Activity {
    fn new(limits: HttpLimits) -> Activity {
        let state = State { requests: 0, deadline: Instant::now() + limits.timeout };
        Activity { state: Mutex::new(state), evicted: Notify::new(), limits }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request's head has arrived.
    pub fn begin(&self) -> InFlight<'_> {
        let mut state = self.lock();
        state.requests += 1;
        state.deadline = state.deadline.max(Instant::now() + self.limits.timeout + HANDLING);
        InFlight(self)
    }

    /// An answer begins that goes on.
    pub fn stream(self: &Arc<Activity>) -> Streaming {
        self.lock().requests += 1;
        Streaming(Arc::clone(self))
    }

    fn end(&self) {
        let mut state = self.lock();
        state.requests = state.requests.saturating_sub(1);
        if state.requests == 0 {
            state.deadline = Instant::now() + self.limits.timeout;
        }
    }

    /// Resolves when the connection must go: its time is up, or its place is wanted. This bounds what hyper's own
    /// header timeout does not see: TLS handshakes, the first byte, idle HTTP/2, clients that do not read.
    pub async fn over(&self) -> ConnectionClosed {
        loop {
            let deadline = self.lock().deadline;
            tokio::select! {
                () = self.evicted.notified() => return ConnectionClosed::Evicted,
                () = sleep_until(deadline) => {}
            }
            if Instant::now() >= self.lock().deadline {
                return ConnectionClosed::Timeout;
            }
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Streaming {
    /// Its client reads.
    pub fn goes_on(&self) {
        let mut state = self.0.lock();
        state.deadline = state.deadline.max(Instant::now() + STALLED);
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A whole body as text; `headers` came with it.
///
/// # Errors
/// It is compressed (415), too large (413), too slow (408), cut short or no UTF-8 (400).
pub async fn read_text(
    headers: &HeaderMap,
    mut body: Incoming,
    limits: HttpLimits,
) -> Result<String, Problem> {
    if !is_identity(headers) {
        discard(body).await;
        return Err(encoded());
    }
    let too_large = || {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("The body has more than {BODY_BYTES_MAX} bytes."))
    };
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        discard(body).await;
        return Err(too_large());
    }
    let read = timeout(limits.timeout, Limited::new(&mut body, BODY_BYTES_MAX).collect()).await;
    let bytes: Bytes = match read {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(body).await;
            return Err(too_large());
        }
        Ok(Err(_)) => return Err(Problem::new(StatusCode::BAD_REQUEST, "The body ended before its length.")),
        Err(_) => return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "The body came too slowly.")),
    };
    String::from_utf8(bytes.into())
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "The body is not UTF-8."))
}

/// Whether the body is what it stands for (RFC 9110 §8.4). Some clients name that, too.
fn is_identity(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("unreadable"));
    let mut codings = values.flat_map(|value| value.split(',')).map(str::trim);
    codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case("identity"))
}

/// 415 with what is taken (RFC 9110 §12.5.3, §15.5.16).
fn encoded() -> Problem {
    let detail = "The body has a Content-Encoding. Send it as it is, without compression.";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
        .with(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
}

/// Reads on for a moment. Closing a connection with unread bytes resets it, and a reset can overtake the answer.
async fn discard(body: Incoming) {
    let mut rest = Limited::new(body, DISCARDED_BYTES_MAX);
    let reading = async { while let Some(Ok(_)) = rest.frame().await {} };
    let _ = timeout(DISCARD_TIMEOUT, reading).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(count: usize) -> Arc<Connections> {
        let limits = HttpLimits { connections: count, timeout: Duration::from_secs(10) };
        Connections::new(limits, Arc::new(Metrics::new().expect("metrics")))
    }

    #[tokio::test]
    async fn at_the_limit_the_oldest_idle_connection_goes() {
        let connections = connections(2);
        let busy = connections.admit().expect("first");
        let _request = busy.activity.begin();
        let idle = connections.admit().expect("second");
        let _third = connections.admit().expect("third takes the place of the second");
        assert_eq!(idle.activity.over().await, ConnectionClosed::Evicted);
        assert_eq!(connections.count(), 2);
    }

    #[tokio::test]
    async fn with_everybody_at_work_a_newcomer_is_refused() {
        let connections = connections(1);
        let busy = connections.admit().expect("first");
        let request = busy.activity.begin();
        assert!(connections.admit().is_none());
        drop(request);
        assert!(connections.admit().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_goes_on_is_cut_when_its_client_stops_reading() {
        let connections = connections(1);
        let admitted = connections.admit().expect("connection");
        let start = Instant::now();
        let streaming = admitted.activity.stream();
        for _ in 0..10 {
            streaming.goes_on();
            tokio::time::advance(Duration::from_secs(50)).await;
        }
        assert!(connections.admit().is_none(), "it is at work");
        assert_eq!(admitted.activity.over().await, ConnectionClosed::Timeout);
        assert_eq!(start.elapsed().as_secs(), 9 * 50 + 60);
        drop(streaming);
        assert!(connections.admit().is_some());
    }

    #[test]
    fn event_streams_leave_room_for_requests() {
        let limits = |connections| HttpLimits { connections, timeout: Duration::from_secs(10) };
        assert_eq!(event_streams_max(limits(4096)), 3072);
        assert_eq!(event_streams_max(limits(1)), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn time_runs_while_nothing_is_asked_and_longer_while_we_work() {
        let connections = connections(1);
        let admitted = connections.admit().expect("connection");
        let start = Instant::now();
        let request = admitted.activity.begin();
        tokio::time::advance(Duration::from_secs(12)).await;
        drop(request);
        assert_eq!(admitted.activity.over().await, ConnectionClosed::Timeout);
        assert_eq!(start.elapsed().as_secs(), 22);
    }
}
