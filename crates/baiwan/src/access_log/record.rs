//! What a core notes of an exchange, as bytes: numbers, the lengths of texts among them, then the texts.
//!
//! The invariant: what [`Record::decode`] reads is what [`Record::encode`] has written.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::status::CloseReason;

/// Bytes of a path that are kept.
pub(crate) const PATH_BYTES_MAX: usize = 256;
/// Bytes of any other text that are kept.
const TEXT_BYTES_MAX: usize = 255;
/// No record is longer.
pub(super) const RECORD_BYTES_MAX: usize = place::ALL + PATH_BYTES_MAX + 5 * TEXT_BYTES_MAX;

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

/// Where the numbers of a record stand. Its texts follow, one behind the other.
mod place {
    use std::ops::Range;

    pub(super) const ENDED: Range<usize> = 0..8;
    pub(super) const DURATION: Range<usize> = 8..16;
    pub(super) const BYTES_IN: Range<usize> = 16..24;
    pub(super) const BYTES_OUT: Range<usize> = 24..32;
    pub(super) const WEIGHT: Range<usize> = 32..40;
    pub(super) const IP: Range<usize> = 40..56;
    pub(super) const PORT: Range<usize> = 56..58;
    pub(super) const STATUS: Range<usize> = 58..60;
    pub(super) const PATH_LENGTH: Range<usize> = 60..62;
    pub(super) const END: usize = 62;
    /// Of method, route, request id, trace id and denial.
    pub(super) const LENGTHS: Range<usize> = 63..68;
    pub(super) const ALL: usize = 68;
}

impl<'a> Record<'a> {
    /// Writes it to the beginning of `out`. Returns its length.
    #[inline]
    pub(super) fn encode(&self, out: &mut [u8; RECORD_BYTES_MAX]) -> usize {
        let path = cut(self.path, PATH_BYTES_MAX);
        let texts = [self.method, self.route, self.request_id, self.trace_id, self.denied];
        let texts = texts.map(|text| cut(text, TEXT_BYTES_MAX));
        let (numbers, mut rest) = out.split_at_mut(place::ALL);
        for (place, number) in [
            (place::ENDED, self.ended_ns),
            (place::DURATION, self.duration_ns),
            (place::BYTES_IN, self.bytes_in),
            (place::BYTES_OUT, self.bytes_out),
            (place::WEIGHT, self.weight),
        ] {
            numbers[place].copy_from_slice(&number.to_le_bytes());
        }
        let ip = match self.client.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        numbers[place::IP].copy_from_slice(&ip.octets());
        for (place, number) in
            [(place::PORT, self.client.port()), (place::STATUS, self.status), (place::PATH_LENGTH, path.len() as u16)]
        {
            numbers[place].copy_from_slice(&number.to_le_bytes());
        }
        numbers[place::END] = self.end.number();
        numbers[place::LENGTHS].copy_from_slice(&texts.map(|text| text.len() as u8));
        let [method, route, request_id, trace_id, denied] = texts;
        let mut length = place::ALL;
        for text in [path, method, route, request_id, trace_id, denied] {
            if !text.is_empty() {
                let (taken, left) = rest.split_at_mut(text.len());
                taken.copy_from_slice(text);
                (length, rest) = (length + text.len(), left);
            }
        }
        length
    }

    /// Takes the first record off `input`. None where there is no whole one.
    pub(super) fn decode(input: &mut &'a [u8]) -> Option<Self> {
        let (numbers, mut rest) = input.split_first_chunk::<{ place::ALL }>()?;
        let long = |place: std::ops::Range<usize>| numbers[place].try_into().map(u64::from_le_bytes).ok();
        let short = |place: std::ops::Range<usize>| numbers[place].try_into().map(u16::from_le_bytes).ok();
        let mut take = |count: usize| {
            let (taken, behind) = rest.split_at_checked(count)?;
            rest = behind;
            Some(taken)
        };
        let path = take(short(place::PATH_LENGTH)?.into())?;
        let [method, route, request_id, trace_id, denied] = <[u8; 5]>::try_from(&numbers[place::LENGTHS]).ok()?;
        let mut text = |length: u8| take(length.into());
        let record = Self {
            ended_ns: long(place::ENDED)?,
            duration_ns: long(place::DURATION)?,
            bytes_in: long(place::BYTES_IN)?,
            bytes_out: long(place::BYTES_OUT)?,
            weight: long(place::WEIGHT)?,
            status: short(place::STATUS)?,
            end: End::of(numbers[place::END])?,
            client: SocketAddr::new(
                Ipv6Addr::from(<[u8; 16]>::try_from(&numbers[place::IP]).ok()?).to_canonical(),
                short(place::PORT)?,
            ),
            path,
            method: text(method)?,
            route: text(route)?,
            request_id: text(request_id)?,
            trace_id: text(trace_id)?,
            denied: text(denied)?,
        };
        *input = rest;
        Some(record)
    }
}

fn cut(text: &[u8], bytes_max: usize) -> &[u8] {
    &text[..text.len().min(bytes_max)]
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

    fn encoded(record: &Record<'_>) -> Vec<u8> {
        let mut bytes = [0xee; RECORD_BYTES_MAX];
        let length = record.encode(&mut bytes);
        bytes[..length].to_vec()
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let ends = CloseReason::ALL.map(End::Closed).into_iter().chain([End::Answered, End::Denied]);
        let mut records: Vec<_> = ends.map(|end| Record { end, ..record() }).collect();
        records.push(Record { client: "[2001:db8::1]:1".parse().unwrap(), status: 0, method: b"", ..record() });
        records.push(Record { weight: u64::MAX, bytes_out: u64::MAX, path: &[0xff; PATH_BYTES_MAX], ..record() });
        let bytes: Vec<u8> = records.iter().flat_map(encoded).collect();
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
        let bytes = encoded(&Record { client, ..texts });
        assert_eq!(bytes.len(), RECORD_BYTES_MAX);
        for end in 0..bytes.len() {
            assert_eq!(Record::decode(&mut &bytes[..end]), None);
        }
        assert_eq!(Record::decode(&mut &bytes[..]).unwrap().path.len(), PATH_BYTES_MAX);
    }
}
