//! The election among strangers: `etcdctl elect` sees our leaders and leads after them, as
//! we do with its; and with the Go client's `concurrency.Election` nobody ever leads
//! beside another.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use tenure::{Client, Op, Session};
use tenure_etcd::{Cluster, Options};
use tenure_history::{Claim, History, Token, check_claims, check_nothing_left};

use crate::evidence::{changes, history, none_of};
use crate::golang::{self, Recipe};
use crate::support::{PATIENCE, TTL, binary, client, cluster, now, patiently, runtime};

const NAME: &str = "election";
const TIMES: usize = 100;
const HOLD: Duration = Duration::from_millis(1);
const SESSIONS: usize = 3;

/// `etcdctl elect`, and what it prints.
struct Etcdctl {
    process: Child,
    lines: Receiver<String>,
}

impl Etcdctl {
    fn elect(cluster: &Cluster, args: &[&str]) -> Etcdctl {
        let mut process = Command::new(binary().etcdctl().expect("an etcdctl beside the etcd"))
            .args(["--endpoints", &cluster.endpoints().join(","), "elect"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("etcdctl runs");
        let stdout = BufReader::new(process.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Etcdctl { process, lines }
    }

    /// Key and value of whoever it says leads.
    fn leader(&self) -> (String, String) {
        let line = || self.lines.recv_timeout(PATIENCE).expect("a line of etcdctl");
        (line(), line())
    }

    /// Has it resign.
    fn interrupt(mut self) {
        let interrupt = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status();
        assert!(interrupt.expect("kill runs").success());
        self.process.wait().expect("etcdctl ends");
    }
}

/// It ends with its test.
impl Drop for Etcdctl {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn until_candidates_are(client: &Client, count: i64) {
    patiently("the candidates", async {
        let candidates = || client.get(tenure::KeyRange::prefix(format!("{NAME}/"))).count_only();
        while candidates().await.expect("a count").count != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[test]
fn etcdctl_elect_and_ours_lead_one_after_the_other_and_see_each_other() {
    let cluster = cluster(1, Options::default());
    runtime().block_on(async {
        let client = client(&cluster).await;
        let session = client.session().ttl(TTL).await.expect("a session");
        let election = session.election(NAME);
        let mut observed = election.observe();
        let mut leader = async || {
            let leader = patiently("the next leader", observed.next()).await.expect("it goes on");
            leader.map(|leader| String::from_utf8_lossy(&leader.value).into_owned())
        };
        assert_eq!(leader().await, None);
        let mut ours = election.campaign("ours").await.expect("a leadership");
        let key = String::from_utf8_lossy(ours.key()).into_owned();
        assert_eq!(leader().await.as_deref(), Some("ours"));

        let listens = Etcdctl::elect(&cluster, &["--listen", NAME]);
        assert_eq!(listens.leader(), (key.clone(), "ours".to_owned()));
        ours.proclaim("ours, again").await.expect("a proclamation");
        assert_eq!(listens.leader(), (key, "ours, again".to_owned()));
        assert_eq!(leader().await.as_deref(), Some("ours, again"));

        let theirs = Etcdctl::elect(&cluster, &[NAME, "theirs"]);
        until_candidates_are(&client, 2).await;
        let behind = tokio::spawn(async move { election.campaign("ours, at last").await });
        until_candidates_are(&client, 3).await;
        ours.resign().await.expect("a resignation");
        let (key, value) = theirs.leader();
        assert_eq!(value, "theirs");
        assert_eq!(listens.leader(), (key.clone(), value));
        assert_eq!(leader().await.as_deref(), Some("theirs"));
        let found = client.leader(NAME).await.expect("an answer").expect("a leader");
        assert_eq!(found.key, key.as_bytes());
        assert!(!behind.is_finished(), "two leaders");

        theirs.interrupt();
        let last = patiently("the leadership", behind).await.unwrap().expect("a leadership");
        assert_eq!(leader().await.as_deref(), Some("ours, at last"));
        let (key, value) = listens.leader();
        assert_eq!((key.as_bytes(), value.as_str()), (last.key(), "ours, at last"));
        last.resign().await.expect("a resignation");
        assert_eq!(leader().await, None);
    });
}

#[test]
fn the_go_clients_election_and_ours_never_have_two_leaders() {
    let cluster = cluster(1, Options::default());
    let Some(program) = golang::program() else {
        return;
    };
    let endpoints = cluster.endpoints().join(",");
    let go =
        thread::spawn(move || golang::contend(&program, Recipe::Election, (&endpoints, NAME), HOLD, TIMES));
    runtime().block_on(async {
        let (mut tasks, mut leases) = (Vec::new(), Vec::new());
        for _ in 0..SESSIONS {
            let session = client(&cluster).await.session().ttl(TTL).await.expect("a session");
            leases.push(session.lease_id().0);
            tasks.push(tokio::spawn(lead(session)));
        }
        let mut claims = Vec::new();
        for task in tasks {
            claims.extend(patiently("a session's claims", task).await.expect("claims"));
        }
        claims.extend(go.join().expect("the claims of Go"));
        let client = client(&cluster).await;
        let history = History::fold(NAME, &changes(&history(&client, NAME).await)).expect("a history");
        none_of("claims", &check_claims(&history, &claims));
        assert_eq!(history.owners().len(), claims.len(), "a leader that nobody was");
        let alive = client.leases().await.expect("the leases");
        let alive: Vec<i64> = alive.leases.iter().map(|lease| lease.id).collect();
        none_of("the end", &check_nothing_left(&history, &leases, &alive));
        println!("{} leaders, {} after another", claims.len(), history.handoffs());
    });
}

/// Leads again and again, and tells of each time.
async fn lead(session: Session) -> Vec<Claim> {
    let election = session.election(NAME);
    let mut claims = Vec::new();
    for time in 0..TIMES {
        let mut leadership = patiently("a leadership", election.campaign(time.to_string())).await.unwrap();
        let granted = now();
        let txn = session.client().txn().when(leadership.fence());
        let fenced = txn.then(Op::put("written", "")).await.expect("a fenced write");
        assert!(fenced.succeeded, "the key of a leader is gone");
        leadership.proclaim("again").await.expect("a proclamation");
        tokio::time::sleep(HOLD).await;
        claims.push(Claim {
            client: format!("ours, session {}", session.lease_id()),
            key: leadership.key().to_vec(),
            token: Token {
                created: leadership.token().create_revision().0,
                sequence: 0,
            },
            revisions: vec![fenced.revision().0],
            held: Some(granted..now()),
        });
        leadership.resign().await.expect("a resignation");
    }
    session.close().await.expect("a session that ends");
    claims
}
