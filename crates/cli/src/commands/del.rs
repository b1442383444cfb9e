//! `tenure del`: deletes a key or a range.

use clap::Args;
use tenure::client::Delete;
use tenure::pb::etcdserverpb::DeleteRangeResponse;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::json;
use crate::keys::{self, Keys};
use crate::output::Output;

/// What `del` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    keys: Keys,
    /// Prints the keys as they were before.
    #[arg(long)]
    prev_kv: bool,
}

pub(crate) async fn run(arguments: &Arguments, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    let answer = arguments.set(etcd.delete(arguments.keys.range()?)).await?;
    match output.is_json() {
        true => Ok(output.json(&json::delete(&answer))?),
        false => print(&answer, output),
    }
}

pub(crate) fn print(answer: &DeleteRangeResponse, output: &Output) -> Result<(), Failure> {
    output.line(answer.deleted)?;
    answer.prev_kvs.iter().try_for_each(|kv| keys::print(output, kv))
}

impl Arguments {
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The options, on a deletion of a client or in a transaction.
    pub(crate) fn set<C>(&self, delete: Delete<C>) -> Delete<C> {
        match self.prev_kv {
            true => delete.prev_kv(),
            false => delete,
        }
    }
}
