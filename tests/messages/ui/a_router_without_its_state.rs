//! A router whose handlers ask for a state that nobody has given.

use axum::Router;
use axum::extract::State;
use axum::routing::get;

#[derive(Clone)]
struct Pool;

async fn handler(State(_): State<Pool>) {}

fn main() {
    let router: Router<Pool> = Router::new().route("/", get(handler));
    let _server = baiwan::serve("127.0.0.1:0", router);
}
