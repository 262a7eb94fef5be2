//! Sessions by cookies, made by hand: login, a page for members, logout.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use axum::extract::{FromRef, FromRequestParts, OptionalFromRequestParts, State};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use serde::Deserialize;
use std::convert::Infallible;
use tokio::net::TcpListener;

use super::server;

type Sessions = Arc<Mutex<HashMap<String, String>>>;

#[derive(Deserialize)]
struct Login {
    name: String,
}

struct User {
    name: String,
    session: String,
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for User
where
    Sessions: FromRef<S>,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Infallible> {
        let cookies = parts.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let session = cookies.flat_map(|value| value.split("; ")).find_map(|cookie| cookie.strip_prefix("session="));
        let sessions = Sessions::from_ref(state);
        let user = session.and_then(|session| {
            let name = sessions.lock().unwrap().get(session).cloned()?;
            Some(Self { name, session: session.to_owned() })
        });
        Ok(user)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for User
where
    Sessions: FromRef<S>,
{
    type Rejection = Redirect;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Redirect> {
        let user = <Self as OptionalFromRequestParts<S>>::from_request_parts(parts, state).await;
        user.ok().flatten().ok_or_else(|| Redirect::temporary("/login"))
    }
}

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app =
        Router::new()
            .route(
                "/",
                get(|user: Option<User>| async move {
                    user.map_or("nobody".to_owned(), |user| format!("hello {}", user.name))
                }),
            )
            .route("/members", get(|user: User| async move { format!("only for {}", user.name) }))
            .route("/login", post(login))
            .route("/logout", post(logout))
            .with_state(Sessions::default());
    server::serve(listener, app).await
}

async fn login(State(sessions): State<Sessions>, Form(login): Form<Login>) -> Response {
    let session = format!("s{}", sessions.lock().unwrap().len());
    let cookie = format!("session={session}; HttpOnly; SameSite=Lax; Path=/");
    sessions.lock().unwrap().insert(session, login.name);
    ([(SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

async fn logout(State(sessions): State<Sessions>, user: User) -> impl IntoResponse {
    sessions.lock().unwrap().remove(&user.session);
    ([(SET_COOKIE, "session=; Max-Age=0")], "bye")
}
