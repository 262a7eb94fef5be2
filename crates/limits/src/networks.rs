//! A list of networks, as settings write it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// Networks of one list. Each address is compared with every one.
pub const NETWORKS_MAX: usize = 256;

/// Networks, such as `10.0.0.0/8,192.0.2.1,2001:db8::/32`: CIDRs and addresses with commas between them, [`NETWORKS_MAX`] at the most.
///
/// # Example
/// ```
/// use baiwan_limits::Networks;
///
/// let networks: Networks = "10.0.0.0/8, ::1".parse()?;
/// assert!(networks.contains("10.1.2.3".parse().expect("an address")));
/// assert!(networks.contains("::ffff:10.1.2.3".parse().expect("an address")), "IPv4 in IPv6 is IPv4");
/// assert!(!networks.contains("192.0.2.1".parse().expect("an address")));
/// assert_eq!(networks.to_string(), "10.0.0.0/8,::1");
/// # Ok::<(), baiwan_limits::NetworksError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

/// What is allowed, where it was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("up to {NETWORKS_MAX} networks or addresses with commas between them, such as 10.0.0.0/8 or 192.0.2.1")]
pub struct NetworksError;

impl Networks {
    /// Adds one; `false`, and not added, if there is no room for it.
    pub(crate) fn push(&mut self, network: IpNet) -> bool {
        let has_room = self.0.len() < NETWORKS_MAX;
        if has_room {
            self.0.push(canonical(network));
        }
        has_room
    }

    /// Those of both lists, which together may be more than [`NETWORKS_MAX`].
    #[must_use]
    pub fn joined(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the address is in one of them. One of IPv4 that is written as IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }
}

impl FromStr for Networks {
    type Err = NetworksError;

    fn from_str(text: &str) -> Result<Self, NetworksError> {
        let mut networks = Self::default();
        let all = text.split(',').all(|item| parse_network(item.trim()).is_some_and(|network| networks.push(network)));
        all.then_some(networks).ok_or(NetworksError)
    }
}

/// Reads a network, or an address as a network of one.
pub(crate) fn parse_network(item: &str) -> Option<IpNet> {
    item.parse::<IpNet>().ok().or_else(|| item.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A network without the bits that do not count; one of IPv4-mapped addresses as the network of the IPv4 addresses.
fn canonical(network: IpNet) -> IpNet {
    match network.trunc() {
        IpNet::V6(v6)
            if v6.prefix_len() >= 96
                && let Some(address) = v6.network().to_ipv4_mapped() =>
        {
            Ipv4Net::new(address, v6.prefix_len() - 96).map_or(IpNet::V6(v6), IpNet::V4)
        }
        network => network,
    }
}

/// The list, as it is written.
impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, network) in self.0.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { "," })?;
            match network.prefix_len() == network.max_prefix_len() {
                true => network.addr().fmt(f)?,
                false => network.fmt(f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_of_networks_is_refused() {
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/8,", "localhost", "off", "10.0.0.0/8 192.0.2.1", "unix"] {
            assert_eq!(wrong.parse::<Networks>(), Err(NetworksError), "{wrong:?}");
        }
        assert_eq!(vec!["10.0.0.1"; NETWORKS_MAX + 1].join(",").parse::<Networks>(), Err(NetworksError));
    }
}
