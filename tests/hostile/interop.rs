//! The eight negative HTTP/2 cases of gRPC's interoperability tests, by their names
//! there, with a put and its previous value in place of the large unary call.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message;
use tenure::pb::etcdserverpb::PutResponse;
use tenure::pb::mvccpb::KeyValue;
use tenure::{Client, Code, Config, Error};

use crate::bounds;
use crate::frames::*;
use crate::peer::{self, Frame, Seen, Wire};

const REQUEST_BYTES: usize = 271_828;
const ANSWER_BYTES: usize = 314_159;
const PATIENCE: Duration = Duration::from_secs(60);
/// What the peer lets the client send ahead.
const WINDOW_BYTES: u32 = 1 << 20;

/// What came of the calls, and what the peer saw.
type Outcome = (Vec<Result<usize, Error>>, Arc<Mutex<Seen>>);

/// Makes one large call, then `others` at once, to a peer that runs `script`.
fn play<F>(name: &str, others: usize, script: impl Fn(Wire, usize) -> F + Send + 'static) -> Outcome
where
    F: Future<Output = ()> + 'static,
{
    let scenario = async move || {
        let (pipes, seen, peer) = peer::spawn(script);
        let config = Config::new().call_timeout(PATIENCE);
        let client = Client::connect_over(pipes.dial(), ["http://interop"], config).await.unwrap();
        let mut ends = vec![large_unary(client.clone()).await];
        let calls: Vec<_> = (0..others).map(|_| tokio::spawn(large_unary(client.clone()))).collect();
        for call in calls {
            ends.push(call.await.unwrap());
        }
        (ends, seen, peer)
    };
    let ((ends, seen, peer), peak) = bounds::hold(name, scenario).unwrap();
    println!("{peak:>9} B  interop {name}");
    peer.join().expect("the script's own assertions");
    (ends, seen)
}

/// The size of the value that it is answered with.
async fn large_unary(client: Client) -> Result<usize, Error> {
    let answer = client.put("key", vec![0; REQUEST_BYTES]).prev_kv().await?;
    Ok(answer.prev_kv.map_or(0, |kv| kv.value.len()))
}

fn large_answer() -> Vec<u8> {
    let kv = KeyValue {
        value: vec![0; ANSWER_BYTES].into(),
        ..KeyValue::default()
    };
    let answer = PutResponse {
        prev_kv: Some(kv),
        ..PutResponse::default()
    };
    message(&answer.encode_to_vec())
}

fn end(stream: u32) -> Vec<u8> {
    headers(stream, END_STREAM, &trailers("0"))
}

fn open(stream: u32) -> Vec<u8> {
    headers(stream, 0, &head())
}

async fn greet(wire: &mut Wire) {
    wire.write(&settings(&[(4, WINDOW_BYTES)])).await;
    wire.write(&window_update(0, WINDOW_BYTES * 32)).await;
}

/// Answers every request so.
async fn answer_all(mut wire: Wire, bytes: impl Fn(u32) -> Vec<u8>) {
    greet(&mut wire).await;
    while let Some(stream) = wire.request().await {
        wire.write(&bytes(stream)).await;
    }
}

fn whole(stream: u32) -> Vec<u8> {
    [open(stream), body(stream, &large_answer()), end(stream)].concat()
}

#[test]
fn goaway() {
    let (ends, seen) = play("goaway", 1, |wire, _| {
        answer_all(wire, |stream| [go_away(stream, NO_ERROR), whole(stream)].concat())
    });
    assert!(
        ends.iter().all(|end| *end.as_ref().unwrap() == ANSWER_BYTES),
        "{ends:?}"
    );
    // The last one went away as well: another is dialled, if there is time for it.
    let connections = seen.lock().unwrap().connections;
    assert!((2..=3).contains(&connections), "{connections}");
}

/// A reset with the code 0 is none of success.
fn reset_after(name: &str, part: fn(u32) -> Vec<u8>) {
    let (ends, _) = play(name, 0, move |wire, _| {
        answer_all(wire, move |stream| {
            [open(stream), part(stream), rst(stream, NO_ERROR)].concat()
        })
    });
    let error = ends[0].as_ref().unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error}");
    assert!(error.may_be_applied());
}

#[test]
fn rst_after_header() {
    reset_after("rst_after_header", |_| Vec::new());
}

#[test]
fn rst_during_data() {
    reset_after("rst_during_data", |stream| {
        body(stream, &large_answer()[..ANSWER_BYTES / 2])
    });
}

