//! Many watches of one stream: one revision that all of them see at once, and their
//! creation, which waits for no answer.

use tenure::pb::etcdserverpb::watch_request::RequestUnion;
use tenure::{Config, Revision};

use super::{create, create_that, created, peers, peers_of, put};
use crate::bursts::WINDOW_BYTES_OF_H2;
use crate::peer::{patiently, trailers};

/// How many of 300 watches see a put that all of them are told of at once.
async fn seen(config: Config) -> usize {
    const COUNT: i64 = 300;
    let (client, mut streams) = peers_of(config, &h2::server::Builder::new()).await;
    let mut stream = None;
    let mut watches = Vec::new();
    // One after another: their answers are not the burst that is tested.
    for id in 0..COUNT {
        let creating = create_that(&client, false);
        if stream.is_none() {
            stream = patiently("a stream", streams.recv()).await;
        }
        stream.as_mut().unwrap().grant(id).await;
        watches.push(patiently("created", creating).await.unwrap().unwrap());
    }
    let mut peer = stream.unwrap();
    for id in 0..COUNT {
        peer.send(&put(id, 11));
    }
    let mut seen = 0;
    for watch in &mut watches {
        let batch = patiently("an event or the end", watch.next()).await;
        seen += usize::from(batch.is_ok_and(|batch| batch.events[0].revision() == Revision(11)));
    }
    seen
}

#[tokio::test]
async fn one_put_is_seen_by_300_watches_that_are_told_at_once() {
    assert_eq!(seen(Config::default()).await, 300);
}

#[tokio::test]
async fn with_the_default_windows_of_h2_it_is_not() {
    let small = Config::default()
        .stream_window_bytes(WINDOW_BYTES_OF_H2)
        .connection_window_bytes(WINDOW_BYTES_OF_H2);
    let seen = seen(small).await;
    assert!(seen < 300, "the test above does not test what it says");
}

#[tokio::test]
async fn a_thousand_watches_are_sent_before_the_first_is_answered_on_a_resume_too() {
    const COUNT: i64 = 1000;
    let (client, mut streams) = peers(&h2::server::Builder::new()).await;
    let creating: Vec<_> = (0..COUNT).map(|_| create(&client)).collect();
    let mut watches = Vec::new();
    for creating in [Some(creating), None] {
        let mut peer = patiently("a stream", streams.recv()).await.unwrap();
        let start = if creating.is_some() { 0 } else { 11 };
        for _ in 0..COUNT {
            match peer.request().await {
                Some(RequestUnion::CreateRequest(create)) => assert_eq!(create.start_revision, start),
                other => panic!("{other:?}"),
            }
        }
        for id in 0..COUNT {
            peer.send(&created(id));
        }
        for creating in creating.into_iter().flatten() {
            watches.push(patiently("created", creating).await.unwrap().unwrap());
        }
        if start == 0 {
            peer.responses.send_trailers(trailers("14")).unwrap();
            continue;
        }
        for id in 0..COUNT {
            peer.send(&put(id, 11));
        }
        for watch in &mut watches {
            let batch = patiently("an event", watch.next()).await.unwrap();
            assert_eq!(batch.events[0].revision(), Revision(11));
            assert_eq!(watch.reconnects(), 1);
        }
    }
}
