//! Nothing is left of a cluster whose process ended without dropping it.
//!
//! Each test runs this program once more, as the process that is to end.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tenure_etcd::{Binary, Cluster, Options};

mod common;
use common::eventually;

/// Set for the process that is to end, to the way in which it shall.
const ROLE: &str = "TENURE_ETCD_TEST_ROLE";
/// Less than the half minute after which etcd gives up by itself on a directory that is gone.
const KILLED_MAX: Duration = Duration::from_secs(25);
const MARK: &str = "cluster at ";

/// What is left to look for of a cluster.
struct Traces {
    dir: PathBuf,
    addresses: Vec<String>,
}

impl Traces {
    fn expect_gone(&self) {
        for address in &self.addresses {
            eventually(KILLED_MAX, "no server listens", || {
                TcpStream::connect(address).is_err()
            });
        }
        let gone = self.dir.with_extension("gone");
        eventually(KILLED_MAX, "no directory is left", || {
            !self.dir.exists() && !gone.exists()
        });
    }
}

#[test]
fn servers_die_with_a_process_that_is_killed() {
    if env::var_os(ROLE).is_some() {
        play();
    }
    let (mut process, traces) = spawn("servers_die_with_a_process_that_is_killed", "wait");
    assert!(traces.dir.is_dir());
    for address in &traces.addresses {
        TcpStream::connect(address).expect("a server that listens");
    }
    process.kill().unwrap();
    process.wait().unwrap();
    traces.expect_gone();
}

#[test]
fn servers_die_with_a_process_that_exits() {
    if env::var_os(ROLE).is_some() {
        play();
    }
    let (mut process, traces) = spawn("servers_die_with_a_process_that_exits", "exit");
    assert!(process.wait().unwrap().success());
    traces.expect_gone();
}

/// The part of the process that is to end: a cluster in a static, one member frozen.
fn play() -> ! {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let binary = Binary::find().expect("an etcd to test with");
    let cluster = CLUSTER.get_or_init(|| Cluster::start(&binary, 3, Options::default()).expect("a cluster"));
    cluster.member(1).pause().unwrap();
    let mut line = format!("\n{MARK}{}", cluster.dir().display());
    for endpoint in cluster.endpoints() {
        line.push(' ');
        line.push_str(endpoint.strip_prefix("http://").unwrap());
    }
    println!("{line}");
    if env::var_os(ROLE).is_some_and(|role| role == "exit") {
        std::process::exit(0);
    }
    loop {
        std::thread::park();
    }
}

fn spawn(test: &str, role: &str) -> (Child, Traces) {
    let mut process = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut told = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix(MARK).map(str::to_owned));
    let told = told.next().expect("a process that tells of its cluster");
    let mut words = told.split(' ').map(str::to_owned);
    let dir = words.next().expect("a directory").into();
    (
        process,
        Traces {
            dir,
            addresses: words.collect(),
        },
    )
}
