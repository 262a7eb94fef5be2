//! The servers that are measured: what `peers/peers.json` says of them, and which of them are here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The server that the others are compared with.
pub(crate) const BAIWAN: &str = "baiwan";
/// The server that serves the same app as Baiwan, and everything that Baiwan does.
pub(crate) const AXUM: &str = "axum";
/// The servers that the README quotes.
pub(crate) const README_SERVERS: [&str; 6] = [BAIWAN, AXUM, "actix", "nginx", "fasthttp", "may"];
/// What the title of a server begins with that does nothing but what the kernel demands.
const LIMIT: &str = "limit: ";
/// What [`Peer::version`] gives in the place of a port.
const ASK_VERSION: &str = "--version";

/// A server, as `peers.json` describes it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) title: String,
    /// With `{servers}`, `{peers}`, `{cache}` and `{port}` in it.
    command: Vec<String>,
    /// What cargo builds it with; absent where cargo does not build it.
    pub(crate) features: Option<String>,
    /// The first line of its output is the address. Otherwise it listens on the port that it is given.
    pub(crate) announces: bool,
    /// It is compared with one other, and has no place among all.
    #[serde(default)]
    only_in_pairs: bool,
    routes: Vec<String>,
    pub(crate) note: String,
}

/// A server of the list, and whether it can be measured.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) peer: Peer,
    /// Its version, or why it is not here.
    pub(crate) version: Result<String, String>,
}

/// Where the parts of commands are.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Programs that cargo has built.
    pub(crate) servers: PathBuf,
    pub(crate) peers: PathBuf,
    /// What `peers/install` has got.
    pub(crate) cache: PathBuf,
}

impl Places {
    /// `servers` is where cargo puts programs, `bench` the folder of this package.
    pub(crate) fn of(servers: &Path, bench: &Path) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = variable("BENCH_CACHE").unwrap_or_else(|| {
            let caches = variable("XDG_CACHE_HOME");
            let caches = caches.or_else(|| variable("HOME").map(|home| home.join(".cache")));
            caches.unwrap_or_default().join("baiwan-bench")
        });
        Self { servers: servers.to_owned(), peers: bench.join("peers"), cache }
    }
}

/// Reads the list.
pub(crate) fn parse(text: &str) -> Result<Vec<Peer>> {
    let mut lists: BTreeMap<String, Vec<Peer>> = serde_json::from_str(text).context("peers.json")?;
    let peers = lists.remove("servers").unwrap_or_default();
    for name in [BAIWAN, AXUM] {
        ensure!(peers.iter().any(|peer| peer.name == name), "peers.json has no {name}");
    }
    for peer in &peers {
        ensure!(!peer.command.is_empty(), "peers.json has no command for {}", peer.name);
    }
    Ok(peers)
}

impl Peer {
    pub(crate) fn serves(&self, routes: &[&str]) -> bool {
        routes.iter().all(|route| self.routes.iter().any(|own| own == route))
    }

    /// It is no server that anybody would use: it shows what cannot be undercut.
    pub(crate) fn is_limit(&self) -> bool {
        self.title.starts_with(LIMIT)
    }

    /// The program that cargo builds for it.
    pub(crate) fn program(&self) -> Option<&str> {
        self.features.as_ref()?;
        self.command[0].rsplit('/').next()
    }

    /// The command that starts it.
    pub(crate) fn command(&self, places: &Places, port: u16) -> Command {
        self.command_with(places, &port.to_string())
    }

