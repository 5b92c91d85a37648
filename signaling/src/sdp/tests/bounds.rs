//! Hostile sizes: refused by count, before any work is done on the excess.

use super::{OfferError, answer_to, offer_named, plan_for};
use crate::sdp::Offer;
use crate::sdp::parse::{
    BODY_BYTES_MAX, CANDIDATES_MAX, ENTRIES_MAX, FORMATS_MAX, LINE_BYTES_MAX, LINES_MAX, SECTIONS_MAX,
};
use sfu::core::plan::Role;
use std::fmt::Write;

fn too_large(text: &str, max: usize) {
    match Offer::parse(text) {
        Err(error @ OfferError::TooLarge { max: found, .. }) => {
            assert_eq!(found, max, "{error}");
            assert_eq!(error.status(), 413);
        }
        other => panic!("{other:?}"),
    }
}

fn repeated(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, index| {
        write!(text, "{}\r\n", line(index)).unwrap();
        text
    })
}

/// A good offer of one video section with `more` behind it.
fn video_and(more: &str) -> String {
    offer_named("ffmpeg-9.0.2-dtls-active-high") + more
}

#[test]
fn bodies_over_64_kib_are_refused_unread() {
    too_large(&"x".repeat(BODY_BYTES_MAX + 1), BODY_BYTES_MAX);
}

#[test]
fn a_line_of_64_kib_is_refused() {
    let ours = video_and("").len();
    let body = |bytes: usize| video_and(&format!("a=x:{}", "y".repeat(bytes - "a=x:".len())));
    too_large(&body(BODY_BYTES_MAX - ours), LINE_BYTES_MAX);
    too_large(&body(LINE_BYTES_MAX + 1), LINE_BYTES_MAX);
    assert!(Offer::parse(&body(LINE_BYTES_MAX)).is_ok());
}

#[test]
fn more_than_2000_lines_are_refused() {
    let ours = video_and("").lines().count();
    assert!(Offer::parse(&video_and(&repeated(LINES_MAX - ours, |_| "a=x".to_owned()))).is_ok());
    too_large(&video_and(&repeated(LINES_MAX - ours + 1, |_| "a=x".to_owned())), LINES_MAX);
    too_large(&video_and(&"\n".repeat(LINES_MAX)), LINES_MAX);
}

#[test]
fn five_hundred_sections_are_refused_at_the_seventeenth() {
    let section = |_| "m=video 9 UDP/TLS/RTP/SAVPF 96".to_owned();
    too_large(&video_and(&repeated(500, section)), SECTIONS_MAX);
    // Nothing behind the seventeenth is read, not even what is malformed.
    too_large(&video_and(&(repeated(SECTIONS_MAX, section) + "not a line")), SECTIONS_MAX);
}

#[test]
fn a_thousand_candidates_are_refused_and_what_hosts_really_have_is_not() {
    let candidate = |index| format!("a=candidate:{index} 1 udp 1 192.0.2.1 {} typ host", 1024 + index);
    too_large(&video_and(&repeated(1000, candidate)), CANDIDATES_MAX);
    let text = video_and(&repeated(CANDIDATES_MAX, candidate));
    assert!(plan_for(&text, Role::Publisher).is_ok());
}

#[test]
fn payload_types_are_counted_and_so_are_the_accepted_ones() {
    let section = |count: usize| {
        let pts: Vec<String> = (0..count).map(|index| (index % 128).to_string()).collect();
        format!("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF {}\r\n", pts.join(" "))
    };
    assert!(Offer::parse(&section(FORMATS_MAX)).is_ok());
    too_large(&section(FORMATS_MAX + 1), FORMATS_MAX);
}

#[test]
fn entries_of_every_list_are_bounded() {
    let lists: [&dyn Fn(usize) -> String; 4] = [
        &|index| format!("a=ssrc:{} cname:x", index + 1),
        &|index| format!("a=ssrc-group:FID {} {}", 2 * index + 1, 2 * index + 2),
        &|index| format!("a=rid:{index} send"),
        &|index| format!("a=extmap:{} urn:ietf:params:rtp-hdrext:sdes:mid", index + 100),
    ];
    for list in lists {
        too_large(&video_and(&repeated(ENTRIES_MAX + 3, list)), ENTRIES_MAX);
    }
    let streams: Vec<String> = (0..=ENTRIES_MAX).map(|index| index.to_string()).collect();
    too_large(&video_and(&format!("a=simulcast:send {}", streams.join(";"))), ENTRIES_MAX);
}

#[test]
fn repetitions_cost_no_memory() {
    let once = Offer::parse(&video_and("a=ssrc:5 cname:x\r\na=fmtp:106 apt=1\r\n")).unwrap();
    let more = repeated(900, |_| "a=ssrc:5 cname:x\r\na=fmtp:106 apt=1".to_owned());
    assert_eq!(Offer::parse(&video_and(&more)).unwrap(), once);
    let groups = repeated(900, |_| "a=group:BUNDLE 1 2 3".to_owned());
    let text = video_and("").replace("a=group:BUNDLE 1\r\n", &groups);
    let offer = Offer::parse(&text).unwrap();
    assert_eq!((offer.bundles, offer.bundle.len()), (900, 3));
}

#[test]
fn the_worst_accepted_offer_gets_a_bounded_answer() {
    // 64 H264 payload types are the most that a plan takes.
    let pts = 32..96_u8;
    let list: Vec<String> = pts.clone().map(|pt| pt.to_string()).collect();
    let formats: String = pts
        .map(|pt| {
            format!(
                "a=rtpmap:{pt} H264/90000\r\na=rtcp-fb:{pt} nack\r\na=rtcp-fb:{pt} nack pli\r\na=rtcp-fb:{pt} ccm fir\r\n\
                 a=fmtp:{pt} level-asymmetry-allowed=4294967295;packetization-mode=1;profile-level-id=42001f\r\n"
            )
        })
        .collect();
    let good = video_and("");
    let head = &good[..good.find("a=rtpmap:106").unwrap()];
    let text = head.replace("SAVPF 106 105", &format!("SAVPF {}", list.join(" "))) + &formats;
    let answer = answer_to(&text, Role::Publisher).unwrap();
    assert!(answer.len() < 16 * 1024, "{}", answer.len());
}
