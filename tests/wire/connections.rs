//! Connections that end, and the ones that follow them.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use tenure::pb::etcdserverpb::{PutResponse, WatchResponse};
use tenure::{Auth, Client, Code, Config, Delivery, Dialing, Endpoint, Io, LeaseId};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use crate::fleet::{Fate, Fleet, Reply};
use crate::peer::{answer, frame, head, patiently, serve, server};

/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(50);

/// Long enough for whatever does not wait to be done.
const SHORT: Duration = Duration::from_millis(50);

type Server = h2::server::Connection<DuplexStream, Bytes>;

/// A client that dials pipes, the server at the end of the first, and the ends of
/// those that follow.
async fn dialled() -> (Client, Server, mpsc::Receiver<DuplexStream>) {
    let (dialled, mut pipes) = mpsc::channel(16);
    let dial = move |_: &Endpoint| -> Dialing {
        let dialled = dialled.clone();
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            dialled.send(theirs).await.map_err(std::io::Error::other)?;
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    };
    let connect = Client::connect_over(dial, ["http://pipe"], Config::default());
    let serve = async { h2::server::handshake(pipes.recv().await.expect("a dial")).await };
    let (client, server) = tokio::join!(connect, serve);
    (client.expect("a pipe"), server.expect("a server"), pipes)
}

#[tokio::test]
async fn an_endpoint_that_went_away_gracefully_is_dialled_anew_while_a_stream_is_open() {
    let (client, mut first, mut pipes) = dialled().await;
    let hanging = tokio::spawn({
        let client = client.clone();
        async move { client.put("key", "held").timeout(PATIENCE).await }
    });
    let (_request, mut held) = first.accept().await.unwrap().unwrap();
    first.graceful_shutdown();
    serve(first, |_| async {
        panic!("a new stream on a connection that went away")
    });

    let second = tokio::spawn(async move {
        let server = h2::server::handshake(pipes.recv().await.unwrap()).await.unwrap();
        serve(server, |(_request, mut respond)| async move {
            answer(&mut respond, &PutResponse::default());
        });
        pipes
    });
    let put = async {
        // Until the client has heard of it, a put may still run into the old one.
        while client.put("key", "value").timeout(Duration::from_millis(100)).await.is_err() {}
    };
    tokio::time::timeout(PATIENCE, put).await.expect("another connection");
    let _pipes = second.await.unwrap();
    answer(&mut held, &PutResponse::default());
    hanging.await.unwrap().expect("the open stream is served to its end");
    let connections = client.telemetry().connections;
    let counted = (connections.opened, connections.drained, connections.lost);
    assert_eq!(counted, (2, 1, 0), "{connections:?}");
}

#[tokio::test]
async fn a_server_that_hangs_up_at_once_is_not_dialled_in_a_loop() {
    let dials = Arc::new(Mutex::new(0));
    let counted = dials.clone();
    let dial = move |_: &Endpoint| -> Dialing {
        *counted.lock().unwrap() += 1;
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            // A word that can be heard, and that was it.
            let mut server: Server = h2::server::handshake(theirs).await.expect("a preface");
            let _ = tokio::time::timeout(Duration::from_millis(5), server.accept()).await;
        });
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Io>) })
    };
    let client = Client::connect_over(dial, ["http://pipe"], Config::default()).await;
    let client = client.expect("a connection, for the moment");
    tokio::time::sleep(Duration::from_millis(500)).await;
    client
        .put("key", "value")
        .timeout(Duration::from_millis(1))
        .await
        .expect_err("nobody is there");
    let dials = *dials.lock().unwrap();
    assert!((2..40).contains(&dials), "{dials} dials in half a second");
}

#[tokio::test]
async fn the_last_handle_closes_the_connection() {
    let (client, mut server, _pipes) = dialled().await;
    let put = tokio::spawn({
        let client = client.clone();
        async move { client.put("key", "value").await }
    });
    let (_request, mut respond) = server.accept().await.unwrap().unwrap();
    answer(&mut respond, &PutResponse::default());
    drop(client);
    let end = tokio::time::timeout(PATIENCE, server.accept()).await.expect("the end");
    assert!(end.is_none_or(|asked| asked.is_err()), "another request");
    let _ = put.await;
}

