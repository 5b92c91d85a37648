//! SDP offers of strangers in, typed session plans and answers out.
//!
//! Pure functions: no I/O, no clock, no randomness of their own. [`Offer::parse`] bounds its work before it starts
//! and never panics; [`plan()`] holds every rule about what we accept; [`answer()`] writes only what the plan accepted
//! and never a byte of the offer that was not parsed into a type first.

mod answer;
mod attributes;
mod candidate;
mod certificate;
mod error;
mod fmtp;
mod parse;
mod plan;

pub use answer::{ICE_SESSION_LINES, LocalDescription, answer};
pub use candidate::candidates;
pub use error::OfferError;
pub use parse::Offer;
pub use plan::plan;

#[cfg(test)]
mod tests;
