//! Requests made up from the grammar, what a server must see of them, and ways to spoil them.

use baiwan_http1::BodyFraming;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A valid request.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: &'static str,
    /// Names and values in the order of their lines, without Host and framing.
    pub(crate) fields: Vec<(String, String)>,
    /// Before which of the fields Host stands.
    host: Index,
    pub(crate) body: Body,
}

/// A body, as it is framed.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    None,
    Length(Vec<u8>),
    /// Each chunk with its extensions; then trailers.
    Chunked(Vec<(Vec<u8>, String)>, Vec<(String, String)>),
}

impl Body {
    pub(crate) fn framing(&self) -> BodyFraming {
        match self {
            Body::Length(data) if !data.is_empty() => BodyFraming::Length(data.len() as u64),
            Body::None | Body::Length(_) => BodyFraming::None,
            Body::Chunked(..) => BodyFraming::Chunked,
        }
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        match self {
            Body::None => Vec::new(),
            Body::Length(data) => data.clone(),
            Body::Chunked(chunks, _) => chunks.iter().flat_map(|chunk| chunk.0.clone()).collect(),
        }
    }

    pub(crate) fn trailers(&self) -> &[(String, String)] {
        if let Body::Chunked(_, trailers) = self { trailers } else { &[] }
    }

    /// The bytes after the head.
    pub(crate) fn wire(&self) -> Vec<u8> {
        let Body::Chunked(chunks, trailers) = self else { return self.data() };
        let mut wire = Vec::new();
        for (data, extensions) in chunks {
            wire.extend_from_slice(format!("{:x}{extensions}\r\n", data.len()).as_bytes());
            wire.extend_from_slice(data);
            wire.extend_from_slice(b"\r\n");
        }
        let trailers: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        wire.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        wire
    }
}

impl Made {
    /// The bytes of the head.
    pub(crate) fn head(&self) -> Vec<u8> {
        let framing = match &self.body {
            Body::None => String::new(),
            Body::Length(data) => format!("Content-Length: {}\r\n", data.len()),
            Body::Chunked(..) => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        let host = self.host.index(self.fields.len() + 1);
        let mut lines: Vec<String> = self.fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
        lines.insert(host, "Host: a.example:80\r\n".to_owned());
        let line = format!("{} {} {}\r\n", self.method, self.target, self.version);
        [line, lines.concat(), framing, "\r\n".to_owned()].concat().into_bytes()
    }

    /// The bytes of the whole request.
    pub(crate) fn wire(&self) -> Vec<u8> {
        [self.head(), self.body.wire()].concat()
    }
}

/// What `regex` describes. The expression is compiled here once, not for each value.
pub(crate) fn text(regex: &str) -> impl Strategy<Value = String> + use<> {
    prop::string::string_regex(regex).expect("a regular expression")
}

/// Requests that are valid in every respect.
pub(crate) fn request() -> impl Strategy<Value = Made> {
    let target =
        prop_oneof![text("/[a-z0-9._~!$&'()*+,;=:@%/{|}^-]{0,20}"), text("/[a-z]{0,3}\\?[a-z0-9/?&=%{|}^-]{0,10}")];
    let method_and_target = prop_oneof![
        6 => (text("GET|HEAD|POST|PUT|[A-Z!#$%&'*+.^_`|~-]{1,6}|PROPPATCH"), target),
        1 => (Just("OPTIONS".to_owned()), Just("*".to_owned())),
        1 => (Just("GET".to_owned()), text("http://A\\.example(:80)?(/[a-z]{0,3})?(\\?[a-z]{0,3})?")),
    ];
    let version = select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.4"]);
    (method_and_target, version, prop::collection::vec(field(), 0..6), any::<Index>(), body()).prop_map(
        |((method, target), version, fields, host, body)| {
            let body = match body {
                // RFC 9112 6.1: not in HTTP/1.0.
                Body::Chunked(..) if version == "HTTP/1.0" => Body::None,
                body => body,
            };
            Made { method, target, version, fields, host, body }
        },
    )
}

/// A field of which nothing needs to be known but its bytes, or one that says something of the connection.
pub(crate) fn field() -> impl Strategy<Value = (String, String)> {
    let known = select(vec![
        ("Connection", " close"),
        ("connection", "keep-alive, x-a"),
        ("CONNECTION", "\tupgrade "),
        ("Upgrade", " h2c, foo/1"),
        ("Expect", " 100-Continue"),
        ("TE", " trailers"),
    ]);
    prop_oneof![
        4 => (text("x-[A-Za-z0-9!#$%&'*+.^_`|~-]{0,8}"), text("[ \t]{0,2}([!-~é]([ -~é\t]{0,12}[!-~é])?)?[ \t]{0,2}")),
        1 => known.prop_map(|(name, value)| (name.to_owned(), value.to_owned())),
    ]
}

pub(crate) fn body() -> impl Strategy<Value = Body> {
    let extensions = text("([ \t]?;[ \t]?[a-z!#$]{1,3}([ \t]?=[ \t]?([a-z0-9]{1,3}|\"([ a-z;]|\\\\\"){0,4}\"))?){0,2}");
    let chunks = prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), extensions), 0..5);
    let trailers = prop::collection::vec((text("x-[a-z]{0,3}"), text("[a-z0-9]{0,5}")), 0..3);
    prop_oneof![
        1 => Just(Body::None),
        2 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Body::Length),
        3 => (chunks, trailers).prop_map(|(chunks, trailers)| Body::Chunked(chunks, trailers)),
    ]
}

