//! What an input is made of: choices of fixed size, then the bytes of the peer.
//!
//! ```text
//!   choice (1)   limits (10)   cuts (3 × 2)   wire …
//! ```
//!
//! Fixed places let a mutation of the wire keep the choices, and the other way round.

use baiwan_http1::{FIELDS_CEILING, HEAD_BYTES_CEILING, Limits, Refusal};
use http::HeaderMap;

/// An input, split into its parts.
pub(crate) struct Input<'a> {
    /// For each target to use as it likes.
    pub(crate) choice: u8,
    /// The default, with any of its numbers replaced by a small one.
    pub(crate) limits: Limits,
    /// What the peer sends.
    pub(crate) wire: &'a [u8],
    /// Where `wire` is cut.
    cuts: [u16; 3],
}

impl<'a> Input<'a> {
    /// None where there are not even the choices.
    pub(crate) fn of(data: &'a [u8]) -> Option<Input<'a>> {
        let (&[choice], rest) = data.split_first_chunk()?;
        let (limits, rest) = rest.split_first_chunk()?;
        let (&[a, b, c, d, e, f], wire) = rest.split_first_chunk()?;
        let cuts = [[a, b], [c, d], [e, f]].map(u16::from_le_bytes);
        Some(Input { choice, limits: limits_of(limits), wire, cuts })
    }

    /// The ways in which the wire is cut, each as how many bytes are there at each call of a decoder: all at once, one
    /// more at each call, and at the cuts that were chosen.
    pub(crate) fn arrivals(&self) -> [Vec<usize>; 3] {
        let end = self.wire.len();
        let mut cuts = self.cuts.map(|cut| usize::from(cut) % (end + 1));
        cuts.sort_unstable();
        let [first, second, third] = cuts;
        [vec![end], (0..=end).collect(), vec![first, second, third, end]]
    }
}

/// Zero stands for the default, anything else for itself less one.
fn limits_of(bytes: &[u8; 10]) -> Limits {
    let default = Limits::default();
    let small = |index: usize, default: usize| usize::from(bytes[index]).checked_sub(1).unwrap_or(default);
    let small_u64 = |index: usize, default: u64| u64::from(bytes[index]).checked_sub(1).unwrap_or(default);
    Limits {
        // Most heads are longer than a byte can say.
        head_bytes_max: usize::from(bytes[0]).checked_sub(1).map_or(default.head_bytes_max, |max| 2 * max),
        target_bytes_max: small(1, default.target_bytes_max),
        method_bytes_max: small(2, default.method_bytes_max),
        fields_max: small(3, default.fields_max),
        leading_crlf_max: small(4, default.leading_crlf_max),
        body_bytes_max: small_u64(5, default.body_bytes_max),
        chunk_extension_bytes_max: small(6, default.chunk_extension_bytes_max),
        trailer_bytes_max: small(7, default.trailer_bytes_max),
        chunk_overhead_bytes_max: small_u64(8, default.chunk_overhead_bytes_max),
        chunk_overhead_ratio_max: small_u64(9, default.chunk_overhead_ratio_max),
    }
}

/// Limits that no input of a fuzzer reaches, apart from the ceilings.
pub(crate) const LOOSE: Limits = Limits {
    head_bytes_max: HEAD_BYTES_CEILING,
    target_bytes_max: usize::MAX,
    method_bytes_max: usize::MAX,
    fields_max: FIELDS_CEILING,
    leading_crlf_max: usize::MAX,
    body_bytes_max: u64::MAX,
    chunk_extension_bytes_max: usize::MAX,
    trailer_bytes_max: usize::MAX,
    chunk_overhead_bytes_max: u64::MAX,
    chunk_overhead_ratio_max: u64::MAX,
};

/// Whether other limits could have led to something else.
pub(crate) fn is_of_limits(refusal: Refusal) -> bool {
    use Refusal::*;
    matches!(
        refusal,
        HeadTooLarge
            | LeadingLines
            | MethodTooLong
            | TargetTooLong
            | FieldsTooMany
            | BodyTooLarge
            | ChunkExtensionsTooLarge
            | ChunkOverhead
            | TrailersTooLarge
            | TrailersTooMany
    )
}

/// A field: its name in lower case and its value.
pub(crate) type Field = (String, Vec<u8>);

/// Fields in the order of their names, those of one name in their own order.
pub(crate) fn fields_of(headers: &HeaderMap) -> Vec<Field> {
    sorted(headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect())
}

/// See [`fields_of`].
pub(crate) fn sorted(mut fields: Vec<Field>) -> Vec<Field> {
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}
