//! The control thread: the media process's side of the conversation with signaling.

pub mod protocol;
