//! What `DATABASE_URL` says of TLS: `sslmode` and `sslrootcert`, as libpq reads them, but for what would only seem to be safe.
//!
//! Text in, a choice or "what is allowed" out; no file is read here. Invariant: a refusal repeats no value.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use tokio_postgres::config::SslMode;

const MODES: &str =
    "postgres://USER@HOST/DATABASE?sslmode=MODE, where MODE is disable, prefer, require, verify-ca or verify-full";
const OTHERS: &str = "postgres://USER@HOST/DATABASE with sslmode, sslrootcert and channel_binding of what libpq knows of TLS; client \
    certificates, revocation lists, sslnegotiation=direct and the rest are not served";
const NO_FILE: &str =
    "postgres://USER@HOST/DATABASE?sslrootcert=PATH of a PEM file, or sslrootcert=system for the system's authorities";
const UNUSED_FILE: &str =
    "sslrootcert together with sslmode=require, verify-ca or verify-full; with another mode no certificate is checked";
const SYSTEM_WITHOUT_NAME: &str = "sslmode=verify-full together with the system's authorities, who sign certificates for everybody; \
    other modes that check a certificate need sslrootcert=PATH of your own authority";

/// Whether and how connections to PostgreSQL are secured.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS where the server offers it and it succeeds, else none. Against eavesdroppers who do nothing else.
    #[default]
    Prefer,
    /// TLS or no connection.
    Require(Trust),
}

/// Which servers are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Every one. Against eavesdroppers who do nothing else.
    Anyone,
    /// One with a certificate of an authority in this file, whatever its name.
    Authority(PathBuf),
    /// One with a certificate for the name in the URL: of an authority in this file, or of one that the system trusts.
    Name(Option<PathBuf>),
}

impl TlsMode {
    /// Takes the parameters of TLS out of a query. Returns the rest of it as well. The error is what is allowed.
    pub(super) fn take(query: &str) -> Result<(Self, String), Cow<'static, str>> {
        let (mut mode, mut root, mut rest) = (None, None, Vec::new());
        for parameter in query.split('&') {
            // In these URLs a plus sign is one.
            let decoded = parameter.replace('+', "%2B");
            let (name, value) = form_urlencoded::parse(decoded.as_bytes()).next().unwrap_or_default();
            match &*name {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" if value.is_empty() => return Err(NO_FILE.into()),
                "sslrootcert" => root = Some(value.into_owned()),
                "sslnegotiation" if value == "postgres" => rest.push(parameter),
                other if other.starts_with("ssl") => return Err(OTHERS.into()),
                _ => rest.push(parameter),
            }
        }
        Ok((Self::of(mode.as_deref(), root)?, rest.join("&")))
    }

    fn of(mode: Option<&str>, root: Option<String>) -> Result<Self, &'static str> {
        // As in libpq, which calls it by this word.
        let system = root.as_deref() == Some("system");
        let file = root.filter(|_| !system).map(PathBuf::from);
        let mode = mode.unwrap_or(if system { "verify-full" } else { "prefer" });
        match (mode, file) {
            ("verify-full", file) => Ok(Self::Require(Trust::Name(file))),
            ("disable" | "prefer", Some(_)) => Err(UNUSED_FILE),
            ("disable" | "prefer" | "require" | "verify-ca", None) if system => Err(SYSTEM_WITHOUT_NAME),
            ("disable", None) => Ok(Self::Disable),
            ("prefer", None) => Ok(Self::Prefer),
            ("require", None) => Ok(Self::Require(Trust::Anyone)),
            ("verify-ca", None) => Err(SYSTEM_WITHOUT_NAME),
            ("require" | "verify-ca", Some(file)) => Ok(Self::Require(Trust::Authority(file))),
            _ => Err(MODES),
        }
    }

    /// What the client is told.
    pub(super) fn ssl_mode(&self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require(_) => SslMode::Require,
        }
    }
}

/// For the operator, at the start.
impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disable => f.write_str("no TLS (sslmode=disable)"),
            Self::Prefer => f.write_str("TLS if the server offers it, with any certificate (sslmode=prefer)"),
            Self::Require(Trust::Anyone) => f.write_str("TLS with any certificate (sslmode=require)"),
            Self::Require(Trust::Authority(file)) => {
                write!(f, "TLS with a certificate of {}, for any name (sslmode=verify-ca)", file.display())
            }
            Self::Require(Trust::Name(Some(file))) => {
                write!(f, "TLS with a certificate of {} (sslmode=verify-full)", file.display())
            }
            Self::Require(Trust::Name(None)) => {
                f.write_str("TLS with a certificate of the system's authorities (sslmode=verify-full)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<TlsMode, String> {
        TlsMode::take(query).map(|(mode, _)| mode).map_err(Cow::into_owned)
    }

    #[test]
    fn the_modes_are_those_of_libpq() {
        let ca = || PathBuf::from("/etc/a b+c.pem");
        for (query, expected) in [
            ("", TlsMode::Prefer),
            ("sslmode=disable", TlsMode::Disable),
            ("sslmode=prefer", TlsMode::Prefer),
            ("sslmode=require", TlsMode::Require(Trust::Anyone)),
            ("sslmode=require&sslrootcert=/etc/a%20b+c.pem", TlsMode::Require(Trust::Authority(ca()))),
            ("sslrootcert=/etc/a%20b+c.pem&sslmode=verify-ca", TlsMode::Require(Trust::Authority(ca()))),
            ("sslmode=verify-full&sslrootcert=/etc/a%20b+c.pem", TlsMode::Require(Trust::Name(Some(ca())))),
            ("sslmode=verify-full", TlsMode::Require(Trust::Name(None))),
            ("sslmode=verify-full&sslrootcert=system", TlsMode::Require(Trust::Name(None))),
            ("sslrootcert=system", TlsMode::Require(Trust::Name(None))),
        ] {
            assert_eq!(read(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn the_rest_of_the_query_stays_as_it_is() {
        let (mode, rest) = TlsMode::take("a=b+c&sslmode=require&connect_timeout=3&sslnegotiation=postgres").unwrap();
        assert_eq!(
            (mode, &*rest),
            (TlsMode::Require(Trust::Anyone), "a=b+c&connect_timeout=3&sslnegotiation=postgres")
        );
    }

    #[test]
    fn what_is_not_served_or_only_seems_safe_is_refused() {
        for (query, expected) in [
            ("sslmode=allow", MODES),
            ("sslmode=secret", MODES),
            ("sslmode=secret&sslrootcert=/ca.pem", MODES),
            ("sslmode=verify-ca", SYSTEM_WITHOUT_NAME),
            ("sslmode=verify-ca&sslrootcert=system", SYSTEM_WITHOUT_NAME),
            ("sslmode=require&sslrootcert=system", SYSTEM_WITHOUT_NAME),
            ("sslmode=disable&sslrootcert=/ca.pem", UNUSED_FILE),
            ("sslrootcert=/ca.pem", UNUSED_FILE),
            ("sslmode=require&sslrootcert=", NO_FILE),
            ("sslcert=/client.pem", OTHERS),
            ("sslcrl=/a.crl", OTHERS),
            ("sslnegotiation=direct", OTHERS),
        ] {
            assert_eq!(read(query).as_ref().map_err(String::as_str), Err(expected), "{query}");
        }
    }
}
