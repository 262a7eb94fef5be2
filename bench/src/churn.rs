//! Connections that come and go: what a server keeps of them.
//!
//! A few hundred at a time are opened, answered once and closed. In the middle, as many as the row says are open at once. Every
//! second connection is closed in order, the others are reset.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::ops::Range;

use anyhow::{Context, Result};

use crate::clock::settle;
use crate::connection::{Connection, Receiver};
use crate::exchange::Exchange;
use crate::figures::Figures;
use crate::fleet::describe;
use crate::hold::warm_up;
use crate::rows::{CHURN_TIMES, Plan};
use crate::server::Server;

/// Of the server, before the first connection of the row.
pub(crate) const USER_BEFORE_BYTES: &str = "user_bytes_before";
/// With most connections at once.
pub(crate) const USER_PEAK_BYTES: &str = "user_bytes_at_peak";
/// When all have gone.
pub(crate) const USER_AFTER_BYTES: &str = "user_bytes_after";
pub(crate) const USER_GROWTH_BYTES: &str = "user_bytes_growth";
pub(crate) const USER_GROWTH_PERCENT: &str = "user_growth_percent";
/// The growth as a part of what is allowed: 10 % and 1 MiB.
pub(crate) const ALLOWANCE_PERCENT: &str = "growth_percent_of_allowance";

/// How many are opened before the first of them is answered. They fit into the backlog of 128 that std and Tokio ask for: the
/// kernel lets a connection wait for a second that finds none left.
const BATCH: usize = 100;
/// Batches that are open at any time.
const BATCHES: usize = 3;

pub(crate) fn measure(server: &Server, plan: &Plan, peak: usize) -> Result<Figures> {
    let mut receiver = Receiver::new();
    warm_up(server, &mut receiver)?;
    come_and_go(server.address(), 0..2 * BATCHES * BATCH, &mut receiver)?;
    settle(2 * plan.settle);
    let before = server.user_bytes()?;

    let (all, half) = (peak * CHURN_TIMES, peak * CHURN_TIMES / 2);
    come_and_go(server.address(), 0..half, &mut receiver)?;
    let mut held = Vec::with_capacity(peak);
    for begin in (half..half + peak).step_by(BATCH) {
        held.extend(come(server.address(), begin..(begin + BATCH).min(half + peak), &mut receiver)?);
    }
    let at_peak = server.user_bytes()?;
    go(held)?;
    come_and_go(server.address(), half + peak..all, &mut receiver)?;
    settle(2 * plan.settle);
    Ok(figures(before as f64, at_peak as f64, server.user_bytes()? as f64))
}

fn figures(before: f64, at_peak: f64, after: f64) -> Figures {
    const MIB: f64 = 1_048_576.0;
    let growth = after - before;
    Figures::from([
        (USER_BEFORE_BYTES, before),
        (USER_PEAK_BYTES, at_peak),
        (USER_AFTER_BYTES, after),
        (USER_GROWTH_BYTES, growth),
        (USER_GROWTH_PERCENT, 100.0 * growth / before),
        (ALLOWANCE_PERCENT, 100.0 * growth / (0.1 * before + MIB)),
    ])
}

fn come_and_go(server: SocketAddrV4, indexes: Range<usize>, receiver: &mut Receiver) -> Result<()> {
    let mut open = VecDeque::with_capacity(BATCHES);
    for begin in indexes.clone().step_by(BATCH) {
        if open.len() == BATCHES {
            open.pop_front().map_or(Ok(()), go)?;
        }
        open.push_back(come(server, begin..(begin + BATCH).min(indexes.end), receiver)?);
    }
    open.into_iter().try_for_each(go)
}

/// Opens a batch of connections and waits until each was answered.
fn come(server: SocketAddrV4, batch: Range<usize>, receiver: &mut Receiver) -> Result<Vec<Connection>> {
    let hello = Exchange::hello();
    let open = |index| {
        let connection = Connection::bound(index)?;
        connection.connect(server)?;
        connection.send(&hello)?;
        Ok(connection)
    };
    let connections = batch.clone().map(open).collect::<Result<Vec<_>>>()?;
    for (index, connection) in batch.zip(&connections) {
        connection.wait_answer(&hello, receiver).with_context(|| describe(index))?;
    }
    Ok(connections)
}

fn go(connections: Vec<Connection>) -> Result<()> {
    for (position, connection) in connections.into_iter().enumerate() {
        if position % 2 == 0 {
            connection.close()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_percent_and_a_mebibyte_are_all_of_the_allowance() {
        let mib = 1_048_576.0;
        let figures = figures(10.0 * mib, 20.0 * mib, 12.0 * mib);
        assert_eq!((figures[USER_GROWTH_BYTES], figures[USER_GROWTH_PERCENT]), (2.0 * mib, 20.0));
        assert_eq!(figures[ALLOWANCE_PERCENT], 100.0);
    }
}
