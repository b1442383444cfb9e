//! A peer that speaks HTTP/2 by the byte, for what no library would send.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::peer::patiently;

const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;

const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
const ACK: u8 = 0x1;

/// A setting (RFC 9113, section 6.5.2).
const MAX_CONCURRENT_STREAMS: u16 = 0x3;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `:status 200`, from HPACK's table (RFC 7541, appendix A).
const STATUS_200: u8 = 0x88;

/// The server's end of a connection.
pub(crate) struct Raw {
    io: DuplexStream,
}

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Raw {
    /// Reads the client's preface and sends settings that set nothing.
    pub(crate) async fn accept(mut io: DuplexStream) -> Raw {
        let mut preface = [0; PREFACE.len()];
        patiently("a preface", io.read_exact(&mut preface)).await.unwrap();
        assert_eq!(preface, PREFACE);
        let mut raw = Raw { io };
        raw.send(SETTINGS, 0, 0, &[]).await;
        raw
    }

    /// The next frame; none at the end of the connection.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        patiently("a frame", self.io.read_exact(&mut head)).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.io.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    /// The next frame of this kind. Acknowledges settings and pings on the way, and accepts
    /// no GOAWAY but one that is asked for.
    pub(crate) async fn next(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().await.expect("the connection lives");
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                self.send(SETTINGS, ACK, 0, &[]).await;
            }
            if frame.kind == PING && kind != PING && frame.flags & ACK == 0 {
                self.send(PING, ACK, 0, &frame.payload).await;
            }
            if frame.kind == kind && frame.flags & ACK == 0 {
                return frame;
            }
            assert_ne!(frame.kind, GOAWAY, "the client hung up: {frame:?}");
        }
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.io.write_all(&frame).await.unwrap();
    }

    /// Says how many streams may be open at once, and waits until that counts.
    pub(crate) async fn allow_streams(&mut self, count: u32) {
        let payload = [&MAX_CONCURRENT_STREAMS.to_be_bytes()[..], &count.to_be_bytes()].concat();
        self.send(SETTINGS, 0, 0, &payload).await;
        self.until_pong().await;
    }

    /// Asks for a sign of life; the streams that are opened before it comes.
    pub(crate) async fn until_pong(&mut self) -> Vec<u32> {
        self.send(PING, 0, 0, &[1; 8]).await;
        let mut opened = Vec::new();
        loop {
            let frame = self.frame().await.expect("the connection lives");
            match frame.kind {
                PING if frame.flags & ACK != 0 => return opened,
                SETTINGS if frame.flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await,
                HEADERS => opened.push(frame.stream),
                _ => {}
            }
        }
    }

    /// Ends a stream with this status and no message.
    pub(crate) async fn end(&mut self, stream: u32, status: &str) {
        let mut fields = vec![STATUS_200];
        field(&mut fields, "content-type", "application/grpc");
        field(&mut fields, "grpc-status", status);
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &fields).await;
    }

    /// Answers with this body and success.
    pub(crate) async fn answer(&mut self, stream: u32, body: &[u8]) {
        let mut fields = vec![STATUS_200];
        field(&mut fields, "content-type", "application/grpc");
        self.send(HEADERS, END_HEADERS, stream, &fields).await;
        self.send(DATA, 0, stream, body).await;
        let mut trailers = Vec::new();
        field(&mut trailers, "grpc-status", "0");
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &trailers).await;
    }

    /// Says goodbye, with the last stream that was looked at.
    pub(crate) async fn go_away(&mut self, last: u32, reason: u32) {
        let payload = [last.to_be_bytes(), reason.to_be_bytes()].concat();
        self.send(GOAWAY, 0, 0, &payload).await;
    }
}

/// A header field in full, not to be indexed.
fn field(fields: &mut Vec<u8>, name: &str, value: &str) {
    fields.push(0);
    for text in [name, value] {
        fields.push(u8::try_from(text.len()).unwrap());
        fields.extend(text.as_bytes());
    }
}
