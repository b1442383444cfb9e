//! Members that are gone, frozen or cut off: calls go to those that live, and what
//! may have been applied is not sent again.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use h2::Reason;
use tenure::{Client, Config, Delivery, Error, EtcdError};

use crate::fleet::{Fate, Fleet, Reply};
use crate::peer::patiently;

const PUTS: usize = 1000;

/// Short, so that a test is: what counts is the order of events.
const SILENCE: Duration = Duration::from_millis(200);

async fn puts(client: &Client, count: usize) -> Vec<Error> {
    let mut failed = Vec::new();
    for index in 0..count {
        failed.extend(client.put(format!("{index}"), "").await.err());
    }
    failed
}

/// How often each key was asked for at most.
fn most_often(fleet: &Fleet) -> usize {
    let mut counts = BTreeMap::new();
    for asked in fleet.asked() {
        *counts.entry(asked.key).or_insert(0) += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

#[tokio::test]
async fn beside_a_member_that_was_never_there_no_put_of_a_thousand_fails() {
    for bad in [Fate::Refuses, Fate::Hole, Fate::Frozen] {
        let fleet = Fleet::new(&[("bad", bad), ("good", Fate::Lives)]);
        let client = fleet.client(&["bad", "good"], Config::new()).await;
        let failed = puts(&client, PUTS).await;
        assert!(
            failed.is_empty(),
            "{bad:?}: {} failed: {}",
            failed.len(),
            failed[0]
        );
        assert_eq!((fleet.asked_of("good"), most_often(&fleet)), (PUTS, 1));
    }
}

#[tokio::test]
async fn calls_go_round_over_all_members_that_live() {
    let fleet = Fleet::new(&[("a", Fate::Lives), ("b", Fate::Lives), ("c", Fate::Lives)]);
    // One that was silent for a moment, or on a machine that stood still, has no turn for a while.
    let config = Config::new().silence(Duration::from_secs(3600));
    let client = fleet.client(&["a", "b", "c"], config).await;
    patiently("a call at each", async {
        while ["a", "b", "c"].iter().any(|host| fleet.asked_of(host) == 0) {
            client.put("warm", "").await.unwrap();
        }
    })
    .await;
    let before = ["a", "b", "c"].map(|host| fleet.asked_of(host));
    assert!(puts(&client, 300).await.is_empty());
    let after = ["a", "b", "c"].map(|host| fleet.asked_of(host));
    let shares: Vec<_> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(shares, [100; 3]);
}

#[tokio::test]
async fn of_a_member_that_freezes_only_the_puts_in_flight_fail_and_all_as_unknown() {
    const TASKS: usize = 8;
    let fleet = Fleet::new(&[("a", Fate::Lives), ("b", Fate::Lives)]);
    let config = Config::new().silence(SILENCE).ping_timeout(SILENCE * 4);
    let client = fleet.client(&["a", "b"], config).await;
    let spawn = |task: usize| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut failed = Vec::new();
            for index in 0..PUTS / TASKS {
                failed.extend(client.put(format!("{task}/{index}"), "").await.err());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            failed
        })
    };
    let tasks: Vec<_> = (0..TASKS).map(spawn).collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    fleet.turn("a", Fate::Frozen);
    let mut failed = Vec::new();
    for task in tasks {
        failed.extend(patiently("the puts", task).await.unwrap());
    }
    // Each task has one in flight when the member freezes.
    assert!(
        (1..=TASKS).contains(&failed.len()),
        "{} failed: {failed:?}",
        failed.len()
    );
    for error in &failed {
        assert_eq!(
            (error.delivery(), error.is_timeout()),
            (Delivery::Unknown, false),
            "{error}"
        );
        assert_eq!(error.endpoint(), Some("http://a"));
    }
    assert_eq!(most_often(&fleet), 1, "a write was sent twice");
}

#[tokio::test]
async fn a_read_at_a_member_that_falls_silent_is_answered_by_another_before_any_ping_is_over() {
    let fleet = Fleet::scripted(
        &[("a", Fate::Lives), ("b", Fate::Lives)],
        None,
        |asked| match asked.host.as_str() {
            "a" => Reply::Never,
            _ => Reply::Well,
        },
    );
    let config = Config::new().silence(SILENCE).ping_timeout(Duration::from_secs(3600));
    let client = fleet.client(&["a", "b"], config).await;
    patiently("a read that was asked twice", async {
        while fleet.asked_of("a") == 0 {
            client.get("key").await.unwrap();
        }
    })
    .await;
    assert!(fleet.asked_of("b") > 0);
}

