//! What is asked, and of whom: a URL taken apart.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use baiwan_http1::{BodyLength, RequestError, encode_request_head};
use http::{HeaderMap, Method, Uri};

const PORT_DEFAULT: u16 = 80;
const ALLOWED: &str = "http://HOST[:PORT]/path?query";

/// An `http` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As it was written.
    pub url: String,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl FromStr for Target {
    type Err = String;

    /// Takes a URL apart. The error says what is allowed.
    fn from_str(url: &str) -> Result<Self, String> {
        if url.starts_with("https:") {
            return Err(format!("{ALLOWED}; https is not supported yet"));
        }
        if url.starts_with("unix:") {
            return Err(format!("{ALLOWED}; for a Unix socket add --unix PATH"));
        }
        let uri: Uri = url.parse().map_err(|_| ALLOWED)?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or(ALLOWED)?;
        if authority.as_str().contains('@') {
            return Err(format!("{ALLOWED}; a name and password go into -H 'authorization: Basic …'"));
        }
        let has_port = authority.as_str().rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        let port = authority.port_u16().filter(|port| *port != 0);
        if authority.host().is_empty() || has_port && port.is_none() {
            return Err(format!("{ALLOWED} with a port from 1 to 65535"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
        Ok(Self {
            url: url.to_owned(),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: port.unwrap_or(PORT_DEFAULT),
            authority: authority.as_str().to_owned(),
            path,
        })
    }
}

impl Target {
    /// Looks the host up. Where a name has addresses of both versions of IP, one of IPv4 is taken: `localhost` is then what
    /// most servers listen on.
    ///
    /// # Errors
    ///
    /// The host is not known; one line.
    pub fn look_up(&self) -> Result<SocketAddr, String> {
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let mut found: Vec<SocketAddr> =
            found.map_err(|error| format!("{} is not known: {error}", self.host))?.collect();
        found.sort_by_key(|address| !address.is_ipv4());
        let address = found.first().ok_or_else(|| format!("{} has no address", self.host))?;
        // One cannot connect to "all addresses", though a server says that it listens there.
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port())),
            _ => Ok(*address),
        }
    }

    /// The bytes of a request, head and body. No body and no field for one, unless there is a body, empty or not.
    ///
    /// # Errors
    ///
    /// Method, target, fields and body do not make a request together.
    pub fn request(&self, method: &Method, headers: &HeaderMap, body: Option<&[u8]>) -> Result<Vec<u8>, RequestError> {
        let mut request = Vec::new();
        let length = body.map(|body| BodyLength::Exact(body.len() as u64));
        encode_request_head(&mut request, method, &self.path, &self.authority, headers, length)?;
        request.extend_from_slice(body.unwrap_or_default());
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_an_address_and_a_request() {
        for (url, address, head) in [
            ("http://127.0.0.1:8080/a?b=c", "127.0.0.1:8080", "GET /a?b=c HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\r\n"),
            ("http://127.0.0.1", "127.0.0.1:80", "GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"),
            ("http://[::1]:81?x", "[::1]:81", "GET /?x HTTP/1.1\r\nhost: [::1]:81\r\n\r\n"),
            ("http://0.0.0.0:8080/", "127.0.0.1:8080", "GET / HTTP/1.1\r\nhost: 0.0.0.0:8080\r\n\r\n"),
        ] {
            let target: Target = url.parse().unwrap();
            assert_eq!(target.look_up().unwrap().to_string(), address, "{url}");
            let request = target.request(&Method::GET, &HeaderMap::new(), None).unwrap();
            assert_eq!(String::from_utf8(request).unwrap(), head, "{url}");
        }
    }

    #[test]
    fn a_body_follows_its_length() {
        let target: Target = "http://localhost/".parse().unwrap();
        let request = target.request(&Method::POST, &HeaderMap::new(), Some(b"hello")).unwrap();
        let expected = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(String::from_utf8(request).unwrap(), expected);
    }

    #[test]
    fn other_urls_are_refused_with_what_is_allowed() {
        for (url, part) in [
            ("https://localhost/", "https is not supported yet"),
            ("unix:/run/app.sock", "--unix PATH"),
            ("localhost:8080/", "http://HOST"),
            ("/path", "http://HOST"),
            ("http://:80/", "http://HOST"),
            ("http://host:99999/", "http://HOST"),
            ("http://host:0/", "1 to 65535"),
            ("http://host:/", "1 to 65535"),
            ("http://me:secret@host/", "authorization"),
            ("ftp://host/", "http://HOST"),
        ] {
            let refused = url.parse::<Target>().expect_err(url);
            assert!(refused.contains(part) && !refused.contains("secret"), "{url}: {refused}");
        }
    }
}
