//! What memory things take that do nothing, each client in a process of its own.

use std::time::Duration;

use tenure::{Client, Guard};
use tokio::runtime::{Builder, Runtime};

use super::Arguments;
use super::sheet::Sheet;
use crate::Failure;
use crate::child::{Child, unexpected};
use crate::contest::Setting;
use crate::peer::Peer;
use crate::server::Server;

/// What lies about, as the order calls it, and what one of them is.
const THINGS: [(&str, &str); 4] = [
    ("client", "a client, connected"),
    ("watch", "a watch"),
    ("lock", "one who waits for a lock"),
    ("lease", "a lease, kept alive"),
];
const PEERS: [Peer; 2] = [Peer::Tenure, Peer::EtcdClient];
/// Of what a process that measures holds itself. Nobody renews it.
const LEASE: Duration = Duration::from_secs(3600);

/// What the client said of all of them.
#[derive(Default)]
struct Memory {
    count: u64,
    heap: u64,
    rss: u64,
    /// The whole process at the end.
    process: u64,
}

pub(super) fn weigh(arguments: &Arguments, setting: &Setting) -> Result<Sheet, Failure> {
    let server = Server::start(arguments.server)?;
    let held = Held::all(server.endpoint(), arguments.count)?;
    let mut sheet = Sheet {
        title: format!(
            "Memory of one that is idle, of {}, on {}",
            arguments.count,
            server.story()
        ),
        head: vec!["heap and RSS of", "", "heap", "RSS", "process"],
        rows: Vec::new(),
        notes: vec![
            "Heap is what the client's thread asked for and has not given back. RSS is of whole pages, \
             what is kept for later included."
                .to_owned(),
        ],
        failures: 0,
    };
    for (thing, story) in THINGS {
        for peer in PEERS {
            if setting.stop.is_set() {
                break;
            }
            let name = peer.name();
            let mut row = vec![story.to_owned(), name.clone()];
            match lie_about(peer, thing, arguments.count, &server, setting) {
                Ok(memory) => {
                    eprintln!("  {story}, {name}: {}", each(memory.heap, memory.count));
                    row.push(each(memory.heap, memory.count));
                    row.push(each(memory.rss, memory.count));
                    row.push(each(memory.process, 1));
                }
                Err(cause) => {
                    sheet.failures += 1;
                    sheet.notes.push(format!("{story}, {name}: {cause}"));
                    row.resize(sheet.head.len(), "-".to_owned());
                }
            }
            sheet.rows.push(row);
        }
    }
    drop(held);
    Ok(sheet)
}

fn lie_about(
    peer: Peer,
    thing: &str,
    count: u64,
    server: &Server,
    setting: &Setting,
) -> Result<Memory, Failure> {
    let mut command = peer.command()?;
    command
        .arg("idle")
        .arg(format!("--endpoints={}", server.endpoint()))
        .arg(format!("--what={thing}"))
        .arg(format!("--count={count}"));
    let mut memory = Memory::default();
    Child::start(&mut command)?.read(&setting.stop, |line| {
        let (what, number) = line.split_once(' ').unwrap_or((line, ""));
        let number = number.parse().map_err(|_| unexpected(line))?;
        match what {
            "count" => memory.count = number,
            "heap" => memory.heap = number,
            "rss" => memory.rss = number,
            "process" => memory.process = number,
            _ => return Err(unexpected(line)),
        }
        Ok(())
    })?;
    Ok(memory)
}

/// The locks that others wait for.
struct Held {
    _guards: Vec<Guard>,
    _runtime: Runtime,
}

impl Held {
    fn all(endpoint: &str, count: u64) -> Result<Held, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let guards = runtime.block_on(async {
            let session = Client::connect([endpoint]).await?.session().ttl(LEASE).await?;
            let mut guards = Vec::new();
            for number in 0..count {
                guards.push(session.mutex(&format!("bench/idle/{number}")).lock().await?);
            }
            Ok::<_, Failure>(guards)
        })?;
        Ok(Held {
            _guards: guards,
            _runtime: runtime,
        })
    }
}

fn each(bytes: u64, count: u64) -> String {
    let each = bytes as f64 / count.max(1) as f64;
    match each {
        ..10_000.0 => format!("{:.2} KB", each / 1000.0),
        10_000.0..1_000_000.0 => format!("{:.1} KB", each / 1000.0),
        _ => format!("{:.2} MB", each / 1e6),
    }
}
