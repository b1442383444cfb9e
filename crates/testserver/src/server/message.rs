//! gRPC's messages on an HTTP/2 stream: taken out of what a client sends, and put
//! into what it is answered.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response};

use crate::error::Code;
use crate::service::Status;

/// One byte that says whether it is compressed, four of length.
const PREFIX_BYTES: usize = 5;
/// The largest request that is read at all: etcd's limit for one, and room around it.
const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// What a client sends on a stream.
#[derive(Debug)]
pub(super) struct Requests {
    body: RecvStream,
    buffer: BytesMut,
}

impl Requests {
    pub(super) fn new(body: RecvStream) -> Requests {
        let buffer = BytesMut::new();
        Requests { body, buffer }
    }

    /// The next message, or nothing at the end of the stream. Dropped before its
    /// end it loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let Some(data) = self.body.data().await else {
                let whole = self.buffer.is_empty();
                return if whole {
                    Ok(None)
                } else {
                    Err(broken("unexpected EOF"))
                };
            };
            let data = data.map_err(|error| broken(error.to_string()))?;
            let _ = self.body.flow_control().release_capacity(data.len());
            self.buffer.extend_from_slice(&data);
        }
    }

    /// The one message of a unary call.
    pub(super) async fn only(&mut self) -> Result<Bytes, Status> {
        let message = self.next().await?.ok_or_else(|| broken("no request message"))?;
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(broken("more than one request message")),
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((prefix, _)) = self.buffer.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let [compressed, a, b, c, d] = *prefix;
        if compressed != 0 {
            let message = "grpc: Decompressor is not installed for grpc-encoding";
            return Err(Status::new(Code::Unimplemented, message));
        }
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > MESSAGE_BYTES_MAX {
            let message =
                format!("grpc: received message larger than max ({length} vs. {MESSAGE_BYTES_MAX})");
            return Err(Status::new(Code::ResourceExhausted, message));
        }
        if self.buffer.len() - PREFIX_BYTES < length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// What a client is answered on a stream.
#[derive(Debug)]
pub(super) struct Answers {
    stream: SendStream<Bytes>,
}

impl Answers {
    /// Sends the head of a good answer.
    pub(super) fn open(mut respond: SendResponse<Bytes>) -> Result<Answers, h2::Error> {
        let stream = respond.send_response(head(HeaderMap::new()), false)?;
        Ok(Answers { stream })
    }

    /// Sends one message, as fast as the client takes it.
    pub(super) async fn send(&mut self, message: Bytes) -> Result<(), h2::Error> {
        let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.len());
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).map_err(|_| Reason::INTERNAL_ERROR)?);
        frame.put_slice(&message);
        while frame.has_remaining() {
            self.stream.reserve_capacity(frame.len());
            let capacity = poll_fn(|cx| self.stream.poll_capacity(cx)).await;
            let capacity = capacity.ok_or(Reason::CANCEL)??;
            let piece = frame.split_to(capacity.min(frame.len()));
            self.stream.send_data(piece.freeze(), false)?;
        }
        Ok(())
    }

    /// Ready when the client does not want the rest, or is gone.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, h2::Error>> {
        self.stream.poll_reset(cx)
    }

    pub(super) fn finish(mut self, status: Result<(), Status>) -> Result<(), h2::Error> {
        self.stream.send_trailers(trailers(status))
    }
}

/// Answers with a status alone.
pub(super) fn refuse(mut respond: SendResponse<Bytes>, status: Status) -> Result<(), h2::Error> {
    respond.send_response(head(trailers(Err(status))), true).map(drop)
}

fn head(mut headers: HeaderMap) -> Response<()> {
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut head = Response::new(());
    *head.headers_mut() = headers;
    head
}

fn trailers(status: Result<(), Status>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let Err(status) = status else {
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        return trailers;
    };
    trailers.insert("grpc-status", HeaderValue::from(status.code));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&status.message)) {
        trailers.insert("grpc-message", message);
    }
    trailers
}

/// All that is not printable ASCII, and `%` itself.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn broken(message: impl Into<String>) -> Status {
    Status::new(Code::Internal, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_two_trailers_with_its_text_escaped() {
        let status = Status::new(Code::OutOfRange, "100% of ä");
        let trailers = trailers(Err(status));
        assert_eq!(trailers["grpc-status"], "11");
        assert_eq!(trailers["grpc-message"], "100%25 of %C3%A4");
        assert_eq!(super::trailers(Ok(())).len(), 1);
    }
}
