//! Whether a pooler stands before the server that gives each transaction another of its sessions.
//!
//! What is prepared or set in one of those is not there in the next, or somebody else's is. A pooler that gives a connection a session
//! for as long as it lives is as good as none, and so is one that keeps a session for whoever has set something in it.

use std::time::Duration;

use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::endpoint::{Endpoint, drive};

/// A pooler may take its sessions in turn, and others may use them meanwhile.
const LOOKS: usize = 3;

/// As the set-up of every session has it.
const SET: &str = "SET client_min_messages TO warning";

/// Whether two connections meet in one session of the server, or one of them has several. `None`: that is not known, as the second
/// connection, which it takes for a moment, was not to be had.
pub(super) async fn shares_sessions(endpoint: &Endpoint, client: &Client) -> Result<Option<bool>, Error> {
    let Some(Ok((other, mut connection))) = endpoint.connect(Duration::ZERO).await else { return Ok(None) };
    let looks = async {
        for client in [client, &other] {
            client.batch_execute(SET).await?;
        }
        let ours = process(client).await?;
        for _ in 0..LOOKS {
            let seen = [process(&other).await?, process(client).await?, process(client).await?];
            if seen[0] == ours || seen[1..] != [ours.clone(), ours.clone()] {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    };
    drive(&mut connection, looks).await.unwrap_or(Ok(None))
}

/// The number of the server's process that answers.
async fn process(client: &Client) -> Result<Option<String>, Error> {
    let messages = client.simple_query("SELECT pg_backend_pid()").await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
