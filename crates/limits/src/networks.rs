//! A list of networks, such as those that a limit exempts.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::proxies::{NETWORKS_MAX, canonical};

/// Networks and single addresses. An IPv4-mapped IPv6 address is the IPv4 address.
///
/// ```
/// use baiwan_limits::Networks;
///
/// let networks: Networks = "10.0.0.0/8, 2001:db8::1".parse()?;
/// assert!(networks.contains("10.1.2.3".parse().expect("an address")));
/// assert!(!networks.contains("2001:db8::2".parse().expect("an address")));
/// # Ok::<(), baiwan_limits::NetworksError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Networks(Vec<IpNet>);

/// A list of networks that cannot be one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworksError {
    /// One of its items is no network.
    #[error("`{0}` is neither an address nor a network such as 10.0.0.0/8")]
    Item(String),
    /// It is too long.
    #[error("more than {NETWORKS_MAX} networks")]
    TooMany,
}

impl Networks {
    /// Whether the address is in one of the networks.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Networks {
    type Err = NetworksError;

    /// Reads a comma list. An empty text is an empty list.
    fn from_str(text: &str) -> Result<Self, NetworksError> {
        let items = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty());
        let networks = items.map(|item| {
            let network = item.parse::<IpNet>().ok().or_else(|| item.parse::<IpAddr>().ok().map(IpNet::from));
            network.map(canonical).ok_or_else(|| NetworksError::Item(item.to_owned()))
        });
        let networks: Vec<IpNet> = networks.collect::<Result<_, _>>()?;
        if networks.len() > NETWORKS_MAX {
            return Err(NetworksError::TooMany);
        }
        Ok(Self(networks))
    }
}

impl std::fmt::Display for Networks {
    /// Shows what [`from_str`](Self::from_str) reads as the same list.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let items: Vec<String> = self.0.iter().map(IpNet::to_string).collect();
        f.write_str(&items.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_shown() {
        for (text, shown) in [
            ("", ""),
            ("10.1.2.3/8", "10.0.0.0/8"),
            (" 192.0.2.1 ,2001:db8::/32", "192.0.2.1/32, 2001:db8::/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ] {
            let networks: Networks = text.parse().unwrap();
            assert_eq!(networks.to_string(), shown);
            assert_eq!(shown.parse(), Ok(networks));
        }
        for text in ["x", "10.0.0.0/33", "10.0.0.1,", "10.0.0.1 10.0.0.2", "unix"] {
            assert!(matches!(text.parse::<Networks>(), Err(NetworksError::Item(_))), "{text}");
        }
        assert_eq!(vec!["10.0.0.1"; 257].join(",").parse::<Networks>(), Err(NetworksError::TooMany));
    }

    #[test]
    fn a_mapped_address_is_the_address() {
        let networks: Networks = "192.0.2.0/24".parse().unwrap();
        assert!(networks.contains("::ffff:192.0.2.9".parse().unwrap()));
        assert!(!networks.contains("192.0.3.9".parse().unwrap()));
    }
}
