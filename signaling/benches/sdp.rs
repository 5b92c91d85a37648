//! What signaling does with an offer, without I/O: the CPU time of a join outside media.

use criterion::{Criterion, criterion_group, criterion_main};
use sfu::core::plan::{Epoch, Role, StreamId};
use std::hint::black_box;
use std::net::SocketAddr;
use uringcast::sdp::{LocalDescription, Offer, OfferError, answer, plan};

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OFFERS: [(&str, Role, &str); 3] = [
    ("Chromium's viewer", Role::Viewer, include_str!("../tests/fixtures/offers/chromium-156-whep.sdp")),
    ("Chromium's publisher", Role::Publisher, include_str!("../tests/fixtures/offers/chromium-156-whip.sdp")),
    ("Firefox' viewer", Role::Viewer, include_str!("../tests/fixtures/offers/firefox-esr-153-whep.sdp")),
];

fn join(text: &str, role: Role, candidates: &[SocketAddr]) -> Result<String, OfferError> {
    let mut ssrc = 1000;
    let mut next_ssrc = || {
        ssrc += 1;
        ssrc
    };
    let offer = Offer::parse(text)?;
    let plan = plan(&offer, role, StreamId(7), Epoch(1), &mut next_ssrc)?;
    let local = LocalDescription {
        ice_ufrag: "w0s1Abcdef",
        ice_pwd: "0123456789abcdefABCDEF+/",
        fingerprint: [7; 32],
        candidates,
        tcp_candidates: &[],
        origin_id: 1,
        msid: "concert",
        cname: "uringcast",
    };
    Ok(answer(&offer, &plan, &local))
}

fn sdp(c: &mut Criterion) {
    let candidates = [([203, 0, 113, 7], 8200), ([10, 1, 2, 3], 8200)].map(SocketAddr::from);
    for (name, role, text) in OFFERS {
        assert!(join(text, role, &candidates).is_ok(), "{name} is refused: nothing to measure");
        c.bench_function(&format!("SDP: parse, plan and answer, {name}"), |b| {
            b.iter(|| join(black_box(text), role, &candidates));
        });
    }
}

criterion_group!(benches, sdp);
criterion_main!(benches);
