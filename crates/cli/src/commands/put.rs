//! `tenure put`: writes a key.

use std::ffi::OsString;
use std::io::{self, Read};

use bytes::Bytes;
use clap::Args;
use tenure::LeaseId;
use tenure::client::Put;
use tenure::pb::etcdserverpb::PutResponse;
use tokio::task::spawn_blocking;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::json;
use crate::keys::{self, bytes};
use crate::output::Output;

/// What `put` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    key: OsString,
    /// The value; what is read from stdin without it, and then not empty.
    #[arg(allow_negative_numbers = true)]
    value: Option<OsString>,
    /// The key goes when this lease ends (hexadecimal).
    #[arg(long, value_name = "ID", value_parser = keys::lease)]
    lease: Option<LeaseId>,
    /// Prints the key as it was before.
    #[arg(long)]
    prev_kv: bool,
    /// Keeps the value that is there.
    #[arg(long, conflicts_with = "value")]
    ignore_value: bool,
    /// Keeps the lease that is there.
    #[arg(long, conflicts_with = "lease")]
    ignore_lease: bool,
}

pub(crate) async fn run(arguments: &Arguments, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    let value = match arguments.value() {
        Some(value) => value,
        // As etcdctl does: what was to write the value may have failed.
        None => match spawn_blocking(read).await?? {
            read if read.is_empty() => {
                return Err("nothing came from stdin: an empty value is given as \"\"".into());
            }
            read => read,
        },
    };
    let answer = arguments.set(etcd.put(arguments.key(), value)).await?;
    match output.is_json() {
        true => Ok(output.json(&json::put(&answer))?),
        false => print(&answer, output),
    }
}

fn read() -> io::Result<Bytes> {
    let mut value = Vec::new();
    io::stdin().lock().read_to_end(&mut value)?;
    Ok(value.into())
}

pub(crate) fn print(answer: &PutResponse, output: &Output) -> Result<(), Failure> {
    output.line("OK")?;
    match &answer.prev_kv {
        Some(kv) => keys::print(output, kv),
        None => Ok(()),
    }
}

impl Arguments {
    pub(crate) fn key(&self) -> Bytes {
        bytes(&self.key)
    }

    /// `None` where it is to be read.
    pub(crate) fn value(&self) -> Option<Bytes> {
        match &self.value {
            Some(value) => Some(bytes(value)),
            None => self.ignore_value.then(Bytes::new),
        }
    }

    /// The options, on a write of a client or in a transaction.
    pub(crate) fn set<C>(&self, mut put: Put<C>) -> Put<C> {
        if let Some(lease) = self.lease {
            put = put.lease(lease);
        }
        if self.prev_kv {
            put = put.prev_kv();
        }
        if self.ignore_value {
            put = put.ignore_value();
        }
        if self.ignore_lease {
            put = put.ignore_lease();
        }
        put
    }
}
