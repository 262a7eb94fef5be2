//! Who the client is, as proxies tell it and as clients lie about it.

use std::net::IpAddr;

use baiwan_limits::{NETWORKS_MAX, Proxies, ProxiesError, proxy_field};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

/// Trusted in every test.
const TRUSTED: &str = "10.0.0.0/8, 2001:db8:1::/48, fe80::/64";

/// The peer of the connection, which is one of them.
const PROXY: &str = "10.0.0.1";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn proxies() -> Proxies {
    TRUSTED.parse().expect("a list")
}

fn headers<N: AsRef<str>, V: AsRef<[u8]>>(lines: impl IntoIterator<Item = (N, V)>) -> HeaderMap {
    let line = |(name, value): (N, V)| {
        let name: HeaderName = name.as_ref().parse().expect("a name");
        (name, HeaderValue::from_bytes(value.as_ref()).expect("a value"))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.into_iter().map(line) {
        headers.append(name, value);
    }
    headers
}

/// Field lines of a request from [`PROXY`], and the client.
type Case = (&'static [(&'static str, &'static str)], &'static str);

#[track_caller]
fn check(proxies: &Proxies, cases: &[Case]) {
    for (lines, expected) in cases {
        let client = proxies.client(ip(PROXY), &headers(lines.iter().copied()));
        assert_eq!((client.ip, client.ignored), (ip(expected), None), "{lines:?}");
    }
}

#[test]
fn x_forwarded_for_is_read_from_the_right_to_the_first_address_that_is_not_trusted() {
    check(
        &proxies(),
        &[
            (&[], PROXY),
            (&[("x-forwarded-for", "192.0.2.1")], "192.0.2.1"),
            // Chained.
            (&[("x-forwarded-for", "192.0.2.1, 10.0.0.3, 10.0.0.2")], "192.0.2.1"),
            (&[("x-forwarded-for", "192.0.2.1,10.0.0.3 ,\t10.0.0.2")], "192.0.2.1"),
            (
                &[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "10.0.0.3"), ("x-forwarded-for", "10.0.0.2")],
                "192.0.2.1",
            ),
            (&[("x-forwarded-for", "192.0.2.1, 2001:db8:1::7, [2001:db8:1::8]:80")], "192.0.2.1"),
            // All are trusted.
            (&[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            // Spoofed.
            (&[("x-forwarded-for", "6.6.6.6, 192.0.2.1")], "192.0.2.1"),
            (&[("x-forwarded-for", "10.0.0.9, 192.0.2.1, 10.0.0.2")], "192.0.2.1"),
            (&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.1")], "192.0.2.1"),
            (&[("x-forwarded-for", "127.0.0.1, ::1, unknown, \", 192.0.2.1")], "192.0.2.1"),
            // Ports, brackets, quotes, zones, mapped addresses.
            (&[("x-forwarded-for", "192.0.2.1:80")], "192.0.2.1"),
            (&[("x-forwarded-for", "2001:db8::1")], "2001:db8::1"),
            (&[("x-forwarded-for", "[2001:db8::1]")], "2001:db8::1"),
            (&[("x-forwarded-for", "[::1]:80")], "::1"),
            (&[("x-forwarded-for", "\"[2001:db8::1]:80\"")], "2001:db8::1"),
            (&[("x-forwarded-for", "192.0.2.1, fe80::1%eth0")], "192.0.2.1"),
            (&[("x-forwarded-for", "192.0.2.1, ::ffff:10.0.0.2")], "192.0.2.1"),
            (&[("x-forwarded-for", "::ffff:192.0.2.1")], "192.0.2.1"),
            // Empty elements.
            (&[("x-forwarded-for", "")], PROXY),
            (&[("x-forwarded-for", " , ,")], PROXY),
            (&[("x-forwarded-for", "192.0.2.1, , ,"), ("x-forwarded-for", "")], "192.0.2.1"),
        ],
    );
}

#[test]
fn the_walk_stops_at_what_is_no_address_on_the_side_of_the_peer() {
    check(
        &proxies(),
        &[
            (&[("x-forwarded-for", "192.0.2.1, unknown")], PROXY),
            (&[("x-forwarded-for", "192.0.2.1, unknown, 10.0.0.2")], "10.0.0.2"),
            (&[("x-forwarded-for", "192.0.2.1, _hidden, 10.0.0.2")], "10.0.0.2"),
            (&[("x-forwarded-for", "192.0.2.1, nonsense")], PROXY),
            (&[("x-forwarded-for", "192.0.2.1 192.0.2.2")], PROXY),
            (&[("x-forwarded-for", "192.0.2.1; 10.0.0.2")], PROXY),
            (&[("x-forwarded-for", "192.0.2.1, 10.0.0.256")], PROXY),
            (&[("x-forwarded-for", "192.0.2.1, 010.0.0.2")], PROXY),
            (&[("x-forwarded-for", "192.0.2.1, [10.0.0.2]")], PROXY),
            (&[("x-forwarded-for", "192.0.2.1, [::1")], PROXY),
            (&[("x-forwarded-for", "192.0.2.1, \"10.0.0.2")], PROXY),
            (&[("x-forwarded-for", "192.0.2.1, 10.0.0.2:99999")], PROXY),
            (&[("forwarded", "for=192.0.2.1, for=unknown;by=10.0.0.2")], PROXY),
            (&[("forwarded", "for=192.0.2.1, for=_hidden, for=10.0.0.2")], "10.0.0.2"),
            (&[("forwarded", "for=192.0.2.1, proto=https")], PROXY),
            (&[("forwarded", "for=192.0.2.1, 10.0.0.2")], PROXY),
        ],
    );
    let latin = headers([("x-forwarded-for", b"192.0.2.1, 10.0.0.\xe9".as_slice())]);
    assert_eq!(proxies().client(ip(PROXY), &latin).ip, ip(PROXY));
}

#[test]
fn forwarded_is_read_where_there_is_no_x_forwarded_for() {
    check(
        &proxies(),
        &[
            (&[("forwarded", "for=192.0.2.1")], "192.0.2.1"),
            (&[("forwarded", "For=\"[2001:db8::1]:4711\"")], "2001:db8::1"),
            (&[("forwarded", "for=192.0.2.1;proto=https;by=10.0.0.9, for=10.0.0.2;host=\"a,b;c\"")], "192.0.2.1"),
            (&[("forwarded", "for=192.0.2.1"), ("forwarded", "for=\"[2001:db8:1::1]\"")], "192.0.2.1"),
            (&[("forwarded", "for=\"::ffff:192.0.2.1\"")], "192.0.2.1"),
            // Spoofed.
            (&[("forwarded", "for=6.6.6.6, for=192.0.2.1")], "192.0.2.1"),
            (&[("forwarded", "for=\"6.6.6.6, for=192.0.2.1")], "192.0.2.1"),
            (&[("forwarded", "for=\", for=\"[2001:db8::1]\"")], "2001:db8::1"),
            // A host that a client has chosen, as proxies write it in quotes.
            (&[("forwarded", "for=192.0.2.1;host=\"x;for=6.6.6.6\"")], "192.0.2.1"),
            (&[("forwarded", "for=10.0.0.2;host=\"x\\\", for=6.6.6.6\"")], PROXY),
            (&[("forwarded", "for=10.0.0.2;host=\"x\\\", for=6.6.6.6, y=\\\"\"")], PROXY),
            (&[("forwarded", "for=10.0.0.2;host=\"\\\",for=6.6.6.6,y=\\\"a\"")], PROXY),
            // Both.
            (&[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "192.0.2.1")], "192.0.2.1"),
            (&[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "unknown")], PROXY),
            (&[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "")], PROXY),
        ],
    );
}

