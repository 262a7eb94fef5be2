//! The app under simulation: one handler for each way in which a handler can behave.
//!
//! The target says which: `/kind/id/a/b`, or the same under `/health`, which is answered beyond the maximum of connections too. Every answer of the app carries the id of its request in `x-id`, and a body that
//! follows from the id, so that answers that are lost, doubled, swapped or mixed are seen.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Sleep;
use tower_service::Service;

use crate::{Body, BoxError};

/// The period of what bodies are made of; a prime, so that no two places of a chunk look alike.
const PERIOD: usize = 4093;
/// Bytes of a frame at most: what one connection may hold beyond its credit.
pub(super) const FRAME_BYTES_MAX: usize = 200_000;

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + (state >> 24) as u8 % 26
        };
        let period: Vec<u8> = (0..PERIOD).map(|_| next()).collect();
        period.iter().copied().cycle().take(PERIOD + FRAME_BYTES_MAX).collect()
    })
}

/// `length` bytes of the body that belongs to `id`, from the `at`-th on.
pub(super) fn body_of(id: u32, at: usize, length: usize) -> &'static [u8] {
    let start = (id as usize * 131 + at) % PERIOD;
    &table()[start..start + length]
}

/// The app. It counts what it does, so that wake-ups can be compared with it.
#[derive(Clone, Debug, Default)]
pub(super) struct SimApp {
    pub(super) work: Rc<Cell<u64>>,
}

/// What a target asks for.
struct Asked {
    kind: String,
    id: u32,
    a: usize,
    b: usize,
}

impl Asked {
    fn of(target: &str) -> Option<Self> {
        let mut parts = target.trim_start_matches("/health").trim_start_matches('/').split('/');
        let kind = parts.next()?.to_owned();
        let mut number = || parts.next()?.parse::<usize>().ok();
        Some(Self { kind, id: number()? as u32, a: number()?, b: number()? })
    }
}

impl Service<Request<Body>> for SimApp {
    type Response = Response<SimBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let asked = Asked::of(request.uri().path()).expect("what is not one of ours was refused");
        if asked.kind == "panic-in-call" {
            panic_silently();
        }
        Box::pin(handle(self.clone(), asked, request.into_body()))
    }
}

async fn handle(app: SimApp, asked: Asked, body: Body) -> Result<Response<SimBody>, BoxError> {
    let Asked { kind, id, a, b } = asked;
    let whole = || SimBody::whole(&app, id, a);
    let answer = match kind.as_str() {
        "now" | "ignore" => whole(),
        "yield" => {
            tokio::task::yield_now().await;
            whole()
        }
        "sleep" => {
            app.sleep(b).await;
            whole()
        }
        "hold" => {
            app.sleep(b).await;
            drop(body);
            whole()
        }
        "peek" => {
            let mut body = body;
            let _ = next_frame(&app, &mut body).await;
            whole()
        }
        "echo" => SimBody::of(&app, id, vec![Bytes::from(collect(&app, body, 0).await?)]),
        "lazy-echo" => SimBody::of(&app, id, vec![Bytes::from(collect(&app, body, b).await?)]),
        "pipe" => SimBody { pipe: Some(body), ..SimBody::of(&app, id, Vec::new()) },
        "stream" => SimBody::stream(&app, id, a, b, End::Complete),
        "fail" => SimBody::stream(&app, id, a, b, End::Error),
        "panic-in-body" => SimBody::stream(&app, id, a, b, End::Panic),
        "error" => return Err("on purpose".into()),
        "panic" => panic_silently(),
        "panic-late" => {
            tokio::task::yield_now().await;
            panic_silently()
        }
        _ => std::future::pending().await,
    };
    app.did();
    let mut response = Response::new(answer);
    response.headers_mut().insert("x-id", HeaderValue::from(id));
    Ok(response)
}

/// As a panic, without its lines on the standard error.
fn panic_silently() -> ! {
    std::panic::resume_unwind(Box::new("on purpose"))
}

