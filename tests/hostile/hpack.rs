//! The cases that h2spec has for servers of HPACK, turned to the client: header
//! blocks that RFC 7541 forbids cost the connection, and those that it allows are
//! understood. By h2spec's sections.

use crate::case::{BREACH, BROKEN, Case, End, Play, Then, run};
use crate::frames::*;

/// An answer in whose head this stands behind what is needed.
fn with(stream: u32, block: &[u8]) -> Vec<u8> {
    let head = headers(stream, 0, &[&head()[..], block].concat());
    [
        head,
        body(stream, &message(b"")),
        headers(stream, END_STREAM, &trailers("0")),
    ]
    .concat()
}

const fn forbidden(source: &'static str, name: &'static str, bytes: fn(u32) -> Vec<u8>) -> Case {
    let then = Then::Lost(&[COMPRESSION_ERROR, PROTOCOL_ERROR]);
    Case::new(source, name, Play::Answers(bytes), BROKEN, then)
}

const fn allowed(source: &'static str, name: &'static str, bytes: fn(u32) -> Vec<u8>) -> Case {
    Case::new(source, name, Play::Answers(bytes), End::Answered, Then::Kept)
}

/// `x-test`, and `h2spec`, in Huffman's code (RFC 7541, appendix B).
const NAME: &[u8] = b"\x85\xf2\xb2\x4a\x84\xff";
const VALUE: &[u8] = b"\x84\x9c\x48\xac\xa4";

