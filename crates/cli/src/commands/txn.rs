//! `tenure txn`: a transaction from stdin, in etcdctl's form.

mod script;
mod words;

use std::io::{self, BufRead, IsTerminal};

use clap::Args;
use tenure::pb::etcdserverpb::TxnResponse;
use tenure::pb::etcdserverpb::response_op::Response;
use tokio::task::spawn_blocking;

use super::{del, put};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::json;
use crate::keys;
use crate::output::Output;
use script::Script;

/// What `txn` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Says what it waits for. So it does on a terminal.
    #[arg(short, long)]
    interactive: bool,
}

/// What stands in which part.
const PARTS: [&str; 3] = [
    "compares:",
    "success requests (get, put, del):",
    "failure requests (get, put, del):",
];

pub(crate) async fn run(arguments: &Arguments, etcd: &Connection, output: &Output) -> Result<(), Failure> {
    let is_told = arguments.interactive || io::stdin().is_terminal();
    let script = Script::parse(&spawn_blocking(move || read(is_told)).await??)?;
    let answer = script.fill(etcd.txn())?.await?;
    match output.is_json() {
        true => Ok(output.json(&json::txn(&answer))?),
        false => print(&answer, output),
    }
}

/// The lines of each part, which ends with an empty line: one that ends with the input may be
/// the half of what somebody meant, so nothing is done, as with etcdctl.
fn read(is_told: bool) -> io::Result<[Vec<String>; 3]> {
    let mut lines = io::stdin().lock().lines();
    let mut parts = [const { Vec::new() }; 3];
    for (part, title) in parts.iter_mut().zip(PARTS) {
        if is_told {
            eprintln!("{title}");
        }
        loop {
            let line = lines.next().ok_or_else(cut_off)??;
            if line.trim().is_empty() {
                break;
            }
            part.push(line);
        }
    }
    Ok(parts)
}

fn cut_off() -> io::Error {
    let message = "the transaction is cut off: each of its three parts ends with an empty line";
    io::Error::new(io::ErrorKind::UnexpectedEof, message)
}

fn print(answer: &TxnResponse, output: &Output) -> Result<(), Failure> {
    output.line(if answer.succeeded { "SUCCESS" } else { "FAILURE" })?;
    for operation in &answer.responses {
        output.line("")?;
        match &operation.response {
            Some(Response::ResponsePut(answer)) => put::print(answer, output)?,
            Some(Response::ResponseDeleteRange(answer)) => del::print(answer, output)?,
            Some(Response::ResponseRange(answer)) => {
                answer.kvs.iter().try_for_each(|kv| keys::print(output, kv))?;
            }
            Some(Response::ResponseTxn(answer)) => print(answer, output)?,
            None => {}
        }
    }
    Ok(())
}
