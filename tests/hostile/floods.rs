//! Floods, and the opposite: servers that send too much of what is allowed, or too
//! little. A call ends by its deadline, memory stays where it is, and the
//! connection serves the next call or is replaced.

use tenure::{Code, Delivery, Origin};

use crate::case::{BREACH, BROKEN, Case, End, LATE, Play, Then, run};
use crate::frames::*;

const FLOOD: &str = "flood:";
/// Of frames that cost nine bytes and more.
const TIMES: usize = 10_000;
const CANCELLED: End = End::Fails(Code::Cancelled, Origin::Transport, Delivery::Unknown);

const fn survived(name: &'static str, piece: fn(u32, usize) -> Vec<u8>) -> Case {
    Case::new(FLOOD, name, Play::Floods(TIMES, piece), End::Answered, Then::Kept)
}

const fn deaf(name: &'static str, piece: fn(u32, usize) -> Vec<u8>) -> Case {
    Case::new(FLOOD, name, Play::FloodsDeaf(TIMES, piece), LATE, Then::Whatever)
}

/// Goes on until the client has had enough.
const fn endless(
    name: &'static str,
    begin: fn(u32) -> Vec<u8>,
    piece: fn(u32) -> Vec<u8>,
    end: End,
    then: Then,
) -> Case {
    Case::new(FLOOD, name, Play::Drips(begin, piece), end, then)
}

const fn whole(name: &'static str, bytes: fn(u32) -> Vec<u8>, end: End, then: Then) -> Case {
    Case::new(FLOOD, name, Play::Answers(bytes), end, then)
}

/// `:status 103`.
fn hint(stream: u32) -> Vec<u8> {
    headers(stream, 0, b"\x08\x03103")
}

fn nothing(_: u32) -> Vec<u8> {
    Vec::new()
}

fn open(stream: u32) -> Vec<u8> {
    headers(stream, 0, &head())
}

#[test]
fn control_frames() {
    run(&[
        survived("PING", |_, time| ping(0, (time as u64).to_be_bytes())),
        survived("PING acknowledgements", |_, _| ping(ACK, [7; 8])),
        survived("empty SETTINGS", |_, _| settings(&[])),
        survived("SETTINGS that move every window", |_, time| {
            settings(&[(4, 65_535 + (time % 2) as u32)])
        }),
        survived("SETTINGS that resize the header table", |_, time| {
            settings(&[(1, (time % 2) as u32 * 4096)])
        }),
        survived("WINDOW_UPDATE", |_, _| window_update(0, 1)),
        survived("WINDOW_UPDATE of a stream", |stream, _| window_update(stream, 1)),
        survived("PRIORITY", |stream, _| {
            frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 255])
        }),
        survived("PRIORITY of idle streams", |_, time| {
            frame(PRIORITY, 0, 3 + 2 * (time as u32), &[0, 0, 0, 0, 255])
        }),
        survived("unknown frames", |_, _| frame(0x16, 0, 0, &[0; 8])),
        Case::new(
            FLOOD,
            "SETTINGS acknowledgements that nobody waits for",
            Play::Floods(TIMES, |_, _| frame(SETTINGS, ACK, 0, &[])),
            BROKEN,
            Then::Lost(&[PROTOCOL_ERROR]),
        ),
        Case::new(
            FLOOD,
            "large unknown frames",
            Play::Floods(1000, |stream, _| frame(0x16, 0, stream, &[0; FRAME_BYTES_MAX])),
            End::Answered,
            Then::Kept,
        ),
        Case::new(
            FLOOD,
            "GOAWAYs that name every stream",
            Play::Floods(TIMES, |_, _| go_away((1 << 31) - 1, NO_ERROR)),
            End::Answered,
            Then::Redialled,
        ),
    ]);
}

#[test]
fn control_frames_without_an_end() {
    const fn late(name: &'static str, piece: fn(u32) -> Vec<u8>) -> Case {
        endless(name, nothing, piece, LATE, Then::Whatever)
    }
    run(&[
        late("PING without an end", |_| ping(0, [7; 8]).repeat(1000)),
        late("SETTINGS without an end", |_| {
            settings(&[(4, 65_535)]).repeat(1000)
        }),
        late("WINDOW_UPDATE without an end", |_| {
            window_update(0, 1).repeat(1000)
        }),
        late("PRIORITY without an end", |stream| {
            frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 255]).repeat(1000)
        }),
        late("unknown frames without an end", |stream| {
            frame(0x16, 0, stream, &[0; FRAME_BYTES_MAX])
        }),
        late("GOAWAY without an end", |_| {
            go_away((1 << 31) - 1, NO_ERROR).repeat(1000)
        }),
    ]);
}