#[tokio::test]
async fn a_member_that_comes_back_is_asked_again() {
    let fleet = Fleet::new(&[("a", Fate::Lives), ("b", Fate::Refuses)]);
    let client = fleet.client(&["a", "b"], Config::new()).await;
    assert!(puts(&client, 10).await.is_empty());
    fleet.turn("b", Fate::Lives);
    patiently("a put at the other", async {
        while fleet.asked_of("b") == 0 {
            client.put("key", "").await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// What comes of one call when the first that is asked replies so and others well.
async fn after_a_first(
    reply: Reply,
    call: impl AsyncFn(&Client) -> Result<(), Error>,
) -> (usize, Option<Error>) {
    let count = AtomicUsize::new(0);
    let fleet = Fleet::scripted(
        &[("a", Fate::Lives), ("b", Fate::Lives)],
        None,
        move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => reply.clone(),
            _ => Reply::Well,
        },
    );
    let client = fleet.client(&["a", "b"], Config::new()).await;
    let result = patiently("an end", call(&client)).await;
    (fleet.asked().len(), result.err())
}

fn losses() -> [Reply; 4] {
    [
        Reply::Status("14", "etcdserver: leader changed"),
        Reply::Status("14", "etcdserver: request timed out"),
        Reply::Status("14", "transport is closing"),
        Reply::Reset(Reason::ENHANCE_YOUR_CALM),
    ]
}

#[tokio::test]
async fn a_write_of_unknown_fate_comes_back_as_such_and_is_sent_once() {
    for reply in losses() {
        let (asked, error) = after_a_first(reply.clone(), async |client| {
            client.put("key", "").await.map(drop)
        })
        .await;
        let error = error.expect("nobody knows");
        assert!(error.may_be_applied(), "{error}");
        assert_eq!((asked, error.attempts()), (1, 1), "{reply:?}");
    }
}

#[tokio::test]
async fn a_read_and_what_is_marked_as_idempotent_are_sent_again() {
    for reply in losses() {
        let (asked, error) =
            after_a_first(reply.clone(), async |client| client.get("key").await.map(drop)).await;
        assert!(
            error.is_none() && asked == 2,
            "{reply:?}: {error:?} after {asked}"
        );
        let put = async |client: &Client| client.put("key", "").idempotent().await.map(drop);
        let (asked, error) = after_a_first(reply.clone(), put).await;
        assert!(
            error.is_none() && asked == 2,
            "{reply:?}: {error:?} after {asked}"
        );
    }
}

#[tokio::test]
async fn a_write_that_was_provably_not_processed_is_sent_again() {
    for reply in [
        Reply::Reset(Reason::REFUSED_STREAM),
        Reply::Status("14", "etcdserver: no leader"),
        Reply::Status("2", "etcdserver: too many requests"),
    ] {
        let (asked, error) = after_a_first(reply.clone(), async |client| {
            client.put("key", "").await.map(drop)
        })
        .await;
        assert!(
            error.is_none() && asked == 2,
            "{reply:?}: {error:?} after {asked}"
        );
    }
}

#[tokio::test]
async fn an_idempotent_write_whose_time_ends_between_attempts_may_have_been_applied() {
    let fleet = Fleet::scripted(&[("a", Fate::Lives)], None, |_| {
        Reply::Status("14", "etcdserver: request timed out")
    });
    let client = fleet.client(&["a"], Config::new()).await;
    let put = client.put("key", "").idempotent().timeout(Duration::from_secs(2));
    let error = patiently("the end", put.into_future()).await.unwrap_err();
    assert!(error.may_be_applied(), "{error}");
    assert!(error.attempts() > 1, "{error}");
}

#[tokio::test]
async fn a_call_whose_pause_is_slept_through_ends_with_what_it_was_told_last() {
    let fleet = Fleet::scripted(&[("a", Fate::Lives)], None, |_| {
        Reply::Status("14", "etcdserver: no leader")
    });
    let client = fleet.client(&["a"], Config::new()).await;
    let timeout = Duration::from_secs(2);
    let begun = Instant::now();
    let mut put = pin!(client.put("key", "").timeout(timeout).into_future());
    while fleet.asked().len() < 3 {
        let step = Duration::from_millis(1);
        assert!(tokio::time::timeout(step, put.as_mut()).await.is_err());
    }
    // The one thread of all stands still, as on a machine that is suspended.
    std::thread::sleep((timeout + timeout / 10).saturating_sub(begun.elapsed()));
    let error = patiently("the end", put).await.unwrap_err();
    assert_eq!(error.etcd(), Some(EtcdError::NoLeader), "{error}");
    assert!(!error.may_be_applied(), "{error}");
}

#[tokio::test]
async fn a_call_that_the_servers_limit_of_streams_holds_back_was_not_sent() {
    let fleet = Fleet::scripted(&[("a", Fate::Lives)], Some(1), |_| Reply::Never);
    let config = Config::new().connections_max(1).ping_interval(None);
    let client = fleet.client(&["a"], config).await;
    let timeout = Duration::from_secs(2);
    let (first, second) = tokio::join!(
        client.put("first", "").timeout(timeout).into_future(),
        client.put("second", "").timeout(timeout).into_future(),
    );
    let errors = [first, second].map(Result::unwrap_err);
    let fates = errors.each_ref().map(Error::delivery);
    assert_eq!(fates, [Delivery::Unknown, Delivery::NotSent]);
    let text = errors[1].to_string();
    assert!(
        text.contains("no free stream before the deadline: http://a: connected"),
        "{text}"
    );
    assert_eq!(fleet.asked().len(), 1);
}

#[tokio::test]
async fn calls_that_wait_for_a_stream_are_sent_as_streams_become_free() {
    let fleet = Fleet::scripted(&[("a", Fate::Lives)], Some(2), |_| {
        Reply::After(Duration::from_millis(5))
    });
    let client = fleet.client(&["a"], Config::new().connections_max(1)).await;
    let puts: Vec<_> = (0..50)
        .map(|index| tokio::spawn(client.put(format!("{index}"), "").into_future()))
        .collect();
    for put in puts {
        patiently("a put", put).await.unwrap().unwrap();
    }
    assert!(fleet.dials_of("a") <= 2, "connections grow to their bound");
}

#[tokio::test]
async fn a_hedged_read_is_asked_of_another_member_after_its_time() {
    let fleet = Fleet::scripted(
        &[("a", Fate::Lives), ("b", Fate::Lives)],
        None,
        |asked| match asked.host.as_str() {
            "a" => Reply::After(Duration::from_secs(3600)),
            _ => Reply::Well,
        },
    );
    let config = Config::new().hedge_after(Duration::from_millis(20)).silence(Duration::from_secs(3600));
    let client = fleet.client(&["a", "b"], config).await;
    patiently("reads", async {
        while fleet.asked_of("a") == 0 {
            client.get("key").await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_read_whose_second_question_fails_is_asked_once_more() {
    let count = AtomicUsize::new(0);
    let fleet = Fleet::scripted(&[("a", Fate::Lives), ("b", Fate::Lives)], None, move |asked| {
        match asked.host.as_str() {
            "a" => Reply::Never,
            // The first question to it, and the second.
            _ => match count.fetch_add(1, Ordering::SeqCst) % 3 {
                0 => Reply::Well,
                _ => Reply::Reset(Reason::ENHANCE_YOUR_CALM),
            },
        }
    });
    let config = Config::new().silence(SILENCE).call_timeout(Duration::from_secs(3600));
    let client = fleet.client(&["a", "b"], config).await;
    patiently("a read that was asked three times", async {
        while fleet.asked_of("a") == 0 || fleet.asked_of("b") < 6 {
            client.get("key").await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_connection_the_error_says_of_each_endpoint_why() {
    let fleet = Fleet::new(&[("a", Fate::Lives), ("b", Fate::Refuses), ("c", Fate::Hole)]);
    let client = fleet.client(&["a", "b", "c"], Config::new()).await;
    fleet.turn("a", Fate::Refuses);
    let error = patiently("an error that knows of both", async {
        loop {
            let put = client.put("key", "").timeout(Duration::from_millis(100));
            let error = put.await.expect_err("nobody lives");
            let text = error.to_string();
            if text.contains("http://a: cannot connect: connection refused") {
                return error;
            }
        }
    })
    .await;
    let text = error.to_string();
    assert!(
        text.starts_with("etcdserverpb.KV/Put: no connection before the deadline"),
        "{text}"
    );
    assert!(
        text.contains("http://b: cannot connect: connection refused"),
        "{text}"
    );
    assert!(text.contains("http://c: no answer yet"), "{text}");
    let mut sources = std::iter::successors(std::error::Error::source(&error), |error| error.source());
    assert!(sources.any(|source| source.is::<std::io::Error>()), "{error:?}");
}

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

#[tokio::test]
async fn a_read_at_a_silent_member_ends_with_the_refusal_of_the_other() {
    let fleet = Fleet::scripted(
        &[("a", Fate::Lives), ("b", Fate::Lives)],
        None,
        |asked| match asked.host.as_str() {
            "a" => Reply::Never,
            _ => Reply::Status("11", COMPACTED),
        },
    );
    let config = Config::new()
        .silence(SILENCE)
        .ping_timeout(Duration::from_secs(3600))
        .call_timeout(Duration::from_secs(3600));
    let client = fleet.client(&["a", "b"], config).await;
    patiently("a read that was asked twice", async {
        while fleet.asked_of("a") == 0 {
            let error = client.get("key").await.unwrap_err();
            assert_eq!(error.etcd(), Some(EtcdError::Compacted), "{error}");
            assert_eq!(error.endpoint(), Some("http://b"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_told_at_once_although_another_member_was_asked_too() {
    let fleet = Fleet::scripted(
        &[("a", Fate::Lives), ("b", Fate::Lives)],
        None,
        |asked| match asked.host.as_str() {
            "a" => Reply::StatusAfter(Duration::from_millis(200), "11", COMPACTED),
            _ => Reply::Never,
        },
    );
    let config = Config::new()
        .hedge_after(Duration::from_millis(20))
        .silence(Duration::from_secs(3600))
        .call_timeout(Duration::from_secs(3600));
    let client = fleet.client(&["a", "b"], config).await;
    for _ in 0..4 {
        let error = patiently("the refusal", client.get("key").into_future()).await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::Compacted), "{error}");
        assert_eq!(error.endpoint(), Some("http://a"));
    }
}
