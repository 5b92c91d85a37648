//! An SDP fragment in a PATCH request.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| uringcast::fuzz_fragment(text));
