//! Who may see what: a verdict on the head of a request for anything but metrics and health, which need no permission.
//!
//! | the admin side | what a request must bring |
//! |---|---|
//! | has a token | the token, from wherever it comes |
//! | has none, on a loopback address | a `Host` that is a loopback name or address, and no field of a proxy |
//! | has none, on any other address | nothing helps: the rest is not there |
//!
//! In all cases a browser must not say that the page of another site asks. So neither a page that sends requests through the operator's
//! browser (cross-site request forgery) nor one whose name is made to resolve to this machine (DNS rebinding) gets anywhere. A proxy on this
//! machine asks on a loopback address, and often by a loopback name, whoever asks it: so without a token nothing is for those who come
//! through one that says so. One that says nothing cannot be told from a program here.
//!
//! The invariant: nothing is read but the head, and nothing is remembered.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, FORWARDED, HOST, HeaderName, ORIGIN, VIA};
use http::{HeaderMap, HeaderValue, Method};

use super::secret::{AdminToken, Secret};

/// What a proxy adds to say that it is one (RFC 7239; RFC 9110, section 7.6.3).
const OF_PROXIES: [HeaderName; 3] = [FORWARDED, HeaderName::from_static("x-forwarded-for"), VIA];
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// What the verdict depends on beside the request.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) token: AdminToken,
    /// Where the admin side listens.
    pub(super) bound: SocketAddr,
}

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Denied {
    /// A browser says that the page of another site asks.
    OtherSite,
    /// `Host` names no loopback address.
    OtherHost,
    /// A proxy says that it hands on what somebody else asks.
    Proxied,
    /// The token is demanded, and there is none or a wrong one.
    Token,
    /// Off loopback, without a token, there is nothing.
    NotThere,
}

impl Access {
    pub(super) fn check(&self, method: &Method, fields: &HeaderMap) -> Result<(), Denied> {
        if !is_same_site(method, fields) {
            return Err(Denied::OtherSite);
        }
        match &self.token.now() {
            Some(token) => has_token(fields, token).then_some(()).ok_or(Denied::Token),
            None if !self.bound.ip().to_canonical().is_loopback() => Err(Denied::NotThere),
            None if OF_PROXIES.iter().any(|name| fields.contains_key(name)) => Err(Denied::Proxied),
            None => one(fields, &HOST).is_some_and(is_loopback_host).then_some(()).ok_or(Denied::OtherHost),
        }
    }
}

/// The value of a field that must be there once.
fn one<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = fields.get_all(name).iter();
    let value = values.next()?;
    // Of two, nobody knows which one was checked on the way.
    values.next().is_none().then_some(value)?.to_str().ok()
}

/// Whether no browser says that another site asks. Programs say nothing.
///
/// `Sec-Fetch-Site` as in "Fetch Metadata Request Headers" (W3C) and its resource isolation policy: someone who follows a link from
/// elsewhere may come in, because the page that has the link learns nothing.
fn is_same_site(method: &Method, fields: &HeaderMap) -> bool {
    let says = |name: &HeaderName, value: &str| fields.get(name).is_some_and(|given| given == value);
    let follows_link = *method == Method::GET && says(&SEC_FETCH_MODE, "navigate") && says(&SEC_FETCH_DEST, "document");
    let site = match fields.contains_key(SEC_FETCH_SITE) {
        false => true,
        true => matches!(one(fields, &SEC_FETCH_SITE), Some("same-origin" | "none")) || follows_link,
    };
    site && (!fields.contains_key(ORIGIN) || is_own_origin(fields))
}

/// Whether `Origin` is where the request goes to. The scheme may differ: a proxy before this may speak TLS.
fn is_own_origin(fields: &HeaderMap) -> bool {
    let (Some(origin), Some(host)) = (one(fields, &ORIGIN), one(fields, &HOST)) else { return false };
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// Whether a `Host` names this machine as seen from itself. The port does not matter: one that is forwarded (`ssh -L`) is often another,
/// and a page on another port has another origin.
fn is_loopback_host(host: &str) -> bool {
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let is_right = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return is_right && address.parse::<Ipv6Addr>().is_ok_and(|address| address.to_canonical().is_loopback());
    }
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    is_port(port)
        && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()))
}

