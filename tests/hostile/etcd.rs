//! An etcd that speaks gRPC well and talks nonsense: watch ids, revisions, leases and
//! clusters that cannot be. Watches, leases and locks end in a typed error, or go on.

use std::time::Duration;

use prost::Message;
use tenure::pb::etcdserverpb::{
    LeaseGrantResponse, LeaseKeepAliveResponse, ResponseHeader, TxnResponse, WatchResponse,
};
use tenure::pb::mvccpb::{Event, KeyValue};
use tenure::{Client, Code, LeaseId, Origin, WatchEnd};

use crate::bounds;
use crate::case::config;
use crate::frames::*;
use crate::peer::{self, Wire};

/// What is never going to happen is waited for this long.
const MOMENT: Duration = Duration::from_secs(1);
/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(30);
const HUGE: i64 = i64::MAX;

/// What the peer says on the first stream of each connection, and then goes quiet.
type Says = fn(u32) -> Vec<u8>;

fn hold<T: Send + 'static>(
    name: &str,
    says: Says,
    scenario: impl AsyncFnOnce(Client) -> T + Send + 'static,
) -> T {
    let run = async move || {
        let (pipes, _, peer) = peer::spawn(move |wire, _| talk(wire, says));
        let client = Client::connect_over(pipes.dial(), ["http://etcd"], config()).await.unwrap();
        (scenario(client).await, peer)
    };
    let ((outcome, peer), peak) = bounds::hold(name, run).unwrap();
    println!("{peak:>9} B  etcd: {name}");
    peer.join().expect("the script's own assertions");
    outcome
}

/// Answers each request, on whatever stream, with the same.
async fn talk(mut wire: Wire, says: Says) {
    wire.write(&settings(&[])).await;
    let mut last = 0;
    while let Some(frame) = wire.frame().await {
        if frame.kind == DATA && frame.stream > last {
            last = frame.stream;
            wire.write(&says(last)).await;
        }
    }
}

/// A stream that goes on behind these messages.
fn stream(stream: u32, messages: &[impl Message]) -> Vec<u8> {
    let messages: Vec<_> = messages.iter().flat_map(|one| message(&one.encode_to_vec())).collect();
    [headers(stream, 0, &head()), body(stream, &messages)].concat()
}

