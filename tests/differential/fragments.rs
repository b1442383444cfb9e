//! What a watch is sent that is too large for one message: in pieces where it
//! asked for fragments, else whole. Both servers cut at the same events.

use bytes::Bytes;
use prost::Message;
use tenure::core::jitter::Jitter;
use tenure::pb::etcdserverpb::watch_request::RequestUnion;
use tenure::pb::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use tenure_etcd::{Binary, Cluster, Options};
use tenure_testserver::Server;

use crate::caller::Caller;
use crate::requests::Request;

const PUTS: usize = 16;

#[tokio::test]
async fn large_answers_are_cut_alike() {
    let binary = Binary::find().expect("an etcd");
    let etcd = Cluster::start(&binary, 1, Options::default()).expect("an etcd that starts");
    let server = Server::start().await.expect("a free port");
    let real = pieces(&etcd.endpoints()[0]).await;
    let embedded = pieces(server.endpoint()).await;
    assert_eq!(embedded, real);
    assert!(
        real.iter().filter(|(_, is_fragment)| *is_fragment).count() > 2,
        "{real:?}"
    );
}

/// The revisions of each message and whether more follow, of a watch with fragments and one without.
async fn pieces(endpoint: &str) -> Vec<(Vec<i64>, bool)> {
    let caller = Caller::connect(endpoint).await;
    let mut chance = Jitter::new(1);
    for _ in 0..PUTS {
        // Small ones, and some of which two are too large for one message.
        let length = chance.next_u64()
            % if chance.next_u64() % 2 == 0 {
                1_400_000
            } else {
                100_000
            };
        let put = PutRequest {
            key: "k".into(),
            value: Bytes::from(vec![b'x'; length as usize]),
            ..PutRequest::default()
        };
        let (path, body) = Request::Put(put).encoded();
        caller.call(path, &body).await.expect("a put");
    }
    let mut pieces = Vec::new();
    for fragment in [true, false] {
        let create = WatchCreateRequest {
            key: "k".into(),
            start_revision: 1,
            fragment,
            ..WatchCreateRequest::default()
        };
        let mut call = caller.open("/etcdserverpb.Watch/Watch").await;
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        call.send(&request.encode_to_vec());
        let mut seen = 0;
        while seen < PUTS {
            let message = call.next().await.expect("a message");
            let response = WatchResponse::decode(message).expect("an answer");
            let revisions = response.events.iter().filter_map(|event| Some(event.kv.as_ref()?.mod_revision));
            let revisions: Vec<i64> = revisions.collect();
            seen += revisions.len();
            if !response.created {
                pieces.push((revisions, response.fragment));
            }
        }
    }
    pieces
}
