//! Followers over HTTP/2, as a client sees them.

use super::streams::{Stream, events, watch_from};
use super::*;
use crate::cluster::Lag;
use crate::pb::{WatchResponse, event};
use crate::service::WATCH;

async fn put_at(client: &SendRequest<Bytes>) -> Result<i64, String> {
    let answer = ask(client, PUT, &put()).await.unwrap()?;
    Ok(PutResponse::decode(answer).unwrap().header.unwrap().revision)
}

/// The revision and the number of puts that a member of its own accord knows of.
async fn serializable(client: &SendRequest<Bytes>) -> (i64, i64) {
    let request = RangeRequest {
        key: "key".into(),
        serializable: true,
        ..RangeRequest::default()
    };
    let answer = RangeResponse::decode(ask(client, RANGE, &request).await.unwrap().unwrap()).unwrap();
    let version = answer.kvs.first().map_or(0, |kv| kv.version);
    (answer.header.unwrap().revision, version)
}

#[tokio::test(start_paused = true)]
async fn a_lagging_follower_replays_the_delete_of_an_older_incarnation() {
    let server = Server::in_memory(Options::default());
    let follower = server.add_follower_in_memory();
    let leader = piped(&server).await;
    let lagging = client(follower.connect()).await;
    assert_eq!(put_at(&leader).await, Ok(2));
    follower.set_lag(Lag::Held);
    let deletion = DeleteRequest {
        key: "key".into(),
        ..DeleteRequest::default()
    };
    ask(&leader, DELETE_RANGE, &deletion).await.unwrap().unwrap();
    assert_eq!(put_at(&leader).await, Ok(4));
    assert_eq!(
        (serializable(&leader).await, serializable(&lagging).await),
        ((4, 1), (2, 1))
    );

    let mut stream = Stream::open(&lagging, WATCH).await;
    stream.send(&watch_from(0));
    let created = stream.next::<WatchResponse>().await.unwrap();
    assert_eq!(created.header.unwrap().revision, 2, "that of the follower");
    assert!(stream.is_silent().await);
    assert_eq!((follower.behind(), follower.apply(1)), (2, 1));
    assert_eq!(events(&stream.next().await.unwrap()), [(event::DELETE, 3)]);
    assert!(stream.is_silent().await);
    follower.set_lag(Lag::By(Duration::ZERO));
    assert_eq!(events(&stream.next().await.unwrap()), [(event::PUT, 4)]);
    assert_eq!(
        (follower.behind(), follower.watch_count(), server.watch_count()),
        (0, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_at_a_follower_is_done_at_once_and_answered_when_it_is_applied_there() {
    let server = Server::in_memory(Options::default());
    let follower = server.add_follower_in_memory();
    let (leader, lagging) = (piped(&server).await, client(follower.connect()).await);
    follower.set_lag(Lag::By(Duration::from_secs(3)));
    let start = Instant::now();
    let (answered, seen) = tokio::join!(put_at(&lagging), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        version(&leader).await
    });
    assert_eq!((answered, seen), (Ok(2), 1));
    assert!(start.elapsed() >= Duration::from_secs(3));

    follower.set_lag(Lag::By(MINUTE));
    let timed_out = put_at(&lagging).await;
    assert_eq!(timed_out.unwrap_err(), "etcdserver: request timed out");
    assert_eq!(version(&leader).await, 2, "it was done");
}

#[tokio::test(start_paused = true)]
async fn a_linearizable_read_at_a_follower_waits_for_what_was_written_before() {
    let server = Server::in_memory(Options::default());
    let follower = server.add_follower_in_memory();
    let (leader, lagging) = (piped(&server).await, client(follower.connect()).await);
    follower.set_lag(Lag::Held);
    put_at(&leader).await.unwrap();
    let mut reading = Box::pin(version(&lagging));
    assert!(tokio::time::timeout(MINUTE, &mut reading).await.is_err());
    put_at(&leader).await.unwrap();
    assert_eq!(follower.apply(1), 1);
    assert_eq!(reading.await, 1, "what came later is not waited for");
}

#[tokio::test]
async fn a_follower_has_a_port_of_its_own_and_ends_with_its_server() {
    let server = Server::start().await.unwrap();
    let follower = server.add_follower().await.unwrap();
    assert_ne!(server.endpoint(), follower.endpoint());
    let address = follower.endpoint().strip_prefix("http://").unwrap().to_owned();
    let there = client(tokio::net::TcpStream::connect(&address).await.unwrap()).await;
    assert_eq!(put_at(&there).await, Ok(2));
    assert_eq!(version(&there).await, 1);
    follower.faults().set_link(Link::Down);
    assert!(ask(&there, PUT, &put()).await.is_err());
    assert_eq!(
        version(&piped(&server).await).await,
        1,
        "the leader is another member"
    );
    drop(server);
    follower.faults().set_link(Link::Up);
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
    assert!(
        h2::client::handshake(follower.connect()).await.map(drop).is_err()
            || follower.connection_count() == 0
    );
}
