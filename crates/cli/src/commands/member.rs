//! `tenure member`: who is in the cluster, and changes of that.

use clap::{Args, Subcommand};
use serde_json::json;
use tenure::MemberId;
use tenure::pb::etcdserverpb::{Member, MemberAddResponse, ResponseHeader};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::json;
use crate::keys;
use crate::output::Output;

/// What `member` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// The members: ID, whether it was started, name, peer URLs, client URLs, whether it is a learner.
    List {
        /// `l` for what the cluster has agreed on, `s` for what the asked member knows.
        #[arg(long, default_value = "l", value_parser = ["l", "s"])]
        consistency: String,
    },
    /// Adds a member, and says what it is to be started with.
    Add {
        name: String,
        /// Where its peers reach it.
        #[arg(long, required = true, value_name = "URLS", value_delimiter = ',')]
        peer_urls: Vec<String>,
        /// Without a vote, until it is promoted.
        #[arg(long)]
        learner: bool,
    },
    /// Removes a member for good.
    Remove {
        #[arg(value_parser = keys::member)]
        id: MemberId,
    },
    /// Has the peers reach a member elsewhere.
    Update {
        #[arg(value_parser = keys::member)]
        id: MemberId,
        /// Where its peers reach it.
        #[arg(long, required = true, value_name = "URLS", value_delimiter = ',')]
        peer_urls: Vec<String>,
    },
    /// Gives a learner its vote.
    Promote {
        #[arg(value_parser = keys::member)]
        id: MemberId,
    },
}

/// What every answer has.
struct Changed<'a> {
    header: Option<&'a ResponseHeader>,
    members: &'a [Member],
}

pub(crate) async fn run(arguments: &Arguments, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    let members = etcd.members();
    match &arguments.command {
        Command::List { consistency } => list(consistency == "s", etcd, output).await,
        Command::Add {
            name,
            peer_urls,
            learner,
        } => {
            let addition = members.add(peer_urls);
            let answer = if *learner {
                addition.learner().await?
            } else {
                addition.await?
            };
            added(name, &answer, output)
        }
        Command::Remove { id } => {
            let answer = members.remove(*id).await?;
            let (header, members) = (answer.header.as_ref(), &answer.members);
            Changed { header, members }.tell(*id, "removed from", output)
        }
        Command::Update { id, peer_urls } => {
            let answer = members.update(*id, peer_urls).await?;
            let (header, members) = (answer.header.as_ref(), &answer.members);
            Changed { header, members }.tell(*id, "updated in", output)
        }
        Command::Promote { id } => {
            let answer = members.promote(*id).await?;
            let (header, members) = (answer.header.as_ref(), &answer.members);
            Changed { header, members }.tell(*id, "promoted in", output)
        }
    }
}

async fn list(is_local: bool, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    let question = etcd.members().list();
    let answer = if is_local {
        question.serializable().await?
    } else {
        question.await?
    };
    let (header, members) = (answer.header.as_ref(), &answer.members);
    if output.is_json() {
        return Changed { header, members }.json(output);
    }
    for member in members {
        let started = if member.name.is_empty() {
            "unstarted"
        } else {
            "started"
        };
        output.line(format_args!(
            "{:x}, {started}, {}, {}, {}, {}",
            member.id,
            member.name,
            member.peer_urls.join(","),
            member.client_urls.join(","),
            member.is_learner
        ))?;
    }
    Ok(())
}

/// The variables are what etcd is started with.
fn added(name: &str, answer: &MemberAddResponse, output: &Output) -> Result<(), Failure> {
    let (header, members) = (answer.header.as_ref(), answer.members.as_slice());
    let Some(member) = &answer.member else {
        return Err("the answer does not say which member was added".into());
    };
    let id = MemberId(member.id);
    Changed { header, members }.tell(id, "added to", output)?;
    if output.is_json() {
        return Ok(());
    }
    let peers = members.iter().flat_map(|peer| {
        let name = if peer.id == member.id { name } else { &peer.name };
        peer.peer_urls.iter().map(move |url| format!("{name}={url}"))
    });
    let peers: Vec<_> = peers.collect();
    output.line(format_args!("\nETCD_NAME=\"{name}\""))?;
    output.line(format_args!("ETCD_INITIAL_CLUSTER=\"{}\"", peers.join(",")))?;
    let advertised = member.peer_urls.join(",");
    output.line(format_args!("ETCD_INITIAL_ADVERTISE_PEER_URLS=\"{advertised}\""))?;
    Ok(output.line("ETCD_INITIAL_CLUSTER_STATE=\"existing\"")?)
}

impl Changed<'_> {
    fn tell(&self, id: MemberId, what: &str, output: &Output) -> Result<(), Failure> {
        if output.is_json() {
            return self.json(output);
        }
        let cluster = self.header.map(|header| header.cluster_id).unwrap_or_default();
        Ok(output.line(format_args!("Member {:16x} {what} cluster {cluster:16x}", id.0))?)
    }

    fn json(&self, output: &Output) -> Result<(), Failure> {
        let members: Vec<_> = self.members.iter().map(json::member).collect();
        Ok(output.json(&json!({ "header": json::header(self.header), "members": members }))?)
    }
}
