//! One deadline covers waiting, sending and receiving; a call that nobody waits
//! for is reset.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenure::pb::etcdserverpb::PutResponse;
use tenure::{Client, Code, Config, Delivery, Dialing, Endpoint, Error, Io, Origin};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, mpsc};

use crate::peer::{answer, pipe, serve, server};

/// Long enough to be sent on a machine that stands still for a while.
const TIMEOUT: Duration = Duration::from_secs(2);
/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(50);

/// The error of a put that must end by itself, at its deadline.
async fn timed_out(client: &Client) -> Error {
    let put = client.put("key", "value").timeout(TIMEOUT);
    let answer = tokio::time::timeout(PATIENCE, put.into_future()).await;
    let error = answer.expect("the call outlives its deadline").expect_err("nobody answered");
    assert_eq!(
        (error.code(), error.origin()),
        (Code::DeadlineExceeded, Origin::Library),
        "{error}"
    );
    assert!(error.is_timeout());
    error
}

/// What lies beneath an error, outermost first.
fn causes(error: &Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes
}

#[tokio::test]
async fn a_server_that_never_answers() {
    let (client, server) = server(Config::default(), &h2::server::Builder::new()).await;
    serve(server, |asked| async {
        std::future::pending::<()>().await;
        drop(asked);
    });
    assert!(timed_out(&client).await.may_be_applied());
}

#[tokio::test]
async fn a_server_that_never_sends_its_settings() {
    let (client, _theirs) = pipe(Config::default()).await;
    // It may be frozen, and nothing is sent to such a one.
    assert_eq!(timed_out(&client).await.delivery(), Delivery::NotSent);
}

#[tokio::test]
async fn a_server_with_a_zero_window() {
    let (client, server) = server(
        Config::default(),
        h2::server::Builder::new().initial_window_size(0),
    )
    .await;
    serve(server, |asked| async {
        std::future::pending::<()>().await;
        drop(asked);
    });
    timed_out(&client).await;
}

