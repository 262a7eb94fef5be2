//! Redirects of each kind, and one of every plain request to another host.

use std::io;

use axum::Router;
use axum::extract::Request;
use axum::handler::HandlerWithoutStateExt;
use axum::http::{HeaderMap, StatusCode, Uri, uri::Authority, uri::Scheme};
use axum::response::Redirect;
use axum::routing::get;
use tokio::net::TcpListener;

use super::server;

pub(crate) async fn main(plain: TcpListener, secure: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/to", get(|| async { Redirect::to("/target?x=1") }))
        .route("/permanent", get(|| async { Redirect::permanent("/target") }))
        .route("/temporary", get(|| async { Redirect::temporary("http://other.example/") }))
        .route("/target", get(|request: Request| async move { request.uri().to_string() }));
    tokio::spawn(async move { server::serve(plain, to_https.into_make_service()).await });
    server::serve(secure, app).await
}

async fn to_https(headers: HeaderMap, uri: Uri) -> Result<Redirect, StatusCode> {
    let host = headers.get("host").and_then(|host| host.to_str().ok()).ok_or(StatusCode::BAD_REQUEST)?;
    let mut parts = uri.into_parts();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(host.parse::<Authority>().map_err(|_| StatusCode::BAD_REQUEST)?);
    let uri = Uri::from_parts(parts).map_err(|_| StatusCode::BAD_REQUEST)?;
    Ok(Redirect::permanent(&uri.to_string()))
}
