//! A layer that tells an app behind proxies who its client is, on any server that says who its peer is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::ConnectInfo;
use axum::extract::connect_info::MockConnectInfo;
use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use crate::client_ip::ClientIp;
use crate::proxies::Proxies;

/// Inserts the extension [`ClientIp`] into every request: the peer in axum's `ConnectInfo<SocketAddr>`, or whom that names as the client
/// if it is a trusted proxy. A request without `ConnectInfo` goes on as it is.
///
/// The server `baiwan` does the same by itself where `TRUSTED_PROXIES` is set; this layer is for others. If both do it, the layer wins.
///
/// # Example
/// ```
/// use std::net::SocketAddr;
///
/// use axum::Router;
/// use axum::routing::get;
/// use baiwan_limits::{ClientIp, ClientIpLayer};
///
/// let app = Router::new()
///     .route("/", get(|ClientIp(address): ClientIp| async move { format!("hello, {address}") }))
///     .layer(ClientIpLayer::new("10.0.0.0/8".parse().expect("a list")));
/// // axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
/// # let _ = app.into_make_service_with_connect_info::<SocketAddr>();
/// ```
#[derive(Clone, Debug)]
pub struct ClientIpLayer(Arc<Proxies>);

impl ClientIpLayer {
    /// A layer that believes these proxies.
    pub fn new(proxies: Proxies) -> Self {
        Self(Arc::new(proxies))
    }
}

impl<S> Layer<S> for ClientIpLayer {
    type Service = ClientIpService<S>;

    fn layer(&self, inner: S) -> ClientIpService<S> {
        ClientIpService { inner, proxies: Arc::clone(&self.0) }
    }
}

/// What a [`ClientIpLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct ClientIpService<S> {
    inner: S,
    proxies: Arc<Proxies>,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for ClientIpService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(peer) = peer(&request) {
            let client = self.proxies.client(peer.ip(), request.headers());
            request.extensions_mut().insert(ClientIp(client.ip));
        }
        self.inner.call(request)
    }
}

fn peer<B>(request: &Request<B>) -> Option<SocketAddr> {
    let extensions = request.extensions();
    let connected = extensions.get::<ConnectInfo<SocketAddr>>().map(|connected| connected.0);
    connected.or_else(|| extensions.get::<MockConnectInfo<SocketAddr>>().map(|mock| mock.0))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn client(app: Router, peer: Option<&str>, field: &str) -> (u16, String) {
        let mut request = Request::builder().header("x-forwarded-for", field).body(Body::empty()).unwrap();
        if let Some(peer) = peer {
            let peer: SocketAddr = peer.parse().unwrap();
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        let response = app.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn app() -> Router {
        let handler = |ClientIp(address): ClientIp| async move { address.to_string() };
        Router::new().route("/", get(handler)).layer(ClientIpLayer::new("10.0.0.0/8".parse().unwrap()))
    }

    #[tokio::test]
    async fn a_handler_reads_the_client_behind_trusted_proxies_and_else_the_peer() {
        let through_proxy = client(app(), Some("10.0.0.1:80"), "6.6.6.6, 192.0.2.1, 10.0.0.2").await;
        assert_eq!(through_proxy, (200, "192.0.2.1".into()));
        assert_eq!(client(app(), Some("192.0.2.9:80"), "6.6.6.6").await, (200, "192.0.2.9".into()));
    }

    #[tokio::test]
    async fn a_peer_may_be_mocked() {
        let peer: SocketAddr = "10.0.0.1:80".parse().unwrap();
        let app = app().layer(MockConnectInfo(peer));
        assert_eq!(client(app, None, "192.0.2.1").await, (200, "192.0.2.1".into()));
    }

    #[tokio::test]
    async fn a_server_that_does_not_name_its_peers_is_told_so() {
        let (status, text) = client(app(), None, "192.0.2.1").await;
        assert_eq!(status, 500);
        assert!(text.contains("into_make_service_with_connect_info"), "{text}");
    }
}
