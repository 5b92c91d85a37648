//! An offer of a stranger: parsed, planned, answered, and the answer read again.
#![no_main]

use sfu::core::plan::Role;
use uringcast::sdp::invariants::offer_holds;

libfuzzer_sys::fuzz_target!(|text: &str| {
    offer_holds(text, Role::Publisher);
    offer_holds(text, Role::Viewer);
});
