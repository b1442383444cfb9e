//! The 57 cases that h2spec has for clients, by their section there (those of RFC
//! 7540) and their number within it. What h2spec says goes for the frames; what
//! the call comes to is ours. The peer begins once it has read a request, where
//! h2spec has it begin with none.

use tenure::{Code, Delivery, Origin};

use crate::case::{BROKEN, Case, End, LATE, Play, Then, run};
use crate::frames::*;

/// A breach that costs the connection, for one of these reasons.
const fn fatal(
    source: &'static str,
    name: &'static str,
    bytes: fn(u32) -> Vec<u8>,
    reasons: &'static [u32],
) -> Case {
    Case::new(source, name, Play::Answers(bytes), BROKEN, Then::Lost(reasons))
}

/// A breach behind the whole answer to the call.
const fn fatal_after(
    source: &'static str,
    name: &'static str,
    bytes: fn(u32) -> Vec<u8>,
    reasons: &'static [u32],
) -> Case {
    Case::new(
        source,
        name,
        Play::Answers(bytes),
        End::Either,
        Then::Lost(reasons),
    )
}

/// What a client has to ignore.
const fn ignored(source: &'static str, name: &'static str, bytes: fn(u32) -> Vec<u8>) -> Case {
    Case::new(source, name, Play::Precedes(bytes), End::Answered, Then::Kept)
}

/// Of a type that HTTP/2 does not define.
fn stranger(_: u32) -> Vec<u8> {
    frame(0x16, 0, 0, &[0; 8])
}

/// A header block that begins in a frame without END_HEADERS.
fn begun(stream: u32) -> Vec<u8> {
    frame(HEADERS, 0, stream, &head())
}

fn dummy() -> Vec<u8> {
    field("x-dummy", "0")
}

/// An answer that is whole, so that its stream is closed.
fn closed(stream: u32) -> Vec<u8> {
    good(stream)
}

/// A stream that the peer itself has reset.
fn reset(stream: u32) -> Vec<u8> {
    [headers(stream, 0, &head()), rst(stream, CANCEL)].concat()
}

/// h2 says PROTOCOL_ERROR where a frame by itself is wrong.
const FRAME_SIZE: &[u32] = &[FRAME_SIZE_ERROR, PROTOCOL_ERROR];
const FLOW_CONTROL: &[u32] = &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR];

/// A call that the peer has reset.
const CANCELLED: End = End::Fails(Code::Cancelled, Origin::Transport, Delivery::Unknown);
/// A call that has a good HTTP status, and no other.
const NO_STATUS: End = End::Fails(Code::Unknown, Origin::Transport, Delivery::Unknown);

/// Of a stream that nobody has opened.
const IDLE: u32 = 2;

#[test]
fn section_1_to_4_of_h2spec() {
    const BIG: usize = FRAME_BYTES_MAX + 1;
    run(&[
        ignored("h2spec 1/1", "a server preface", |_| Vec::new()),
        ignored("h2spec 4.1/1", "a frame of unknown type", stranger),
        ignored("h2spec 4.1/2", "undefined flags", |_| {
            frame(PING, 0x16, 0, &[0; 8])
        }),
        ignored("h2spec 4.1/3", "the reserved bit", |_| {
            frame(PING, 0x16, 1 << 31, &[0; 8])
        }),
        Case::new(
            "h2spec 4.2/1",
            "DATA of 2^14 octets",
            Play::Answers(|stream| answer(stream, &message(&[0x4a; FRAME_BYTES_MAX - 5]), "0")),
            crate::case::BREACH,
            Then::Kept,
        ),
        fatal(
            "h2spec 4.2/2",
            "DATA over SETTINGS_MAX_FRAME_SIZE",
            |stream| [headers(stream, 0, &head()), data(stream, END_STREAM, &[0; BIG])].concat(),
            FRAME_SIZE,
        ),
        fatal(
            "h2spec 4.2/3",
            "HEADERS over SETTINGS_MAX_FRAME_SIZE",
            |stream| headers(stream, END_STREAM, &[&head()[..], &[0x88; BIG]].concat()),
            FRAME_SIZE,
        ),
        fatal(
            "h2spec 4.3/1",
            "an invalid header block",
            |stream| headers(stream, 0, b"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x40"),
            &[COMPRESSION_ERROR, PROTOCOL_ERROR],
        ),
    ]);
}

