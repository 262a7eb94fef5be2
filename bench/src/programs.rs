//! Has cargo build the servers that are written in Rust, and finds out which servers are here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::peers::{Known, Peer, Places};

/// The folder of programs that cargo has built, this one among them.
pub(crate) fn folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program")?;
    Ok(program.parent().context("this program is in no folder")?.to_owned())
}

/// Builds the servers where this program runs under cargo, and asks each for its version. One that does not build is not here.
pub(crate) fn build(peers: Vec<Peer>, places: &Places) -> Result<Vec<Known>> {
    ensure!(!cfg!(debug_assertions), "figures need optimised programs: bench/run");
    let mut broken: Vec<String> = Vec::new();
    if let Some(cargo) = std::env::var_os("CARGO") {
        for (features, programs) in builds(&peers) {
            let built = cargo_build(Command::new(&cargo), features, &programs, &places.servers)?;
            if !built {
                broken.extend(programs.into_iter().map(str::to_owned));
            }
        }
    }
    let known = peers.into_iter().map(|peer| {
        let is_broken = peer.program().is_some_and(|program| broken.iter().any(|name| name == program));
        let version = if is_broken { Err("does not build".to_owned()) } else { peer.version(places) };
        Known { peer, version }
    });
    Ok(known.collect())
}

/// Programs by their features: those with the same features are built together, and no others, because cargo gives a dependency
/// the union of what its users ask for.
fn builds(peers: &[Peer]) -> BTreeMap<&str, Vec<&str>> {
    let mut builds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for peer in peers {
        if let (Some(features), Some(program)) = (&peer.features, peer.program()) {
            builds.entry(features).or_default().push(program);
        }
    }
    builds
}

/// Whether it was built.
fn cargo_build(mut cargo: Command, features: &str, programs: &[&str], folder: &Path) -> Result<bool> {
    const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    eprintln!("building {}", programs.join(", "));
    cargo.args([
        "build",
        "--release",
        "--locked",
        "--quiet",
        "--package",
        "bench-servers",
        "--manifest-path",
        MANIFEST,
    ]);
    if !features.is_empty() {
        cargo.args(["--features", features]);
    }
    for program in programs {
        cargo.args(["--bin", program]);
    }
    let status = cargo.arg("--target-dir").arg(folder.parent().unwrap_or(folder)).status();
    Ok(status.context("cannot run cargo")?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_framework_is_built_apart_from_all_others() {
        let peers = crate::peers::parse(include_str!("../peers/peers.json")).unwrap();
        let builds = builds(&peers);
        assert!(builds[""].contains(&"server-baiwan") && builds[""].contains(&"server-axum"), "{builds:?}");
        assert_eq!(builds["actix"], ["server-actix"]);
        assert!(!builds.values().flatten().any(|program| program.contains("nginx")), "{builds:?}");
    }
}
