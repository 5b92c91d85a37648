//! SDP offers of strangers in, typed session plans and answers out; and offers of ours to viewers who ask for one.
//!
//! Pure functions: no I/O, no clock, no randomness of their own. [`Offer::parse`] bounds its work before it starts
//! and never panics; [`plan()`] holds every rule about what we accept; [`answer()`] writes only what the plan accepted
//! and never a byte of the offer that was not parsed into a type first.

mod answer;
mod attributes;
mod candidate;
mod certificate;
mod counter_offer;
mod data_channel;
mod error;
mod fmtp;
#[cfg(any(test, fuzzing))]
pub mod invariants;
mod parse;
mod plan;

pub use answer::{ICE_SESSION_LINES, LocalDescription, answer};
pub use candidate::candidates;
pub use counter_offer::CounterOffer;
pub use error::{AnswerError, OfferError};
pub use parse::Offer;
pub use plan::plan;

#[cfg(test)]
mod tests;