    fn command_with(&self, places: &Places, port: &str) -> Command {
        let words = words(&self.command, places, port);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// What it says that it is, or why it cannot be measured.
    pub(crate) fn version(&self, places: &Places) -> Result<String, String> {
        let mut command = self.command_with(places, ASK_VERSION);
        let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot be started: {error}"))?;
        let [said, complaint] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        let (version, complaint) = (said.trim(), complaint.trim().lines().last().unwrap_or("it says nothing"));
        match output.status.success() && !version.is_empty() {
            true => Ok(version.replace('\n', ", ")),
            false => Err(format!("cannot be started: {complaint}")),
        }
    }
}

/// The words of a command with the places filled in. Pure.
fn words(command: &[String], places: &Places, port: &str) -> Vec<String> {
    let [servers, peers, cache] =
        [&places.servers, &places.peers, &places.cache].map(|folder| folder.display().to_string());
    let fill = |word: &String| {
        let pairs = [("{servers}", &servers[..]), ("{peers}", &peers), ("{cache}", &cache), ("{port}", port)];
        pairs.into_iter().fold(word.clone(), |word, (name, value)| word.replace(name, value))
    };
    command.iter().map(fill).collect()
}

/// The servers of these names, in the order of the list; where no name is given, all but those that are there for pairs.
pub(crate) fn select(peers: Vec<Peer>, names: &[String]) -> Result<Vec<Peer>> {
    for name in names {
        ensure!(peers.iter().any(|peer| peer.name == *name), "unknown server {name}; see --list");
    }
    Ok(peers
        .into_iter()
        .filter(|peer| if names.is_empty() { !peer.only_in_pairs } else { names.contains(&peer.name) })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = include_str!("../peers/peers.json");

    fn names(peers: &[Peer]) -> Vec<&str> {
        peers.iter().map(|peer| &peer.name[..]).collect()
    }

    #[test]
    fn the_list_is_read_and_baiwan_and_axum_serve_every_route_that_is_measured() {
        let peers = parse(LIST).unwrap();
        for peer in peers.iter().filter(|peer| [BAIWAN, AXUM].contains(&&peer.name[..])) {
            for row in &crate::rows::ROWS {
                let routes: Vec<&str> =
                    row.routes().iter().copied().filter(|route| !route.starts_with("/ws")).collect();
                assert!(peer.serves(&routes), "{} does not serve {}", peer.name, row.name);
            }
        }
        let limits: Vec<_> = peers.iter().filter(|peer| peer.is_limit()).collect();
        assert!(!limits.is_empty() && limits.iter().all(|peer| peer.serves(&["/"]) && !peer.serves(&["/json"])));
    }

    #[test]
    fn places_and_the_port_are_filled_in() {
        let places = Places { servers: "/built".into(), peers: "/tree/peers".into(), cache: "/cache".into() };
        let command = ["{cache}/bin/python", "{peers}/a.py", "--at=127.0.0.1:{port}"].map(str::to_owned);
        assert_eq!(
            words(&command, &places, "80"),
            ["/cache/bin/python", "/tree/peers/a.py", "--at=127.0.0.1:80"].map(str::to_owned)
        );
        let peers = parse(LIST).unwrap();
        assert_eq!(peers[0].program(), Some("server-baiwan"));
        assert_eq!(peers[0].command(&places, 0).get_program(), "/built/server-baiwan");
    }

    #[test]
    fn servers_are_selected_by_name_in_the_order_of_the_list() {
        let select = |names: &[&str]| {
            let wanted: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            super::select(parse(LIST).unwrap(), &wanted)
        };
        assert_eq!(names(&select(&["nginx", "baiwan"]).unwrap()), ["baiwan", "nginx"]);
        let all = select(&[]).unwrap();
        assert!(names(&all).contains(&"node") && !names(&all).contains(&"bare"), "{:?}", names(&all));
        assert_eq!(names(&select(&["bare"]).unwrap()), ["bare"]);
        assert!(select(&["apache"]).unwrap_err().to_string().contains("apache"));
    }

    #[test]
    fn a_server_that_is_not_here_says_why() {
        let mut peer = parse(LIST).unwrap().remove(0);
        let places = Places { servers: "/no-such-folder".into(), peers: "/".into(), cache: "/".into() };
        assert!(peer.version(&places).unwrap_err().contains("cannot be started"));
        peer.command = vec!["sh".into(), "-c".into(), "echo first >&2; echo the cause >&2; exit 1".into()];
        assert_eq!(peer.version(&places).unwrap_err(), "cannot be started: the cause");
        peer.command = vec!["echo".into(), "7.1".into()];
        assert_eq!(peer.version(&places).unwrap(), "7.1");
    }
}
