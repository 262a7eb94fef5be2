//! Requests that broke no rule, and that the gate does not let through: answered here, without the app.
//!
//! The answer is encoded into the core's transmit area, as one of a handler that is ready at once, and the connection goes on. Behind a
//! body it ends instead. It is *not* for requests that broke a rule (`refuse`), nor for peers that may not stay (`close::turn_away`).

use std::collections::VecDeque;

use baiwan_driver::Driver;
use baiwan_http1::{BodyFraming, RequestHead, ResponseContext};
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, Response};

use super::answer::encode;
use super::close::{answer_and_close, end_after_flush, end_record, fail};
use super::ports::Ports;
use super::respond::{Step, begin_record};
use super::table::Table;
use super::terms::Terms;
use crate::Body;
use crate::gate::Denial;
use crate::status::CloseReason;

/// Answers a request that the gate does not let through.
pub(super) fn deny<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    denial: &Denial,
    head: &RequestHead,
    head_bytes: usize,
) -> Step {
    let observed = terms.settings.observer.is_some();
    if observed {
        begin_record(table, index, head.request.method(), head_bytes);
    }
    if head.framing != BodyFraming::None {
        answer_and_close(terms, table, index, denial.status, denial.text, denial.reason);
        return Step::Over;
    }
    let head_request = head.request.method() == Method::HEAD;
    let version = head.request.version();
    let context = ResponseContext { head_request, version, keep_alive: head.keep_alive, may_switch: false };
    let context = terms.board.context(context, true);
    let mut response = Response::new(Body::from(Bytes::from(format!("{}: {}\n", denial.status, denial.text))));
    *response.status_mut() = denial.status;
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    let out = &mut ports.outbox.bytes;
    let begin = out.len();
    let Some(answer) = encode(response, context, terms.clock.date(), out, &mut VecDeque::new()) else {
        out.truncate(begin);
        fail(terms, table, index);
        return Step::Over;
    };
    let bytes = out.len() - begin;
    if observed {
        let busy = table.activate(index);
        if let Some(draft) = &mut busy.draft {
            draft.handle_head(denial.status);
            draft.bytes_out = bytes as u64;
        }
        end_record(terms, busy, None);
    }
    if !answer.keep_alive {
        end_after_flush(terms, table, index, CloseReason::Complete);
        return Step::Over;
    }
    Step::Answered { body_bytes: 0 }
}
