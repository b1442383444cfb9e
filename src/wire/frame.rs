//! Length-prefixed messages: how gRPC lays messages out in the body of a stream.
//!
//! Every message has a prefix of [`HEADER_BYTES`]: one byte that says whether it
//! is compressed, which this side never is nor accepts, and four with its length,
//! the most significant first. A length over the limit is refused on the prefix,
//! and a claimed length is never allocated: memory follows what has arrived.
//!
//! ```text
//!             5 bytes                          length bytes
//!  Prefix ────────────────► Message ─────────────────────────────► Prefix
//!    │ bad flag, over limit    │
//!    ▼                         │ finish
//!  Failed ◄────────────────────┘
//! ```

use std::cmp::Ordering;
use std::iter;
use std::ops::Deref;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;

use super::shape::Response;
use super::status::Status;
use crate::error::{Code, Origin};

/// The length of the prefix of a message.
pub const HEADER_BYTES: usize = 5;

/// A message behind its prefix, to be sent: once, or again when that failed. Cloning
/// it is cheap and begins at its start.
#[derive(Debug)]
pub struct Body {
    bytes: Held,
    taken: usize,
}

/// What fits beside a pointer and its length needs no allocation: the renewal of a
/// lease is such a message, and there are thousands a second of them.
const SMALL_BYTES: usize = 22;

#[derive(Clone, Debug)]
enum Held {
    Small { bytes: [u8; SMALL_BYTES], len: u8 },
    Shared(Arc<[u8]>),
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Held::Small { bytes, len } => &bytes[..usize::from(*len)],
            Held::Shared(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Body {
    /// These bytes as they are, whether or not they are messages.
    fn from(bytes: Vec<u8>) -> Body {
        Body {
            bytes: Held::Shared(bytes.into()),
            taken: 0,
        }
    }
}

impl Clone for Body {
    fn clone(&self) -> Body {
        Body {
            bytes: self.bytes.clone(),
            taken: 0,
        }
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }
}

impl Buf for Body {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self
    }

    fn advance(&mut self, count: usize) {
        self.taken = self.bytes.len().min(self.taken + count);
    }
}

/// The prefix and the message in one allocation, which its clones share; in none where
/// both are very small.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` when the message is larger than `limit` bytes, or than a
/// prefix can say.
pub fn encode<M: Message>(message: &M, limit: usize) -> Result<Body, Status> {
    let len = message.encoded_len();
    let prefix = match u32::try_from(len) {
        Ok(prefix) if len <= limit => prefix,
        _ => return Err(over_limit("request", len, limit, Origin::Caller)),
    };
    let broken = || Status::new(Code::Internal, Origin::Library, "a request longer than it says");
    let write = |mut frame: &mut [u8]| {
        frame.put_u8(0);
        frame.put_u32(prefix);
        message.encode(&mut frame).map_err(|_| broken())
    };
    let bytes = match u8::try_from(HEADER_BYTES + len) {
        Ok(total) if usize::from(total) <= SMALL_BYTES => {
            let mut bytes = [0; SMALL_BYTES];
            write(&mut bytes[..usize::from(total)])?;
            Held::Small { bytes, len: total }
        }
        _ => {
            // Of a known length, so that it is one allocation and not two.
            let mut bytes: Arc<[u8]> = iter::repeat_n(0, HEADER_BYTES + len).collect();
            write(Arc::get_mut(&mut bytes).ok_or_else(broken)?)?;
            Held::Shared(bytes)
        }
    };
    Ok(Body { bytes, taken: 0 })
}

/// Decodes a message, unless it would take out of all proportion more memory
/// than its bytes do: see [`Shape`](super::Shape).
///
/// # Errors
/// `INTERNAL` when the bytes are no such message, `RESOURCE_EXHAUSTED` when they
/// would grow too much.
pub fn decode<M: Response>(message: Bytes) -> Result<M, Status> {
    let mut decoded = M::with_room(M::SHAPE.check(&message)?);
    decoded.merge(message)?;
    Ok(decoded)
}

/// What `grpc-encoding` says of the messages that are marked as compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Nothing.
    #[default]
    Absent,
    /// That they are not compressed.
    Identity,
    /// Something this side did not offer.
    Unknown,
}

static GRPC_ENCODING: http::HeaderName = http::HeaderName::from_static("grpc-encoding");

impl Encoding {
    pub(crate) fn read(headers: &http::HeaderMap) -> Encoding {
        match headers.get(&GRPC_ENCODING) {
            None => Encoding::Absent,
            Some(value) if value.as_bytes().eq_ignore_ascii_case(b"identity") => Encoding::Identity,
            Some(_) => Encoding::Unknown,
        }
    }
}

