//! How a call ended: the status that the server sent, or the one that stands for
//! whatever came instead of it.
//!
//! The rules are those of gRPC's `doc/PROTOCOL-HTTP2.md` and
//! `doc/http-grpc-status-mapping.md`. Reading a status never fails.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderMap, HeaderName, StatusCode};

use crate::error::{Code, Origin};

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What happened.
    pub code: Code,
    /// Who says so: [`Origin::Server`] for a status that the server sent, and
    /// [`Origin::Transport`], [`Origin::Library`] or [`Origin::Caller`] for one
    /// made up on this side. The text of the latter is never etcd's.
    pub origin: Origin,
    /// The server's text or ours.
    pub message: Cow<'static, str>,
}

impl Status {
    /// The call succeeded.
    pub const OK: Status = Status::new(Code::Ok, Origin::Server, "");

    /// A status with a fixed text.
    #[must_use]
    pub const fn new(code: Code, origin: Origin, message: &'static str) -> Status {
        Status {
            code,
            origin,
            message: Cow::Borrowed(message),
        }
    }

    /// The peer broke gRPC's protocol.
    pub(crate) const fn broken(message: &'static str) -> Status {
        Status::new(Code::Internal, Origin::Transport, message)
    }

    /// Whether the call succeeded.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.code == Code::Ok
    }

    /// The status at the end of a body. `http` is the status of the response's
    /// head: it decides when the trailers have no `grpc-status` or there are none.
    #[must_use]
    pub fn from_trailers(http: StatusCode, trailers: Option<&HeaderMap>) -> Status {
        match trailers.map_or(GrpcStatus::Absent, GrpcStatus::read) {
            GrpcStatus::Valid(status) => status,
            GrpcStatus::Absent => Status::from_http(http, "no grpc-status"),
            GrpcStatus::Malformed => Status::from_http(http, "malformed grpc-status"),
        }
    }

    /// The status of a stream that the server reset with this HTTP/2 error code.
    /// A server that knows the call's deadline cancels the stream about then: who
    /// sees CANCEL looks at the clock before it is believed.
    #[must_use]
    pub fn from_reset(reason: u32) -> Status {
        let (code, message) = match reason {
            0x0 => (Code::Internal, "stream reset: NO_ERROR"),
            0x1 => (Code::Internal, "stream reset: PROTOCOL_ERROR"),
            0x2 => (Code::Internal, "stream reset: INTERNAL_ERROR"),
            0x3 => (Code::Internal, "stream reset: FLOW_CONTROL_ERROR"),
            0x4 => (Code::Internal, "stream reset: SETTINGS_TIMEOUT"),
            0x5 => (Code::Unknown, "stream reset: STREAM_CLOSED"),
            0x6 => (Code::Internal, "stream reset: FRAME_SIZE_ERROR"),
            0x7 => (Code::Unavailable, "stream reset: REFUSED_STREAM"),
            0x8 => (Code::Cancelled, "stream reset: CANCEL"),
            0x9 => (Code::Internal, "stream reset: COMPRESSION_ERROR"),
            0xa => (Code::Internal, "stream reset: CONNECT_ERROR"),
            0xb => (Code::ResourceExhausted, "stream reset: ENHANCE_YOUR_CALM"),
            0xc => (Code::PermissionDenied, "stream reset: INADEQUATE_SECURITY"),
            0xd => (Code::Unknown, "stream reset: HTTP_1_1_REQUIRED"),
            _ => (Code::Unknown, "stream reset: unknown error code"),
        };
        Status::new(code, Origin::Transport, message)
    }

    #[cold]
    fn failed(number: u32, headers: &HeaderMap) -> Status {
        Status {
            code: Code::from_number(number),
            origin: Origin::Server,
            message: match headers.get("grpc-message") {
                Some(message) => percent_decode(message.as_bytes()).into(),
                None => Cow::Borrowed(""),
            },
        }
    }

    /// The status that an HTTP status stands for when there is no gRPC one.
    #[cold]
    pub(crate) fn from_http(http: StatusCode, what: &str) -> Status {
        let code = match http.as_u16() {
            400 | 431 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Unknown,
        };
        Status {
            code,
            origin: Origin::Transport,
            message: format!("{what} (HTTP status {})", http.as_u16()).into(),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Status {}

/// A response that is not the message it should be: a fault of the peer.
impl From<prost::DecodeError> for Status {
    fn from(error: prost::DecodeError) -> Status {
        Status {
            message: format!("the response does not decode: {error}").into(),
            ..Status::broken("")
        }
    }
}

/// What headers or trailers say about the status.
pub(crate) enum GrpcStatus {
    /// Nothing.
    Absent,
    /// Something that is no number, or more than one thing.
    Malformed,
    /// This.
    Valid(Status),
}

impl GrpcStatus {
    pub(crate) fn read(headers: &HeaderMap) -> GrpcStatus {
        // How it mostly is: no name is there twice, and the call has succeeded.
        let is_plain = headers.keys_len() == headers.len();
        if is_plain && headers.get(&GRPC_STATUS).is_some_and(|status| status == "0") {
            return GrpcStatus::Valid(Status::OK);
        }
        GrpcStatus::read_closely(headers)
    }

    #[inline(never)]
    fn read_closely(headers: &HeaderMap) -> GrpcStatus {
        let mut values = headers.get_all(&GRPC_STATUS).iter();
        let Some(value) = values.next() else {
            return GrpcStatus::Absent;
        };
        match (status_number(value.as_bytes()), values.next()) {
            (Some(0), None) => GrpcStatus::Valid(Status::OK),
            (Some(number), None) => GrpcStatus::Valid(Status::failed(number, headers)),
            _ => GrpcStatus::Malformed,
        }
    }
}

/// Decodes the percent-encoding of a `grpc-message`. It never fails: an escape
/// that is none stays as it is, and a text that would not be UTF-8 stays encoded.
#[must_use]
pub fn percent_decode(raw: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [byte, tail @ ..] = rest {
        match (byte, escaped_byte(tail)) {
            (b'%', Some(escaped)) => {
                decoded.push(escaped);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| String::from_utf8_lossy(raw).into_owned())
}

fn escaped_byte(tail: &[u8]) -> Option<u8> {
    let [high, low, ..] = tail else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

/// The number in a `grpc-status`; one too large for 32 bits is just unknown.
fn status_number(value: &[u8]) -> Option<u32> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = std::str::from_utf8(value).ok()?;
    Some(text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn trailers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn end(http: u16, pairs: &[(&'static str, &'static str)]) -> Status {
        let http = StatusCode::from_u16(http).expect("a valid status");
        Status::from_trailers(http, Some(&trailers(pairs)))
    }

    #[test]
    fn without_grpc_status_the_http_status_decides() {
        let table = [
            (400, Code::Internal),
            (431, Code::Internal),
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::Unimplemented),
            (429, Code::Unavailable),
            (502, Code::Unavailable),
            (503, Code::Unavailable),
            (504, Code::Unavailable),
            (200, Code::Unknown),
            (204, Code::Unknown),
            (302, Code::Unknown),
            (418, Code::Unknown),
            (500, Code::Unknown),
        ];
        for (http, code) in table {
            let status = end(http, &[]);
            assert_eq!((status.code, status.origin), (code, Origin::Transport), "{http}");
            let http = StatusCode::from_u16(http).expect("a valid status");
            assert_eq!(Status::from_trailers(http, None), status);
        }
    }

    #[test]
    fn a_grpc_status_wins_over_the_http_status() {
        let status = end(
            503,
            &[
                ("grpc-status", "5"),
                ("grpc-message", "etcdserver: nothing%20there"),
            ],
        );
        assert_eq!((status.code, status.origin), (Code::NotFound, Origin::Server));
        assert_eq!(status.message, "etcdserver: nothing there");
        assert!(end(500, &[("grpc-status", "0")]).is_ok());
    }

    #[test]
    fn a_status_number_nobody_knows_is_unknown() {
        for number in ["17", "4294967296", "99999999999999999999"] {
            let status = end(200, &[("grpc-status", number)]);
            assert_eq!(
                (status.code, status.origin),
                (Code::Unknown, Origin::Server),
                "{number}"
            );
        }
    }

    #[test]
    fn a_duplicate_or_non_numeric_status_is_nobodys_status() {
        for value in ["", "-1", "+1", "ok", "1a", "0x1"] {
            let status = end(503, &[("grpc-status", value)]);
            assert_eq!(
                (status.code, status.origin),
                (Code::Unavailable, Origin::Transport),
                "{value}"
            );
        }
        let status = end(200, &[("grpc-status", "0"), ("grpc-status", "0")]);
        assert_eq!((status.code, status.origin), (Code::Unknown, Origin::Transport));
    }

    #[test]
    fn percent_decoding_keeps_what_it_cannot_read() {
        let table: [(&[u8], &str); 9] = [
            (b"plain", "plain"),
            (b"a%20b%25", "a b%"),
            (b"%E2%82%AC %e2%82%ac", "€ €"),
            (b"%", "%"),
            (b"%4", "%4"),
            (b"%zz%41", "%zzA"),
            (b"%%41", "%A"),
            (b"%ff and %20", "%ff and %20"),
            ("raw €".as_bytes(), "raw €"),
        ];
        for (raw, decoded) in table {
            assert_eq!(percent_decode(raw), decoded, "{raw:?}");
        }
        assert_eq!(percent_decode(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn a_reset_becomes_the_status_of_its_reason() {
        let table = [
            (0, Code::Internal),
            (1, Code::Internal),
            (2, Code::Internal),
            (7, Code::Unavailable),
            (8, Code::Cancelled),
            (11, Code::ResourceExhausted),
            (12, Code::PermissionDenied),
            (13, Code::Unknown),
            (14, Code::Unknown),
            (u32::MAX, Code::Unknown),
        ];
        for (reason, code) in table {
            assert_eq!(Status::from_reset(reason).code, code, "{reason}");
        }
    }
}
