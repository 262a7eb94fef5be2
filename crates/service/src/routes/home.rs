//! `GET /`: one self-contained page that says what runs here.

use std::fmt::Write;

use bytes::Bytes;

use super::description::{Endpoint, endpoints};
use super::fixed::Fixed;

/// The page has within its style and one script, of this SHA-256, which puts the page's own origin into the examples; and nothing
/// else.
const POLICY: &str = "default-src 'none'; script-src 'sha256-ikU17ciRN+9T72HY5esDmkmC+Aqv/o/r1snpK3mKr/0='; \
     style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) static PAGE: Fixed = Fixed::page(POLICY, || Bytes::from(render()));

fn render() -> String {
    let mut groups = String::new();
    for group in endpoints().chunk_by(|one, next| one.group == next.group) {
        let _ = writeln!(groups, "<h3>{}</h3>\n<ul>", group[0].group);
        for endpoint in group {
            row(&mut groups, endpoint);
        }
        groups.push_str("</ul>\n");
    }
    include_str!("home.html").replace("{{version}}", env!("CARGO_PKG_VERSION")).replace("{{endpoints}}", &groups)
}

/// What it shows comes from the source code alone, so nothing has to be escaped.
fn row(rows: &mut String, Endpoint { method, path, summary, .. }: &Endpoint) {
    // A browser can follow a GET that needs no parameter.
    let shown =
        if *method == "GET" && !path.contains('{') { format!("<a href=\"{path}\">{path}</a>") } else { path.clone() };
    let _ = writeln!(rows, "<li><b>{method}</b> <code>{shown}</code><span>{summary}</span></li>");
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// RFC 4648, section 4.
    fn base64(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for three in bytes.chunks(3) {
            let number = (0..3).fold(0, |number, at| (number << 8) | usize::from(*three.get(at).unwrap_or(&0)));
            for at in 0..4 {
                let letter = char::from(LETTERS[(number >> (18 - 6 * at)) & 63]);
                text.push(if at <= three.len() { letter } else { '=' });
            }
        }
        text
    }

    #[test]
    fn the_policy_lets_the_script_of_the_page_run_and_no_other() {
        let page = render();
        let scripts: Vec<&str> =
            page.split("<script>").skip(1).filter_map(|rest| rest.split("</script>").next()).collect();
        assert_eq!(scripts.len(), 1, "one alone has its digest in the policy");
        let digest = base64(&Sha256::digest(scripts[0]));
        assert!(POLICY.contains(&format!("script-src 'sha256-{digest}';")), "{digest}");
    }
}
