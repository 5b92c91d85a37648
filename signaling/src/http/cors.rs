//! Headers that let web pages of other origins publish and watch. WHIP and WHEP answers all carry them.

use hyper::HeaderMap;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderName, HeaderValue,
};
use sfu::core::plan::Role;

/// `ETag` among the allowed headers and `Access-Control-Allow-Methods` among the exposed ones are for
/// @eyevinn/whip-web-client; without `Location` exposed Cloudflare's client posts again every 5 s for ever. `*` would
/// not cover `Authorization` (Fetch standard, CORS protocol).
const BLOCK: [(HeaderName, &str); 5] = [
    (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (ACCESS_CONTROL_ALLOW_METHODS, "OPTIONS, GET, HEAD, POST, PATCH, DELETE"),
    (ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match, ETag"),
    (
        ACCESS_CONTROL_EXPOSE_HEADERS,
        "Location, ETag, Link, Accept-Post, Accept-Patch, Retry-After, WWW-Authenticate, \
         Access-Control-Allow-Methods, protocol-version",
    ),
    (ACCESS_CONTROL_MAX_AGE, "600"),
];

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("protocol-version");

/// Adds the block and the protocol's name. The header is Cloudflare's, whose values are slugs of drafts: WHIP's last
/// draft is the text of RFC 9725, WHEP has no RFC.
pub fn apply(headers: &mut HeaderMap, role: Role) {
    for (name, value) in BLOCK {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let protocol = match role {
        Role::Publisher => "draft-ietf-wish-whip-16",
        Role::Viewer => "draft-ietf-wish-whep-04",
    };
    headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(protocol));
}
