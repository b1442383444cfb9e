//! The election against a real server: who leads, what is said, and what others see of it.

use std::future::IntoFuture;
use std::time::Duration;

use tenure::{Client, Code, KeyRange, Leader, Observe, Op, Revision, Session};

use crate::lock::{TTL, session, until_queue_is};
use crate::support::{client, counted_client, patiently, run};

/// What the leader says; `None` where nobody leads.
async fn leads(client: &Client, name: &str) -> Option<String> {
    client.leader(name).await.unwrap().map(|leader| says(&leader))
}

fn says(leader: &Leader) -> String {
    String::from_utf8(leader.value.to_vec()).unwrap()
}

async fn next(observed: &mut Observe) -> Option<String> {
    patiently("the next leader", observed.next()).await.unwrap().as_ref().map(says)
}

#[test]
fn one_leads_at_a_time_in_the_order_of_their_campaigns() {
    run(async {
        const NAME: &str = "election/order";
        let client = client().await;
        assert_eq!(leads(&client, NAME).await, None);
        let first = session().await.election(NAME).campaign("0").await.unwrap();
        let mut campaigns = Vec::new();
        for candidate in 1..4 {
            let election = session().await.election(NAME);
            campaigns.push(tokio::spawn(async move {
                election.campaign(candidate.to_string()).await.unwrap()
            }));
            until_queue_is(&client, NAME, candidate + 1).await;
        }
        let mut leader = first;
        for (candidate, campaign) in campaigns.into_iter().enumerate() {
            assert_eq!(leads(&client, NAME).await, Some(candidate.to_string()));
            assert!(!campaign.is_finished(), "two leaders");
            let token = leader.token();
            leader.resign().await.unwrap();
            leader = patiently("the next leader", campaign).await.unwrap();
            assert!(leader.token() > token && leader.is_valid());
        }
        drop(leader);
        until_queue_is(&client, NAME, 0).await;
    });
}

#[test]
fn leading_speaking_and_resigning_are_one_request_each() {
    run(async {
        let (client, sent) = counted_client().await;
        let election = client.session().ttl(TTL).await.unwrap().election("election/cost");
        let mut before = sent.requests();
        let mut cost = || {
            let now = sent.requests();
            now - std::mem::replace(&mut before, now)
        };
        for _ in 0..2 {
            let mut leadership = election.campaign("a").await.unwrap();
            assert_eq!(cost(), 1, "campaign");
            leadership.proclaim("b").await.unwrap();
            assert_eq!(cost(), 1, "proclaim");
            assert_eq!(leads(&client, "election/cost").await.as_deref(), Some("b"));
            assert_eq!(cost(), 1, "leader");
            leadership.resign().await.unwrap();
            assert_eq!(cost(), 1, "resign");
        }
    });
}

#[test]
fn whoever_observes_is_told_of_each_leader_and_of_what_it_says() {
    run(async {
        const NAME: &str = "election/observed";
        let (one, two) = (session().await, session().await);
        let mut observed = one.election(NAME).observe();
        assert_eq!(next(&mut observed).await, None);
        let mut leadership = one.election(NAME).campaign("a").await.unwrap();
        let leader = patiently("the leader", observed.next()).await.unwrap().unwrap();
        assert_eq!((says(&leader).as_str(), leader.lease), ("a", one.lease_id()));
        assert_eq!(leader.created, leadership.token().create_revision());
        assert_eq!(leader.key, leadership.key());
        leadership.proclaim("b").await.unwrap();
        assert_eq!(next(&mut observed).await.as_deref(), Some("b"));
        let election = two.election(NAME);
        let campaign = tokio::spawn(async move { election.campaign("c").await.unwrap() });
        until_queue_is(one.client(), NAME, 2).await;
        leadership.resign().await.unwrap();
        assert_eq!(next(&mut observed).await.as_deref(), Some("c"));
        // Whoever comes later is told as well.
        let mut late = one.client().observe_leader(NAME);
        assert_eq!(next(&mut late).await.as_deref(), Some("c"));
        let leadership = patiently("the leadership", campaign).await.unwrap();
        // A session that ends has led.
        two.close().await.unwrap();
        patiently("the loss", leadership.lost()).await;
        assert_eq!(next(&mut observed).await, None);
        assert_eq!(next(&mut late).await, None);
    });
}

#[test]
fn who_no_longer_leads_proclaims_nothing_and_writes_nothing() {
    run(async {
        const NAME: &str = "election/late";
        let (one, two) = (session().await, session().await);
        let mut deposed = one.election(NAME).campaign("old").await.unwrap();
        let write = |fence| one.client().txn().when(fence).then(Op::put("election-fence", "x")).into_future();
        assert!(write(deposed.fence()).await.unwrap().succeeded);
        one.client().delete(KeyRange::prefix(format!("{NAME}/"))).await.unwrap();
        let leadership = two.election(NAME).campaign("new").await.unwrap();
        assert!(!write(deposed.fence()).await.unwrap().succeeded);
        let error = deposed.proclaim("older").await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        assert_eq!(leads(one.client(), NAME).await.as_deref(), Some("new"));
        let error = deposed.resign().await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        leadership.resign().await.unwrap();
    });
}

