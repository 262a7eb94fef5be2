//! Addresses to connect from, as they are written: an address, `A-B`, or a network such as `127.0.0.0/8`.

use std::net::IpAddr;
use std::str::FromStr;

use crate::plan::Sources;

const ALLOWED: &str = "an address, a range A-B or a network such as 127.0.0.0/8";
/// More is never needed: one address serves thousands of connections.
const COUNT_MAX: u128 = 1 << 32;

impl FromStr for Sources {
    type Err = &'static str;

    /// Reads addresses. Of a network, its own address and that of its broadcast are left out. The error says what is allowed.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        if let Some((network, bits)) = text.split_once('/') {
            return network
                .parse()
                .ok()
                .zip(bits.parse().ok())
                .and_then(|(ip, bits)| of_network(ip, bits))
                .ok_or(ALLOWED);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last): (IpAddr, IpAddr) = first.trim().parse().ok().zip(last.trim().parse().ok()).ok_or(ALLOWED)?;
        let count = number(last).checked_sub(number(first)).filter(|_| first.is_ipv4() == last.is_ipv4());
        Ok(Self { first, count: count.ok_or(ALLOWED)?.saturating_add(1).min(COUNT_MAX) as u64 })
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn of_network(ip: IpAddr, bits: u32) -> Option<Sources> {
    let host_bits = if ip.is_ipv4() { 32u32 } else { 128 }.checked_sub(bits)?;
    let size = 1u128.checked_shl(host_bits);
    let mask = size.map_or(0, |size| !(size - 1));
    let size = size.unwrap_or(u128::MAX);
    let first = number(ip) & mask;
    let (first, count) = if ip.is_ipv4() && size > 2 { (first + 1, size - 2) } else { (first, size) };
    let first = match ip {
        IpAddr::V4(_) => IpAddr::V4((first as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(first.into()),
    };
    Some(Sources { first, count: count.min(COUNT_MAX) as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_ranges_and_networks_are_read() {
        for (text, first, count) in [
            ("127.0.0.5", "127.0.0.5", 1),
            ("127.0.0.250-127.0.1.3", "127.0.0.250", 10),
            ("127.0.0.0/8", "127.0.0.1", (1 << 24) - 2),
            ("10.1.2.3/24", "10.1.2.1", 254),
            ("10.1.2.3/32", "10.1.2.3", 1),
            ("0.0.0.0/0", "0.0.0.1", u32::MAX.into()),
            ("fd00::/120", "fd00::", 256),
            ("::/0", "::", 1 << 32),
        ] {
            let count = if text == "0.0.0.0/0" { count - 1 } else { count };
            assert_eq!(text.parse(), Ok(Sources { first: first.parse().unwrap(), count }), "{text}");
        }
        for wrong in ["", "localhost", "127.0.0.1/33", "127.0.0.2-127.0.0.1", "127.0.0.1-::1", "127.0.0.0/", "a/8"] {
            assert_eq!(wrong.parse::<Sources>(), Err(ALLOWED), "{wrong}");
        }
    }
}
