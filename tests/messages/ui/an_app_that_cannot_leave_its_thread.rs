//! A service with something in it that belongs to one thread.

use std::convert::Infallible;
use std::rc::Rc;

use axum::extract::Request;
use axum::response::Response;

fn main() {
    let here = Rc::new(());
    let app = tower::service_fn(move |_: Request| {
        let _here = Rc::clone(&here);
        async { Ok::<_, Infallible>(Response::<axum::body::Body>::default()) }
    });
    let _server = baiwan::serve("127.0.0.1:0", app);
}
