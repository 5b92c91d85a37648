//! The pages and the browser library, compiled into the binary.

/// A file that is served as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Its name under `/client/`.
    pub name: &'static str,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

macro_rules! asset {
    ($name:literal, $content_type:expr, $path:literal) => {
        Asset { name: $name, content_type: $content_type, bytes: include_bytes!($path) }
    };
}

/// `/`
pub const INDEX: Asset = asset!("index.html", HTML, "index.html");
/// `/publish/{name}`
pub const PUBLISH: Asset = asset!("publish.html", HTML, "publish.html");
/// `/watch/{name}`
pub const WATCH: Asset = asset!("watch.html", HTML, "watch.html");

/// Any other address, once `{why}` in it is the reason.
pub const NOTHING: Asset = asset!("nothing.html", HTML, "nothing.html");

/// Everything under `/client/`.
const ASSETS: [Asset; 7] = [
    asset!("uringcast.js", SCRIPT, "../../web/uringcast.js"),
    asset!("index.js", SCRIPT, "index.js"),
    asset!("page.js", SCRIPT, "page.js"),
    asset!("publish.js", SCRIPT, "publish.js"),
    asset!("watch.js", SCRIPT, "watch.js"),
    asset!("style.css", "text/css; charset=utf-8", "style.css"),
    asset!("icon.svg", "image/svg+xml", "icon.svg"),
];

/// Finds `/client/{name}`.
pub fn asset(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_a_page_refers_to_is_served() {
        let mut references = 0;
        for page in ASSETS.iter().chain([&INDEX, &PUBLISH, &WATCH, &NOTHING]) {
            let text = String::from_utf8_lossy(page.bytes);
            for reference in text.split("/client/").skip(1) {
                let end = reference.find(|c: char| !(c.is_ascii_alphanumeric() || ".-_".contains(c)));
                let name = &reference[..end.unwrap_or(reference.len())];
                assert!(name.is_empty() || asset(name).is_some(), "{} refers to /client/{name}", page.name);
                references += 1;
            }
        }
        assert!(references >= 3);
    }
}
