//! `tenure get`: reads a key or a range.

use clap::{Args, ValueEnum};
use tenure::Revision;
use tenure::client::Get;
use tenure::pb::etcdserverpb::RangeResponse;
use tenure::pb::etcdserverpb::range_request::{SortOrder, SortTarget};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::json;
use crate::keys::Keys;
use crate::output::Output;

/// What `get` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    keys: Keys,
    /// At most this many keys; 0 is no limit.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    limit: u32,
    /// As it was at this revision.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    rev: i64,
    /// `l` for the newest, `s` for what the asked member has.
    #[arg(long, default_value = "l")]
    consistency: Consistency,
    /// In which order.
    #[arg(long, ignore_case = true)]
    order: Option<Order>,
    /// By what it is ordered.
    #[arg(long, ignore_case = true)]
    sort_by: Option<SortBy>,
    /// The keys without their values: behind each is an empty line, as etcdctl has it.
    #[arg(long)]
    keys_only: bool,
    /// How many keys there are.
    #[arg(long, conflicts_with = "keys_only")]
    count_only: bool,
    /// The values without their keys.
    #[arg(long, conflicts_with_all = ["keys_only", "count_only"])]
    print_value_only: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Consistency {
    L,
    S,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    Ascend,
    Descend,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SortBy {
    Create,
    Key,
    Modify,
    Value,
    Version,
}

pub(crate) async fn run(arguments: &Arguments, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    let answer = arguments.set(etcd.get(arguments.keys.range()?)).await?;
    if output.is_json() {
        return Ok(output.json(&json::range(&answer))?);
    }
    arguments.print(&answer, output)
}

impl Arguments {
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The options, on a read of a client or in a transaction.
    pub(crate) fn set<C>(&self, mut get: Get<C>) -> Get<C> {
        if self.limit > 0 {
            get = get.limit(self.limit);
        }
        if self.rev > 0 {
            get = get.revision(Revision(self.rev));
        }
        if let Consistency::S = self.consistency {
            get = get.serializable();
        }
        if self.order.is_some() || self.sort_by.is_some() {
            get = get.sort(self.target(), self.sort_order());
        }
        if self.keys_only {
            get = get.keys_only();
        }
        if self.count_only {
            get = get.count_only();
        }
        get
    }

    fn target(&self) -> SortTarget {
        match self.sort_by {
            None | Some(SortBy::Key) => SortTarget::Key,
            Some(SortBy::Create) => SortTarget::Create,
            Some(SortBy::Modify) => SortTarget::Mod,
            Some(SortBy::Value) => SortTarget::Value,
            Some(SortBy::Version) => SortTarget::Version,
        }
    }

    fn sort_order(&self) -> SortOrder {
        match self.order {
            Some(Order::Descend) => SortOrder::Descend,
            Some(Order::Ascend) | None => SortOrder::Ascend,
        }
    }

    fn print(&self, answer: &RangeResponse, output: &Output) -> Result<(), Failure> {
        if self.count_only {
            return Ok(output.line(answer.count)?);
        }
        for kv in &answer.kvs {
            if !self.print_value_only {
                output.bytes(&kv.key)?;
            }
            // Of keys alone the values are empty, and etcdctl prints them all the same.
            output.bytes(&kv.value)?;
        }
        Ok(())
    }
}
