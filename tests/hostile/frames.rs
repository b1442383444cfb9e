//! HTTP/2 frames and HPACK fields by the byte, sound and broken alike.

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const PRIORITY: u8 = 0x2;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PUSH_PROMISE: u8 = 0x5;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const PRIORITIZED: u8 = 0x20;

pub(crate) const NO_ERROR: u32 = 0x0;
pub(crate) const PROTOCOL_ERROR: u32 = 0x1;
pub(crate) const INTERNAL_ERROR: u32 = 0x2;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 0x3;
pub(crate) const STREAM_CLOSED: u32 = 0x5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 0x6;
pub(crate) const REFUSED_STREAM: u32 = 0x7;
pub(crate) const CANCEL: u32 = 0x8;
pub(crate) const COMPRESSION_ERROR: u32 = 0x9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 0xb;

/// The largest that a client takes which has not asked for more.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 14;

/// `:status 200`, from HPACK's table (RFC 7541, appendix A).
pub(crate) const STATUS_200: u8 = 0x88;

/// A frame with any head and any payload.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A whole header block in one frame.
pub(crate) fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, block)
}

pub(crate) fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, payload)
}

/// DATA frames of the largest size for a body of any.
pub(crate) fn body(stream: u32, bytes: &[u8]) -> Vec<u8> {
    bytes
        .chunks(FRAME_BYTES_MAX)
        .map(|chunk| data(stream, 0, chunk))
        .collect::<Vec<_>>()
        .concat()
}

pub(crate) fn rst(stream: u32, reason: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &reason.to_be_bytes())
}

pub(crate) fn ping(flags: u8, payload: [u8; 8]) -> Vec<u8> {
    frame(PING, flags, 0, &payload)
}

pub(crate) fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

pub(crate) fn go_away(last: u32, reason: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat())
}

/// SETTINGS of these identifiers and values.
pub(crate) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let setting = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(
        SETTINGS,
        0,
        0,
        &values.iter().flat_map(setting).collect::<Vec<_>>(),
    )
}

/// A header field in full, not to be indexed.
pub(crate) fn field(name: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let mut field = vec![0];
    field.extend(integer(7, 0, name.len()));
    field.extend(name.as_bytes());
    field.extend(integer(7, 0, value.len()));
    field.extend(value);
    field
}

/// An integer with a prefix of so many bits (RFC 7541, section 5.1), under `pattern`.
pub(crate) fn integer(bits: u8, pattern: u8, value: usize) -> Vec<u8> {
    let max = (1_usize << bits) - 1;
    if value < max {
        return vec![pattern | u8::try_from(value).unwrap()];
    }
    let mut bytes = vec![pattern | u8::try_from(max).unwrap()];
    let mut rest = value - max;
    while rest >= 128 {
        bytes.push(0x80 | u8::try_from(rest % 128).unwrap());
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

/// The head of a good answer.
pub(crate) fn head() -> Vec<u8> {
    [vec![STATUS_200], field("content-type", "application/grpc")].concat()
}

/// The trailers of this status.
pub(crate) fn trailers(status: &str) -> Vec<u8> {
    field("grpc-status", status)
}

/// A gRPC message behind its prefix.
pub(crate) fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), bytes].concat()
}

/// A whole answer: head, this body, and the trailers of this status.
pub(crate) fn answer(stream: u32, bytes: &[u8], status: &str) -> Vec<u8> {
    let head = headers(stream, 0, &head());
    [
        head,
        body(stream, bytes),
        headers(stream, END_STREAM, &trailers(status)),
    ]
    .concat()
}

/// What a put is answered with, without a header: a message of no fields.
pub(crate) fn good(stream: u32) -> Vec<u8> {
    answer(stream, &message(b""), "0")
}
