//! The watch stream against a server that breaks the protocol, stalls, or goes.

mod again;
mod many;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use prost::Message;
use tenure::pb::etcdserverpb::watch_request::RequestUnion;
use tenure::pb::etcdserverpb::{ResponseHeader, WatchRequest, WatchResponse};
use tenure::pb::mvccpb;
use tenure::{Client, Code, Config, Event, Revision, Watch, WatchEnd, WatchId};
use tokio::sync::mpsc;

use crate::peer::{Asked, frame, head, patiently, serve, server, trailers};

/// The server's end of one watch stream.
struct Peer {
    requests: RecvStream,
    received: BytesMut,
    responses: SendStream<Bytes>,
}

impl Peer {
    fn new((request, mut respond): Asked) -> Peer {
        assert_eq!(request.uri().path(), "/etcdserverpb.Watch/Watch");
        Peer {
            requests: request.into_body(),
            received: BytesMut::new(),
            responses: respond.send_response(head(), false).unwrap(),
        }
    }

    /// The next request; `None` once the client has closed or reset the stream.
    async fn request(&mut self) -> Option<RequestUnion> {
        loop {
            let length = self.received.get(1..5).map(|mut length| length.get_u32() as usize);
            if let Some(length) = length.filter(|length| self.received.len() >= 5 + length) {
                let message = self.received.split_to(5 + length).split_off(5);
                return WatchRequest::decode(message).unwrap().request_union;
            }
            let bytes = patiently("a request", self.requests.data()).await?.ok()?;
            self.requests.flow_control().release_capacity(bytes.len()).unwrap();
            self.received.extend_from_slice(&bytes);
        }
    }

    fn send(&mut self, response: &WatchResponse) {
        self.responses.send_data(frame(response), false).unwrap();
    }

    /// Takes a create request and grants it.
    async fn grant(&mut self, id: i64) {
        let request = self.request().await;
        assert!(
            matches!(request, Some(RequestUnion::CreateRequest(_))),
            "{request:?}"
        );
        self.send(&created(id));
    }

    async fn canceled(&mut self) -> i64 {
        match self.request().await {
            Some(RequestUnion::CancelRequest(cancel)) => cancel.watch_id,
            other => panic!("{other:?}"),
        }
    }
}

fn answer(id: i64, revision: i64) -> WatchResponse {
    let header = Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    });
    WatchResponse {
        header,
        watch_id: id,
        ..WatchResponse::default()
    }
}

fn created(id: i64) -> WatchResponse {
    WatchResponse {
        created: true,
        ..answer(id, 10)
    }
}

fn put(id: i64, revision: i64) -> WatchResponse {
    let kv = mvccpb::KeyValue {
        key: "key".into(),
        mod_revision: revision,
        ..mvccpb::KeyValue::default()
    };
    let event = mvccpb::Event {
        kv: Some(kv),
        ..mvccpb::Event::default()
    };
    WatchResponse {
        events: vec![event],
        ..answer(id, revision)
    }
}

/// A client, and the watch streams that it opens.
async fn peers(builder: &h2::server::Builder) -> (Client, mpsc::UnboundedReceiver<Peer>) {
    peers_of(Config::default(), builder).await
}

async fn peers_of(config: Config, builder: &h2::server::Builder) -> (Client, mpsc::UnboundedReceiver<Peer>) {
    let (opened, streams) = mpsc::unbounded_channel();
    let (client, server) = server(config, builder).await;
    serve(server, move |asked| {
        let opened = opened.clone();
        async move {
            let _ = opened.send(Peer::new(asked));
        }
    });
    (client, streams)
}

/// A client with one live watch, with the id 0, and the server's end of its stream.
async fn live(builder: &h2::server::Builder) -> (Client, mpsc::UnboundedReceiver<Peer>, Peer, Watch) {
    live_that(builder, true).await
}

