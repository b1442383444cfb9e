//! The stores: how each is found, started and reached. Its data, its log and its port are its own.

mod program;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use clap::ValueEnum;
use tenure_etcd::Daemon;

use crate::Failure;
use crate::cargo::Workspace;
use crate::peer::{Peer, locked};
use crate::server::Server;
use program::{Program, jars};

/// How long a server may take for its first words.
const GREETING_MAX: Duration = Duration::from_secs(1);
/// The beginning of a session, which PostgreSQL answers with R once it takes them.
const POSTGRES_HELLO: &[u8] = b"\0\0\0\x26\0\x03\0\0user\0bench\0database\0postgres\0\0";
/// What ZooKeeper logs, and where to: the log that an error quotes.
const LOG4J: &str = "log4j.rootLogger=WARN, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n\
                     log4j.appender.out.layout=org.apache.log4j.SimpleLayout\n";

/// Whose lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Store {
    /// tenure's, on etcd.
    Tenure,
    /// SET NX PX and the checked release.
    Redis,
    /// The client's lock recipe.
    Zookeeper,
    /// An advisory lock of a session.
    Postgres,
    /// GET_LOCK.
    Mariadb,
}

/// A server that runs as long as its value lives.
#[derive(Debug)]
pub(super) struct Running {
    endpoint: String,
    pid: Option<u32>,
    story: String,
    _server: Kind,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held for what dropping it ends")]
enum Kind {
    Etcd(Box<Server>),
    Other(Daemon),
}

impl Store {
    pub(super) fn name(self) -> &'static str {
        match self {
            Store::Tenure => "tenure",
            Store::Redis => "Redis",
            Store::Zookeeper => "ZooKeeper",
            Store::Postgres => "PostgreSQL",
            Store::Mariadb => "MariaDB",
        }
    }

    /// Its client, with the version.
    pub(super) fn client(self) -> String {
        let package = match self {
            Store::Tenure => return Peer::Tenure.name(),
            Store::Redis => "redis",
            Store::Zookeeper => "zookeeper-client",
            Store::Postgres => "tokio-postgres",
            Store::Mariadb => "mysql_async",
        };
        format!("{package} {}", locked(package))
    }

    /// The program of its client, to which an order is added. It is built first, which can take
    /// minutes the first time.
    ///
    /// # Errors
    ///
    /// It cannot be built here.
    pub(super) fn command(self) -> Result<Command, Failure> {
        if self == Store::Tenure {
            return Peer::Tenure.command();
        }
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| build().map_err(|cause| cause.to_string()));
        let mut command = Command::new(built.as_ref().map_err(String::clone)?);
        let name = self.to_possible_value().ok_or("no such store")?;
        command.arg(name.get_name());
        Ok(command)
    }

    /// Starts its server.
    ///
    /// # Errors
    ///
    /// Its client cannot be built here, or there is no such server, or it does not start.
    pub(super) fn start(self, fsync: bool) -> Result<Running, Failure> {
        self.command()?;
        match self {
            Store::Tenure => etcd(fsync),
            Store::Redis => redis(fsync),
            Store::Zookeeper => zookeeper(fsync),
            Store::Postgres => postgres(fsync),
            Store::Mariadb => mariadb(),
        }
    }
}

impl Running {
    /// What it is, with the version.
    pub(super) fn story(&self) -> &str {
        &self.story
    }

    /// What its client is told of it.
    pub(super) fn options(&self) -> Vec<String> {
        let pid = self.pid.map(|pid| format!("--server-pid={pid}"));
        [format!("--endpoints={}", self.endpoint)].into_iter().chain(pid).collect()
    }

    fn other(store: Store, version: &str, daemon: Daemon) -> Running {
        Running {
            endpoint: daemon.address().to_string(),
            pid: daemon.pid(),
            story: format!("{} {version}", store.name()),
            _server: Kind::Other(daemon),
        }
    }
}

fn build() -> Result<PathBuf, Failure> {
    Workspace::peers()?.build("tenure-bench-stores", "release", None)
}

fn etcd(fsync: bool) -> Result<Running, Failure> {
    let server = Server::start_etcd(1, fsync)?;
    let version = server.story().split(',').next().unwrap_or_default();
    Ok(Running {
        endpoint: server.endpoint().to_owned(),
        pid: server.pid(),
        story: format!("tenure on {version}"),
        _server: Kind::Etcd(Box::new(server)),
    })
}

fn redis(fsync: bool) -> Result<Running, Failure> {
    let program = Program::find("redis-server", &["/usr/bin"], "redis-server")?;
    let version = program.version()?;
    let mut daemon = Daemon::new("Redis")?;
    let mut server = program.command();
    server.args([
        "--bind",
        "127.0.0.1",
        "--port",
        &daemon.address().port().to_string(),
    ]);
    server.args(["--save", "", "--daemonize", "no", "--dir"]).arg(daemon.dir());
    match fsync {
        true => server.args(["--appendonly", "yes", "--appendfsync", "always"]),
        false => server.args(["--appendonly", "no"]),
    };
    daemon.start(&server, |address| {
        answer(address, b"PING\r\n").is_some_and(|said| said.starts_with(b"+PONG"))
    })?;
    Ok(Running::other(Store::Redis, &version, daemon))
}

