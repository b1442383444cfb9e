//! The two transactions of tenure's lock, of a lock that is free, and nothing around them: byte
//! for byte what the library sends, by the call of the floor. They are kept, and what
//! changes from time to time is put in.

use bytes::Bytes;
use tenure::LeaseId;
use tenure::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use tenure::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use tenure::pb::etcdserverpb::request_op::Request;
use tenure::pb::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseGrantResponse, PutRequest, RangeRequest, RequestOp,
    TxnRequest, TxnResponse,
};
use tenure_bench_worker::Lock;

use super::{Floor, TXN};
use crate::worker::LOCK_VALUE;

/// Longer than any round, so that nobody has to renew it.
const TTL_SECONDS: i64 = 3600;
/// How many keys of the queue the library reads.
const QUEUE_KEYS: i64 = 128;

/// A lock that knows nothing but how to be free.
#[derive(Debug)]
pub(crate) struct FloorLock<const TIMED: bool> {
    floor: Floor<TIMED>,
    register: TxnRequest,
    release: TxnRequest,
}

impl<const TIMED: bool> FloorLock<TIMED> {
    pub(super) async fn new(floor: Floor<TIMED>, name: &str) -> Result<FloorLock<TIMED>, String> {
        let grant = LeaseGrantRequest {
            ttl: TTL_SECONDS,
            id: 0,
        };
        let granted = floor.call::<LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", &grant).await;
        let lease = LeaseId(granted.map_err(|error| error.to_string())?.id);
        let (register, release) = transactions(name, lease);
        Ok(FloorLock {
            floor,
            register,
            release,
        })
    }

    async fn send(&self, request: &TxnRequest) -> Result<i64, String> {
        let answer = self.floor.call::<TxnResponse>(TXN, request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.succeeded {
            true => Ok(answer.header.map_or(0, |header| header.revision)),
            false => Err("the lock was not free".to_owned()),
        }
    }
}

impl<const TIMED: bool> Lock for FloorLock<TIMED> {
    async fn lock(&mut self) -> Result<(), String> {
        let created = self.send(&self.register).await?;
        self.release.compare[0].target_union = Some(TargetUnion::CreateRevision(created));
        Ok(())
    }

    async fn unlock(&mut self) -> Result<(), String> {
        self.send(&self.release).await.map(drop)
    }
}

/// What registers in the queue, and what deletes the entry.
fn transactions(name: &str, lease: LeaseId) -> (TxnRequest, TxnRequest) {
    let key = Bytes::from(format!("{name}/{lease}"));
    let gate = Bytes::from(format!("{name}#gate/{lease}"));
    // The queue is what lies between `<name>/` and the first key behind all of that.
    let queue = || newest_of(format!("{name}/").into(), format!("{name}0").into());
    let created = |revision| {
        let union = TargetUnion::CreateRevision(revision);
        revision_of(&key, CompareTarget::Create, CompareResult::Equal, union)
    };
    let gate_is_unmoved = revision_of(
        &gate,
        CompareTarget::Mod,
        CompareResult::Equal,
        TargetUnion::ModRevision(0),
    );
    let register = TxnRequest {
        compare: vec![created(0), gate_is_unmoved],
        success: vec![put(&key, &Bytes::from_static(LOCK_VALUE), lease.0), queue()],
        failure: vec![get(&key), keys_of(range(&gate)), queue()],
    };
    let delete = DeleteRangeRequest {
        key: key.clone(),
        ..DeleteRangeRequest::default()
    };
    let release = TxnRequest {
        compare: vec![created(0)],
        success: vec![op(Request::RequestDeleteRange(delete))],
        failure: Vec::new(),
    };
    (register, release)
}

pub(super) fn revision_of(
    key: &Bytes,
    target: CompareTarget,
    result: CompareResult,
    with: TargetUnion,
) -> Compare {
    Compare {
        result: result.into(),
        target: target.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(with),
    }
}

pub(super) fn put(key: &Bytes, value: &Bytes, lease: i64) -> RequestOp {
    op(Request::RequestPut(PutRequest {
        key: key.clone(),
        value: value.clone(),
        lease,
        ..PutRequest::default()
    }))
}

pub(super) fn get(key: &Bytes) -> RequestOp {
    op(Request::RequestRange(range(key)))
}

fn range(key: &Bytes) -> RangeRequest {
    RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    }
}

fn keys_of(range: RangeRequest) -> RequestOp {
    op(Request::RequestRange(RangeRequest {
        keys_only: true,
        ..range
    }))
}

fn newest_of(key: Bytes, range_end: Bytes) -> RequestOp {
    keys_of(RangeRequest {
        key,
        range_end,
        limit: QUEUE_KEYS,
        sort_order: SortOrder::Descend.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    })
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll};

    use prost::Message;
    use tenure::{Client, Config, Dialing, Endpoint, Io};
    use tenure_testserver::{Options, Server};
    use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

    use super::*;

    const PREFACE_BYTES: usize = 24;
    const FRAME_HEAD_BYTES: usize = 9;
    const DATA: u8 = 0;

    type Written = Arc<Mutex<Vec<u8>>>;

    /// A connection that keeps what is written to it.
    struct Tapped(DuplexStream, Written);

    impl AsyncRead for Tapped {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Tapped {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let written = std::task::ready!(Pin::new(&mut self.0).poll_write(cx, bytes))?;
            self.1.lock().unwrap().extend_from_slice(&bytes[..written]);
            Poll::Ready(Ok(written))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    /// The contents of all DATA frames.
    fn bodies(written: &[u8]) -> Vec<Vec<u8>> {
        let (mut rest, mut bodies) = (&written[PREFACE_BYTES..], Vec::new());
        while let [high, middle, low, kind, ..] = *rest {
            let end = FRAME_HEAD_BYTES + u32::from_be_bytes([0, high, middle, low]) as usize;
            if kind == DATA {
                bodies.push(rest[FRAME_HEAD_BYTES..end].to_vec());
            }
            rest = &rest[end..];
        }
        bodies
    }

    fn body(message: &TxnRequest) -> Vec<u8> {
        let message = message.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], &length[..], &message].concat()
    }

    #[tokio::test]
    async fn what_it_sends_is_what_the_library_sends() {
        let server = Arc::new(Server::in_memory(Options::default()));
        let taps = Arc::<Mutex<Vec<Written>>>::default();
        let dial = {
            let (server, taps) = (server.clone(), taps.clone());
            move |_: &Endpoint| -> Dialing {
                let written = Written::default();
                taps.lock().unwrap().push(written.clone());
                let stream: Box<dyn Io> = Box::new(Tapped(server.connect(), written));
                Box::pin(async { Ok(stream) })
            }
        };
        let client = Client::connect_over(dial, ["http://embedded"], Config::new()).await.unwrap();
        let session = client.session().await.unwrap();
        let mutex = session.mutex("bench/lock").value(LOCK_VALUE);
        let guard = mutex.lock().await.unwrap();
        let (register, mut release) = transactions("bench/lock", session.lease_id());
        let created = guard.token().create_revision().0;
        release.compare[0].target_union = Some(TargetUnion::CreateRevision(created));
        guard.release().await.unwrap();

        let taps = taps.lock().unwrap();
        let sent: Vec<_> = taps.iter().flat_map(|written| bodies(&written.lock().unwrap())).collect();
        for transaction in [&register, &release] {
            let count = sent.iter().filter(|sent| **sent == body(transaction)).count();
            assert_eq!(count, 1, "{transaction:?}");
        }
    }
}
