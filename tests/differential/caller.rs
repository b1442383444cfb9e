//! Sends the bytes of a request and gives back those of the answer, with no more
//! of gRPC than that: what is tested is not asked to test itself.

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;

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
        let mut sender = self.sender.clone().ready().await.expect("the server lives");
        let request = Request::post(format!("{}{path}", self.endpoint))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let (response, mut stream) = sender.send_request(request.body(()).unwrap(), false).unwrap();
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(message.len().try_into().unwrap());
        frame.put_slice(message);
        stream.send_data(frame.freeze(), true).unwrap();
        let (head, mut body) = response.await.expect("a response").into_parts();
        let mut received = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.expect("the body");
            body.flow_control().release_capacity(data.len()).unwrap();
            received.put(data);
        }
        let trailers = body.trailers().await.expect("trailers").unwrap_or(head.headers);
        let text = |name| trailers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        match text("grpc-status").as_str() {
            "0" => Ok(received.freeze().slice(PREFIX_BYTES..)),
            status => Err((status.to_owned(), text("grpc-message"))),
        }
    }
}
