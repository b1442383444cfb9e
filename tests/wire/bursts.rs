//! Many small answers at once: healthy traffic that h2's default windows take for
//! an attack.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure::Config;
use tenure::core::pool::STREAMS_MAX;
use tenure::pb::etcdserverpb::PutResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peer::{answer, frame, head, pipe, serve, server, trailers};

const PUTS: usize = 500;
/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(50);
/// What h2 sets where nobody says otherwise (RFC 9113, section 6.9.2).
pub(crate) const WINDOW_BYTES_OF_H2: u32 = 65_535;

/// How many of 500 concurrent puts succeed when all are answered at once.
async fn succeeded(config: Config) -> usize {
    succeeded_of(config, PUTS).await
}

/// How many of so many concurrent puts succeed when as many as are sent at a time are
/// answered at once.
async fn succeeded_of(config: Config, puts: usize) -> usize {
    let (client, server) = server(config, &h2::server::Builder::new()).await;
    let waiting = Arc::new(Mutex::new((puts, Vec::new())));
    serve(server, move |(_request, respond)| {
        let waiting = waiting.clone();
        async move {
            let mut waiting = waiting.lock().unwrap();
            let (left, waiting) = &mut *waiting;
            waiting.push(respond);
            if waiting.len() == STREAMS_MAX.min(*left) {
                *left -= waiting.len();
                waiting.drain(..).for_each(|mut respond| answer(&mut respond, &PutResponse::default()));
            }
        }
    });
    let puts: Vec<_> = (0..puts)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.put("key", "value").await })
        })
        .collect();
    let mut succeeded = 0;
    for put in puts {
        succeeded += usize::from(put.await.unwrap().is_ok());
    }
    succeeded
}

#[tokio::test]
async fn five_hundred_answers_at_once_all_arrive() {
    assert_eq!(succeeded(Config::default()).await, PUTS);
}

/// h2 would hang up on so many at once, so no connection has them.
#[tokio::test]
async fn of_twelve_thousand_calls_at_once_a_connection_has_no_more_than_it_bears() {
    let config = Config::default().call_timeout(Duration::from_secs(3600));
    assert_eq!(succeeded_of(config, 12_000).await, 12_000);
}

#[tokio::test]
async fn with_the_default_windows_of_h2_they_do_not() {
    let small = Config::default()
        .stream_window_bytes(WINDOW_BYTES_OF_H2)
        .connection_window_bytes(WINDOW_BYTES_OF_H2);
    let succeeded = succeeded(small).await;
    assert!(succeeded < PUTS, "the test above does not test what it says");
}

#[tokio::test]
async fn answers_that_come_after_a_stall_do_not_cost_the_connection() {
    // How long the stall may be is another matter.
    let (client, theirs) = pipe(Config::default().ping_timeout(Duration::from_secs(3600))).await;
    let (near, far) = tokio::io::duplex(1 << 20);
    let (mut read, mut write) = tokio::io::split(theirs);
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let (open, mut gate) = tokio::sync::watch::channel(true);
    tokio::spawn(async move { tokio::io::copy(&mut read, &mut far_write).await });
    tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = far_read.read(&mut buffer).await {
            let opened = gate.wait_for(|open| *open).await.is_ok();
            if !opened || write.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    });
    serve(
        h2::server::handshake(near).await.unwrap(),
        |(_request, mut respond)| async move {
            // The stream may be reset by now, and then nobody is to be told.
            if let Ok(mut stream) = respond.send_response(head(), false) {
                let _ = stream.send_data(frame(&PutResponse::default()), false);
                let _ = stream.send_trailers(trailers("0"));
            }
        },
    );
    client.put("key", "value").await.unwrap();
    for _ in 0..3 {
        open.send(false).unwrap();
        let late = (0..500).map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.put("key", "value").timeout(Duration::from_millis(100)).await })
        });
        for late in late.collect::<Vec<_>>() {
            let _ = late.await.unwrap();
        }
        // h2 forgets the resets older than a second when the next stream is reset.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let _ = client.put("key", "value").timeout(Duration::from_millis(10)).await;
        open.send(true).unwrap();
        client.put("key", "value").timeout(PATIENCE).await.expect("the connection lives");
    }
}
