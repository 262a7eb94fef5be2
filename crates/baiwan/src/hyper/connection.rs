//! One connection that hyper serves: on the portable event loop, or for one request that the engine has given away.
//!
//! hyper reads heads and bodies and frames answers; what the server promises stays here: the gate is asked, the app is called,
//! its panics cost one request, its answer is checked, and the reason why the connection ends is noted. It is *not* a socket
//! (`transport`), nor does it know listeners (`portable`).
//!
//! The invariant: only an answer of 101 hands a connection to the app, and no byte of another protocol before it.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use baiwan_driver::Peer;
use baiwan_http1::{BodyLength, Refusal, ResponseContext, check_response};
use baiwan_limits::ClientKey;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWrite;
use tokio::sync::watch;

use super::answer::Answer;
use super::current::{Current, Serving};
use super::exchanges::Told;
use super::limits::{allow_fields, beyond};
use super::own::{answer_without_app, denied, failed, instead, refused};
use super::patience::{Late, within_time};
use super::record::Record;
use super::switch::{Switch, may_switch, until_switched};
use super::transport::Transport;
use super::upload::Upload;
use crate::app::{App, add_peer, call_when_ready, is_for_server, limit_buffered_body};
use crate::client::{identify, identify_again, recorded, request_id};
use crate::gate::{Asker, Counting, Denial, PROBE_TIMEOUT, Verdict, admit_request};
use crate::incoming::IncomingStream;
use crate::own_answer::{Asked, OwnAnswer};
use crate::rate_limit::Left;
use crate::request_id::{self, RequestId, within};
use crate::say::say;
use crate::settings::Settings;
use crate::status::{CloseReason, CoreStatus, Status, add};
use crate::{Body, BoxError};

/// What serves a connection.
#[derive(Clone)]
pub(crate) struct Connection<A> {
    /// The app and the settings of the requests that begin now.
    pub(super) current: Rc<Current<A>>,
    /// The app of this connection alone, if it is one for each.
    pub(super) own: Option<A>,
    pub(super) status: Arc<Status>,
    pub(super) index: usize,
    /// Becomes true when the server stops. None where one request is served, and then the connection ends.
    pub(super) draining: Option<watch::Receiver<bool>>,
    /// How little is left of the client's limit, where one request is served that was counted before.
    pub(super) left: Option<Left>,
}

/// What a request is told that is not let through.
struct Refused {
    /// What did not let it through.
    name: &'static str,
    answer: OwnAnswer<'static>,
    after: After,
}

/// What becomes of a connection after an answer of the server's own to a request that was not let through.
enum After {
    /// It ends, because of what was asked.
    End(CloseReason),
    /// It ends as after any last answer.
    Last,
    /// It goes on.
    Next,
}

/// How a request is answered: by the app, or by the server itself.
type Answered<B> = Result<Response<Told<Answer<B>>>, BoxError>;

impl<A: App> Connection<A> {
    /// One that ends after the answer to its first request, unless that is a 101. `left` is what that answer says of the rate limit.
    #[cfg(all(target_os = "linux", not(baiwan_portable)))]
    pub(crate) fn for_one_request(
        app: A,
        settings: Arc<Settings>,
        status: Arc<Status>,
        index: usize,
        left: Option<Left>,
    ) -> Self {
        let current = Current::fixed(app, settings);
        Self { current, own: None, status, index, draining: None, left }
    }

    pub(super) fn core(&self) -> &CoreStatus {
        &self.status.cores[self.index]
    }

