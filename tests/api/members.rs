//! The cluster service: members listed, added as learners, promoted, changed and removed.

use std::time::Duration;

use tenure::pb::etcdserverpb::Member;
use tenure::{Client, EtcdError, MemberId};

use crate::support::{client, is_embedded, own_etcd, patiently, run, unimplemented};

const NOWHERE: &str = "http://127.0.0.1:1";
const ELSEWHERE: &str = "http://127.0.0.1:2";

#[test]
fn the_members_are_listed_by_a_quorum_or_by_one_of_them() {
    run(async {
        let client = client().await;
        let members = client.members().list().await.unwrap().members;
        assert_eq!(members.len(), 1);
        assert!(members[0].id != 0 && !members[0].is_learner);
        if !is_embedded() {
            assert_eq!(members[0].client_urls, client.endpoints().list());
            assert!(!members[0].peer_urls.is_empty() && !members[0].name.is_empty());
        }
        assert_eq!(
            client.members().list().serializable().await.unwrap().members,
            members
        );
    });
}

async fn member(client: &Client, id: MemberId) -> Option<Member> {
    let members = client.members().list().await.expect("the members").members;
    members.into_iter().find(|member| member.id == id.0)
}

#[test]
fn a_member_is_added_changed_and_removed() {
    let cluster = own_etcd(1);
    run(async {
        let Some(cluster) = cluster else {
            let (client, id) = (client().await, MemberId(1));
            unimplemented(client.members().add([NOWHERE]).learner().await);
            unimplemented(client.members().update(id, [NOWHERE]).await);
            unimplemented(client.members().promote(id).await);
            return unimplemented(client.members().remove(id).await);
        };
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        let added = client.members().add([NOWHERE]).learner().await.unwrap();
        assert_eq!(added.members.len(), 2);
        let id = MemberId(added.member.unwrap().id);
        let learner = member(&client, id).await.unwrap();
        assert_eq!((learner.is_learner, &learner.name[..]), (true, ""));
        assert_eq!(learner.peer_urls, [NOWHERE]);

        let error = client.members().promote(id).await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::LearnerNotReady));
        // A member's ID is made of its URLs and the second in which it is added.
        let twice = client.members().add([NOWHERE]).await.unwrap_err().etcd();
        assert!(
            matches!(twice, Some(EtcdError::PeerUrlsExist | EtcdError::MemberExists)),
            "{twice:?}"
        );
        let error = client.members().add(["not a URL"]).await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::InvalidMemberUrls));
        client.members().update(id, [ELSEWHERE]).await.unwrap();
        assert_eq!(member(&client, id).await.unwrap().peer_urls, [ELSEWHERE]);

        assert_eq!(client.members().remove(id).await.unwrap().members.len(), 1);
        assert_eq!(member(&client, id).await, None);
        let error = client.members().remove(id).await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::MemberNotFound));
    });
}

#[test]
fn a_learner_that_has_caught_up_is_promoted() {
    let Some(mut cluster) = own_etcd(1) else {
        return run(async { unimplemented(client().await.members().promote(MemberId(1)).await) });
    };
    cluster.add_learner().unwrap();
    run(async {
        let client = Client::connect([cluster.member(0).endpoint()]).await.unwrap();
        let members = client.members().list().await.unwrap().members;
        let learner = members.iter().find(|member| member.is_learner).expect("a learner");
        let id = MemberId(learner.id);
        patiently("a promotion", async {
            while let Err(error) = client.members().promote(id).await {
                assert_eq!(error.etcd(), Some(EtcdError::LearnerNotReady), "{error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        assert!(!member(&client, id).await.unwrap().is_learner);
        // etcd asks first how far it is behind as a learner, which is nothing that it knows of a voter.
        let twice = client.members().promote(id).await.unwrap_err().etcd();
        let refusals = [EtcdError::MemberNotLearner, EtcdError::LearnerNotReady];
        assert!(twice.is_some_and(|etcd| refusals.contains(&etcd)), "{twice:?}");
        // Now it is one of those that a client goes round over, as soon as it has told where it is.
        patiently("its address", async {
            while client.endpoints().sync().await.expect("the members").len() < 2 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    });
}
