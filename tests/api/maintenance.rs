//! The maintenance service, member by member; alarms, and a downgrade.

use std::time::Duration;

use tenure::client::AlarmType;
use tenure::pb::etcdserverpb::StatusResponse;
use tenure::{Client, Code, Config, Error, EtcdError, MemberId, Origin, Revision};
use tenure_etcd::{Binary, Line};

use crate::support::{client, endpoints, own_etcd, patiently, run, unimplemented};

#[test]
fn a_call_for_one_member_goes_to_it_alone() {
    let Some(cluster) = own_etcd(3) else {
        return run(async {
            let client = client().await;
            let status = client.maintenance(&endpoints()[0]).unwrap().status().await.unwrap();
            assert_eq!(Some(status.leader), status.header.map(|header| header.member_id));
        });
    };
    run(async {
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        let asked = |status: StatusResponse| status.header.expect("a header").member_id;
        for member in cluster.members() {
            let id = member.id().expect("it runs");
            let at = client.maintenance(member.endpoint()).unwrap();
            assert_eq!(at.endpoint(), member.endpoint());
            for _ in 0..4 {
                assert_eq!(asked(at.status().await.unwrap()), id);
            }
        }
        let stranger = client.maintenance("http://127.0.0.1:1").unwrap_err();
        assert_eq!(
            (stranger.code(), stranger.origin()),
            (Code::InvalidArgument, Origin::Caller)
        );

        // One that is gone is waited for, and the others do not answer in its place.
        let gone = cluster.member(2).endpoint();
        cluster.member(2).kill();
        let status = client.maintenance(&gone).unwrap().status();
        let error = status.timeout(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(
            (error.code(), error.endpoint()),
            (Code::DeadlineExceeded, Some(&gone[..])),
            "{error}"
        );
        let removed = client.maintenance(&gone).unwrap();
        client.endpoints().remove(&gone).unwrap();
        let error = removed.status().await.unwrap_err();
        assert_eq!(
            (error.code(), error.origin()),
            (Code::InvalidArgument, Origin::Caller),
            "{error}"
        );
    });
}

#[test]
fn a_member_tells_how_it_does_and_what_its_data_hash_to() {
    let Some(cluster) = own_etcd(1) else {
        return run(async {
            let client = client().await;
            let member = client.maintenance(&endpoints()[0]).unwrap();
            unimplemented(member.hash().await);
            unimplemented(member.hash_kv(Revision::ZERO).await);
            unimplemented(member.defragment().await);
            unimplemented(member.move_leader(MemberId(1)).await);
        });
    };
    run(async {
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        let member = client.maintenance(&cluster.endpoints()[0]).unwrap();
        let put = client.put("maintenance", "one").await.unwrap().revision();
        let status = member.status().await.unwrap();
        assert!(
            status.version.starts_with("3.") && status.db_size > 0,
            "{status:?}"
        );
        assert_eq!(Some(status.leader), status.header.map(|header| header.member_id));

        let old = member.hash_kv(put).await.unwrap();
        assert_ne!(member.hash().await.unwrap().hash, 0);
        client.put("maintenance", "two").await.unwrap();
        assert_eq!(member.hash_kv(put).await.unwrap().hash, old.hash);
        assert_ne!(member.hash_kv(Revision::ZERO).await.unwrap().hash, old.hash);
        let error = member.hash_kv(Revision(i64::MAX)).await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::FutureRevision));
        member.defragment().timeout(Duration::from_secs(60)).await.unwrap();
        assert_eq!(client.get("maintenance").await.unwrap().kvs[0].value, "two");
    });
}

async fn leader(client: &Client, endpoint: &str) -> MemberId {
    let status = client.maintenance(endpoint).unwrap().status().await;
    MemberId(status.map_or(0, |status| status.leader))
}

#[test]
fn the_leader_hands_the_leadership_over() {
    let Some(cluster) = own_etcd(3) else {
        return run(async {
            let client = client().await;
            unimplemented(client.maintenance(&endpoints()[0]).unwrap().move_leader(MemberId(1)).await);
        });
    };
    run(async {
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        let leads = cluster.leader_index().unwrap();
        let (at, next) = (cluster.member(leads).endpoint(), cluster.member((leads + 1) % 3));
        let to = MemberId(next.id().unwrap());
        let error = client.maintenance(next.endpoint()).unwrap().move_leader(to).await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::NotLeader));
        let moved = client.maintenance(&at).unwrap().move_leader(to).await;
        moved.expect("the leadership moves");
        patiently("another leader", async {
            while leader(&client, &next.endpoint()).await != to {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    });
}

#[test]
fn an_alarm_stops_writes_until_it_is_disarmed() {
    let Some(cluster) = own_etcd(1) else {
        return run(async {
            let client = client().await;
            unimplemented(client.alarms().list().await);
            unimplemented(client.alarms().arm(MemberId(1), AlarmType::Nospace).await);
            unimplemented(client.alarms().disarm(MemberId(1), AlarmType::Nospace).await);
            unimplemented(client.alarms().disarm_all().await);
        });
    };
    run(async {
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        let member = MemberId(cluster.member(0).id().unwrap());
        assert!(client.alarms().list().await.unwrap().alarms.is_empty());
        client.alarms().arm(member, AlarmType::Nospace).await.unwrap();
        let error = client.put("alarms", "").await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::NoSpace));
        let raised = client.alarms().list().await.unwrap().alarms;
        assert_eq!(raised.len(), 1);
        assert_eq!(
            (MemberId(raised[0].member_id), raised[0].alarm()),
            (member, AlarmType::Nospace)
        );
        let taken = client.alarms().disarm(member, AlarmType::Nospace).await.unwrap();
        assert_eq!(taken.alarms, raised);
        client.put("alarms", "").await.unwrap();
        assert!(client.alarms().disarm(member, AlarmType::Nospace).await.unwrap().alarms.is_empty());
    });
}