fn unary(stream: u32, one: &impl Message) -> Vec<u8> {
    answer(stream, &message(&one.encode_to_vec()), "0")
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

fn watched(watch_id: i64, revision: i64) -> WatchResponse {
    WatchResponse {
        header: header(revision),
        watch_id,
        ..WatchResponse::default()
    }
}

fn created(watch_id: i64, revision: i64) -> WatchResponse {
    WatchResponse {
        created: true,
        ..watched(watch_id, revision)
    }
}

fn put(watch_id: i64, revision: i64) -> WatchResponse {
    let kv = KeyValue {
        key: "key".into(),
        mod_revision: revision,
        ..KeyValue::default()
    };
    WatchResponse {
        events: vec![Event {
            kv: Some(kv),
            ..Event::default()
        }],
        ..watched(watch_id, revision)
    }
}

/// How a watch ends, or `None` where it goes on; and the revisions that it saw.
async fn watch(client: Client) -> (Vec<i64>, Option<WatchEnd>) {
    let mut seen = Vec::new();
    let mut watch = match client.watch("key").timeout(PATIENCE).resume(false).await {
        Ok(watch) => watch,
        Err(end) => return (seen, Some(end)),
    };
    loop {
        match tokio::time::timeout(MOMENT, watch.next()).await {
            Ok(Ok(batch)) => seen.extend(batch.events.iter().map(|event| event.revision().0)),
            Ok(Err(end)) => return (seen, Some(end)),
            Err(_) => return (seen, None),
        }
    }
}

/// What it takes no notice of, and what it sees all the same.
#[test]
fn watches_that_go_on() {
    let cases: &[(&str, Says, &[i64])] = &[
        (
            "an event from before the watch",
            |s| stream(s, &[created(0, 5), put(0, 3), put(0, 6)]),
            &[6],
        ),
        (
            "revisions that go back",
            |s| stream(s, &[created(0, 5), put(0, 8), put(0, 7)]),
            &[8],
        ),
        (
            "a revision twice",
            |s| stream(s, &[created(0, 5), put(0, 8), put(0, 8)]),
            &[8],
        ),
    ];
    for (name, says, revisions) in cases {
        let (seen, end) = hold(name, *says, watch);
        assert_eq!(&seen[..], *revisions, "{name}");
        assert!(end.is_none(), "{name}: {end:?}");
    }
}

fn canceled(id: i64, compact_revision: i64) -> WatchResponse {
    WatchResponse {
        canceled: true,
        compact_revision,
        ..watched(id, 5)
    }
}

/// The watch does not resume, so a breach is its end.
#[test]
fn watches_on_a_stream_that_breaks_the_protocol() {
    let cases: &[(&str, Says)] = &[
        ("an event of an unknown watch", |s| {
            stream(s, &[created(0, 5), put(7, 6)])
        }),
        ("an event of watch -1", |s| {
            stream(s, &[created(0, 5), put(-1, 6)])
        }),
        ("the end of an unknown watch", |s| {
            stream(s, &[created(0, 5), canceled(9, 0)])
        }),
        ("an event of no key", |s| {
            let mut nothing = put(0, 6);
            nothing.events[0].kv = None;
            stream(s, &[created(0, 5), nothing])
        }),
        ("an event of an unknown type", |s| {
            let mut odd = put(0, 6);
            odd.events[0].r#type = 77;
            stream(s, &[created(0, 5), odd])
        }),
        ("an event before any watch", |s| stream(s, &[put(0, 6)])),
        ("two watches where one was asked for", |s| {
            stream(s, &[created(0, 5), created(1, 5)])
        }),
    ];
    for (name, says) in cases {
        let (seen, end) = hold(name, *says, watch);
        let Some(WatchEnd::Disconnected { error, .. }) = end else {
            panic!("{name}: {end:?}");
        };
        assert_eq!(
            (error.code(), error.origin()),
            (Code::Internal, Origin::Transport),
            "{name}: {error}"
        );
        assert!(seen.is_empty(), "{name}: {seen:?}");
    }
}

#[test]
fn watches_that_are_ended_for_a_strange_reason() {
    let (_, end) = hold(
        "a refusal",
        |s| {
            stream(
                s,
                &[WatchResponse {
                    created: true,
                    ..canceled(-1, 0)
                }],
            )
        },
        watch,
    );
    assert!(matches!(end, Some(WatchEnd::Canceled { .. })), "{end:?}");
    let (_, end) = hold(
        "compacted below zero",
        |s| stream(s, &[created(0, 5), canceled(0, i64::MIN)]),
        watch,
    );
    assert!(matches!(end, Some(WatchEnd::Canceled { .. })), "{end:?}");
    let (_, end) = hold(
        "compacted to the last",
        |s| stream(s, &[created(0, 5), canceled(0, HUGE)]),
        watch,
    );
    assert!(matches!(end, Some(WatchEnd::Compacted { .. })), "{end:?}");
}

/// Whatever becomes of them, nothing overflows.
#[test]
fn watches_at_the_ends_of_the_numbers() {
    let cases: &[(&str, Says)] = &[
        ("the last revision of all", |s| {
            stream(s, &[created(0, HUGE - 1), put(0, HUGE), put(0, HUGE)])
        }),
        ("created at the last revision", |s| {
            stream(s, &[created(0, HUGE), put(0, HUGE)])
        }),
        ("created below zero", |s| {
            stream(s, &[created(0, i64::MIN), put(0, i64::MIN), put(0, -1)])
        }),
        ("the first id of all", |s| {
            stream(s, &[created(i64::MIN, 5), put(i64::MIN, 6)])
        }),
        ("the last id of all", |s| {
            stream(s, &[created(HUGE, 5), put(HUGE, 6)])
        }),
        ("no header", |s| {
            let bare = WatchResponse {
                header: None,
                ..created(0, 5)
            };
            stream(s, &[bare, put(0, 6)])
        }),
    ];
    for (name, says) in cases {
        let (seen, end) = hold(name, *says, watch);
        println!("{name}: {seen:?}, {end:?}");
    }
}

#[test]
fn fragments_without_an_end() {
    fn fragments(s: u32) -> Vec<u8> {
        let fragment = WatchResponse {
            fragment: true,
            ..put(0, 6)
        };
        let more = vec![fragment; 60_000];
        [
            stream(s, &[created(0, 5)]),
            body(
                s,
                &more.iter().flat_map(|one| message(&one.encode_to_vec())).collect::<Vec<_>>(),
            ),
        ]
        .concat()
    }
    let (seen, end) = hold("fragments without an end", fragments, async |client: Client| {
        // The peer needs its time to make so many.
        let watch = client.watch("key").fragment(true).buffer_bytes(1 << 20).resume(false);
        let mut watch = watch.timeout(PATIENCE).await.unwrap();
        let end = tokio::time::timeout(PATIENCE, watch.next()).await;
        (Vec::<i64>::new(), end.ok().and_then(Result::err))
    });
    assert!(matches!(end, Some(WatchEnd::TooLarge { .. })), "{seen:?} {end:?}");
}

fn renewed(id: i64, ttl: i64) -> LeaseKeepAliveResponse {
    LeaseKeepAliveResponse {
        id,
        ttl,
        header: header(5),
    }
}

/// Renewed once: its TTL, or how it ended.
async fn keep(client: Client) -> Result<Duration, String> {
    let kept = tokio::time::timeout(PATIENCE, client.keep_alive(LeaseId(7))).await.expect("an end");
    let lease = kept.map_err(|error| error.to_string())?;
    match tokio::time::timeout(MOMENT, lease.ended()).await {
        Ok(end) => Err(end.to_string()),
        Err(_) => Ok(lease.valid_for()),
    }
}

#[test]
fn renewals() {
    let short = MOMENT * 20;
    let cases: &[(&str, Says)] = &[
        ("a TTL below zero", |s| stream(s, &[renewed(7, -1)])),
        ("the least TTL of all", |s| stream(s, &[renewed(7, i64::MIN)])),
        ("a TTL of zero", |s| stream(s, &[renewed(7, 0)])),
    ];
    for (name, says) in cases {
        let end = hold(name, *says, keep);
        assert!(end.is_err(), "{name}: {end:?}");
    }
    let kept = hold("the longest TTL of all", |s| stream(s, &[renewed(7, HUGE)]), keep);
    assert!(kept.as_ref().is_ok_and(|valid| *valid > short), "{kept:?}");
    let kept = hold(
        "renewals of unknown leases",
        |s| {
            stream(
                s,
                &[renewed(99, 60), renewed(-5, HUGE), renewed(0, 0), renewed(7, 60)],
            )
        },
        keep,
    );
    assert!(kept.as_ref().is_ok_and(|valid| *valid > short), "{kept:?}");
    let kept = hold(
        "renewals that nobody asked for",
        |s| stream(s, &vec![renewed(7, 60); 10_000]),
        keep,
    );
    assert!(kept.is_ok(), "{kept:?}");
}

#[test]
fn grants() {
    let cases: &[(&str, Says, bool)] = &[
        (
            "a grant of a TTL below zero",
            |s| unary(s, &granted(7, -1)),
            false,
        ),
        (
            "a grant of the least TTL",
            |s| unary(s, &granted(7, i64::MIN)),
            false,
        ),
        (
            "a grant of the longest TTL",
            |s| unary(s, &granted(7, HUGE)),
            true,
        ),
        // To etcd it means no lease: what is put under it would stay for ever.
        ("a grant of lease 0", |s| unary(s, &granted(0, 60)), false),
        (
            "a grant of a lease below zero",
            |s| unary(s, &granted(-7, 60)),
            true,
        ),
    ];
    for (name, says, is_lease) in cases {
        let valid = hold(name, *says, async |client: Client| {
            let lease = client.lease(Duration::from_secs(60)).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(lease.valid_for())
        });
        assert_eq!(valid.is_ok(), *is_lease, "{name}: {valid:?}");
    }
}

fn granted(id: i64, ttl: i64) -> LeaseGrantResponse {
    LeaseGrantResponse {
        header: header(5),
        id,
        ttl,
        error: String::new(),
    }
}

/// The first connection's cluster is one, every later one's is another. Nothing is
/// lost without a word: the watch goes on where it was, and its reader can tell.
#[test]
fn another_cluster_after_a_reconnect() {
    let run = async || {
        let (pipes, _, peer) = peer::spawn(|mut wire: Wire, nth| async move {
            let number = 1 + nth as u64;
            let answer = |revision| {
                let header = ResponseHeader {
                    cluster_id: number,
                    member_id: number,
                    revision,
                    ..Default::default()
                };
                WatchResponse {
                    header: Some(header),
                    ..put(0, revision)
                }
            };
            wire.write(&settings(&[])).await;
            while let Some(frame) = wire.frame().await {
                if frame.kind != DATA || frame.flags & END_STREAM != 0 {
                    continue;
                }
                let created = WatchResponse {
                    created: true,
                    events: Vec::new(),
                    ..answer(5)
                };
                // The other store is younger, and repeats revisions.
                let events = if nth == 0 {
                    vec![created, answer(6), answer(7)]
                } else {
                    vec![created, answer(6), answer(8)]
                };
                wire.write(&stream(frame.stream, &events)).await;
                if nth == 0 {
                    wire.hang_up().await;
                }
            }
        });
        let client = Client::connect_over(pipes.dial(), ["http://etcd"], config()).await.unwrap();
        let mut watch = client.watch("key").timeout(PATIENCE).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let batch = tokio::time::timeout(PATIENCE, watch.next()).await.expect("an event or an end");
            match batch {
                Ok(batch) => seen.extend(batch.events.iter().map(|event| event.revision().0)),
                Err(_) => break,
            }
        }
        drop((watch, client));
        (seen, peer)
    };
    let ((seen, peer), peak) = bounds::hold("another cluster", run).unwrap();
    println!("{peak:>9} B  etcd: another cluster: {seen:?}");
    peer.join().expect("the script's own assertions");
    assert!(seen.is_sorted_by(|one, next| one < next), "{seen:?}");
}

/// A lock whose transactions are answered with nothing that was asked for.
#[test]
fn locks() {
    fn nonsense(s: u32) -> Vec<u8> {
        // As a lease it is granted for a minute: ID is 2, TTL 3, and a transaction
        // has `succeeded` in 2.
        match s {
            1 => unary(s, &granted(7, 60)),
            _ => unary(
                s,
                &TxnResponse {
                    header: header(-5),
                    succeeded: true,
                    responses: Vec::new(),
                },
            ),
        }
    }
    let end = hold(
        "transactions that answer nothing",
        nonsense,
        async |client: Client| {
            let session = client.session().await.map_err(|error| error.to_string())?;
            let locking = session.mutex("lock").timeout(MOMENT * 3).lock().await;
            locking.map(drop).map_err(|error| error.to_string())
        },
    );
    assert!(end.is_err(), "there is no lock");
}