async fn next_frame(app: &SimApp, body: &mut Body) -> Option<Result<Frame<Bytes>, crate::BodyError>> {
    app.did();
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

async fn collect(app: &SimApp, mut body: Body, pause_ms: usize) -> Result<Vec<u8>, crate::BodyError> {
    let mut all = Vec::new();
    while let Some(frame) = next_frame(app, &mut body).await {
        if let Ok(data) = frame?.into_data() {
            all.extend_from_slice(&data);
        }
        if pause_ms > 0 {
            app.sleep(pause_ms).await;
        }
    }
    Ok(all)
}

impl SimApp {
    fn did(&self) {
        self.work.set(self.work.get() + 1);
    }

    async fn sleep(&self, ms: usize) {
        tokio::time::sleep(Duration::from_millis(ms as u64)).await;
        self.did();
    }
}

/// How a body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Complete,
    Error,
    Panic,
}

/// A body of an answer: frames that are there, frames that are made one after the other, or the request's own.
pub(super) struct SimBody {
    app: SimApp,
    id: u32,
    frames: Vec<Bytes>,
    /// Frames that are still to be made, and the bytes of each.
    left: usize,
    frame_bytes: usize,
    at: usize,
    pause_ms: usize,
    pause: Option<Pin<Box<Sleep>>>,
    paused: bool,
    end: End,
    pipe: Option<Body>,
}

/// What `stream` makes: a number of frames, each with a number of bytes.
pub(super) fn frames_of(a: usize) -> (usize, usize) {
    (a % 8, a / 8)
}

/// How to ask for that.
pub(super) fn stream_of(frames: usize, frame_bytes: usize) -> usize {
    frames + 8 * frame_bytes
}

impl SimBody {
    fn of(app: &SimApp, id: u32, frames: Vec<Bytes>) -> Self {
        Self {
            app: app.clone(),
            id,
            frames,
            left: 0,
            frame_bytes: 0,
            at: 0,
            pause_ms: 0,
            pause: None,
            paused: false,
            end: End::Complete,
            pipe: None,
        }
    }

    fn whole(app: &SimApp, id: u32, length: usize) -> Self {
        Self::of(app, id, vec![Bytes::from_static(body_of(id, 0, length))])
    }

    fn stream(app: &SimApp, id: u32, a: usize, pause_ms: usize, end: End) -> Self {
        let (left, frame_bytes) = frames_of(a);
        Self { left, frame_bytes, pause_ms, end, ..Self::of(app, id, Vec::new()) }
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.paused, false) {
            return Poll::Ready(());
        }
        match self.pause_ms {
            0 => cx.waker().wake_by_ref(),
            ms => {
                let pause = || Box::pin(tokio::time::sleep(Duration::from_millis(ms as u64)));
                ready!(self.pause.get_or_insert_with(pause).as_mut().poll(cx));
                self.pause = None;
                return Poll::Ready(());
            }
        }
        self.paused = true;
        Poll::Pending
    }
}

impl http_body::Body for SimBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.app.did();
        if let Some(pipe) = &mut self.pipe {
            return Pin::new(pipe).poll_frame(cx).map_err(Into::into);
        }
        if let Some(frame) = self.frames.pop() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        let streams = self.left > 0 || self.end != End::Complete;
        if streams {
            ready!(self.poll_pause(cx));
        }
        if self.left == 0 {
            return match self.end {
                End::Complete => Poll::Ready(None),
                End::Error => Poll::Ready(Some(Err("on purpose".into()))),
                End::Panic => panic_silently(),
            };
        }
        self.left -= 1;
        let frame = body_of(self.id, self.at, self.frame_bytes);
        self.at += self.frame_bytes;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(frame)))))
    }

    fn is_end_stream(&self) -> bool {
        self.pipe
            .as_ref()
            .map_or(self.frames.is_empty() && self.left == 0 && self.end == End::Complete, |pipe| pipe.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.pipe {
            Some(pipe) => pipe.size_hint(),
            // A stream does not know how long it will be.
            None if self.left > 0 || self.end != End::Complete => SizeHint::default(),
            None => SizeHint::with_exact(self.frames.iter().map(|frame| frame.len() as u64).sum()),
        }
    }
}
