//! Which ICE session a request means, by its entity tags (RFC 9110 §13.1.1, RFC 9725 §4.3.1).

use hyper::HeaderMap;
use hyper::header::{ETAG, IF_MATCH};

/// What a request's tags say of the session's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The request has none.
    Missing,
    /// Whichever ICE session there is.
    Any,
    /// The one that lives.
    Current,
    /// None of them is the one that lives.
    Stale,
}

impl Condition {
    /// Reads `If-Match`. In its place @eyevinn/whip-web-client sends `ETag`. RFC 9725's figure writes the `*` in quotes, clients
    /// do not. Our tags are strong and have no comma in them.
    pub fn of(headers: &HeaderMap, etag: &str) -> Condition {
        let name = if headers.contains_key(IF_MATCH) { IF_MATCH } else { ETAG };
        let texts = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
        let mut condition = Condition::Missing;
        for tag in texts.flat_map(|list| list.split(',')).map(str::trim) {
            condition = match tag {
                "*" | "\"*\"" => return Condition::Any,
                _ if tag == etag || condition == Condition::Current => Condition::Current,
                _ => Condition::Stale,
            };
        }
        condition
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn condition(headers: &[(HeaderName, &'static str)]) -> Condition {
        let values = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        Condition::of(&values.collect(), "\"ours\"")
    }

    #[test]
    fn tags_are_compared_strongly() {
        assert_eq!(condition(&[]), Condition::Missing);
        assert_eq!(condition(&[(IF_MATCH, "\"ours\"")]), Condition::Current);
        for stale in ["\"other\"", "W/\"ours\"", "ours", "\"OURS\"", ""] {
            assert_eq!(condition(&[(IF_MATCH, stale)]), Condition::Stale, "{stale}");
        }
    }

    #[test]
    fn a_star_matches_bare_and_in_quotes() {
        for star in ["*", "\"*\"", " * ", "\"other\", *"] {
            assert_eq!(condition(&[(IF_MATCH, star)]), Condition::Any, "{star}");
        }
    }

    #[test]
    fn one_matching_tag_of_a_list_is_enough() {
        for list in ["\"a\", \"ours\"", "\"ours\",\"b\"", "\"a\" , \"ours\" , \"b\""] {
            assert_eq!(condition(&[(IF_MATCH, list)]), Condition::Current, "{list}");
        }
        assert_eq!(condition(&[(IF_MATCH, "\"a\""), (IF_MATCH, "\"ours\"")]), Condition::Current);
        assert_eq!(condition(&[(IF_MATCH, "\"a\", \"b\"")]), Condition::Stale);
    }

    #[test]
    fn an_etag_stands_in_for_a_missing_if_match_alone() {
        assert_eq!(condition(&[(ETAG, "\"ours\"")]), Condition::Current);
        assert_eq!(condition(&[(ETAG, "\"other\"")]), Condition::Stale);
        assert_eq!(condition(&[(IF_MATCH, "\"other\""), (ETAG, "\"ours\"")]), Condition::Stale);
    }
}