    /// Serves a connection until it ends, or until it is the app's.
    pub(crate) async fn serve(mut self, transport: Transport, peer: Peer) {
        let now = self.current.now();
        // Where one request is served, the app is this connection's already.
        if now.app.is_per_connection() && self.draining.is_some() {
            let stream = IncomingStream::new(transport.socket(), peer);
            match catch_unwind(AssertUnwindSafe(|| now.app.connect(stream))) {
                Ok(app) => self.own = Some(app),
                Err(_) => {
                    add(&self.core().handler_panics, 1);
                    return transport.record().note(CloseReason::HandlerFailed);
                }
            }
        }
        let switch = Switch::new(transport.record());
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new());
        // hyper is told once, when the connection begins.
        http.half_close(now.settings.half_close);
        allow_fields(&mut http, &now.settings.http);
        // Where one request is served, its head is there.
        http.header_read_timeout(self.draining.as_ref().and(now.settings.header_timeout));
        drop(now);
        let service = service_fn(|request| self.answer(request, peer, &switch));
        let mut connection = http.serve_connection(TokioIo::new(transport), service);
        // Dropped before the connection, so that a panic is counted when the connection is counted out.
        let _panics = CountPanic(self.core());
        let outcome = tokio::select! {
            outcome = until_switched(&mut connection, &switch) => outcome,
            () = self.drain(&switch.record) => {
                Pin::new(&mut connection).graceful_shutdown();
                until_switched(&mut connection, &switch).await
            }
            () = switch.record.until_old() => {
                Pin::new(&mut connection).graceful_shutdown();
                tokio::select! {
                    outcome = until_switched(&mut connection, &switch) => outcome,
                    // Nothing is left of it to be ended in order.
                    () = switch.record.until_given_up() => return,
                }
            }
            () = too_late_a_probe(&switch) => {
                let transport = connection.into_parts().io.into_inner();
                return turn_away(transport, Denial::TOO_MANY_CONNECTIONS, Arc::clone(&self.current.now().settings)).await;
            }
        };
        match outcome {
            Some(outcome) => {
                let reason = note(&switch.record, outcome);
                let parts = connection.into_parts();
                tell_unanswered(&switch.record, reason, &parts.read_buf);
                // hyper leaves out the orderly end where an upgrade was possible.
                let _ = parts.io.into_inner().linger().await;
            }
            None => drop(note(&switch.record, connection.with_upgrades().await)),
        }
    }

    /// Waits until the server stops. A connection that has just been accepted has some time for its first request: hyper would close it.
    async fn drain(&self, record: &Record) {
        match self.draining.clone() {
            // A sender that is gone says the same.
            Some(mut draining) => drop(draining.wait_for(|draining| *draining).await),
            None => std::future::pending().await,
        }
        if !record.has_received() {
            // The answer to a request that comes meanwhile says that it is the last.
            let patience = self.current.now().settings.shutdown_idle;
            tokio::time::sleep(patience).await;
        }
    }

    async fn answer(&self, mut request: Request<Incoming>, peer: Peer, switch: &Switch) -> Answered<A::ResponseBody> {
        let now = self.current.now();
        let settings = &*now.settings;
        match self.draining {
            Some(_) => identify(settings, &self.status, self.index, || peer, &mut request),
            None => identify_again(settings, peer, &mut request),
        }
        let id = request_id(settings, || peer, &request, true);
        let admitted = self.admit(settings, &request, peer, switch);
        // What breaks a rule of the engine's was not read by that.
        let is_unread = matches!(admitted, Err(Refused { after: After::End(CloseReason::Refused), .. }));
        let id = id.filter(|_| !is_unread);
        switch.asked.replace(Some(Asked::of(settings, &request, id.clone())));
        if let Some(exchanges) = switch.record.exchanges() {
            match is_unread {
                true => exchanges.begin_unread(Some(recorded(peer, &request))),
                false => exchanges.begin(&request, recorded(peer, &request), id.as_ref()),
            }
        }
        let mut response = match admitted {
            Ok((last, left)) => {
                let mut response = self.answer_admitted(&now, request, peer, switch, (last, id.clone())).await;
                if let (Some(left), Some(limit)) = (left, &settings.rate_limit_in_force) {
                    limit.warning(left).apply(response.headers_mut());
                }
                response
            }
            Err(Refused { name, answer, after: After::End(reason) }) => refused(settings, switch, name, answer, reason),
            Err(Refused { name, answer, after }) => {
                add(&self.core().requests, 1);
                denied(settings, switch, name, answer, matches!(after, After::Next))
            }
        };
        if let Some(value) = id.as_ref().and_then(RequestId::to_value) {
            response.headers_mut().entry(request_id::FIELD).or_insert(value);
        }
        Ok(Told::answer(switch.record.exchanges(), response, id))
    }

    /// Asks the gate, and the rules of the engine that hyper does not have. Says whether the answer is the last, and how little is left of
    /// the client's limit.
    fn admit(
        &self,
        settings: &Settings,
        request: &Request<Incoming>,
        peer: Peer,
        switch: &Switch,
    ) -> Result<(bool, Option<Left>), Refused> {
        let record = &switch.record;
        if let Some(refusal) = beyond(request, &settings.http) {
            return Err(self.refuse(refusal));
        }
        let is_stopping = self.draining.as_ref().is_some_and(|draining| *draining.borrow());
        // What the engine has given away, it has counted.
        let limit = self.draining.as_ref().and(settings.rate_limit_in_force.as_deref());
        let counting = limit.map(|limit| {
            let now = limit.moment(tokio::time::Instant::now().into_std());
            Counting { limit, peer: ClientKey::of(peer.socket_address().ip()), now, core: self.core() }
        });
        let memory = self.status.memory_pressure().level;
        let asker = Asker { is_probe: record.is_probe(), is_late: false, is_stopping, memory, counting };
        // One that is refused counts as well.
        let is_last = self.draining.is_none() || is_last(settings, switch);
        let admitted = match admit_request(asker, request) {
            Verdict::Pass { last, left } => (last || is_last, left.or(self.left)),
            Verdict::Refused { denial, last } => {
                let after = match denial.stays {
                    false => After::End(denial.reason),
                    // Bytes behind an offer of another protocol may belong to that.
                    true if last || is_last || may_switch(request) => After::Last,
                    true => After::Next,
                };
                return Err(Refused { name: denial.text, answer: denial.own_answer(), after });
            }
        };
        if request.method() == Method::CONNECT {
            return Err(self.refuse(Refusal::ConnectUnsupported));
        }
        Ok(admitted)
    }

    /// What the peer may not ask for, in the words of the engine. It is the connection's last answer.
    fn refuse(&self, refusal: Refusal) -> Refused {
        self.core().count_refusal(refusal);
        let answer = OwnAnswer::new(refusal.status(), refusal.name());
        Refused { name: refusal.name(), answer, after: After::End(CloseReason::Refused) }
    }

    /// Answers a request that was let through, whose answer may be the connection's last, and which may have an id.
    async fn answer_admitted(
        &self,
        now: &Serving<A>,
        request: Request<Incoming>,
        peer: Peer,
        switch: &Switch,
        (last, id): (bool, Option<RequestId>),
    ) -> Response<Answer<A::ResponseBody>> {
        let settings = &*now.settings;
        let record = &switch.record;
        add(&self.core().requests, 1);
        if is_for_server(&request) && !settings.options_asterisk {
            return answer_without_app(last);
        }
        let context = ResponseContext {
            head_request: request.method() == Method::HEAD,
            version: request.version(),
            // hyper adds what the request says of it.
            keep_alive: !last,
            may_switch: may_switch(&request),
        };
        let call = self.call(now, request_for_app(settings, request, peer, record, context.may_switch), id);
        let outcome = within_time(call, settings.request_timeout, record).await;
        let response = match outcome {
            // Whatever the app makes of its request's body, it has not come.
            _ if let Some(reason) = record.late_body() => {
                let answer = OwnAnswer::new(StatusCode::REQUEST_TIMEOUT, reason.name());
                return instead(settings, switch, answer, reason);
            }
            _ if record.has_refused_body() => {
                let Refused { name, answer, .. } = self.refuse(Refusal::BodyTooLarge);
                return refused(settings, switch, name, answer, CloseReason::Refused);
            }
            Ok(Ok(Some(response))) => response,
            Ok(Ok(None)) => return failed(settings, switch),
            Ok(Err(error)) => {
                say(|| tracing::error!(%error, "the app failed"));
                return failed(settings, switch);
            }
            Err(Late) => {
                let reason = CloseReason::RequestTimeout;
                let answer = OwnAnswer::new(StatusCode::SERVICE_UNAVAILABLE, reason.name());
                return instead(settings, switch, answer, reason);
            }
        };
        // It may have grown old meanwhile.
        let context = ResponseContext { keep_alive: context.keep_alive && !record.is_old(), ..context };
        check(settings, response, context, switch).await
    }

    /// Calls the app. `None` if it panicked: that costs this request alone.
    async fn call(
        &self,
        now: &Serving<A>,
        request: Request<Body>,
        id: Option<RequestId>,
    ) -> Result<Option<Response<A::ResponseBody>>, BoxError> {
        let panicked = || add(&self.core().handler_panics, 1);
        let app = self.own.as_ref().unwrap_or(&now.app);
        let request = request.map(A::request_body);
        let Ok(mut call) =
            catch_unwind(AssertUnwindSafe(|| within(id.as_ref(), || call_when_ready(app.clone(), request))))
        else {
            panicked();
            return Ok(None);
        };
        poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| within(id.as_ref(), || call.as_mut().poll(cx)))) {
            Ok(polled) => polled.map_ok(Some),
            Err(_) => {
                panicked();
                Poll::Ready(Ok(None))
            }
        })
        .await
    }
}