#[test]
fn section_5_1_of_h2spec() {
    run(&[
        fatal(
            "h2spec 5.1/1",
            "idle: DATA",
            |_| data(IDLE, END_STREAM, b"test"),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 5.1/2",
            "idle: RST_STREAM",
            |_| rst(IDLE, CANCEL),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 5.1/3",
            "idle: WINDOW_UPDATE",
            |_| window_update(IDLE, 100),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 5.1/4",
            "idle: CONTINUATION",
            |_| frame(CONTINUATION, END_HEADERS, IDLE, &head()),
            &[PROTOCOL_ERROR],
        ),
        Case::new(
            "h2spec 5.1/5",
            "closed: DATA behind a RST_STREAM",
            Play::Answers(|stream| [reset(stream), data(stream, END_STREAM, b"test")].concat()),
            CANCELLED,
            Then::Whatever,
        ),
        Case::new(
            "h2spec 5.1/6",
            "closed: HEADERS behind a RST_STREAM",
            Play::Answers(|stream| [reset(stream), headers(stream, END_STREAM, &dummy())].concat()),
            CANCELLED,
            Then::Whatever,
        ),
        Case::new(
            "h2spec 5.1/7",
            "closed: CONTINUATION behind a RST_STREAM",
            Play::Answers(|stream| {
                [reset(stream), frame(CONTINUATION, END_HEADERS, stream, &dummy())].concat()
            }),
            CANCELLED,
            Then::Lost(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
    ]);
}

#[test]
fn section_5_1_of_h2spec_closed_streams() {
    run(&[
        Case::new(
            "h2spec 5.1/8",
            "closed: DATA",
            Play::Answers(|stream| [closed(stream), data(stream, END_STREAM, b"test")].concat()),
            End::Either,
            Then::Whatever,
        ),
        Case::new(
            "h2spec 5.1/9",
            "closed: HEADERS",
            Play::Answers(|stream| [closed(stream), headers(stream, END_STREAM, &dummy())].concat()),
            End::Either,
            Then::Whatever,
        ),
        fatal_after(
            "h2spec 5.1/10",
            "closed: CONTINUATION",
            |stream| [closed(stream), frame(CONTINUATION, END_HEADERS, stream, &dummy())].concat(),
            &[PROTOCOL_ERROR, STREAM_CLOSED],
        ),
    ]);
}

#[test]
fn section_5_1_1_to_5_5_of_h2spec() {
    run(&[
        fatal(
            "h2spec 5.1.1/1",
            "a stream identifier of the client's that it has not used",
            |_| headers(101, END_STREAM, &head()),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 5.4.1/1",
            "a PING that closes the connection",
            |_| frame(PING, 0, 3, &[0; 8]),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 5.4.1/2",
            "a PING that brings a GOAWAY",
            |_| frame(PING, 0, 3, &[0; 8]),
            &[PROTOCOL_ERROR],
        ),
        ignored("h2spec 5.5/1", "an unknown extension frame", stranger),
    ]);
}

#[test]
fn section_6_1_and_6_2_of_h2spec() {
    run(&[
        fatal(
            "h2spec 6.1/1",
            "DATA on stream 0",
            |_| data(0, END_STREAM, b"test"),
            &[PROTOCOL_ERROR],
        ),
        Case::new(
            "h2spec 6.1/2",
            "DATA on a stream that is closed",
            Play::Answers(|stream| {
                [
                    headers(stream, END_STREAM, &head()),
                    data(stream, END_STREAM, b"test"),
                ]
                .concat()
            }),
            NO_STATUS,
            Then::Whatever,
        ),
        fatal(
            "h2spec 6.1/3",
            "DATA with an invalid pad length",
            |stream| {
                [
                    headers(stream, 0, &head()),
                    data(stream, END_STREAM | PADDED, b"\x06Test"),
                ]
                .concat()
            },
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.2/1",
            "PRIORITY inside a header block",
            |stream| {
                [
                    begun(stream),
                    frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 255]),
                    frame(CONTINUATION, END_HEADERS, stream, &dummy()),
                ]
                .concat()
            },
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.2/2",
            "HEADERS on stream 0",
            |_| headers(0, END_STREAM, &head()),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.2/3",
            "HEADERS with an invalid pad length",
            |stream| {
                frame(
                    HEADERS,
                    END_HEADERS | PADDED,
                    stream,
                    &[&[0xff], &head()[..]].concat(),
                )
            },
            &[PROTOCOL_ERROR],
        ),
    ]);
}

