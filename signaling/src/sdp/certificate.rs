//! Which clients are known to have an ECDSA certificate: an offer has the fingerprint of the certificate, not the kind of its key.
//!
//! A client is recognised by the lines at the head of its offer, in which each library has its own hand. What is not recognised
//! for sure is [`PeerCertificate::Any`], which takes both kinds. Wrong is only to recognise a client that has an RSA
//! certificate: it ends with `dtls_failed` and a line in the log that says so.

use sfu::core::plan::PeerCertificate;

/// What the client that wrote the offer will show in its handshake.
///
/// | Client | `o=` begins | and | Its certificate |
/// |---|---|---|---|
/// | Firefox | `mozilla...THIS_IS_SDPARTA-` | | P-256, unless the page made one |
/// | OBS, libdatachannel | `rtc` | `0 IN IP4 127.0.0.1`, ICE option `ice2` | P-256, unless the application chose RSA |
/// | Chromium, Safari, libwebrtc | `-` | `IN IP4 127.0.0.1`, `a=msid-semantic: WMS` with its blank | P-256, unless the page made one |
/// | str0m | `str0m-` | | dimpl, which has nothing else |
///
/// Not recognised, on purpose: GStreamer (RSA), aiortc (can be given one), ffmpeg (`-cert_file` can name one), Pion (its head
/// is that of many others).
pub(super) fn of(body: &str) -> PeerCertificate {
    let head = || body.lines().take_while(|line| !line.starts_with("m=")).map(str::trim_end);
    let origin = head().find_map(|line| line.strip_prefix("o=")).unwrap_or_default();
    let has = |wanted: fn(&str) -> bool| head().any(wanted);
    let mut fields = origin.split(' ');
    let user = fields.next().unwrap_or_default();
    let local = fields.skip(1).collect::<Vec<_>>();
    let known = match user {
        "-" => local.get(1..) == Some(&["IN", "IP4", "127.0.0.1"]) && has(is_libwebrtc),
        "rtc" => {
            local == ["0", "IN", "IP4", "127.0.0.1"] && has(|line| line.starts_with("a=ice-options:ice2"))
        }
        _ => user.starts_with("mozilla...THIS_IS_SDPARTA-") || user.starts_with("str0m-"),
    };
    if known { PeerCertificate::Ecdsa } else { PeerCertificate::Any }
}

/// libwebrtc alone writes a blank there, and the identifiers of its streams after it.
fn is_libwebrtc(line: &str) -> bool {
    line.starts_with("a=msid-semantic: WMS")
}