#[test]
fn a_named_field_is_the_only_one_that_is_read() {
    let named = |field: &str| proxies().with_field(field.parse::<HeaderName>().unwrap());
    check(
        &named("forwarded"),
        &[
            (&[("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "6.6.6.6")], "192.0.2.1"),
            (&[("x-forwarded-for", "6.6.6.6")], PROXY),
        ],
    );
    check(
        &named("x-forwarded-for"),
        &[(&[("x-forwarded-for", "192.0.2.1, 10.0.0.2")], "192.0.2.1"), (&[("forwarded", "for=6.6.6.6")], PROXY)],
    );
    check(
        &named("CF-Connecting-IP"),
        &[
            (&[("cf-connecting-ip", "192.0.2.1"), ("x-forwarded-for", "6.6.6.6")], "192.0.2.1"),
            (&[("cf-connecting-ip", "[2001:db8::1]:80")], "2001:db8::1"),
            (&[("cf-connecting-ip", "::ffff:192.0.2.1")], "192.0.2.1"),
            // It is what it says, even if that is trusted.
            (&[("cf-connecting-ip", "10.0.0.7"), ("x-forwarded-for", "6.6.6.6")], "10.0.0.7"),
            (&[("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6")], PROXY),
            (&[("cf-connecting-ip", "192.0.2.1"), ("cf-connecting-ip", "192.0.2.1")], PROXY),
            (&[("cf-connecting-ip", "192.0.2.1, 192.0.2.2")], PROXY),
            (&[("cf-connecting-ip", "")], PROXY),
            (&[("cf-connecting-ip", "unknown")], PROXY),
        ],
    );
}

#[test]
fn a_long_field_costs_bounded_work_and_its_right_end_counts() {
    let client = |value: String| proxies().client(ip(PROXY), &headers([("x-forwarded-for", value)])).ip;
    let spoofed = "6.6.6.6, ".repeat(10 * 1024 / 9);
    assert_eq!(client(format!("{spoofed}192.0.2.1")), ip("192.0.2.1"));
    // One element of 10 KB.
    let long = "1".repeat(10 * 1024);
    assert_eq!(client(format!("{long}, 192.0.2.1")), ip("192.0.2.1"));
    assert_eq!(client(format!("{long}, 10.0.0.2")), ip("10.0.0.2"));
    assert_eq!(client(long), ip(PROXY));
    // 32 elements count, empty ones too.
    let proxied = |count| format!("192.0.2.1{}", ", 10.0.0.2".repeat(count));
    assert_eq!((client(proxied(31)), client(proxied(32))), (ip("192.0.2.1"), ip("10.0.0.2")));
    assert_eq!(client(format!("192.0.2.1, 10.0.0.2{}", ",".repeat(31))), ip("10.0.0.2"));
    assert_eq!(client(format!("192.0.2.1{}", ",".repeat(10 * 1024))), ip(PROXY));
    let empty = vec![("x-forwarded-for", ""); 40];
    let lines = std::iter::once(("x-forwarded-for", "192.0.2.1")).chain(empty);
    assert_eq!(proxies().client(ip(PROXY), &headers(lines)).ip, ip(PROXY));
    // An element may have 1024 bytes.
    let padded = |count: usize| client(format!("192.0.2.1,{}10.0.0.2", " ".repeat(count - 8)));
    assert_eq!((padded(1024), padded(1025)), (ip("192.0.2.1"), ip(PROXY)));
}

#[test]
fn a_field_of_an_untrusted_peer_is_named_and_not_read() {
    for (field, name) in [
        ("x-forwarded-for", "X-Forwarded-For"),
        ("forwarded", "Forwarded"),
        ("x-real-ip", "X-Real-IP"),
        ("cf-connecting-ip", "CF-Connecting-IP"),
    ] {
        let headers = headers([(field, "10.0.0.2")]);
        let client = proxies().client(ip("::ffff:172.17.0.1"), &headers);
        assert_eq!((client.ip, client.ignored), (ip("172.17.0.1"), Some(name)));
        assert_eq!(proxy_field(&headers), Some(name));
        let over_unix = proxies().client_over_unix(&headers);
        assert_eq!((over_unix.ip, over_unix.ignored), (ip("0.0.0.0"), Some(name)));
    }
    let plain = headers([("accept", "*/*"), ("x-forwarded-proto", "https")]);
    assert_eq!(proxies().client(ip("172.17.0.1"), &plain).ignored, None);
}

#[test]
fn a_peer_over_a_unix_socket_is_believed_if_the_list_says_so() {
    let proxies: Proxies = "unix, 10.0.0.0/8".parse().unwrap();
    let client = |value| proxies.client_over_unix(&headers([("x-forwarded-for", value)])).ip;
    assert_eq!(client("192.0.2.1, 10.0.0.2"), ip("192.0.2.1"));
    assert_eq!(client("unknown"), ip("0.0.0.0"));
    // That is no address that a peer could have.
    assert!(proxies.trusts_unix() && !proxies.trusts(ip("0.0.0.0")));
}

#[test]
fn the_list_of_proxies_is_written_as_text() {
    for (text, shown) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        (" 10.0.0.1 ,2001:db8::1, unix", "10.0.0.1,2001:db8::1,unix"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("0.0.0.0/0,::/0", "0.0.0.0/0,::/0"),
    ] {
        let proxies: Proxies = text.parse().unwrap();
        assert_eq!(proxies.to_string(), shown);
        assert_eq!(shown.parse(), Ok(proxies));
    }
    for item in
        ["10.0.0.0/33", "", "10.0.0", "example.org", "10.0.0.0/8/8", "10.0.0.0-10.0.0.9", "fe80::1%eth0", "Unix"]
    {
        let error = format!("127.0.0.1,{item}").parse::<Proxies>().unwrap_err();
        assert_eq!(error, ProxiesError::Item(item.into()));
        assert!(error.to_string().starts_with(&format!("`{item}` is neither")), "{error}");
    }
    let list = |count| vec!["10.0.0.1"; count].join(",").parse::<Proxies>();
    assert!(list(NETWORKS_MAX).is_ok());
    assert_eq!(list(NETWORKS_MAX + 1), Err(ProxiesError::TooMany));
}

#[test]
fn an_ipv4_peer_is_the_same_in_both_notations() {
    let proxies: Proxies = "::ffff:10.0.0.0/104,192.0.2.1".parse().unwrap();
    for (peer, trusted) in [
        ("10.9.9.9", true),
        ("::ffff:10.9.9.9", true),
        ("::ffff:192.0.2.1", true),
        ("192.0.2.2", false),
        ("::1", false),
    ] {
        assert_eq!(proxies.trusts(ip(peer)), trusted, "{peer}");
    }
}

/// Pieces of which lists are made: right ones, wrong ones, and those that change the meaning of their neighbours.
fn piece() -> impl Strategy<Value = String> {
    let fixed = vec![
        "192.0.2.1",
        "6.6.6.6",
        "10.0.0.2",
        "[2001:db8:1::1]:80",
        "::1",
        "unknown",
        "_x",
        "for=",
        "for=10.0.0.2",
        "For=\"[2001:db8::1]\"",
        ";",
        ",",
        " ",
        "\"",
        "\\",
        "\\\"",
        "by=",
        "host=\"a,b\"",
        "%",
        "[",
        "]",
        ":",
        "=",
    ];
    prop_oneof![8 => prop::sample::select(fixed).prop_map(str::to_owned), 1 => "[ -~]{0,40}"]
}

fn value() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat())
}

fn field() -> impl Strategy<Value = &'static str> {
    prop::sample::select(["x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip", "accept"].as_slice())
}