#[test]
fn section_6_3_and_6_4_of_h2spec() {
    run(&[
        fatal(
            "h2spec 6.3/1",
            "PRIORITY on stream 0",
            |_| frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 255]),
            &[PROTOCOL_ERROR],
        ),
        Case::new(
            "h2spec 6.3/2",
            "PRIORITY of 4 octets",
            Play::Answers(|stream| {
                [
                    headers(stream, 0, &head()),
                    frame(PRIORITY, 0, stream, b"\x80\x00\x00\x01"),
                ]
                .concat()
            }),
            BROKEN,
            Then::Lost(FRAME_SIZE),
        ),
        fatal(
            "h2spec 6.4/1",
            "RST_STREAM on stream 0",
            |_| rst(0, CANCEL),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.4/2",
            "RST_STREAM on an idle stream",
            |_| rst(IDLE, CANCEL),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.4/3",
            "RST_STREAM of 3 octets",
            |stream| [headers(stream, 0, &head()), frame(RST_STREAM, 0, stream, &[0; 3])].concat(),
            FRAME_SIZE,
        ),
    ]);
}

#[test]
fn section_6_5_of_h2spec() {
    run(&[
        fatal(
            "h2spec 6.5/1",
            "a SETTINGS acknowledgement with a payload",
            |_| frame(SETTINGS, ACK, 0, &[0]),
            FRAME_SIZE,
        ),
        fatal(
            "h2spec 6.5/2",
            "SETTINGS on a stream",
            |_| frame(SETTINGS, 0, 1, b"\x00\x03\x00\x00\x00\x64"),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.5/3",
            "SETTINGS of 3 octets",
            |_| frame(SETTINGS, 0, 0, b"\x00\x03\x00"),
            FRAME_SIZE,
        ),
        fatal(
            "h2spec 6.5.2/1",
            "INITIAL_WINDOW_SIZE over 2^31-1",
            |_| settings(&[(4, 1 << 31)]),
            FLOW_CONTROL,
        ),
        fatal(
            "h2spec 6.5.2/2",
            "MAX_FRAME_SIZE below 2^14",
            |_| settings(&[(5, 16_383)]),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.5.2/3",
            "MAX_FRAME_SIZE over 2^24-1",
            |_| settings(&[(5, 1 << 24)]),
            &[PROTOCOL_ERROR],
        ),
        ignored("h2spec 6.5.2/4", "an unknown setting", |_| settings(&[(0xff, 1)])),
        ignored("h2spec 6.5.3/1", "SETTINGS to be acknowledged", |_| {
            settings(&[(3, 100)])
        }),
    ]);
}

/// The same settings, as the first word of a server.
#[test]
fn section_6_5_of_h2spec_as_a_preface() {
    const fn greeted(source: &'static str, name: &'static str, bytes: fn() -> Vec<u8>) -> Case {
        Case::new(source, name, Play::Greets(bytes), End::Either, Then::Redialled)
    }
    run(&[
        greeted(
            "h2spec 6.5/1",
            "first: a SETTINGS acknowledgement with a payload",
            || frame(SETTINGS, ACK, 0, &[0]),
        ),
        greeted("h2spec 6.5/2", "first: SETTINGS on a stream", || {
            frame(SETTINGS, 0, 1, b"\x00\x03\x00\x00\x00\x64")
        }),
        greeted("h2spec 6.5/3", "first: SETTINGS of 3 octets", || {
            frame(SETTINGS, 0, 0, b"\x00\x03\x00")
        }),
        greeted("h2spec 6.5.2/1", "first: INITIAL_WINDOW_SIZE over 2^31-1", || {
            settings(&[(4, 1 << 31)])
        }),
        greeted("h2spec 6.5.2/2", "first: MAX_FRAME_SIZE below 2^14", || {
            settings(&[(5, 16_383)])
        }),
        greeted("h2spec 6.5.2/3", "first: MAX_FRAME_SIZE over 2^24-1", || {
            settings(&[(5, 1 << 24)])
        }),
        Case::new(
            "h2spec 6.5.2/4",
            "first: an unknown setting",
            Play::Greets(|| settings(&[(0xff, 1)])),
            End::Answered,
            Then::Kept,
        ),
        Case::new(
            "h2spec 6.5.3/1",
            "first: settings",
            Play::Greets(|| settings(&[(3, 100)])),
            End::Answered,
            Then::Kept,
        ),
    ]);
}

