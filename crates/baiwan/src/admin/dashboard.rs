//! What a browser gets at `/` and below `/dashboard/`: the page, and once a second its numbers.
//!
//! The invariant: whoever gets here was let in; nothing here decides that.

use std::cell::RefCell;

use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderValue, StatusCode};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::answer::{Answer, answer};
use super::health::Condition;
use super::moment::moment;
use crate::dashboard::{Dashboard, Facts, PERIOD, asset};
use crate::metrics::Metrics;

const JSON: &str = "application/json";

/// The numbers of the page.
#[derive(Debug)]
pub(super) struct Board {
    dashboard: RefCell<Dashboard>,
    started: Instant,
}

impl Board {
    pub(super) fn new(facts: Facts) -> Self {
        Self { dashboard: RefCell::new(Dashboard::new(facts)), started: Instant::now() }
    }

    /// The answer to a GET of `path`, if it is a page or belongs to one.
    pub(super) fn page(&self, path: &str) -> Option<Answer> {
        let asset = asset(path)?;
        let mut answer = answer(StatusCode::OK, asset.media_type, asset.text);
        if let Some(policy) = asset.policy {
            answer.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        }
        Some(answer)
    }

    /// The answer to `GET /dashboard/data?after=SEQUENCE`.
    pub(super) fn data(&self, condition: &Condition, query: Option<&str>) -> Answer {
        let after = query.and_then(|query| query.strip_prefix("after=")?.parse().ok());
        answer(StatusCode::OK, JSON, self.dashboard.borrow().data(after, &condition.state()))
    }

    /// Looks at the server once a second, for as long as this is polled, whether or not a page is open: so one that is opened shows what
    /// was before.
    pub(super) async fn watch(&self, condition: &Condition, metrics: &Metrics) {
        let mut seconds = interval(PERIOD);
        // One that was late is no reason to look twice.
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            seconds.tick().await;
            // Before, not every core counts.
            if condition.is_started() {
                self.look(metrics);
            }
        }
    }

    fn look(&self, metrics: &Metrics) {
        let since_start = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(moment) = moment(metrics, since_start) {
            self.dashboard.borrow_mut().handle_moment(&moment);
        }
    }
}