/// Cuts the body of a stream into messages.
///
/// Hand it every piece with [`push`](Decoder::push) and then take what
/// [`next`](Decoder::next) has until it has nothing; [`finish`](Decoder::finish)
/// at the end of the body. A message that came in one piece shares its memory;
/// another is gathered in a buffer of its own. Once it has failed it stays failed.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    encoding: Encoding,
    /// What was pushed and not yet taken apart.
    input: Bytes,
    state: State,
}

#[derive(Debug)]
enum State {
    /// So much of the prefix has arrived.
    Prefix { bytes: [u8; HEADER_BYTES], have: usize },
    /// Waiting for so many bytes of message. What came in former pieces is gathered.
    Message { len: usize, gathered: Vec<u8> },
    /// Nothing more comes out.
    Failed(Status),
}

const START: State = State::Prefix {
    bytes: [0; HEADER_BYTES],
    have: 0,
};

impl Decoder {
    /// A decoder for messages of at most `limit` bytes, none of them compressed.
    #[must_use]
    pub fn new(limit: usize) -> Decoder {
        Decoder::with_encoding(limit, Encoding::Absent)
    }

    /// A decoder for messages of at most `limit` bytes in a response whose head
    /// named this encoding. It decides only how a compressed message is refused.
    #[must_use]
    pub fn with_encoding(limit: usize, encoding: Encoding) -> Decoder {
        Decoder {
            limit,
            encoding,
            input: Bytes::new(),
            state: START,
        }
    }

    /// Takes the next piece of the body.
    pub fn push(&mut self, chunk: Bytes) {
        if self.input.is_empty() {
            self.input = chunk;
        } else {
            // Pushed before the messages were taken: correct all the same, at the price of a copy.
            self.input = Bytes::from([&*self.input, &*chunk].concat());
        }
    }

    /// The next message, without its prefix; `None` until more has arrived.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` for a message over the limit; `INTERNAL` for a
    /// compressed one without an encoding to it and for a flag that is none;
    /// `UNIMPLEMENTED` for one in an encoding that this side did not offer.
    #[expect(clippy::should_implement_trait, reason = "None means not yet, not the end")]
    pub fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let result = self.step();
        if let Err(status) = &result {
            self.input = Bytes::new();
            self.state = State::Failed(status.clone());
        }
        result
    }

    /// Says that the body has ended.
    ///
    /// # Errors
    /// `INTERNAL` when it ended inside a message; how it failed before, if so.
    pub fn finish(&self) -> Result<(), Status> {
        match &self.state {
            State::Failed(status) => Err(status.clone()),
            State::Prefix { have: 0, .. } if self.input.is_empty() => Ok(()),
            _ => Err(Status::broken("the body ended inside a message")),
        }
    }

    fn step(&mut self) -> Result<Option<Bytes>, Status> {
        if let State::Prefix { bytes, have } = &mut self.state {
            let take = self.input.len().min(HEADER_BYTES - *have);
            self.input.copy_to_slice(&mut bytes[*have..*have + take]);
            *have += take;
            if *have < HEADER_BYTES {
                return Ok(None);
            }
            let [flag, len @ ..] = *bytes;
            let len = self.claimed_len(flag, u32::from_be_bytes(len))?;
            self.state = State::Message {
                len,
                gathered: Vec::new(),
            };
        }
        match &mut self.state {
            State::Prefix { .. } => Ok(None),
            State::Failed(status) => Err(status.clone()),
            State::Message { len, gathered } => {
                let message = take_message(&mut self.input, *len, gathered);
                if message.is_some() {
                    self.state = START;
                }
                Ok(message)
            }
        }
    }

    fn claimed_len(&self, flag: u8, len: u32) -> Result<usize, Status> {
        match (flag, self.encoding) {
            (0, _) => {}
            (1, Encoding::Absent) => {
                return Err(Status::broken("a compressed message without grpc-encoding"));
            }
            (1, Encoding::Identity) => {
                return Err(Status::broken("a compressed message in the identity encoding"));
            }
            (1, Encoding::Unknown) => {
                return Err(Status::new(
                    Code::Unimplemented,
                    Origin::Transport,
                    "a message in an encoding that was not offered",
                ));
            }
            _ => return Err(Status::broken("a compressed flag other than 0 and 1")),
        }
        match usize::try_from(len) {
            Ok(len) if len <= self.limit => Ok(len),
            _ => {
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                Err(over_limit("response", len, self.limit, Origin::Library))
            }
        }
    }
}

