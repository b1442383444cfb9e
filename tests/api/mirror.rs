//! A prefix kept in step elsewhere, against real servers: nothing is left out, nothing is shown that the
//! source never was, whatever breaks on the way.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tenure::{Client, Config, Error, Event, KeyRange, Mirror, MirrorEnd, MirrorProgress, Op, Revision};
use tenure_proxy::{Direction, Door, Ending, Flow, Proxy};

use crate::support::{OwnServer, client, endpoints, patiently, run, viewed};

type Keys = BTreeMap<Bytes, Bytes>;

/// What is behind a prefix now.
async fn keys(client: &Client, prefix: &str) -> Keys {
    let kvs = client.namespace(prefix.to_owned()).get(KeyRange::all()).await.unwrap().kvs;
    kvs.into_iter().map(|kv| (kv.key, kv.value)).collect()
}

fn apply(keys: &mut Keys, event: Event) {
    match event {
        Event::Put { kv, .. } => keys.insert(kv.key, kv.value),
        Event::Delete { kv, .. } => keys.remove(&kv.key),
    };
}

async fn next(mirror: &mut Mirror) -> MirrorProgress {
    patiently("a step", mirror.next()).await.unwrap()
}

/// Until the copy has this revision.
async fn reach(mirror: &mut Mirror, revision: Revision) -> MirrorProgress {
    loop {
        let progress = next(mirror).await;
        if progress.is_following && progress.revision >= revision {
            return progress;
        }
    }
}

async fn end(mirror: &mut Mirror) -> MirrorEnd {
    loop {
        if let Err(end) = patiently("the end", mirror.next()).await {
            return end;
        }
    }
}

/// Names of one test: the source's prefix, the copy's, and the checkpoint.
fn names(test: &str) -> (String, String, String) {
    (
        format!("mirror/{test}/from/"),
        format!("mirror/{test}/to/"),
        format!("mirror/{test}/at"),
    )
}

#[test]
fn the_copy_becomes_what_the_source_is_and_follows_it() {
    run(async {
        let client = client().await;
        let (from, to, at) = names("follows");
        let (source, copy) = (client.namespace(from.clone()), client.namespace(to.clone()));
        for index in 0..200 {
            source.put(format!("{index:03}"), format!("{index}")).await.unwrap();
        }
        // Missing, the same, different, too much; and neighbours that are none of its business.
        copy.put("001", "1").await.unwrap();
        copy.put("002", "other").await.unwrap();
        copy.put("0020", "too much").await.unwrap();
        copy.put("999", "too much").await.unwrap();
        client.put("mirror/follows/to", "below").await.unwrap();
        client.put("mirror/follows/to0", "above").await.unwrap();
        let same = copy.get("001").await.unwrap().kvs[0].mod_revision;
        let last = source.put("last", "listed").await.unwrap().revision();
        let mut mirror = client.mirror(from.clone(), &client, to.clone()).checkpoint(at.clone()).txn_ops(16);
        let progress = reach(&mut mirror, last).await;
        assert_eq!(keys(&client, &to).await, keys(&client, &from).await);
        assert_eq!(
            (progress.puts, progress.deletes, progress.comparisons),
            (200, 2, 1)
        );
        assert_eq!(copy.get("001").await.unwrap().kvs[0].mod_revision, same);

        source.put("new", "value").await.unwrap();
        source.delete("000").await.unwrap();
        let lease = client.lease_grant(Duration::from_secs(60)).await.unwrap();
        let put = source.put("leased", "x").lease(tenure::LeaseId(lease.id)).await.unwrap();
        reach(&mut mirror, put.revision()).await;
        assert_eq!(keys(&client, &to).await, keys(&client, &from).await);
        assert_eq!(copy.get("leased").await.unwrap().kvs[0].lease, 0);
        client.lease_revoke(tenure::LeaseId(lease.id)).await.unwrap();
        let last = source.put("last", "again").await.unwrap().revision();
        let progress = reach(&mut mirror, last).await;
        assert_eq!(progress.lag(), 0);
        assert_eq!(keys(&client, &to).await, keys(&client, &from).await);
        assert_eq!(
            client.get("mirror/follows/to").await.unwrap().kvs[0].value,
            "below"
        );
        assert_eq!(
            client.get("mirror/follows/to0").await.unwrap().kvs[0].value,
            "above"
        );
    });
}

