//! Ranges of any size, at one revision.

use tenure::{Client, EtcdError, KeyRange, Op, RangeStream};

use crate::support::{OwnServer, client, run};

const KEYS: usize = 1200;
/// The server takes 128 operations in a transaction.
const AT_ONCE: usize = 100;

async fn fill(client: &Client, prefix: &str) {
    for first in (0..KEYS).step_by(AT_ONCE) {
        let txn = (first..first + AT_ONCE).fold(client.txn(), |txn, key| {
            txn.then(Op::put(format!("{prefix}{key:05}"), format!("value {key}")))
        });
        txn.await.expect("keys");
    }
}

async fn rest(stream: &mut RangeStream) -> Vec<String> {
    let mut keys = Vec::new();
    while let Some(kvs) = stream.next().await.expect("a piece") {
        assert!(!kvs.is_empty());
        keys.extend(kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()));
    }
    keys
}

#[test]
fn a_long_range_is_read_at_one_revision() {
    run(async {
        let client = client().await;
        fill(&client, "stream/long/").await;
        let expected: Vec<String> = (0..KEYS).map(|key| format!("stream/long/{key:05}")).collect();
        for page in [7, 500, 5000] {
            let mut stream = client.range_stream(KeyRange::prefix("stream/long/")).page_size(page);
            let first = stream.next().await.unwrap().expect("keys");
            assert!(first.len() <= page as usize);
            let revision = stream.revision();
            // What changes from now on is not seen.
            let behind = format!("stream/long/{KEYS:05}");
            client.put(behind.clone(), "late").await.unwrap();
            client.put("stream/long/01199", "late").await.unwrap();
            let mut keys: Vec<String> =
                first.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect();
            keys.extend(rest(&mut stream).await);
            assert_eq!(keys, expected, "pages of {page}");
            assert_eq!(stream.revision(), revision);
            assert_eq!(stream.next().await.unwrap(), None, "the end stays the end");
            client.delete(behind).await.unwrap();
        }
    });
}

#[test]
fn a_range_of_one_key_or_none_ends_at_once() {
    run(async {
        let client = client().await;
        client.put("stream/one", "value").await.unwrap();
        let mut one = client.range_stream("stream/one").keys_only();
        let kvs = one.next().await.unwrap().expect("a key");
        assert_eq!((kvs.len(), &kvs[0].value[..]), (1, &b""[..]));
        assert_eq!(one.next().await.unwrap(), None);
        let mut none = client.range_stream(KeyRange::prefix("stream/none/"));
        assert_eq!(none.next().await.unwrap(), None);
        assert_ne!(none.revision(), tenure::Revision::ZERO);
    });
}

#[test]
fn a_revision_that_is_compacted_is_reported() {
    let server = OwnServer::start();
    run(async {
        let client = Client::connect(server.endpoints()).await.unwrap();
        let old = client.put("stream/old", "old").await.unwrap().revision();
        let new = client.put("stream/old", "new").await.unwrap().revision();
        let mut at_old = client.range_stream("stream/old").at_revision(old);
        assert_eq!(at_old.next().await.unwrap().unwrap()[0].value, "old");
        client.compact(new).await.unwrap();
        let mut at_old = client.range_stream("stream/old").at_revision(old);
        assert_eq!(
            at_old.next().await.unwrap_err().etcd(),
            Some(EtcdError::Compacted)
        );
    });
}
