//! State that must be one, shared by handlers on two cores: a broadcast channel and a table behind a mutex.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Sse;
use axum::response::sse::Event;
use axum::routing::{get, post};
use baiwan::EventLoop;
use futures_util::{Stream, stream};
use tokio::sync::broadcast;

use crate::rig::{Rig, eventually, server};

/// The kernel spreads connections by a hash: so many of them miss one of two cores once in 2^99.
const CONNECTIONS_MAX: usize = 100;

struct Hub {
    news: broadcast::Sender<String>,
    /// The thread that serves each subscriber.
    subscribers: Mutex<HashMap<usize, String>>,
}

fn thread_name() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

/// A subscriber is in the table for as long as its answer lasts.
struct Seat {
    hub: Arc<Hub>,
    number: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.subscribers.lock().unwrap().remove(&self.number);
    }
}

async fn subscribe(
    State(hub): State<Arc<Hub>>,
    Path(number): Path<usize>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let receiver = hub.news.subscribe();
    hub.subscribers.lock().unwrap().insert(number, thread_name());
    let seat = Seat { hub, number };
    Sse::new(stream::unfold((receiver, seat), |(mut receiver, seat)| async {
        let text = receiver.recv().await.ok()?;
        Some((Ok(Event::default().data(text)), (receiver, seat)))
    }))
}

async fn publish(State(hub): State<Arc<Hub>>, text: String) -> String {
    hub.news.send(text).unwrap();
    thread_name()
}

pub(crate) fn a_hub_connects_clients_of_two_cores(event_loop: EventLoop) {
    let hub = Arc::new(Hub { news: broadcast::channel(16).0, subscribers: Mutex::default() });
    let app = Router::new()
        .route("/subscribe/{number}", get(subscribe))
        .route("/publish", post(publish))
        .with_state(Arc::clone(&hub));
    let rig = Rig::start(server(event_loop).workers(2), app);
    let cores = BTreeSet::from(["baiwan-core-0".to_owned(), "baiwan-core-1".to_owned()]);

    let mut subscribers = Vec::new();
    let subscribing = || hub.subscribers.lock().unwrap().values().cloned().collect::<BTreeSet<_>>();
    while subscribing() != cores {
        assert!(subscribers.len() < CONNECTIONS_MAX, "only {:?} took part", subscribing());
        let mut client = rig.connect();
        client.send(format!("GET /subscribe/{} HTTP/1.1\r\nHost: test\r\n\r\n", subscribers.len()));
        assert_eq!(client.head().status, 200);
        subscribers.push(client);
    }

    let mut publishing = BTreeSet::new();
    for number in 0.. {
        if publishing == cores {
            break;
        }
        assert!(number < CONNECTIONS_MAX, "only {publishing:?} took part");
        publishing.insert(rig.connect().post("/publish", &format!("news {number}")).text().to_owned());
        for subscriber in &mut subscribers {
            let chunk = subscriber.chunk().unwrap();
            assert_eq!(String::from_utf8(chunk).unwrap(), format!("data: news {number}\n\n"));
        }
    }

    drop(subscribers);
    eventually("all subscribers have left", || subscribing().is_empty());
    rig.stop();
}
