//! Members that answer, but with failures: left alone after so many, tried by one call at a
//! time, and back once that is good. What a member refuses counts for it.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use h2::Reason;
use tenure::client::BreakerTelemetry;
use tenure::pb::etcdserverpb::PutResponse;
use tenure::{Client, Config, Error, LeaseId, StateEvent};
use tokio::task::JoinHandle;

use crate::fleet::{Asked, Fate, Fleet, Reply};
use crate::peer::patiently;

const BOTH: [(&str, Fate); 2] = [("a", Fate::Lives), ("b", Fate::Lives)];
const FAILURES: usize = 4;
/// No test takes so long.
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(20);

/// As the fleet says it.
const LOCK: &[u8] = b"/v3lockpb.Lock/Lock";

const LOST: Reply = Reply::Status("14", "transport is closing");

/// Nothing is silent for so long that it is suspected: of that alone no test is.
fn breaking(pause: Duration) -> Config {
    Config::new().breaker_failures(FAILURES as u32).breaker_pause(pause).silence(LONG)
}

/// The member `a` replies as the number says that is in there, and `b` well.
fn switched(replies: &'static [Reply]) -> (Fleet, Arc<AtomicUsize>) {
    let switch = Arc::new(AtomicUsize::new(0));
    let reads = switch.clone();
    let fleet = Fleet::scripted(&BOTH, None, move |asked| match asked.host.as_str() {
        "a" => replies[reads.load(Ordering::SeqCst)].clone(),
        _ => Reply::Well,
    });
    (fleet, switch)
}

