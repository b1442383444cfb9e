//! Messages that protobuf forbids, or that take far more memory than bytes.

use tenure::{Code, Delivery, Origin};

use crate::case::{BREACH, Call, Case, End, MESSAGE_BYTES_MAX, Play, Then, run};
use crate::frames::{answer, message};

const SOURCE: &str = "protobuf:";
const TOO_LARGE: End = End::Fails(Code::ResourceExhausted, Origin::Library, Delivery::Unknown);

const fn decodes(name: &'static str, call: Call, bytes: fn(u32) -> Vec<u8>, end: End) -> Case {
    Case::new(SOURCE, name, Play::Answers(bytes), end, Then::Kept).of(call)
}

fn says(stream: u32, bytes: &[u8]) -> Vec<u8> {
    answer(stream, &message(bytes), "0")
}

/// A field that holds this message.
fn holding(number: usize, inner: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(inner.len()), inner.to_vec()].concat()
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 128 {
        bytes.push(0x80 | u8::try_from(value % 128).unwrap());
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// Transactions that answer with a transaction, so many deep: ResponseOp in 3 of
/// TxnResponse, TxnResponse in 4 of that.
fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(Vec::new(), |inner, _| holding(3, &holding(4, &inner)))
}

#[test]
fn messages_that_are_none() {
    run(&[
        decodes(
            "a length beyond the end",
            Call::Get,
            |s| says(s, b"\x0a\x09"),
            BREACH,
        ),
        decodes(
            "a length of 2^63",
            Call::Get,
            |s| says(s, b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
            BREACH,
        ),
        decodes(
            "a varint of 10 bytes",
            Call::Get,
            |s| says(s, b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            End::Answered,
        ),
        decodes(
            "a varint over 64 bits",
            Call::Get,
            |s| says(s, b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
            BREACH,
        ),
        decodes(
            "a varint of 11 bytes",
            Call::Get,
            |s| says(s, &[&[0x20], &[0xff; 11][..]].concat()),
            BREACH,
        ),
        decodes(
            "a varint without an end",
            Call::Get,
            |s| says(s, b"\x20\xff"),
            BREACH,
        ),
        decodes("field 0", Call::Get, |s| says(s, b"\x00\x00"), BREACH),
        decodes("wire type 7", Call::Get, |s| says(s, b"\x0f"), BREACH),
        decodes(
            "an end of a group that has not begun",
            Call::Get,
            |s| says(s, b"\x0c"),
            BREACH,
        ),
        decodes("a group without an end", Call::Get, |s| says(s, b"\x7b"), BREACH),
        decodes(
            "another wire type than the field has",
            Call::Get,
            |s| says(s, b"\x10\x01"),
            BREACH,
        ),
        decodes(
            "unknown fields",
            Call::Get,
            |s| says(s, b"\xfa\x01\x03abc\xf8\x07\x01"),
            End::Answered,
        ),
        decodes("no header", Call::Get, |s| says(s, b""), End::Answered),
    ]);
}

#[test]
fn messages_out_of_proportion() {
    run(&[
        decodes(
            "100,000 empty keys and values",
            Call::Get,
            |s| says(s, &[0x12, 0].repeat(100_000)),
            TOO_LARGE,
        ),
        decodes(
            "as many as just pass",
            Call::Get,
            |s| says(s, &just_passing()),
            End::Answered,
        ),
        decodes(
            "20,000 empty operations",
            Call::Txn,
            |s| says(s, &[0x1a, 0].repeat(20_000)),
            TOO_LARGE,
        ),
        decodes(
            "empty keys and values in an operation",
            Call::Txn,
            |s| says(s, &holding(3, &holding(1, &[0x12, 0].repeat(100_000)))),
            TOO_LARGE,
        ),
        decodes(
            "10 transactions in one another",
            Call::Txn,
            |s| says(s, &nested(10)),
            End::Answered,
        ),
        decodes(
            "100 transactions in one another",
            Call::Txn,
            |s| says(s, &nested(100)),
            BREACH,
        ),
        decodes(
            "8,000 transactions in one another",
            Call::Txn,
            |s| says(s, &nested(8_000)),
            BREACH,
        ),
        decodes(
            "8,000 groups in one another",
            Call::Get,
            |s| says(s, &[0x7b; 8_000]),
            BREACH,
        ),
        decodes(
            "a long way round the same field",
            Call::Get,
            |s| says(s, &[0x0a, 0].repeat(100_000)),
            End::Answered,
        ),
    ]);
}

/// The message that takes the most of all that are allowed.
fn just_passing() -> Vec<u8> {
    // Keys of eight bytes: an element of twelve on the wire is one in proportion.
    let kv = holding(2, &holding(1, b"12345678"));
    kv.repeat(MESSAGE_BYTES_MAX / kv.len() - 1)
}
