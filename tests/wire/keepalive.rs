//! Leases that are kept alive, against a server that grants, answers, loses and
//! ignores renewals as each test says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, SendResponse};
use tenure::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    LeaseRevokeResponse,
};
use tenure::{Client, Code, Config, EtcdError, LeaseEnd, LeaseId};
use tokio::sync::Notify;

use crate::peer::{Requests, answer, frame, head, patiently, serve, server, trailers};

/// Renewed about once a second, and alive over two in which the machine stands still.
const TTL: Duration = Duration::from_secs(4);

/// What the server does with the renewals of its n-th stream, counted from 0.
type Script = fn(stream: usize) -> Behaviour;

#[derive(Clone, Copy)]
enum Behaviour {
    /// Answers each with [`TTL`].
    Renew,
    /// Answers each with the TTL of zero.
    Unknown,
    /// Answers nothing.
    Silent,
    /// Resets the stream at the first renewal.
    Reset,
}

/// The lease whose first revocation goes unanswered.
const UNHEARD: i64 = 0x1057;

#[derive(Default)]
struct Seen {
    streams: AtomicUsize,
    streams_gone: AtomicUsize,
    revokes: AtomicUsize,
    renewals: Mutex<HashMap<i64, usize>>,
    news: Notify,
}

impl Seen {
    /// Waits until something seen makes `condition` true.
    async fn until(&self, what: &str, condition: impl Fn(&Seen) -> bool) {
        let seen = async {
            loop {
                let news = self.news.notified();
                if condition(self) {
                    return;
                }
                news.await;
            }
        };
        patiently(what, seen).await;
    }

    fn renewals_of(&self, id: LeaseId) -> usize {
        self.renewals.lock().unwrap().get(&id.0).copied().unwrap_or(0)
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }

    fn count(&self, counter: &AtomicUsize) -> usize {
        let before = counter.fetch_add(1, Ordering::SeqCst);
        self.news.notify_waiters();
        before
    }
}

async fn scripted(script: Script) -> (Client, Arc<Seen>) {
    scripted_with(script, &Builder::new()).await
}

async fn scripted_with(script: Script, builder: &Builder) -> (Client, Arc<Seen>) {
    let (client, connection) = server(Config::default(), builder).await;
    let seen = Arc::new(Seen::default());
    let next_id = Arc::new(AtomicUsize::new(1));
    let shared = seen.clone();
    serve(connection, move |(request, mut respond)| {
        let (seen, next_id) = (shared.clone(), next_id.clone());
        async move {
            let path = request.uri().path().to_owned();
            let mut requests = Requests::new(request.into_body());
            match path.as_str() {
                "/etcdserverpb.Lease/LeaseGrant" => {
                    let asked: LeaseGrantRequest = requests.next().await.expect("a request");
                    let id = match asked.id {
                        0 => next_id.fetch_add(1, Ordering::SeqCst) as i64,
                        id => id,
                    };
                    let granted = LeaseGrantResponse {
                        id,
                        ttl: asked.ttl,
                        ..LeaseGrantResponse::default()
                    };
                    answer(&mut respond, &granted);
                }
                "/etcdserverpb.Lease/LeaseRevoke" => {
                    let asked: LeaseRevokeRequest = requests.next().await.expect("a request");
                    match (asked.id, seen.count(&seen.revokes)) {
                        (UNHEARD, 0) => {
                            let mut stream = respond.send_response(head(), false).unwrap();
                            stream.send_trailers(trailers("14")).unwrap();
                        }
                        _ => answer(&mut respond, &LeaseRevokeResponse::default()),
                    }
                }
                "/etcdserverpb.Lease/LeaseKeepAlive" => {
                    let stream = seen.count(&seen.streams);
                    keep_alive(&seen, script(stream), requests, respond).await;
                    seen.count(&seen.streams_gone);
                }
                other => panic!("{other} was called"),
            }
        }
    });
    (client, seen)
}

