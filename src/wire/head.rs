//! The head of a response: whether gRPC messages follow, the call has ended
//! already, or somebody answered who does not speak gRPC.
//!
//! ```text
//!                    ┌─ grpc-status other than 0, or any at the end of the stream ─► End
//!  HTTP status       ├─ malformed grpc-status, wrong content type ─────────────────► Foreign
//!  and headers ──────┤
//!                    ├─ end of the stream ─────────────────────────────────────────► End
//!                    └─ otherwise ─────────────────────────────────────────────────► Messages
//! ```

use http::{HeaderMap, StatusCode, header};

use super::frame::Encoding;
use super::status::{GrpcStatus, Status};

/// How much of a foreign body is kept to be shown.
pub const FOREIGN_BODY_BYTES_MAX: usize = 1024;

/// What the head of a response says about the rest.
#[derive(Debug)]
pub enum Head {
    /// Messages follow, then trailers: see [`Status::from_trailers`].
    Messages(Encoding),
    /// The call has ended with this status, which may be [`Status::OK`].
    End(Status),
    /// The response is not gRPC. Its body may tell why.
    Foreign(Foreign),
}

impl Head {
    /// Reads the head of a response. `ended` says that nothing follows it.
    #[must_use]
    pub fn read(http: StatusCode, headers: &HeaderMap, ended: bool) -> Head {
        // Nothing else is there to be read, how it is for almost every call on etcd.
        if !ended && headers.len() == 1 && is_plain_grpc(headers) {
            return Head::Messages(Encoding::Absent);
        }
        match GrpcStatus::read(headers) {
            GrpcStatus::Valid(status) if ended || !status.is_ok() => return Head::End(status),
            GrpcStatus::Malformed => return Foreign::head(http, "malformed grpc-status", ended),
            GrpcStatus::Valid(_) | GrpcStatus::Absent => {}
        }
        if !is_grpc(headers) {
            return Foreign::head(http, "not a gRPC response", ended);
        }
        if ended {
            return Head::End(Status::from_http(http, "no grpc-status"));
        }
        Head::Messages(Encoding::read(headers))
    }
}

/// A response that is not gRPC, such as a proxy's page: the status that stands
/// for it, and the beginning of its body.
#[derive(Debug)]
pub struct Foreign {
    status: Status,
    body: Vec<u8>,
}

impl Foreign {
    /// Keeps what fits of the next piece of the body. False once nothing more
    /// would be kept, so that the stream can be reset.
    pub fn push(&mut self, chunk: &[u8]) -> bool {
        let room = FOREIGN_BODY_BYTES_MAX - self.body.len();
        self.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        self.body.len() < FOREIGN_BODY_BYTES_MAX
    }

    /// The status of the call, with what was kept of the body in its message.
    #[must_use]
    pub fn into_status(self) -> Status {
        let Foreign { mut status, body } = self;
        let body = String::from_utf8_lossy(&body);
        let body = body.trim();
        if !body.is_empty() {
            status.message = format!("{}: {body}", status.message).into();
        }
        status
    }

    fn head(http: StatusCode, what: &str, ended: bool) -> Head {
        let status = Status::from_http(http, what);
        if ended {
            return Head::End(status);
        }
        Head::Foreign(Foreign {
            status,
            body: Vec::new(),
        })
    }
}

/// Whether the content type is `application/grpc` as it is written mostly.
fn is_plain_grpc(headers: &HeaderMap) -> bool {
    headers.get(&header::CONTENT_TYPE).is_some_and(|value| value == "application/grpc")
}

