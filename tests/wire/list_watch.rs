//! A list and the watch behind it against a scripted server: which requests it costs.

use std::sync::{Arc, Mutex};

use tenure::pb::etcdserverpb::watch_request::RequestUnion;
use tenure::pb::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader, WatchRequest, WatchResponse};
use tenure::pb::mvccpb::KeyValue;
use tenure::{Client, Config, Event, KeyRange, ListWatch, Update};

use crate::peer::{Asked, Requests, answer, frame, head, patiently, serve, server};

const LISTED: i64 = 10;
const COMPACTED: i64 = 40;

/// What was asked for, in order.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, entry: String) {
        self.0.lock().unwrap().push(entry);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

/// A key of the first list, which the second one lacks, and one that both have.
fn page(request: &RangeRequest, lists: usize) -> RangeResponse {
    let kv = |key: &'static str| KeyValue {
        key: key.into(),
        mod_revision: 5,
        ..KeyValue::default()
    };
    let kvs = match (lists, request.revision) {
        (1, 0) => vec![kv("key/gone")],
        (_, 0) => vec![kv("key/kept")],
        _ => vec![kv("key/kept")],
    };
    RangeResponse {
        header: header(if lists == 1 { LISTED } else { COMPACTED + 10 }),
        kvs,
        more: lists == 1 && request.revision == 0,
        ..RangeResponse::default()
    }
}

/// A server whose watches up to a revision end compacted, all the same whether as a
/// refusal or a little later.
async fn compacting(log: Log, refuses: bool) -> Client {
    let (client, server) = server(Config::default(), &h2::server::Builder::new()).await;
    let lists = Arc::new(Mutex::new(0));
    serve(server, move |(request, mut respond): Asked| {
        let (log, lists) = (log.clone(), Arc::clone(&lists));
        async move {
            let is_watch = request.uri().path() == "/etcdserverpb.Watch/Watch";
            let mut requests = Requests::new(request.into_body());
            if !is_watch {
                let range: RangeRequest = requests.next().await.unwrap();
                log.push(format!("read {} at {}", range.key.escape_ascii(), range.revision));
                let mut lists = lists.lock().unwrap();
                *lists += usize::from(range.revision == 0);
                return answer(&mut respond, &page(&range, *lists));
            }
            let mut responses = respond.send_response(head(), false).unwrap();
            let mut id = 0;
            while let Some(request) = requests.next::<WatchRequest>().await {
                let Some(RequestUnion::CreateRequest(create)) = request.request_union else {
                    continue;
                };
                log.push(format!("watch from {}", create.start_revision));
                for response in answers(create.start_revision, refuses, id) {
                    responses.send_data(frame(&response), false).unwrap();
                }
                id += 1;
            }
        }
    });
    client
}

fn answers(start: i64, refuses: bool, id: i64) -> Vec<WatchResponse> {
    let created = WatchResponse {
        header: header(50),
        watch_id: id,
        created: true,
        ..WatchResponse::default()
    };
    let compacted = WatchResponse {
        canceled: true,
        compact_revision: COMPACTED,
        created: refuses,
        watch_id: if refuses { -1 } else { id },
        ..created.clone()
    };
    match (start <= COMPACTED, refuses) {
        (true, true) => vec![compacted],
        (true, false) => vec![created, compacted],
        (false, _) => vec![created],
    }
}

async fn next(list_watch: &mut ListWatch) -> Update {
    patiently("an update", list_watch.next()).await.unwrap()
}

fn keys(update: &Update) -> Vec<(bool, &[u8])> {
    let Update::Listed(events) = update else {
        panic!("{update:?}");
    };
    let told = events.iter();
    told.map(|event| (matches!(event, Event::Put { .. }), &event.kv().key[..])).collect()
}

#[tokio::test]
async fn a_compaction_costs_one_list_and_one_watch_and_tells_what_is_gone() {
    for refuses in [false, true] {
        let log = Log::default();
        let client = compacting(log.clone(), refuses).await;
        let mut list_watch = client.list_watch(KeyRange::prefix("key/")).page_size(1);
        assert_eq!(keys(&next(&mut list_watch).await), [(true, &b"key/gone"[..])]);
        assert_eq!(keys(&next(&mut list_watch).await), [(true, &b"key/kept"[..])]);
        assert!(matches!(next(&mut list_watch).await, Update::Synced { revision } if revision.0 == LISTED));
        assert_eq!(next(&mut list_watch).await, Update::Relisting);
        assert_eq!(keys(&next(&mut list_watch).await), [(false, &b"key/gone"[..])]);
        assert!(matches!(next(&mut list_watch).await, Update::Synced { revision } if revision.0 == 50));
        // Whatever else it would ask for, it has time to.
        let more = tokio::time::timeout(std::time::Duration::from_millis(300), list_watch.next());
        assert!(more.await.is_err(), "there is nothing to tell");
        let expected = [
            "read key/ at 0",
            "read key/gone\\x00 at 10",
            "watch from 11",
            "read key/ at 0",
            "watch from 51",
        ];
        assert_eq!(log.take(), expected, "refuses: {refuses}");
    }
}