#[test]
fn control_frames_from_a_server_that_does_not_read() {
    run(&[
        deaf("PING, deaf", |_, _| ping(0, [7; 8])),
        deaf("SETTINGS, deaf", |_, _| settings(&[])),
    ]);
    run(&[Case::new(
        FLOOD,
        "HEADERS that have to be reset, deaf",
        Play::FloodsDeaf(TIMES, |stream, time| {
            if time == 0 {
                good(stream)
            } else {
                headers(stream, END_STREAM, &head())
            }
        }),
        End::Either,
        Then::Whatever,
    )]);
}

fn begun(stream: u32) -> Vec<u8> {
    frame(HEADERS, 0, stream, &head())
}

#[test]
fn heads() {
    run(&[
        survived("1xx", |stream, _| hint(stream)),
        endless(
            "1xx without an end",
            nothing,
            |stream| hint(stream).repeat(1000),
            LATE,
            Then::Kept,
        ),
        endless(
            "1xx of 8 KiB without an end",
            nothing,
            |stream| {
                headers(
                    stream,
                    0,
                    &[b"\x08\x03103".to_vec(), field("x", [b'x'; 8000])].concat(),
                )
            },
            LATE,
            Then::Kept,
        ),
        endless(
            "1xx of 470 fields without an end",
            |stream| headers(stream, 0, b"\x08\x03103\x40\x01x\x01y"),
            |stream| headers(stream, 0, &[b"\x08\x03103", &[0xbe; 470][..]].concat()),
            LATE,
            Then::Kept,
        ),
    ]);
}

#[test]
fn header_blocks_over_many_frames() {
    run(&[
        endless(
            "CONTINUATION without an end",
            begun,
            |stream| frame(CONTINUATION, 0, stream, &field("x-more", [b'x'; 1000])),
            BROKEN,
            Then::Lost(&[ENHANCE_YOUR_CALM, PROTOCOL_ERROR, COMPRESSION_ERROR]),
        ),
        endless(
            "empty CONTINUATION without an end",
            begun,
            |stream| frame(CONTINUATION, 0, stream, &[]).repeat(1000),
            BROKEN,
            Then::Lost(&[ENHANCE_YOUR_CALM, PROTOCOL_ERROR]),
        ),
        endless(
            "a string of 2 GiB in CONTINUATION",
            |stream| {
                frame(
                    HEADERS,
                    0,
                    stream,
                    &[&[STATUS_200, 0][..], &integer(7, 0, 1 << 31)].concat(),
                )
            },
            |stream| frame(CONTINUATION, 0, stream, &[b'x'; FRAME_BYTES_MAX]),
            BROKEN,
            Then::Lost(&[ENHANCE_YOUR_CALM, PROTOCOL_ERROR, COMPRESSION_ERROR]),
        ),
        whole(
            "one large field, 12,000 times",
            |stream| {
                // Put into the table once, and named by a byte from then on.
                let large = [&[0x40, 1, b'x'][..], &integer(7, 0, 3900), &[b'x'; 3900]].concat();
                headers(stream, 0, &[head(), large, vec![0xbe; 12_000]].concat())
            },
            BROKEN,
            Then::Lost(&[ENHANCE_YOUR_CALM]),
        ),
        whole(
            "16,000 table size updates",
            |stream| {
                let head = headers(stream, 0, &[vec![0x20; 16_000], head()].concat());
                let end = headers(stream, END_STREAM, &trailers("0"));
                [head, data(stream, 0, &message(b"")), end].concat()
            },
            End::Answered,
            Then::Kept,
        ),
    ]);
}

#[test]
fn metadata_of_more_than_16_kib() {
    fn ended(stream: u32, end: &[u8]) -> Vec<u8> {
        [&open(stream), &data(stream, 0, &message(b"")), end].concat()
    }
    fn long(stream: u32, first: Vec<u8>, flags: u8) -> Vec<u8> {
        let more = field("grpc-message", vec![b'x'; 10_000]);
        [
            frame(HEADERS, flags, stream, &[first, more.clone()].concat()),
            frame(CONTINUATION, END_HEADERS, stream, &more),
        ]
        .concat()
    }
    run(&[
        whole(
            "a head of 20 KiB",
            |stream| long(stream, head(), 0),
            BREACH,
            Then::Whatever,
        ),
        whole(
            "trailers of 20 KiB, of which h2 keeps the first 16",
            |stream| ended(stream, &long(stream, trailers("0"), END_STREAM)),
            End::Answered,
            Then::Kept,
        ),
        whole(
            "trailers of 20 KiB without a status",
            |stream| ended(stream, &long(stream, Vec::new(), END_STREAM)),
            End::Fails(Code::Unknown, Origin::Transport, Delivery::Unknown),
            Then::Kept,
        ),
        whole(
            "trailers of 15 KiB",
            |stream| {
                let end = [trailers("9"), field("grpc-message", vec![b'%'; 15_000])].concat();
                [open(stream), headers(stream, END_STREAM, &end)].concat()
            },
            End::Fails(Code::FailedPrecondition, Origin::Server, Delivery::Answered),
            Then::Kept,
        ),
    ]);
}

