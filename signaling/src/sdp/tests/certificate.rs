use super::{captured, offer_named, plan_for};
use sfu::core::plan::{PeerCertificate, Role};

fn certificate(text: &str, role: Role) -> PeerCertificate {
    plan_for(text, role).unwrap().remote.certificate
}

#[test]
fn browsers_and_obs_are_known_to_have_ecdsa_certificates_and_nobody_else_is() {
    for (role, name, text) in captured() {
        let known = ["chromium", "firefox", "obs"].iter().any(|client| name.starts_with(client));
        let expected = if known { PeerCertificate::Ecdsa } else { PeerCertificate::Any };
        assert_eq!(certificate(text, role), expected, "{name}");
    }
}

#[test]
fn an_offer_that_is_only_like_a_browsers_may_have_any_certificate() {
    let chromium = offer_named("chromium-156-whip");
    let changes = [
        ("a=msid-semantic: WMS", "a=msid-semantic:WMS"),
        ("IN IP4 127.0.0.1", "IN IP4 0.0.0.0"),
        ("o=- ", "o=gateway "),
        ("o=- ", "o=-\t"),
    ];
    for (from, to) in changes {
        let like = chromium.replace(from, to);
        assert_ne!(like, chromium);
        assert_eq!(certificate(&like, Role::Publisher), PeerCertificate::Any, "{to}");
    }
    let obs = offer_named("obs-libdatachannel-1layer");
    let like = obs.replace("ice-options:ice2 trickle", "ice-options:trickle");
    assert_eq!(certificate(&like, Role::Publisher), PeerCertificate::Any);
}

#[test]
fn an_offer_made_anew_is_still_a_browsers() {
    let again = offer_named("chromium-156-whip").replace(" 2 IN IP4", " 3 IN IP4");
    assert_eq!(certificate(&again, Role::Publisher), PeerCertificate::Ecdsa);
    let unix = offer_named("firefox-esr-153-whip").replace("\r\n", "\n");
    assert_eq!(certificate(&unix, Role::Publisher), PeerCertificate::Ecdsa);
}

#[test]
fn only_the_head_of_an_offer_names_its_client() {
    let gstreamer = offer_named("gst-1.22-whipsink");
    let pretending =
        gstreamer + "o=mozilla...THIS_IS_SDPARTA-99.0 1 0 IN IP4 0.0.0.0\r\na=msid-semantic: WMS\r\n";
    assert_eq!(certificate(&pretending, Role::Publisher), PeerCertificate::Any);
}
