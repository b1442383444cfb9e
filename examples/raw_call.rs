//! Fuzzes etcd's Range for a second with requests that were damaged on purpose, and
//! says what it made of them. It has to go on serving.
//!
//! Runs on the etcd of `ETCD_ENDPOINTS` (comma-separated), or on one in memory in
//! this process:
//!
//! ```text
//! cargo run --features unstable --example raw_call
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use prost::Message;
use tenure::pb::etcdserverpb::RangeRequest;
use tenure::{Client, Code};
use tenure_testserver::Server;

const TIME: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(2);
const KEY: &str = "raw_call/key";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (endpoints, _server): (Vec<String>, _) = match std::env::var("ETCD_ENDPOINTS") {
        Ok(endpoints) => (endpoints.split(',').map(str::to_owned).collect(), None),
        Err(_) => {
            let server = Server::start().await?;
            (vec![server.endpoint().to_owned()], Some(server))
        }
    };
    let client = Client::connect(endpoints).await?;
    client.put(KEY, "value").await?;

    let sound = RangeRequest {
        key: KEY.into(),
        limit: 10,
        ..RangeRequest::default()
    }
    .encode_to_vec();
    let mut chance = Chance(1);
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    let begun = Instant::now();
    let mut calls = 0;
    while begun.elapsed() < TIME {
        let damaged = chance.damage(sound.clone());
        let answer = client.raw("/etcdserverpb.KV/Range").message(damaged).timeout(TIMEOUT).send().await;
        let end = match answer.end {
            Ok(()) => "answered".to_owned(),
            Err(error) if error.code() == Code::DeadlineExceeded => return Err(error.into()),
            Err(error) => error.code().to_string(),
        };
        *ends.entry(end).or_default() += 1;
        calls += 1;
    }

    println!("{calls} damaged requests:");
    for (end, count) in ends {
        println!("{count:>8}  {end}");
    }
    assert_eq!(client.get(KEY).await?.kvs.len(), 1, "the server lost the key");
    println!("and the server still serves");
    Ok(())
}

/// Numbers that look like chance and are the same each time (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound.max(1) as u64).unwrap_or(0)
    }

    /// Turns bits, cuts, repeats, and puts in bytes.
    fn damage(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 => bytes.truncate(at),
                2 => bytes.extend_from_within(at..),
                _ => bytes.insert(at, self.below(256).to_le_bytes()[0]),
            }
        }
        bytes
    }
}