#[test]
fn what_only_the_copy_has_is_kept_where_that_is_wished() {
    run(async {
        let client = client().await;
        let (from, to, at) = names("keeps");
        let copy = client.namespace(to.clone());
        copy.put("extra", "mine").await.unwrap();
        let put = client.namespace(from.clone()).put("k", "v").await.unwrap();
        let mut mirror = client.mirror(from, &client, to).checkpoint(at).keep_extra();
        reach(&mut mirror, put.revision()).await;
        assert_eq!(copy.get("extra").await.unwrap().kvs[0].value, "mine");
        assert_eq!(copy.get("k").await.unwrap().kvs[0].value, "v");
    });
}

#[test]
fn a_revision_is_one_transaction_unless_it_is_too_large() {
    run(async {
        let client = client().await;
        let (from, to, at) = names("whole");
        let (source, copy) = (client.namespace(from.clone()), client.namespace(to.clone()));
        let first = source.put("k", "v").await.unwrap().revision();
        let mut mirror = client.mirror(from.clone(), &client, to.clone()).checkpoint(at).txn_ops(8);
        reach(&mut mirror, first).await;
        let mut watch = copy.watch(KeyRange::all()).await.unwrap();
        let txn = (0..6).fold(source.txn(), |txn, index| {
            txn.then(Op::put(format!("{index}"), "v"))
        });
        reach(&mut mirror, txn.then(Op::delete("k")).await.unwrap().revision()).await;
        let batch = patiently("the transaction", watch.next()).await.unwrap();
        let revisions: Vec<_> = batch.events.iter().map(Event::revision).collect();
        assert_eq!(revisions, [revisions[0]; 7]);

        for index in 0..20 {
            source.put(format!("more/{index:02}"), "v").await.unwrap();
        }
        let large = source.delete(KeyRange::prefix("more/")).await.unwrap();
        assert_eq!(large.deleted, 20);
        reach(&mut mirror, large.revision()).await;
        assert_eq!(keys(&client, &to).await, keys(&client, &from).await);
    });
}

/// Writes behind the prefix; each state that there was, by its revision.
async fn write(client: &Client, prefix: &str, seed: u64, writes: usize) -> BTreeMap<Revision, Keys> {
    let source = client.namespace(prefix.to_owned());
    let mut random = fastrand::Rng::with_seed(seed);
    let mut now = keys(client, prefix).await;
    let mut states = BTreeMap::new();
    for write in 0..writes {
        let key = |random: &mut fastrand::Rng| format!("{}", random.u8(0..12));
        let revision = match random.u8(0..4) {
            0 => {
                let key = key(&mut random);
                let deleted = source.delete(key.clone()).await.unwrap();
                now.remove(key.as_bytes());
                deleted.revision()
            }
            1 => {
                let (one, two) = (format!("a{}", random.u8(0..5)), format!("b{}", random.u8(0..5)));
                let txn = source.txn().then(Op::put(one.clone(), format!("{write}")));
                let answer = txn.then(Op::put(two.clone(), format!("{write}"))).await.unwrap();
                now.insert(one.into(), format!("{write}").into());
                now.insert(two.into(), format!("{write}").into());
                answer.revision()
            }
            _ => {
                let key = key(&mut random);
                let put = source.put(key.clone(), format!("{write}")).await.unwrap();
                now.insert(key.into(), format!("{write}").into());
                put.revision()
            }
        };
        states.insert(revision, now.clone());
    }
    states
}

