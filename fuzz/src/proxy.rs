//! What proxies say of their clients: the header of the PROXY protocol, and the fields.
//!
//! A header is decided by its bytes, never by how they were cut, and stays decided. Of the fields no input makes a client of a peer
//! that is not trusted; and what is left of a list that names one changes nothing.

use std::net::IpAddr;

use baiwan_limits::{PROXY_HEADER_BYTES_MAX, Proxies, ProxyHeader};
use http::{HeaderMap, HeaderName, HeaderValue};

const TRUSTED: &str = "10.0.0.0/8,2001:db8::/32";
const FIELDS: [&str; 4] = ["x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip"];

/// Checks all that must hold for `data`, as a header and as the value of a field.
pub fn check(data: &[u8]) {
    check_header(data);
    check_fields(data);
}

fn check_header(data: &[u8]) {
    let mut decided = None;
    for end in 0..=data.len().min(PROXY_HEADER_BYTES_MAX + 64) {
        let parsed = ProxyHeader::parse(&data[..end]);
        match decided {
            Some(decided) => assert_eq!(parsed, decided, "at {end}"),
            None if parsed != Ok(ProxyHeader::Partial) => {
                assert!(end > 0 && end <= PROXY_HEADER_BYTES_MAX);
                if let Ok(ProxyHeader::Complete { bytes, .. }) = parsed {
                    assert_eq!(bytes, end, "a header is complete with its last byte");
                }
                decided = Some(parsed);
            }
            None => {}
        }
    }
    assert!(decided.is_some() || data.len() < PROXY_HEADER_BYTES_MAX, "nothing is waited for without an end");
}

fn check_fields(data: &[u8]) {
    let Some((choice, value)) = data.split_first() else { return };
    let field = HeaderName::from_static(FIELDS[usize::from(choice % 4)]);
    let proxies: Proxies = TRUSTED.parse().expect("a list");
    let proxies = match choice & 4 {
        0 => proxies,
        _ => proxies.with_field(field.clone()),
    };
    let cut = usize::from(choice >> 3) * value.len() / 32;
    let (left, list) = value.split_at(cut);
    let Ok(list_alone) = HeaderValue::from_bytes(list) else { return };
    let alone = HeaderMap::from_iter([(field.clone(), list_alone)]);
    let (trusted, untrusted): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [192, 0, 2, 1].into());
    assert_eq!(proxies.client(untrusted, &alone).ip, untrusted);
    let client = proxies.client(trusted, &alone).ip;
    assert_eq!(client, client.to_canonical());
    // The other fields hold one address, and then none.
    if proxies.trusts(client) || !FIELDS[..2].contains(&field.as_str()) {
        return;
    }
    let Ok(longer) = HeaderValue::from_bytes(&[left, b",", list].concat()) else { return };
    let mut on_one_line = alone.clone();
    on_one_line.insert(field.clone(), longer);
    assert_eq!(proxies.client(trusted, &on_one_line).ip, client);
    let Ok(before) = HeaderValue::from_bytes(left) else { return };
    let on_two_lines = HeaderMap::from_iter([(field, before)]);
    let on_two_lines = alone.into_iter().fold(on_two_lines, |mut lines, (name, value)| {
        lines.append(name.expect("a name"), value);
        lines
    });
    assert_eq!(proxies.client(trusted, &on_two_lines).ip, client);
}
