//! What a program says of a server's clients before it starts: who they are, and what each may take.

use std::num::NonZeroU32;
use std::time::Duration;

use baiwan_limits::{Networks, Proxies, Quota, RATE_MAX};
use http::HeaderName;

use super::Builder;
use crate::rate_limit::RateLimitMode;
use crate::settings::nearest_ipv6_prefix;

/// Who clients are, and what each may take.
impl Builder {
    /// Which peers are proxies that say who the client is. Default: none, and the client is the peer.
    ///
    /// Every request then has the extension [`ClientIp`](crate::ClientIp), which is an extractor, too; and the
    /// [records](Self::observe) name that client. [`Proxies`] says which fields are read, and how.
    ///
    /// # Example
    /// ```
    /// use axum::{Router, routing::get};
    /// use baiwan::ClientIp;
    ///
    /// let app = Router::new().route("/", get(|ClientIp(address): ClientIp| async move { format!("hello, {address}") }));
    /// let proxies = "10.0.0.0/8, 2001:db8:1::/48".parse()?;
    /// let server = baiwan::Server::builder().bind("127.0.0.1:0").trusted_proxies(proxies);
    /// # let running = server.start(app)?;
    /// # drop(running);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trusted_proxies(mut self, proxies: Proxies) -> Self {
        let field = proxies.field().or(self.settings.proxies.field()).cloned();
        self.settings.proxies = proxies.with_field(field);
        self
    }

    /// The one field in which [trusted proxies](Self::trusted_proxies) name the client, such as `CF-Connecting-IP`; see
    /// [`Proxies::with_field`]. Default: `X-Forwarded-For`, or without that `Forwarded`. Without a trusted proxy it is an error at
    /// start.
    pub fn client_ip_header(mut self, field: HeaderName) -> Self {
        self.settings.proxies = self.settings.proxies.with_field(field);
        self
    }

    /// Whether connections of [trusted proxies](Self::trusted_proxies) begin with the PROXY protocol, version 1 or 2, in which a proxy
    /// that forwards bytes says who has connected to it. Default no.
    ///
    /// Then that source is the peer in all respects: `ConnectInfo`, [`ClientIp`](crate::ClientIp), records, and whether its fields are
    /// believed. A header that names none (`LOCAL`, `UNKNOWN`) leaves the proxy as the peer. A header may have 4096 bytes and take the
    /// time of a [head](Self::header_timeout); a trusted proxy that sends something else gets a 400, `proxy-protocol-missing` or
    /// `proxy-protocol-malformed`. From other peers the protocol is refused as ever. Without a trusted proxy, and with
    /// [`EventLoop::Portable`](crate::EventLoop::Portable), it is an error at start.
    pub fn proxy_protocol(mut self, on: bool) -> Self {
        self.settings.proxy_protocol = on;
        self
    }

    /// How often each client may ask, by its address. Default `None`: as often as it likes. One request more is answered 429 with
    /// `Retry-After`, before the app hears of it, and its connection goes on. Not limited are clients over Unix sockets, requests for
    /// `/health` and `/health/*`, and CORS preflights. [`rate_limit_exempt`](Self::rate_limit_exempt) exempts others.
    ///
    /// # Example
    /// ```
    /// let server = baiwan::Server::builder()
    ///     .bind("127.0.0.1:0")
    ///     .rate_limit(Some("1000/min burst 100".parse()?))
    ///     .rate_limit_exempt("10.0.0.0/8, 127.0.0.1".parse()?);
    /// # let running = server.start(axum::Router::new())?;
    /// # drop(running);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rate_limit(mut self, quota: Option<Quota>) -> Self {
        (self.settings.rate_limit.quota, self.settings.rate_limit.burst) = (quota, None);
        self
    }

    /// Whether requests that are too many are refused, or only counted and named in the log. Default [`RateLimitMode::Enforce`].
    pub fn rate_limit_mode(mut self, mode: RateLimitMode) -> Self {
        self.settings.rate_limit.mode = mode;
        self
    }

    /// Clients that the [rate limit](Self::rate_limit) does not count. Default: none.
    pub fn rate_limit_exempt(mut self, networks: Networks) -> Self {
        self.settings.rate_limit.scope.exempt = networks;
        self
    }

    /// How many bits of an IPv6 address are one client to the [rate limit](Self::rate_limit). Default 64, which is what one subscriber has.
    /// At least 32 and at most 128: any other number counts as the nearer of the two.
    pub fn rate_limit_ipv6_prefix(mut self, bits: u8) -> Self {
        self.settings.rate_limit.scope.ipv6_prefix = nearest_ipv6_prefix(bits);
        self
    }

    /// How many connections one client may hold at once. One more is answered 429 (`too-many-connections-per-client`) and closed; where
    /// many are refused at the same time, by a reset. Default `None`, and 0 is the same: any number.
    ///
    /// A client is an IPv4 address, or the network of an IPv6 address. Peers over Unix sockets and trusted proxies are not limited; with the
    /// [PROXY protocol](Self::proxy_protocol) a connection counts as one of the client that its header names.
    ///
    /// # Example
    /// ```
    /// let server = baiwan::Server::builder().bind("127.0.0.1:0").max_connections_per_ip(Some(100));
    /// # let running = server.start(axum::Router::new())?;
    /// # drop(running);
    /// # Ok::<(), baiwan::Error>(())
    /// ```
    pub fn max_connections_per_ip(mut self, connections: Option<u32>) -> Self {
        self.settings.max_connections_per_ip = connections.and_then(NonZeroU32::new);
        self
    }

    /// How many new connections one client may open a second, and how many of them at once; refused as those beyond
    /// [`max_connections_per_ip`](Self::max_connections_per_ip). Default `None`, and 0 is the same: any number. More than 10,000 count as 10,000.
    pub fn new_connections_per_ip(mut self, per_second: Option<u32>) -> Self {
        let per_second = per_second.map(|per_second| per_second.min(RATE_MAX));
        self.settings.new_connections_per_ip = per_second.and_then(NonZeroU32::new);
        self
    }

    /// At which age a connection ends, so that long-lived clients reach new instances behind a load balancer. Default `None`: never.
    ///
    /// Ages are spread, so that connections that were opened together do not end together: over ±10 %, and over a minute where that is
    /// more, by ending earlier, down to a tenth of this age. From 55 s up, so, at most 2 % of the connections that were opened in one moment end in
    /// the same second.
    ///
    /// At its age, the next answer of a connection says `Connection: close`. One that is idle, and was for 5 seconds (or a tenth of this age, if that
    /// is less), is closed. Where a handler or its answer goes on, or another protocol such as WebSocket, [`Ending`](crate::Ending)
    /// completes; what is not over 30 seconds later is cut. An answer whose handler is done, and which its client still receives, is not:
    /// `WRITE_TIMEOUT` and `WRITE_MIN_RATE` bound it.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    ///
    /// let server = baiwan::Server::builder().bind("127.0.0.1:0").max_connection_age(Some(Duration::from_secs(1800)));
    /// # let running = server.start(axum::Router::new())?;
    /// # drop(running);
    /// # Ok::<(), baiwan::Error>(())
    /// ```
    pub fn max_connection_age(mut self, age: Option<Duration>) -> Self {
        self.settings.max_connection_age = age.filter(|age| !age.is_zero());
        self
    }

    /// How many requests a connection may ask; the last answer says `Connection: close`. What a client has sent behind that request is not
    /// answered (RFC 9112, section 9.3.2, has it ask again). Default `None`, and 0 is the same: any number.
    pub fn max_connection_requests(mut self, requests: Option<u32>) -> Self {
        self.settings.max_connection_requests = requests.and_then(NonZeroU32::new);
        self
    }
}