#[test]
fn rst_after_data() {
    reset_after("rst_after_data", |stream| body(stream, &large_answer()));
}

#[test]
fn ping() {
    const PINGS: usize = 4;
    let (ends, seen) = play("ping", 0, |mut wire, _| async move {
        greet(&mut wire).await;
        let Some(stream) = wire.request().await else {
            return;
        };
        let ping = || crate::frames::ping(0, *b"liveness");
        let parts = [
            ping(),
            open(stream),
            ping(),
            ping(),
            body(stream, &large_answer()),
            ping(),
            end(stream),
        ];
        wire.write(&parts.concat()).await;
        while wire.frame().await.is_some() {}
    });
    assert_eq!(*ends[0].as_ref().unwrap(), ANSWER_BYTES);
    assert_eq!(seen.lock().unwrap().pongs, PINGS);
}

#[test]
fn max_streams() {
    const CALLS: usize = 10;
    let (ends, seen) = play("max_streams", CALLS, |mut wire, _| async move {
        greet(&mut wire).await;
        wire.write(&settings(&[(3, 1)])).await;
        let (mut open, mut is_first) = (0, true);
        while let Some(frame) = wire.frame().await {
            open += usize::from(frame.kind == HEADERS);
            // The first may have been on its way before the setting.
            let at_once = if is_first { 0 } else { open };
            let most = wire.seen.lock().unwrap().at_once.max(at_once);
            wire.seen.lock().unwrap().at_once = most;
            if frame.flags & END_STREAM != 0 && matches!(frame.kind, DATA | HEADERS) {
                wire.write(&whole(frame.stream)).await;
                (open, is_first) = (open - 1, false);
            }
        }
    });
    assert_eq!(ends.len(), CALLS + 1);
    assert!(
        ends.iter().all(|end| *end.as_ref().unwrap() == ANSWER_BYTES),
        "{ends:?}"
    );
    assert_eq!(seen.lock().unwrap().at_once, 1);
}

/// What the client lets the peer send.
struct Windows {
    stream: i64,
    connection: i64,
}

impl Windows {
    fn new() -> Windows {
        Windows {
            stream: 65_535,
            connection: 65_535,
        }
    }

    fn heed(&mut self, frame: &Frame) {
        let number = |bytes: &[u8]| i64::from(u32::from_be_bytes(bytes.try_into().unwrap()));
        match frame.kind {
            WINDOW_UPDATE if frame.stream == 0 => self.connection += number(&frame.payload),
            WINDOW_UPDATE => self.stream += number(&frame.payload),
            SETTINGS => {
                for setting in frame.payload.chunks_exact(6).filter(|setting| setting[..2] == [0, 4]) {
                    self.stream = number(&setting[2..]);
                }
            }
            _ => {}
        }
    }
}

/// Answers in frames of five bytes each, with so much padding, within the windows.
async fn answer_in_fives(mut wire: Wire, padding: Option<u8>) {
    greet(&mut wire).await;
    let mut windows = Windows::new();
    let stream = loop {
        let Some(frame) = wire.frame().await else { return };
        windows.heed(&frame);
        if frame.kind == DATA && frame.flags & END_STREAM != 0 {
            break frame.stream;
        }
    };
    wire.write(&open(stream)).await;
    for five in large_answer().chunks(5) {
        let payload = match padding {
            Some(padding) => [&[padding], five, &vec![0; padding.into()]].concat(),
            None => five.to_vec(),
        };
        let cost = i64::try_from(payload.len()).unwrap();
        while windows.stream.min(windows.connection) < cost {
            let Some(frame) = wire.frame().await else { return };
            windows.heed(&frame);
        }
        (windows.stream, windows.connection) = (windows.stream - cost, windows.connection - cost);
        let flags = if padding.is_some() { PADDED } else { 0 };
        wire.write(&data(stream, flags, &payload)).await;
    }
    wire.write(&end(stream)).await;
    while wire.frame().await.is_some() {}
}

#[test]
fn data_frame_padding() {
    let (ends, _) = play("data_frame_padding", 0, |wire, _| {
        answer_in_fives(wire, Some(255))
    });
    assert_eq!(*ends[0].as_ref().unwrap(), ANSWER_BYTES);
}

#[test]
fn no_df_padding_sanity_test() {
    let (ends, _) = play("no_df_padding_sanity_test", 0, |wire, _| {
        answer_in_fives(wire, None)
    });
    assert_eq!(*ends[0].as_ref().unwrap(), ANSWER_BYTES);
}
