//! A peer at the other end of a pipe, scripted by each test.

use std::future::Future;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::{HeaderMap, Request, Response};
use prost::Message;
use tenure::{Client, Config};
use tokio::io::DuplexStream;

/// Room for a burst of answers, so that the pipe is not what holds them back.
const PIPE_BYTES: usize = 1 << 20;

/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(50);

pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    let bounded = tokio::time::timeout(PATIENCE, future).await;
    bounded.unwrap_or_else(|_| panic!("{what} has not happened"))
}

/// A client on one end of a pipe, and the other end.
pub(crate) async fn pipe(config: Config) -> (Client, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    (
        Client::over(ours, config).await.expect("a client on the pipe"),
        theirs,
    )
}

pub(crate) type Asked = (Request<h2::RecvStream>, SendResponse<Bytes>);

/// A client and a server that runs on h2, with the settings of `builder`.
pub(crate) async fn server(config: Config, builder: &Builder) -> (Client, Connection<DuplexStream, Bytes>) {
    let (client, theirs) = pipe(config).await;
    let server = builder.handshake(theirs).await.expect("the client's preface");
    (client, server)
}

/// Runs the server's side of `script` until it is done, and the connection on.
pub(crate) fn serve<F>(
    mut server: Connection<DuplexStream, Bytes>,
    script: impl Fn(Asked) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        while let Some(Ok(asked)) = server.accept().await {
            tokio::spawn(script(asked));
        }
    });
}

/// The head of every good answer.
pub(crate) fn head() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

/// The trailers of success, or of another status.
pub(crate) fn trailers(status: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())])
}

/// A message behind its length prefix.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let bytes = message.encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(bytes.len().try_into().unwrap());
    frame.put_slice(&bytes);
    frame.freeze()
}

/// Answers with one message and success.
pub(crate) fn answer(respond: &mut SendResponse<Bytes>, message: &impl Message) {
    let mut stream = respond.send_response(head(), false).expect("the stream is open");
    stream.send_data(frame(message), false).expect("the stream is open");
    stream.send_trailers(trailers("0")).expect("the stream is open");
}

/// The messages that a client sends on one stream.
pub(crate) struct Requests {
    body: RecvStream,
    buffer: BytesMut,
}

impl Requests {
    pub(crate) fn new(body: RecvStream) -> Requests {
        Requests {
            body,
            buffer: BytesMut::new(),
        }
    }

    /// The next one; none once the client has ended or reset the stream.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Option<M> {
        loop {
            if self.buffer.len() >= 5 {
                let length = (&self.buffer[1..5]).get_u32() as usize;
                if self.buffer.len() >= 5 + length {
                    let frame = self.buffer.split_to(5 + length);
                    return Some(M::decode(&frame[5..]).expect("a message"));
                }
            }
            let chunk = self.body.data().await?.ok()?;
            self.buffer.extend_from_slice(&chunk);
        }
    }
}
