//! Whatever heads, bodies and trailers a server sends, the call gets a status:
//! the server's own only when it sent exactly one number, and a short one when
//! the response is not gRPC.

use arbitrary::{Arbitrary, Unstructured};
use http::{HeaderMap, HeaderValue, StatusCode};
use tenure::wire::{Head, Status};
use tenure::{Code, Origin};

#[derive(Arbitrary, Debug)]
enum Name {
    ContentType,
    Encoding,
    Status,
    Message,
}

#[derive(Arbitrary, Debug)]
enum Value {
    Grpc,
    Number(u32),
    Any(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
struct Input {
    http: u16,
    headers: Vec<(Name, Value)>,
    ended: bool,
    body: Vec<Vec<u8>>,
    reset: u32,
}

pub(crate) fn run(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let Ok(http) = StatusCode::from_u16(input.http) else {
        return;
    };
    let headers = header_map(&input.headers);
    let one_number = one_number(&headers);

    let status = Status::from_trailers(http, Some(&headers));
    assert_eq!(status.origin == Origin::Server, one_number);
    let _ = status.to_string();

    match Head::read(http, &headers, input.ended) {
        Head::Messages(_) => assert!(!input.ended),
        Head::End(end) if end.origin == Origin::Server => assert_eq!(end, status),
        Head::End(end) => assert!(input.ended && !end.is_ok()),
        Head::Foreign(mut foreign) => {
            for chunk in &input.body {
                foreign.push(chunk);
            }
            let status = foreign.into_status();
            assert!(!status.is_ok() && status.origin == Origin::Transport);
            // A byte that is not UTF-8 is shown as three.
            assert!(status.message.len() <= 3 * 1024 + 100);
        }
    }

    let reset = Status::from_reset(input.reset);
    assert!(!reset.is_ok() && reset.code != Code::DeadlineExceeded);
}

fn header_map(pairs: &[(Name, Value)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = match name {
            Name::ContentType => "content-type",
            Name::Encoding => "grpc-encoding",
            Name::Status => "grpc-status",
            Name::Message => "grpc-message",
        };
        let value = match value {
            Value::Grpc => Ok(HeaderValue::from_static("application/grpc")),
            Value::Number(number) => Ok(HeaderValue::from(*number)),
            Value::Any(bytes) => HeaderValue::from_bytes(bytes),
        };
        if let Ok(value) = value {
            headers.append(name, value);
        }
    }
    headers
}

fn one_number(headers: &HeaderMap) -> bool {
    let values: Vec<&[u8]> = headers.get_all("grpc-status").iter().map(HeaderValue::as_bytes).collect();
    match values[..] {
        [value] => !value.is_empty() && value.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}
