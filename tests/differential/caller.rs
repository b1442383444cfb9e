//! Sends the bytes of requests and gives back those of the answers, with no more
//! of gRPC than that: what is tested is not asked to test itself.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// A message, or status and text.
pub(crate) type Answer = Result<Bytes, (String, String)>;

const PREFIX_BYTES: usize = 5;

pub(crate) struct Caller {
    sender: SendRequest<Bytes>,
    endpoint: String,
}

impl Caller {
    pub(crate) async fn connect(endpoint: &str) -> Caller {
        let address = endpoint.strip_prefix("http://").expect("no TLS");
        let stream = TcpStream::connect(address).await.expect("a server");
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        Caller {
            sender,
            endpoint: endpoint.to_owned(),
        }
    }

    pub(crate) async fn call(&self, path: &str, message: &Bytes) -> Answer {
        let mut call = self.open(path).await;
        call.send(message);
        call.half_close();
        let first = call.next().await?;
        match call.next().await {
            Err((status, _)) if status == "0" => Ok(first),
            end => panic!("a message, and then {end:?}"),
        }
    }

    /// Opens a call that may send many messages, and be answered by many.
    pub(crate) async fn open(&self, path: &str) -> Call {
        let mut sender = self.sender.clone().ready().await.expect("the server lives");
        let request = Request::post(format!("{}{path}", self.endpoint))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let (response, stream) = sender.send_request(request.body(()).unwrap(), false).unwrap();
        let (sent, answers) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read(response, sent)).abort_handle();
        Call {
            stream,
            answers,
            reader,
        }
    }
}

/// Dropped, it is reset.
pub(crate) struct Call {
    stream: SendStream<Bytes>,
    answers: mpsc::UnboundedReceiver<Answer>,
    reader: AbortHandle,
}

impl Call {
    pub(crate) fn send(&mut self, message: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(message.len().try_into().unwrap());
        frame.put_slice(message);
        // A call that is over tells so where it is read.
        let _ = self.stream.send_data(frame.freeze(), false);
    }

    pub(crate) fn half_close(&mut self) {
        let _ = self.stream.send_data(Bytes::new(), true);
    }

    /// The next message, or how the call ended.
    pub(crate) async fn next(&mut self) -> Answer {
        let gone = || Err(("none".to_owned(), "the connection is gone".to_owned()));
        self.answers.recv().await.unwrap_or_else(gone)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.stream.send_reset(Reason::CANCEL);
        self.reader.abort();
    }
}

async fn read(response: ResponseFuture, sent: mpsc::UnboundedSender<Answer>) {
    let Ok(response) = response.await else { return };
    let (head, mut body) = response.into_parts();
    let mut received = BytesMut::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        received.put(data);
        while let Some(message) = take(&mut received) {
            let _ = sent.send(Ok(message));
        }
    }
    if let Ok(trailers) = body.trailers().await {
        let _ = sent.send(Err(status(&trailers.unwrap_or(head.headers))));
    }
}

fn take(received: &mut BytesMut) -> Option<Bytes> {
    let prefix = received.first_chunk::<PREFIX_BYTES>()?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if received.len() < PREFIX_BYTES + length {
        return None;
    }
    received.advance(PREFIX_BYTES);
    Some(received.split_to(length).freeze())
}

fn status(trailers: &HeaderMap) -> (String, String) {
    let text = |name| trailers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    (text("grpc-status"), text("grpc-message"))
}
