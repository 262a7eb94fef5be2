//! The page and what it is made of, all of it in the binary: nothing is asked of another host.
//!
//! The invariant: the content security policy lets nothing run, look or be asked for but what stands in [`ASSETS`] and the data.

/// Scripts and style are files, so neither needs an exception; the icon is an empty `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// One file of the page.
#[derive(Debug)]
pub(crate) struct Asset {
    path: &'static str,
    /// The value of `Content-Type`.
    pub(crate) media_type: &'static str,
    pub(crate) text: &'static str,
    /// The value of `Content-Security-Policy`, for the page itself.
    pub(crate) policy: Option<&'static str>,
}

static ASSETS: [Asset; 6] = [
    Asset {
        path: "/",
        media_type: "text/html; charset=utf-8",
        text: include_str!("page/index.html"),
        policy: Some(POLICY),
    },
    file("/dashboard/page.css", STYLE, include_str!("page/page.css")),
    file("/dashboard/page.js", SCRIPT, include_str!("page/page.js")),
    file("/dashboard/charts.js", SCRIPT, include_str!("page/charts.js")),
    file("/dashboard/uplot.js", SCRIPT, include_str!("page/uPlot.iife.min.js")),
    file("/dashboard/uplot.css", STYLE, include_str!("page/uPlot.min.css")),
];

const fn file(path: &'static str, media_type: &'static str, text: &'static str) -> Asset {
    Asset { path, media_type, text, policy: None }
}

/// What is at a path of the admin side, if it is one of these.
pub(crate) fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_for_nothing_that_is_not_here() {
        let page = asset("/").unwrap().text;
        let mut named = 0;
        for attribute in ["src=\"", "href=\""] {
            for rest in page.split(attribute).skip(1) {
                let target = rest.split('"').next().unwrap();
                if target.starts_with("data:") || ["metrics", "clients", "health"].contains(&target) {
                    continue;
                }
                assert!(asset(&format!("/{target}")).is_some(), "{target}");
                named += 1;
            }
        }
        assert_eq!(named, ASSETS.len() - 1, "and for all that is");
    }

    #[test]
    fn nothing_of_ours_needs_an_exception_to_the_policy() {
        for asset in ASSETS.iter().filter(|asset| !asset.path.contains("uplot")) {
            for forbidden in
                ["<script>", "<style", " style=\"", " onclick", "eval(", "innerHTML", "http://", "https://"]
            {
                assert!(!asset.text.contains(forbidden), "{} has {forbidden}", asset.path);
            }
        }
        assert!(!POLICY.contains("unsafe") && !POLICY.contains('*'));
    }
}
