//! tenure under measurement, with its defaults.

use std::time::Duration;

use bytes::Bytes;
use tenure::{Client, Error, KeyRange, Revision, Watch};
use tenure_bench_worker::{Events, Key, Outcome, Peer};

#[derive(Clone, Debug)]
pub(crate) struct Tenure(Client);

#[derive(Debug)]
pub(crate) struct Stream(Watch);

impl Peer for Tenure {
    type Events = Stream;

    async fn connect(endpoints: &[String]) -> Result<Tenure, String> {
        let client = Client::connect(endpoints).await;
        client.map(Tenure).map_err(|error| error.to_string())
    }

    async fn put(&self, key: Key, value: &'static [u8], deadline: Duration) -> Outcome {
        let value = Bytes::from_static(value);
        outcome(self.0.put(shared(key), value).timeout(deadline).await)
    }

    async fn get(&self, key: Key, deadline: Duration) -> Outcome {
        outcome(self.0.get(shared(key)).timeout(deadline).await)
    }

    async fn watch(&self, prefix: &str, from: i64) -> Result<Stream, String> {
        let keys = KeyRange::prefix(prefix.to_owned());
        let watch = self.0.watch(keys).start_revision(Revision(from)).await;
        watch.map(Stream).map_err(|error| error.to_string())
    }
}

impl Events for Stream {
    async fn next(&mut self) -> Result<u64, String> {
        let batch = self.0.next().await.map_err(|end| end.to_string())?;
        Ok(batch.events.len() as u64)
    }
}

fn shared(key: Key) -> Bytes {
    match key {
        Key::Borrowed(key) => Bytes::from_static(key),
        Key::Owned(key) => Bytes::from(key),
    }
}

fn outcome<T>(answer: Result<T, Error>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Answered,
        Err(error) if error.may_be_applied() => Outcome::Unknown,
        Err(_) => Outcome::Refused,
    }
}
