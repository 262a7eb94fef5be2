//! Requests that broke no rule, and that the gate does not let through: answered here, without the app.
//!
//! Where the connection goes on, the answer is encoded straight into the core's transmit area, as one of a handler that is ready at
//! once; a connection's last is sent as those of `refuse` are. It is *not* for requests that broke a rule (`refuse`), nor for peers
//! whose head is not read (`close::turn_away`).
//!
//! The invariant: what is left of a denied request's body is never taken for the next request.

use baiwan_driver::Driver;
use baiwan_http1::{
    BodyDecoder, BodyEvent, BodyFraming, Limits, Refusal, RequestHead, ResponseContext, ShortAnswerTemplate,
    encode_short_answer,
};
use http::Method;

use super::close::{answer_and_close, end_after_flush, flush, note_denied};
use super::feed::rest_keeps_alive;
use super::lifetime::reason_after_answer;
use super::ports::Ports;
use super::refuse::refuse;
use super::respond::{Received, Step, begin_record, keep_record};
use super::table::{Flags, Table};
use super::terms::Terms;
use crate::gate::Denial;
use crate::own_answer::{Asked, random};
use crate::request_id;
use crate::status::add;

/// Answers a request that the gate does not let through.
// Apart from its caller, so that requests that are let through do not pay for it.
#[inline(never)]
pub(super) fn deny<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    denial: &Denial,
    head: &RequestHead,
    received: Received<'_>,
) -> Step {
    let settings = &terms.settings;
    let Received { head_bytes, rest, id, .. } = received;
    let asked = Asked::of(settings, &head.request, id);
    let mut draft = begin_record(terms, table, index, &head.request, head_bytes, asked.id.as_ref());
    let head_request = head.request.method() == Method::HEAD;
    if !denial.stays {
        if head.framing != BodyFraming::None {
            table[index].flags.set(Flags::UPLOADING);
        }
        keep_record(terms, table, index, &mut draft, None);
        table.activate(index).ask(asked);
        // It waits for room: a peer that has asked before may not have taken all of its answers, and is not to lose them.
        answer_and_close(terms, table, index, denial.status, denial.text, denial.reason);
        note_denied(table, index, denial.text);
        return Step::Over;
    }
    add(&terms.status().requests, 1);
    let Skipped { unread, bytes, keeps_alive } = match skip_body(head, rest, &settings.http) {
        Ok(skipped) => skipped,
        Err(refusal) => {
            keep_record(terms, table, index, &mut draft, None);
            table.activate(index).ask(asked);
            refuse(terms, table, index, refusal, rest);
            return Step::Over;
        }
    };
    let context = ResponseContext {
        head_request,
        version: head.request.version(),
        keep_alive: head.keep_alive,
        may_switch: false,
    };
    let context = terms.board.context(context, keeps_alive);
    let out = &mut ports.outbox.bytes;
    let begin = out.len();
    append(terms, out, denial, &asked, context);
    if let (Some(mut draft), Some(recorder)) = (draft, terms.recorder()) {
        let now = terms.recent_time().into_std();
        draft.handle_denied(denial.text);
        draft.handle_goes_on();
        draft.handle_head(denial.status, now);
        draft.bytes_in += bytes as u64;
        draft.bytes_out = (out.len() - begin) as u64;
        draft.finish(recorder, None, now);
    }
    match unread {
        _ if !context.keep_alive => {
            if unread.is_some() {
                table[index].flags.set(Flags::UPLOADING);
            }
            end_after_flush(terms, table, index, reason_after_answer(terms, table, index));
            Step::Over
        }
        Some(decoder) => {
            table.activate(index).unread = Some(Box::new(decoder));
            flush(terms, table, index);
            Step::Over
        }
        None => Step::Answered { body_bytes: bytes },
    }
}

/// Appends the answer.
fn append(terms: &Terms, out: &mut Vec<u8>, denial: &Denial, asked: &Asked, context: ResponseContext) {
    let (settings, date) = (&terms.settings, terms.clock.date());
    // The one that comes in floods, to a request that asks for nothing special.
    if let (Some(over), Some(limit), Some(refusal)) = (&denial.over, &settings.rate_limit_in_force, &terms.refusal)
        && !asked.is_special()
        && ShortAnswerTemplate::fits(context)
    {
        let numbers = limit.fields().rest_of_lines(over, random());
        let numbers = numbers.as_slice();
        return match &asked.id {
            Some(id) => refusal.append(out, &[numbers, request_id::LINE_BEGIN, id.as_bytes(), b"\r\n"], date),
            None => refusal.append(out, &[numbers], date),
        };
    }
    denial.own_answer().write(settings, asked, |answer| encode_short_answer(out, answer, context, date));
}

/// What was received of a body that nobody will read.
struct Skipped {
    /// The rest of it, if there is one.
    unread: Option<BodyDecoder>,
    /// How much of what was received was its.
    bytes: usize,
    /// What is left of it lets the connection go on.
    keeps_alive: bool,
}

fn skip_body(head: &RequestHead, rest: &[u8], limits: &Limits) -> Result<Skipped, Refusal> {
    if head.framing == BodyFraming::None {
        return Ok(Skipped { unread: None, bytes: 0, keeps_alive: true });
    }
    let mut decoder = BodyDecoder::new(head.framing);
    let mut bytes = 0;
    loop {
        let step = decoder.decode(&rest[bytes..], limits)?;
        bytes += step.consumed;
        match step.event {
            BodyEvent::Data(_) => {}
            BodyEvent::Complete(_) => return Ok(Skipped { unread: None, bytes, keeps_alive: true }),
            BodyEvent::More => {
                let keeps_alive = rest_keeps_alive(&decoder, head.expects_continue && bytes == 0);
                return Ok(Skipped { unread: Some(decoder), bytes, keeps_alive });
            }
        }
    }
}
