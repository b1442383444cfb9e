//! Software transactions against a real server: what each level keeps apart, what many
//! of them add up to, what ends one, and what is left of one that is dropped.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tenure::{Client, Code, Committed, Delivery, Error, EtcdError, Isolation, KeyRange, Origin, Transaction};
use tenure_proxy::{Direction, Ending, Flow, Proxy};

use crate::support::{OwnServer, client, counted_client, endpoints, patiently, run, viewed};

const LEVELS: [Isolation; 4] = [
    Isolation::SerializableSnapshot,
    Isolation::Serializable,
    Isolation::RepeatableReads,
    Isolation::ReadCommitted,
];

/// The number at a key; 0 where there is none.
async fn number(t: &Transaction, key: &str) -> Result<i64, Error> {
    let value = t.get(key.to_owned()).await?;
    Ok(value.map_or(0, |value| parse(&value)))
}

fn parse(value: &[u8]) -> i64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

async fn stored(client: &Client, key: &str) -> i64 {
    let answer = client.get(key.to_owned()).await.unwrap();
    answer.kvs.first().map_or(0, |kv| parse(&kv.value))
}

/// Runs `work` with something that happens in the middle of its first attempt.
async fn disturbed<T>(
    client: &Client,
    isolation: Isolation,
    before: impl AsyncFn(&Transaction) -> Result<(), Error>,
    disturbance: impl AsyncFn(),
    after: impl AsyncFn(&Transaction) -> Result<T, Error>,
) -> Committed<T> {
    let runs = AtomicU32::new(0);
    let done = client.stm().isolation(isolation).run(async |t| {
        before(&t).await?;
        if runs.fetch_add(1, Ordering::SeqCst) == 0 {
            disturbance().await;
        }
        after(&t).await
    });
    let done = patiently("a commit", done).await.unwrap();
    assert_eq!(done.attempts, runs.into_inner());
    done
}

