//! Where to listen, as text says it: `HOST` and `PORT`, or `BIND`, a list that takes their place; and who may connect to its Unix sockets.
//!
//! The invariant: nothing is looked up here, neither the names of hosts nor those of users: whether they are known is the machine's to
//! say, at the start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::value::{parse_host, parse_port};
use super::{quoted, store};

/// Addresses that may be listed.
const ADDRESSES_MAX: usize = 64;
/// A longer name is no user's.
const NAME_BYTES_MAX: usize = 256;
/// What is shown of `HOST` and `PORT` where they are not asked.
const REPLACED: &str = "replaced by `BIND`";

/// What is shown of an empty list.
pub(super) const BIND_DEFAULT: &str = "`HOST` and `PORT`";
/// What is shown where nobody has set the mode, the owner, or the group.
pub(super) const MODE_DEFAULT: &str = "what the umask leaves";
pub(super) const OWNER_DEFAULT: &str = "the user of the process";
pub(super) const GROUP_DEFAULT: &str = "the group of the process";

/// Where a server listens, unless its program says so.
#[derive(Clone, Default, Debug)]
pub struct Binding {
    host: Option<IpAddr>,
    port: Option<u16>,
    /// As they are written, but for `localhost`; none is `host` and `port`.
    addresses: Vec<String>,
    /// Who may connect to the Unix sockets among them.
    pub(crate) access: SocketAccess,
}

/// Who may connect to Unix sockets that are bound at a path; users and groups by name or number.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct SocketAccess {
    pub(crate) mode: Option<u32>,
    pub(crate) owner: Option<String>,
    pub(crate) group: Option<String>,
}

impl Binding {
    pub(super) fn set_host(&mut self, text: &str) -> Result<(), String> {
        store(&mut self.host, parse_host(text).map(Some))
    }

    pub(super) fn set_port(&mut self, text: &str) -> Result<(), String> {
        store(&mut self.port, parse_port(text).map(Some))
    }

    pub(super) fn set_addresses(&mut self, text: &str) -> Result<(), String> {
        store(&mut self.addresses, parse_addresses(text))
    }

    pub(super) fn shown_host(&self) -> String {
        if self.addresses.is_empty() { self.tcp().ip().to_string() } else { REPLACED.to_owned() }
    }

    pub(super) fn shown_port(&self) -> String {
        if self.addresses.is_empty() { self.tcp().port().to_string() } else { REPLACED.to_owned() }
    }

    pub(super) fn shown_addresses(&self) -> String {
        if self.addresses.is_empty() { BIND_DEFAULT.to_owned() } else { self.addresses.join(",") }
    }

    /// The address that `HOST` and `PORT` say.
    fn tcp(&self) -> SocketAddr {
        SocketAddr::new(self.host.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), self.port.unwrap_or(8080))
    }

    /// Where to listen: at least one address, as [`Builder::bind`](crate::Builder::bind) takes it.
    pub fn addresses(&self) -> Vec<String> {
        if self.addresses.is_empty() { vec![self.tcp().to_string()] } else { self.addresses.clone() }
    }

    /// Those of them that are TCP.
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        self.addresses().iter().filter_map(|address| address.parse().ok()).collect()
    }

    /// See [`Settings::conflicts`](super::Settings::conflicts).
    pub(super) fn conflicts(&self, prefix: &str) -> Vec<([&'static str; 2], String)> {
        let mut conflicts = Vec::new();
        if !self.addresses.is_empty() {
            for (name, is_set) in [("HOST", self.host.is_some()), ("PORT", self.port.is_some())] {
                if is_set {
                    let allowed = format!("this or {prefix}HOST and {prefix}PORT, and {prefix}{name} is set too");
                    conflicts.push((["BIND", name], allowed));
                }
            }
        }
        let is_path = |address: &String| address.starts_with("unix:") && !address.starts_with("unix:@");
        if !self.addresses.iter().any(is_path) {
            let SocketAccess { mode, owner, group } = &self.access;
            let set = [("BIND_MODE", mode.is_some()), ("BIND_OWNER", owner.is_some()), ("BIND_GROUP", group.is_some())];
            for (name, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
                let allowed = format!("unset, unless {prefix}BIND has the path of a Unix socket (unix:/PATH)");
                conflicts.push(([name, "BIND"], allowed));
            }
        }
        conflicts
    }
}

/// Parses a list of addresses. The error says what is allowed, and which item is not.
fn parse_addresses(text: &str) -> Result<Vec<String>, String> {
    let allowed = |wrong: &str| {
        format!(
            "a list of up to {ADDRESSES_MAX} addresses such as 0.0.0.0:8080, [::]:8080, localhost:8080, unix:/PATH and unix:@NAME, \
             separated by commas{wrong}"
        )
    };
    let mut addresses = Vec::new();
    for item in text.split(',').map(str::trim) {
        let address = parse_address(item).ok_or_else(|| allowed(&format!("; {} is none of them", quoted(item))))?;
        addresses.push(address);
    }
    if addresses.len() > ADDRESSES_MAX { Err(allowed("")) } else { Ok(addresses) }
}

fn parse_address(item: &str) -> Option<String> {
    if let Some(place) = item.strip_prefix("unix:") {
        let is_place = !matches!(place, "" | "@") && !place.contains(char::is_control);
        return is_place.then(|| item.to_owned());
    }
    if let Some(port) = item.strip_prefix("localhost:") {
        return Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), parse_port(port).ok()?).to_string());
    }
    item.parse::<SocketAddr>().ok().map(|address| address.to_string())
}