#[test]
fn forbidden_header_blocks() {
    run(&[
        forbidden("hpack 2.3.3/1", "an index behind the tables", |stream| {
            with(stream, b"\xc6")
        }),
        forbidden("hpack 2.3.3/2", "a name's index behind the tables", |stream| {
            with(stream, b"\x7f\x07\x00")
        }),
        forbidden("hpack 4.2/1", "a table size update at the end", |stream| {
            with(stream, b"\x21")
        }),
        forbidden("hpack 5.2/1", "Huffman padding of more than 7 bits", |stream| {
            with(stream, &[b"\x00", NAME, b"\x84\x49\x50\x9f\xff"].concat())
        }),
        forbidden("hpack 5.2/2", "Huffman padding of zeros", |stream| {
            with(stream, &[b"\x00", NAME, b"\x83\x49\x50\x90"].concat())
        }),
        forbidden("hpack 5.2/3", "Huffman's end of string", |stream| {
            with(
                stream,
                &[b"\x00", NAME, b"\x87\x49\x51\xff\xff\xff\xfa\x7f"].concat(),
            )
        }),
        forbidden("hpack 6.1/1", "index 0", |stream| with(stream, b"\x80")),
        forbidden("hpack 6.3/1", "a table larger than was allowed", |stream| {
            headers(stream, 0, &[integer(5, 0x20, 4097), head()].concat())
        }),
        forbidden("hpack 5.1", "an integer over every number", |stream| {
            with(stream, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
        }),
        forbidden("hpack 5.2", "a string longer than its block", |stream| {
            with(stream, b"\x00\x7f\xff\x7fabc")
        }),
    ]);
}

#[test]
fn allowed_header_blocks() {
    run(&[
        allowed("generic 5/1", "an indexed field", |stream| {
            with(stream, b"\x40\x01a\x01b\xbe\xbe")
        }),
        allowed("generic 5/2", "incremental indexing, an indexed name", |stream| {
            with(stream, b"\x7a\x06h2spec")
        }),
        allowed(
            "generic 5/3",
            "incremental indexing, an indexed name, Huffman",
            |stream| with(stream, &[b"\x7a", VALUE].concat()),
        ),
        allowed("generic 5/4", "incremental indexing, a new name", |stream| {
            with(stream, b"\x40\x06x-test\x06h2spec")
        }),
        allowed(
            "generic 5/5",
            "incremental indexing, a new name, Huffman",
            |stream| with(stream, &[b"\x40", NAME, VALUE].concat()),
        ),
        allowed("generic 5/6", "no indexing, an indexed name", |stream| {
            with(stream, b"\x0f\x2b\x06h2spec")
        }),
        allowed("generic 5/7", "no indexing, an indexed name, Huffman", |stream| {
            with(stream, &[b"\x0f\x2b", VALUE].concat())
        }),
        allowed("generic 5/8", "no indexing, a new name", |stream| {
            with(stream, b"\x00\x06x-test\x06h2spec")
        }),
        allowed("generic 5/9", "no indexing, a new name, Huffman", |stream| {
            with(stream, &[b"\x00", NAME, VALUE].concat())
        }),
        allowed("generic 5/10", "never indexed, an indexed name", |stream| {
            with(stream, b"\x1f\x2b\x06h2spec")
        }),
        allowed(
            "generic 5/11",
            "never indexed, an indexed name, Huffman",
            |stream| with(stream, &[b"\x1f\x2b", VALUE].concat()),
        ),
        allowed("generic 5/12", "never indexed, a new name", |stream| {
            with(stream, b"\x10\x06x-test\x06h2spec")
        }),
        allowed("generic 5/13", "never indexed, a new name, Huffman", |stream| {
            with(stream, &[b"\x10", NAME, VALUE].concat())
        }),
    ]);
}

#[test]
fn allowed_sizes_and_heads() {
    run(&[
        allowed("generic 5/14", "a table size update", |stream| {
            let head = headers(stream, 0, &[integer(5, 0x20, 128), head()].concat());
            [
                head,
                body(stream, &message(b"")),
                headers(stream, END_STREAM, &trailers("0")),
            ]
            .concat()
        }),
        allowed("generic 5/15", "several table size updates", |stream| {
            let block = [integer(5, 0x20, 128), integer(5, 0x20, 4096), head()].concat();
            let end = headers(stream, END_STREAM, &trailers("0"));
            [headers(stream, 0, &block), body(stream, &message(b"")), end].concat()
        }),
        allowed("generic 3.2/2", "padded HEADERS", |stream| {
            let head = [&[8], &head()[..], &[0; 8]].concat();
            let head = frame(HEADERS, END_HEADERS | PADDED, stream, &head);
            [
                head,
                body(stream, &message(b"")),
                headers(stream, END_STREAM, &trailers("0")),
            ]
            .concat()
        }),
        allowed("generic 3.2/3", "HEADERS with a priority", |stream| {
            let head = [&[0, 0, 0, 0, 255], &head()[..]].concat();
            let head = frame(HEADERS, END_HEADERS | PRIORITIZED, stream, &head);
            [
                head,
                body(stream, &message(b"")),
                headers(stream, END_STREAM, &trailers("0")),
            ]
            .concat()
        }),
    ]);
}

/// What HTTP/2 forbids in a response's fields (RFC 9113, sections 8.2 and 8.3). It
/// may cost the call or the connection.
#[test]
fn malformed_fields() {
    const FIELDS: &str = "RFC 9113, 8:";
    const fn call(name: &'static str, bytes: fn(u32) -> Vec<u8>) -> Case {
        Case::new(FIELDS, name, Play::Answers(bytes), BREACH, Then::Kept)
    }
    const fn connection(name: &'static str, bytes: fn(u32) -> Vec<u8>) -> Case {
        let then = Then::Lost(&[COMPRESSION_ERROR, PROTOCOL_ERROR]);
        Case::new(FIELDS, name, Play::Answers(bytes), BROKEN, then)
    }
    run(&[
        connection("a name in upper case", |stream| {
            with(stream, &field("X-Test", "1"))
        }),
        connection("an empty name", |stream| with(stream, &field("", "1"))),
        connection("a line break in a value", |stream| {
            with(stream, &field("x-test", "1\r\nevil: 1"))
        }),
        connection("a :status of letters", |stream| {
            headers(stream, 0, b"\x08\x03abc")
        }),
        call("no :status", |stream| {
            headers(stream, 0, &field("content-type", "application/grpc"))
        }),
        call("two :statuses", |stream| headers(stream, 0, &[STATUS_200, 0x8c])),
        call("a pseudo-header of a request", |stream| with(stream, b"\x82")),
        call("a pseudo-header behind a field", |stream| {
            headers(
                stream,
                0,
                &[&field("content-type", "application/grpc")[..], &[STATUS_200]].concat(),
            )
        }),
        call("a connection field", |stream| {
            with(stream, &field("connection", "close"))
        }),
        call("a content-length that lies", |stream| {
            with(stream, &field("content-length", "1"))
        }),
        allowed(
            "RFC 9113, 8:",
            ":status in the trailers, which h2 leaves out",
            |stream| {
                let end = headers(stream, END_STREAM, &[&[STATUS_200], &trailers("0")[..]].concat());
                [headers(stream, 0, &head()), body(stream, &message(b"")), end].concat()
            },
        ),
    ]);
}
