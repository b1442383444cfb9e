//! The server's own lock service and its election service: they queue behind us as we do behind them, and in a
//! storm nobody ever holds a name beside another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tenure::pb::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use tenure::pb::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use tenure::{Client, Compare, KeyRange, LeaseId, Op, Revision};
use tenure_etcd::{Cluster, Options};
use tenure_history::{Claim, History, Token, check_claims, check_nothing_left};

use crate::caller::Caller;
use crate::evidence::{changes, history, none_of};
use crate::ours;
use crate::support::{TTL, client, cluster, now, patiently, runtime};

const NAME: &str = "services";
const HOLD: Duration = Duration::from_millis(1);
const SESSIONS: usize = 2;
const THEIRS: usize = 3;
const TIMES: usize = 40;

/// Both services of one member.
#[derive(Clone)]
struct Services(Arc<Caller>);

impl Services {
    async fn connect(cluster: &Cluster) -> Services {
        Services(Arc::new(Caller::connect(&cluster.endpoints()[0]).await))
    }

    async fn call<T: Message + Default>(&self, path: &str, request: impl Message) -> T {
        let answer = patiently(path, self.0.call(path, &request.encode_to_vec().into())).await;
        let answer = answer.unwrap_or_else(|end| panic!("{path}: {end:?}"));
        T::decode(answer).expect("an answer of etcd")
    }

    /// The key that holds the lock.
    async fn lock(&self, name: &str, lease: LeaseId) -> Bytes {
        let name = name.to_owned().into();
        let request = LockRequest { name, lease: lease.0 };
        self.call::<LockResponse>("/v3lockpb.Lock/Lock", request).await.key
    }

    async fn unlock(&self, key: Bytes) {
        self.call::<UnlockResponse>("/v3lockpb.Lock/Unlock", UnlockRequest { key }).await;
    }

    async fn campaign(&self, lease: LeaseId, value: &'static str) -> LeaderKey {
        let request = CampaignRequest {
            name: NAME.into(),
            lease: lease.0,
            value: value.into(),
        };
        let answer: CampaignResponse = self.call("/v3electionpb.Election/Campaign", request).await;
        answer.leader.expect("the proof of leadership")
    }

    /// Key and value of whoever it says leads.
    async fn leader(&self) -> (Bytes, Bytes) {
        let request = LeaderRequest { name: NAME.into() };
        let answer: LeaderResponse = self.call("/v3electionpb.Election/Leader", request).await;
        answer.kv.map(|kv| (kv.key, kv.value)).expect("a leader")
    }

    async fn proclaim(&self, leader: &LeaderKey, value: &'static str) {
        let request = ProclaimRequest {
            leader: Some(leader.clone()),
            value: value.into(),
        };
        self.call::<ProclaimResponse>("/v3electionpb.Election/Proclaim", request).await;
    }

    async fn resign(&self, leader: LeaderKey) {
        let request = ResignRequest { leader: Some(leader) };
        self.call::<ResignResponse>("/v3electionpb.Election/Resign", request).await;
    }
}

async fn granted(client: &Client) -> LeaseId {
    LeaseId(client.lease_grant(TTL).await.expect("a lease").id)
}

