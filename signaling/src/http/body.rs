//! The body of an answer: small and whole, or an event stream that goes on.

use super::limits::{Activity, Streaming};
use crate::registry::ReaderPlace;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// What follows an answer's head.
pub enum Body {
    /// All of it.
    Whole(Full<Bytes>),
    /// Part after part, until the sender is dropped.
    Events(EventBody),
}

type Places = (OwnedSemaphorePermit, ReaderPlace);

/// Parts of an event stream on their way to a client.
pub struct EventBody {
    parts: mpsc::Receiver<Bytes>,
    /// Places among all event streams and among those of the session, free again when the connection has no more use for the body.
    _places: Places,
    streaming: Option<Streaming>,
}

impl Body {
    /// A stream of what comes through `parts`.
    pub fn events(parts: mpsc::Receiver<Bytes>, places: Places) -> Body {
        Body::Events(EventBody { parts, _places: places, streaming: None })
    }

    /// Keeps the connection open for as long as the body goes on.
    pub fn hold(&mut self, connection: &Arc<Activity>) {
        if let Body::Events(events) = self {
            events.streaming = Some(connection.stream());
        }
    }
}

impl Default for Body {
    fn default() -> Body {
        Body::Whole(Full::default())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        Body::Whole(Full::new(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Bytes::from(text).into()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Body::Whole(whole) => Pin::new(whole).poll_frame(context),
            Body::Events(events) => {
                // hyper asks only while there is room for more: the client reads.
                events.streaming.iter().for_each(Streaming::goes_on);
                events.parts.poll_recv(context).map(|part| part.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(whole) => whole.is_end_stream(),
            Body::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(whole) => whole.size_hint(),
            Body::Events(_) => SizeHint::default(),
        }
    }
}