/// One change to valid bytes.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Remove(Index),
    Insert(Index, u8),
    Replace(Index, u8),
    /// Inserts a copy of a part in another place.
    Copy(Index, Index, Index),
    Truncate(Index),
    /// Inserts a line after the end of another.
    Line(Index, &'static str),
}

/// Lines that say something of framing or routing, once too often or not as they should.
const LINES: &[&str] = &[
    "Host: a.example\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "content-length: 03\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Expect:\r\n",
    "transfer-encoding: chunked\t\r\n",
    " folded\r\n",
    "x-a : b\r\n",
    "x-b: c\n",
    "Upgrade: websocket\r\n",
    "\r\n",
];

/// Few enough changes that what is spoiled stays close to valid, and sometimes none.
pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let byte = prop_oneof![4 => select(&b"\r\n \t:,;=\"/0159aAf\0\x7f\xff"[..]), 1 => any::<u8>()];
    let index = any::<Index>;
    let change = prop_oneof![
        3 => index().prop_map(Change::Remove),
        3 => (index(), byte.clone()).prop_map(|(index, byte)| Change::Insert(index, byte)),
        3 => (index(), byte).prop_map(|(index, byte)| Change::Replace(index, byte)),
        2 => (index(), index(), index()).prop_map(|(start, end, to)| Change::Copy(start, end, to)),
        1 => index().prop_map(Change::Truncate),
        3 => (index(), select(LINES)).prop_map(|(index, line)| Change::Line(index, line)),
    ];
    prop::collection::vec(change, 0..4)
}

/// `bytes`, changed.
pub(crate) fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let place = |index: &Index| index.index(bytes.len() + 1);
        match change {
            Change::Insert(index, byte) => bytes.insert(place(index), *byte),
            Change::Truncate(index) => bytes.truncate(place(index)),
            Change::Line(index, line) => {
                let ends: Vec<usize> = memchr::memchr_iter(b'\n', &bytes).map(|end| end + 1).chain([0]).collect();
                let place = *index.get(&ends);
                bytes.splice(place..place, line.bytes());
            }
            Change::Copy(one, other, to) => {
                let (one, other, to) = (place(one), place(other), place(to));
                let part = bytes[one.min(other)..one.max(other)].to_vec();
                bytes.splice(to..to, part);
            }
            Change::Remove(_) | Change::Replace(..) if bytes.is_empty() => {}
            Change::Remove(index) => drop(bytes.remove(index.index(bytes.len()))),
            Change::Replace(index, byte) => {
                let index = index.index(bytes.len());
                bytes[index] = *byte;
            }
        }
    }
    bytes
}
