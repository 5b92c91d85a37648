//! The words of an event stream: from what changed to what a reader is sent.

use super::limits::STALLED;
use crate::metrics::Metrics;
use crate::registry::{EventKind, EventSet, Listening, Scene};
use crate::shutdown::Shutdown;
use bytes::Bytes;
use serde_json::{Value, json};
use sfu::control::protocol::Layer;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// The first words: how long a browser waits before it reads a broken stream again.
pub const PRELUDE: &str = "retry: 2000\n\n";
/// A comment, which readers skip. Proxies close connections that carry nothing for a minute.
const KEEP_ALIVE: &str = ":\n\n";
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
const _: () = assert!(STALLED.as_secs() > 2 * KEEP_ALIVE_INTERVAL.as_secs());

/// What one reader was told, and what it wants to be told.
pub struct Narrator {
    wanted: EventSet,
    video_line: Option<usize>,
    active: bool,
    layers: Vec<Layer>,
    viewers: Option<usize>,
    version: u64,
}

impl Narrator {
    /// For a reader who has heard nothing. One who comes back knows of a publisher, and must hear if there is none any more;
    /// nobody else hears that there is none (the draft's "MUST NOT send an initial inactive event").
    pub fn new(wanted: EventSet, listening: &Listening, comes_back: bool) -> Narrator {
        Narrator {
            wanted,
            video_line: listening.video_line,
            active: comes_back,
            layers: Vec::new(),
            viewers: None,
            version: listening.scene.version,
        }
    }

    /// The events from what was told to `scene`; empty if there is nothing to tell.
    pub fn catch_up(&mut self, scene: &Scene) -> String {
        let mut text = String::new();
        if self.active != scene.active {
            self.active = scene.active;
            // Browsers keep the id and send it when they come back.
            match scene.active {
                true => text += &self.event(EventKind::Active, "id: active\n", &json!({})),
                false => text += &self.event(EventKind::Inactive, "", &json!({})),
            }
        }
        if self.layers != scene.layers {
            self.layers.clone_from(&scene.layers);
            if let Some(line) = self.video_line {
                let layers: Vec<Value> = scene.layers.iter().map(layer).collect();
                text += &self.event(EventKind::Layers, "", &json!({ line.to_string(): layers }));
            }
        }
        if self.viewers != Some(scene.viewers) {
            self.viewers = Some(scene.viewers);
            text += &self.event(EventKind::ViewerCount, "", &json!({ "viewercount": scene.viewers }));
        }
        text
    }

    /// How many states lay between the last one told and `scene`.
    fn skipped(&mut self, scene: &Scene) -> u64 {
        let before = std::mem::replace(&mut self.version, scene.version);
        scene.version.saturating_sub(before + 1)
    }

    /// The last event before the server ends: come again, to `endpoint` if we know our own name.
    pub fn farewell(&self, endpoint: Option<String>) -> Option<String> {
        let data = endpoint.map_or_else(|| json!({}), |url| json!({ "url": url }));
        Some(self.event(EventKind::Reconnect, "", &data)).filter(|text| !text.is_empty())
    }

    /// One event, with its data in one line as the draft wants; nothing if nobody wants it.
    fn event(&self, kind: EventKind, id: &str, data: &Value) -> String {
        match self.wanted.contains(kind) {
            true => format!("event: {}\n{id}data: {data}\n\n", kind.name()),
            false => String::new(),
        }
    }
}

/// What is not known is left out.
fn layer(layer: &Layer) -> Value {
    let mut value = json!({ "rid": layer.rid, "bitrate": layer.bitrate_bps });
    if layer.width > 0 && layer.height > 0 {
        value["width"] = layer.width.into();
        value["height"] = layer.height.into();
    }
    value
}

/// The life of one GET.
pub async fn narrate(
    narrator: Narrator,
    listening: Listening,
    sender: mpsc::Sender<Bytes>,
    leaving: Shutdown,
    farewell: Option<String>,
    metrics: Arc<Metrics>,
) {
    metrics.event_stream(1);
    tell(narrator, listening, sender, leaving, farewell, &metrics).await;
    metrics.event_stream(-1);
}