#[tokio::test]
async fn a_call_that_the_server_took_before_it_hung_up_is_of_unknown_fate() {
    let (client, mut server, _pipes) = dialled().await;
    let put = tokio::spawn(async move { client.put("key", "value").timeout(PATIENCE).await });
    let taken = server.accept().await.unwrap().unwrap();
    server.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
    while let Some(Ok(asked)) = server.accept().await {
        drop(asked);
    }
    drop((server, taken));
    let error = put.await.unwrap().unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown, "{error}");
}

#[tokio::test]
async fn a_call_that_was_dropped_while_it_waited_leaves_no_waker_behind() {
    struct Unheard;
    impl Wake for Unheard {
        fn wake(self: Arc<Self>) {}
    }
    let up = AtomicBool::new(true);
    let (dialled, mut pipes) = mpsc::channel(1);
    let dial = move |_: &Endpoint| -> Dialing {
        if !up.swap(false, Ordering::SeqCst) {
            return Box::pin(std::future::pending());
        }
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        dialled.try_send(theirs).unwrap();
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Io>) })
    };
    let config = Config::default().connect_timeout(PATIENCE);
    let serve = async { h2::server::handshake::<_>(pipes.recv().await.unwrap()).await };
    let (client, server) = tokio::join!(Client::connect_over(dial, ["http://pipe"], config), serve);
    let client = client.unwrap();
    drop(server);
    let wait = Duration::from_millis(100);
    client.put("key", "value").timeout(wait).await.expect_err("the pipe is closed");
    let wakers: Vec<_> = (0..1000).map(|_| Arc::new(Unheard)).collect();
    for waker in &wakers {
        let mut call = pin!(client.put("key", "value").into_future());
        let polled = call.as_mut().poll(&mut Context::from_waker(&waker.clone().into()));
        assert!(polled.is_pending(), "{polled:?}");
    }
    let kept = wakers.iter().filter(|waker| Arc::strong_count(waker) > 1).count();
    assert_eq!(kept, 0, "wakers of dropped calls");
}

