//! `/metrics`: the texts of scrapes, which everybody may ask for, so that to ask often costs little.
//!
//! A text is written on a thread of blocking calls, because that takes milliseconds, and runs the app's own collectors: the thread that
//! answers probes does not wait for it. Whoever asks while a text is being written, or too soon after it, waits for the next one, which all
//! of them get.
//!
//! The invariant: one text is written at a time, at most one in [`PAUSE_MIN`], and none is older than the request that it answers.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::answer::{Answer, answer, problem};
use crate::metrics::{self, Metrics};

/// Between the beginnings of two texts.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// What a scraper wants to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Prometheus,
    OpenMetrics,
}

/// The texts of scrapes.
#[derive(Debug)]
pub(super) struct Scrapes {
    metrics: Metrics,
    /// How many texts were begun.
    begun: Cell<u64>,
    last: Mutex<Last>,
}

/// The text that was begun last.
#[derive(Debug, Default)]
struct Last {
    begun: Option<(Instant, Form)>,
    /// Its number, from 1.
    number: u64,
    /// There while it is being written.
    writing: Option<JoinHandle<String>>,
    /// None if it could not be written.
    text: Option<Bytes>,
}

impl Form {
    fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => metrics::TEXT,
            Self::OpenMetrics => metrics::OPENMETRICS,
        }
    }

    fn write(self, metrics: &Metrics) -> String {
        match self {
            Self::Prometheus => metrics.render(),
            Self::OpenMetrics => metrics.render_openmetrics(),
        }
    }
}

impl Scrapes {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, begun: Cell::new(0), last: Mutex::default() }
    }

    /// The answer to a scrape.
    pub(super) async fn page(&self, form: Form) -> Answer {
        match self.text(form).await {
            Some(text) => answer(StatusCode::OK, form.media_type(), text),
            None => problem(StatusCode::INTERNAL_SERVER_ERROR, "A collector of the app's own panics."),
        }
    }

    /// A text that was begun after this was called. None if it could not be written.
    async fn text(&self, form: Form) -> Option<Bytes> {
        let before = self.begun.get();
        let mut last = self.last.lock().await;
        // Whoever began it may have gone away since.
        last.written().await;
        let is_right = last.number > before && last.begun.is_some_and(|(_, of)| of == form);
        if !is_right {
            if let Some((begun, _)) = last.begun {
                sleep_until(begun + PAUSE_MIN).await;
            }
            let metrics = self.metrics.clone();
            self.begun.set(self.begun.get() + 1);
            (last.begun, last.number) = (Some((Instant::now(), form)), self.begun.get());
            last.writing = Some(spawn_blocking(move || form.write(&metrics)));
            last.written().await;
        }
        last.text.clone()
    }
}

impl Last {
    /// Waits until nothing is being written. May be dropped at any time.
    async fn written(&mut self) {
        if let Some(writing) = &mut self.writing {
            self.text = writing.await.ok().map(Bytes::from);
            self.writing = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;

    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::DescriptorEncoder;

    use super::*;

    /// Counts how often it is written.
    #[derive(Debug)]
    struct Writings(Arc<AtomicU64>);

    impl Collector for Writings {
        fn encode(&self, _: DescriptorEncoder<'_>) -> std::fmt::Result {
            self.0.fetch_add(1, Relaxed);
            Ok(())
        }
    }

    fn scrapes() -> (Scrapes, Arc<AtomicU64>) {
        let (metrics, writings) = (Metrics::default(), Arc::new(AtomicU64::new(0)));
        metrics.registry(|registry| registry.register_collector(Box::new(Writings(Arc::clone(&writings)))));
        (Scrapes::new(metrics), writings)
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_ask_at_once_a_text_is_written_for_all_of_them() {
        let (scrapes, writings) = scrapes();
        let begin = Instant::now();
        // The first text of all is begun as soon as one asks, so the others get the second.
        for written in 2..=4 {
            let ask = || scrapes.text(Form::Prometheus);
            let texts = tokio::join!(ask(), ask(), ask(), ask());
            assert!([texts.0, texts.1, texts.2, texts.3].iter().all(Option::is_some));
            assert_eq!(writings.load(Relaxed), written);
            assert!(begin.elapsed() >= PAUSE_MIN * (u32::try_from(written).unwrap() - 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_form_has_its_own_text_and_whoever_goes_away_leaves_it_to_the_next() {
        let (scrapes, writings) = scrapes();
        let mut gone = Box::pin(scrapes.text(Form::OpenMetrics));
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(gone.as_mut().poll(cx).is_pending())).await);
        drop(gone);
        assert!(!scrapes.text(Form::Prometheus).await.unwrap().ends_with(b"# EOF\n"));
        assert!(scrapes.text(Form::OpenMetrics).await.unwrap().ends_with(b"# EOF\n"));
        assert_eq!(writings.load(Relaxed), 3);
    }

    #[tokio::test]
    async fn a_collector_that_panics_costs_the_scrape_alone() {
        #[derive(Debug)]
        struct Panics;
        impl Collector for Panics {
            fn encode(&self, _: DescriptorEncoder<'_>) -> std::fmt::Result {
                panic!("on purpose")
            }
        }
        let metrics = Metrics::default();
        metrics.registry(|registry| registry.register_collector(Box::new(Panics)));
        assert_eq!(Scrapes::new(metrics).page(Form::Prometheus).await.status(), 500);
    }
}
