//! A viewer's choice of a simulcast layer (draft-ietf-wish-whep-02 core extensions, "Video Layer Selection extension").
//!
//! Layers are those of the `layers` event, told apart by rid. They are not taken apart further: spatial and temporal layers
//! within one (SVC) come whole, so each counts as one spatial and one temporal layer of id 0.

use super::events::{JSON, options};
use super::limits::read_text;
use super::offer::is_content_type;
use super::problem::Problem;
use super::{App, Response, empty};
use crate::registry::{SelectError, UrlId};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use sfu::control::protocol::LayerChoice;

const METHODS: &str = "OPTIONS, POST, DELETE";

/// Any request to `/session/{id}/layer`. DELETE, which whip-whep's `unselectLayer` sends, goes back to the server's choice.
pub async fn layer(app: &App, url: Option<UrlId>, request: Request<Incoming>) -> Result<Response, Problem> {
    let wish = match *request.method() {
        Method::OPTIONS => return Ok(options()),
        Method::DELETE => Wish::default(),
        Method::POST => wish(app, request).await?,
        ref other => return Err(Problem::method(other, METHODS)),
    };
    let url = url.ok_or(SelectError::NoSession)?;
    let choice = wish.choice()?;
    let (session, video_line) = app.media.registry().may_select(url, &choice)?;
    wish.is_for(video_line)?;
    app.media.select_layer(session, choice)?;
    Ok(empty(StatusCode::OK))
}

async fn wish(app: &App, request: Request<Incoming>) -> Result<Wish, Problem> {
    let (head, body) = request.into_parts();
    if !is_content_type(&head.headers, JSON) {
        let detail = "The body must be a JSON object with Content-Type: application/json.";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let body = read_text(&head.headers, body, app.config.limits).await?;
    // An array would be read as the object's values in their order.
    if !body.trim_start().starts_with('{') {
        let detail = "The body is no JSON object, such as {\"rid\":\"h\"} or {\"maxHeight\":360}.";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    serde_json::from_str(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("The layer cannot be read: {error}.")))
}

/// The body of a POST. Unknown fields are read over; `null` is nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wish {
    media_id: Option<MediaId>,
    rid: Option<String>,
    /// What older players call a rid.
    encoding_id: Option<String>,
    spatial_layer_id: Option<u32>,
    temporal_layer_id: Option<u32>,
    /// Upper bounds, which the only layer of id 0 is never above.
    #[serde(rename = "maxSpatialLayerId")]
    _max_spatial_layer_id: Option<u32>,
    #[serde(rename = "maxTemporalLayerId")]
    _max_temporal_layer_id: Option<u32>,
    max_width: Option<u32>,
    max_height: Option<u32>,
}

/// The index of an m-section, as text by the draft and as a number by some players.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum MediaId {
    Text(String),
    Number(u32),
}

impl Wish {
    fn choice(&self) -> Result<LayerChoice, Problem> {
        let within = [("spatialLayerId", self.spatial_layer_id), ("temporalLayerId", self.temporal_layer_id)];
        if let Some((name, _)) = within.into_iter().find(|(_, id)| id.is_some_and(|id| id > 0)) {
            let detail = format!(
                "The layers of this server's streams are simulcast layers; spatial and temporal layers within one of them (SVC) are not taken apart. Choose by rid, maxWidth or maxHeight, and leave out {name}, or set it to 0."
            );
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        Ok(LayerChoice {
            rid: self.rid.clone().or_else(|| self.encoding_id.clone()),
            max_width: pixels("maxWidth", self.max_width)?,
            max_height: pixels("maxHeight", self.max_height)?,
        })
    }

    fn is_for(&self, video_line: usize) -> Result<(), Problem> {
        let fits = match &self.media_id {
            None => true,
            Some(MediaId::Number(index)) => *index as usize == video_line,
            Some(MediaId::Text(index)) => index.parse() == Ok(video_line),
        };
        if fits {
            return Ok(());
        }
        let detail =
            format!("mediaId is the index of the session's video m-section, which is \"{video_line}\".");
        Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
    }
}

/// No picture has more than 65535 pixels a side, so larger bounds are none.
fn pixels(name: &str, value: Option<u32>) -> Result<Option<u16>, Problem> {
    match value {
        Some(0) => {
            let detail = format!("{name} is 0. Leave it out for no bound.");
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
        }
        value => Ok(value.and_then(|pixels| u16::try_from(pixels).ok())),
    }
}

impl From<SelectError> for Problem {
    fn from(error: SelectError) -> Problem {
        let status = match error {
            SelectError::NoSession => StatusCode::NOT_FOUND,
            SelectError::NoVideo | SelectError::OneLayer | SelectError::Unknown(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
        };
        Problem::new(status, error.to_string())
    }
}
