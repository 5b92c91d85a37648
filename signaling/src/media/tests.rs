use super::*;
use crate::auth::Credential;
use crate::registry::{Candidacy, FreshIds, NO_EPOCH, NO_STREAM, Refusal, StreamName};
use crate::shutdown::{self, Stop};
use sfu::control::protocol::{LOAD_INTERVAL_MS, WorkerIndex, WorkerLoad};
use sfu::core::plan::{DtlsRole, PeerCertificate, RemoteTransport, Role, SessionPlan, StreamId};
use sfu::stats::WorkerSnapshot;
use tokio::net::UnixListener;

/// A supervisor without a launcher, and the socket at which its media process listens.
struct World {
    listener: UnixListener,
    supervisor: Supervisor,
    media: Media,
    _stop: Stop,
}

fn world(name: &str) -> World {
    let path = std::env::temp_dir().join(format!("uringcast-media-{}-{name}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("socket");
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let (stop, shutdown) = shutdown::channel();
    let (supervisor, media) = Supervisor::new(path, 0, None, metrics, shutdown);
    World { listener, supervisor, media, _stop: stop }
}

fn hello(protocol: u32) -> Event {
    let workers = vec![WorkerInfo { core: 0, addresses: Vec::new(), tcp_addresses: Vec::new() }];
    Event::Hello(Hello { protocol, config_hash: 0, fingerprint: [0; 32], workers, sessions: Vec::new() })
}

async fn next_request(stream: &mut UnixStream) -> Request {
    loop {
        let bytes = frame::read(stream).await.expect("frame");
        let request = postcard::from_bytes(&bytes).expect("request");
        if request != Request::Stats {
            return request;
        }
    }
}

fn admit(media: &Media) -> Result<Admission, Refusal> {
    let remote = RemoteTransport {
        ice_ufrag: "abcd".into(),
        ice_pwd: "p".repeat(22),
        fingerprint: [0; 32],
        dtls_role: DtlsRole::Passive,
        certificate: PeerCertificate::Ecdsa,
    };
    let plan = SessionPlan {
        role: Role::Viewer,
        stream: NO_STREAM,
        epoch: NO_EPOCH,
        remote,
        sections: Vec::new(),
        local: None,
        extmap_allow_mixed: false,
        blob: Vec::new(),
    };
    let name = StreamName::parse("demo").expect("name");
    let ids = FreshIds { url: UrlId([1; 16]), etag: 1, stream: StreamId(1) };
    let candidacy = Candidacy { name, credential: Credential::Open, plan, ids };
    media.registry().admit(candidacy, 0)
}

/// Connects, and hands out media's end after its hello.
async fn connected(world: World) -> (UnixListener, UnixStream, Media, Stop) {
    let World { listener, mut supervisor, media, _stop } = world;
    let accepted = async {
        let (mut stream, _) = listener.accept().await.expect("accept");
        frame::write(&mut stream, &hello(PROTOCOL_VERSION)).await.expect("hello");
        stream
    };
    let (first, stream) = tokio::join!(supervisor.first(), accepted);
    tokio::spawn(supervisor.run(first.expect("start")));
    while media.ready().is_err() {
        tokio::task::yield_now().await;
    }
    (listener, stream, media, _stop)
}

async fn report(stream: &mut UnixStream) {
    let load = WorkerLoad { up: true, ..WorkerLoad::default() };
    frame::write(stream, &Event::Load(vec![load])).await.expect("load");
}

async fn agree(stream: &mut UnixStream) -> SessionId {
    let Request::Create { request, worker, .. } = next_request(stream).await else { panic!("no create") };
    let session = SessionId { worker, slot: 9, generation: 1 };
    let created = Created { session, ice_ufrag: "u".into(), ice_pwd: "p".into() };
    frame::write(stream, &Event::Created { request, result: Ok(created) }).await.expect("created");
    session
}

#[tokio::test]
async fn a_kept_session_lives_and_an_unclaimed_one_is_ended() {
    let (_listener, mut stream, media, _stop) = connected(world("claim")).await;
    let (claim, _) = tokio::join!(media.create(admit(&media).expect("admission")), agree(&mut stream));
    claim.expect("created").keep();
    assert_eq!(media.registry().counts(0).viewers, 1);
    assert_eq!(media.end(UrlId([1; 16])), Some(Role::Viewer));
    let kept = SessionId { worker: WorkerIndex(0), slot: 9, generation: 1 };
    assert_eq!(next_request(&mut stream).await, Request::Delete { session: kept });

    let (claim, session) = tokio::join!(media.create(admit(&media).expect("admission")), agree(&mut stream));
    drop(claim.expect("created"));
    assert_eq!(next_request(&mut stream).await, Request::Delete { session });
    assert_eq!(media.registry().counts(0).viewers, 0);
}

#[tokio::test]
async fn a_broken_connection_fails_those_who_wait() {
    let (_listener, mut stream, media, _stop) = connected(world("broken")).await;
    let broken = async {
        next_request(&mut stream).await;
        drop(stream);
    };
    let (claim, ()) = tokio::join!(media.create(admit(&media).expect("admission")), broken);
    assert_eq!(claim.err(), Some(CreateFailure::Unavailable));
    assert_eq!(media.ready(), Err(CreateFailure::Unavailable));
    assert_eq!(media.registry().worker_count(), 0);
}

#[tokio::test]
async fn one_report_answers_every_scrape_that_waits() {
    let (_listener, mut stream, media, _stop) = connected(world("scrapes")).await;
    let one_answer = async {
        // The connection's own question, and three scrapes.
        for _ in 0..4 {
            frame::read(&mut stream).await.expect("request");
        }
        let report = Event::Stats(vec![WorkerSnapshot { elapsed_ns: 1, ..WorkerSnapshot::default() }]);
        frame::write(&mut stream, &report).await.expect("report");
    };
    let started = Instant::now();
    tokio::join!(media.refresh_stats(), media.refresh_stats(), media.refresh_stats(), one_answer);
    assert!(started.elapsed() < STATS_TIMEOUT, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_worker_that_media_does_not_have_is_asked_no_second_time() {
    let (_listener, mut stream, media, _stop) = connected(world("no-worker")).await;
    let refuse = async {
        let Request::Create { request, .. } = next_request(&mut stream).await else { panic!("no create") };
        let result = Err(CreateError::NoWorker);
        frame::write(&mut stream, &Event::Created { request, result }).await.expect("refusal");
    };
    let (claim, ()) = tokio::join!(media.create(admit(&media).expect("admission")), refuse);
    assert_eq!(claim.err(), Some(CreateFailure::Refused(CreateError::NoWorker)));
    assert_eq!(admit(&media).err(), Some(Refusal::Full));
}

#[tokio::test]
async fn a_socket_that_cannot_be_used_is_told_apart_from_one_that_is_not_there() {
    let World { listener, mut supervisor, _stop, .. } = world("unusable");
    drop(listener);
    assert!(supervisor.first().await.expect("it may come later").is_none());
    assert!(supervisor.complaint.as_ref().is_some_and(|words| words.contains("did not open")));
    std::fs::remove_file(&supervisor.control).expect("remove");
    std::os::unix::fs::symlink(&supervisor.control, &supervisor.control).expect("a link to itself");
    assert!(supervisor.first().await.expect("it may come later").is_none());
    assert!(supervisor.complaint.as_ref().is_some_and(|words| words.contains("cannot connect")));
}

#[tokio::test(start_paused = true)]
async fn a_media_process_of_another_version_is_asked_to_end() {
    let World { listener, mut supervisor, _stop, .. } = world("version");
    let old = async {
        let (mut stream, _) = listener.accept().await.expect("accept");
        frame::write(&mut stream, &hello(PROTOCOL_VERSION + 1)).await.expect("hello");
        let request = next_request(&mut stream).await;
        drop(listener);
        request
    };
    let first = async {
        // The peer is this very test, which does not end: the wait for that must be bounded.
        timeout(DRAIN_TIMEOUT * 2, supervisor.first()).await.expect("bounded")
    };
    let (first, request) = tokio::join!(first, old);
    assert_eq!(request, Request::Shutdown);
    assert!(first.expect("it may come later").is_none());
}

#[test]
fn a_process_that_ended_is_not_alive_even_before_its_parent_asks() {
    assert!(is_alive(std::process::id() as i32));
    let mut child = std::process::Command::new("true").spawn().expect("true");
    let pid = child.id() as i32;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while is_alive(pid) && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(!is_alive(pid));
    child.wait().expect("wait");
}

#[tokio::test(start_paused = true)]
async fn a_media_process_that_does_not_answer_is_given_up_after_five_seconds() {
    let (_listener, mut stream, media, _stop) = connected(world("timeout")).await;
    let silent = async {
        loop {
            report(&mut stream).await;
            sleep(Duration::from_millis(LOAD_INTERVAL_MS)).await;
        }
    };
    let started = Instant::now();
    tokio::select! {
        claim = media.create(admit(&media).expect("admission")) => assert_eq!(claim.err(), Some(CreateFailure::Timeout)),
        () = silent => {}
    }
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn media_that_stops_reporting_gets_no_sessions_until_it_reports_again() {
    let (_listener, mut stream, media, _stop) = connected(world("silent")).await;
    report(&mut stream).await;
    let started = Instant::now();
    let claim = media.create(admit(&media).expect("admission")).await;
    assert_eq!(claim.err(), Some(CreateFailure::Silent), "who waits is told");
    assert_eq!(started.elapsed().as_millis() as u64, 6 * LOAD_INTERVAL_MS);
    assert_eq!(media.ready(), Err(CreateFailure::Silent));
    let claim = media.create(admit(&media).expect("admission")).await;
    assert_eq!(claim.err(), Some(CreateFailure::Silent), "who comes now is told at once");
    media.refresh_stats().await;
    assert_eq!(started.elapsed().as_millis() as u64, 6 * LOAD_INTERVAL_MS);
    assert_eq!(media.registry().counts(0).viewers, 0);

    // It was only asleep, and now does what it was asked.
    let session = agree(&mut stream).await;
    report(&mut stream).await;
    assert_eq!(next_request(&mut stream).await, Request::Delete { session }, "nobody waits for it any more");
    while media.ready().is_err() {
        tokio::task::yield_now().await;
    }
    let (claim, _) = tokio::join!(media.create(admit(&media).expect("admission")), agree(&mut stream));
    claim.expect("created").keep();
    assert_eq!(media.registry().counts(0).viewers, 1);
}
