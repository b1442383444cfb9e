//! Watches and renewals over HTTP/2, and what goes wrong with their messages.

use super::*;
use crate::pb::{
    LeaseId, LeaseKeepAliveResponse, WatchCommand, WatchCreate, WatchRequest, WatchResponse, event,
};
use crate::service::{LEASE_KEEP_ALIVE, WATCH};

/// A call that streams, as a client holds it.
pub(super) struct Stream {
    requests: h2::SendStream<Bytes>,
    answers: h2::RecvStream,
    buffer: Vec<u8>,
}

impl Stream {
    pub(super) async fn open(client: &SendRequest<Bytes>, path: &str) -> Stream {
        let mut client = client.clone().ready().await.unwrap();
        let head = Request::post(format!("http://embedded{path}")).body(()).unwrap();
        let (response, requests) = client.send_request(head, false).unwrap();
        let answers = response.await.unwrap().into_body();
        Stream {
            requests,
            answers,
            buffer: Vec::new(),
        }
    }

    pub(super) fn send(&mut self, request: &impl Message) {
        let message = request.encode_to_vec();
        let mut frame = vec![0];
        frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(&message);
        self.requests.send_data(frame.into(), false).unwrap();
    }

    /// The next answer; else the text of the status that the stream has ended with.
    pub(super) async fn next<M: Message + Default>(&mut self) -> Result<M, String> {
        loop {
            if let Some((prefix, rest)) = self.buffer.split_first_chunk::<5>() {
                let length = usize::try_from(u32::from_be_bytes(prefix[1..].try_into().unwrap())).unwrap();
                if rest.len() >= length {
                    let message = M::decode(&rest[..length]).unwrap();
                    self.buffer.drain(..5 + length);
                    return Ok(message);
                }
            }
            let Some(data) = self.answers.data().await else {
                let trailers = self.answers.trailers().await.unwrap().unwrap();
                let message = trailers.get("grpc-message");
                return Err(message.map_or("", |message| message.to_str().unwrap()).to_owned());
            };
            self.buffer.extend_from_slice(&data.unwrap());
        }
    }

    /// Whether nothing comes for a minute.
    pub(super) async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(MINUTE, self.next::<WatchResponse>()).await.is_err()
    }
}

pub(super) fn watch_from(start_revision: i64) -> WatchRequest {
    let create = WatchCreate {
        key: "key".into(),
        start_revision,
        ..WatchCreate::default()
    };
    WatchRequest {
        command: Some(WatchCommand::Create(create)),
    }
}

/// What is told of a watch's events.
pub(super) fn events(answer: &WatchResponse) -> Vec<(i32, i64)> {
    let event = |event: &crate::pb::Event| (event.kind, event.kv.as_ref().unwrap().mod_revision);
    answer.events.iter().map(event).collect()
}