async fn live_that(
    builder: &h2::server::Builder,
    resume: bool,
) -> (Client, mpsc::UnboundedReceiver<Peer>, Peer, Watch) {
    let (client, mut streams) = peers(builder).await;
    let creating = create_that(&client, resume);
    let mut peer = patiently("a stream", streams.recv()).await.unwrap();
    peer.grant(0).await;
    let watch = patiently("created", creating).await.unwrap().unwrap();
    (client, streams, peer, watch)
}

type Creating = tokio::task::JoinHandle<Result<Watch, WatchEnd>>;

fn create(client: &Client) -> Creating {
    create_that(client, true)
}

fn create_that(client: &Client, resume: bool) -> Creating {
    let client = client.clone();
    tokio::spawn(async move { client.watch("key").resume(resume).await })
}

async fn disconnected(watch: &mut Watch) -> (Code, Revision) {
    match patiently("the end", watch.next()).await {
        Err(WatchEnd::Disconnected {
            error,
            resume_revision,
        }) => (error.code(), resume_revision),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn events_are_read_while_the_server_reads_no_requests() {
    let mut builder = h2::server::Builder::new();
    let (client, _streams, mut peer, mut watch) = live(builder.initial_window_size(64)).await;
    // More than the window takes, and the peer gives none back.
    let creating: Vec<_> = (0..50).map(|_| create(&client)).collect();
    for revision in 11..20 {
        peer.send(&put(0, revision));
        let batch = patiently("an event", watch.next()).await.unwrap();
        assert_eq!(batch.events[0].revision(), Revision(revision));
    }
    for id in 1..=50 {
        peer.grant(id).await;
    }
    for creating in creating {
        patiently("created", creating).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_breach_ends_the_stream_and_the_next_watch_has_a_new_one() {
    let (client, mut streams, mut peer, mut watch) = live_that(&h2::server::Builder::new(), false).await;
    peer.send(&put(0, 11));
    peer.send(&put(7, 12));
    assert_eq!(
        patiently("an event", watch.next()).await.unwrap().resume_revision,
        Revision(12)
    );
    for _ in 0..3 {
        assert_eq!(disconnected(&mut watch).await, (Code::Internal, Revision(12)));
    }
    assert!(peer.request().await.is_none(), "the stream is over");

    let creating = create(&client);
    let mut peer = patiently("a stream", streams.recv()).await.unwrap();
    // Names are the stream's: this one begins anew.
    peer.grant(0).await;
    assert_eq!(
        patiently("created", creating).await.unwrap().unwrap().id(),
        WatchId(0)
    );
}

#[tokio::test]
async fn a_stream_that_the_server_ends_ends_its_watches() {
    for (status, code) in [
        ("0", Code::Unavailable),
        ("14", Code::Unavailable),
        ("7", Code::PermissionDenied),
    ] {
        let (_client, _streams, mut peer, mut watch) = live_that(&h2::server::Builder::new(), false).await;
        peer.send(&put(0, 11));
        peer.responses.send_trailers(trailers(status)).unwrap();
        let batch = patiently("an event", watch.next()).await.unwrap();
        assert!(matches!(batch.events[..], [Event::Put { .. }]));
        assert_eq!(
            disconnected(&mut watch).await,
            (code, Revision(12)),
            "status {status}"
        );
    }
}

#[tokio::test]
async fn a_watch_survives_streams_that_are_cut_in_every_way() {
    let (_client, mut streams, mut peer, mut watch) = live(&h2::server::Builder::new()).await;
    let mut revision = 10;
    for round in 0..4 {
        revision += 1;
        peer.send(&put(0, revision));
        let batch = patiently("an event", watch.next()).await.unwrap();
        assert_eq!(batch.events.len(), 1);
        assert_eq!(batch.resume_revision, Revision(revision + 1));
        // The next event is on its way when the stream goes: half of a message, the
        // first of two fragments, or all of it, but nothing else.
        match round {
            0 => peer.responses.send_trailers(trailers("0")).unwrap(),
            1 => peer.responses.send_trailers(trailers("14")).unwrap(),
            2 => {
                let half = frame(&put(0, revision + 1)).slice(..9);
                peer.responses.send_data(half, false).unwrap();
                peer.responses.send_reset(h2::Reason::CANCEL);
            }
            _ => {
                let fragment = WatchResponse {
                    fragment: true,
                    ..put(0, revision + 1)
                };
                peer.send(&fragment);
                peer.responses.send_trailers(trailers("14")).unwrap();
            }
        }
        peer = patiently("the next stream", streams.recv()).await.unwrap();
        match peer.request().await {
            Some(RequestUnion::CreateRequest(create)) => {
                assert_eq!(create.start_revision, revision + 1);
                assert_eq!(create.key, "key");
            }
            other => panic!("{other:?}"),
        }
        peer.send(&created(0));
        // What was handed out already comes again from a server that is careless.
        peer.send(&put(0, revision));
    }
    peer.send(&put(0, revision + 1));
    let batch = patiently("an event", watch.next()).await.unwrap();
    assert_eq!(batch.events[0].revision(), Revision(revision + 1));
    assert_eq!((watch.reconnects(), watch.created_revision()), (4, Revision(10)));
}

#[tokio::test]
async fn a_creation_survives_a_lost_stream_and_a_resume_that_is_refused_ends_the_watch() {
    let (client, mut streams) = peers(&h2::server::Builder::new()).await;
    let creating = create(&client);
    let mut peer = patiently("a stream", streams.recv()).await.unwrap();
    assert!(peer.request().await.is_some());
    peer.responses.send_trailers(trailers("14")).unwrap();
    let mut peer = patiently("the next stream", streams.recv()).await.unwrap();
    peer.grant(0).await;
    let mut watch = patiently("created", creating).await.unwrap().unwrap();
    assert_eq!(watch.reconnects(), 0);
    peer.responses.send_trailers(trailers("14")).unwrap();
    let mut peer = patiently("the third stream", streams.recv()).await.unwrap();
    assert!(peer.request().await.is_some());
    peer.send(&WatchResponse {
        canceled: true,
        cancel_reason: "etcdserver: permission denied".to_owned(),
        ..created(-1)
    });
    let end = patiently("the end", watch.next()).await;
    let Err(WatchEnd::Canceled { resume_revision, .. }) = end else {
        panic!("{end:?}");
    };
    assert_eq!(resume_revision, Revision(11));
}

#[tokio::test]
async fn a_creation_that_is_not_answered_in_time_ends_and_a_late_answer_is_canceled() {
    let (client, _streams, mut peer, mut watch) = live(&h2::server::Builder::new()).await;
    let late = client.watch("key").timeout(Duration::from_secs(1));
    match patiently("the deadline", late.into_future()).await {
        Err(WatchEnd::Disconnected { error, .. }) => assert!(error.is_timeout(), "{error}"),
        other => panic!("{other:?}"),
    }
    peer.grant(1).await;
    assert_eq!(peer.canceled().await, 1);
    peer.send(&put(1, 11));
    peer.send(&put(0, 11));
    assert!(patiently("an event", watch.next()).await.is_ok());
}

#[tokio::test]
async fn the_stream_stays_between_watches_and_goes_with_the_client() {
    let (client, mut streams, mut peer, watch) = live(&h2::server::Builder::new()).await;
    drop(watch);
    assert_eq!(peer.canceled().await, 0);
    let creating = create(&client);
    peer.grant(1).await;
    let watch = patiently("created", creating).await.unwrap().unwrap();
    assert!(streams.try_recv().is_err(), "one stream is enough");
    drop(client);
    drop(watch);
    // Perhaps a cancel, and then the end.
    while peer.request().await.is_some() {}
}

#[test]
fn a_runtime_that_is_shut_down_closes_its_watches() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (client, streams, peer, mut watch) = first.block_on(live(&h2::server::Builder::new()));
    drop(first);
    runtime().block_on(async {
        let end = patiently("the end", watch.next()).await;
        assert!(matches!(end, Err(WatchEnd::Closed)), "{end:?}");
    });
    drop((client, streams, peer));
}

/// To the end of the run queue, once; `yield_now` would wait until all others are idle.
async fn turn() {
    let mut first = true;
    std::future::poll_fn(|cx| {
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

/// A live watch, and a second one that is asked for so many turns after the server
/// has ended their stream.
async fn created_as_the_stream_ends(
    turns: usize,
) -> (Client, mpsc::UnboundedReceiver<Peer>, Watch, Creating) {
    let (client, streams, mut peer, watch) = live_that(&h2::server::Builder::new(), false).await;
    peer.responses.send_trailers(trailers("0")).unwrap();
    for _ in 0..turns {
        turn().await;
    }
    let creating = create(&client);
    // The old stream stays readable, so that a request on it is lost and not refused.
    tokio::spawn(async move { while peer.request().await.is_some() {} });
    (client, streams, watch, creating)
}

#[tokio::test]
async fn a_watch_asked_for_as_the_stream_ends_is_created_on_the_next_one_or_told() {
    for turns in 0..12 {
        let (_client, mut streams, _watch, creating) = created_as_the_stream_ends(turns).await;
        let next = tokio::spawn(async move {
            let mut peer = streams.recv().await?;
            peer.grant(0).await;
            Some((peer, streams))
        });
        match patiently("created or told", creating).await.unwrap() {
            Ok(_) => drop(next.await.unwrap()),
            Err(WatchEnd::Disconnected { error, .. }) => {
                assert!(!error.is_timeout(), "{turns} turns: {error}")
            }
            Err(other) => panic!("{turns} turns: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_watch_given_up_as_the_stream_ends_is_not_left_on_the_next_one() {
    for turns in 0..6 {
        let (client, mut streams, watch, creating) = created_as_the_stream_ends(turns).await;
        creating.abort();
        drop(watch);
        let _ = creating.await;
        let awake = create(&client);
        let mut peer = patiently("a stream", streams.recv()).await.unwrap();
        let (mut next, live) = (0, RefCell::new(BTreeSet::new()));
        let counting = async {
            while let Some(request) = peer.request().await {
                match request {
                    RequestUnion::CreateRequest(_) => {
                        peer.send(&created(next));
                        live.borrow_mut().insert(next);
                        next += 1;
                    }
                    RequestUnion::CancelRequest(cancel) => drop(live.borrow_mut().remove(&cancel.watch_id)),
                    RequestUnion::ProgressRequest(_) => {}
                }
            }
        };
        let settled = async {
            let _awake = patiently("created", awake).await.unwrap().unwrap();
            patiently("the one that is left alone", async {
                loop {
                    // Time for whatever else would come.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    if live.borrow().len() == 1 {
                        return;
                    }
                }
            })
            .await;
        };
        tokio::select! { () = settled => {}, () = counting => panic!("{turns} turns: the stream ended") };
    }
}

#[tokio::test]
async fn a_stream_that_breaks_while_hundreds_are_created_tells_every_one() {
    let (client, mut streams) = peers(&h2::server::Builder::new()).await;
    tokio::spawn(async move {
        for stream in 0.. {
            let Some(mut peer) = streams.recv().await else {
                return;
            };
            tokio::spawn(async move {
                for id in 0.. {
                    match peer.request().await {
                        Some(_) if stream < 5 && id == 50 => {
                            return peer.responses.send_reset(h2::Reason::INTERNAL_ERROR);
                        }
                        Some(RequestUnion::CreateRequest(_)) => peer.send(&created(id)),
                        Some(_) => {}
                        None => return,
                    }
                }
            });
        }
    });
    let creating: Vec<_> = (0..500).map(|_| create(&client)).collect();
    for creating in creating {
        // Live or lost; a hang is what must not be.
        let _ = patiently("created or told", creating).await.unwrap();
    }
    patiently("created", create(&client)).await.unwrap().expect("a stream that lasts");
}
