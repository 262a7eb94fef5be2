//! Files of a folder: ranges, conditions, types, an index, a page for what is not there, and an app's one page.

use std::io;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tower_http::services::{ServeDir, ServeFile};

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("index.html"), "<h1>Index</h1>")?;
    std::fs::write(file("script.js"), "alert(1)")?;
    std::fs::write(file("digits.txt"), "0123456789".repeat(10))?;
    std::fs::write(file("large.bin"), vec![7; 300_000])?;
    std::fs::create_dir(file("inner"))?;
    std::fs::write(file("inner/index.html"), "<h1>Inner</h1>")?;
    // The clock must not decide what is compared.
    for name in ["index.html", "script.js", "digits.txt", "large.bin", "inner/index.html"] {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        std::fs::File::options().write(true).open(file(name))?.set_modified(time)?;
    }
    let missing = (|| async { (StatusCode::NOT_FOUND, "no such file") }) as fn() -> _;
    let app = Router::new()
        .route("/api", get(|| async { "the api" }))
        .nest_service("/assets", ServeDir::new(folder.path()).not_found_service(get(missing)))
        .route_service("/one", ServeFile::new(file("digits.txt")))
        .fallback_service(ServeDir::new(folder.path()).fallback(ServeFile::new(file("index.html"))));
    server::serve(listener, app).await
}