#[tokio::test]
async fn a_server_that_allows_no_streams() {
    let (client, server) = server(
        Config::default(),
        h2::server::Builder::new().max_concurrent_streams(0),
    )
    .await;
    serve(server, |_| async { panic!("a stream was opened") });
    // The settings have to arrive before the call for this to be the case at hand.
    tokio::time::sleep(Duration::from_millis(50)).await;
    timed_out(&client).await;
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_any_more() {
    let (client, theirs) = pipe(Config::default()).await;
    drop(theirs);
    // The first call finds out; after it, nothing is sent any more.
    client.put("key", "value").timeout(TIMEOUT).await.unwrap_err();
    let error = timed_out(&client).await;
    assert_eq!(error.delivery(), Delivery::NotSent);
    let causes = causes(&error);
    assert!(causes.iter().any(|cause| cause.contains("spent")), "{causes:?}");
}

#[tokio::test]
async fn a_call_in_flight_when_the_connection_is_lost_is_of_unknown_fate() {
    let (client, server) = server(Config::default(), &h2::server::Builder::new()).await;
    let (asked, mut arrived) = mpsc::channel(1);
    let connection = tokio::spawn(async move {
        let mut server = server;
        while let Some(Ok(request)) = server.accept().await {
            asked.send(request).await.unwrap();
        }
    });
    let put = tokio::spawn(async move { client.put("key", "value").await });
    let _request = arrived.recv().await.unwrap();
    connection.abort();
    let error = put.await.unwrap().unwrap_err();
    assert_eq!(
        (error.code(), error.origin()),
        (Code::Unavailable, Origin::Transport),
        "{error}"
    );
    assert!(error.may_be_applied(), "{error}");
    assert_eq!(
        (error.attempts(), error.endpoint()),
        (1, Some("http://handed.in"))
    );
    assert!(error.source().is_some());
}

#[tokio::test]
async fn a_call_that_is_dropped_or_late_resets_its_stream() {
    let (client, server) = server(Config::default(), &h2::server::Builder::new()).await;
    let (reset, mut resets) = mpsc::channel(8);
    serve(server, move |(_request, mut respond)| {
        let reset = reset.clone();
        async move {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            reset.send(reason.unwrap()).await.unwrap();
        }
    });
    let dropped = tokio::time::timeout(TIMEOUT, client.put("key", "value").into_future()).await;
    assert!(dropped.is_err());
    assert_eq!(resets.recv().await, Some(h2::Reason::CANCEL));
    timed_out(&client).await;
    assert_eq!(resets.recv().await, Some(h2::Reason::CANCEL));
}

#[tokio::test]
async fn a_server_that_sends_a_byte_at_a_time() {
    let (client, theirs) = pipe(Config::default()).await;
    let (near, far) = tokio::io::duplex(1 << 16);
    let (mut read, mut write) = tokio::io::split(theirs);
    let (mut far_read, mut far_write) = tokio::io::split(far);
    tokio::spawn(async move { tokio::io::copy(&mut read, &mut far_write).await });
    tokio::spawn(async move {
        use tokio::io::AsyncReadExt;
        while let Ok(byte) = far_read.read_u8().await {
            write.write_u8(byte).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let server = h2::server::handshake(near).await.unwrap();
    serve(server, |(_request, mut respond)| async move {
        answer(&mut respond, &tenure::pb::etcdserverpb::PutResponse::default());
    });
    client.put("key", "value").await.unwrap();
}

#[tokio::test]
async fn nobody_listens() {
    // Bound, and nobody else's for as long as it is: and still nobody listens.
    let bound = tokio::net::TcpSocket::new_v4().unwrap();
    bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = bound.local_addr().unwrap().port();
    let error = Client::connect([format!("http://127.0.0.1:{port}")]).await.unwrap_err();
    assert_eq!(
        (error.code(), error.delivery()),
        (Code::Unavailable, Delivery::NotSent),
        "{error}"
    );
    let causes = causes(&error);
    assert!(causes.iter().any(|cause| cause.contains("refused")), "{causes:?}");
}

#[tokio::test]
async fn nobody_answers_the_dial() {
    let config = Config::default().connect_timeout(TIMEOUT);
    let dial = |_: &tenure::Endpoint| -> tenure::Dialing { Box::pin(std::future::pending()) };
    let connecting = Client::connect_over(dial, ["http://black.hole"], config);
    let error = tokio::time::timeout(PATIENCE, connecting).await.expect("a hang").unwrap_err();
    let cause = error.source().expect("a cause").to_string();
    assert!(cause.contains("connect timeout"), "{cause}");
}

#[tokio::test]
async fn a_call_whose_time_is_over_is_not_sent() {
    let (client, server) = server(Config::default(), &h2::server::Builder::new()).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    serve(server, move |(_request, mut respond)| {
        count.fetch_add(1, Ordering::SeqCst);
        async move { answer(&mut respond, &PutResponse::default()) }
    });
    let late = client.put("key", "value").timeout(Duration::from_millis(20)).into_future();
    tokio::time::sleep(Duration::from_millis(60)).await;
    let never = client.put("key", "value").timeout(Duration::ZERO).into_future();
    for call in [late, never] {
        let error = call.await.unwrap_err();
        assert_eq!(error.delivery(), Delivery::NotSent, "{error}");
        assert!(error.is_timeout(), "{error}");
    }
    client.put("key", "value").await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1, "only the last one is asked for");
}

#[tokio::test]
async fn the_timeout_header_says_what_is_left() {
    let (dialled, mut pipes) = mpsc::unbounded_channel();
    let open = Arc::new(Semaphore::new(1));
    let gate = open.clone();
    let dial = move |_: &Endpoint| -> Dialing {
        let (dialled, gate) = (dialled.clone(), gate.clone());
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let _ = dialled.send(theirs);
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    };
    let config = Config::default().send_timeout_header(true).connect_timeout(PATIENCE);
    let serve = async { h2::server::handshake(pipes.recv().await.unwrap()).await };
    let (client, server) = tokio::join!(Client::connect_over(dial, ["http://pipe"], config), serve);
    let client = client.unwrap();
    // Of the first connection nothing is left when the call is made.
    drop(server);
    client.put("key", "value").timeout(TIMEOUT).await.unwrap_err();
    let waited = Duration::from_millis(400);
    let put = tokio::spawn(client.put("key", "value").timeout(PATIENCE).into_future());
    tokio::time::sleep(waited).await;
    open.add_permits(1);
    let mut server = h2::server::handshake(pipes.recv().await.unwrap()).await.unwrap();
    let (request, _respond) = server.accept().await.unwrap().unwrap();
    put.abort();
    let said = request.headers()["grpc-timeout"].to_str().unwrap();
    let (number, unit) = said.split_at(said.len() - 1);
    let nanoseconds = match unit {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "S" => 1_000_000_000,
        _ => panic!("{said}"),
    };
    let left = Duration::from_nanos(number.parse::<u64>().unwrap() * nanoseconds);
    assert!(left <= PATIENCE - waited, "the server is told {said}");
}
