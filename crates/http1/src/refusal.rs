//! Why a message was refused: one variant per rule, one table for all of them.
//!
//! A refusal is always the peer's doing. After one the connection must be closed, because where the next message would
//! begin is no longer known (RFC 9112 6.3, 9.6). What the application does wrong is a
//! [`ResponseError`](crate::ResponseError).

use http::StatusCode;

macro_rules! refusals {
    ($($status:ident $variant:ident $name:literal $text:literal)+) => {
        /// Why a message was refused. One variant per rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        #[non_exhaustive]
        pub enum Refusal {
            $(#[doc = $text] #[error($text)] $variant,)+
        }

        impl Refusal {
            /// Every refusal, in the order of the table.
            pub const ALL: &[Refusal] = &[$(Refusal::$variant),+];

            /// Its place in [`ALL`](Refusal::ALL), for tables with an entry for each rule.
            pub fn index(self) -> usize {
                self as usize
            }

            /// The status to answer with. The connection closes after it.
            pub fn status(self) -> StatusCode {
                match self { $(Refusal::$variant => StatusCode::$status,)+ }
            }

            /// A stable name in kebab case, fit for a metric label and for the body of the answer.
            pub fn name(self) -> &'static str {
                match self { $(Refusal::$variant => $name,)+ }
            }
        }
    };
}