fn has_token(fields: &HeaderMap, token: &Secret) -> bool {
    one(fields, &AUTHORIZATION).is_some_and(|credentials| {
        let (scheme, rest) = credentials.split_once(' ').unwrap_or((credentials, ""));
        let rest = rest.trim_ascii();
        match () {
            () if scheme.eq_ignore_ascii_case("Bearer") => token.matches(rest.as_bytes()),
            () if scheme.eq_ignore_ascii_case("Basic") => password_of(rest).is_some_and(|given| token.matches(&given)),
            () => false,
        }
    })
}

/// The password of `Basic` credentials, whoever the user is (RFC 7617, section 2).
fn password_of(credentials: &str) -> Option<Vec<u8>> {
    let mut decoded = BASE64_STANDARD.decode(credentials).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(decoded.split_off(colon + 1))
}

/// What a client that has to bring the token is told: browsers ask their user then.
pub(super) fn challenge() -> HeaderValue {
    HeaderValue::from_static(r#"Basic realm="baiwan admin", charset="UTF-8""#)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn check(bound: &str, token: bool, lines: &[(&'static str, &str)]) -> Result<(), Denied> {
        asked(&Method::GET, bound, token, lines)
    }

    fn asked(method: &Method, bound: &str, token: bool, lines: &[(&'static str, &str)]) -> Result<(), Denied> {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let access = Access { token: AdminToken::default(), bound: bound.parse().unwrap() };
        access.token.set(token.then(|| Secret::new(TOKEN)));
        access.check(method, &fields)
    }

    #[test]
    fn without_a_token_only_a_loopback_host_is_let_in_on_loopback() {
        for bound in ["127.0.0.1:9090", "[::1]:9090", "127.0.0.3:9090", "[::ffff:127.0.0.1]:9090"] {
            for host in [
                "localhost:9090",
                "LOCALHOST:9090",
                "localhost",
                "127.0.0.1:9090",
                "127.0.0.1",
                "127.0.0.3:80",
                "[::1]:9090",
                "[::1]",
                "localhost:8000",
                "[::ffff:127.0.0.1]:9090",
            ] {
                assert_eq!(check(bound, false, &[("host", host)]), Ok(()), "{bound} {host}");
            }
            for host in [
                "",
                "evil.example:9090",
                "localhost.evil.example:9090",
                "127.0.0.1.evil.example",
                "192.0.2.1:9090",
                "[2001:db8::1]:9090",
                "[::1",
                "[::1]x",
                "[::1]:x",
                "localhost:9090:9090",
                "localhost:x",
                "user@localhost",
                "0.0.0.0:9090",
                "::1",
            ] {
                assert_eq!(check(bound, false, &[("host", host)]), Err(Denied::OtherHost), "{bound} {host}");
            }
            assert_eq!(check(bound, false, &[]), Err(Denied::OtherHost), "HTTP/1.0 without a Host");
            let twice = [("host", "localhost"), ("host", "localhost")];
            assert_eq!(check(bound, false, &twice), Err(Denied::OtherHost));
        }
    }

    #[test]
    fn without_a_token_nothing_is_for_who_comes_through_a_proxy() {
        for line in [
            ("forwarded", "for=192.0.2.1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", ""),
            ("via", "1.1 proxy"),
        ] {
            let lines = [("host", "127.0.0.1:9090"), line];
            assert_eq!(check("127.0.0.1:9090", false, &lines), Err(Denied::Proxied), "{line:?}");
            assert_eq!(check("0.0.0.0:9090", false, &lines), Err(Denied::NotThere), "{line:?}");
            assert_eq!(check("127.0.0.1:9090", true, &lines), Err(Denied::Token), "{line:?}");
            let credentials = format!("Bearer {TOKEN}");
            let lines = [("host", "admin.example.org"), line, ("authorization", &*credentials)];
            assert_eq!(check("127.0.0.1:9090", true, &lines), Ok(()), "{line:?}");
        }
    }

    #[test]
    fn off_loopback_there_is_nothing_without_a_token() {
        for bound in ["0.0.0.0:9090", "[::]:9090", "192.0.2.1:9090"] {
            assert_eq!(check(bound, false, &[("host", "localhost:9090")]), Err(Denied::NotThere), "{bound}");
            let credentials = format!("Bearer {TOKEN}");
            let lines = [("host", "localhost:9090"), ("authorization", &*credentials)];
            assert_eq!(check(bound, false, &lines), Err(Denied::NotThere), "{bound}");
        }
    }

    #[test]
    fn with_a_token_it_is_demanded_wherever_one_asks_from_and_any_host_will_do() {
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        for bound in ["127.0.0.1:9090", "0.0.0.0:9090"] {
            for credentials in [
                format!("Bearer {TOKEN}"),
                format!("bearer   {TOKEN}"),
                basic(&format!("anyone:{TOKEN}")),
                basic(&format!(":{TOKEN}")),
                basic(&format!("anyone:{TOKEN}")).replace("Basic", "BASIC"),
            ] {
                let lines = [("host", "admin.example.org"), ("authorization", &*credentials)];
                assert_eq!(check(bound, true, &lines), Ok(()), "{bound} {credentials}");
            }
            for credentials in [
                String::new(),
                "Bearer".to_owned(),
                "Bearer ".to_owned(),
                format!("Bearer {}", &TOKEN[1..]),
                format!("Bearer {TOKEN}0"),
                format!("Token {TOKEN}"),
                TOKEN.to_owned(),
                basic(TOKEN),
                basic(&format!("{TOKEN}:anyone")),
                basic(&format!("anyone:{TOKEN}:")),
                format!("Basic anyone:{TOKEN}"),
            ] {
                let lines = [("host", "localhost:9090"), ("authorization", &*credentials)];
                assert_eq!(check(bound, true, &lines), Err(Denied::Token), "{bound} {credentials}");
            }
            assert_eq!(check(bound, true, &[("host", "localhost:9090")]), Err(Denied::Token));
            let right = format!("Bearer {TOKEN}");
            let twice = [("host", "localhost"), ("authorization", &*right), ("authorization", &*right)];
            assert_eq!(check(bound, true, &twice), Err(Denied::Token));
        }
    }

    #[test]
    fn no_page_of_another_site_gets_in_with_the_token_or_without() {
        let credentials = format!("Bearer {TOKEN}");
        for token in [false, true] {
            let with = |lines: &[(&'static str, &str)]| {
                let mut all = vec![("host", "localhost:9090"), ("authorization", &*credentials)];
                all.extend(lines.iter().map(|(name, value)| (*name, *value)));
                check("127.0.0.1:9090", token, &all)
            };
            for lines in [
                &[][..],
                &[("origin", "http://localhost:9090")],
                &[("origin", "https://LocalHost:9090")],
                &[("sec-fetch-site", "same-origin")],
                &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")],
                &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
            ] {
                assert_eq!(with(lines), Ok(()), "{lines:?}");
            }
            for lines in [
                &[("origin", "null")][..],
                &[("origin", "http://localhost:3000")],
                &[("origin", "http://localhost")],
                &[("origin", "http://evil.example")],
                &[("origin", "localhost:9090")],
                &[("origin", "http://localhost:9090"), ("origin", "http://evil.example")],
                &[("sec-fetch-site", "cross-site")],
                &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")],
                &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
                &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
                &[("sec-fetch-site", "same-origin"), ("origin", "http://evil.example")],
            ] {
                assert_eq!(with(lines), Err(Denied::OtherSite), "{lines:?}");
            }
        }
        let lines = [
            ("host", "localhost:9090"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!(asked(&Method::POST, "127.0.0.1:9090", false, &lines), Err(Denied::OtherSite), "a form is no link");
    }
}
