//! Why an answer was refused: one variant per rule of a response head, one table for all of them.
//!
//! A refusal is always the peer's doing, here the server's. The connection is of no use after one, because where the next
//! answer would begin is not known. Bodies are the same in both directions: what is wrong with one is a
//! [`Refusal`](crate::Refusal).

macro_rules! refusals {
    ($($variant:ident $name:literal $text:literal)+) => {
        /// Why the head of an answer was refused. One variant per rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        #[non_exhaustive]
        pub enum ResponseRefusal {
            $(#[doc = $text] #[error($text)] $variant,)+
        }

        impl ResponseRefusal {
            /// Every refusal, in the order of the table.
            pub const ALL: &[ResponseRefusal] = &[$(ResponseRefusal::$variant),+];

            /// Its place in [`ALL`](ResponseRefusal::ALL), for tables with an entry for each rule.
            pub fn index(self) -> usize {
                self as usize
            }

            /// A stable name in kebab case, fit for a report.
            pub fn name(self) -> &'static str {
                match self { $(ResponseRefusal::$variant => $name,)+ }
            }
        }
    };
}

refusals! {
    // Lines.
    BareLineFeed "bare-line-feed"
        "a line ends in LF without CR (RFC 9112 2.2)"
    BareCarriageReturn "bare-carriage-return"
        "a CR is not followed by LF (RFC 9112 2.2)"
    ControlByte "control-byte"
        "a control byte stands in a line (RFC 9110 5.5)"
    HeadTooLarge "head-too-large"
        "the head exceeds its limit (RFC 9110 5.4)"
    // The status line.
    StatusLineMalformed "status-line-malformed"
        "the status line is not version SP three digits [SP reason] (RFC 9112 4)"
    VersionUnsupported "version-unsupported"
        "the major version is not 1 (RFC 9110 2.5)"
    StatusInvalid "status-invalid"
        "the status is less than 100 (RFC 9110 15)"
    // Field lines.
    FieldsTooMany "fields-too-many"
        "there are more fields than the limit (RFC 9110 5.4)"
    FieldLineFolded "field-line-folded"
        "a field line begins with white space (RFC 9112 2.2, 5.2)"
    FieldColonMissing "field-colon-missing"
        "a field line has no colon (RFC 9112 5)"
    FieldNameInvalid "field-name-invalid"
        "a field name is not a token (RFC 9110 5.1)"
    FieldNameSpace "field-name-space"
        "white space stands in a field name or before its colon (RFC 9112 5.1)"
    // Framing.
    LengthInvalid "length-invalid"
        "the value of Content-Length is not a valid number (RFC 9112 6.3)"
    LengthsDiffer "lengths-differ"
        "the values of Content-Length differ (RFC 9112 6.3)"
    LengthAndTransferEncoding "length-and-transfer-encoding"
        "there are both Content-Length and Transfer-Encoding (RFC 9112 6.3)"
    TransferEncodingInvalid "transfer-encoding-invalid"
        "the Transfer-Encoding is malformed or does not end in chunked (RFC 9112 6.3)"
    TransferEncodingRepeated "transfer-encoding-repeated"
        "the chunked coding is named more than once (RFC 9112 6.1)"
    TransferEncodingVersion "transfer-encoding-version"
        "an HTTP/1.0 answer has a Transfer-Encoding (RFC 9112 6.1)"
    TransferEncodingUnknown "transfer-encoding-unknown"
        "a transfer coding before chunked is not supported (RFC 9112 6.1)"
    BodyTooLarge "body-too-large"
        "the Content-Length of the body that follows exceeds the limit (RFC 9110 8.6)"
}