/// Counts a request. Returns whether its answer is to be the last, because the connection is old or because no more may be asked.
fn is_last(settings: &Settings, switch: &Switch) -> bool {
    let requests = switch.count_request();
    let max = settings.max_connection_requests;
    switch.record.is_old() || max.is_some_and(|max| requests >= max.get())
}

/// A request as the app is called with it.
fn request_for_app(
    settings: &Settings,
    request: Request<Incoming>,
    peer: Peer,
    record: &Arc<Record>,
    may_switch: bool,
) -> Request<Body> {
    let mut request = request.map(|body| match hyper::body::Body::is_end_stream(&body) {
        true => Body::empty(),
        false => {
            record.begin_upload();
            Body::received_elsewhere(Upload::new(body, Arc::clone(record), settings))
        }
    });
    limit_buffered_body(&mut request, settings.buffered_body_bytes_max);
    if may_switch || record.age_ends().is_some() {
        request.extensions_mut().insert(record.ending());
    }
    if !may_switch {
        request.extensions_mut().remove::<OnUpgrade>();
    }
    add_peer(&mut request, peer.socket_address());
    request
}

/// Has an answer of the app say what it must, and a 101 wait until its connection is prepared. What cannot be sent becomes an
/// answer of the server's own.
async fn check<B: http_body::Body>(
    settings: &Settings,
    response: Response<B>,
    context: ResponseContext,
    switch: &Switch,
) -> Response<Answer<B>> {
    let length = response.body().size_hint().exact().map_or(BodyLength::Unknown, BodyLength::Exact);
    let (mut head, body) = response.into_parts();
    let checked = match check_response(head.status, &head.headers, length, context) {
        Ok(checked) => checked,
        Err(error) => {
            say(|| tracing::error!(%error, "the app's answer cannot be sent"));
            return failed(settings, switch);
        }
    };
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        switch.record.switch();
        switch.allowed().await;
    }
    // hyper believes what the fields say.
    checked.apply(head.status, &mut head.headers);
    Response::from_parts(head, Answer::of_app(body, checked.plan.framing))
}