#[test]
fn increments_of_many_tasks_add_up() {
    run(async {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                tokio::spawn(async {
                    let client = client().await;
                    for _ in 0..10 {
                        let increment = client.stm().run(async |t| {
                            let sum = number(&t, "stm/sum").await?;
                            t.put("stm/sum", (sum + 1).to_string());
                            Ok(())
                        });
                        increment.await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            patiently("the end of a task", task).await.unwrap();
        }
        assert_eq!(stored(&client().await, "stm/sum").await, 80);
    });
}

#[test]
fn transfers_keep_the_total_and_nobody_sees_another() {
    const ACCOUNTS: i64 = 4;
    run(async {
        let client = client().await;
        for account in 0..ACCOUNTS {
            client.put(format!("stm/bank/{account}"), "100").await.unwrap();
        }
        let tasks: Vec<_> = (0..4)
            .map(|seed| {
                let client = client.clone();
                tokio::spawn(async move {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..12 {
                        let (from, to) = (random.i64(0..ACCOUNTS), random.i64(0..ACCOUNTS));
                        transfer(&client, from, to, random.i64(1..150)).await;
                        let total = client.stm().run(async |t| {
                            let accounts = t.range(KeyRange::prefix("stm/bank/")).await?;
                            Ok(accounts.iter().map(|(_, value)| parse(value)).collect::<Vec<_>>())
                        });
                        let accounts = total.await.unwrap().value;
                        assert_eq!(accounts.iter().sum::<i64>(), 100 * ACCOUNTS);
                        assert!(accounts.iter().all(|&account| account >= 0), "{accounts:?}");
                    }
                })
            })
            .collect();
        for task in tasks {
            patiently("the end of a task", task).await.unwrap();
        }
    });
}

async fn transfer(client: &Client, from: i64, to: i64, amount: i64) {
    let (from, to) = (format!("stm/bank/{from}"), format!("stm/bank/{to}"));
    let done = client.stm().isolation(Isolation::Serializable).run(async |t| {
        let left = number(&t, &from).await? - amount;
        t.put(from.clone(), left.to_string());
        // Its own write is seen, also where both are the same.
        let sum = number(&t, &to).await? + amount;
        t.put(to.clone(), sum.to_string());
        if left < 0 {
            t.rollback();
        }
        Ok(())
    });
    done.await.unwrap();
}

#[test]
fn an_update_is_lost_at_the_lowest_level_only() {
    run(async {
        let client = client().await;
        for isolation in LEVELS {
            let key = format!("stm/update/{isolation:?}");
            let increment = async |t: &Transaction| {
                let sum = number(t, &key).await?;
                t.put(key.clone(), (sum + 1).to_string());
                Ok(())
            };
            let other = async || drop(client.put(key.clone(), "10").await.unwrap());
            let before = async |t: &Transaction| number(t, &key).await.map(drop);
            disturbed(&client, isolation, before, other, increment).await;
            let lost = isolation == Isolation::ReadCommitted;
            let sum = if lost { 1 } else { 11 };
            assert_eq!(stored(&client, &key).await, sum, "{isolation:?}");
        }
    });
}

/// Two doctors are on call, and each may leave as long as the other stays.
#[test]
fn writes_skew_at_the_lowest_level_only() {
    run(async {
        let client = client().await;
        for isolation in LEVELS {
            let [one, two] = ["one", "two"].map(|name| format!("stm/skew/{isolation:?}/{name}"));
            client.put(one.clone(), "1").await.unwrap();
            client.put(two.clone(), "1").await.unwrap();
            let leave = async |t: &Transaction, who: &String| {
                if number(t, &one).await? + number(t, &two).await? == 2 {
                    t.put(who.clone(), "0");
                }
                Ok(())
            };
            let read = async |t: &Transaction| {
                number(t, &one).await?;
                number(t, &two).await.map(drop)
            };
            let other = async || {
                client.stm().isolation(isolation).run(async |t| leave(&t, &two).await).await.unwrap();
            };
            disturbed(&client, isolation, read, other, async |t| leave(t, &one).await).await;
            let on_call = stored(&client, &one).await + stored(&client, &two).await;
            let skewed = isolation == Isolation::ReadCommitted;
            assert_eq!(on_call, i64::from(!skewed), "{isolation:?}");
        }
    });
}

/// A key that comes, one that goes, and one that changes within a range that was read.
#[test]
fn a_range_is_a_predicate_at_the_serializable_levels() {
    run(async {
        let client = client().await;
        for isolation in LEVELS {
            for change in ["comes", "goes", "changes", "is not in it"] {
                let prefix = format!("stm/range/{isolation:?}/{change}/");
                for name in ["a", "b"] {
                    client.put(format!("{prefix}{name}"), "1").await.unwrap();
                }
                let sum = async |t: &Transaction| {
                    let range = t.range(KeyRange::prefix(prefix.clone())).await?;
                    Ok(range.iter().map(|(_, value)| parse(value)).sum::<i64>())
                };
                let other = async || match change {
                    "comes" => drop(client.put(format!("{prefix}c"), "5").await.unwrap()),
                    "goes" => drop(client.delete(format!("{prefix}b")).await.unwrap()),
                    "changes" => drop(client.put(format!("{prefix}b"), "5").await.unwrap()),
                    _ => drop(client.put(format!("{prefix}~").replace("/~", "0"), "5").await.unwrap()),
                };
                let add = async |t: &Transaction| {
                    let sum = sum(t).await?;
                    t.put(format!("stm/range-sum/{isolation:?}/{change}"), sum.to_string());
                    Ok(sum)
                };
                let before = async |t: &Transaction| sum(t).await.map(drop);
                let done = disturbed(&client, isolation, before, other, add).await;
                let noticed = match isolation {
                    Isolation::SerializableSnapshot | Isolation::Serializable => change != "is not in it",
                    Isolation::RepeatableReads => matches!(change, "goes" | "changes"),
                    Isolation::ReadCommitted => false,
                };
                assert_eq!(
                    done.attempts,
                    1 + u32::from(noticed),
                    "{isolation:?}: a key {change}"
                );
                let seen = match change {
                    "comes" => 7,
                    "goes" => 1,
                    "changes" => 6,
                    _ => 2,
                };
                assert_eq!(
                    done.value,
                    if noticed { seen } else { 2 },
                    "{isolation:?}: a key {change}"
                );
            }
        }
    });
}

#[test]
fn a_write_that_nobody_saw_is_covered_below_the_highest_level_only() {
    run(async {
        let client = client().await;
        for isolation in LEVELS {
            let [read, blind] = ["read", "blind"].map(|name| format!("stm/blind/{isolation:?}/{name}"));
            let before = async |t: &Transaction| number(t, &read).await.map(drop);
            let other = async || drop(client.put(blind.clone(), "1").await.unwrap());
            let write = async |t: &Transaction| {
                t.put(blind.clone(), "2");
                Ok(())
            };
            let done = disturbed(&client, isolation, before, other, write).await;
            let noticed = isolation == Isolation::SerializableSnapshot;
            assert_eq!(done.attempts, 1 + u32::from(noticed), "{isolation:?}");
        }
    });
}

#[test]
fn serializable_reads_are_of_one_moment_and_cost_no_commit() {
    run(async {
        let client = client().await;
        for isolation in LEVELS {
            let [one, two] = ["one", "two"].map(|name| format!("stm/moment/{isolation:?}/{name}"));
            let before = async |t: &Transaction| number(t, &one).await.map(drop);
            let other = async || {
                let put = |key: &String| tenure::Op::put(key.clone(), "1");
                client.txn().then(put(&one)).then(put(&two)).await.unwrap();
            };
            let read = async |t: &Transaction| Ok((number(t, &one).await?, number(t, &two).await?));
            let done = disturbed(&client, isolation, before, other, read).await;
            let expected = match isolation {
                Isolation::SerializableSnapshot | Isolation::Serializable => ((0, 0), 1),
                Isolation::RepeatableReads => ((1, 1), 2),
                Isolation::ReadCommitted => ((0, 1), 1),
            };
            assert_eq!((done.value, done.attempts), expected, "{isolation:?}");
        }
        let (client, sent) = counted_client().await;
        let read = client.stm().run(async |t| {
            t.range(KeyRange::prefix("stm/moment/")).await?;
            // Known by now.
            t.get("stm/moment/absent").await
        });
        let done = read.await.unwrap();
        assert_eq!((done.value, sent.requests()), (None, 1));
        assert!(done.revision.0 > 0);
    });
}

#[test]
fn a_closure_that_fails_or_takes_back_writes_nothing() {
    run(async {
        let client = client().await;
        let failed = client.stm().run(async |t| -> Result<(), Error> {
            t.put("stm/nothing", "1");
            t.get("").await.map(drop)
        });
        assert_eq!(failed.await.unwrap_err().code(), Code::InvalidArgument);
        let back = client.stm().run(async |t| {
            t.put("stm/nothing", "1");
            assert_eq!(t.range("stm/nothing").await?.len(), 1);
            t.rollback();
            t.get("stm/nothing").await
        });
        assert_eq!(back.await.unwrap().value, None);
        assert_eq!(client.get("stm/nothing").await.unwrap().count, 0);
    });
}

#[test]
fn more_comparisons_than_a_server_takes_are_not_sent() {
    run(async {
        let writer = client().await;
        for key in 0..126 {
            writer.put(format!("stm/many/{key}"), "").await.unwrap();
        }
        let (client, sent) = counted_client().await;
        let touch = async || {
            let touch = client.stm().run(async |t| {
                let keys = t.range(KeyRange::prefix("stm/many/")).await?.len();
                t.put("stm/many-seen", keys.to_string());
                Ok(keys)
            });
            touch.await
        };
        // 126 keys, the range and the key that is written; and then one more.
        assert_eq!(touch().await.unwrap().value, 126);
        writer.put("stm/many/one more", "").await.unwrap();
        let before = sent.requests();
        let error = touch().await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::TooManyOps), "{error}");
        assert_eq!(
            (error.origin(), error.delivery()),
            (Origin::Caller, Delivery::NotSent)
        );
        assert_eq!(sent.requests(), before + 1, "the range");
        assert_eq!(stored(&writer, "stm/many-seen").await, 126);
    });
}

