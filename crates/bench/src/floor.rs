//! No client at all: a call written down on the h2 crate the way it first comes to
//! mind. One connection, no pool, no retries, no deadline; a URI and a header map
//! for each call. What a client costs is what it costs beyond this. And the same in a runtime where a timer is
//! set, whatever for: that alone makes each wait for the socket cost more, and who has deadlines cannot do without.

mod lock;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, Request};
use prost::Message;
use tenure::pb::etcdserverpb as pb;
use tenure::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use tenure_bench_worker::{Key, Locker, Never, Outcome, Peer};
use tokio::net::TcpStream;

const PREFIX_BYTES: usize = 5;
/// With its own 64 KiB, h2 takes 512 small answers that come at once for an attack and hangs up.
const WINDOW_BYTES: u32 = 1 << 20;
const TXN: &str = "/etcdserverpb.KV/Txn";

/// As far off as any deadline may be.
const ANY_TIME: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug)]
pub(crate) struct Floor<const TIMED: bool> {
    authority: String,
    sender: SendRequest<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
    #[prost(int64, tag = "4")]
    count: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

impl<const TIMED: bool> Locker for Floor<TIMED> {
    type Lock = lock::FloorLock<TIMED>;

    async fn connect(endpoints: &[String]) -> Result<Floor<TIMED>, String> {
        if TIMED {
            tokio::spawn(tokio::time::sleep(ANY_TIME));
        }
        let endpoint = endpoints.first().ok_or("no endpoint")?;
        let authority = endpoint.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&authority).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut builder = Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (sender, connection) = builder.handshake(stream).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Floor { authority, sender })
    }

    async fn mutex(&self, name: &str) -> Result<lock::FloorLock<TIMED>, String> {
        lock::FloorLock::new(self.clone(), name).await
    }
}

impl<const TIMED: bool> Peer for Floor<TIMED> {
    type Events = Never;
    type Lease = Never;

    async fn put(&self, key: Key, value: &'static [u8], _: Duration) -> Outcome {
        let request = PutRequest {
            key: key.into_owned(),
            value: value.to_vec(),
        };
        outcome(self.call::<PutResponse>("/etcdserverpb.KV/Put", &request).await)
    }

    async fn get(&self, key: Key, _: Duration) -> Outcome {
        let request = RangeRequest {
            key: key.into_owned(),
        };
        outcome(self.call::<RangeResponse>("/etcdserverpb.KV/Range", &request).await)
    }

    async fn txn(&self, key: Key, value: &'static [u8], _: Duration) -> Outcome {
        let key = Bytes::from(key.into_owned());
        let request = pb::TxnRequest {
            compare: vec![lock::revision_of(
                &key,
                CompareTarget::Mod,
                CompareResult::Greater,
                TargetUnion::ModRevision(0),
            )],
            success: vec![lock::put(&key, &Bytes::from(value.to_vec()), 0)],
            failure: vec![lock::get(&key)],
        };
        outcome(self.call::<pb::TxnResponse>(TXN, &request).await)
    }

    async fn watch(&self, _: &str, _: i64) -> Result<Never, String> {
        Err("it has no watches".to_owned())
    }

    async fn lease(&self, _: Duration) -> Result<Never, String> {
        Err("it keeps no leases alive".to_owned())
    }
}

impl<const TIMED: bool> Floor<TIMED> {
    async fn call<A: Message + Default>(&self, path: &str, message: &impl Message) -> Result<A, Failed> {
        let request = Request::post(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut body = BytesMut::with_capacity(PREFIX_BYTES + message.encoded_len());
        body.put_u8(0);
        body.put_u32(u32::try_from(message.encoded_len())?);
        message.encode(&mut body)?;
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut stream) = sender.send_request(request, false)?;
        stream.send_data(body.freeze(), true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut answer = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            answer.extend_from_slice(&chunk);
            body.flow_control().release_capacity(chunk.len())?;
        }
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        match is_ok(&trailers) && answer.len() >= PREFIX_BYTES {
            true => Ok(A::decode(answer.freeze().slice(PREFIX_BYTES..))?),
            false => Err("the call failed".into()),
        }
    }
}

type Failed = Box<dyn std::error::Error>;

fn is_ok(trailers: &HeaderMap) -> bool {
    trailers.get("grpc-status").is_some_and(|status| status.as_bytes() == b"0")
}

fn outcome<A>(answer: Result<A, Failed>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Answered,
        Err(_) => Outcome::Unknown,
    }
}