/// Follows the copy from this revision on, and holds each of its states against those of the source, in order.
async fn judge(copy: &Client, mut shown: Keys, from: Revision, states: &BTreeMap<Revision, Keys>) {
    let last = states.values().next_back().unwrap();
    let mut watch = copy.watch(KeyRange::all()).start_revision(from).await.unwrap();
    let mut place = Revision::ZERO;
    while &shown != last {
        let batch = patiently("the copy's next state", watch.next()).await.unwrap();
        let mut events = batch.events.into_iter().peekable();
        while let Some(event) = events.next() {
            let revision = event.revision();
            apply(&mut shown, event);
            if events.peek().is_some_and(|next| next.revision() == revision) {
                continue;
            }
            let found = states.range(place..).find(|(_, state)| **state == shown);
            let found = found.unwrap_or_else(|| panic!("at {revision} the copy is as the source never was"));
            place = *found.0;
        }
    }
}

#[test]
fn while_it_is_written_the_copy_shows_only_what_the_source_was() {
    run(async {
        let client = client().await;
        let (from, to, at) = names("written");
        let mut mirror = client.mirror(from.clone(), &client, to.clone()).checkpoint(at);
        let first = client.namespace(from.clone()).put("first", "v").await.unwrap().revision();
        reach(&mut mirror, first).await;
        let (begun, start) = (
            keys(&client, &to).await,
            client.get("x").await.unwrap().revision().next(),
        );
        let running = tokio::spawn(mirror.run());
        let states = write(&client, &from, 1, 300).await;
        judge(&client.namespace(to), begun, start, &states).await;
        running.abort();
    });
}

