//! A stranger's answer to an offer of ours.
#![no_main]

use std::sync::OnceLock;
use uringcast::sdp::CounterOffer;
use uringcast::sdp::invariants::answer_holds;

static OFFER: OnceLock<CounterOffer> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|text: &str| {
    let offer = OFFER.get_or_init(|| {
        let mut ssrcs = 1000..;
        CounterOffer::new(&[], &mut || ssrcs.next().unwrap_or_default()).expect("an offer of all codecs")
    });
    answer_holds(offer, text);
});