async fn watching(server: &Server) -> (SendRequest<Bytes>, Stream) {
    let client = piped(server).await;
    let mut stream = Stream::open(&client, WATCH).await;
    stream.send(&watch_from(0));
    assert!(stream.next::<WatchResponse>().await.unwrap().created);
    (client, stream)
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_behind_is_served_every_100_ms() {
    let server = Server::in_memory(Options {
        clock: Clock::ByHand,
        ..Options::default()
    });
    server.advance(Duration::from_millis(100));
    let client = piped(&server).await;
    ask(&client, PUT, &put()).await.unwrap().unwrap();
    let mut stream = Stream::open(&client, WATCH).await;
    stream.send(&watch_from(2));
    assert!(stream.next::<WatchResponse>().await.unwrap().created);
    server.advance(Duration::from_millis(99));
    assert!(stream.is_silent().await);
    server.advance(Duration::from_millis(1));
    assert_eq!(events(&stream.next().await.unwrap()), [(event::PUT, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_event_is_lost_alone_and_a_silent_stream_tells_nothing_more() {
    let server = Server::in_memory(Options::default());
    let (client, mut stream) = watching(&server).await;
    server.faults().on_answer(WATCH, Fault::Drop);
    for _ in 0..2 {
        ask(&client, PUT, &put()).await.unwrap().unwrap();
    }
    let answer = stream.next::<WatchResponse>().await.unwrap();
    assert_eq!(events(&answer), [(event::PUT, 3)]);
    server.faults().on_answer(WATCH, Fault::Silence);
    for _ in 0..2 {
        ask(&client, PUT, &put()).await.unwrap().unwrap();
    }
    assert!(stream.is_silent().await);
    let mut other = Stream::open(&client, WATCH).await;
    other.send(&watch_from(0));
    assert!(
        other.next::<WatchResponse>().await.unwrap().created,
        "it is that stream alone"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_for_a_watch_is_lost_delayed_or_carried_out_again() {
    let server = Server::in_memory(Options::default());
    let client = piped(&server).await;
    let mut stream = Stream::open(&client, WATCH).await;
    server.faults().on_request(WATCH, Fault::Drop);
    stream.send(&watch_from(0));
    assert!(stream.is_silent().await);
    assert_eq!(server.watch_count(), 0);

    server.faults().on_request(WATCH, Fault::Delay(Late::By(MINUTE * 3)));
    stream.send(&watch_from(0));
    assert!(stream.is_silent().await);
    assert!(stream.next::<WatchResponse>().await.unwrap().created);

    server.faults().on_request(WATCH, Fault::Again(Late::After(PUT.to_owned())));
    stream.send(&watch_from(0));
    assert!(stream.next::<WatchResponse>().await.unwrap().created);
    assert!(stream.is_silent().await);
    ask(&client, PUT, &put()).await.unwrap().unwrap();
    for _ in 0..2 {
        assert_eq!(stream.next::<WatchResponse>().await.unwrap().events.len(), 1);
    }
    assert!(stream.next::<WatchResponse>().await.unwrap().created);
    assert_eq!(server.watch_count(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_event_comes_late_without_holding_up_requests_and_comes_again() {
    let server = Server::in_memory(Options::default());
    let (client, mut stream) = watching(&server).await;
    server.faults().on_answer(WATCH, Fault::Delay(Late::By(MINUTE * 3)));
    ask(&client, PUT, &put()).await.unwrap().unwrap();
    stream.send(&watch_from(0));
    assert!(stream.is_silent().await);
    assert_eq!(server.watch_count(), 2, "the request was not held up");
    assert_eq!(events(&stream.next().await.unwrap()), [(event::PUT, 2)]);
    assert!(stream.next::<WatchResponse>().await.unwrap().created);

    server.faults().on_answer(WATCH, Fault::Again(Late::By(MINUTE * 3)));
    ask(&client, PUT, &put()).await.unwrap().unwrap();
    for watch_id in [0, 1] {
        assert_eq!(stream.next::<WatchResponse>().await.unwrap().watch_id, watch_id);
    }
    assert!(stream.is_silent().await);
    let again = stream.next::<WatchResponse>().await.unwrap();
    assert_eq!((again.watch_id, events(&again)), (0, vec![(event::PUT, 3)]));
}

#[tokio::test]
async fn a_stream_ends_with_a_status_and_its_watches_with_it() {
    let server = Server::in_memory(Options::default());
    let end = Fault::End {
        code: 14,
        message: "etcdserver: no leader".to_owned(),
    };
    let (_client, mut stream) = watching(&server).await;
    assert_eq!((server.watch_count(), server.stream_count()), (1, 1));
    server.faults().on_request(WATCH, end.clone());
    stream.send(&watch_from(0));
    let ended = stream.next::<WatchResponse>().await;
    assert_eq!(ended.unwrap_err(), "etcdserver: no leader");

    let (client, mut stream) = watching(&server).await;
    server.faults().on_answer(WATCH, end);
    ask(&client, PUT, &put()).await.unwrap().unwrap();
    let ended = stream.next::<WatchResponse>().await;
    assert_eq!(ended.unwrap_err(), "etcdserver: no leader");
    while server.watch_count() + server.stream_count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_is_lost_and_its_answer_too_and_a_late_copy_renews_again() {
    let server = Server::in_memory(Options::default());
    let client = piped(&server).await;
    let grant = LeaseGrantRequest { ttl: 60, id: 1 };
    ask(&client, LEASE_GRANT, &grant).await.unwrap().unwrap();
    let mut stream = Stream::open(&client, LEASE_KEEP_ALIVE).await;
    let faults = server.faults();
    faults.on_request(LEASE_KEEP_ALIVE, Fault::Drop);
    stream.send(&LeaseId { id: 1 });
    assert!(stream.is_silent().await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.lease_count(), 0, "it was not renewed");

    ask(&client, LEASE_GRANT, &grant).await.unwrap().unwrap();
    tokio::time::sleep(MINUTE / 2).await;
    faults.on_answer(LEASE_KEEP_ALIVE, Fault::Drop);
    faults.on_request(LEASE_KEEP_ALIVE, Fault::Again(Late::By(MINUTE / 2)));
    stream.send(&LeaseId { id: 1 });
    tokio::time::sleep(MINUTE + MINUTE / 4).await;
    assert_eq!(server.lease_count(), 1, "the copy renewed it");
    stream.send(&LeaseId { id: 1 });
    let answer = stream.next::<LeaseKeepAliveResponse>().await.unwrap();
    assert_eq!((answer.id, answer.ttl), (1, 60));
    stream.send(&LeaseId { id: 7 });
    assert_eq!(stream.next::<LeaseKeepAliveResponse>().await.unwrap().ttl, 0);
}
