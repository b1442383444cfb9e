//! An etcd that grants leases by itself, and leaves every transaction, range and
//! watch to the test.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, SendStream};
use prost::Message;
use tenure::pb::etcdserverpb::watch_request::RequestUnion;
use tenure::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseRevokeResponse, RangeRequest, TxnRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tenure::{Client, Config, Dialing, Endpoint, Io};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot};

use crate::peer::{Asked, Requests, answer, frame, head, patiently, trailers};

/// The lease of the one session.
pub(super) const LEASE: i64 = 0x77;

/// The server's side of everything that the client asks.
pub(super) struct Etcd {
    calls: mpsc::UnboundedReceiver<Call>,
    retiring: Retiring,
}

/// What retires a connection, by its number.
type Retiring = Arc<Mutex<Vec<mpsc::UnboundedSender<oneshot::Sender<()>>>>>;

#[derive(Debug)]
enum Call {
    Txn(Unary<TxnRequest>),
    Range(Unary<RangeRequest>),
    Watch(Watching),
}

/// A unary call that waits for its answer.
#[derive(Debug)]
pub(super) struct Unary<M> {
    pub(super) message: M,
    /// Connections count from 0, in the order of their dials.
    pub(super) connection: usize,
    respond: SendResponse<Bytes>,
}

/// A watch, and the stream that it shares with others.
#[derive(Debug)]
pub(super) struct Watching {
    pub(super) request: WatchCreateRequest,
    pub(super) connection: usize,
    responses: Arc<Mutex<SendStream<Bytes>>>,
}

impl Etcd {
    /// A client, and its cluster of so many members.
    pub(super) async fn start(members: usize) -> (Client, Etcd) {
        let (called, calls) = mpsc::unbounded_channel();
        let retiring = Retiring::default();
        let etcd = Etcd {
            calls,
            retiring: retiring.clone(),
        };
        let dial = move |_: &Endpoint| -> Dialing {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let (retire, retired) = mpsc::unbounded_channel();
            let mut retiring = retiring.lock().unwrap();
            tokio::spawn(run(theirs, retiring.len(), called.clone(), retired));
            retiring.push(retire);
            Box::pin(async move { Ok(Box::new(ours) as Box<dyn Io>) })
        };
        let endpoints = (0..members).map(|member| format!("http://member.{member}"));
        let client = Client::connect_over(dial, endpoints, Config::default()).await;
        (client.expect("a connection"), etcd)
    }

    /// The next call, which is a transaction.
    pub(super) async fn txn(&mut self) -> Unary<TxnRequest> {
        match self.call("a transaction").await {
            Call::Txn(txn) => txn,
            other => panic!("{other:?} instead of a transaction"),
        }
    }

    /// The next call, which is a range.
    pub(super) async fn range(&mut self) -> Unary<RangeRequest> {
        match self.call("a range").await {
            Call::Range(range) => range,
            other => panic!("{other:?} instead of a range"),
        }
    }

    /// The next call, which is a watch.
    pub(super) async fn watch(&mut self) -> Watching {
        match self.call("a watch").await {
            Call::Watch(watching) => watching,
            other => panic!("{other:?} instead of a watch"),
        }
    }

    /// Takes no more streams on this connection, and goes on with what is open.
    pub(super) async fn retire(&self, connection: usize) {
        let (done, retired) = oneshot::channel();
        self.retiring.lock().unwrap()[connection].send(done).unwrap();
        patiently("a GOAWAY", retired).await.unwrap();
    }

    async fn call(&mut self, what: &str) -> Call {
        patiently(what, self.calls.recv()).await.expect("the client lives")
    }
}

impl<M> Unary<M> {
    pub(super) fn answer(mut self, message: &impl Message) {
        answer(&mut self.respond, message);
    }

    /// Resets the call, so that the client does not learn its fate.
    pub(super) fn lose(mut self) {
        self.respond.send_reset(Reason::INTERNAL_ERROR);
    }

    pub(super) fn fail(mut self, status: &'static str, message: &str) {
        let mut stream = self.respond.send_response(head(), false).unwrap();
        let mut trailers = trailers(status);
        trailers.insert("grpc-message", message.parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    }
}

impl Watching {
    pub(super) fn send(&mut self, response: &WatchResponse) {
        self.responses.lock().unwrap().send_data(frame(response), false).unwrap();
    }

    /// For the watch of this number, where others are on the stream.
    pub(super) fn send_as(&mut self, watch_id: i64, response: &WatchResponse) {
        self.send(&WatchResponse {
            watch_id,
            ..response.clone()
        });
    }
}

/// Runs one connection.
async fn run(
    io: DuplexStream,
    connection: usize,
    called: mpsc::UnboundedSender<Call>,
    mut retired: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    let mut server: Connection<_, Bytes> = h2::server::handshake(io).await.expect("the client's preface");
    loop {
        let accepted = tokio::select! {
            accepted = server.accept() => accepted,
            Some(done) = retired.recv() => {
                server.graceful_shutdown();
                let _ = done.send(());
                continue;
            }
        };
        let Some(Ok(asked)) = accepted else { return };
        tokio::spawn(take(asked, connection, called.clone()));
    }
}

async fn take((request, mut respond): Asked, connection: usize, called: mpsc::UnboundedSender<Call>) {
    let path = request.uri().path().to_owned();
    let mut requests = Requests::new(request.into_body());
    let call = match path.as_str() {
        "/etcdserverpb.Lease/LeaseGrant" => {
            let LeaseGrantRequest { ttl, .. } = message(&mut requests).await;
            let granted = LeaseGrantResponse {
                id: LEASE,
                ttl,
                ..LeaseGrantResponse::default()
            };
            return answer(&mut respond, &granted);
        }
        "/etcdserverpb.Lease/LeaseKeepAlive" => return keep_alive(requests, respond).await,
        "/etcdserverpb.Lease/LeaseRevoke" => return answer(&mut respond, &LeaseRevokeResponse::default()),
        "/etcdserverpb.KV/Txn" => Call::Txn(Unary {
            message: message(&mut requests).await,
            connection,
            respond,
        }),
        "/etcdserverpb.KV/Range" => Call::Range(Unary {
            message: message(&mut requests).await,
            connection,
            respond,
        }),
        "/etcdserverpb.Watch/Watch" => return watch(requests, respond, connection, &called).await,
        other => panic!("{other} was called"),
    };
    let _ = called.send(call);
}

async fn message<M: Message + Default>(requests: &mut Requests) -> M {
    requests.next().await.expect("a request")
}

async fn keep_alive(mut requests: Requests, mut respond: SendResponse<Bytes>) {
    let mut stream = respond.send_response(head(), false).unwrap();
    while let Some(LeaseKeepAliveRequest { id }) = requests.next().await {
        let renewed = LeaseKeepAliveResponse {
            id,
            ttl: 10,
            ..LeaseKeepAliveResponse::default()
        };
        if stream.send_data(frame(&renewed), false).is_err() {
            return;
        }
    }
}

/// Each creation is a call of its own; cancels are nobody's business.
async fn watch(
    mut requests: Requests,
    mut respond: SendResponse<Bytes>,
    connection: usize,
    called: &mpsc::UnboundedSender<Call>,
) {
    let responses = Arc::new(Mutex::new(respond.send_response(head(), false).unwrap()));
    while let Some(WatchRequest { request_union }) = requests.next().await {
        if let Some(RequestUnion::CreateRequest(request)) = request_union {
            let _ = called.send(Call::Watch(Watching {
                request,
                connection,
                responses: responses.clone(),
            }));
        }
    }
}
