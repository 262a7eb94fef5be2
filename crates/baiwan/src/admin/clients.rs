//! `/clients`: the twenty who hold most connections, who ask most, and who are refused most.
//!
//! Connections are counted in the kernel's table when somebody asks (`held`), on a thread of blocking calls, and not again for some
//! seconds. The other two come from the metrics.
//!
//! The invariant: however many ask, one look at the kernel's table goes on at a time, and at most one in [`KEPT`].

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::answer::{Answer, answer, json};
use super::health::now_rfc3339;
use super::held::{Held, look};
use crate::metrics::Client;

/// The number of clients that are listed.
pub(super) const LISTED_MAX: usize = 20;
/// How long what a look has seen is told again.
const KEPT: Duration = Duration::from_secs(5);

/// Where connections come in, and what was seen of them last.
#[derive(Debug)]
pub(super) struct Clients {
    ports: BTreeSet<u16>,
    ipv6_prefix: u8,
    seen: Mutex<Option<(Instant, Arc<Held>)>>,
}

#[derive(Serialize)]
struct Listed {
    client: IpAddr,
    count: u64,
}

#[derive(Serialize)]
struct Connections {
    /// False where there were too many to look at all of them.
    complete: bool,
    counted: u64,
    clients: Vec<Listed>,
}

/// All three lists.
#[derive(Serialize)]
struct Page {
    timestamp: String,
    /// Null where the system has no table of connections.
    connections: Option<Connections>,
    requests: Vec<Listed>,
    refusals: Vec<Listed>,
}

impl Clients {
    /// For a server that listens on these ports.
    pub(super) fn new(ports: BTreeSet<u16>, ipv6_prefix: u8) -> Self {
        Self { ports, ipv6_prefix, seen: Mutex::new(None) }
    }

    /// The page, as text for people or as JSON. `known` is what the metrics know of clients.
    pub(super) async fn page(&self, as_text: bool, known: &[Client]) -> Answer {
        let connections = self.held().await.map(|held| Connections {
            complete: held.is_complete,
            counted: held.connections,
            clients: listed(held.clients.iter().copied()),
        });
        let page = Page {
            timestamp: now_rfc3339(),
            connections,
            requests: most(known, |client| client.requests),
            refusals: most(known, |client| client.refusals),
        };
        match as_text {
            true => answer(StatusCode::OK, "text/plain; charset=utf-8", page.text()),
            false => json(StatusCode::OK, &page),
        }
    }

    async fn held(&self) -> Option<Arc<Held>> {
        let mut seen = self.seen.lock().await;
        if let Some((at, held)) = &*seen
            && at.elapsed() < KEPT
        {
            return Some(Arc::clone(held));
        }
        let (ports, ipv6_prefix) = (self.ports.clone(), self.ipv6_prefix);
        let held = spawn_blocking(move || look(Path::new("/"), &ports, ipv6_prefix, LISTED_MAX)).await;
        let held = Arc::new(held.ok()?.ok()?);
        *seen = Some((Instant::now(), Arc::clone(&held)));
        Some(held)
    }
}

/// Those with the greatest counts, which are not 0.
fn most(known: &[Client], count_of: impl Fn(&Client) -> u64) -> Vec<Listed> {
    let mut ranking: Vec<_> = known.iter().map(|client| (client.address, count_of(client))).collect();
    ranking.retain(|(_, count)| *count > 0);
    ranking.sort_unstable_by(|(one, of_one), (other, of_other)| of_other.cmp(of_one).then(one.cmp(other)));
    listed(ranking.into_iter())
}

fn listed(ranking: impl Iterator<Item = (IpAddr, u64)>) -> Vec<Listed> {
    ranking.take(LISTED_MAX).map(|(client, count)| Listed { client, count }).collect()
}

impl Page {
    /// For people: three columns of text, one below the other.
    fn text(&self) -> String {
        let mut text = format!("{}\n", self.timestamp);
        let title = match &self.connections {
            None => "connections held: this system does not say".to_owned(),
            Some(seen) if seen.complete => format!("connections held, of {}", seen.counted),
            Some(seen) => format!("connections held, of the {} that were looked at", seen.counted),
        };
        let held = self.connections.as_ref().map_or(&[][..], |seen| &seen.clients);
        for (title, clients) in [
            (&*title, held),
            ("requests, since the start", &self.requests),
            ("requests refused, since the start", &self.refusals),
        ] {
            let _ = write!(text, "\n{title}\n");
            for Listed { client, count } in clients {
                let _ = writeln!(text, "{count:>12}  {client}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_for_people_names_each_list_and_no_more_than_twenty_clients() {
        let ranking = |count: u8| (0..count).map(|n| (IpAddr::from([192, 0, 2, n]), u64::from(200 - n)));
        let page = Page {
            timestamp: "2026-11-22T10:15:00.123Z".to_owned(),
            connections: Some(Connections { complete: false, counted: 7, clients: listed(ranking(1)) }),
            requests: listed(ranking(25)),
            refusals: Vec::new(),
        };
        let text = page.text();
        assert!(text.contains("connections held, of the 7 that were looked at\n         200  192.0.2.0\n"), "{text}");
        assert!(
            text.contains("requests, since the start\n         200  192.0.2.0\n         199  192.0.2.1\n"),
            "{text}"
        );
        assert!(text.contains("192.0.2.19\n") && !text.contains("192.0.2.20\n"), "{text}");
        assert!(text.ends_with("requests refused, since the start\n"), "{text}");
    }
}