#[test]
fn a_candidate_whose_key_goes_with_the_leaders_does_not_lead() {
    run(async {
        const NAME: &str = "election/swept";
        let (one, two) = (session().await, session().await);
        let leadership = one.election(NAME).campaign("a").await.unwrap();
        let election = two.election(NAME);
        let campaign = tokio::spawn(async move { election.campaign("b").await });
        until_queue_is(one.client(), NAME, 2).await;
        one.client().delete(KeyRange::prefix(format!("{NAME}/"))).await.unwrap();
        let error = patiently("the news", campaign).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::Aborted, "{error}");
        drop(leadership);
        assert_eq!(leads(one.client(), NAME).await, None);
    });
}

#[test]
fn a_leader_goes_on_after_a_restart_with_its_lease_and_its_key() {
    run(async {
        const NAME: &str = "election/resumed";
        let before = session().await;
        let leadership = before.election(NAME).campaign("a").await.unwrap();
        let (lease, key) = (before.lease_id(), leadership.key().to_vec());
        let token = leadership.token();
        before.orphan();
        drop(leadership);
        let session = client().await.session().lease(lease).await.unwrap();
        let election = session.election(NAME);
        let resumed = election.resume(key.clone(), token.create_revision()).await;
        let mut resumed = resumed.unwrap();
        assert_eq!((resumed.token(), resumed.key()), (token, &key[..]));
        resumed.proclaim("b").await.unwrap();
        assert_eq!(leads(session.client(), NAME).await.as_deref(), Some("b"));
        // Keys of its own do not clash with those of the first life.
        let campaign = tokio::spawn({
            let election = election.clone();
            async move { election.campaign("c").await.unwrap() }
        });
        until_queue_is(session.client(), NAME, 2).await;
        resumed.resign().await.unwrap();
        let next = patiently("the next leader", campaign).await.unwrap();
        assert!(next.key() != key && next.token() > token);
        let error = election.resume(key, token.create_revision()).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        next.resign().await.unwrap();
        until_queue_is(session.client(), NAME, 0).await;
    });
}

#[test]
fn a_candidate_is_resumed_in_its_place_and_not_from_another_lease() {
    run(async {
        const NAME: &str = "election/place";
        let (one, two) = (session().await, session().await);
        let leadership = one.election(NAME).campaign("a").await.unwrap();
        // Put by the Go client, say.
        let key = format!("{NAME}/{}", two.lease_id());
        let put = two.client().put(key.clone(), "b").lease(two.lease_id()).await.unwrap();
        let strangers = one.election(NAME).resume(key.clone(), put.revision()).await;
        assert_eq!(strangers.unwrap_err().code(), Code::FailedPrecondition);
        let election = two.election(NAME);
        let error = election.resume(key.clone(), Revision(1)).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        let resuming = tokio::spawn({
            let (election, key) = (election.clone(), key.clone());
            async move { election.resume(key, put.revision()).await.unwrap() }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!resuming.is_finished(), "two leaders");
        leadership.resign().await.unwrap();
        let resumed = patiently("the leadership", resuming).await.unwrap();
        assert_eq!(leads(one.client(), NAME).await.as_deref(), Some("b"));
        resumed.resign().await.unwrap();
        until_queue_is(one.client(), NAME, 0).await;
    });
}

#[test]
fn a_campaign_that_takes_too_long_ends_and_leaves_no_candidate() {
    run(async {
        const NAME: &str = "election/timeout";
        let (one, two) = (session().await, session().await);
        let leadership = one.election(NAME).campaign("a").await.unwrap();
        let election = two.election(NAME).timeout(Duration::from_millis(50));
        let error = election.campaign("b").await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
        until_queue_is(one.client(), NAME, 1).await;
        leadership.resign().await.unwrap();
        // With all the time that it takes.
        two.election(NAME).campaign("b").await.unwrap().resign().await.unwrap();
        let error = one.election("").campaign("a").await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    });
}

#[test]
fn elections_of_nested_names_have_leaders_of_their_own() {
    run(async {
        const NAME: &str = "election/nest";
        const INNER: usize = 150;
        let session: Session = session().await;
        let mut inner = Vec::new();
        for number in 0..INNER {
            let election = session.election(&format!("{NAME}/{number}"));
            inner.push(election.campaign("inner").await.unwrap());
        }
        assert_eq!(leads(session.client(), NAME).await, None);
        let mut observed = session.election(NAME).observe();
        assert_eq!(next(&mut observed).await, None);
        let outer = session.election(NAME).campaign("outer").await.unwrap();
        assert_eq!(leads(session.client(), NAME).await.as_deref(), Some("outer"));
        assert_eq!(next(&mut observed).await.as_deref(), Some("outer"));
        assert_eq!(
            leads(session.client(), &format!("{NAME}/7")).await.as_deref(),
            Some("inner")
        );
        drop((inner, outer));
        until_queue_is(session.client(), NAME, 0).await;
    });
}