#[test]
fn bodies() {
    run(&[
        whole(
            "50 empty DATA frames",
            |stream| {
                let end = headers(stream, END_STREAM, &trailers("0"));
                [
                    open(stream),
                    data(stream, 0, b"").repeat(50),
                    data(stream, 0, &message(b"")),
                    end,
                ]
                .concat()
            },
            End::Answered,
            Then::Kept,
        ),
        endless(
            "empty DATA without an end",
            open,
            |stream| data(stream, 0, b"").repeat(1000),
            BROKEN,
            Then::Lost(&[ENHANCE_YOUR_CALM]),
        ),
        endless(
            "padding without an end",
            open,
            |stream| data(stream, PADDED, &[&[255][..], &[0; 255]].concat()).repeat(10),
            BROKEN,
            Then::Lost(&[ENHANCE_YOUR_CALM]),
        ),
    ]);
}

#[test]
fn bodies_that_go_on() {
    run(&[
        endless(
            "a message that comes by the byte",
            |stream| [open(stream), data(stream, 0, b"\0\0\x03\xff\xff")].concat(),
            |stream| data(stream, 0, b"x"),
            LATE,
            Then::Whatever,
        ),
        endless(
            "messages without an end",
            |stream| [open(stream), data(stream, 0, &message(b""))].concat(),
            |stream| data(stream, 0, &message(b"").repeat(1000)),
            BREACH,
            Then::Kept,
        ),
        endless(
            "a page without an end",
            |stream| {
                headers(
                    stream,
                    0,
                    &[vec![STATUS_200], field("content-type", "text/html")].concat(),
                )
            },
            |stream| data(stream, 0, &[b'x'; 1000]),
            End::Fails(Code::Unknown, Origin::Transport, Delivery::Unknown),
            Then::Kept,
        ),
        whole(
            "4 MiB behind the end of the call",
            |stream| {
                [
                    open(stream),
                    data(stream, 0, b"\x02\0\0\0\0"),
                    body(stream, &vec![0; 4 << 20]),
                ]
                .concat()
            },
            BREACH,
            Then::Whatever,
        ),
        whole(
            "10,000 resets",
            |stream| rst(stream, CANCEL).repeat(TIMES),
            CANCELLED,
            Then::Whatever,
        ),
    ]);
}

#[test]
fn servers_that_push_or_open_streams() {
    run(&[
        whole(
            "PUSH_PROMISE",
            |stream| {
                frame(
                    PUSH_PROMISE,
                    END_HEADERS,
                    stream,
                    &[&[0, 0, 0, 2], &head()[..]].concat(),
                )
            },
            BROKEN,
            Then::Lost(&[PROTOCOL_ERROR]),
        ),
        whole(
            "a stream of the server's own",
            |_| headers(2, 0, &head()),
            BROKEN,
            Then::Lost(&[PROTOCOL_ERROR]),
        ),
    ]);
}

#[test]
fn servers_that_give_too_little() {
    const STARVED: &str = "starved:";
    run(&[
        Case::new(
            STARVED,
            "MAX_CONCURRENT_STREAMS 0",
            Play::Starves(|| settings(&[(3, 0)]), || settings(&[(3, 100)])),
            End::Either,
            Then::Redialled,
        ),
        Case::new(
            STARVED,
            "INITIAL_WINDOW_SIZE 0",
            Play::Starves(|| settings(&[(4, 0)]), || settings(&[(4, 65_535)])),
            LATE,
            Then::Whatever,
        ),
        Case::new(
            STARVED,
            "no settings",
            Play::Starves(Vec::new, || settings(&[])),
            End::Either,
            Then::Redialled,
        ),
        Case::new(
            STARVED,
            "half a frame",
            Play::Starves(|| settings(&[])[..5].to_vec(), || settings(&[])[5..].to_vec()),
            End::Either,
            Then::Redialled,
        ),
        Case::new(
            STARVED,
            "a byte at a time",
            Play::Dribbles(good),
            End::Answered,
            Then::Kept,
        ),
    ]);
}