#[test]
fn attempts_and_time_are_bounded() {
    run(async {
        let client = client().await;
        let runs = AtomicU32::new(0);
        let bounded = client.stm().attempts(3).run(async |t| {
            let sum = number(&t, "stm/bounded").await?;
            client.put("stm/bounded", runs.fetch_add(1, Ordering::SeqCst).to_string()).await?;
            t.put("stm/bounded", (sum + 100).to_string());
            Ok(())
        });
        assert_eq!(bounded.await.unwrap_err().code(), Code::Aborted);
        assert_eq!(runs.into_inner(), 3);
        assert_eq!(stored(&client, "stm/bounded").await, 2);

        let stuck = client.stm().timeout(Duration::from_millis(20)).run(async |t| {
            t.put("stm/bounded", "1000");
            std::future::pending::<()>().await;
            Ok(())
        });
        let error = patiently("the bound", stuck).await.unwrap_err();
        assert!(error.is_timeout() && !error.may_be_applied(), "{error}");
        assert_eq!(stored(&client, "stm/bounded").await, 2);
    });
}

#[test]
fn what_it_reads_may_be_compacted_meanwhile() {
    let server = OwnServer::start();
    run(async {
        let client = viewed(Client::connect(server.endpoints()).await.unwrap());
        client.put("one", "1").await.unwrap();
        let before = async |t: &Transaction| number(t, "one").await.map(drop);
        let other = async || {
            client.put("one", "2").await.unwrap();
            let last = client.put("two", "2").await.unwrap().revision();
            client.compact(last).await.unwrap();
        };
        let read = async |t: &Transaction| Ok((number(t, "one").await?, number(t, "two").await?));
        let done = disturbed(&client, Isolation::Serializable, before, other, read).await;
        assert_eq!((done.value, done.attempts), ((2, 2), 2));
    });
}

