//! `tenure elect`: leads until a signal, or follows who leads.

use std::time::Duration;

use clap::Args;
use tenure::concurrency::Leader;
use tenure::{Leadership, Session};

use crate::connection::{Cluster, Connection};
use crate::duration;
use crate::failure::{Failure, LOST, NOT_OURS};
use crate::held::Held;
use crate::json;
use crate::output::Output;
use crate::signals::{Signals, signalled};

/// What `elect` is told.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit status:
   0  led, and resigned at a signal
  75  did not lead within --wait
 123  the leadership was lost
 128 and n  signal n came before it led")]
pub(crate) struct Arguments {
    /// The name of the election, shared with etcdctl, Go's concurrency.Election and this library.
    name: String,
    /// What the leader says, such as its address.
    #[arg(required_unless_present = "listen", conflicts_with = "listen")]
    proposal: Option<String>,
    /// Follows who leads, until a signal.
    #[arg(short, long)]
    listen: bool,
    /// The lease's time to live: how long a leader that crashed keeps the others waiting.
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = duration::parse)]
    ttl: Duration,
    /// How long to wait for the leadership. Default: for ever.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    wait: Option<Duration>,
}

pub(crate) async fn run(arguments: &Arguments, cluster: &Cluster, output: &Output) -> Result<u8, Failure> {
    let Some(proposal) = &arguments.proposal else {
        return listen(&arguments.name, &cluster.connect().await?, output).await;
    };
    let mut signals = Signals::catch()?;
    let etcd = cluster.connect().await?;
    let session = etcd.session().ttl(arguments.ttl).await?;
    let stood = stand(arguments, proposal, &session, &mut signals, output).await;
    // What is lost is not to be given back, and the lease of what is not runs out should this fail.
    if !matches!(&stood, Err(failure) if failure.status() == LOST) {
        let _ = session.close().await;
    }
    stood
}

async fn stand(
    arguments: &Arguments,
    proposal: &str,
    session: &Session,
    signals: &mut Signals,
    output: &Output,
) -> Result<u8, Failure> {
    let mut election = session.election(&arguments.name);
    if let Some(wait) = arguments.wait {
        election = election.timeout(wait);
    }
    let elected = tokio::select! {
        biased;
        signal = signals.end() => return Ok(signalled(signal)),
        elected = election.campaign(proposal.to_owned()) => elected,
    };
    match elected {
        Err(error) if error.is_timeout() && arguments.wait.is_some() => Ok(NOT_OURS),
        elected => lead(elected?, &arguments.name, proposal, signals, output).await,
    }
}

async fn lead(
    leadership: Leadership,
    name: &str,
    proposal: &str,
    signals: &mut Signals,
    output: &Output,
) -> Result<u8, Failure> {
    let lost = |why: &dyn std::fmt::Display| {
        Failure::new(LOST, format!("the leadership of {name:?} was lost: {why}"))
    };
    let created = leadership.token().create_revision();
    let client = leadership.session().client();
    let Some(held) = Held::see(client, leadership.key(), created).await? else {
        return Err(lost(&"its key is gone"));
    };
    say(output, held.key(), proposal.as_bytes(), created.0)?;
    tokio::select! {
        biased;
        why = leadership.lost() => return Err(lost(&why)),
        () = held.deleted() => return Err(lost(&"somebody deleted its key")),
        _ = signals.end() => {}
    }
    leadership.resign().await?;
    Ok(0)
}

async fn listen(name: &str, etcd: &Connection, output: &Output) -> Result<u8, Failure> {
    let mut leaders = etcd.observe_leader(name);
    loop {
        match leaders.next().await? {
            Some(Leader {
                key, value, created, ..
            }) => say(output, &key, &value, created.0)?,
            // etcdctl says nothing then, and it is worth a word.
            None if output.is_json() => output.json(&serde_json::Value::Null)?,
            None => eprintln!("tenure: nobody leads {name:?}"),
        }
    }
}

fn say(output: &Output, key: &[u8], value: &[u8], created: i64) -> Result<(), Failure> {
    if output.is_json() {
        let leader = json::object([
            json::text("key", "key_base64", key),
            json::text("value", "value_base64", value),
            ("created", created.into()),
        ]);
        return Ok(output.json(&leader)?);
    }
    output.bytes(key)?;
    Ok(output.bytes(value)?)
}
