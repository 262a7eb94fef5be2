//! A request that offers another protocol leaves the engine: hyper serves it, on the same core.
//!
//! What `http1` has accepted is replayed to hyper as it was received, with whatever came behind it, and the same app is
//! called. If it answers 101, the connection is the app's; any other answer is the connection's last, because bytes behind the
//! head may belong to the protocol that was offered and must not be taken for a request.
//!
//! The invariant: a connection leaves only when nothing is owed to it and no body is expected from it, and it stays counted
//! until its [`Transport`] is dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use baiwan_driver::Driver;
use baiwan_http1::{BodyFraming, RequestHead};
use bytes::Bytes;

use super::apps::{Apps, drop_caught};
use super::close::{count_out, fail_with_panic, taken_as};
use super::ports::Ports;
use super::table::Table;
use super::terms::Terms;
use crate::app::App;
use crate::clock::Tick;
use crate::hyper::{Connection, SocketStream, Transport};
use crate::rate_limit::Left;
use crate::say::say;
use crate::status::{CloseReason, add};

/// Whether the app may answer 101 to this request. Otherwise the offer is ignored (RFC 9110, section 7.8), as it is where
/// there is a body: the peer would have to send that first, under rules and deadlines that are the engine's.
pub(super) fn may_switch<D: Driver>(head: &RequestHead) -> bool {
    D::RELEASES && head.upgrade && head.framing == BodyFraming::None
}

/// Gives a connection to hyper; `received` begins with the head of its request, and `left` is what its answer says of the rate limit.
#[cold]
pub(super) fn give_to_hyper<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    index: u32,
    received: &[u8],
    left: Option<Left>,
) {
    let app = apps.of::<D>(table, index).and_then(|app| catch_unwind(AssertUnwindSafe(|| app.clone())).ok());
    let Some(app) = app else {
        // Hyper counts those that it gets.
        add(&terms.status().requests, 1);
        return fail_with_panic(terms, table, index);
    };
    debug_assert!(!table.owes(index), "what was answered before has left");
    let ends = table.lifetime(index).map(|lifetime| lifetime.ends).filter(|ends| *ends != Tick::NEVER);
    let (slot, busy) = table.remove(index);
    let draft = busy.and_then(|busy| busy.draft);
    let (server, core) = (&terms.board.server, terms.board.index);
    let peer = slot.peer.peer();
    let released = ports.driver.release(slot.socket).and_then(|fd| SocketStream::from_fd(fd, slot.peer.is_over_unix()));
    match released {
        Ok(stream) => {
            let received = Bytes::copy_from_slice(received);
            let entry = taken_as(terms, slot.flags, slot.peer);
            let ends = ends.map(|ends| terms.clock.instant(ends));
            let transport = Transport::open(&ports.transports, stream, received, entry, peer, ends);
            transport.continue_exchange(draft);
            let settings = Arc::clone(&terms.settings);
            let connection = Connection::for_one_request(app, settings, Arc::clone(server), core, left);
            tokio::task::spawn_local(connection.serve(transport, peer));
        }
        Err(error) => {
            drop_caught(app);
            say(|| tracing::warn!(%error, "cannot give a connection to hyper"));
            count_out(terms, slot.flags, slot.peer, CloseReason::System);
            if let (Some(draft), Some(recorder)) = (draft, terms.recorder()) {
                draft.finish(recorder, Some(CloseReason::System), terms.recent_time().into_std());
            }
        }
    }
}
