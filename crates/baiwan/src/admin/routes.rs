//! From a request to what answers it.
//!
//! The invariant: what is not metrics or health is answered only after [`Access`] has let the request in, so that nobody else learns
//! even what there is.

use std::fmt;
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::interval;

use super::access::Access;
use super::answer::{Answer, answer, denied, not_found, problem, wrong_method};
use super::clients::Clients;
use super::dashboard::Board;
use super::health::Condition;
use super::scrapes::{Form, Scrapes};
use crate::metrics::Metrics;
use crate::say::say;

/// Bytes of a request's body: the longest filter of a log is shorter.
const BODY_BYTES_MAX: usize = 4096;

/// Between two looks whether the server has started.
const START_LOOKS: Duration = Duration::from_millis(20);

const TEXT: &str = "text/plain; charset=utf-8";

/// What all requests are answered from.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) access: Access,
    pub(super) condition: Condition,
    pub(super) metrics: Metrics,
    pub(super) scrapes: Scrapes,
    pub(super) clients: Clients,
    pub(super) board: Board,
    pub(super) log_level: Option<LogLevel>,
}

/// How the level of the log is asked for and changed.
pub(super) struct LogLevel {
    pub(super) get: Box<dyn Fn() -> String + Send>,
    pub(super) set: Box<SetLogLevel>,
}

/// The error says what is allowed.
type SetLogLevel = dyn Fn(&str) -> Result<(), String> + Send;

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogLevel")
    }
}

impl Site {
    /// Looks after the server, for as long as this is polled.
    pub(super) async fn watch(&self) {
        self.board.watch(&self.condition, &self.metrics).await;
    }

    /// Waits until every core runs.
    pub(super) async fn until_started(&self) {
        let mut looks = interval(START_LOOKS);
        while !self.condition.is_started() {
            looks.tick().await;
        }
    }

    /// Waits until another process has taken over the server's sockets.
    pub(super) async fn until_handed_over(&self) {
        self.until_started().await;
        self.condition.until_handed_over().await;
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let open: Option<fn(&Condition) -> Answer> = match request.uri().path() {
            "/metrics" if is_read => return self.scrapes.page(form(request.headers())).await,
            "/metrics" => return wrong_method("GET, HEAD"),
            "/health" => Some(Condition::whole),
            "/health/live" => Some(Condition::live),
            "/health/ready" => Some(Condition::ready),
            "/health/startup" => Some(Condition::startup),
            _ => None,
        };
        match open {
            Some(answer) if is_read => answer(&self.condition),
            Some(_) => wrong_method("GET, HEAD"),
            None => match self.access.check(request.method(), request.headers()) {
                Ok(()) => self.answer_to_operator(request, is_read).await,
                Err(why) => denied(why),
            },
        }
    }

    /// The answer to somebody who was let in.
    async fn answer_to_operator(&self, request: Request<Incoming>, is_read: bool) -> Answer {
        match request.uri().path() {
            "/clients" if is_read => self.clients.page(prefers_text(request.headers()), &self.metrics.clients()).await,
            "/clients" => wrong_method("GET, HEAD"),
            "/log-level" => match &self.log_level {
                Some(level) if is_read => answer(StatusCode::OK, TEXT, (level.get)() + "\n"),
                Some(level) if *request.method() == Method::PUT => set_log_level(level, request).await,
                Some(_) => wrong_method("GET, HEAD, PUT"),
                None => not_found(),
            },
            "/dashboard/data" if is_read => self.board.data(&self.condition, request.uri().query()),
            "/dashboard/data" => wrong_method("GET, HEAD"),
            path => match self.board.page(path) {
                Some(page) if is_read => page,
                Some(_) => wrong_method("GET, HEAD"),
                None => not_found(),
            },
        }
    }
}

/// What a scraper likes best.
fn form(fields: &HeaderMap) -> Form {
    match quality_of(fields, "application/openmetrics-text") {
        Some(quality) if quality >= quality_of(fields, "text/plain").unwrap_or(0) => Form::OpenMetrics,
        _ => Form::Prometheus,
    }
}

async fn set_log_level(level: &LogLevel, request: Request<Incoming>) -> Answer {
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "The level of the log has 4096 bytes at the most.");
    };
    let body = body.to_bytes();
    let Some(wanted) = std::str::from_utf8(&body).ok().map(str::trim) else {
        return problem(StatusCode::BAD_REQUEST, "Send the level as UTF-8 text.");
    };
    let before = (level.get)();
    if let Err(allowed) = (level.set)(wanted) {
        return problem(StatusCode::BAD_REQUEST, &format!("Allowed is {allowed}."));
    }
    let now = (level.get)();
    say(|| tracing::info!(before, now, "the level of the log was changed on the admin side"));
    answer(StatusCode::OK, TEXT, now + "\n")
}

/// The quality of a media type that `Accept` names (RFC 9110, section 12.5.1), in thousandths; none where it does not, or does not want
/// it. Ranges such as `text/*` name none.
fn quality_of(fields: &HeaderMap, media_type: &str) -> Option<u16> {
    let lists = fields.get_all(ACCEPT).iter().filter_map(|list| list.to_str().ok());
    let qualities = lists.flat_map(|list| list.split(',')).filter_map(|element| {
        let mut parts = element.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(media_type) {
            return None;
        }
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        weight.map_or(Some(1000), |weight| weight.parse::<f32>().ok().map(|weight| (weight * 1000.0) as u16))
    });
    qualities.max().filter(|quality| *quality > 0)
}

/// Whether it is rather a person who asks: browsers want pages, and there is none.
fn prefers_text(fields: &HeaderMap) -> bool {
    let quality = |media_type| quality_of(fields, media_type);
    quality("application/json").is_none() && (quality("text/html").is_some() || quality("text/plain").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, text.parse().unwrap())])
    }

    #[test]
    fn the_form_of_metrics_is_what_the_scraper_likes_best() {
        let is_openmetrics = |text: &str| form(&accept(text)) == Form::OpenMetrics;
        for text in [
            "application/openmetrics-text",
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "text/plain;q=0.1, Application/OpenMetrics-Text; version=1.0.0; Q=0.2",
        ] {
            assert!(is_openmetrics(text), "{text}");
        }
        for text in [
            "",
            "*/*",
            "text/plain",
            "text/*",
            "application/openmetrics-text;q=0",
            "text/plain, application/openmetrics-text;q=0.9",
        ] {
            assert!(!is_openmetrics(text), "{text}");
        }
    }

    #[test]
    fn browsers_get_text_and_programs_json() {
        assert!(prefers_text(&accept("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")));
        assert!(prefers_text(&accept("text/plain")));
        assert!(!prefers_text(&accept("*/*")));
        assert!(!prefers_text(&accept("application/json, text/plain, */*")));
        assert!(!prefers_text(&HeaderMap::new()));
    }
}
