//! SDP fragments in PATCH requests (RFC 8840 §4.4), as far as an ICE-lite server needs them.
//!
//! The answer holds every candidate of ours, and we learn the client's addresses from its own checks, so candidates
//! are read over. What matters is the user name fragment: another one asks for an ICE restart.

/// A fragment that breaks the form of SDP lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The body is no SDP fragment: every line must look like x=… (RFC 8840 §4.4).")]
pub struct Malformed;

/// The user name fragments that a fragment names, at session or media level.
///
/// Real fragments have no m-line at all (whip-whep's restart), several (@eyevinn/whip-web-client), or a bare `a=`
/// (Firefox's end of candidates through whip.js). All are fine.
///
/// # Errors
/// It is empty, or a line is no SDP line.
pub fn ice_ufrags(body: &str) -> Result<Vec<&str>, Malformed> {
    let mut ufrags = Vec::new();
    let mut empty = true;
    for line in body.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let (kind, value) = line.split_once('=').ok_or(Malformed)?;
        if kind.len() != 1 || !kind.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(Malformed);
        }
        empty = false;
        ufrags.extend(value.strip_prefix("ice-ufrag:").filter(|_| kind == "a").map(str::trim));
    }
    if empty { Err(Malformed) } else { Ok(ufrags) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fragments_of_real_clients_are_read() {
        let whip_js = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
                       a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host\r\na=end-of-candidates\r\n";
        assert_eq!(ice_ufrags(whip_js), Ok(vec!["EsAw"]));
        let eyevinn = "m=audio 9 RTP/AVP 0\na=mid:0\na=ice-ufrag:ab\na=candidate:1 0 UDP 1 [2001:db8::1] 9 typ host\n\
                       m=audio 9 RTP/AVP 0\na=mid:1\na=ice-ufrag:ab\n";
        assert_eq!(ice_ufrags(eyevinn), Ok(vec!["ab", "ab"]));
        assert_eq!(ice_ufrags("a=ice-ufrag:x\r\na=ice-pwd:y\r\n"), Ok(vec!["x"]));
        assert_eq!(ice_ufrags("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=\r\n"), Ok(vec![]));
    }

    #[test]
    fn other_texts_are_malformed() {
        for bad in ["", "\r\n", "hello", "{\"candidate\":1}", "candidate=1", "A=x", "=x"] {
            assert_eq!(ice_ufrags(bad), Err(Malformed), "{bad:?}");
        }
    }
}
