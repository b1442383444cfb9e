//! Snapshots from a peer that sends something else than one.

use std::time::Duration;

use bytes::Bytes;
use h2::server::Builder;
use tenure::client::SnapshotSummary;
use tenure::pb::etcdserverpb::SnapshotResponse;
use tenure::{Client, Code, Config, Error, Origin};

use crate::peer::{frame, head, patiently, serve, server, trailers};

/// SHA-256 of 512 zero bytes.
const OF_ZEROES: [u8; 32] = [
    0x07, 0x6a, 0x27, 0xc7, 0x9e, 0x5a, 0xce, 0x2a, 0x3d, 0x47, 0xf9, 0xdd, 0x2e, 0x83, 0xe4, 0xff, 0x6e,
    0xa8, 0x87, 0x2b, 0x3c, 0x22, 0x18, 0xf6, 0x6c, 0x92, 0xb8, 0x9b, 0x55, 0xf3, 0x65, 0x60,
];

/// What the peer does after the pieces.
#[derive(Clone, Copy)]
enum Then {
    Ends(&'static str),
    Says(&'static [u8], u64),
    Nothing,
}

/// A client of a peer that answers a snapshot with these pieces, each with what remains.
async fn sending(pieces: Vec<(Vec<u8>, u64)>, then: Then) -> Client {
    let (client, server) = server(Config::default(), &Builder::new()).await;
    serve(server, move |(_request, mut respond)| {
        let pieces = pieces.clone();
        async move {
            let mut stream = respond.send_response(head(), false).unwrap();
            let piece = |blob: Vec<u8>, remaining_bytes| SnapshotResponse {
                blob: blob.into(),
                remaining_bytes,
                ..SnapshotResponse::default()
            };
            for (blob, remaining) in pieces {
                let _ = stream.send_data(frame(&piece(blob, remaining)), false);
            }
            match then {
                Then::Ends(status) => drop(stream.send_trailers(trailers(status))),
                Then::Says(blob, remaining) => loop {
                    let again = frame(&piece(blob.to_vec(), remaining));
                    if stream.send_data(again, false).is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                },
                Then::Nothing => std::future::pending().await,
            }
        }
    });
    client
}

async fn taken(client: &Client) -> (Vec<u8>, Result<SnapshotSummary, Error>) {
    let member = client.maintenance(&client.endpoints().list()[0]).expect("the one endpoint");
    let mut file = Vec::new();
    let snapshot = member.snapshot().silence(Duration::from_secs(3)).write_to(&mut file);
    let summary = patiently("an end", snapshot).await;
    (file, summary)
}

#[tokio::test]
async fn a_database_and_its_checksum_are_a_snapshot() {
    let client = sending(vec![(vec![0; 512], 0), (OF_ZEROES.to_vec(), 0)], Then::Ends("0")).await;
    let (file, summary) = taken(&client).await;
    let summary = summary.unwrap();
    assert_eq!(
        (summary.bytes, summary.sha256, summary.version),
        (544, OF_ZEROES, None)
    );
    assert_eq!(file, [&[0; 512][..], &OF_ZEROES].concat());
}

#[tokio::test]
async fn what_has_the_wrong_checksum_or_none_is_data_loss_and_no_file_to_restore() {
    let mut wrong = OF_ZEROES.to_vec();
    wrong[0] ^= 1;
    for pieces in [
        vec![(vec![0; 512], 0), (wrong, 0)],
        vec![(vec![1; 512], 0), (OF_ZEROES.to_vec(), 0)],
        vec![(vec![0; 512], 0)],
        vec![(vec![0; 100], 0), (OF_ZEROES.to_vec(), 0)],
        vec![(OF_ZEROES.to_vec(), 0)],
        vec![],
    ] {
        let client = sending(pieces, Then::Ends("0")).await;
        let (file, summary) = taken(&client).await;
        let error = summary.unwrap_err();
        assert_eq!(
            (error.code(), error.origin()),
            (Code::DataLoss, Origin::Transport),
            "{error}"
        );
        assert!(error.method().is_some() && error.endpoint().is_some(), "{error}");
        assert_ne!(file.len() % 512, 32, "etcd would restore it");
    }
}

#[tokio::test]
async fn a_snapshot_that_breaks_off_says_why() {
    let client = sending(vec![(vec![0; 4096], 4096)], Then::Ends("14")).await;
    let (file, summary) = taken(&client).await;
    assert_eq!(summary.unwrap_err().code(), Code::Unavailable);
    assert_eq!(file.len(), 4096 - 32);
}

#[tokio::test]
async fn a_peer_that_falls_silent_or_sends_nothing_for_ever_is_given_up() {
    let client = sending(vec![(vec![0; 4096], 4096)], Then::Nothing).await;
    assert_eq!(taken(&client).await.1.unwrap_err().code(), Code::DeadlineExceeded);
    for remaining in [0, 1 << 20] {
        let client = sending(vec![(vec![0; 512], 1 << 20)], Then::Says(&[], remaining)).await;
        assert_eq!(taken(&client).await.1.unwrap_err().code(), Code::DataLoss);
    }
}

#[tokio::test]
async fn a_peer_that_promises_too_much_breaks_nothing() {
    let client = sending(
        vec![(vec![0; 512], u64::MAX), (OF_ZEROES.to_vec(), u64::MAX)],
        Then::Ends("0"),
    )
    .await;
    assert_eq!(taken(&client).await.1.unwrap().bytes, 544);
    let garbage = Bytes::from_static(b"\0\0\0\0\x03\x1a\x7fa");
    let (client, server) = server(Config::default(), &Builder::new()).await;
    serve(server, move |(_request, mut respond)| {
        let garbage = garbage.clone();
        async move {
            let mut stream = respond.send_response(head(), false).unwrap();
            stream.send_data(garbage, false).unwrap();
            stream.send_trailers(trailers("0")).unwrap();
        }
    });
    assert_eq!(taken(&client).await.1.unwrap_err().code(), Code::Internal);
}