fn zookeeper(fsync: bool) -> Result<Running, Failure> {
    let (java, jars) = (Program::java()?, jars()?);
    let mut daemon = Daemon::new("ZooKeeper")?;
    let dir = daemon.dir().to_owned();
    let mut settings = format!(
        "tickTime=2000\ndataDir={}\nclientPortAddress=127.0.0.1\nclientPort={}\nmaxClientCnxns=0\n\
         admin.enableServer=false\n",
        dir.join("data").display(),
        daemon.address().port(),
    );
    if !fsync {
        settings.push_str("forceSync=no\n");
    }
    fs::write(dir.join("zoo.cfg"), settings)?;
    fs::write(dir.join("log4j.properties"), LOG4J)?;
    let mut path = dir.display().to_string();
    for jar in &jars.paths {
        write!(path, ":{}", jar.display())?;
    }
    let mut server = java.command();
    // What its own script says.
    server.args([
        "-Xmx1000m",
        "-cp",
        &path,
        "org.apache.zookeeper.server.quorum.QuorumPeerMain",
    ]);
    server.arg(dir.join("zoo.cfg"));
    daemon.start(&server, |address| {
        answer(address, b"srvr").is_some_and(|said| said.starts_with(b"Zookeeper version"))
    })?;
    Ok(Running::other(Store::Zookeeper, &jars.version, daemon))
}

fn postgres(fsync: bool) -> Result<Running, Failure> {
    let program = Program::find_newest("postgres", "usr/lib/postgresql", "bin", "postgresql")?;
    let version = program.version()?;
    let mut daemon = Daemon::new("PostgreSQL")?;
    let data = daemon.dir().join("data");
    let mut initdb = program.beside("initdb").command();
    initdb.args([
        "--username=bench",
        "--auth=trust",
        "--no-sync",
        "--locale=C",
        "--encoding=UTF8",
        "-D",
    ]);
    daemon.prepare(initdb.arg(&data))?;
    let mut server = program.command();
    server
        .arg("-D")
        .arg(&data)
        .args(["-h", "127.0.0.1", "-p", &daemon.address().port().to_string()]);
    // No socket in a directory of the system's.
    server.args(["-k", "", "-c", "dynamic_shared_memory_type=mmap"]);
    server.args(["-c", if fsync { "fsync=on" } else { "fsync=off" }]);
    daemon.start(&server, |address| {
        answer(address, POSTGRES_HELLO).is_some_and(|said| said.starts_with(b"R"))
    })?;
    Ok(Running::other(Store::Postgres, &version, daemon))
}

fn mariadb() -> Result<Running, Failure> {
    let program = Program::find("mariadbd", &["/usr/sbin"], "mariadb-server-core")?;
    let version = program.version()?;
    let mut daemon = Daemon::new("MariaDB")?;
    let data = daemon.dir().join("data");
    fs::create_dir(&data)?;
    let mut server = program.command();
    // Such a lock needs no table, and so no system tables and no users are made.
    server.args(["--no-defaults", "--skip-grant-tables", "--bind-address=127.0.0.1"]);
    server.arg(format!("--port={}", daemon.address().port()));
    server.arg(format!("--datadir={}", data.display()));
    server.arg(format!("--secure-file-priv={}", data.display()));
    server.arg(format!("--socket={}", daemon.dir().join("socket").display()));
    if let Some(root) = program.root() {
        server.arg(format!("--basedir={}", root.join("usr").display()));
        server.arg(format!(
            "--lc-messages-dir={}",
            root.join("usr/share/mysql").display()
        ));
    }
    // It speaks first, with its version in the greeting.
    let is_greeting = |said: Vec<u8>| said.windows(7).any(|part| part == b"MariaDB");
    daemon.start(&server, |address| answer(address, b"").is_some_and(is_greeting))?;
    Ok(Running::other(Store::Mariadb, &version, daemon))
}

/// What a server says first, to this or by itself.
fn answer(address: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, GREETING_MAX).ok()?;
    stream.set_read_timeout(Some(GREETING_MAX)).ok()?;
    stream.write_all(question).ok()?;
    let mut said = vec![0; 256];
    let count = stream.read(&mut said).ok()?;
    said.truncate(count);
    (count > 0).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_named_with_the_version_that_is_pinned() {
        for store in Store::value_variants() {
            let client = store.client();
            let version = client.rsplit(' ').next().unwrap();
            assert!(
                version.split('.').all(|number| number.parse::<u32>().is_ok()),
                "{client}"
            );
        }
    }
}
