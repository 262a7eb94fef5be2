//! A maker of services that is not one of axum's.

use axum::Router;

fn main() {
    let make = tower::make::Shared::new(Router::<()>::new());
    let _server = baiwan::serve("127.0.0.1:0", make);
}