/// Whether the content type is `application/grpc` or `application/grpc+proto`,
/// with or without parameters.
fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let essence = value.as_bytes().split(|&byte| byte == b';').next();
    let essence = essence.unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(b"application/grpc")
        || essence.eq_ignore_ascii_case(b"application/grpc+proto")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::error::{Code, Origin};

    const GRPC: (&str, &str) = ("content-type", "application/grpc");

    fn head(http: u16, pairs: &[(&'static str, &'static str)], ended: bool) -> Head {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let http = StatusCode::from_u16(http).expect("a valid status");
        Head::read(http, &headers, ended)
    }

    #[test]
    fn messages_follow_a_head_of_grpc() {
        for content_type in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;charset=utf-8",
            "application/grpc+proto; a=b",
            "Application/GRPC",
        ] {
            let head = head(200, &[("content-type", content_type)], false);
            assert!(matches!(head, Head::Messages(Encoding::Absent)), "{content_type}");
        }
    }

    #[test]
    fn the_encoding_of_messages_is_read() {
        let table = [("identity", Encoding::Identity), ("gzip", Encoding::Unknown)];
        for (value, encoding) in table {
            match head(200, &[GRPC, ("grpc-encoding", value)], false) {
                Head::Messages(read) => assert_eq!(read, encoding),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn trailers_alone_end_the_call() {
        let pairs = [
            GRPC,
            ("grpc-status", "16"),
            ("grpc-message", "invalid auth token"),
        ];
        for ended in [true, false] {
            match head(200, &pairs, ended) {
                Head::End(status) => assert_eq!(
                    (status.code, status.origin, &*status.message),
                    (Code::Unauthenticated, Origin::Server, "invalid auth token")
                ),
                other => panic!("{other:?}"),
            }
        }
        let ok = [GRPC, ("grpc-status", "0")];
        assert!(matches!(head(200, &ok, true), Head::End(status) if status.is_ok()));
    }

    #[test]
    fn an_ok_before_the_messages_is_not_the_end() {
        let head = head(200, &[GRPC, ("grpc-status", "0")], false);
        assert!(matches!(head, Head::Messages(_)));
    }

    #[test]
    fn an_end_without_grpc_status_goes_by_the_http_status() {
        match head(503, &[GRPC], true) {
            Head::End(status) => {
                assert_eq!(
                    (status.code, status.origin),
                    (Code::Unavailable, Origin::Transport)
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_http_error_in_grpc_waits_for_its_trailers() {
        assert!(matches!(head(503, &[GRPC], false), Head::Messages(_)));
    }

    #[test]
    fn a_wrong_content_type_is_shown_with_its_body() {
        for content_type in [
            "text/html",
            "application/grpc-web",
            "application/grpc+json",
            "application/grp",
            "application/grpcx",
        ] {
            let Head::Foreign(mut foreign) = head(404, &[("content-type", content_type)], false) else {
                panic!("{content_type} passes for gRPC");
            };
            assert!(foreign.push(b"<h1>not "));
            assert!(foreign.push(b"here</h1>\n"));
            let status = foreign.into_status();
            assert_eq!(
                (status.code, status.origin),
                (Code::Unimplemented, Origin::Transport)
            );
            assert_eq!(
                status.message,
                "not a gRPC response (HTTP status 404): <h1>not here</h1>"
            );
        }
        assert!(matches!(head(200, &[], false), Head::Foreign(_)));
        assert!(matches!(head(200, &[], true), Head::End(status) if status.code == Code::Unknown));
    }

    #[test]
    fn a_malformed_grpc_status_is_foreign() {
        for pairs in [
            &[GRPC, ("grpc-status", "fine")][..],
            &[GRPC, ("grpc-status", "0"), ("grpc-status", "0")][..],
        ] {
            let Head::Foreign(foreign) = head(200, pairs, false) else {
                panic!("{pairs:?}");
            };
            assert_eq!(foreign.into_status().code, Code::Unknown);
        }
    }

    #[test]
    fn one_kibibyte_of_a_foreign_body_is_kept() {
        let Head::Foreign(mut foreign) = head(200, &[], false) else {
            panic!("not foreign");
        };
        assert!(foreign.push(&[b'x'; FOREIGN_BODY_BYTES_MAX - 1]));
        assert!(!foreign.push(&[b'x'; 1 << 20]));
        assert!(!foreign.push(b"x"));
        let message = foreign.into_status().message;
        assert_eq!(message.matches('x').count(), FOREIGN_BODY_BYTES_MAX);
    }
}