/// Tells a reader until it leaves, its turn is over, or the server ends. A reader who is slower than the news is told the newest.
async fn tell(
    mut narrator: Narrator,
    mut listening: Listening,
    sender: mpsc::Sender<Bytes>,
    mut leaving: Shutdown,
    farewell: Option<String>,
    metrics: &Metrics,
) {
    let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE_INTERVAL, KEEP_ALIVE_INTERVAL);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut behind = false;
    let _ = sender.try_send(format!("{PRELUDE}{}", narrator.catch_up(&listening.scene)).into());
    loop {
        tokio::select! {
            biased;
            () = leaving.over() => {
                let _ = farewell.map(|text| sender.try_send(text.into()));
                return;
            }
            _ = listening.turn.changed() => return,
            changed = listening.changes.changed() => match changed {
                Ok(()) => behind = true,
                Err(_) => return,
            },
            place = sender.reserve(), if behind => {
                let Ok(place) = place else { return };
                behind = false;
                let scene = listening.changes.borrow_and_update().clone();
                metrics.events_skipped(narrator.skipped(&scene));
                let text = narrator.catch_up(&scene);
                if !text.is_empty() {
                    place.send(text.into());
                }
            }
            _ = keep_alive.tick() => {
                let _ = sender.try_send(KEEP_ALIVE.into());
            }
            () = sender.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Counts, StreamName};
    use crate::shutdown::{self, Stop};
    use tokio::sync::watch;

    fn narrator(wanted: EventSet, comes_back: bool) -> Narrator {
        let version = 0;
        Narrator {
            wanted,
            video_line: Some(1),
            active: comes_back,
            layers: Vec::new(),
            viewers: None,
            version,
        }
    }

    fn scene(active: bool, viewers: usize, rids: &[&str]) -> Scene {
        let layer = |rid: &&str| Layer { rid: rid.to_string(), bitrate_bps: 1000, width: 320, height: 180 };
        Scene { active, viewers, layers: rids.iter().map(layer).collect(), version: 0 }
    }

    #[test]
    fn a_reader_hears_how_things_are_and_then_only_what_changes() {
        let mut narrator = narrator(EventSet::ALL, false);
        let first = narrator.catch_up(&scene(true, 3, &["l"]));
        assert_eq!(
            first,
            "event: active\nid: active\ndata: {}\n\n\
             event: layers\ndata: {\"1\":[{\"bitrate\":1000,\"height\":180,\"rid\":\"l\",\"width\":320}]}\n\n\
             event: viewercount\ndata: {\"viewercount\":3}\n\n"
        );
        assert_eq!(narrator.catch_up(&scene(true, 3, &["l"])), "");
        assert_eq!(
            narrator.catch_up(&scene(true, 4, &["l"])),
            "event: viewercount\ndata: {\"viewercount\":4}\n\n"
        );
        let gone = narrator.catch_up(&scene(false, 4, &[]));
        assert_eq!(gone, "event: inactive\ndata: {}\n\nevent: layers\ndata: {\"1\":[]}\n\n");
    }

    #[test]
    fn inactive_is_no_first_word_but_for_who_comes_back() {
        let only = [EventKind::Active, EventKind::Inactive].into_iter().collect();
        assert_eq!(narrator(only, false).catch_up(&scene(false, 1, &[])), "");
        assert_eq!(narrator(only, true).catch_up(&scene(false, 1, &[])), "event: inactive\ndata: {}\n\n");
    }

    #[test]
    fn what_was_not_asked_for_is_not_told() {
        let only = [EventKind::Inactive].into_iter().collect();
        let mut narrator = narrator(only, false);
        assert_eq!(narrator.catch_up(&scene(true, 3, &["l"])), "");
        assert_eq!(narrator.catch_up(&scene(false, 4, &[])), "event: inactive\ndata: {}\n\n");
        assert_eq!(narrator.farewell(None), None);
    }

    #[test]
    fn sizes_that_are_not_known_are_left_out() {
        let unknown = Layer { rid: "0".into(), bitrate_bps: 7, width: 0, height: 0 };
        assert_eq!(layer(&unknown), json!({ "rid": "0", "bitrate": 7 }));
    }

    /// A reader with room for one text, and what it hears from.
    struct Reader {
        told: watch::Sender<Scene>,
        turn: watch::Sender<u64>,
        stop: Stop,
        parts: mpsc::Receiver<Bytes>,
        metrics: Arc<Metrics>,
    }

    impl Reader {
        fn start() -> Reader {
            let (told, turn) = (watch::Sender::new(Scene::default()), watch::Sender::new(0));
            let (stop, leaving) = shutdown::channel();
            let (sender, parts) = mpsc::channel(1);
            let metrics = Arc::new(Metrics::new().expect("metrics"));
            let listening = Listening {
                name: StreamName::parse("demo").expect("name"),
                video_line: None,
                scene: Scene::default(),
                changes: told.subscribe(),
                turn: turn.subscribe(),
            };
            let narrator = Narrator::new(EventSet::ALL, &listening, false);
            let farewell = narrator.farewell(None);
            tokio::spawn(narrate(narrator, listening, sender, leaving, farewell, metrics.clone()));
            Reader { told, turn, stop, parts, metrics }
        }

        async fn read(&mut self) -> Option<String> {
            self.parts.recv().await.map(|bytes| String::from_utf8(bytes.into()).expect("text"))
        }
    }

    #[tokio::test]
    async fn who_reads_late_is_told_how_things_are_now() {
        let mut reader = Reader::start();
        for version in 1..=5 {
            tokio::task::yield_now().await;
            reader.told.send_replace(Scene { viewers: 10, version, ..Scene::default() });
        }
        let first = reader.read().await.expect("how things were");
        assert_eq!(first, format!("{PRELUDE}event: viewercount\ndata: {{\"viewercount\":0}}\n\n"));
        let second = reader.read().await.expect("how things are");
        assert_eq!(second, "event: viewercount\ndata: {\"viewercount\":10}\n\n");
        let text = reader.metrics.render(Counts::default(), true).expect("text");
        assert!(String::from_utf8_lossy(&text).contains("uringcast_events_skipped_total 4\n"));
        drop(reader.turn);
        assert_eq!(reader.parts.recv().await, None, "its turn is over");
    }

    #[tokio::test]
    async fn the_last_word_of_a_server_that_goes_is_to_come_again() {
        let mut reader = Reader::start();
        reader.read().await.expect("how things are");
        reader.stop.stop();
        assert_eq!(reader.parts.recv().await.as_deref(), Some(&b"event: reconnect\ndata: {}\n\n"[..]));
        assert_eq!(reader.parts.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_on_which_nothing_happens_is_kept_alive() {
        let mut reader = Reader::start();
        reader.read().await.expect("how things are");
        for _ in 0..3 {
            assert_eq!(reader.read().await.as_deref(), Some(KEEP_ALIVE));
        }
    }

    #[test]
    fn states_that_a_slow_reader_missed_are_counted() {
        let mut narrator = narrator(EventSet::ALL, false);
        assert_eq!(narrator.skipped(&Scene { version: 1, ..Scene::default() }), 0);
        assert_eq!(narrator.skipped(&Scene { version: 4, ..Scene::default() }), 2);
    }
}
