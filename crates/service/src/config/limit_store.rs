//! Where the budgets of the rate limit are kept.

use std::fmt;
use std::str::FromStr;

use baiwan_limits::StoreUrl;

/// Where the budgets of clients are kept.
#[derive(Clone, Debug, Default)]
pub enum LimitStore {
    /// In this process.
    #[default]
    Memory,
    /// In a Redis or Valkey server, for all instances.
    Redis(StoreUrl),
}

impl LimitStore {
    /// Whether it is a server's, to which the process keeps a connection.
    pub(crate) fn is_in_server(&self) -> bool {
        matches!(self, Self::Redis(_))
    }
}

impl FromStr for LimitStore {
    type Err = String;

    /// The error says what is allowed, and does not repeat the text.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "memory" | "off" => Ok(Self::Memory),
            _ => text.parse().map(Self::Redis).map_err(|allowed| format!("memory, or {allowed}")),
        }
    }
}

/// Without user and password.
impl fmt::Display for LimitStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Redis(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named_and_shown_without_its_password() {
        for text in ["memory", "redis://host:6379/0", "rediss://host:7000/3"] {
            assert_eq!(text.parse::<LimitStore>().unwrap().to_string(), text);
        }
        assert_eq!("redis://ada:secret@host".parse::<LimitStore>().unwrap().to_string(), "redis://host:6379/0");
        for wrong in ["", "Memory", "host:6379", "http://ada:secret@host"] {
            let allowed = wrong.parse::<LimitStore>().unwrap_err();
            assert!(
                allowed.starts_with("memory, or a URL such as redis://") && !allowed.contains("secret"),
                "{allowed}"
            );
        }
    }
}
