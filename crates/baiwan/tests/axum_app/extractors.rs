//! axum's extractors, and its routing.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, MatchedPath, Path, Query, State};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use baiwan::EventLoop;
use serde::{Deserialize, Serialize};

use crate::rig::{Rig, server};

#[derive(Deserialize)]
struct Page {
    limit: u32,
    after: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct User {
    name: String,
    age: u8,
}

struct Settings {
    greeting: &'static str,
}

fn app() -> Router {
    let page = |Path((shop, item)): Path<(String, u32)>, Query(page): Query<Page>| async move {
        format!("{shop} {item} {} {:?}", page.limit, page.after)
    };
    let older = |Json(user): Json<User>| async move { Json(User { age: user.age + 1, ..user }) };
    let greeting = |State(settings): State<Arc<Settings>>| async move { settings.greeting };
    Router::new()
        .route("/shops/{shop}/items/{item}", get(page))
        .route("/users", post(older))
        .route("/form", post(|Form(user): Form<User>| async move { user.name }))
        .route("/bytes", post(|bytes: Bytes| async move { bytes.len().to_string() }))
        .route("/greeting", get(greeting))
        .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
        .route("/matched/{anything}", get(|path: MatchedPath| async move { path.as_str().to_owned() }))
        .with_state(Arc::new(Settings { greeting: "good day" }))
}

pub(crate) fn extractors_give_what_the_request_says(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop), app());
    let mut client = rig.connect();
    let answer = client.get("/shops/tea%20house/items/7?limit=20&after=a%26b");
    assert_eq!(answer.text(), r#"tea house 7 20 Some("a&b")"#);

    let json = "Content-Type: application/json\r\n";
    let answer = client.ask("POST", "/users", json, r#"{"name":"Ada","age":36}"#);
    assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/json")));
    assert_eq!(answer.text(), r#"{"name":"Ada","age":37}"#);

    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(client.ask("POST", "/form", form, "name=Ada+L%C3%B6we&age=36").text(), "Ada Löwe");
    assert_eq!(client.post("/bytes", &"b".repeat(1_000_000)).text(), "1000000");
    assert_eq!(client.get("/greeting").text(), "good day");
    assert_eq!(client.get("/matched/x").text(), "/matched/{anything}");
    drop(client);
    rig.stop();
}

pub(crate) fn an_extractor_that_refuses_answers_itself(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop), app());
    let mut client = rig.connect();
    assert_eq!(client.get("/shops/x/items/seven?limit=1").status, 400);
    assert_eq!(client.get("/shops/x/items/7").status, 400);
    assert_eq!(client.post("/users", "{}").status, 415);
    let json = "Content-Type: application/json\r\n";
    assert_eq!(client.ask("POST", "/users", json, "{").status, 400);
    assert_eq!(client.ask("POST", "/users", json, r#"{"name":"Ada"}"#).status, 422);
    // As with axum alone.
    assert_eq!(client.post("/bytes", &"b".repeat(2 << 20)).text(), (2 << 20).to_string());
    assert_eq!(client.post("/bytes", &"b".repeat((2 << 20) + 1)).status, 413);
    drop(client);
    rig.stop();
}

pub(crate) fn connect_info_is_the_address_of_the_client(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop), app());
    let (mut one, mut other) = (rig.connect(), rig.connect());
    assert_eq!(one.get("/peer").text(), one.local_address().to_string());
    assert_eq!(other.get("/peer").text(), other.local_address().to_string());
    drop((one, other));
    rig.stop();
}

pub(crate) fn methods_and_paths_are_matched_as_axum_does(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop), app());
    let mut client = rig.connect();
    assert_eq!(client.get("/nowhere").status, 404);
    let answer = client.ask("DELETE", "/greeting", "", "");
    assert_eq!((answer.status, answer.field("allow")), (405, Some("GET,HEAD")));
    let answer = client.ask("HEAD", "/greeting", "", "");
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("8")));
    assert_eq!(client.get("/greeting").text(), "good day", "a HEAD leaves nothing behind");
    drop(client);
    rig.stop();
}
