//! Requests that broke a rule: counted, shown to an operator, answered.

use baiwan_http1::Refusal;
use http::StatusCode;

use super::close::{answer_and_close, note_denied};
use super::table::{Flags, Table};
use super::terms::Terms;
use crate::say::say;
use crate::status::CloseReason;

/// Bytes of a refused request that a log line shows.
const SAMPLE_BYTES_MAX: usize = 120;

/// Answers what the peer did wrong, and lingers. `wrong` begins with the line that broke the rule, or close before it.
pub(super) fn refuse<S>(terms: &Terms, table: &mut Table<S>, index: u32, refusal: Refusal, wrong: &[u8]) {
    note_refusal(terms, table, index, refusal, wrong);
    let flags = &mut table[index].flags;
    // Only what is large and nothing else is sent on to its end by a client that means well.
    match refusal.status() {
        StatusCode::PAYLOAD_TOO_LARGE => flags.set(Flags::UPLOADING),
        _ => flags.clear(Flags::UPLOADING),
    }
    answer_and_close(terms, table, index, refusal.status(), refusal.name(), CloseReason::Refused);
    note_denied(table, index, refusal.name());
}

/// Shows an operator which rule was broken, by whom, and how.
pub(super) fn note_refusal<S>(terms: &Terms, table: &Table<S>, index: u32, refusal: Refusal, wrong: &[u8]) {
    terms.status().count_refusal(refusal);
    let peer = || table[index].peer.expand();
    if let Some(hint) = terms.board.server.hints.due(refusal, terms.clock.now()) {
        say(|| tracing::warn!(peer = %peer(), "{hint}"));
    }
    say(|| tracing::debug!(rule = refusal.name(), peer = %peer(), sample = %Sample(wrong), "refused a request"));
}

/// The beginning of what a peer sent, fit for a log: everything but plain ASCII is escaped.
struct Sample<'a>(&'a [u8]);

impl std::fmt::Display for Sample<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.0[..self.0.len().min(SAMPLE_BYTES_MAX)];
        write!(f, "{}{}", shown.escape_ascii(), if shown.len() < self.0.len() { "…" } else { "" })
    }
}
