//! An authority of the tests' own, and certificates that it signs, made by the installed `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// An authority. Its files are gone when it is dropped.
pub(crate) struct Authority(TempDir);

/// A certificate and its key, as PEM files.
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// What is odd about a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oddity {
    None,
    /// It was valid until yesterday.
    Expired,
    /// Of version 1, as `openssl x509 -req` makes it where nobody asks for more.
    Version1,
}

impl Authority {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let authority = Self(tempfile::tempdir().unwrap());
        let name = format!("/CN=authority {}", COUNT.fetch_add(1, Ordering::Relaxed));
        let words = ["req", "-x509", "-days", "2", "-subj", &name, "-keyout", "ca.key", "-out", "ca.pem"];
        authority.openssl(&[&words[..], &NEW_KEY].concat());
        authority
    }

    /// Its own certificate.
    pub(crate) fn own(&self) -> Certificate {
        Certificate { certificate: self.0.path().join("ca.pem"), key: self.0.path().join("ca.key") }
    }

    /// A new certificate for what `names` says, such as `IP:127.0.0.1,DNS:localhost`. It takes the place of the one before.
    pub(crate) fn certificate(&self, names: &str, oddity: Oddity) -> Certificate {
        let names = format!("subjectAltName={names}");
        let request = ["req", "-subj", "/CN=tests", "-addext", &names, "-keyout", "key.pem", "-out", "request.pem"];
        self.openssl(&[&request[..], &NEW_KEY].concat());
        let signed = ["x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        let days = if oddity == Oddity::Expired { "-1" } else { "2" };
        let extensions = if oddity == Oddity::Version1 { "none" } else { "copy" };
        let lasting = ["-days", days, "-copy_extensions", extensions, "-out", "cert.pem"];
        self.openssl(&[&signed[..], &lasting].concat());
        Certificate { certificate: self.0.path().join("cert.pem"), key: self.0.path().join("key.pem") }
    }

    fn openssl(&self, words: &[&str]) {
        let made = Command::new("openssl").args(words).current_dir(self.directory()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn directory(&self) -> &Path {
        self.0.path()
    }
}