#[test]
fn all_alarms_of_all_members_are_disarmed() {
    let Some(cluster) = own_etcd(3) else {
        return run(async { unimplemented(client().await.alarms().disarm_all().await) });
    };
    run(async {
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        assert!(client.alarms().disarm_all().await.unwrap().is_empty());
        let mut raised = Vec::new();
        for (index, alarm) in [
            (0, AlarmType::Nospace),
            (0, AlarmType::Corrupt),
            (2, AlarmType::Nospace),
        ] {
            let member = MemberId(cluster.member(index).id().unwrap());
            raised.extend(client.alarms().arm(member, alarm).await.unwrap().alarms);
        }
        let mut disarmed = client.alarms().disarm_all().await.unwrap();
        for alarms in [&mut raised, &mut disarmed] {
            alarms.sort_by_key(|alarm| (alarm.member_id, alarm.alarm));
        }
        assert_eq!((disarmed.len(), &disarmed), (3, &raised));
        assert!(client.alarms().list().await.unwrap().alarms.is_empty());
        client.put("alarms", "").await.unwrap();
    });
}

/// The cluster's version is agreed on a moment after it has started.
async fn validated(client: &Client, version: &str) -> Result<(), Error> {
    patiently("a version of the cluster", async {
        loop {
            match client.downgrade().validate(version).await {
                Err(error)
                    if matches!(
                        error.etcd(),
                        Some(EtcdError::ClusterVersionNotFound | EtcdError::InvalidDowngradeTargetVersion)
                    ) =>
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                answer => return answer.map(drop),
            }
        }
    })
    .await
}

#[test]
fn a_downgrade_is_validated_enabled_and_given_up() {
    let Some(cluster) = own_etcd(1) else {
        return run(async {
            let client = client().await;
            unimplemented(client.downgrade().validate("3.5.0").await);
            unimplemented(client.downgrade().enable("3.5.0").await);
            unimplemented(client.downgrade().cancel().await);
        });
    };
    let line = Binary::find().unwrap().line();
    let below = format!("3.{}.0", line.minor - 1);
    run(async {
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        if line < Line::V3_5 {
            return unimplemented(client.downgrade().validate(&below).await);
        }
        validated(&client, &below).await.expect("one minor version down");
        let error = client.downgrade().validate("three").await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::WrongDowngradeVersionFormat));
        let error = client.downgrade().validate("3.0.0").await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::InvalidDowngradeTargetVersion));
        if line < Line::V3_6 {
            return;
        }
        client.downgrade().enable(&below).await.unwrap();
        // Once the cluster's version has gone down, that one is none to go down to any more.
        let again = client.downgrade().enable(&below).await.unwrap_err().etcd();
        let expected = [
            EtcdError::DowngradeInProgress,
            EtcdError::InvalidDowngradeTargetVersion,
        ];
        assert!(again.is_some_and(|etcd| expected.contains(&etcd)), "{again:?}");
        client.downgrade().cancel().await.unwrap();
        client.put("downgrade", "given up").await.unwrap();
    });
}

#[test]
fn a_member_that_is_silent_is_not_asked_elsewhere() {
    let Some(cluster) = own_etcd(3) else {
        return run(async {
            let client = client().await;
            client.maintenance(&endpoints()[0]).unwrap().status().await.unwrap();
        });
    };
    run(async {
        let config = Config::new().hedge_after(Duration::from_millis(50));
        let client = Client::connect_with(cluster.endpoints(), config).await.unwrap();
        let frozen = cluster.member(1).endpoint();
        client.maintenance(&frozen).unwrap().status().await.unwrap();
        cluster.member(1).pause().unwrap();
        let status = client.maintenance(&frozen).unwrap().status();
        let error = status.timeout(Duration::from_secs(2)).await.unwrap_err();
        assert_eq!(
            (error.code(), error.endpoint()),
            (Code::DeadlineExceeded, Some(&frozen[..])),
            "{error}"
        );
        cluster.member(1).resume().unwrap();
    });
}
