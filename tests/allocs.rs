//! How many allocations a call costs, exactly, once the client is warm.
//!
//! Only this thread's allocations count, and the client runs on it alone. The
//! server, which answers at once with a canned message, has a thread of its own.

use std::net::SocketAddr;

use allocation_counter::{AllocationInfo, measure};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tenure::pb::etcdserverpb::{AuthenticateResponse, PutResponse, RangeResponse, ResponseHeader};
use tenure::pb::mvccpb::KeyValue;
use tenure::{Auth, Client, Config};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

const WARM_UP: usize = 300;
const MEASURED: usize = 100;

const KEY: Bytes = Bytes::from_static(b"twenty bytes of key!");
const VALUE: Bytes = Bytes::from_static(b"twenty bytes of val!");

#[test]
fn a_put_costs_nine_allocations() {
    let cost = cost_of_put(Config::default());
    assert_eq!(cost.count_total, 9, "{cost:?}");
    assert!(cost.bytes_total <= 1_750, "{cost:?}");
}

#[test]
fn a_put_with_a_timeout_header_costs_one_more() {
    let cost = cost_of_put(Config::default().send_timeout_header(true));
    assert_eq!(cost.count_total, 10, "{cost:?}");
}

#[test]
fn a_put_with_a_token_costs_no_more_and_with_both_one() {
    let config = Config::default().auth(Auth::password("root", "a password"));
    let cost = cost_of_put(config.clone());
    assert_eq!(cost.count_total, 9, "{cost:?}");
    let cost = cost_of_put(config.send_timeout_header(true));
    assert_eq!(cost.count_total, 10, "{cost:?}");
    assert!(cost.bytes_total <= 2_200, "{cost:?}");
}

#[test]
fn a_bound_on_calls_in_flight_and_a_breaker_cost_none() {
    let cost = cost_of_put(Config::default().calls_max(2).breaker_failures(5));
    assert_eq!(cost.count_total, 9, "{cost:?}");
    assert!(cost.bytes_total <= 1_750, "{cost:?}");
}

#[test]
fn a_get_costs_ten_allocations() {
    let cost = cost(Config::default(), |runtime, client| {
        let answer = runtime.block_on(client.get(KEY).into_future()).expect("an answer");
        assert_eq!(answer.kvs[0].value, VALUE);
    });
    assert_eq!(cost.count_total, 10, "{cost:?}");
}

#[test]
fn dropping_a_guard_allocates_nothing() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mutex = runtime.block_on(async {
        let client = Client::connect(tenure_etcd::shared().endpoints()).await.expect("an etcd");
        client.session().await.expect("a session").mutex("allocs/drop")
    });
    let lock = || runtime.block_on(mutex.lock()).expect("the lock");
    drop(lock());
    let guard = lock();
    let cost = measure(|| drop(guard));
    assert_eq!(cost.count_total, 0, "{cost:?}");
    // The drop did give it back.
    drop(lock());
}

#[test]
fn dropping_a_guard_of_any_other_kind_allocates_nothing() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let session = runtime.block_on(async {
        let client = Client::connect(tenure_etcd::shared().endpoints()).await.expect("an etcd");
        client.session().await.expect("a session")
    });
    let (lock, semaphore) = (
        session.rw_lock("allocs/rw"),
        session.semaphore("allocs/permits", 2),
    );
    let several = session.multi_lock(["allocs/one", "allocs/two"]);
    let (reader, writer, permits, several) = runtime.block_on(async {
        let reader = lock.read().await.expect("a reader");
        let writer = session.rw_lock("allocs/written").write().await.expect("a writer");
        let permits = semaphore.acquire(1).await.expect("a permit");
        (reader, writer, permits, several.lock().await.expect("a lock"))
    });
    let costs = [
        measure(|| drop(reader)),
        measure(|| drop(writer)),
        measure(|| drop(permits)),
        measure(|| drop(several)),
    ];
    assert!(costs.iter().all(|cost| cost.count_total == 0), "{costs:?}");
    // The drops did give back what they had.
    runtime.block_on(async {
        drop(lock.write().await.expect("nobody reads"));
        drop(semaphore.acquire(2).await.expect("all permits"));
    });
}

fn cost_of_put(config: Config) -> AllocationInfo {
    cost(config, |runtime, client| {
        runtime.block_on(client.put(KEY, VALUE).into_future()).expect("an answer");
    })
}

/// What most calls cost. Now and then a buffer of h2 or of the runtime grows or
/// is renewed; that is spread over many calls and belongs to none.
fn cost(config: Config, call: impl Fn(&Runtime, &Client)) -> AllocationInfo {
    let address = null_server();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let connect = Client::connect_with([address.to_string()], config);
    let client = runtime.block_on(connect).expect("a connection");
    (0..WARM_UP).for_each(|_| call(&runtime, &client));
    let mut costs: Vec<_> = (0..MEASURED).map(|_| measure(|| call(&runtime, &client))).collect();
    costs.sort_by_key(|cost| (cost.count_total, cost.bytes_total));
    costs[MEASURED / 2]
}

/// A server that answers every put and every range at once.
fn null_server() -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            tell.send(listener.local_addr().expect("an address")).expect("the test waits");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    });
    told.recv().expect("the server listens")
}

async fn serve(stream: TcpStream) {
    stream.set_nodelay(true).expect("an option of TCP");
    let mut connection = h2::server::handshake(stream).await.expect("a preface");
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let answer = answer(request.uri().path());
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(chunk)) = body.data().await {
                let _ = body.flow_control().release_capacity(chunk.len());
            }
            let head = http::Response::builder()
                .header("content-type", "application/grpc")
                .body(())
                .expect("a head");
            let mut stream = respond.send_response(head, false).expect("the stream is open");
            stream.send_data(answer, false).expect("the stream is open");
            let trailers = http::HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                http::HeaderValue::from_static("0"),
            )]);
            stream.send_trailers(trailers).expect("the stream is open");
        });
    }
}

fn answer(path: &str) -> Bytes {
    let header = Some(ResponseHeader {
        cluster_id: 1,
        member_id: 2,
        revision: 3,
        raft_term: 4,
    });
    let message = match path {
        "/etcdserverpb.KV/Put" => PutResponse {
            header,
            prev_kv: None,
        }
        .encode_to_vec(),
        "/etcdserverpb.Auth/Authenticate" => AuthenticateResponse {
            header,
            // As long as etcd's are.
            token: "abcdefghijklmnop.12345678".to_owned(),
        }
        .encode_to_vec(),
        "/etcdserverpb.KV/Range" => {
            let kv = KeyValue {
                key: KEY,
                value: VALUE,
                create_revision: 1,
                mod_revision: 1,
                version: 1,
                lease: 0,
            };
            RangeResponse {
                header,
                kvs: vec![kv],
                more: false,
                count: 1,
            }
            .encode_to_vec()
        }
        other => panic!("nobody calls {other}"),
    };
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len().try_into().expect("a small message"));
    frame.put_slice(&message);
    frame.freeze()
}