#[test]
fn a_commit_whose_answer_is_lost_is_told_and_not_run_again_unless_it_may_be() {
    run(async {
        let outside = client().await;
        for idempotent in [false, true] {
            let proxy = Proxy::start(&endpoints()[0]).unwrap();
            let client = viewed(Client::connect([proxy.endpoint()]).await.unwrap());
            let key = format!("stm/lost/{idempotent}");
            let runs = AtomicU32::new(0);
            let mut stm = client.stm();
            if idempotent {
                stm = stm.idempotent();
            }
            let add = stm.run(async |t| {
                let sum = number(&t, &key).await?;
                if runs.fetch_add(1, Ordering::SeqCst) == 0 {
                    proxy.flow(Direction::Down, Flow::Hold);
                }
                t.put(key.clone(), (sum + 1).to_string());
                Ok(())
            });
            let cut = async {
                while stored(&outside, &key).await == 0 {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                proxy.cut(Ending::Close);
                proxy.flow(Direction::Down, Flow::Pass);
            };
            let (added, ()) = patiently("its end", async { tokio::join!(add, cut) }).await;
            if idempotent {
                assert_eq!(added.unwrap().attempts, 2);
            } else {
                assert!(added.unwrap_err().may_be_applied());
            }
            assert_eq!(stored(&outside, &key).await, 1 + i64::from(idempotent));
            assert_eq!(runs.into_inner(), 1 + u32::from(idempotent));
        }
    });
}
