//! What a core notes of an exchange, as bytes: numbers of fixed size, then texts with their length before them.
//!
//! The invariant: what [`Record::decode`] reads is what [`Record::encode`] has written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::status::CloseReason;

/// Bytes of a path that are kept.
pub(super) const PATH_BYTES_MAX: usize = 256;
/// Bytes of any other text that are kept.
const TEXT_BYTES_MAX: usize = 255;
/// Numbers, an IPv6 address, and six texts with their lengths: no record is longer.
pub(super) const RECORD_BYTES_MAX: usize = 128 + PATH_BYTES_MAX + 5 * TEXT_BYTES_MAX;

/// An exchange that has ended. Texts that are not known are empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record<'a> {
    /// Since the log was begun.
    pub(super) ended_ns: u64,
    pub(super) duration_ns: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// How many exchanges it stands for.
    pub(super) weight: u64,
    /// 0 where no head of an answer was made.
    pub(super) status: u16,
    pub(super) end: End,
    pub(super) client: SocketAddr,
    pub(super) method: &'a [u8],
    pub(super) route: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) request_id: &'a [u8],
    pub(super) trace_id: &'a [u8],
    pub(super) denied: &'a [u8],
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Answered,
    Denied,
    Closed(CloseReason),
}

impl End {
    /// The number of the first reason.
    const CLOSED: u8 = 2;

    fn number(self) -> u8 {
        match self {
            Self::Answered => 0,
            Self::Denied => 1,
            Self::Closed(reason) => Self::CLOSED + reason as u8,
        }
    }

    fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Answered),
            1 => Some(Self::Denied),
            _ => CloseReason::ALL.get(usize::from(number - Self::CLOSED)).copied().map(Self::Closed),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Denied => "denied",
            Self::Closed(reason) => reason.name(),
        }
    }
}

impl<'a> Record<'a> {
    /// Appends it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.ended_ns, self.duration_ns, self.bytes_in, self.bytes_out, self.weight] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.status.to_le_bytes());
        out.push(self.end.number());
        out.extend_from_slice(&self.client.port().to_le_bytes());
        match self.client.ip() {
            IpAddr::V4(ip) => push_text(out, &ip.octets()),
            IpAddr::V6(ip) => push_text(out, &ip.octets()),
        }
        let path = &self.path[..self.path.len().min(PATH_BYTES_MAX)];
        out.extend_from_slice(&(path.len() as u16).to_le_bytes());
        out.extend_from_slice(path);
        for text in [self.method, self.route, self.request_id, self.trace_id, self.denied] {
            push_text(out, text);
        }
    }

    /// Takes the first record off `input`. None where there is no whole one.
    pub(super) fn decode(input: &mut &'a [u8]) -> Option<Self> {
        let mut number = || take(input).map(u64::from_le_bytes);
        let (ended_ns, duration_ns, bytes_in, bytes_out, weight) =
            (number()?, number()?, number()?, number()?, number()?);
        let status = take(input).map(u16::from_le_bytes)?;
        let [end] = take(input)?;
        let port = take(input).map(u16::from_le_bytes)?;
        let ip = take_text(input)?;
        let ip = match (<[u8; 4]>::try_from(ip), <[u8; 16]>::try_from(ip)) {
            (Ok(octets), _) => IpAddr::V4(Ipv4Addr::from(octets)),
            (_, Ok(octets)) => IpAddr::V6(Ipv6Addr::from(octets)),
            _ => return None,
        };
        let path_bytes = take(input).map(u16::from_le_bytes)?;
        let path = take_bytes(input, path_bytes.into())?;
        let mut text = || take_text(input);
        let (method, route, request_id, trace_id, denied) = (text()?, text()?, text()?, text()?, text()?);
        let (end, client) = (End::of(end)?, SocketAddr::new(ip, port));
        let times = (ended_ns, duration_ns);
        Some(Self {
            ended_ns: times.0,
            duration_ns: times.1,
            bytes_in,
            bytes_out,
            weight,
            status,
            end,
            client,
            method,
            route,
            path,
            request_id,
            trace_id,
            denied,
        })
    }
}

fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    let text = &text[..text.len().min(TEXT_BYTES_MAX)];
    out.push(text.len() as u8);
    out.extend_from_slice(text);
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*taken)
}

fn take_bytes<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(count)?;
    *input = rest;
    Some(taken)
}

fn take_text<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let [length] = take(input)?;
    take_bytes(input, length.into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::access_log) fn record() -> Record<'static> {
        Record {
            ended_ns: 1,
            duration_ns: 1_234_567,
            bytes_in: 78,
            bytes_out: 90,
            weight: 1,
            status: 200,
            end: End::Answered,
            client: "192.0.2.1:4711".parse().unwrap(),
            method: b"GET",
            route: b"/users/{id}",
            path: b"/users/7",
            request_id: b"0123456789abcdef0123456789abcdef",
            trace_id: b"",
            denied: b"",
        }
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let ends = CloseReason::ALL.map(End::Closed).into_iter().chain([End::Answered, End::Denied]);
        let mut records: Vec<_> = ends.map(|end| Record { end, ..record() }).collect();
        records.push(Record { client: "[2001:db8::1]:1".parse().unwrap(), status: 0, method: b"", ..record() });
        records.push(Record { weight: u64::MAX, bytes_out: u64::MAX, path: &[0xff; PATH_BYTES_MAX], ..record() });
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.encode(&mut bytes));
        let mut rest = &bytes[..];
        for record in &records {
            assert_eq!(Record::decode(&mut rest).as_ref(), Some(record));
        }
        assert!(rest.is_empty() && Record::decode(&mut rest).is_none());
    }

    #[test]
    fn no_record_is_longer_than_its_maximum_and_a_part_of_one_is_none() {
        let long = &[b'x'; 1 << 20][..];
        let client = "[::1]:1".parse().unwrap();
        let texts = Record {
            method: long,
            route: long,
            path: long,
            request_id: long,
            trace_id: long,
            denied: long,
            ..record()
        };
        let mut bytes = Vec::new();
        Record { client, ..texts }.encode(&mut bytes);
        assert!(bytes.len() <= RECORD_BYTES_MAX, "{}", bytes.len());
        for end in 0..bytes.len() {
            assert_eq!(Record::decode(&mut &bytes[..end]), None);
        }
        assert_eq!(Record::decode(&mut &bytes[..]).unwrap().path.len(), PATH_BYTES_MAX);
    }
}
