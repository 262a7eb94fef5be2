//! What a peer may send, in bytes and counts.
//!
//! This is a table of numbers, not a policy: the decoders take it as an argument at each call. Nothing that a decoder
//! allocates exceeds what these numbers allow, whatever the peer announces.

/// The greatest `head_bytes_max` that has an effect. A target of 65,535 bytes could not be represented; one that has its end
/// within such a head is shorter.
pub const HEAD_BYTES_CEILING: usize = 64 * 1024;
/// The greatest `fields_max` that has an effect: the decoders count in one byte, and the parser's table on the stack has this
/// number of places.
pub const FIELDS_CEILING: usize = u8::MAX as usize;

/// The limits of one message. Greater values than the ceilings count as the ceilings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, from the first byte after the previous message to the empty line, both included.
    pub head_bytes_max: usize,
    /// Bytes of the request target.
    pub target_bytes_max: usize,
    /// Bytes of the method.
    pub method_bytes_max: usize,
    /// Field lines of a head, and field lines of a trailer section.
    pub fields_max: usize,
    /// Empty lines before a request line that are skipped (RFC 9112 2.2); before a status line none are.
    pub leading_crlf_max: usize,
    /// Bytes of a body, framing not counted.
    pub body_bytes_max: u64,
    /// Bytes of all chunk extensions of one body together.
    pub chunk_extension_bytes_max: usize,
    /// Bytes of a trailer section, the empty line at its end included.
    pub trailer_bytes_max: usize,
    /// Bytes of framing (size lines, extensions, line ends) that a chunked body may have without any data.
    pub chunk_overhead_bytes_max: u64,
    /// Bytes of framing allowed in addition for each byte of data.
    pub chunk_overhead_ratio_max: u64,
}

impl Default for Limits {
    /// 16 KiB of head, 8 KiB of target, 100 fields; the body is not limited.
    fn default() -> Self {
        Limits {
            head_bytes_max: 16 * 1024,
            target_bytes_max: 8 * 1024,
            method_bytes_max: 32,
            fields_max: 100,
            leading_crlf_max: 2,
            body_bytes_max: u64::MAX,
            chunk_extension_bytes_max: 4 * 1024,
            trailer_bytes_max: 16 * 1024,
            // Above the extensions that are allowed, so that it is their own limit that refuses them.
            chunk_overhead_bytes_max: 8 * 1024,
            // A chunk of one byte has five bytes of framing, which is legal if wasteful.
            chunk_overhead_ratio_max: 16,
        }
    }
}

impl Limits {
    /// Bytes of a head that are looked at.
    pub(crate) fn head_window(&self) -> usize {
        self.head_bytes_max.min(HEAD_BYTES_CEILING)
    }

    /// Field lines that are taken.
    pub(crate) fn fields(&self) -> usize {
        self.fields_max.min(FIELDS_CEILING)
    }
}
