//! Simulcast layers: what publishers send, and what viewers may choose.

use super::stream::Stream;
use super::{Registry, SessionId, UrlId};
use sfu::control::protocol::{Layer, LayerChoice};
use sfu::core::codec::MediaKind;
use sfu::core::plan::{Role, SessionPlan};

/// Why a viewer cannot choose a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum SelectError {
    #[error("There is no such session; it may have ended. POST an offer to the endpoint for a new one.")]
    NoSession,
    #[error("This session plays no video, so it has no layers to choose from.")]
    NoVideo,
    #[error(
        "The stream has one layer, which has no rid. Choose none, or wait for a `layers` event that lists some."
    )]
    OneLayer,
    #[error("The stream has no layer of this rid. Choose one of: {0}.")]
    Unknown(String),
}

impl Registry {
    /// A simulcast publisher's layers, as they are now.
    pub fn layers(&mut self, id: SessionId, layers: Vec<Layer>) {
        if let Some(publisher) = self.publisher(id) {
            publisher.layers = layers;
        }
        self.tell(id);
    }

    /// The session whose viewer may choose this, and the index of its video m-section.
    ///
    /// # Errors
    /// It may not; the words name the cure.
    pub fn may_select(&self, url: UrlId, choice: &LayerChoice) -> Result<(SessionId, usize), SelectError> {
        let id = *self.urls.get(&url).ok_or(SelectError::NoSession)?;
        let session = self.sessions.get(&id).ok_or(SelectError::NoSession)?;
        let video = session.video_line.filter(|_| session.role == Role::Viewer);
        let found = (id, video.ok_or(SelectError::NoVideo)?);
        let Some(rid) = &choice.rid else { return Ok(found) };
        let rids = self.streams.get(&session.blob.name).map_or(&[][..], Stream::rids);
        match rids.is_empty() {
            true => Err(SelectError::OneLayer),
            false if rids.contains(rid) => Ok(found),
            false => Err(SelectError::Unknown(rids.join(", "))),
        }
    }
}

/// The index of the first video m-section in the SDP. A client's offer is planned whole; of an offer of ours, whose mids are the
/// indices, the player may have declined what stands above the video.
pub(super) fn video_line(plan: &SessionPlan) -> Option<usize> {
    let mut sections = plan.sections.iter().enumerate();
    let (index, video) = sections.find(|(_, section)| section.kind == MediaKind::Video)?;
    if plan.local.is_some() { video.mid.parse().ok() } else { Some(index) }
}

/// The layers that a publisher may send.
pub(super) fn rids_of(plan: &SessionPlan) -> Vec<String> {
    plan.sections.iter().flat_map(|section| section.rids.iter().cloned()).collect()
}
