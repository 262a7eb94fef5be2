//! What the gate is asked about a request, and what of its verdict the connection keeps.
//!
//! Here is *not* decided who is let through (`crate::gate`), nor how a refusal is sent (`deny`).
//!
//! The invariant: nothing behind the head of a refused offer of another protocol is taken for a request.

use baiwan_http1::RequestHead;

use super::table::{Flags, Table};
use super::terms::Terms;
use crate::client::{identify, is_looked_at};
use crate::gate::{Asker, Counting, Denial, Verdict, admit_request, count_request};
use crate::own_answer::Asked;
use crate::rate_limit::Left;
use crate::status::add;

/// Says who the client is and asks the gate, which says how little is left of a client's limit. What an answer instead of the app's
/// would need of a request that is let through is kept. `switches` says that the request offers another protocol that the app may take.
#[inline]
pub(super) fn admit<S>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    flags: Flags,
    switches: bool,
    head: &mut RequestHead,
) -> Result<Option<Left>, Denial> {
    let is_special = flags.has(Flags::PROBE | Flags::LATE) || is_looked_at(terms.status());
    if is_special || terms.asks_more {
        return admit_as_asked(terms, table, index, flags, switches, head);
    }
    let Some(counting) = counting(terms, table, index) else { return Ok(None) };
    let counted = count_request(counting, &head.request);
    if counted.is_err() {
        // Bytes behind an offer may belong to the protocol that was offered, so its answer is the last.
        head.keep_alive &= !switches;
    }
    counted
}

/// Who counts the requests of a connection, if anybody does.
#[inline(always)]
fn counting<'a, S>(terms: &'a Terms, table: &Table<S>, index: u32) -> Option<Counting<'a>> {
    let (limit, now) = (terms.settings.rate_limit_in_force.as_deref()?, terms.moment?);
    Some(Counting { limit, peer: table[index].peer.key(), now, core: terms.status() })
}

/// The whole law. What it asks beside the rate limit, `Terms::asks_more` knows in advance.
#[inline(never)]
fn admit_as_asked<S>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    flags: Flags,
    switches: bool,
    head: &mut RequestHead,
) -> Result<Option<Left>, Denial> {
    let peer = || table[index].peer.peer();
    identify(&terms.settings, &terms.board.server, terms.board.index, peer, &mut head.request);
    let (is_probe, is_late, is_stopping) = (flags.has(Flags::PROBE), flags.has(Flags::LATE), terms.board.is_stopping());
    let memory = terms.board.memory_pressure().level;
    let counting = counting(terms, table, index);
    let asker = Asker { is_probe, is_late, is_stopping, memory, counting };
    let left = match admit_request(asker, &head.request) {
        Verdict::Pass { last, left } => {
            head.keep_alive &= !last;
            left
        }
        Verdict::Refused { denial, last } => {
            // As above.
            head.keep_alive &= !last && !switches;
            add(&terms.status().shed, u64::from(denial == Denial::OVERLOADED));
            return Err(denial);
        }
    };
    let asked = Asked::to_keep(&terms.settings, &head.request);
    if asked != Asked::default() {
        table.activate(index).ask(asked);
    }
    Ok(left)
}