/// Polls so many times; whether it was done by then.
async fn polls(mirror: &mut Mirror, times: usize) -> Option<Result<MirrorProgress, MirrorEnd>> {
    let mut step = pin!(mirror.next());
    for _ in 0..times {
        let once = poll_fn(|cx| Poll::Ready(step.as_mut().poll(cx))).await;
        if let Poll::Ready(done) = once {
            return Some(done);
        }
        // Somebody else's turn, so that what is under way goes on.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

#[test]
fn killed_or_cancelled_at_any_poll_it_goes_on_where_it_was() {
    run(async {
        for crashes in [false, true] {
            let client = client().await;
            let (from, to, at) = names(if crashes { "killed" } else { "cancelled" });
            let begin = || client.mirror(from.clone(), &client, to.clone()).checkpoint(at.clone()).txn_ops(4);
            let first = client.namespace(from.clone()).put("first", "v").await.unwrap().revision();
            let mut mirror = begin();
            reach(&mut mirror, first).await;
            let (begun, start) = (
                keys(&client, &to).await,
                client.get("x").await.unwrap().revision().next(),
            );
            let writing = {
                let (client, from) = (client.clone(), from.clone());
                tokio::spawn(async move { write(&client, &from, 2, 150).await })
            };
            let mut times = 0;
            while !writing.is_finished() {
                times = times % 12 + 1;
                if let Some(Err(end)) = polls(&mut mirror, times).await {
                    panic!("{end}");
                }
                if crashes {
                    mirror = begin();
                }
            }
            let states = writing.await.unwrap();
            let progress = reach(&mut mirror, *states.keys().next_back().unwrap()).await;
            assert!(progress.comparisons <= 1, "{progress:?}");
            judge(&client.namespace(to), begun, start, &states).await;
        }
    });
}

#[test]
fn what_was_compacted_before_it_was_copied_is_compared() {
    let server = OwnServer::start();
    run(async {
        let source = viewed(Client::connect(server.endpoints()).await.unwrap());
        let copy = client().await;
        let (from, to, at) = names("compacted");
        let begin = || source.mirror(from.clone(), &copy, to.clone()).checkpoint(at.clone());
        let inside = source.namespace(from.clone());
        for key in ["kept", "gone", "changed"] {
            inside.put(key, "v").await.unwrap();
        }
        let put = inside.put("last", "v").await.unwrap();
        let mut mirror = begin();
        reach(&mut mirror, put.revision()).await;
        drop(mirror);
        inside.delete("gone").await.unwrap();
        inside.put("changed", "again").await.unwrap();
        inside.put("new", "v").await.unwrap();
        let last = inside.put("last", "again").await.unwrap().revision();
        source.compact(last).await.unwrap();
        let mut mirror = begin();
        let progress = reach(&mut mirror, last).await;
        assert_eq!((progress.comparisons, progress.puts, progress.deletes), (1, 3, 1));
        assert_eq!(keys(&copy, &to).await, keys(&source, &from).await);
        // Without a compaction there is nothing to compare.
        drop(mirror);
        let last = inside.put("last", "v").await.unwrap().revision();
        let mut mirror = begin();
        let progress = reach(&mut mirror, last).await;
        assert_eq!((progress.comparisons, progress.puts, progress.deletes), (0, 1, 0));
    });
}

#[test]
fn a_compaction_in_the_middle_of_a_comparison_begins_another_one() {
    let server = OwnServer::start();
    run(async {
        let source = viewed(Client::connect(server.endpoints()).await.unwrap());
        let copy = client().await;
        let (from, to, at) = names("between");
        let inside = source.namespace(from.clone());
        for index in 0..1200 {
            inside.put(format!("{index:04}"), "v").await.unwrap();
        }
        let mut mirror = source.mirror(from.clone(), &copy, to.clone()).checkpoint(at);
        while next(&mut mirror).await.puts == 0 {}
        let last = inside.put("last", "v").await.unwrap().revision();
        source.compact(last).await.unwrap();
        let progress = reach(&mut mirror, last).await;
        assert_eq!(keys(&copy, &to).await, keys(&source, &from).await);
        // An etcd with RangeStream reads it in one go, at a revision that it has begun with.
        assert!(progress.comparisons <= 2 && progress.puts <= 1201, "{progress:?}");
    });
}

#[test]
fn an_outage_of_the_destination_is_waited_out() {
    run(async {
        let source = client().await;
        let (from, to, at) = names("outage");
        let proxy = Proxy::start(&endpoints()[0]).unwrap();
        let config = Config::new().call_timeout(Duration::from_secs(1));
        let behind = viewed(Client::connect_with([proxy.endpoint()], config).await.unwrap());
        let mut mirror = source.mirror(from.clone(), &behind, to.clone()).checkpoint(at);
        let inside = source.namespace(from.clone());
        let first = inside.put("k", "1").await.unwrap().revision();
        reach(&mut mirror, first).await;
        proxy.door(Door::Refusing);
        proxy.cut(Ending::Reset);
        let mut last = Revision::ZERO;
        for index in 0..50 {
            last = inside.put("k", format!("{index}")).await.unwrap().revision();
        }
        patiently("some trouble", async {
            while mirror.trouble().is_none() {
                let step = tokio::time::timeout(Duration::from_millis(20), mirror.next()).await;
                assert!(step.is_err(), "there is nobody to write to");
            }
        })
        .await;
        proxy.heal();
        reach(&mut mirror, last).await;
        assert!(mirror.trouble().is_none());
        assert_eq!(keys(&source, &to).await, keys(&source, &from).await);
    });
}

#[test]
fn a_transaction_whose_answer_is_lost_is_carried_out_once() {
    run(async {
        let source = client().await;
        let (from, to, at) = names("lost");
        let proxy = Proxy::start(&endpoints()[0]).unwrap();
        let behind = viewed(Client::connect([proxy.endpoint()]).await.unwrap());
        let mut mirror = source.mirror(from.clone(), &behind, to.clone()).checkpoint(at);
        let inside = source.namespace(from.clone());
        let first = inside.put("k", "1").await.unwrap().revision();
        reach(&mut mirror, first).await;
        let copy = source.namespace(to);
        proxy.flow(Direction::Down, Flow::Hold);
        let last = inside.put("once", "v").await.unwrap().revision();
        patiently("the transaction", async {
            while copy.get("once").await.unwrap().kvs.is_empty() {
                let _ = tokio::time::timeout(Duration::from_millis(20), mirror.next()).await;
            }
        })
        .await;
        proxy.cut(Ending::Close);
        proxy.heal();
        reach(&mut mirror, last).await;
        assert_eq!(copy.get("once").await.unwrap().kvs[0].version, 1);
    });
}

#[test]
fn of_two_mirrors_the_one_that_began_last_writes() {
    run(async {
        let client = client().await;
        let (from, to, at) = names("two");
        let begin = || client.mirror(from.clone(), &client, to.clone()).checkpoint(at.clone());
        let inside = client.namespace(from.clone());
        let first = inside.put("k", "1").await.unwrap().revision();
        let mut one = begin();
        reach(&mut one, first).await;
        // The first one is busy while the second takes over.
        let mut last = inside.put("k", "2").await.unwrap().revision();
        let busy = tokio::spawn(one.run());
        for index in 0..50 {
            last = inside.put(format!("{index}"), "v").await.unwrap().revision();
        }
        let mut two = begin();
        reach(&mut two, last).await;
        last = inside.put("k", "3").await.unwrap().revision();
        reach(&mut two, last).await;
        let ended = patiently("the first one's end", busy).await.unwrap();
        assert!(matches!(ended, MirrorEnd::Superseded), "{ended}");
        assert_eq!(keys(&client, &to).await, keys(&client, &from).await);
    });
}

#[test]
fn what_would_go_wrong_is_refused() {
    run(async {
        let client = client().await;
        let (from, to, at) = names("refused");
        let inside = client.namespace(from.clone());
        let put = inside.put("k", "v").await.unwrap();
        let refused = [
            client.mirror(from.clone(), &client, format!("{from}below/")),
            client.mirror(format!("{from}below/"), &client, from.clone()),
            client.mirror(from.clone(), &client, to.clone()).checkpoint(format!("{from}at")),
            client.mirror(from.clone(), &client, from.clone()),
        ];
        for mut mirror in refused {
            let end = end(&mut mirror).await;
            assert!(matches!(end, MirrorEnd::Refused { .. }), "{end}");
            assert_eq!(Error::from(end).code(), tenure::Code::InvalidArgument);
        }
        assert_eq!(inside.get(KeyRange::all()).await.unwrap().count, 1);

        let begin = || client.mirror(from.clone(), &client, to.clone()).checkpoint(at.clone());
        client.put(at.clone(), "something else").await.unwrap();
        let ended = end(&mut begin()).await;
        assert!(matches!(ended, MirrorEnd::Refused { .. }), "{ended}");
        client.delete(at.clone()).await.unwrap();
        reach(&mut begin(), put.revision()).await;

        // The same copy of something else, unless that is wished.
        let other = || client.mirror("mirror/refused/other/", &client, to.clone()).checkpoint(at.clone());
        let ended = end(&mut other()).await;
        assert!(matches!(ended, MirrorEnd::OtherSource { .. }), "{ended}");
        assert_eq!(keys(&client, &to).await.len(), 1);
        let now = client.get("x").await.unwrap().revision();
        reach(&mut other().resync(), now).await;
        assert_eq!(keys(&client, &to).await.len(), 0);
    });
}

#[test]
fn a_checkpoint_within_the_copy_is_left_alone() {
    run(async {
        let client = client().await;
        let (from, to, _) = names("within");
        let inside = client.namespace(from.clone());
        inside.put("at", "the source has one too").await.unwrap();
        let begin = || client.mirror(from.clone(), &client, to.clone()).checkpoint(format!("{to}at"));
        let last = inside.put("k", "v").await.unwrap().revision();
        let mut mirror = begin();
        reach(&mut mirror, last).await;
        inside.put("at", "again").await.unwrap();
        let last = inside.put("k", "w").await.unwrap().revision();
        reach(&mut mirror, last).await;
        let copied = keys(&client, &to).await;
        assert_eq!(copied.len(), 2);
        assert!(copied[&b"at"[..]].starts_with(b"tenure-mirror/1 "), "{copied:?}");
        // And found again.
        let progress = next(&mut begin()).await;
        assert_eq!((progress.revision, progress.comparisons), (last, 0));
    });
}
