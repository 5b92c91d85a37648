//! Errors as `application/problem+json` (RFC 9457).

use super::Response;
use crate::auth::Denied;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode};
use serde::Serialize;

/// Seconds after which a client that found the server full or media away may try again.
const RETRY_SECONDS: &str = "5";

/// An error answer: what is wrong and what the reader can do about it.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    /// A problem of this status with this detail.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem { status, detail: detail.into(), header: None }
    }

    /// 404
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// 503 with Retry-After.
    pub fn unavailable(detail: impl Into<String>) -> Problem {
        let retry = HeaderValue::from_static(RETRY_SECONDS);
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with(RETRY_AFTER, retry)
    }

    /// 429 with Retry-After: it is this client who has too many.
    pub fn too_many(detail: impl Into<String>) -> Problem {
        let retry = HeaderValue::from_static(RETRY_SECONDS);
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).with(RETRY_AFTER, retry)
    }

    /// 405 with Allow.
    pub fn method(method: &Method, allowed: &'static str) -> Problem {
        let detail = format!("{method} means nothing here. Use one of: {allowed}.");
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// Adds a header.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.header = Some((name, value));
        self
    }

    /// The answer.
    pub fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let body = Body { r#type: "about:blank", title, status: self.status.as_u16(), detail: &self.detail };
        let mut response = Response::new(serde_json::to_vec(&body).unwrap_or_default().into());
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.headers_mut().extend(self.header);
        response
    }
}

/// With the challenge of RFC 6750 §3, which names an error only if a token was given.
impl From<Denied> for Problem {
    fn from(denied: Denied) -> Problem {
        let (status, challenge) = match denied {
            Denied::WrongToken => {
                (StatusCode::UNAUTHORIZED, "Bearer realm=\"uringcast\", error=\"invalid_token\"")
            }
            Denied::TokenNeeded | Denied::Foreign(_) => {
                (StatusCode::UNAUTHORIZED, "Bearer realm=\"uringcast\"")
            }
            Denied::TwoTokens => {
                (StatusCode::BAD_REQUEST, "Bearer realm=\"uringcast\", error=\"invalid_request\"")
            }
        };
        Problem::new(status, denied.to_string()).with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }
}