/// Counts a panic that ends the task of a connection: one of the app's body, which hyper asks.
struct CountPanic<'a>(&'a CoreStatus);

impl Drop for CountPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            add(&self.0.handler_panics, 1);
        }
    }
}

/// Waits until a connection beyond the maximum has taken too long to ask for anything.
async fn too_late_a_probe(switch: &Switch) {
    if switch.record.is_probe() {
        tokio::time::sleep(PROBE_TIMEOUT).await;
    }
    if !switch.record.is_probe() || switch.asked.borrow().is_some() {
        std::future::pending().await
    }
}

/// Tells a peer that it may not stay, and ends its connection in order.
pub(super) async fn turn_away(mut transport: Transport, denial: Denial, settings: Arc<Settings>) {
    let record = transport.record();
    record.note(denial.reason);
    if let Some(exchanges) = record.exchanges() {
        exchanges.begin_unread(None);
        exchanges.handle_refusal(denial.reason, Some(denial.text));
        exchanges.handle_head(denial.status);
    }
    let answer = denial.answer_unread(&settings.refusal_cors);
    // A connection that has just begun has room for so little, or is dead.
    let sent = poll_fn(|cx| Pin::new(&mut transport).poll_write(cx, &answer)).await;
    if let Some(exchanges) = record.exchanges() {
        exchanges.end(denial.reason);
    }
    drop(record);
    if sent.is_ok_and(|count| count == answer.len()) {
        transport.linger().await;
    }
}

/// Notes what hyper says about the end of a connection, where that is not a matter of its socket.
fn note(record: &Record, outcome: hyper::Result<()>) -> Option<CloseReason> {
    let reason = match outcome {
        Err(error) if error.is_parse() => CloseReason::Refused,
        Err(error) if error.is_timeout() => CloseReason::HeaderTimeout,
        Err(error) if error.is_user() => CloseReason::HandlerFailed,
        _ => return None,
    };
    record.note(reason);
    Some(reason)
}

/// Tells of a head to which hyper has answered nothing; `received` is what has come of it.
fn tell_unanswered(record: &Record, reason: Option<CloseReason>, received: &[u8]) {
    // Empty lines are no request.
    let has_begun = received.iter().any(|byte| !b"\r\n".contains(byte));
    if let (Some(exchanges), Some(reason)) = (record.exchanges(), reason)
        && has_begun
        && matches!(reason, CloseReason::Refused | CloseReason::HeaderTimeout)
    {
        exchanges.handle_unanswered(reason);
    }
}
