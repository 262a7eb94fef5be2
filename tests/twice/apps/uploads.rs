//! A form with files: multipart bodies, and what is said of wrong ones.

use std::io;

use axum::Router;
use axum::extract::multipart::MultipartError;
use axum::extract::{DefaultBodyLimit, Multipart};
use axum::routing::post;
use tokio::net::TcpListener;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/", post(accept_form))
        .route("/small", post(accept_form).layer(DefaultBodyLimit::max(200)));
    server::serve(listener, app).await
}

async fn accept_form(mut multipart: Multipart) -> Result<String, MultipartError> {
    let mut seen = String::new();
    while let Some(field) = multipart.next_field().await? {
        let name = field.name().unwrap_or("?").to_owned();
        let file = field.file_name().map(str::to_owned);
        let kind = field.content_type().map(str::to_owned);
        let data = field.bytes().await?;
        seen += &format!("{name} {file:?} {kind:?}: {} bytes\n", data.len());
    }
    Ok(seen)
}