#[test]
fn section_6_7_to_6_9_of_h2spec() {
    const MAX: u32 = (1 << 31) - 1;
    run(&[
        ignored("h2spec 6.7/1", "a PING", |_| ping(0, *b"h2spec\0\0")),
        ignored(
            "h2spec 6.7/2",
            "a PING acknowledgement that nobody waits for",
            |_| ping(ACK, *b"invalid\0"),
        ),
        fatal(
            "h2spec 6.7/3",
            "a PING on a stream",
            |_| frame(PING, 0, 1, &[0; 8]),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.7/4",
            "a PING of 6 octets",
            |_| frame(PING, 0, 0, &[0; 6]),
            FRAME_SIZE,
        ),
        fatal(
            "h2spec 6.8/1",
            "GOAWAY on a stream",
            |_| frame(GOAWAY, 0, 1, &[0; 8]),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.9/1",
            "a WINDOW_UPDATE of 0",
            |_| window_update(0, 0),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.9/2",
            "a WINDOW_UPDATE of 0 on a stream",
            |stream| window_update(stream, 0),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.9/3",
            "a WINDOW_UPDATE of 3 octets",
            |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1]),
            FRAME_SIZE,
        ),
        fatal(
            "h2spec 6.9.1/1",
            "a window over 2^31-1",
            |_| [window_update(0, MAX), window_update(0, MAX)].concat(),
            FLOW_CONTROL,
        ),
        Case::new(
            "h2spec 6.9.1/2",
            "a window over 2^31-1 on a stream",
            Play::Answers(|stream| [window_update(stream, MAX), window_update(stream, MAX)].concat()),
            LATE,
            Then::Kept,
        ),
    ]);
}

#[test]
fn section_6_10_of_h2spec() {
    fn more(stream: u32, flags: u8) -> Vec<u8> {
        frame(CONTINUATION, flags, stream, &dummy())
    }
    run(&[
        Case::new(
            "h2spec 6.10/1",
            "several CONTINUATIONs behind HEADERS",
            Play::Answers(|stream| {
                [
                    begun(stream),
                    more(stream, 0),
                    more(stream, END_HEADERS),
                    body(stream, &message(b"")),
                    headers(stream, END_STREAM, &trailers("0")),
                ]
                .concat()
            }),
            End::Answered,
            Then::Kept,
        ),
        fatal(
            "h2spec 6.10/2",
            "DATA inside a header block",
            |stream| [begun(stream), more(stream, 0), data(stream, END_STREAM, b"test")].concat(),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.10/3",
            "CONTINUATION on stream 0",
            |stream| [begun(stream), more(0, END_HEADERS)].concat(),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.10/4",
            "CONTINUATION behind END_HEADERS",
            |stream| [headers(stream, 0, &head()), more(stream, END_HEADERS)].concat(),
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.10/5",
            "CONTINUATION behind the last one",
            |stream| {
                [
                    begun(stream),
                    more(stream, END_HEADERS),
                    more(stream, END_HEADERS),
                ]
                .concat()
            },
            &[PROTOCOL_ERROR],
        ),
        fatal(
            "h2spec 6.10/6",
            "CONTINUATION behind DATA",
            |stream| {
                [
                    headers(stream, 0, &head()),
                    data(stream, 0, b"test"),
                    more(stream, 0),
                ]
                .concat()
            },
            &[PROTOCOL_ERROR],
        ),
    ]);
}
