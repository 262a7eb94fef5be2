//! An HTML form, what it posts, and where it leads.

use std::io;

use axum::response::{Html, Redirect};
use axum::routing::get;
use axum::{Form, Router};
use serde::Deserialize;
use tokio::net::TcpListener;

use super::server;

#[derive(Deserialize)]
struct Input {
    name: String,
    email: Option<String>,
}

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/", get(show_form).post(accept_form))
        .route("/thanks", get(|| async { Html("<h1>Thanks</h1>") }))
        .route("/show", get(|Form(input): Form<Input>| async move { input.name }));
    server::serve(listener, app).await
}

async fn show_form() -> Html<&'static str> {
    Html("<form method=post><input name=name><input name=email><button>Send</button></form>")
}

async fn accept_form(Form(input): Form<Input>) -> Result<Redirect, Html<String>> {
    match input.email {
        Some(_) => Ok(Redirect::to("/thanks")),
        None => Err(Html(format!("{}, your address is missing", input.name))),
    }
}
