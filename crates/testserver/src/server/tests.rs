//! The server over HTTP/2 as a client sees it, and its faults.

use h2::client::SendRequest;
use http::Request;
use prost::Message;
use tokio::io::DuplexStream;

use super::*;
use crate::faults::Fault;
use crate::pb::{PutRequest, PutResponse, RangeRequest, RangeResponse};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

async fn client(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn piped(server: &Server) -> SendRequest<Bytes> {
    let io: DuplexStream = server.connect();
    client(io).await
}

/// The answer's message, or its status as text.
async fn ask(
    client: &SendRequest<Bytes>,
    path: &str,
    request: &impl Message,
) -> Result<Result<Bytes, String>, h2::Error> {
    let mut client = client.clone().ready().await?;
    let uri = format!("http://embedded{path}");
    let head = Request::post(uri).header("content-type", "application/grpc").body(()).unwrap();
    let (response, mut stream) = client.send_request(head, false)?;
    let message = request.encode_to_vec();
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&message);
    stream.send_data(frame.into(), true)?;
    let (head, mut body) = response.await?.into_parts();
    if let Some(message) = head.headers.get("grpc-message") {
        return Ok(Err(message.to_str().unwrap().to_owned()));
    }
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        bytes.extend_from_slice(&data?);
        body.flow_control().release_capacity(bytes.len()).ok();
    }
    assert_eq!(body.trailers().await?.unwrap()["grpc-status"], "0");
    Ok(Ok(Bytes::from(bytes).slice(5..)))
}

fn put() -> PutRequest {
    PutRequest {
        key: "key".into(),
        value: "value".into(),
        ..PutRequest::default()
    }
}

/// How many times the key was put.
async fn version(client: &SendRequest<Bytes>) -> i64 {
    let request = RangeRequest {
        key: "key".into(),
        ..RangeRequest::default()
    };
    let answer = ask(client, RANGE, &request).await.unwrap().unwrap();
    RangeResponse::decode(answer).unwrap().kvs.first().map_or(0, |kv| kv.version)
}

#[tokio::test]
async fn it_answers_on_its_port_and_on_a_pipe() {
    let server = Server::start().await.unwrap();
    let address = server.endpoint().strip_prefix("http://").unwrap().to_owned();
    let client = client(tokio::net::TcpStream::connect(&address).await.unwrap()).await;
    let answer = ask(&client, PUT, &put()).await.unwrap().unwrap();
    assert_eq!(PutResponse::decode(answer).unwrap().header.unwrap().revision, 2);
    assert_eq!(version(&piped(&server).await).await, 1);
    drop(server);
    assert!(
        ask(&client, PUT, &put()).await.is_err(),
        "it is gone with its handle"
    );
}

#[tokio::test]
async fn a_refusal_is_a_status_without_a_message() {
    let server = Server::in_memory(Options::default());
    let client = piped(&server).await;
    let refused = ask(&client, PUT, &PutRequest::default()).await.unwrap();
    assert_eq!(refused.unwrap_err(), "etcdserver: key is not provided");
    let unknown = ask(&client, "/etcdserverpb.KV/RangeStream", &put()).await.unwrap();
    assert!(unknown.unwrap_err().contains("unknown method RangeStream"));
    let large = PutRequest {
        value: vec![0; 3 << 20].into(),
        ..put()
    };
    let refused = ask(&client, PUT, &large).await.unwrap().unwrap_err();
    assert!(refused.contains("larger than max"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_is_not_carried_out_and_a_lost_answer_is() {
    let server = Server::in_memory(Options::default());
    let client = piped(&server).await;
    for (fault, expected) in [(Fault::Drop, 0), (Fault::DropAnswer, 1)] {
        server.faults().inject(PUT, fault);
        let request = put();
        let unanswered = tokio::time::timeout(Duration::from_secs(60), ask(&client, PUT, &request));
        assert!(unanswered.await.is_err(), "{fault:?}");
        assert_eq!(version(&client).await, expected, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_delayed_and_a_request_carried_out_again() {
    let server = Server::in_memory(Options::default());
    let client = piped(&server).await;
    let later = Duration::from_secs(30);
    server.faults().inject(PUT, Fault::Delay(later));
    let start = Instant::now();
    ask(&client, PUT, &put()).await.unwrap().unwrap();
    assert!(start.elapsed() >= later);
    server.faults().inject(PUT, Fault::Again(later));
    ask(&client, PUT, &put()).await.unwrap().unwrap();
    assert_eq!(version(&client).await, 2);
    tokio::time::sleep(later * 2).await;
    assert_eq!(version(&client).await, 3);
}

#[tokio::test]
async fn a_connection_is_cut_at_a_byte_and_the_next_one_is_whole() {
    let server = Server::in_memory(Options::default());
    for bytes in [0, 1, 9, 40] {
        let client = piped(&server).await;
        let before = version(&client).await;
        server.faults().cut_after(bytes);
        assert!(ask(&client, PUT, &put()).await.is_err(), "cut after {bytes}");
        assert!(!server.faults().is_cut_pending());
        let after = version(&piped(&server).await).await;
        assert!(after == before || after == before + 1);
    }
}
