//! The null server: HTTP/2 and prepared answers, one thread, nothing stored. What a call costs
//! on it is the client's, the kernel's and little else. It refuses what is no
//! put, get, transaction or watch.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::{self, SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use prost::Message;
use tenure::pb::etcdserverpb::{
    PutResponse, RangeResponse, ResponseHeader, ResponseOp, TxnResponse, response_op,
};
use tenure::pb::mvccpb::KeyValue;
use tokio::net::{TcpListener, TcpStream};

pub(crate) mod watch;

/// What a stream, and what a connection, may send ahead: large puts do not wait for it.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
const STREAMS_MAX: u32 = 4096;
/// What the request of a put is beside its value, where the key has 24 bytes.
const AROUND_VALUE_BYTES: usize = 33;
const KEY: &[u8] = b"bench/unary/key-of-24-by";

/// What is said to each call.
#[derive(Debug)]
struct Answers {
    put: Bytes,
    txn: Bytes,
    get: Bytes,
    /// Of the put whose value a get is answered with.
    put_bytes: usize,
}

impl Answers {
    fn new() -> Answers {
        let put = PutResponse {
            header: head(),
            prev_kv: None,
        };
        let op = ResponseOp {
            response: Some(response_op::Response::ResponsePut(put.clone())),
        };
        let txn = TxnResponse {
            header: head(),
            succeeded: true,
            responses: vec![op],
        };
        Answers {
            put: frame(&put),
            txn: frame(&txn),
            get: frame(&RangeResponse {
                header: head(),
                ..RangeResponse::default()
            }),
            put_bytes: 0,
        }
    }

    /// A get has a value as long as the last put's.
    fn note_put(&mut self, request_bytes: usize) {
        if self.put_bytes == request_bytes {
            return;
        }
        self.put_bytes = request_bytes;
        let kv = KeyValue {
            key: Bytes::from_static(KEY),
            value: vec![b'x'; request_bytes.saturating_sub(AROUND_VALUE_BYTES)].into(),
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            lease: 0,
        };
        self.get = frame(&RangeResponse {
            header: head(),
            kvs: vec![kv],
            more: false,
            count: 1,
        });
    }
}

/// Serves for as long as it is polled, on a `LocalSet`.
pub(crate) async fn serve(listener: TcpListener) {
    let answers = Rc::new(RefCell::new(Answers::new()));
    while let Ok((stream, _)) = listener.accept().await {
        tokio::task::spawn_local(connection(stream, answers.clone()));
    }
}

/// Until it ends, however it does.
async fn connection(stream: TcpStream, answers: Rc<RefCell<Answers>>) {
    let _ = stream.set_nodelay(true);
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let answers = answers.clone();
        tokio::task::spawn_local(async move {
            // Who has reset the stream wants no answer.
            let _ = answer(request, respond, &answers).await;
        });
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    answers: &RefCell<Answers>,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let mut response = Response::new(());
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    if head.uri.path() == "/etcdserverpb.Watch/Watch" {
        return watch::serve(body, respond.send_response(response, false)?).await;
    }
    let mut request_bytes = 0;
    while let Some(chunk) = body.data().await {
        let length = chunk?.len();
        request_bytes += length;
        body.flow_control().release_capacity(length)?;
    }
    let message = match head.uri.path() {
        "/etcdserverpb.KV/Put" => {
            answers.borrow_mut().note_put(request_bytes);
            Some(answers.borrow().put.clone())
        }
        "/etcdserverpb.KV/Range" => Some(answers.borrow().get.clone()),
        "/etcdserverpb.KV/Txn" => Some(answers.borrow().txn.clone()),
        _ => None,
    };
    let mut stream = respond.send_response(response, false)?;
    let status = if message.is_some() { "0" } else { "12" };
    if let Some(message) = message {
        stream.send_data(message, false)?;
    }
    let status = (
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static(status),
    );
    stream.send_trailers(HeaderMap::from_iter([status]))
}

fn head() -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: 1,
        member_id: 1,
        revision: 1,
        raft_term: 1,
    })
}

fn frame(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    frame.put_slice(&message.encode_to_vec());
    frame.freeze()
}
