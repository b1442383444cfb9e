//! What gRPC says a client makes of a server that does not speak it well, and of
//! the ends of streams and connections: code, whose fault, whether it was sent.

use tenure::{Code, Delivery, Origin};

use crate::case::{BREACH, BROKEN, Case, End, LATE, Play, Then, run};
use crate::frames::*;

/// A breach of gRPC ends the call and no more.
const fn ends(source: &'static str, name: &'static str, bytes: fn(u32) -> Vec<u8>, end: End) -> Case {
    Case::new(source, name, Play::Answers(bytes), end, Then::Kept)
}

const fn told(code: Code) -> End {
    End::Fails(code, Origin::Transport, Delivery::Unknown)
}

const fn limited(code: Code) -> End {
    End::Fails(code, Origin::Library, Delivery::Unknown)
}

#[test]
fn the_framing_of_messages() {
    const FRAMING: &str = "gRPC, messages:";
    fn succeeds(stream: u32, bytes: &[u8]) -> Vec<u8> {
        answer(stream, bytes, "0")
    }
    run(&[
        ends(
            FRAMING,
            "a length prefix over the limit",
            |stream| succeeds(stream, b"\x00\xff\xff\xff\xff"),
            limited(Code::ResourceExhausted),
        ),
        ends(
            FRAMING,
            "a length prefix one over the limit",
            |stream| succeeds(stream, b"\x00\x00\x04\x00\x01"),
            limited(Code::ResourceExhausted),
        ),
        ends(
            FRAMING,
            "an end inside a prefix",
            |stream| succeeds(stream, b"\0\0"),
            BREACH,
        ),
        ends(
            FRAMING,
            "an end inside a message",
            |stream| succeeds(stream, b"\0\0\0\0\x09half"),
            BREACH,
        ),
        ends(
            FRAMING,
            "a second message",
            |stream| succeeds(stream, &[message(b""), message(b"")].concat()),
            BREACH,
        ),
        ends(
            FRAMING,
            "success without a message",
            |stream| succeeds(stream, b""),
            BREACH,
        ),
        ends(
            FRAMING,
            "success in the head, without a message",
            |stream| headers(stream, END_STREAM, &[head(), trailers("0")].concat()),
            BREACH,
        ),
        ends(
            FRAMING,
            "a second message that is a prefix alone",
            |stream| succeeds(stream, &[&message(b"")[..], b"\0\0\0\0\x05"].concat()),
            BREACH,
        ),
    ]);
}

#[test]
fn the_compressed_flag() {
    const FLAG: &str = "gRPC, compression:";
    fn encoded(stream: u32, encoding: &str, bytes: &[u8]) -> Vec<u8> {
        let head = [head(), field("grpc-encoding", encoding)].concat();
        let end = headers(stream, END_STREAM, &trailers("0"));
        [headers(stream, 0, &head), body(stream, bytes), end].concat()
    }
    run(&[
        ends(
            FLAG,
            "flag 1 without grpc-encoding",
            |stream| answer(stream, b"\x01\0\0\0\x01x", "0"),
            BREACH,
        ),
        ends(
            FLAG,
            "flag 2",
            |stream| answer(stream, b"\x02\0\0\0\0", "0"),
            BREACH,
        ),
        ends(
            FLAG,
            "flag 255",
            |stream| answer(stream, b"\xff\0\0\0\0", "0"),
            BREACH,
        ),
        ends(
            FLAG,
            "flag 1 with identity",
            |stream| encoded(stream, "identity", b"\x01\0\0\0\0"),
            BREACH,
        ),
        ends(
            FLAG,
            "flag 1 with an unknown encoding",
            |stream| encoded(stream, "zstd", b"\x01\0\0\0\x01x"),
            told(Code::Unimplemented),
        ),
        ends(
            FLAG,
            "a gzip that would inflate to 4 GiB",
            |stream| {
                encoded(
                    stream,
                    "gzip",
                    b"\x01\0\0\0\x0c\x1f\x8b\x08\0\0\0\0\0\xff\xff\xff\xff",
                )
            },
            told(Code::Unimplemented),
        ),
        Case::new(
            FLAG,
            "an unknown encoding of which no use is made",
            Play::Answers(|stream| encoded(stream, "zstd", &message(b""))),
            End::Answered,
            Then::Kept,
        ),
    ]);
}

