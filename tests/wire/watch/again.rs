//! What a watch asks for, what becomes of it when it is refused, for now or for good, and
//! how a reader is told that it was asked for again.

use std::time::Duration;

use bytes::Bytes;
use tenure::pb::etcdserverpb::watch_request::RequestUnion;
use tenure::pb::etcdserverpb::{WatchCreateRequest, WatchResponse};
use tenure::{BatchKind, KeyRange, Revision, WatchEnd};

use super::{answer, create, created, live, peers, put};
use crate::peer::{frame, patiently, trailers};

fn refused(reason: &str) -> WatchResponse {
    WatchResponse {
        canceled: true,
        cancel_reason: reason.to_owned(),
        ..created(-1)
    }
}

#[tokio::test]
async fn a_watch_and_a_creation_that_are_refused_for_now_go_on_over_the_same_stream() {
    let (client, mut streams, mut peer, mut watch) = live(&h2::server::Builder::new()).await;
    peer.send(&put(0, 11));
    peer.send(&WatchResponse {
        canceled: true,
        cancel_reason: "etcdserver: no leader".to_owned(),
        ..answer(0, 20)
    });
    for _ in 0..2 {
        match peer.request().await {
            Some(RequestUnion::CreateRequest(create)) => assert_eq!(create.start_revision, 12),
            other => panic!("{other:?}"),
        }
        peer.send(&refused(
            "rpc error: code = Unavailable desc = etcdserver: leader changed",
        ));
    }
    peer.grant(1).await;
    peer.send(&put(1, 12));
    for revision in [11, 12] {
        let batch = patiently("an event", watch.next()).await.unwrap();
        assert_eq!(batch.resume_revision, Revision(revision + 1));
    }
    let creating = create(&client);
    assert!(peer.request().await.is_some());
    peer.send(&refused("etcdserver: no leader"));
    peer.grant(2).await;
    patiently("created", creating).await.unwrap().unwrap();
    assert!(streams.try_recv().is_err(), "one stream is enough");
}

#[tokio::test]
async fn a_reconnect_is_told_in_its_place_to_who_asked() {
    let (client, mut streams) = peers(&h2::server::Builder::new()).await;
    let creating = tokio::spawn(client.watch("key").reconnect_notify().into_future());
    let mut peer = patiently("a stream", streams.recv()).await.unwrap();
    peer.grant(0).await;
    let mut watch = patiently("created", creating).await.unwrap().unwrap();
    peer.send(&put(0, 11));
    peer.responses.send_trailers(trailers("14")).unwrap();
    let mut peer = patiently("the next stream", streams.recv()).await.unwrap();
    peer.grant(0).await;
    peer.send(&put(0, 12));
    for (kind, resume) in [
        (BatchKind::Events, 12),
        (BatchKind::Reconnected, 12),
        (BatchKind::Events, 13),
    ] {
        let batch = patiently("a batch", watch.next()).await.unwrap();
        assert_eq!((batch.kind, batch.resume_revision), (kind, Revision(resume)));
        assert!(!batch.is_progress());
    }
}

#[tokio::test]
async fn a_creation_that_is_refused_until_its_deadline_says_what_for() {
    let (client, mut streams) = peers(&h2::server::Builder::new()).await;
    let late = client.watch("key").timeout(Duration::from_secs(2)).into_future();
    let creating = tokio::spawn(late);
    let mut peer = patiently("a stream", streams.recv()).await.unwrap();
    let refusing = async {
        while peer.request().await.is_some() {
            peer.send(&refused("etcdserver: no leader"));
        }
    };
    let end = tokio::select! { end = creating => end.unwrap(), () = refusing => panic!("the stream ended") };
    let Err(WatchEnd::Disconnected { error, .. }) = end else {
        panic!("{end:?}");
    };
    let why = std::error::Error::source(&*error).unwrap().to_string();
    assert!(error.is_timeout() && why.contains("no leader"), "{why}");
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_again_and_again_is_asked_a_few_times_and_given_up() {
    // By a message that says nothing sensible, and below that by one that is none.
    for breach in [frame(&put(77, 11)), Bytes::from_static(&[9, 0, 0, 0, 0])] {
        let (client, mut streams) = peers(&h2::server::Builder::new()).await;
        let watching = tokio::spawn(async move {
            let mut watch = client.watch("key").await?;
            watch.next().await
        });
        let breaking = async {
            let mut asked = 0;
            while let Some(mut peer) = streams.recv().await {
                asked += 1;
                peer.grant(0).await;
                peer.responses.send_data(breach.clone(), false).unwrap();
                while peer.request().await.is_some() {}
            }
            asked
        };
        // The client goes with its only reader, and with it the streams.
        let (end, asked) = tokio::join!(watching, breaking);
        match end.unwrap() {
            Err(WatchEnd::Breached { breaches, .. }) => assert_eq!(breaches, asked),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn every_option_of_a_watch_is_sent_and_nothing_that_was_not_asked_for() {
    let (client, mut streams) = peers(&h2::server::Builder::new()).await;
    let plain = WatchCreateRequest {
        key: "a".into(),
        ..WatchCreateRequest::default()
    };
    let all = WatchCreateRequest {
        key: "a".into(),
        range_end: "c".into(),
        start_revision: 7,
        progress_notify: true,
        filters: vec![0, 1],
        prev_kv: true,
        watch_id: 0,
        fragment: true,
    };
    let range = client.watch(KeyRange::range("a", "c")).start_revision(Revision(7)).prev_kv();
    let watches = [
        (client.watch("a"), plain),
        (range.progress_notify().no_put().no_delete().fragment(true), all),
    ];
    let mut creating = Vec::new();
    let mut expected = Vec::new();
    for (watch, request) in watches {
        creating.push(tokio::spawn(watch.into_future()));
        expected.push(RequestUnion::CreateRequest(request));
        tokio::task::yield_now().await;
    }
    let mut peer = patiently("a stream", streams.recv()).await.unwrap();
    for expected in expected {
        assert_eq!(peer.request().await, Some(expected));
    }
    drop(creating);
}

#[tokio::test]
async fn a_compaction_on_a_resume_is_told_after_one_request_and_asked_for_no_more() {
    let (client, mut streams, mut peer, mut watch) = live(&h2::server::Builder::new()).await;
    let mut other = patiently("created", async {
        let creating = create(&client);
        peer.grant(1).await;
        creating.await.unwrap().unwrap()
    })
    .await;
    peer.responses.send_trailers(trailers("14")).unwrap();
    let mut peer = patiently("the next stream", streams.recv()).await.unwrap();
    let compacted = WatchResponse {
        canceled: true,
        compact_revision: 40,
        ..answer(1, 50)
    };
    peer.grant(0).await;
    peer.grant(1).await;
    peer.send(&compacted);
    peer.send(&WatchResponse {
        watch_id: 0,
        ..compacted
    });
    for watch in [&mut watch, &mut other] {
        for _ in 0..2 {
            let end = patiently("the end", watch.next()).await;
            assert!(
                matches!(
                    end,
                    Err(WatchEnd::Compacted {
                        compact_revision: Revision(40)
                    })
                ),
                "{end:?}"
            );
        }
    }
    assert_eq!([peer.canceled().await, peer.canceled().await], [1, 0]);
    // The next request on the stream is what is asked for next, and nothing is in between.
    let creating = create(&client);
    match peer.request().await {
        Some(RequestUnion::CreateRequest(create)) => assert_eq!(create.start_revision, 0),
        other => panic!("{other:?}"),
    }
    peer.send(&created(2));
    patiently("created", creating).await.unwrap().unwrap();
    assert!(streams.try_recv().is_err());
}