/// A message of `len` bytes, the first of them in `gathered`, the rest in
/// `input`; or `None`, and all of `input` gathered.
fn take_message(input: &mut Bytes, len: usize, gathered: &mut Vec<u8>) -> Option<Bytes> {
    if gathered.is_empty() && input.len() >= len {
        return Some(input.split_to(len));
    }
    let take = input.len().min(len - gathered.len());
    // Doubling bounds the copies, and the claimed length bounds the doubling, so
    // that a message ends up in a buffer of its own size.
    let room = gathered.len() + take;
    if room > gathered.capacity() {
        let capacity = (2 * gathered.capacity()).max(room).min(len);
        gathered.reserve_exact(capacity - gathered.len());
    }
    gathered.extend_from_slice(&input[..take]);
    input.advance(take);
    match gathered.len().cmp(&len) {
        Ordering::Less => None,
        _ => Some(Bytes::from(std::mem::take(gathered))),
    }
}

fn over_limit(what: &str, len: usize, limit: usize, origin: Origin) -> Status {
    Status {
        code: Code::ResourceExhausted,
        origin,
        message: format!("a {what} of {len} bytes is over the limit of {limit}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::{PutRequest, PutResponse, WatchResponse};
    use crate::pb::mvccpb::Event;

    const LIMIT: usize = 1 << 10;

    fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
        let len = u32::try_from(message.len()).expect("a short message");
        [&[flag][..], &len.to_be_bytes(), message].concat()
    }

    fn messages(decoder: &mut Decoder, chunk: &[u8]) -> Vec<Bytes> {
        decoder.push(Bytes::copy_from_slice(chunk));
        std::iter::from_fn(|| decoder.next().expect("sound frames")).collect()
    }

    #[test]
    fn encodes_prefix_and_message() {
        let put = PutRequest {
            key: Bytes::from_static(b"k"),
            ..PutRequest::default()
        };
        let bytes = encode(&put, LIMIT).expect("a small message");
        assert_eq!(*bytes, *frame(0, b"\x0a\x01k"));
    }

    #[test]
    fn refuses_to_encode_over_the_limit() {
        let put = PutRequest {
            key: Bytes::from_static(b"k"),
            ..PutRequest::default()
        };
        assert!(encode(&put, 3).is_ok());
        let status = encode(&put, 2).expect_err("too large");
        assert_eq!(
            (status.code, status.origin),
            (Code::ResourceExhausted, Origin::Caller)
        );
    }

    #[test]
    fn cuts_messages_wherever_the_body_is_split() {
        let expected: [&[u8]; 4] = [b"first", b"", b"the third", b"x"];
        let body = expected.map(|message| frame(0, message)).concat();
        for first in 0..=body.len() {
            for second in first..=body.len() {
                let mut decoder = Decoder::new(LIMIT);
                let mut got = messages(&mut decoder, &body[..first]);
                got.extend(messages(&mut decoder, &body[first..second]));
                got.extend(messages(&mut decoder, &body[second..]));
                assert_eq!(got, expected, "split at {first} and {second}");
                decoder.finish().expect("a whole body");
            }
        }
    }

    #[test]
    fn cuts_messages_that_come_a_byte_at_a_time() {
        let body = [frame(0, b"first"), frame(0, b""), frame(0, &[7; 300])].concat();
        let mut decoder = Decoder::new(LIMIT);
        let mut got = Vec::new();
        for byte in &body {
            got.extend(messages(&mut decoder, &[*byte]));
        }
        assert_eq!(got, [&b"first"[..], b"", &[7; 300]]);
    }

    #[test]
    fn pieces_may_be_pushed_before_messages_are_taken() {
        let body = [frame(0, b"first"), frame(0, b"second")].concat();
        let mut decoder = Decoder::new(LIMIT);
        for piece in body.chunks(4) {
            decoder.push(Bytes::copy_from_slice(piece));
        }
        assert_eq!(messages(&mut decoder, b""), [&b"first"[..], b"second"]);
    }

    #[test]
    fn a_message_in_one_piece_shares_its_memory() {
        let body = Bytes::from(frame(0, b"shared"));
        let mut decoder = Decoder::new(LIMIT);
        decoder.push(body.clone());
        let message = decoder.next().expect("a sound frame").expect("a message");
        assert_eq!(message.as_ptr(), body[HEADER_BYTES..].as_ptr());
    }

    #[test]
    fn memory_follows_what_has_arrived() {
        let claimed = 1 << 30;
        let mut decoder = Decoder::new(claimed);
        let body = [&[0][..], &(1u32 << 30).to_be_bytes(), &[1; 1000]].concat();
        for piece in body.chunks(100) {
            assert!(messages(&mut decoder, piece).is_empty());
        }
        match &decoder.state {
            State::Message { len, gathered } => {
                assert_eq!((*len, gathered.len()), (claimed, 1000));
                assert!(gathered.capacity() <= 2 * 1000, "{}", gathered.capacity());
            }
            state => panic!("{state:?}"),
        }
    }

    #[test]
    fn a_gathered_message_has_a_buffer_of_its_size() {
        let mut input = Bytes::from(vec![1; 700]);
        let mut gathered = Vec::new();
        assert_eq!(take_message(&mut input, 1000, &mut gathered), None);
        input = Bytes::from(vec![1; 200]);
        assert_eq!(take_message(&mut input, 1000, &mut gathered), None);
        assert_eq!(gathered.capacity(), 1000);
        input = Bytes::from(vec![1; 200]);
        assert_eq!(
            take_message(&mut input, 1000, &mut gathered),
            Some(vec![1; 1000].into())
        );
        assert_eq!(input.len(), 100);
    }

    #[test]
    fn a_length_over_the_limit_is_refused_on_the_prefix() {
        let mut exact = Decoder::new(7);
        assert_eq!(messages(&mut exact, &frame(0, b"7 bytes")), ["7 bytes"]);

        let mut decoder = Decoder::new(7);
        assert!(messages(&mut decoder, &[0, 0, 0, 0]).is_empty());
        decoder.push(Bytes::from_static(&[8]));
        let status = decoder.next().expect_err("over the limit");
        assert_eq!(
            (status.code, status.origin),
            (Code::ResourceExhausted, Origin::Library)
        );

        let mut decoder = Decoder::new(LIMIT);
        decoder.push(Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]));
        assert_eq!(decoder.next().expect_err("4 GiB").code, Code::ResourceExhausted);
    }

    #[test]
    fn a_compressed_message_is_refused_by_its_encoding() {
        let table = [
            (1, Encoding::Absent, Code::Internal),
            (1, Encoding::Identity, Code::Internal),
            (1, Encoding::Unknown, Code::Unimplemented),
            (2, Encoding::Absent, Code::Internal),
            (2, Encoding::Unknown, Code::Internal),
            (255, Encoding::Identity, Code::Internal),
        ];
        for (flag, encoding, code) in table {
            let mut decoder = Decoder::with_encoding(LIMIT, encoding);
            decoder.push(frame(flag, b"message").into());
            assert_eq!(
                decoder.next().expect_err("refused").code,
                code,
                "{flag} {encoding:?}"
            );
        }
        let mut decoder = Decoder::with_encoding(LIMIT, Encoding::Unknown);
        assert_eq!(messages(&mut decoder, &frame(0, b"plain")), ["plain"]);
    }

    #[test]
    fn a_body_that_ends_inside_a_message_is_internal() {
        let body = frame(0, b"message");
        for end in 1..body.len() {
            let mut decoder = Decoder::new(LIMIT);
            assert!(messages(&mut decoder, &body[..end]).is_empty());
            assert_eq!(decoder.finish().expect_err("cut").code, Code::Internal, "{end}");
        }
        Decoder::new(LIMIT).finish().expect("an empty body");
    }

    #[test]
    fn a_failed_decoder_stays_failed() {
        let mut decoder = Decoder::new(LIMIT);
        decoder.push([frame(0, b"good"), frame(9, b"bad")].concat().into());
        assert_eq!(decoder.next().expect("a good one").expect("a message"), "good");
        let status = decoder.next().expect_err("a bad one");
        decoder.push(frame(0, b"good").into());
        assert_eq!(decoder.next().expect_err("still failed"), status);
        assert_eq!(decoder.finish().expect_err("still failed"), status);
    }

    #[test]
    fn what_is_no_message_is_internal() {
        let broken: [&[u8]; 5] = [
            b"\x0a\x05\x08\x01",
            b"\x0a\x02\x08\xff",
            b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x08\x01",
        ];
        for bytes in broken {
            let status = decode::<PutResponse>(Bytes::from_static(bytes)).expect_err("broken");
            assert_eq!(
                (status.code, status.origin),
                (Code::Internal, Origin::Transport),
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn a_decoded_list_has_a_buffer_of_its_size() {
        let watch = WatchResponse {
            events: vec![Event::default(); 400],
            ..WatchResponse::default()
        };
        let message = Bytes::from(watch.encode_to_vec());
        let mut decoded: WatchResponse = decode(message.slice(..100)).expect("50 events");
        assert_eq!((decoded.events.len(), decoded.events.capacity()), (50, 50));
        assert!(decode::<WatchResponse>([&message[..], &[0x5a, 0xff]].concat().into()).is_err());
        decoded = decode(message).expect("all of them");
        assert_eq!((decoded.events.len(), decoded.events.capacity()), (400, 400));
    }

    #[test]
    fn unknown_fields_and_a_missing_header_are_no_error() {
        let put: PutResponse = decode(Bytes::from_static(b"\xfa\x3f\x01x\x80\x40\x07")).expect("a message");
        assert_eq!(put, PutResponse::default());
    }
}