async fn until_queue_is(client: &Client, length: i64) {
    patiently("the queue", async {
        let queue = || client.get(KeyRange::prefix(format!("{NAME}/"))).count_only();
        while queue().await.expect("a count").count != length {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[test]
fn the_lock_service_queues_behind_us_and_we_behind_it() {
    let cluster = cluster(1, Options::default());
    runtime().block_on(async {
        let (client, services) = (client(&cluster).await, Services::connect(&cluster).await);
        // Its own lease, or one that the server grants.
        for lease in [granted(&client).await, LeaseId::NONE] {
            let session = client.session().ttl(TTL).await.expect("a session");
            let behind = client.session().ttl(TTL).await.expect("a session");
            let ours = session.mutex(NAME).lock().await.expect("the lock");
            let theirs = services.clone();
            let theirs = tokio::spawn(async move { theirs.lock(NAME, lease).await });
            until_queue_is(&client, 2).await;
            let last = tokio::spawn(async move { behind.mutex(NAME).lock().await });
            until_queue_is(&client, 3).await;
            assert!(session.mutex(NAME).try_lock().await.expect("an answer").is_none());
            assert!(!theirs.is_finished(), "we hold it");
            ours.release().await.expect("a release");
            let key = patiently("their turn", theirs).await.expect("their key");
            if lease != LeaseId::NONE {
                assert_eq!(key, format!("{NAME}/{lease}"));
            }
            let entries = client.who(NAME).await.expect("the queue");
            assert_eq!(entries.len(), 2);
            assert!(!last.is_finished(), "they hold it");
            services.unlock(key).await;
            let last = patiently("our turn", last).await.unwrap().expect("the lock");
            last.fenced().put("written", "").await.expect("a fenced write");
            last.release().await.expect("a release");
        }
    });
}

#[test]
fn the_election_service_leads_after_us_and_we_after_it() {
    let cluster = cluster(1, Options::default());
    runtime().block_on(async {
        let (client, services) = (client(&cluster).await, Services::connect(&cluster).await);
        let session = client.session().ttl(TTL).await.expect("a session");
        let election = session.election(NAME);
        let mut ours = election.campaign("ours").await.expect("a leadership");
        let key = Bytes::copy_from_slice(ours.key());
        assert_eq!(services.leader().await, (key.clone(), "ours".into()));
        ours.proclaim("ours, again").await.expect("a proclamation");
        assert_eq!(services.leader().await, (key, "ours, again".into()));

        let (candidate, lease) = (services.clone(), granted(&client).await);
        let theirs = tokio::spawn(async move { candidate.campaign(lease, "theirs").await });
        until_queue_is(&client, 2).await;
        let behind = tokio::spawn({
            let election = election.clone();
            async move { election.campaign("ours, at last").await }
        });
        until_queue_is(&client, 3).await;
        assert!(!theirs.is_finished() && !behind.is_finished(), "we lead");
        ours.resign().await.expect("a resignation");
        let theirs = patiently("their leadership", theirs).await.unwrap();
        services.proclaim(&theirs, "theirs, again").await;
        let leader = client.leader(NAME).await.expect("an answer").expect("a leader");
        assert_eq!(
            (leader.key, leader.value),
            (theirs.key.clone(), "theirs, again".into())
        );
        assert!(!behind.is_finished(), "they lead");

        services.resign(theirs).await;
        let last = patiently("our leadership", behind).await.unwrap().expect("a leadership");
        assert_eq!(services.leader().await.1, "ours, at last");
        // What has our proof may resign for us.
        let proof = LeaderKey {
            name: NAME.into(),
            key: Bytes::copy_from_slice(last.key()),
            rev: last.token().create_revision().0,
            lease: last.session().lease_id().0,
        };
        services.resign(proof).await;
        assert!(client.leader(NAME).await.expect("an answer").is_none());
        assert!(last.fenced().put("written", "late").await.expect_err("a late write").is_lost());
    });
}

#[test]
fn a_leadership_of_the_service_on_our_lease_is_gone_on_with() {
    let cluster = cluster(1, Options::default());
    runtime().block_on(async {
        let (client, services) = (client(&cluster).await, Services::connect(&cluster).await);
        let session = client.session().ttl(TTL).await.expect("a session");
        let theirs = services.campaign(session.lease_id(), "theirs").await;
        let resumed = session.election(NAME).resume(theirs.key.clone(), Revision(theirs.rev)).await;
        let mut resumed = resumed.expect("the leadership");
        assert_eq!(resumed.token().create_revision(), Revision(theirs.rev));
        resumed.proclaim("ours").await.expect("a proclamation");
        assert_eq!(services.leader().await, (theirs.key, "ours".into()));
        resumed.resign().await.expect("a resignation");
        until_queue_is(&client, 0).await;
    });
}

#[test]
fn nobody_holds_a_name_beside_the_lock_service() {
    let cluster = cluster(1, Options::default());
    runtime().block_on(async {
        let running = Arc::new(AtomicUsize::new(THEIRS));
        let mut theirs = Vec::new();
        for _ in 0..THEIRS {
            let (client, services) = (client(&cluster).await, Services::connect(&cluster).await);
            let running = running.clone();
            theirs.push(tokio::spawn(async move {
                let claims = contend(&client, &services).await;
                running.fetch_sub(1, Ordering::SeqCst);
                claims
            }));
        }
        let (mut tasks, mut leases) = (Vec::new(), Vec::new());
        for _ in 0..SESSIONS {
            let session = client(&cluster).await.session().ttl(TTL).await.expect("a session");
            leases.push(session.lease_id().0);
            let running = running.clone();
            let enough = move |times| times >= TIMES && running.load(Ordering::SeqCst) == 0;
            tasks.push(tokio::spawn(async move {
                let claims = ours::contend(session.clone(), NAME, HOLD, enough).await;
                session.close().await.expect("a session that ends");
                claims
            }));
        }
        let mut claims = Vec::new();
        for task in tasks.into_iter().chain(theirs) {
            claims.extend(patiently("the claims", task).await.expect("claims"));
        }
        let client = client(&cluster).await;
        let history = History::fold(NAME, &changes(&history(&client, NAME).await)).expect("a history");
        none_of("claims", &check_claims(&history, &claims));
        assert_eq!(history.owners().len(), claims.len(), "an owner that nobody was");
        let alive = client.leases().await.expect("the leases");
        let alive: Vec<i64> = alive.leases.iter().map(|lease| lease.id).collect();
        none_of("the end", &check_nothing_left(&history, &leases, &alive));
        assert!(history.handoffs() * 2 > claims.len(), "it was not contended");
    });
}

/// Has the server lock again and again, and tells of each time.
async fn contend(client: &Client, services: &Services) -> Vec<Claim> {
    let lease = granted(client).await;
    let mut claims = Vec::new();
    for _ in 0..TIMES {
        let key = services.lock(NAME, lease).await;
        let granted = now();
        let there = Compare::version(key.clone()).greater(0);
        let txn = client.txn().when(there).then(Op::put("written", ""));
        let fenced = txn.await.expect("a fenced write");
        assert!(fenced.succeeded, "the key of a holder is gone");
        let created = client.get(key.clone()).await.expect("an answer").kvs[0].create_revision;
        tokio::time::sleep(HOLD).await;
        claims.push(Claim {
            client: format!("the lock service, lease {lease}"),
            key: key.to_vec(),
            token: Token { created, sequence: 0 },
            revisions: vec![fenced.revision().0],
            held: Some(granted..now()),
        });
        services.unlock(key).await;
    }
    client.lease_revoke(lease).await.expect("a revocation");
    claims
}
