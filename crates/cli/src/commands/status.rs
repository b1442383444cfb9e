//! `tenure status`: each member of the cluster, and how it does.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tenure::pb::etcdserverpb::{Member, StatusResponse};
use tenure::{Client, Error};
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::failure::{FAILED, Failure, one_line};
use crate::json::{self, object};
use crate::output::Output;

/// What `status` is told.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
What is wrong with a member is a line on stderr.

Exit status: 1 where a member does not serve, with a quorum behind it; 0 else.")]
pub(crate) struct Arguments {
    /// How long a member may take to answer.
    #[arg(long, value_name = "TIME", default_value = "3", value_parser = crate::duration::parse)]
    within: Duration,
}

/// What was asked at one endpoint, and came of it.
struct Answer {
    endpoint: String,
    status: Result<StatusResponse, Error>,
    is_healthy: bool,
    why: Option<Error>,
}

pub(crate) async fn run(arguments: &Arguments, etcd: &Connection, output: &Output) -> Result<u8, Failure> {
    let mut answers = ask(etcd, etcd.endpoints().list(), arguments.within).await;
    // Also without a quorum; and where nobody says who the members are, the endpoints alone are told of.
    let members = etcd.members().list().serializable().timeout(arguments.within).await;
    let members = members.map(|answer| answer.members).unwrap_or_default();
    answers.extend(ask(etcd, unasked(&members, &answers), arguments.within).await);
    let mut names = BTreeMap::new();
    for member in &members {
        names.insert(member.id, member.name.clone());
    }
    match output.is_json() {
        true => output.json(&answers.iter().map(|answer| answer.to_json(&names)).collect())?,
        false => {
            let rows = answers.iter().map(|answer| answer.row(&names)).collect();
            output.table(&HEAD, rows)?;
            // Not in the table, whose rows it would make wider than any terminal.
            for answer in &answers {
                if let Some(why) = answer.trouble() {
                    eprintln!("tenure: {}: {}", answer.endpoint, one_line(&why));
                }
            }
        }
    }
    Ok(match answers.iter().all(|answer| answer.is_healthy) {
        true => 0,
        false => FAILED,
    })
}

const HEAD: [&str; 10] = [
    "endpoint",
    "name",
    "id",
    "version",
    "role",
    "healthy",
    "db size",
    "in use",
    "raft term",
    "raft index",
];

/// The members that no endpoint led to, at the first of their own addresses.
fn unasked(members: &[Member], answers: &[Answer]) -> Vec<String> {
    let is_known = |member: &&Member| answers.iter().any(|answer| answer.member_id() == Some(member.id));
    let unknown = members.iter().filter(|member| !is_known(member));
    let addresses = unknown.filter_map(|member| member.client_urls.first().cloned());
    addresses
        .filter(|address| answers.iter().all(|answer| answer.endpoint != *address))
        .collect()
}

/// All of them at the same time, in their order.
async fn ask(etcd: &Client, endpoints: Vec<String>, within: Duration) -> Vec<Answer> {
    let mut asking = JoinSet::new();
    for (at, endpoint) in endpoints.into_iter().enumerate() {
        let etcd = etcd.clone();
        asking.spawn(async move { (at, ask_one(&etcd, endpoint, within).await) });
    }
    let mut answers = asking.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

async fn ask_one(etcd: &Client, endpoint: String, within: Duration) -> Answer {
    let member = match etcd.endpoints().add(&endpoint).and_then(|()| etcd.maintenance(&endpoint)) {
        Ok(member) => member,
        Err(error) => {
            return Answer {
                endpoint,
                status: Err(error),
                is_healthy: false,
                why: None,
            };
        }
    };
    let (status, health) = tokio::join!(member.status().timeout(within), member.health(within));
    let is_healthy = health.is_healthy() && status.is_ok();
    Answer {
        endpoint,
        status,
        is_healthy,
        why: health.error,
    }
}

impl Answer {
    fn member_id(&self) -> Option<u64> {
        let header = self.status.as_ref().ok()?.header.as_ref()?;
        Some(header.member_id)
    }

    fn role(&self, status: &StatusResponse) -> &'static str {
        match self.member_id() {
            Some(id) if id == status.leader => "leader",
            _ if status.is_learner => "learner",
            _ => "follower",
        }
    }

    /// What is wrong, where something is.
    fn trouble(&self) -> Option<String> {
        let errors = self.status.as_ref().map(|status| status.errors.join(", "));
        match errors {
            Err(error) => Some(error.to_string()),
            Ok(errors) if !errors.is_empty() => Some(errors),
            Ok(_) => self.why.as_ref().map(Error::to_string),
        }
    }

    fn row(&self, names: &BTreeMap<u64, String>) -> Vec<String> {
        let healthy = if self.is_healthy { "yes" } else { "no" }.to_owned();
        let Ok(status) = &self.status else {
            let mut row = vec![String::new(); HEAD.len()];
            (row[0], row[5]) = (self.endpoint.clone(), healthy);
            return row;
        };
        let id = self.member_id().unwrap_or_default();
        let bytes = |bytes: i64| indicatif::BinaryBytes(bytes.unsigned_abs()).to_string();
        vec![
            self.endpoint.clone(),
            names.get(&id).cloned().unwrap_or_default(),
            format!("{id:x}"),
            status.version.clone(),
            self.role(status).to_owned(),
            healthy,
            bytes(status.db_size),
            bytes(status.db_size_in_use),
            status.raft_term.to_string(),
            status.raft_index.to_string(),
        ]
    }

    /// As `etcdctl endpoint status -w json` has it, with the name, the health and what is wrong beside.
    fn to_json(&self, names: &BTreeMap<u64, String>) -> Value {
        let status = self.status.as_ref().map_or(Value::Null, |status| {
            object([
                ("header", json::header(status.header.as_ref())),
                ("version", status.version.as_str().into()),
                ("dbSize", status.db_size.into()),
                ("leader", status.leader.into()),
                ("raftIndex", status.raft_index.into()),
                ("raftTerm", status.raft_term.into()),
                ("raftAppliedIndex", status.raft_applied_index.into()),
                ("errors", status.errors.as_slice().into()),
                ("dbSizeInUse", status.db_size_in_use.into()),
                ("isLearner", status.is_learner.into()),
                ("storageVersion", status.storage_version.as_str().into()),
                ("dbSizeQuota", status.db_size_quota.into()),
            ])
        });
        json!({
            "Endpoint": self.endpoint,
            "Name": self.member_id().and_then(|id| names.get(&id)),
            "Status": status,
            "Healthy": self.is_healthy,
            "Trouble": self.trouble(),
        })
    }
}
