//! What goes wrong with a call, and what is known then: a member that stands still, an answer that is lost,
//! a deadline. What is safe is sent again by itself; the rest is the caller's to judge.
//!
//! Runs on two members in memory in this process, since they have to fail.

use std::error::Error;
use std::time::Duration;

use tenure::{Client, Delivery, KeyRange};
use tenure_testserver::{Fault, Link, Server};

type Failure = Box<dyn Error + Send + Sync>;

const PUT: &str = "/etcdserverpb.KV/Put";
const KEY: &str = "failover-example/key";
const UNAVAILABLE: u16 = 14;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let leader = Server::start().await?;
    let follower = leader.add_follower().await?;
    let client = Client::connect([leader.endpoint(), follower.endpoint()]).await?;
    client.put(KEY, "1").await?;

    println!("A member stands still: its connections are open, and nothing comes.");
    follower.faults().set_link(Link::Frozen);
    for _ in 0..4 {
        // Asked there, it is asked of the other one too once the first has been silent for 300 ms.
        client.get(KEY).await?;
    }
    println!("  four reads, all answered");
    follower.faults().set_link(Link::Up);

    println!("The answer to a put is lost on the way, but the put is carried out.");
    let client = Client::connect([leader.endpoint()]).await?;
    leader.faults().on_answer(PUT, lost());
    let unknown = failed(client.put(KEY, "2").await)?;
    println!("  {unknown}");
    println!("  the value is {:?}", value(&client).await?);

    println!("The same where twice is as good as once: it is sent again.");
    leader.faults().on_answer(PUT, lost());
    client.put(KEY, "3").idempotent().await?;
    println!("  the value is {:?}", value(&client).await?);

    println!("Nobody is there. Once that is noticed, what is asked for has surely not been carried out.");
    leader.faults().set_link(Link::Down);
    let unsent = loop {
        let error = failed(client.put(KEY, "4").timeout(Duration::from_millis(300)).await)?;
        println!("  {error}");
        if error.delivery() == Delivery::NotSent {
            break error;
        }
    };
    leader.faults().set_link(Link::Up);
    println!("  and when it is back, the value is {:?}", value(&client).await?);

    match (unknown.may_be_applied(), unsent.may_be_applied()) {
        (true, false) => Ok(()),
        told => Err(format!("what is known: {told:?}").into()),
    }
}

fn lost() -> Fault {
    Fault::End {
        code: UNAVAILABLE,
        message: "the proxy has lost it".to_owned(),
    }
}

fn failed<T>(put: Result<T, tenure::Error>) -> Result<tenure::Error, Failure> {
    put.err().ok_or_else(|| "the put did not fail".into())
}

async fn value(client: &Client) -> Result<bytes::Bytes, tenure::Error> {
    let answer = client.get(KeyRange::key(KEY)).await?;
    Ok(answer.kvs[0].value.clone())
}
