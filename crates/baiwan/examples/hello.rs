//! The smallest app: `cargo run --release -p baiwan --example hello`, then `curl http://localhost:8080/`.

use axum::Router;
use axum::routing::get;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = Router::new().route("/", get(|| async { "hello" }));
    baiwan::serve("0.0.0.0:8080", app).await
}