/// Parses a mode. The error says what is allowed. As a number it would be another one in a file, where numbers are decimal; so
/// the leading 0 is demanded.
pub(super) fn parse_mode(text: &str) -> Result<Option<u32>, &'static str> {
    let is_octal = text.len() == 4 && text.starts_with('0') && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = is_octal.then(|| u32::from_str_radix(text, 8).ok()).flatten().filter(|mode| can_connect(*mode));
    mode.map(Some).ok_or(MODE_ALLOWED)
}

/// What a mode may be.
pub(crate) const MODE_ALLOWED: &str =
    "a 0 and three octal digits, such as 0660, in quotes in a file; whoever may write may connect, and somebody must";

/// Whether it is a mode of which somebody may write, who may connect then.
pub(crate) fn can_connect(mode: u32) -> bool {
    mode <= 0o777 && mode & 0o222 != 0
}

pub(crate) fn shown_mode(mode: u32) -> String {
    format!("{mode:04o}")
}

/// Parses what may be the name or the number of a user or of a group. The error says what is allowed.
pub(crate) fn parse_account(text: &str) -> Result<Option<String>, &'static str> {
    let is_separated = |letter: char| letter.is_whitespace() || letter.is_control() || ":/,".contains(letter);
    let is_number = !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_digit());
    // The last number stands for nobody (chown(2)).
    let is_account = match is_number {
        true => text.parse::<u32>().is_ok_and(|number| number != u32::MAX),
        false => {
            !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.starts_with('-') && !text.contains(is_separated)
        }
    };
    is_account.then(|| Some(text.to_owned())).ok_or("a name such as www-data, or a number from 0 to 4294967294")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_of_addresses_and_names_what_is_none() {
        let parsed = |text: &str| parse_addresses(text).unwrap().join(" ");
        assert_eq!(
            parsed("0.0.0.0:8080, [::]:8080,localhost:81,unix:/run/a b.sock,unix:@name,unix:./x"),
            "0.0.0.0:8080 [::]:8080 127.0.0.1:81 unix:/run/a b.sock unix:@name unix:./x"
        );
        for wrong in [
            "",
            "8080",
            ":8080",
            "*:8080",
            "example.org:80",
            "0.0.0.0",
            "[::]",
            "localhost:",
            "unix:",
            "unix:@",
            "::1:80",
        ] {
            for text in [wrong.to_owned(), format!("127.0.0.1:80,{wrong}")] {
                let said = parse_addresses(&text).unwrap_err();
                assert!(said.ends_with(&format!("; {wrong:?} is none of them")), "{said}");
            }
        }
        let many = |count: usize| vec!["127.0.0.1:0"; count].join(",");
        assert_eq!(parse_addresses(&many(64)).unwrap().len(), 64);
        assert!(parse_addresses(&many(65)).unwrap_err().ends_with("separated by commas"));
    }

    #[test]
    fn a_mode_is_octal_and_lets_somebody_connect() {
        assert_eq!((parse_mode("0660"), parse_mode("0777")), (Ok(Some(0o660)), Ok(Some(0o777))));
        // The last is what a file makes of 0o660.
        for wrong in ["", "660", "0o660", "rw-rw----", "0888", "1777", "00660", "0000", "0555", "432"] {
            assert_eq!(parse_mode(wrong), Err(MODE_ALLOWED), "{wrong}");
        }
        assert_eq!(shown_mode(0o60), "0060");
    }

    #[test]
    fn an_account_is_a_name_or_a_number() {
        for account in ["www-data", "0", "4294967294", "DOMAIN\\ada", "ada@example.org", "0day"] {
            assert_eq!(parse_account(account), Ok(Some(account.to_owned())));
        }
        for wrong in ["", "-1", "www data", "www:data", "4294967295", "99999999999", "a,b", "a\nb"] {
            assert!(parse_account(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_list_takes_the_place_of_host_and_port_and_does_not_go_with_them() {
        let mut binding = Binding::default();
        assert_eq!(
            (binding.addresses(), binding.shown_addresses()),
            (vec!["0.0.0.0:8080".to_owned()], BIND_DEFAULT.into())
        );
        binding.set_port("81").unwrap();
        binding.set_host("::").unwrap();
        assert_eq!((&*binding.addresses()[0], &*binding.shown_host(), &*binding.shown_port()), ("[::]:81", "::", "81"));
        binding.set_addresses("unix:@a").unwrap();
        let names: Vec<_> = binding.conflicts("X_").into_iter().map(|([one, other], _)| (one, other)).collect();
        assert_eq!(names, [("BIND", "HOST"), ("BIND", "PORT")]);
        assert_eq!(binding.conflicts("X_")[1].1, "this or X_HOST and X_PORT, and X_PORT is set too");
        assert_eq!((&*binding.shown_host(), &*binding.shown_port()), (REPLACED, REPLACED));
        assert!(binding.tcp_addresses().is_empty());
        let mut binding = Binding::default();
        binding.set_addresses("unix:@a,127.0.0.1:0").unwrap();
        binding.access.mode = Some(0o660);
        assert_eq!(binding.conflicts("").len(), 1, "an abstract socket has no mode");
        binding.set_addresses("unix:@a,unix:/a").unwrap();
        assert!(binding.conflicts("").is_empty());
    }
}
