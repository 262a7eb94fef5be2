//! Looks what this machine has for the tests, so that those that cannot run are shown as ignored, with the reason, instead of
//! passing or failing: `has_postgres` (and `POSTGRES_BIN`, where its programs are), `has_pgbouncer` (and `PGBOUNCER`, the program) and
//! `has_namespaces`.
//!
//! Nothing of it reaches the library or the binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Debian has the programs of a server here, one folder for each version, and not in the path.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Programs that only administrators run are here, and not in everybody's path.
const DEBIAN_SBIN: &str = "/usr/sbin";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(has_postgres, has_pgbouncer, has_namespaces)");
    println!("cargo::rerun-if-changed=build.rs");
    let in_path: Vec<PathBuf> = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
    match in_path.iter().cloned().chain(debian()).find(|folder| has_a_server(folder)) {
        Some(folder) => {
            println!("cargo::rustc-cfg=has_postgres");
            println!("cargo::rustc-env=POSTGRES_BIN={}", folder.display());
            println!("cargo::rerun-if-changed={}", folder.join("postgres").display());
        }
        // Installed later, it changes one of these: Debian's package puts `psql` into the path.
        None => {
            println!("cargo::rerun-if-env-changed=PATH");
            for folder in in_path.iter().filter(|folder| folder.is_dir()) {
                println!("cargo::rerun-if-changed={}", folder.display());
            }
        }
    }
    let pgbouncer =
        in_path.iter().map(PathBuf::as_path).chain([Path::new(DEBIAN_SBIN)]).map(|folder| folder.join("pgbouncer"));
    if let Some(pgbouncer) = pgbouncer.into_iter().find(|program| program.is_file()) {
        println!("cargo::rustc-cfg=has_pgbouncer");
        println!("cargo::rustc-env=PGBOUNCER={}", pgbouncer.display());
    }
    println!("cargo::rerun-if-changed={DEBIAN_SBIN}");
    if may_make_namespaces() {
        println!("cargo::rustc-cfg=has_namespaces");
    }
}

fn has_a_server(folder: &Path) -> bool {
    folder.join("initdb").is_file() && folder.join("postgres").is_file()
}

/// The newest version first.
fn debian() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_unstable_by(|one, other| other.cmp(one));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

/// A network and a file system of one's own, as root has them.
fn may_make_namespaces() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    unshare.status().is_ok_and(|status| status.success())
}