/// A client that has both members.
async fn client(fleet: &Fleet, config: Config) -> Client {
    let client = fleet.client(&["a", "b"], config).await;
    patiently("both", async {
        while client.telemetry().connections.now < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    client
}

async fn puts(client: &Client, count: usize) -> usize {
    let mut failed = 0;
    for _ in 0..count {
        failed += usize::from(client.put("key", "").await.is_err());
    }
    failed
}

fn breakers(client: &Client) -> (u64, u64) {
    let BreakerTelemetry { now, opened, .. } = client.telemetry().breakers;
    (now, opened)
}

/// Calls until the member was asked so often.
async fn until_asked(client: &Client, fleet: &Fleet, host: &str, times: usize) {
    patiently("a probe", async {
        while fleet.asked_of(host) < times {
            let _ = client.put("key", "").await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Calls, all of which go well, until no member is left alone any more.
async fn until_closed(client: &Client) {
    patiently("its return", async {
        while breakers(client).0 > 0 {
            client.put("key", "").await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Calls until one has reached `a`, which does not answer it.
async fn probe(client: &Client, fleet: &Fleet) -> JoinHandle<Result<PutResponse, Error>> {
    let asked = fleet.asked_of("a");
    let mut probe = None;
    patiently("a probe", async {
        while probe.is_none() {
            let put = tokio::spawn(client.put("probe", "").into_future());
            while !put.is_finished() && fleet.asked_of("a") == asked {
                tokio::task::yield_now().await;
            }
            probe = (fleet.asked_of("a") > asked).then_some(put);
        }
    })
    .await;
    probe.expect("it is out")
}

#[tokio::test]
async fn exactly_so_many_failures_in_a_row_leave_a_member_alone() {
    for reply in [
        LOST,
        Reply::Status("13", "panic"),
        Reply::Reset(Reason::INTERNAL_ERROR),
    ] {
        let failure = reply.clone();
        let fleet = Fleet::scripted(&BOTH, None, move |asked| match asked.host.as_str() {
            "a" => failure.clone(),
            _ => Reply::Well,
        });
        let client = client(&fleet, breaking(LONG)).await;
        until_asked(&client, &fleet, "a", FAILURES).await;
        assert_eq!(puts(&client, 50).await, 0, "{reply:?}");
        assert_eq!(fleet.asked_of("a"), FAILURES, "{reply:?}");
        assert_eq!(breakers(&client), (1, 1));
    }
}

#[tokio::test]
async fn without_the_option_a_member_that_fails_keeps_its_turn() {
    let (fleet, _) = switched(&[LOST]);
    let client = client(&fleet, Config::new().silence(LONG)).await;
    assert_eq!(puts(&client, 100).await, 50);
    assert_eq!(breakers(&client), (0, 0));
}

#[tokio::test]
async fn refusals_elections_and_calls_that_are_dropped_do_not_count() {
    for reply in [
        Reply::Status("5", "etcdserver: requested lease not found"),
        Reply::Status("8", "etcdserver: mvcc: database space exceeded"),
        Reply::Status("7", "etcdserver: permission denied"),
        Reply::Status("14", "etcdserver: leader changed"),
        Reply::Status("2", "who knows"),
    ] {
        let refusal = reply.clone();
        let fleet = Fleet::scripted(&BOTH, None, move |asked| match asked.host.as_str() {
            "a" => refusal.clone(),
            _ => Reply::Well,
        });
        let client = client(&fleet, breaking(LONG)).await;
        assert_eq!(puts(&client, 100).await, 50, "{reply:?}");
        assert_eq!(breakers(&client), (0, 0), "{reply:?}");
    }
    let (fleet, _) = switched(&[Reply::Never]);
    let client = client(&fleet, breaking(LONG)).await;
    for round in 0..20 {
        let calls = [client.put("key", ""), client.put("key", "")].map(|put| tokio::spawn(put.into_future()));
        patiently("the request", async {
            while fleet.asked_of("a") <= round {
                tokio::task::yield_now().await;
            }
        })
        .await;
        for call in calls {
            call.abort();
            let _ = call.await;
        }
    }
    assert_eq!(breakers(&client), (0, 0));
}

#[tokio::test]
async fn a_connection_that_is_lost_with_many_calls_on_it_does_not_count() {
    let (fleet, _) = switched(&[Reply::Never]);
    let client = client(&fleet, breaking(LONG)).await;
    let calls: Vec<_> = (0..40).map(|_| tokio::spawn(client.put("key", "").into_future())).collect();
    patiently("the requests", async {
        while fleet.asked().len() < 40 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    fleet.turn("a", Fate::Refuses);
    let mut lost = 0;
    for call in calls {
        lost += usize::from(patiently("an end", call).await.unwrap().is_err());
    }
    assert_eq!((lost, breakers(&client)), (20, (0, 0)));
}

#[tokio::test]
async fn calls_whose_time_ends_count_where_the_member_had_them_for_long_enough() {
    let (short, long) = (Duration::from_millis(50), Duration::from_secs(10));
    for (silence, count) in [(long, 0), (short, 1)] {
        let fleet = Fleet::scripted(&BOTH, None, |asked| match asked.host.as_str() {
            "a" if &*asked.key == b"key" => Reply::Never,
            _ => Reply::Well,
        });
        let client = client(&fleet, breaking(LONG).silence(silence).ping_interval(None)).await;
        patiently("calls", async {
            let waited =
                || fleet.asked().iter().filter(|asked| asked.host == "a" && &*asked.key == b"key").count();
            while waited() < FAILURES {
                let _ = client.put("key", "").timeout(short * 2).await;
                // It answers others, and those that are for it alone say so to nobody but the pool.
                client.health(short).await;
            }
        })
        .await;
        assert_eq!(breakers(&client), (count, count), "{silence:?}");
    }
}

#[tokio::test]
async fn calls_beside_locks_count_as_others_do_but_for_those_that_wait_for_somebody_else() {
    let short = Duration::from_millis(50);
    for (waits, count) in [(true, 0), (false, 1)] {
        let fleet = Fleet::scripted(&BOTH, None, |asked| match (asked.host.as_str(), &*asked.key) {
            ("a", b"key" | LOCK) => Reply::Never,
            _ => Reply::Well,
        });
        let client = client(&fleet, breaking(LONG).silence(short).ping_interval(None)).await;
        patiently("calls", async {
            let waited = || {
                let is_one = |asked: &Asked| asked.host == "a" && matches!(&*asked.key, b"key" | LOCK);
                fleet.asked().iter().filter(|asked| is_one(asked)).count()
            };
            while waited() < FAILURES {
                let ended = match waits {
                    true => {
                        client.lock_service().lock("name", LeaseId::NONE).timeout(short * 2).await.is_err()
                    }
                    false => client.put("key", "").control().timeout(short * 2).await.is_err(),
                };
                assert!(ended || !waits);
                // It answers others, and those that are for it alone say so to nobody but the pool.
                client.health(short).await;
            }
        })
        .await;
        assert_eq!(breakers(&client), (count, count), "waits: {waits}");
    }
}

#[tokio::test]
async fn who_waits_for_somebody_else_finds_nothing_out() {
    let (fleet, switch) = switched(&[LOST, Reply::Well]);
    let client = client(&fleet, breaking(SHORT)).await;
    until_asked(&client, &fleet, "a", FAILURES).await;
    let asked = fleet.asked_of("a");
    // The pause is over.
    tokio::time::sleep(2 * SHORT).await;
    for _ in 0..4 {
        let all = fleet.asked().len();
        let lock = client.lock_service().lock("name", LeaseId::NONE).into_future();
        let lock = tokio::spawn(lock);
        patiently("the request", async {
            while fleet.asked().len() == all {
                tokio::task::yield_now().await;
            }
        })
        .await;
        // Not by a timeout, which makes the pool doubt whoever was silent.
        lock.abort();
        let _ = lock.await;
    }
    assert_eq!(
        fleet.asked_of("a"),
        asked,
        "for as long as it waits nobody else would find out"
    );
    switch.store(1, Ordering::SeqCst);
    until_closed(&client).await;
}

#[tokio::test]
async fn reads_that_another_member_has_to_answer_count_too() {
    let fleet = Fleet::scripted(&BOTH, None, |asked| match asked.host.as_str() {
        "a" if &*asked.key == b"key" => Reply::Never,
        _ => Reply::Well,
    });
    let silence = Duration::from_millis(20);
    let config = breaking(LONG).silence(silence).ping_interval(None);
    let client = client(&fleet, config.hedge_after(silence)).await;
    patiently("enough of them", async {
        while breakers(&client).1 == 0 {
            client.get("key").await.unwrap();
            // It answers others, and those that are for it alone say so to nobody but the pool.
            client.health(Duration::from_millis(50)).await;
        }
    })
    .await;
    let waited = fleet.asked().iter().filter(|asked| asked.host == "a" && &*asked.key == b"key").count();
    assert!(waited >= FAILURES, "{waited}");
}

#[tokio::test]
async fn one_call_finds_out_and_while_it_is_out_all_others_go_elsewhere() {
    let (fleet, switch) = switched(&[LOST, Reply::Never, Reply::Well]);
    let client = client(&fleet, breaking(SHORT)).await;
    let mut events = client.state_events();
    until_asked(&client, &fleet, "a", FAILURES).await;
    switch.store(1, Ordering::SeqCst);
    let asked = fleet.asked_of("a");
    let probe = probe(&client, &fleet).await;
    assert_eq!(puts(&client, 100).await, 0);
    assert_eq!(fleet.asked_of("a"), asked + 1, "a second probe beside the first");
    switch.store(2, Ordering::SeqCst);
    probe.abort();
    let _ = probe.await;
    // It has said nothing: the next call finds out.
    assert_eq!(puts(&client, 100).await, 0);
    assert!(fleet.asked_of("a") > asked + 40, "it has its turn again");
    assert_eq!(breakers(&client), (0, 1));
    let opened = events.next().await;
    assert!(
        matches!(&opened, Some(StateEvent::BreakerOpened { endpoint }) if &**endpoint == "http://a"),
        "{opened:?}"
    );
    let closed = events.next().await;
    assert!(
        matches!(&closed, Some(StateEvent::BreakerClosed { endpoint }) if &**endpoint == "http://a"),
        "{closed:?}"
    );
}

#[tokio::test]
async fn a_probe_that_is_lost_with_its_connection_is_followed_by_another() {
    let (fleet, switch) = switched(&[LOST, Reply::Never, Reply::Well]);
    let client = client(&fleet, breaking(SHORT).call_timeout(LONG)).await;
    until_asked(&client, &fleet, "a", FAILURES).await;
    switch.store(1, Ordering::SeqCst);
    let probe = probe(&client, &fleet).await;
    switch.store(2, Ordering::SeqCst);
    fleet.turn("a", Fate::Refuses);
    patiently("its end", probe).await.unwrap().expect_err("it may have been applied");
    fleet.turn("a", Fate::Lives);
    until_closed(&client).await;
}

#[tokio::test]
async fn a_probe_that_fails_costs_one_call_and_a_read_not_even_that() {
    let (fleet, switch) = switched(&[LOST, Reply::Well]);
    let client = client(&fleet, breaking(SHORT)).await;
    until_asked(&client, &fleet, "a", FAILURES).await;
    patiently("three more probes", async {
        while fleet.asked_of("a") < FAILURES + 3 {
            client.get("key").await.expect("another member is asked");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(breakers(&client), (1, 1), "open all the while");
    switch.store(1, Ordering::SeqCst);
    until_closed(&client).await;
}

#[tokio::test]
async fn one_endpoint_alone_is_asked_whatever_it_answers_and_serves_at_once_when_it_is_well() {
    let (fleet, switch) = switched(&[LOST, Reply::Well]);
    let client = fleet.client(&["a"], breaking(LONG)).await;
    assert_eq!(puts(&client, 20).await, 20);
    assert_eq!((fleet.asked_of("a"), breakers(&client)), (20, (1, 1)));
    switch.store(1, Ordering::SeqCst);
    assert_eq!(puts(&client, 20).await, 0);
    assert_eq!(breakers(&client), (0, 1));
}

#[tokio::test]
async fn where_all_fail_all_are_asked() {
    let fleet = Fleet::scripted(&BOTH, None, |_| LOST);
    let client = client(&fleet, breaking(LONG)).await;
    assert_eq!(puts(&client, 100).await, 100);
    assert_eq!(breakers(&client), (2, 2));
    assert!(["a", "b"].iter().all(|host| fleet.asked_of(host) >= 45));
}

#[tokio::test]
async fn what_is_for_one_member_goes_there_and_does_not_count() {
    let (fleet, _) = switched(&[LOST]);
    let client = client(&fleet, breaking(LONG)).await;
    for _ in 0..3 * FAILURES {
        client.maintenance("a").unwrap().defragment().await.expect_err("it fails");
    }
    assert_eq!(breakers(&client), (0, 0));
    until_asked(&client, &fleet, "a", 4 * FAILURES).await;
    assert_eq!(breakers(&client), (1, 1));
    let asked = fleet.asked_of("a");
    client.maintenance("a").unwrap().defragment().await.expect_err("it fails");
    assert!(fleet.asked_of("a") > asked);
}
