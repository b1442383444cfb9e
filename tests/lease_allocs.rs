//! What a renewal allocates, exactly, once the storage has grown: of ours nothing,
//! neither the machine nor the message nor its answer. What HTTP/2 allocates to read
//! and write is bounded for the whole client, with a thousand leases on a server.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use prost::Message;
use tenure::core::lease::{Action, Leases};
use tenure::core::time::Instant;
use tenure::pb::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, ResponseHeader};
use tenure::wire::{Decoder, decode, encode};
use tenure::{Client, LeaseId};
use tenure_testserver::Server;
use tokio::runtime::Builder;

const LEASES: i64 = 1_000;
const TTL: Duration = Duration::from_secs(30);
/// Renewed often, and long enough for a busy machine.
const SHORT: Duration = Duration::from_secs(6);

/// Drives the machine until it has renewed so often; when that was.
fn renew(leases: &mut Leases, mut now: Instant, renewals: usize) -> Instant {
    let mut renewed = 0;
    while renewed < renewals {
        now = leases.poll_timeout().expect("leases are kept");
        leases.handle_timeout(now);
        while let Some(action) = leases.poll_action() {
            match action {
                Action::Open(stream) => leases.handle_opened(now, stream),
                Action::Renew(stream, id) => {
                    leases.handle_sent(now, stream);
                    leases.handle_reply(now, stream, id, TTL.as_secs() as i64);
                    renewed += 1;
                }
                Action::Extend(..) => {}
                Action::Close(_) | Action::End(..) => panic!("{action:?}"),
            }
        }
    }
    now
}

#[test]
fn the_machine_renews_without_an_allocation() {
    let mut leases = Leases::new(1);
    (1..=LEASES).for_each(|id| leases.handle_kept(Instant(0), LeaseId(id), Instant(0), TTL));
    let mut now = renew(&mut leases, Instant(0), 5_000);
    let cost = measure(|| now = renew(&mut leases, now, 20_000));
    assert_eq!(cost.count_total, 0, "{cost:?}");
    assert!(now > Instant(0) + TTL);
}

#[test]
fn a_renewal_and_its_answer_are_encoded_and_decoded_without_an_allocation() {
    let renewal = LeaseKeepAliveRequest { id: i64::MAX };
    let cost = measure(|| drop(black_box(encode(&renewal, 1024).expect("a small message"))));
    assert_eq!(cost.count_total, 0, "{cost:?}");

    let header = ResponseHeader {
        cluster_id: u64::MAX,
        member_id: u64::MAX,
        revision: i64::MAX,
        raft_term: u64::MAX,
    };
    let answer = LeaseKeepAliveResponse {
        header: Some(header),
        id: i64::MAX,
        ttl: 30,
    };
    let message = answer.encode_to_vec();
    let mut frame = vec![0, 0, 0, 0, message.len() as u8];
    frame.extend(&message);
    let (mut decoder, chunk) = (Decoder::new(1024), Bytes::from_owner(frame));
    let mut decoded = None;
    let cost = measure(|| {
        decoder.push(chunk);
        let message = decoder.next().expect("a good frame").expect("a whole one");
        decoded = Some(decode::<LeaseKeepAliveResponse>(message).expect("an answer"));
    });
    assert_eq!(decoded, Some(answer));
    assert_eq!(cost.count_total, 0, "{cost:?}");
}

/// The client has this thread for itself, and the server another one.
#[test]
fn a_client_of_a_thousand_leases_allocates_for_one_in_ten_renewals_at_most() {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let server = Server::start().await.unwrap();
            tell.send(server.endpoint().to_owned()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let endpoint = told.recv().unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut leases = Vec::new();
    runtime.block_on(async {
        let client = Client::connect([&endpoint]).await.unwrap();
        for _ in 0..LEASES {
            leases.push(client.lease(SHORT).await.unwrap());
        }
        tokio::time::sleep(SHORT).await;
    });
    let cost = measure(|| runtime.block_on(async { tokio::time::sleep(SHORT).await }));
    assert!(leases.iter().all(|lease| lease.is_valid()));
    // Each is renewed at least every third of its TTL.
    let renewals = LEASES as u64 * 3;
    println!(
        "{} allocations for at least {renewals} renewals",
        cost.count_total
    );
    // A buffer for many frames at a time: some forty.
    assert!(cost.count_total <= renewals / 10, "{cost:?}");
    let grown = cost.count_current;
    assert!(grown.abs() < 100, "{grown} allocations stay");
}