refusals! {
    // Lines.
    BAD_REQUEST BareLineFeed "bare-line-feed"
        "a line ends in LF without CR (RFC 9112 2.2)"
    BAD_REQUEST BareCarriageReturn "bare-carriage-return"
        "a CR is not followed by LF (RFC 9112 2.2)"
    BAD_REQUEST ControlByte "control-byte"
        "a control byte stands in a line (RFC 9110 5.5)"
    BAD_REQUEST LeadingLines "leading-lines"
        "too many empty lines precede the request line (RFC 9112 2.2)"
    REQUEST_HEADER_FIELDS_TOO_LARGE HeadTooLarge "head-too-large"
        "the head exceeds its limit (RFC 6585 5)"
    // The request line.
    BAD_REQUEST RequestLineMalformed "request-line-malformed"
        "the request line is not method SP target SP version (RFC 9112 3)"
    BAD_REQUEST MethodInvalid "method-invalid"
        "the method is not a token (RFC 9112 3.1)"
    BAD_REQUEST MethodTooLong "method-too-long"
        "the method exceeds its limit (RFC 9112 3)"
    URI_TOO_LONG TargetTooLong "target-too-long"
        "the target exceeds its limit (RFC 9112 3)"
    BAD_REQUEST TargetInvalid "target-invalid"
        "the target has a byte that may not stand in it (RFC 9112 3.2)"
    BAD_REQUEST TargetForm "target-form"
        "the form of the target does not suit the method (RFC 9112 3.2)"
    BAD_REQUEST TargetAuthority "target-authority"
        "the authority in the target is not valid (RFC 9112 3.2.2)"
    MISDIRECTED_REQUEST TargetScheme "target-scheme"
        "the target is https, and the connection is not secured (RFC 9110 7.4)"
    NOT_IMPLEMENTED ConnectUnsupported "connect-unsupported"
        "CONNECT is not supported (RFC 9110 9.3.6)"
    BAD_REQUEST VersionMalformed "version-malformed"
        "the version is not HTTP/digit.digit (RFC 9112 2.3)"
    HTTP_VERSION_NOT_SUPPORTED VersionUnsupported "version-unsupported"
        "the major version is not 1 (RFC 9110 15.6.6)"
    // Other protocols.
    BAD_REQUEST TlsOnPlainPort "tls-on-plain-port"
        "a TLS handshake begins where HTTP is spoken without TLS (RFC 8446 5.1)"
    HTTP_VERSION_NOT_SUPPORTED Http2Unexpected "http2-unexpected"
        "the preface of HTTP/2 comes where HTTP/1.1 is spoken (RFC 9113 3.4)"
    BAD_REQUEST ProxyProtocolUnexpected "proxy-protocol-unexpected"
        "the PROXY protocol of a load balancer precedes the request, which is not read here"
    BAD_REQUEST ProxyProtocolMissing "proxy-protocol-missing"
        "a trusted proxy does not begin its connection with the PROXY protocol, which is demanded of it"
    BAD_REQUEST ProxyProtocolMalformed "proxy-protocol-malformed"
        "the PROXY protocol of a trusted proxy is malformed or too long"
    // Field lines.
    REQUEST_HEADER_FIELDS_TOO_LARGE FieldsTooMany "fields-too-many"
        "there are more fields than the limit (RFC 6585 5)"
    BAD_REQUEST FieldLineFolded "field-line-folded"
        "a field line begins with white space (RFC 9112 2.2, 5.2)"
    BAD_REQUEST FieldColonMissing "field-colon-missing"
        "a field line has no colon (RFC 9112 5)"
    BAD_REQUEST FieldNameInvalid "field-name-invalid"
        "a field name is not a token (RFC 9110 5.1)"
    BAD_REQUEST FieldNameSpace "field-name-space"
        "white space stands in a field name or before its colon (RFC 9112 5.1)"
    // Host.
    BAD_REQUEST HostMissing "host-missing"
        "an HTTP/1.1 request has no Host field (RFC 9112 3.2)"
    BAD_REQUEST HostRepeated "host-repeated"
        "there is more than one Host field (RFC 9112 3.2)"
    BAD_REQUEST HostInvalid "host-invalid"
        "the value of the Host field is not valid (RFC 9110 7.2)"
    BAD_REQUEST HostMismatch "host-mismatch"
        "the Host field differs from the authority of the target (RFC 9112 3.2.2)"
    // Framing.
    BAD_REQUEST LengthInvalid "length-invalid"
        "the value of Content-Length is not a valid number (RFC 9110 8.6)"
    BAD_REQUEST LengthRepeated "length-repeated"
        "there is more than one Content-Length (RFC 9112 6.3)"
    BAD_REQUEST LengthAndTransferEncoding "length-and-transfer-encoding"
        "there are both Content-Length and Transfer-Encoding (RFC 9112 6.1)"
    BAD_REQUEST TransferEncodingInvalid "transfer-encoding-invalid"
        "the Transfer-Encoding is malformed or does not end in chunked (RFC 9112 6.3)"
    BAD_REQUEST TransferEncodingRepeated "transfer-encoding-repeated"
        "the chunked coding is named more than once (RFC 9112 6.1)"
    BAD_REQUEST TransferEncodingVersion "transfer-encoding-version"
        "an HTTP/1.0 request has a Transfer-Encoding (RFC 9112 6.1)"
    NOT_IMPLEMENTED TransferEncodingUnknown "transfer-encoding-unknown"
        "a transfer coding before chunked is not supported (RFC 9112 6.1)"
    PAYLOAD_TOO_LARGE BodyTooLarge "body-too-large"
        "the body exceeds its limit (RFC 9110 15.5.14)"
    // Expectations and upgrades.
    EXPECTATION_FAILED ExpectationUnknown "expectation-unknown"
        "the expectation is not 100-continue (RFC 9110 10.1.1)"
    BAD_REQUEST WebsocketWithBody "websocket-with-body"
        "a WebSocket handshake has a body (RFC 6455 4.1)"
    // Chunked bodies.
    BAD_REQUEST ChunkSizeInvalid "chunk-size-invalid"
        "a chunk size is not hexadecimal digits alone (RFC 9112 7.1)"
    BAD_REQUEST ChunkSizeTooLarge "chunk-size-too-large"
        "a chunk size has more than 16 digits or exceeds 63 bits (RFC 9112 7.1)"
    BAD_REQUEST ChunkExtensionInvalid "chunk-extension-invalid"
        "a chunk extension is malformed (RFC 9112 7.1.1)"
    BAD_REQUEST ChunkExtensionsTooLarge "chunk-extensions-too-large"
        "the chunk extensions of a body exceed their limit (RFC 9112 7.1.1)"
    BAD_REQUEST ChunkOverhead "chunk-overhead"
        "the framing of a chunked body is out of proportion to its data (RFC 9112 7.1.1)"
    BAD_REQUEST ChunkEndMissing "chunk-end-missing"
        "chunk data is not followed by CR LF (RFC 9112 7.1)"
    REQUEST_HEADER_FIELDS_TOO_LARGE TrailersTooLarge "trailers-too-large"
        "the trailer section exceeds its limit (RFC 6585 5)"
    REQUEST_HEADER_FIELDS_TOO_LARGE TrailersTooMany "trailers-too-many"
        "there are more trailer fields than the limit (RFC 6585 5)"
}
