//! Readers that are slower than the events.

use tenure::{Client, Config, Event, KeyRange, Revision, Watch, WatchEnd};

use crate::support::{OwnServer, client, endpoints, patiently, run, viewed};

const BUFFER_BYTES: usize = 64 << 10;

async fn revisions(watch: &mut Watch, count: usize) -> Vec<Revision> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let batch = patiently("an event", watch.next()).await.unwrap();
        seen.extend(batch.events.iter().map(Event::revision));
    }
    seen
}

#[test]
fn a_reader_that_stalls_catches_up_with_all_it_missed_and_disturbs_no_other() {
    run(async {
        let client = client().await;
        let keys = || KeyRange::prefix("delivery/stalls/");
        let mut stalled = client.watch(keys()).buffer_bytes(BUFFER_BYTES).await.unwrap();
        let mut quick = client.watch(keys()).buffer_bytes(BUFFER_BYTES).await.unwrap();
        let mut written = Vec::new();
        for round in 0..3 {
            let before = written.len();
            for number in 0..200 {
                let key = format!("delivery/stalls/{}", number % 7);
                written.push(client.put(key, vec![b'x'; 1 << 10]).await.unwrap().revision());
                assert_eq!(revisions(&mut quick, 1).await, written[written.len() - 1..]);
            }
            assert_eq!(
                revisions(&mut stalled, 200).await,
                written[before..],
                "round {round}"
            );
        }
        assert!(stalled.catch_ups() >= 3, "{}", stalled.catch_ups());
        assert_eq!((stalled.reconnects(), quick.catch_ups()), (0, 0));
    });
}

#[test]
fn a_replay_that_is_more_than_the_client_takes_comes_in_pieces() {
    run(async {
        const WRITES: usize = 24;
        let writer = client().await;
        let mut written = Vec::new();
        for _ in 0..WRITES {
            let put = writer.put("delivery/replay", vec![b'x'; 128 << 10]);
            written.push(put.await.unwrap().revision());
        }
        // Room for the server's pieces, and not for the 3 MiB in one.
        let config = Config::default().response_bytes_max(2 << 20);
        let client = viewed(Client::connect_with(endpoints(), config).await.unwrap());
        let mut watch = client.watch("delivery/replay").start_revision(written[0]).await.unwrap();
        assert_eq!(revisions(&mut watch, WRITES).await, written);
        assert_eq!(watch.reconnects(), 1);
        let resumes = client.watch("delivery/replay").start_revision(written[0]).resume(false);
        let ended = patiently("the end", resumes.await.unwrap().next()).await;
        assert!(matches!(ended, Err(WatchEnd::Disconnected { .. })), "{ended:?}");
    });
}

#[test]
fn a_hundred_stalled_readers_cost_neither_the_connection_nor_the_one_that_reads() {
    run(async {
        let client = client().await;
        let keys = || KeyRange::prefix("delivery/many/");
        let mut stalled = Vec::new();
        for number in 0..100 {
            let watch = client.watch(keys()).buffer_bytes(4 << 10).catch_up(number % 2 == 0);
            stalled.push(watch.await.unwrap());
        }
        let mut quick = client.watch(keys()).await.unwrap();
        let mut written = Vec::new();
        for _ in 0..50 {
            let put = client.put("delivery/many/key", vec![b'x'; 1 << 10]);
            written.push(put.await.unwrap().revision());
            assert_eq!(revisions(&mut quick, 1).await, written[written.len() - 1..]);
        }
        assert_eq!(quick.reconnects(), 0);
        for (number, watch) in stalled.iter_mut().enumerate() {
            if number % 2 == 0 {
                assert_eq!(revisions(watch, written.len()).await, written);
                continue;
            }
            let mut seen = Vec::new();
            let resume_revision = loop {
                match patiently("the end", watch.next()).await {
                    Ok(batch) => seen.extend(batch.events.iter().map(Event::revision)),
                    Err(WatchEnd::Lagged { resume_revision }) => break resume_revision,
                    Err(other) => panic!("{other:?}"),
                }
            };
            assert_eq!(seen, written[..seen.len()]);
            assert!(written[seen.len() - 1] < resume_revision && resume_revision <= written[seen.len()]);
        }
    });
}

#[test]
fn a_compaction_while_a_reader_is_behind_is_told_once_it_has_read_the_rest() {
    // Its own server: others would be told of the compaction too.
    let server = OwnServer::start();
    run(async {
        let client = viewed(Client::connect(server.endpoints()).await.unwrap());
        let mut watch = client.watch("key").buffer_bytes(4 << 10).await.unwrap();
        let mut quick = client.watch("key").await.unwrap();
        let mut last = Revision::ZERO;
        for _ in 0..50 {
            last = client.put("key", vec![b'x'; 1 << 10]).await.unwrap().revision();
            revisions(&mut quick, 1).await;
        }
        client.compact(last).await.unwrap();
        let mut seen = 0;
        let end = loop {
            match patiently("the end", watch.next()).await {
                Ok(batch) => seen += batch.events.len(),
                Err(end) => break end,
            }
        };
        assert!(0 < seen && seen < 50, "{seen}");
        assert!(
            matches!(end, WatchEnd::Compacted { compact_revision } if compact_revision == last),
            "{end:?}"
        );
        assert!(matches!(watch.next().await, Err(WatchEnd::Compacted { .. })));
    });
}
