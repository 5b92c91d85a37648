#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod bounds;
mod captured;
mod certificate;
mod checker;
mod counter_offer;
mod mutation;
mod refusals;
mod sloppy;

use super::{AnswerError, CounterOffer, LocalDescription, Offer, OfferError, answer, plan};
use sfu::core::plan::{Epoch, Role, SessionPlan, StreamId};
use std::net::SocketAddr;

macro_rules! fixture {
    ($name:literal) => {
        ($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/offers/", $name, ".sdp")))
    };
}

const PUBLISHERS: [(&str, &str); 9] = [
    fixture!("aiortc-1.16-whip"),
    fixture!("chromium-156-whip"),
    fixture!("chromium-156-whip-simulcast-h264"),
    fixture!("ffmpeg-9.0.2-dtls-active-high"),
    fixture!("ffmpeg-9.0.2-passive"),
    fixture!("firefox-esr-153-whip"),
    fixture!("gst-1.22-whipsink"),
    fixture!("obs-libdatachannel-1layer"),
    fixture!("obs-libdatachannel-3layers"),
];

const VIEWERS: [(&str, &str); 4] = [
    fixture!("chromium-156-whep"),
    fixture!("firefox-esr-153-whep"),
    fixture!("gst-1.22-whepclientsrc"),
    fixture!("gst-1.22-whepsrc-default"),
];

/// Every captured offer with the role that it was made for.
fn captured() -> impl Iterator<Item = (Role, &'static str, &'static str)> {
    let publishers = PUBLISHERS.into_iter().map(|(name, text)| (Role::Publisher, name, text));
    publishers.chain(VIEWERS.into_iter().map(|(name, text)| (Role::Viewer, name, text)))
}

fn offer_named(wanted: &str) -> String {
    let (_, _, text) = captured().find(|(_, name, _)| *name == wanted).unwrap();
    text.to_owned()
}

const CANDIDATES: [&str; 8] = [
    "203.0.113.7:8200",
    "[2001:db8::7]:8200",
    "203.0.113.7:443",
    "192.0.2.44:8200",
    "10.1.2.3:8200",
    "[fd00::1:2]:8200",
    "127.0.0.1:8200",
    "[::1]:8200",
];

const TCP_CANDIDATES: [&str; 2] = ["203.0.113.7:8200", "[2001:db8::7]:8200"];

fn tcp_candidates() -> Vec<SocketAddr> {
    TCP_CANDIDATES.iter().map(|candidate| candidate.parse().unwrap()).collect()
}

fn candidates() -> Vec<SocketAddr> {
    CANDIDATES.iter().map(|candidate| candidate.parse().unwrap()).collect()
}

fn local(candidates: &[SocketAddr]) -> LocalDescription<'_> {
    LocalDescription {
        ice_ufrag: "w0s1Abcdef",
        ice_pwd: "0123456789abcdefABCDEF+/",
        fingerprint: std::array::from_fn(|octet| u8::try_from(octet * 8).unwrap()),
        candidates,
        tcp_candidates: &[],
        origin_id: u64::MAX,
        msid: "concert",
        cname: "uringcast",
    }
}

/// SSRCs 1001, 1002, …
fn counting() -> impl FnMut() -> u32 {
    let mut last = 1000;
    move || {
        last += 1;
        last
    }
}

fn plan_for(text: &str, role: Role) -> Result<SessionPlan, OfferError> {
    plan(&Offer::parse(text)?, role, StreamId(7), Epoch(3), &mut counting())
}

fn answer_to(text: &str, role: Role) -> Result<String, OfferError> {
    let offer = Offer::parse(text)?;
    let plan = plan(&offer, role, StreamId(7), Epoch(3), &mut counting())?;
    let tcp = tcp_candidates();
    Ok(answer(&offer, &plan, &LocalDescription { tcp_candidates: &tcp, ..local(&candidates()) }))
}

/// The lines of an answer that begin with `prefix`, without it.
fn lines_with<'a>(answer: &'a str, prefix: &str) -> Vec<&'a str> {
    answer.lines().filter_map(|line| line.strip_prefix(prefix)).collect()
}