#[tokio::test]
async fn a_stream_that_only_a_lease_can_use_is_not_offered_to_a_put_alone() {
    let list = "/etcdserverpb.Cluster/MemberList";
    let listed = AtomicUsize::new(0);
    let fleet = Fleet::scripted(&[("a", Fate::Lives)], Some(2), move |asked| {
        match asked.key == list {
            false => Reply::Never,
            true => match listed.fetch_add(1, Ordering::Relaxed) {
                1 => Reply::After(Duration::from_secs(2)),
                _ => Reply::Well,
            },
        }
    });
    fleet.list(&[(&["http://a:1"], false)]);
    let client = fleet.client(&["http://a:1"], Config::new().connections_max(1)).await;
    let mut tasks = tokio::task::JoinSet::new();
    let put = |client: Client| async move { drop(client.put("key", "value").await) };
    let sync = |client: Client| async move { client.endpoints().sync().await.map(drop) };
    // One connection is full of puts; on the other is a call that is never answered, and
    // one that is in a while.
    let asked = async |calls| {
        patiently("a call", async {
            while fleet.asked().len() < calls {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    tasks.spawn(put(client.clone()));
    asked(1).await;
    sync(client.clone()).await.expect("beside the put, and a connection apart is dialled");
    patiently("the connection apart", async {
        while client.telemetry().connections.now < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    tasks.spawn(put(client.clone()));
    asked(3).await;
    let forever = client.clone();
    tasks.spawn(async move { drop(forever.lease_time_to_live(LeaseId(7)).await) });
    asked(4).await;
    let answered = tokio::spawn(sync(client.clone()));
    asked(5).await;
    // Both wait, the put first: a poll takes its place.
    let mut last = Box::pin(put(client.clone()));
    assert!(last.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    tasks.spawn(last);
    let waits = tokio::spawn(sync(client.clone()));
    let answers = async { (answered.await.unwrap(), waits.await.unwrap()) };
    let (first, second) = tokio::time::timeout(PATIENCE, answers).await.expect("a free stream is used");
    first.expect("the one that is answered late");
    second.expect("the one that waits for it");
    tasks.shutdown().await;
}

#[tokio::test]
async fn a_read_that_bears_no_silence_leaves_the_thread_to_the_others() {
    let fleet = Fleet::scripted(&[("a", Fate::Lives)], None, |_| Reply::After(SHORT));
    let client = fleet.client(&["a"], Config::new().silence(Duration::ZERO)).await;
    client.get("key").await.expect("an answer");
}

/// A server that says that it goes, and stays: its process hangs in its shutdown.
#[tokio::test]
async fn a_watch_on_a_server_that_goes_away_and_never_ends_moves_to_another_connection() {
    let (client, mut first, mut pipes) = dialled().await;
    let watching = tokio::spawn({
        let client = client.clone();
        async move { client.watch("key").await }
    });
    let (request, mut respond) = first.accept().await.unwrap().unwrap();
    assert!(request.uri().path().ends_with("/Watch"));
    let mut held = respond.send_response(head(), false).unwrap();
    let created = WatchResponse {
        created: true,
        watch_id: 1,
        ..WatchResponse::default()
    };
    held.send_data(frame(&created), false).unwrap();
    first.graceful_shutdown();
    let ended = tokio::spawn(async move { while let Some(Ok(_)) = first.accept().await {} });
    let _watch = patiently("the watch", watching).await.unwrap().unwrap();
    let mut second: Server = h2::server::handshake(pipes.recv().await.unwrap()).await.unwrap();
    let (request, _respond) = patiently("the watch anew", second.accept()).await.unwrap().unwrap();
    assert!(request.uri().path().ends_with("/Watch"));
    patiently("the end of the first connection", ended).await.unwrap();
    drop(held);
}

/// It would keep the connections for as long as a call may take.
#[tokio::test]
async fn a_question_of_the_clients_own_does_not_outlive_the_last_handle() {
    let config = || Config::new().call_timeout(Duration::from_secs(3600));
    let questions = [
        ("/MemberList", config().sync_interval(SHORT)),
        (
            "/Authenticate",
            config().auth(Auth::password("root", "a password")),
        ),
    ];
    for (question, config) in questions {
        let (client, mut server) = server(config, &h2::server::Builder::new()).await;
        // It waits for a token, in the one case.
        let put = tokio::spawn(client.put("key", "").into_future());
        let mut held = Vec::new();
        loop {
            let asked = patiently("the question", server.accept()).await.unwrap().unwrap();
            let is_it = asked.0.uri().path().ends_with(question);
            held.push(asked);
            if is_it {
                break;
            }
        }
        put.abort();
        let _ = put.await;
        drop(client);
        patiently("the end of the connection", async {
            while let Some(Ok(_)) = server.accept().await {}
        })
        .await;
    }
}

#[test]
fn whoever_waits_for_a_token_hears_at_once_that_the_clients_runtime_is_gone() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    // The task that asks for the token is of the runtime of the first who waits.
    for asks_from_the_lasting in [true, false] {
        let (lasting, ending) = (runtime(), runtime());
        let config = Config::new()
            .call_timeout(Duration::from_secs(3600))
            .auth(Auth::password("root", "a password"));
        let (client, mut server) = ending.block_on(server(config, &h2::server::Builder::new()));
        let put = || client.put("key", "").into_future();
        let first = match asks_from_the_lasting {
            true => lasting.spawn(put()),
            false => ending.spawn(put()),
        };
        let asked = lasting.block_on(patiently("the question", server.accept()));
        assert!(asked.unwrap().unwrap().0.uri().path().ends_with("/Authenticate"));
        let waiting = lasting.spawn(put());
        std::thread::sleep(SHORT);
        ending.shutdown_timeout(PATIENCE);
        let error = lasting.block_on(patiently("the end", waiting)).unwrap().unwrap_err();
        assert_eq!(
            (error.code(), error.delivery()),
            (Code::Unavailable, Delivery::NotSent)
        );
        assert!(error.to_string().contains("runtime"), "{error}");
        let _ = lasting.block_on(patiently("the first", first));
    }
}
