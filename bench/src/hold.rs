//! Memory of held connections.
//!
//! On one host the kernel holds both ends. The client's end is measured apart, as the growth by sockets that are bound but not
//! yet connected: connecting adds nothing to it that stays. What the kernel grows by from then on is the server's end. The
//! client is raw and does not watch these connections, so that all of epoll's memory is the server's.

use anyhow::{Context, Result, ensure};
use baiwan_load::kernel_memory;

use crate::clock::{now_ns, settle};
use crate::connection::{ANSWER_TIMEOUT, Connection, Receiver};
use crate::exchange::{Exchange, number};
use crate::figures::{CLIENT_KERNEL_BYTES, Figures, KERNEL_BYTES, USER_BYTES};
use crate::fleet::describe;
use crate::rows::{Plan, State};
use crate::server::Server;

/// Connections that a server has served and closed before its memory is first read.
const WARM_CONNECTIONS: usize = 200;

pub(crate) fn measure(server: &Server, plan: &Plan, count: usize, state: State) -> Result<Figures> {
    let mut receiver = Receiver::new();
    warm_up(server, &mut receiver)?;
    settle(plan.settle);
    let before = kernel_memory::bytes()?;
    let connections = (0..count).map(Connection::bound).collect::<Result<Vec<_>>>()?;
    settle(plan.settle);
    let (kernel, user) = (kernel_memory::bytes()?, server.user_bytes()?);
    for (index, connection) in connections.iter().enumerate() {
        connection.connect(server.address())?;
        enter(connection, state, &mut receiver).with_context(|| describe(index))?;
    }
    if state == State::Pending {
        wait_until_held(server, count as u64, &mut receiver)?;
    }
    settle(plan.settle);
    let (kernel_after, user_after) = (kernel_memory::bytes()?, server.user_bytes()?);
    let trailing = if state == State::Stream { Exchange::stream().trailing() } else { b"" };
    for (index, connection) in connections.iter().enumerate() {
        connection.check_silent(trailing).with_context(|| describe(index))?;
    }
    let growth = |from: u64, to: u64| (to as f64 - from as f64) / count as f64;
    Ok(Figures::from([
        (USER_BYTES, growth(user, user_after)),
        (KERNEL_BYTES, growth(kernel, kernel_after)),
        (CLIENT_KERNEL_BYTES, growth(before, kernel)),
    ]))
}

/// What a server allocates once is there before its memory is first read.
pub(crate) fn warm_up(server: &Server, receiver: &mut Receiver) -> Result<()> {
    for index in 0..WARM_CONNECTIONS {
        let connection = Connection::bound(index)?;
        connection.connect(server.address())?;
        connection.ask(&Exchange::hello(), receiver)?;
    }
    Ok(())
}

/// Brings a connection into the state that is measured.
fn enter(connection: &Connection, state: State, receiver: &mut Receiver) -> Result<()> {
    match state {
        State::Idle => connection.ask(&Exchange::hello(), receiver).map(drop),
        State::Stream => connection.ask(&Exchange::stream(), receiver).map(drop),
        State::WebSocket => echo(connection, "/ws", receiver),
        State::SmallWebSocket => echo(connection, "/ws-small", receiver),
        State::Pending => connection.send(&Exchange::pending()),
    }
}

/// Opens a WebSocket and has it echo a message.
fn echo(connection: &Connection, path: &str, receiver: &mut Receiver) -> Result<()> {
    connection.ask(&Exchange::switch(path), receiver)?;
    connection.ask(&Exchange::message(), receiver).map(drop)
}

/// Asks the server until `count` handlers are pending.
fn wait_until_held(server: &Server, count: u64, receiver: &mut Receiver) -> Result<()> {
    let connection = Connection::bound(0)?;
    connection.connect(server.address())?;
    let deadline = now_ns() + ANSWER_TIMEOUT.as_nanos() as u64;
    loop {
        let answer = connection.ask(&Exchange::held(), receiver)?;
        let held = number(&answer).context("not a number")?;
        if held == count {
            return Ok(());
        }
        ensure!(now_ns() < deadline, "only {held} of {count} handlers are pending");
    }
}