/// An answer of this HTTP status, without a grpc-status.
fn http<const STATUS: u16>(stream: u32) -> Vec<u8> {
    let status = STATUS.to_string();
    let block = [
        &[0x08, 0x03],
        status.as_bytes(),
        &field("content-type", "application/grpc"),
    ]
    .concat();
    headers(stream, END_STREAM, &block)
}

#[test]
fn no_grpc_status() {
    const HTTP: &str = "gRPC, no grpc-status:";
    run(&[
        ends(HTTP, "400", http::<400>, told(Code::Internal)),
        ends(HTTP, "431", http::<431>, told(Code::Internal)),
        ends(HTTP, "401", http::<401>, told(Code::Unauthenticated)),
        ends(HTTP, "403", http::<403>, told(Code::PermissionDenied)),
        ends(HTTP, "404", http::<404>, told(Code::Unimplemented)),
        ends(HTTP, "429", http::<429>, told(Code::Unavailable)),
        ends(HTTP, "502", http::<502>, told(Code::Unavailable)),
        ends(HTTP, "503", http::<503>, told(Code::Unavailable)),
        ends(HTTP, "504", http::<504>, told(Code::Unavailable)),
        ends(HTTP, "200", http::<200>, told(Code::Unknown)),
        ends(HTTP, "204", http::<204>, told(Code::Unknown)),
        ends(HTTP, "302", http::<302>, told(Code::Unknown)),
        ends(HTTP, "500", http::<500>, told(Code::Unknown)),
        ends(HTTP, "999", http::<999>, told(Code::Unknown)),
        ends(
            HTTP,
            "200, with a body that ends the stream",
            |stream| {
                [
                    headers(stream, 0, &head()),
                    data(stream, END_STREAM, &message(b"")),
                ]
                .concat()
            },
            told(Code::Unknown),
        ),
        ends(
            HTTP,
            "one that is there wins",
            |stream| {
                let block = [
                    &b"\x08\x03503"[..],
                    &field("content-type", "application/grpc"),
                    &trailers("5"),
                ];
                headers(stream, END_STREAM, &block.concat())
            },
            End::Fails(Code::NotFound, Origin::Server, Delivery::Answered),
        ),
    ]);
}

/// An answer of a good head and message, and these trailers.
fn ended(stream: u32, trailers: &[u8]) -> Vec<u8> {
    let end = headers(stream, END_STREAM, trailers);
    [headers(stream, 0, &head()), body(stream, &message(b"")), end].concat()
}

const HEAD: &str = "gRPC, metadata:";
fn typed(stream: u32, content_type: &str, bytes: &[u8]) -> Vec<u8> {
    let head = [vec![STATUS_200], field("content-type", content_type)].concat();
    [
        headers(stream, 0, &head),
        body(stream, bytes),
        headers(stream, END_STREAM, &trailers("0")),
    ]
    .concat()
}

#[test]
fn heads_and_trailers_that_are_not_grpc() {
    run(&[
        ends(
            HEAD,
            "another content type",
            |stream| typed(stream, "text/html", b"<h1>hi</h1>"),
            told(Code::Unknown),
        ),
        ends(
            HEAD,
            "another content type and a long page",
            |stream| typed(stream, "text/html", &[b'x'; 100_000]),
            told(Code::Unknown),
        ),
        ends(
            HEAD,
            "no content type",
            |stream| [headers(stream, 0, &[STATUS_200]), data(stream, END_STREAM, b"?")].concat(),
            told(Code::Unknown),
        ),
    ]);
}

#[test]
fn trailers_that_are_not_grpc() {
    run(&[
        ends(
            HEAD,
            "two grpc-statuses",
            |stream| ended(stream, &[trailers("0"), trailers("5")].concat()),
            told(Code::Unknown),
        ),
        ends(
            HEAD,
            "a grpc-status of letters",
            |stream| ended(stream, &trailers("fine")),
            told(Code::Unknown),
        ),
        ends(
            HEAD,
            "an empty grpc-status",
            |stream| ended(stream, &trailers("")),
            told(Code::Unknown),
        ),
        ends(
            HEAD,
            "a negative grpc-status",
            |stream| ended(stream, &trailers("-1")),
            told(Code::Unknown),
        ),
        ends(
            HEAD,
            "a grpc-status over every number",
            |stream| ended(stream, &trailers("99999999999999999999")),
            End::Fails(Code::Unknown, Origin::Server, Delivery::Unknown),
        ),
        ends(
            HEAD,
            "broken percent-encoding",
            |stream| ended(stream, &[trailers("9"), field("grpc-message", "%zz%4")].concat()),
            End::Fails(Code::FailedPrecondition, Origin::Server, Delivery::Answered),
        ),
        ends(
            HEAD,
            "a grpc-message that is not UTF-8",
            |stream| {
                ended(
                    stream,
                    &[trailers("9"), field("grpc-message", b"\xff\xfe%ff")].concat(),
                )
            },
            End::Fails(Code::FailedPrecondition, Origin::Server, Delivery::Answered),
        ),
        ends(
            HEAD,
            "a head in the middle of the body",
            |stream| [headers(stream, 0, &head()), headers(stream, 0, &head())].concat(),
            told(Code::Internal),
        ),
    ]);
}

