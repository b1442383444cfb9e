//! The null server's watch: one event after another from the creation on, as fast as the client
//! takes them, and nothing is asked of it again.

use std::future::poll_fn;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use prost::Message;
use tenure::pb::etcdserverpb::{ResponseHeader, WatchRequest, WatchResponse, watch_request};
use tenure::pb::mvccpb::{Event, KeyValue};

use super::{frame, head};

/// Of one transaction, and so of one message; what `watch-throughput` writes elsewhere.
pub(crate) const EVENTS: u64 = 20;
const VALUE: &[u8] = &[b'x'; 64];
/// What gRPC has before a message.
const PREFIX_BYTES: usize = 5;
/// Those that protobuf writes in four bytes, so that one message can become the next one: enough
/// for five thousand million events.
const REVISIONS: Range<u32> = 1 << 21..1 << 28;
const REVISION_BYTES: usize = 4;

/// Until the client has enough of it.
pub(super) async fn serve(mut body: RecvStream, mut stream: SendStream<Bytes>) -> Result<(), h2::Error> {
    let Some(prefix) = watched(&mut body).await? else {
        return Ok(());
    };
    let created = WatchResponse {
        header: head(),
        created: true,
        ..WatchResponse::default()
    };
    stream.send_data(frame(&created), false)?;
    let mut transaction = Transaction::below(&prefix);
    for revision in REVISIONS {
        let message = transaction.at(revision);
        if !has_capacity(&mut stream, message.len()).await? {
            break;
        }
        stream.send_data(message, false)?;
    }
    Ok(())
}

/// The key of the first message, which creates the watch.
async fn watched(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    let mut read = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        read.extend_from_slice(&chunk);
        let Some(request) = read.get(PREFIX_BYTES..) else {
            continue;
        };
        let length = (&read[1..]).get_u32() as usize;
        if request.len() >= length {
            let request = WatchRequest::decode(&request[..length]).unwrap_or_default();
            return Ok(match request.request_union {
                Some(watch_request::RequestUnion::CreateRequest(create)) => Some(create.key),
                _ => None,
            });
        }
    }
    Ok(None)
}

/// One message, written once: encoding each anew would take longer than reading it does.
struct Transaction {
    frame: BytesMut,
    /// Where the revision is.
    places: Vec<usize>,
}

impl Transaction {
    fn below(prefix: &Bytes) -> Transaction {
        // No other four bytes of it are like these.
        let revision = REVISIONS.end - 1;
        let event = |number: u64| Event {
            kv: Some(KeyValue {
                key: [prefix, format!("0/{number:02}").as_bytes()].concat().into(),
                value: Bytes::from_static(VALUE),
                create_revision: 1,
                mod_revision: revision.into(),
                version: 1,
                lease: 0,
            }),
            ..Event::default()
        };
        let message = WatchResponse {
            header: head().map(|head| ResponseHeader {
                revision: revision.into(),
                ..head
            }),
            events: (0..EVENTS).map(event).collect(),
            ..WatchResponse::default()
        };
        let frame = BytesMut::from(frame(&message));
        let windows = frame.windows(REVISION_BYTES).enumerate();
        let places =
            windows.filter(|(_, bytes)| *bytes == varint(revision)).map(|(place, _)| place).collect();
        Transaction { frame, places }
    }

    fn at(&mut self, revision: u32) -> Bytes {
        for place in &self.places {
            self.frame[*place..][..REVISION_BYTES].copy_from_slice(&varint(revision));
        }
        Bytes::copy_from_slice(&self.frame)
    }
}

/// As protobuf writes one of [`REVISIONS`].
fn varint(revision: u32) -> [u8; REVISION_BYTES] {
    let bits = |from: u32| (revision >> from) as u8 & 0x7f;
    [bits(0) | 0x80, bits(7) | 0x80, bits(14) | 0x80, bits(21)]
}

/// Waits until the client takes so much; false when it takes nothing any more.
async fn has_capacity(stream: &mut SendStream<Bytes>, bytes: usize) -> Result<bool, h2::Error> {
    stream.reserve_capacity(bytes);
    while stream.capacity() < bytes {
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(more) => more?,
            None => return Ok(false),
        };
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_the_next_transaction() {
        let mut transaction = Transaction::below(&Bytes::from_static(b"below/"));
        for revision in [
            REVISIONS.start,
            REVISIONS.start + 1,
            200_000_000,
            REVISIONS.end - 1,
        ] {
            let message = transaction.at(revision);
            let response = WatchResponse::decode(&message[PREFIX_BYTES..]).unwrap();
            assert_eq!(response.header.unwrap().revision, i64::from(revision));
            assert_eq!(response.events.len() as u64, EVENTS);
            for (number, event) in response.events.into_iter().enumerate() {
                let kv = event.kv.unwrap();
                assert_eq!(kv.key, format!("below/0/{number:02}"));
                assert_eq!(kv.mod_revision, i64::from(revision));
            }
        }
    }
}