async fn keep_alive(
    seen: &Seen,
    behaviour: Behaviour,
    mut requests: Requests,
    mut respond: SendResponse<Bytes>,
) {
    let mut stream = respond.send_response(head(), false).expect("the stream is open");
    while let Some(LeaseKeepAliveRequest { id }) = requests.next().await {
        *seen.renewals.lock().unwrap().entry(id).or_default() += 1;
        seen.news.notify_waiters();
        let ttl = match behaviour {
            Behaviour::Renew => TTL.as_secs() as i64,
            Behaviour::Unknown => 0,
            Behaviour::Silent => continue,
            Behaviour::Reset => return stream.send_reset(Reason::INTERNAL_ERROR),
        };
        let reply = LeaseKeepAliveResponse {
            id,
            ttl,
            ..LeaseKeepAliveResponse::default()
        };
        if stream.send_data(frame(&reply), false).is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn renewals_of_many_leases_share_one_stream() {
    let (client, seen) = scripted(|_| Behaviour::Renew).await;
    drop(client.lease(TTL * 1000).await.unwrap());
    assert_eq!(seen.streams(), 0, "nothing is due yet");
    let mut leases = Vec::new();
    for _ in 0..50 {
        leases.push(client.lease(TTL).await.unwrap());
    }
    // Eight renewals of a quarter of the TTL each outlive the grant by far.
    let all_renewed = |seen: &Seen| leases.iter().all(|lease| seen.renewals_of(lease.id()) >= 8);
    seen.until("the eighth renewal", all_renewed).await;
    assert!(leases.iter().all(|lease| lease.is_valid() && lease.end().is_none()));
    assert!(leases.iter().all(|lease| lease.valid_for() > Duration::ZERO));
    assert_eq!(seen.streams(), 1);
}

#[tokio::test]
async fn the_stream_ends_with_the_last_lease() {
    let (client, seen) = scripted(|_| Behaviour::Renew).await;
    let (one, two) = (client.lease(TTL).await.unwrap(), client.lease(TTL).await.unwrap());
    let (id, ended) = (two.id(), two.ended());
    seen.until("a renewal", |seen| seen.renewals_of(one.id()) > 0).await;
    drop(one);
    let count = seen.renewals_of(id);
    seen.until("a renewal of the other", |seen| seen.renewals_of(id) > count).await;
    drop(two);
    assert_eq!(ended.await, LeaseEnd::Closed);
    let gone = |seen: &Seen| seen.streams_gone.load(Ordering::SeqCst) == 1;
    seen.until("the end of the stream", gone).await;

    let three = client.lease(TTL).await.unwrap();
    seen.until("a renewal by a new driver", |seen| {
        seen.renewals_of(three.id()) > 0
    })
    .await;
    assert_eq!(seen.streams(), 2);
    assert_eq!(seen.revokes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn nothing_is_left_of_a_client_once_its_leases_are_gone() {
    let (client, seen) = scripted(|_| Behaviour::Renew).await;
    let (one, two) = (client.lease(TTL).await.unwrap(), client.lease(TTL).await.unwrap());
    drop(client);
    seen.until("a renewal without the client", |seen| {
        seen.renewals_of(one.id()) > 0
    })
    .await;
    drop((one, two));
    // The server's side goes with the connection, which the driver would hold.
    patiently("the end of the connection", async {
        while Arc::strong_count(&seen) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_stream_is_replaced_before_anything_expires() {
    let (client, seen) = scripted(|stream| match stream {
        0 | 1 | 4 => Behaviour::Reset,
        2 => Behaviour::Silent,
        _ => Behaviour::Renew,
    })
    .await;
    // Long enough for two resets and one silence of a third of it.
    let lease = client.lease(TTL * 3).await.unwrap();
    let renewed = |seen: &Seen| seen.streams() >= 4 && seen.renewals_of(lease.id()) >= 8;
    seen.until("renewals on the fourth stream", renewed).await;
    assert!(lease.is_valid());
}

#[tokio::test]
async fn a_server_that_answers_nothing_loses_the_lease_at_its_deadline() {
    let (client, seen) = scripted(|_| Behaviour::Silent).await;
    // Long enough for a second stream also where the machine stands still for a while.
    let lease = client.lease(TTL * 2).await.unwrap();
    assert_eq!(patiently("the end", lease.ended()).await, LeaseEnd::Expired);
    assert_eq!((lease.end(), lease.is_valid()), (Some(LeaseEnd::Expired), false));
    assert_eq!(lease.valid_for(), Duration::ZERO);
    assert!(seen.streams() >= 2, "the silent stream was not replaced");
    let gone = |seen: &Seen| seen.streams_gone.load(Ordering::SeqCst) == seen.streams();
    seen.until("the end of the streams", gone).await;
}

#[tokio::test]
async fn a_lease_that_the_server_does_not_know_ends_at_once() {
    let (client, _) = scripted(|_| Behaviour::Unknown).await;
    let lease = client.lease(TTL * 1000).id(LeaseId(7)).await.unwrap();
    assert_eq!((lease.id(), lease.ttl()), (LeaseId(7), TTL * 1000));
    let error = client.keep_alive(LeaseId(7)).await.unwrap_err();
    assert_eq!(error.etcd(), Some(EtcdError::LeaseNotFound));
    let other = client.lease(TTL).await.unwrap();
    assert_eq!(
        patiently("the end", other.ended()).await,
        LeaseEnd::UnknownToServer
    );
    assert!(lease.is_valid(), "nobody was asked for this one");
}

#[tokio::test]
async fn a_lease_kept_twice_is_one() {
    let (client, seen) = scripted(|_| Behaviour::Renew).await;
    let one = client.lease(TTL).await.unwrap();
    let two = client.keep_alive(one.id()).await.unwrap();
    assert_eq!(seen.streams(), 1, "one renewal to begin with");
    let (id, ended) = (two.id(), two.ended());
    drop(one);
    let count = seen.renewals_of(id);
    seen.until("renewals after one handle went", |seen| {
        seen.renewals_of(id) > count + 3
    })
    .await;
    assert!(two.is_valid());
    let three = client.keep_alive(id).await.unwrap();
    two.forget();
    assert_eq!(
        three.end(),
        Some(LeaseEnd::Closed),
        "it is shared, and over at once"
    );
    assert_eq!(ended.await, LeaseEnd::Closed);
    drop((two, three));

    let four = client.keep_alive(id).await.unwrap();
    let count = seen.renewals_of(id);
    seen.until("renewals of a new handle", |seen| {
        seen.renewals_of(id) > count + 3
    })
    .await;
    assert!(four.is_valid());
}

#[tokio::test]
async fn a_revoked_lease_is_over_before_the_server_is_asked() {
    let (client, seen) = scripted(|_| Behaviour::Renew).await;
    let lease = client.lease(TTL).await.unwrap();
    let ended = tokio::spawn(lease.ended());
    lease.revoke().await.unwrap();
    assert_eq!(lease.end(), Some(LeaseEnd::Revoked));
    assert_eq!(patiently("the news", ended).await.unwrap(), LeaseEnd::Revoked);
    assert_eq!(seen.revokes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_revocation_whose_answer_is_lost_is_sent_again() {
    let (client, seen) = scripted(|_| Behaviour::Renew).await;
    let lease = client.lease(TTL).id(LeaseId(UNHEARD)).await.unwrap();
    patiently("the revocation", lease.revoke()).await.unwrap();
    assert_eq!(seen.revokes.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn replies_are_read_while_a_renewal_waits_for_room() {
    // A renewal takes seven bytes and the server never gives more room, so that of
    // three the last one waits until its stream is replaced.
    let mut builder = Builder::new();
    builder.initial_window_size(14);
    let (client, seen) = scripted_with(|_| Behaviour::Renew, &builder).await;
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(client.lease(TTL * 2).await.unwrap());
    }
    seen.until("the fourth stream", |seen| seen.streams() == 4).await;
    assert!(leases.iter().all(|lease| lease.is_valid()));
}

#[tokio::test]
async fn leases_of_a_runtime_that_ends_run_out() {
    let (client, seen) = scripted(|_| Behaviour::Renew).await;
    let other = tokio::task::spawn_blocking({
        let client = client.clone();
        move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async move { client.lease(TTL).await.unwrap() })
        }
    });
    let orphan = other.await.unwrap();
    assert_eq!(patiently("the end", orphan.ended()).await, LeaseEnd::Expired);
    let lease = client.lease(TTL).await.unwrap();
    seen.until("a renewal here", |seen| seen.renewals_of(lease.id()) > 0).await;
}

#[tokio::test]
async fn a_lease_granted_anew_under_the_same_id_has_its_own_ttl() {
    let (client, _) = scripted(|_| Behaviour::Renew).await;
    let old = client.lease(TTL * 600).id(LeaseId(7)).await.unwrap();
    client.lease_revoke(old.id()).await.unwrap();
    let new = client.lease(TTL * 2).id(LeaseId(7)).await.unwrap();
    assert_eq!(new.ttl(), TTL * 2);
    assert!(new.valid_for() <= TTL * 2, "{:?}", new.valid_for());
    assert!(
        !old.is_valid(),
        "the server can grant it anew only once it is gone"
    );
}

#[tokio::test]
async fn a_refused_stream_is_not_opened_in_a_loop() {
    let (client, connection) = server(Config::default(), &Builder::new()).await;
    let streams = Arc::new(AtomicUsize::new(0));
    let count = streams.clone();
    serve(connection, move |(request, mut respond)| {
        if request.uri().path() == "/etcdserverpb.Lease/LeaseKeepAlive" {
            count.fetch_add(1, Ordering::SeqCst);
            let refused = http::Response::builder().header("grpc-status", "7");
            let refused = refused.header("content-type", "application/grpc").body(()).unwrap();
            respond.send_response(refused, true).unwrap();
        } else {
            let granted = LeaseGrantResponse {
                id: 7,
                ttl: 6,
                ..LeaseGrantResponse::default()
            };
            answer(&mut respond, &granted);
        }
        async {}
    });
    let lease = client.lease(TTL).await.unwrap();
    let refused = LeaseEnd::Refused(Code::PermissionDenied);
    assert_eq!(patiently("the end", lease.ended()).await, refused);
    let streams = streams.load(Ordering::SeqCst);
    assert!((2..100).contains(&streams), "{streams} streams in six seconds");
}