#[test]
fn resets() {
    const RESET: &str = "gRPC, RST_STREAM:";
    run(&[
        ends(
            RESET,
            "CANCEL",
            |stream| rst(stream, CANCEL),
            told(Code::Cancelled),
        ),
        ends(
            RESET,
            "ENHANCE_YOUR_CALM",
            |stream| rst(stream, ENHANCE_YOUR_CALM),
            told(Code::ResourceExhausted),
        ),
        ends(
            RESET,
            "NO_ERROR",
            |stream| rst(stream, NO_ERROR),
            told(Code::Internal),
        ),
        ends(
            RESET,
            "INTERNAL_ERROR",
            |stream| rst(stream, INTERNAL_ERROR),
            told(Code::Internal),
        ),
        ends(
            RESET,
            "a reason nobody knows",
            |stream| rst(stream, 0xdead),
            told(Code::Unknown),
        ),
        ends(
            RESET,
            "REFUSED_STREAM, so it is sent again",
            |stream| rst(stream, REFUSED_STREAM),
            End::Answered,
        ),
    ]);
}

const END: &str = "what may be retried:";
/// It is sent again.
const UNPROCESSED: End = End::Answered;
const fn gone(name: &'static str, bytes: fn(u32) -> Vec<u8>, end: End) -> Case {
    Case::new(END, name, Play::HangsUp(bytes), end, Then::Redialled)
}

#[test]
fn the_ends_of_connections() {
    run(&[
        gone(
            "GOAWAY that names an earlier stream",
            |_| go_away(0, NO_ERROR),
            UNPROCESSED,
        ),
        gone(
            "GOAWAY for a breach, an earlier stream",
            |_| go_away(0, ENHANCE_YOUR_CALM),
            UNPROCESSED,
        ),
        gone(
            "GOAWAY that names this stream",
            |stream| go_away(stream, NO_ERROR),
            BROKEN,
        ),
        gone(
            "GOAWAY that names this stream, for a breach",
            |stream| go_away(stream, INTERNAL_ERROR),
            BROKEN,
        ),
        gone(
            "GOAWAY twice, and the second names more streams",
            |stream| [go_away(0, NO_ERROR), go_away(stream, NO_ERROR)].concat(),
            UNPROCESSED,
        ),
        gone("an end before the answer", |_| Vec::new(), BROKEN),
        gone(
            "an end behind the head",
            |stream| headers(stream, 0, &head()),
            BROKEN,
        ),
        gone(
            "an end inside the body",
            |stream| [headers(stream, 0, &head()), data(stream, 0, b"\0\0\0")].concat(),
            BROKEN,
        ),
        gone(
            "an end before the trailers",
            |stream| [headers(stream, 0, &head()), data(stream, 0, &message(b""))].concat(),
            BROKEN,
        ),
        gone(
            "an end inside a frame",
            |stream| headers(stream, 0, &head())[..12].to_vec(),
            BROKEN,
        ),
        Case::new(
            END,
            "a GOAWAY, and the answer all the same",
            Play::Answers(|stream| [go_away(stream, NO_ERROR), good(stream)].concat()),
            End::Answered,
            Then::Redialled,
        ),
    ]);
}

#[test]
fn silence() {
    run(&[
        Case::new(
            END,
            "silence",
            Play::Answers(|_| Vec::new()),
            LATE,
            Then::Whatever,
        ),
        Case::new(
            END,
            "silence behind the head",
            Play::Answers(|stream| headers(stream, 0, &head())),
            LATE,
            Then::Whatever,
        ),
        Case::new(
            END,
            "silence before the trailers",
            Play::Answers(|stream| [headers(stream, 0, &head()), data(stream, 0, &message(b""))].concat()),
            LATE,
            Then::Whatever,
        ),
    ]);
}
