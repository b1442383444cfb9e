//! What the wire layer allocates, counted.

use std::hint::black_box;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use bytes::{Bytes, BytesMut};
use tenure::pb::etcdserverpb::{PutRequest, PutResponse};
use tenure::wire::{Decoder, HEADER_BYTES, Metadata, Token, decode, encode, method};

const LIMIT: usize = 1 << 20;

/// Allocations, and how many bytes they had together.
fn cost(run: impl FnOnce()) -> (u64, u64) {
    let AllocationInfo {
        count_total,
        bytes_total,
        ..
    } = measure(run);
    (count_total, bytes_total)
}

/// A chunk as h2 hands it out: a piece of a larger buffer that is shared.
fn received(body: &[u8]) -> Bytes {
    let mut buffer = BytesMut::from(&[b"what came before", body, b"what comes after"].concat()[..]);
    let _before = buffer.split_to(16);
    buffer.split_to(body.len()).freeze()
}

#[test]
fn encoding_is_one_allocation_of_its_size_and_two_counters() {
    let put = PutRequest {
        key: Bytes::from_static(b"the key"),
        value: Bytes::from_static(&[7; 40]),
        ..PutRequest::default()
    };
    let size = 2 * size_of::<usize>() + HEADER_BYTES + prost::Message::encoded_len(&put);
    let counted = cost(|| {
        black_box(encode(&put, LIMIT)).expect("a small message");
    });
    assert_eq!(counted, (1, size as u64));
}

#[test]
fn a_message_in_one_chunk_is_cut_and_decoded_without_allocation() {
    let header = PutResponse {
        header: Some(Default::default()),
        prev_kv: None,
    };
    let body = encode(&header, LIMIT).expect("a small message");
    let chunks: Vec<Bytes> = (0..100).map(|_| received(&[&*body, &*body].concat())).collect();
    let mut decoder = Decoder::new(LIMIT);
    let counted = cost(|| {
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(message) = decoder.next().expect("sound frames") {
                black_box(decode::<PutResponse>(message)).expect("a message");
            }
        }
    });
    assert_eq!(counted, (0, 0));
}

#[test]
fn a_claimed_length_allocates_nothing() {
    let mut decoder = Decoder::new(usize::MAX);
    let chunk = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1]);
    let (count, bytes) = cost(|| {
        decoder.push(chunk);
        assert_eq!(decoder.next().expect("a beginning"), None);
    });
    assert!(count <= 1 && bytes <= 16, "{count} allocations, {bytes} bytes");
}

#[test]
fn a_length_over_the_limit_allocates_nothing_but_its_message() {
    let mut decoder = Decoder::new(LIMIT);
    let chunk = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1]);
    let (_, bytes) = cost(|| {
        decoder.push(chunk);
        decoder.next().expect_err("over the limit");
    });
    assert!(bytes < 512, "{bytes} bytes");
}

#[test]
fn headers_cost_a_map_and_a_timeout() {
    let metadata = Metadata::new();
    let headers = |timeout: Option<Duration>, token: Option<&Token>| {
        cost(|| {
            black_box(metadata.headers(timeout, token));
        })
    };
    let timeout = Some(Duration::from_secs(5));
    assert_eq!(headers(None, None).0, 2);
    assert_eq!(headers(timeout, None).0, 3);
    assert!(headers(timeout, None).1 <= 700, "{:?}", headers(timeout, None));

    let token = Token::new("token.17".to_owned()).expect("a token");
    let token = Some(&token);
    assert_eq!(headers(None, token).0, 2);
    assert_eq!(headers(timeout, token).0, 3);
    assert!(headers(timeout, token).1 <= 1400, "{:?}", headers(timeout, token));
}

#[test]
fn a_path_allocates_nothing() {
    assert_eq!(cost(|| drop(black_box(method::kv::PUT.path_and_query()))), (0, 0));
}
