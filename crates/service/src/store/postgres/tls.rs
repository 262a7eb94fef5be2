//! TLS to the PostgreSQL server: which certificates the service accepts, and what it says when a handshake fails.
//!
//! The cryptography is that of `rediss://`: rustls with *ring*, and the system's authorities from its own store. Each connection makes a
//! whole handshake, so that what is wrong with a certificate shows at the next one. Invariant: whatever is not checked of a certificate, the
//! server has the key that belongs to it.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::Error;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::tls_mode::{TlsMode, Trust};

/// Makes the TLS sessions of connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tls(MakeRustlsConnect);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// Why no certificate could be checked: what the URL names cannot be used. In words, for a line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAuthorities {
    /// The file cannot be read.
    #[error("its sslrootcert, {}, cannot be read ({reason}): correct the path, or give this user permission to read it", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        reason: String,
    },
    /// There is no certificate in the file, or one that is none.
    #[error("its sslrootcert, {}, is no PEM file of certificates ({reason}): set it to one of the authority's certificate", path.display())]
    NoPem {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        reason: String,
    },
    /// The system trusts nobody.
    #[error(
        "this system has no authorities to check its certificate by: install them (ca-certificates), or set sslrootcert to a file"
    )]
    System,
}

impl Tls {
    /// Reads the certificates that connections are checked by.
    pub(super) fn new(mode: &TlsMode) -> Result<Self, NoAuthorities> {
        let (roots, checks_name) = match mode {
            TlsMode::Disable | TlsMode::Prefer | TlsMode::Require(Trust::Anyone) => (None, false),
            TlsMode::Require(Trust::Authority(file)) => (Some(of_file(file)?), false),
            TlsMode::Require(Trust::Name(Some(file))) => (Some(of_file(file)?), true),
            TlsMode::Require(Trust::Name(None)) => (Some(of_system()?), true),
        };
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let config = ClientConfig::builder_with_provider(provider);
        let config =
            config.with_safe_default_protocol_versions().unwrap_or_else(|_| unreachable!("ring has both versions"));
        let verifier = Verifier { roots, checks_name, algorithms };
        let mut config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self(MakeRustlsConnect::new(config)))
    }

    /// As the client takes it.
    pub(super) fn connector(&self) -> MakeRustlsConnect {
        self.0.clone()
    }
}

fn of_file(path: &Path) -> Result<RootCertStore, NoAuthorities> {
    let bytes = std::fs::read(path)
        .map_err(|error| NoAuthorities::File { path: path.to_owned(), reason: error.to_string() })?;
    let no_pem = |reason: String| NoAuthorities::NoPem { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        roots
            .add(certificate.map_err(|error| no_pem(error.to_string()))?)
            .map_err(|error| no_pem(error.to_string()))?;
    }
    if roots.is_empty() { Err(no_pem("there is no certificate in it".to_owned())) } else { Ok(roots) }
}

fn of_system() -> Result<RootCertStore, NoAuthorities> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read is not believed; that of the server decides whether that matters.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(NoAuthorities::System) } else { Ok(roots) }
}

/// Checks of a certificate what it is told to, and always that the server has its key.
#[derive(Debug)]
struct Verifier {
    /// None: any certificate is good.
    roots: Option<RootCertStore>,
    checks_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, self.algorithms.all)?;
            if self.checks_name {
                verify_server_name(&certificate, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Why there is no TLS session with a server, as far as somebody can do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsFailure {
    /// The server has TLS switched off.
    NotOffered,
    /// No authority that is trusted has signed its certificate.
    UnknownAuthority,
    /// Its certificate is for other names.
    WrongName,
    /// Its certificate is too old, or not valid yet.
    OutOfDate,
    /// Its certificate cannot be that of a server.
    NoServers,
    /// Anything else.
    Other,
}

impl TlsFailure {
    /// What to do about it.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::NotOffered => {
                "switch TLS on at the server (ssl = on), or set sslmode=disable in DATABASE_URL if the network to it is trusted"
            }
            Self::UnknownAuthority => {
                "set sslrootcert=PATH in DATABASE_URL to the certificate of the authority that signed the server's"
            }
            Self::WrongName => {
                "set DATABASE_URL to a name that is in the server's certificate, or have one made that names this server; \
                 sslmode=verify-ca with sslrootcert checks no name"
            }
            Self::OutOfDate => {
                "renew the server's certificate, or set this machine's clock right if it is wrong, and keep DATABASE_URL"
            }
            Self::NoServers => {
                "give the server a certificate of X.509 version 3 that is no authority's own (CA:FALSE), and keep DATABASE_URL"
            }
            Self::Other => {
                "correct the TLS settings of the server, which must take TLS 1.2 or 1.3, or set DATABASE_URL to another"
            }
        }
    }
}

/// Whether a connection was not made because of TLS, and why.
pub(super) fn failure(error: &Error) -> Option<TlsFailure> {
    // The client has no name for it.
    if error.source().is_some_and(|cause| cause.to_string() == "server does not support TLS") {
        return Some(TlsFailure::NotOffered);
    }
    Some(match of_rustls(error)? {
        rustls::Error::InvalidCertificate(certificate) => of_certificate(certificate),
        _ => TlsFailure::Other,
    })
}

fn of_certificate(error: &CertificateError) -> TlsFailure {
    match error {
        // The second is one of the same name with another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFailure::UnknownAuthority,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => TlsFailure::WrongName,
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => TlsFailure::OutOfDate,
        _ => TlsFailure::NoServers,
    }
}

/// What rustls says, wherever it is among the causes.
fn of_rustls(error: &Error) -> Option<&rustls::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An error of input and output is not itself the cause of what it holds.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = held.and_then(|held| held.downcast_ref()) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// What rustls says of it, for people; None where it says nothing.
pub(super) fn in_words(error: &Error) -> Option<String> {
    of_rustls(error).map(words)
}

fn words(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(certificate) = error else { return error.to_string() };
    let date = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds).map_or_else(|_| "a time to come".to_owned(), |time| time.to_string())
    };
    match certificate {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("its certificate was valid until {}", date(not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("its certificate is not valid before {}", date(not_before))
        }
        CertificateError::UnknownIssuer => "no trusted authority has signed its certificate".to_owned(),
        CertificateError::BadSignature => {
            "its certificate is signed with another key than that of the trusted authority".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_in_words_with_dates() {
        let (time, valid) = (UnixTime::since_unix_epoch(Duration::from_secs(0)), Duration::from_secs(1_795_000_000));
        let (not_after, not_before) = (UnixTime::since_unix_epoch(valid), UnixTime::since_unix_epoch(valid));
        for (error, expected, said) in [
            (CertificateError::ExpiredContext { time, not_after }, TlsFailure::OutOfDate, "valid until 2026-11-18T"),
            (
                CertificateError::NotValidYetContext { time, not_before },
                TlsFailure::OutOfDate,
                "not valid before 2026-11-18T",
            ),
            (CertificateError::BadSignature, TlsFailure::UnknownAuthority, "with another key than that of the trusted"),
            (CertificateError::UnknownIssuer, TlsFailure::UnknownAuthority, "no trusted authority"),
            (CertificateError::BadEncoding, TlsFailure::NoServers, "BadEncoding"),
        ] {
            assert_eq!(of_certificate(&error), expected);
            let words = words(&rustls::Error::InvalidCertificate(error));
            assert!(words.contains(said) && !words.contains("UNIX"), "{words}");
        }
    }
}