fn lines() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    prop::collection::vec((field(), value()), 0..6)
}

fn any_proxies() -> impl Strategy<Value = Proxies> {
    let fields = vec![None, Some("forwarded"), Some("x-forwarded-for"), Some("x-real-ip")];
    prop::sample::select(fields).prop_map(|field| match field {
        Some(field) => proxies().with_field(HeaderName::from_static(field)),
        None => proxies(),
    })
}

/// What proxies write: a client that is not trusted, and the trusted proxies behind it.
fn chain() -> impl Strategy<Value = (Vec<&'static str>, usize)> {
    let trusted = prop::sample::select(["10.0.0.2", "10.255.0.1", "2001:db8:1::5"].as_slice());
    (prop::sample::select(["192.0.2.1", "2001:db8::9"].as_slice()), prop::collection::vec(trusted, 0..8), 0..9_usize)
        .prop_map(|(client, proxies, split)| (std::iter::once(client).chain(proxies).collect(), split))
}

proptest! {
    #[test]
    fn row_59_no_field_of_an_untrusted_peer_changes_the_client(proxies in any_proxies(), lines in lines(), peer: u32) {
        let peer = IpAddr::V4(peer.into());
        prop_assume!(!proxies.trusts(peer));
        prop_assert_eq!(proxies.client(peer, &headers(lines)).ip, peer);
    }

    #[test]
    fn row_59_nothing_on_the_left_of_what_proxies_wrote_changes_the_client(
        (chain, split) in chain(), lines in prop::collection::vec(value(), 0..4), left in value(), syntax in 0..3,
    ) {
        let (field, proxies) = match syntax {
            0 => ("x-forwarded-for", proxies()),
            1 => ("forwarded", proxies()),
            _ => ("forwarded", proxies().with_field(HeaderName::from_static("forwarded"))),
        };
        let element = |text: &&str| match (field, ip(text)) {
            ("forwarded", IpAddr::V4(_)) => format!("by=_x;for={text};host=\"a,b\""),
            ("forwarded", IpAddr::V6(_)) => format!("for=\"[{text}]:80\""),
            _ => (*text).to_owned(),
        };
        let elements: Vec<_> = chain.iter().map(element).collect();
        // The proxies may go on with the line that the client has sent, or begin one.
        let split = split.min(elements.len());
        let (same, next) = elements.split_at(split);
        let mut all: Vec<_> = lines.into_iter().map(|line| (field, line)).collect();
        match same.is_empty() {
            true => all.push((field, left)),
            false => all.push((field, format!("{left},{}", same.join(", ")))),
        }
        if !next.is_empty() {
            all.push((field, next.join(",")));
        }
        prop_assert_eq!(proxies.client(ip(PROXY), &headers(all)).ip, ip(chain[0]));
    }

    #[test]
    fn whatever_is_left_of_a_list_it_is_read_to_the_same_place_or_on_from_there(
        proxies in any_proxies(), list in value(), left in value(),
    ) {
        for field in ["x-forwarded-for", "forwarded"] {
            let client = |value: &str| proxies.client(ip(PROXY), &headers([(field, value)])).ip;
            let alone = client(&list);
            // An address that is trusted may be the last that was written: then what is left of it is its word.
            if !proxies.trusts(alone) {
                prop_assert_eq!(client(&format!("{left},{list}")), alone);
            }
        }
    }
}
