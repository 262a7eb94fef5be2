//! What cores do for each other, and for what handlers left behind, when a server stops.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use baiwan::EventLoop;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::rig::{Client, Rig, eventually, server};

/// The kernel spreads connections by a hash: so many of them miss one of two cores once in 2^99.
const CONNECTIONS_MAX: usize = 100;

/// A task on one core that answers for as long as somebody may ask, as the connection of a client does.
type Asking = mpsc::Sender<oneshot::Sender<&'static str>>;

#[derive(Clone)]
struct Shared {
    /// Where the task on the first core is asked.
    asking: Asking,
    /// Its other end, until the task has it.
    asked: Arc<std::sync::Mutex<Option<mpsc::Receiver<oneshot::Sender<&'static str>>>>>,
    go: Arc<Notify>,
}

/// Says when the app of a core was dropped.
struct OnDrop(std::sync::mpsc::SyncSender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

async fn keep(State(shared): State<Shared>) {
    let mut asked = shared.asked.lock().unwrap().take().unwrap();
    tokio::spawn(async move {
        while let Some(answer) = asked.recv().await {
            let _ = answer.send("from the first core");
        }
    });
}

async fn ask(State(shared): State<Shared>) -> &'static str {
    shared.go.notified().await;
    let (answer, answered) = oneshot::channel();
    match shared.asking.send(answer).await {
        Ok(()) => answered.await.unwrap_or("it was asked, and is gone"),
        Err(_) => "it is gone",
    }
}

/// A client on a core, by number.
fn connect_to(rig: &Rig, core: usize) -> Client<TcpStream> {
    for _ in 0..CONNECTIONS_MAX {
        let mut client = rig.connect();
        if client.get("/core").text() == core.to_string() {
            return client;
        }
    }
    panic!("core {core} did not take part");
}

pub(crate) fn a_core_that_is_done_serves_the_others_until_all_are(event_loop: EventLoop) {
    let (asking, asked) = mpsc::channel(1);
    let asked = Arc::new(std::sync::Mutex::new(Some(asked)));
    let go = Arc::new(Notify::new());
    let (dropped, is_dropped) = std::sync::mpsc::sync_channel(1);
    let on_drop = std::sync::Mutex::new(Some(Arc::new(OnDrop(dropped))));
    let (shared_asking, shared_go) = (asking.clone(), Arc::clone(&go));
    let rig = Rig::start_with(server(event_loop).workers(2), move |core| {
        let over = if core == 0 { on_drop.lock().unwrap().take() } else { None };
        let (asking, asked, go) = (shared_asking.clone(), Arc::clone(&asked), Arc::clone(&shared_go));
        let shared = Shared { asking, asked, go };
        Router::new()
            .route(
                "/core",
                get(move || {
                    let _ = &over;
                    async move { core.to_string() }
                }),
            )
            .route("/keep", get(keep))
            .route("/ask", get(ask))
            .with_state(shared)
    });
    let mut first = connect_to(&rig, 0);
    assert_eq!(first.get("/keep").status, 200);
    drop(first);
    let mut second = connect_to(&rig, 1);
    let before = rig.health.counts().requests;
    second.send("GET /ask HTTP/1.1\r\nHost: test\r\n\r\n");
    let health = rig.health.clone();
    eventually("it is taken in", || health.counts().requests == before + 1);
    let stopping = rig.begin_stop();
    is_dropped.recv().unwrap();
    // A core that is done without the others ends its runtime at once.
    std::thread::park_timeout(Duration::from_millis(50));
    go.notify_one();
    assert_eq!(second.answer(false).text(), "from the first core");
    drop((second, asking));
    stopping.join().unwrap().unwrap();
}
