//! The events of one prefix through one client, as fast as the server sends them:
//! a replay of what was written before, and live ones that a writer makes meanwhile.
//! Each transaction puts many keys, so that it is not the writing that is measured. The null
//! server has events without end, and sends them as fast as the client takes them.

use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use tenure::{Client, Op, Revision, Txn};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Failure;
use crate::child::Child;
use crate::contest::{self, Competitor, Setting};
use crate::null;
use crate::peer::Peer;
use crate::report::{Report, Table};
use crate::server::{Server, ServerKind};
use crate::tally::Round;

/// Transactions at a time.
const WRITERS: u64 = 8;
const VALUE: &[u8] = &[b'x'; 64];
const READY_MAX: Duration = Duration::from_secs(60);

/// The options of `watch-throughput`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Events a round, for each client; whole transactions.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Events of one transaction. A server replays a thousand of them at once; the null server's
    /// transactions have 20.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=128))]
    keys: u64,
    /// The servers to run on.
    #[arg(long, value_delimiter = ',', default_values = ["etcd", "embedded", "null"])]
    server: Vec<ServerKind>,
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let txns = arguments.events.div_ceil(arguments.keys);
    let runtime = Rc::new(tokio::runtime::Builder::new_current_thread().enable_all().build()?);
    for kind in &arguments.server {
        if setting.stop.is_set() {
            break;
        }
        let server = Server::start(*kind)?;
        let writer = runtime.block_on(Client::connect([server.endpoint()]))?;
        let sources = match kind {
            ServerKind::Null => vec![Source::Endless],
            ServerKind::Etcd | ServerKind::Etcd3 | ServerKind::Embedded => {
                let from = runtime.block_on(fill(&writer, "bench/replay/", txns, arguments.keys))?;
                vec![Source::Replay(from), Source::Live]
            }
        };
        for source in sources {
            if setting.stop.is_set() {
                break;
            }
            let watcher = |peer: Peer| -> Box<dyn Competitor> {
                Box::new(Watcher {
                    peer,
                    endpoint: server.endpoint().to_owned(),
                    txns,
                    keys: arguments.keys,
                    source,
                    turns: 0,
                    runtime: runtime.clone(),
                    writer: writer.clone(),
                })
            };
            let title = format!("Events of one watch, {}, on {}", source.story(), server.story());
            let competitors = Peer::CLIENTS.into_iter().map(watcher).collect();
            report.add(&contest::run(Table::new(title, "events"), competitors, setting));
        }
    }
    Ok(())
}

/// Where the events come from.
#[derive(Clone, Copy)]
enum Source {
    /// They were written before, this and what follows.
    Replay(Revision),
    /// A writer makes them meanwhile.
    Live,
    /// The null server.
    Endless,
}

impl Source {
    fn story(self) -> String {
        match self {
            Source::Replay(_) => "replayed from an old revision".to_owned(),
            Source::Live => "live".to_owned(),
            Source::Endless => format!("{} a message, as fast as they are taken", null::watch::EVENTS),
        }
    }
}

struct Watcher {
    peer: Peer,
    endpoint: String,
    txns: u64,
    keys: u64,
    source: Source,
    turns: u32,
    runtime: Rc<Runtime>,
    writer: Client,
}

impl Competitor for Watcher {
    fn name(&self) -> String {
        self.peer.name()
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        self.peer.prepare()
    }

    fn run_round(&mut self, setting: &Setting) -> Result<Round, Failure> {
        self.turns += 1;
        let (prefix, from) = match self.source {
            Source::Replay(from) => ("bench/replay/".to_owned(), from.0),
            Source::Live | Source::Endless => (format!("bench/live/{:?}/{}/", self.peer, self.turns), 0),
        };
        let mut child = Child::start(
            self.peer
                .command()?
                .arg("watch")
                .arg(format!("--endpoints={}", self.endpoint))
                .arg(format!("--prefix={prefix}"))
                .arg(format!("--from={from}"))
                .arg(format!("--events={}", self.txns * self.keys)),
        )?;
        child.wait_ready(READY_MAX)?;
        if matches!(self.source, Source::Live) {
            self.runtime.block_on(fill(&self.writer, &prefix, self.txns, self.keys))?;
        }
        child.round(&setting.stop)
    }
}

/// Writes this many transactions below the prefix, and returns the revision of the first.
async fn fill(client: &Client, prefix: &str, txns: u64, keys: u64) -> Result<Revision, Failure> {
    let first = client.put(format!("{prefix}none"), "").await?.revision();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (client, prefix) = (client.clone(), prefix.to_owned());
        writers.spawn(async move {
            for _ in (writer..txns).step_by(WRITERS as usize) {
                let key = |number| format!("{prefix}{writer}/{number:02}");
                let put = |txn: Txn<_>, number| txn.then(Op::put(key(number), VALUE));
                (0..keys).fold(client.txn(), put).await?;
            }
            Ok::<_, tenure::Error>(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(Revision(first.0 + 1))
}
