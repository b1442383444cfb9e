//! Users, roles and permissions, and whether anybody is asked for them.

use tenure::client::PermissionType;
use tenure::{Auth, Client, Code, Config, EtcdError, KeyRange};
use tenure_etcd::{Binary, Cluster, Line};

use crate::support::{client, own_etcd, run, unimplemented};

const PASSWORD: &str = "correct-horse-battery";
const ANOTHER: &str = "battery-horse-correct";

async fn login(cluster: &Cluster, name: &str, password: &str) -> Result<Client, tenure::Error> {
    let config = Config::new().auth(Auth::password(name, password));
    Client::connect_with(cluster.endpoints(), config).await
}

#[test]
fn users_have_roles_and_roles_have_permissions() {
    let Some(cluster) = own_etcd(1) else {
        return run(nothing_of_it());
    };
    run(async {
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        let (users, roles) = (client.users(), client.roles());
        users.add("alice", PASSWORD).await.unwrap();
        users.add_without_password("bob").await.unwrap();
        let error = users.add("alice", PASSWORD).await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::UserExists));
        assert!(!format!("{error:?} {error}").contains(PASSWORD));
        assert_eq!(users.list().await.unwrap().users, ["alice", "bob"]);

        roles.add("jobs").await.unwrap();
        assert_eq!(
            roles.add("jobs").await.unwrap_err().etcd(),
            Some(EtcdError::RoleExists)
        );
        roles.grant("jobs", PermissionType::Readwrite, KeyRange::prefix("jobs/")).await.unwrap();
        roles.grant("jobs", PermissionType::Read, "motto").await.unwrap();
        let granted = roles.get("jobs").await.unwrap().perm;
        let granted: Vec<_> = granted
            .iter()
            .map(|perm| (&perm.key[..], &perm.range_end[..], perm.perm_type()))
            .collect();
        let expected: [(&[u8], &[u8], PermissionType); 2] = [
            (b"jobs/", b"jobs0", PermissionType::Readwrite),
            (b"motto", b"", PermissionType::Read),
        ];
        assert_eq!(granted, expected);
        roles.revoke("jobs", "motto").await.unwrap();
        let error = roles.revoke("jobs", "jobs/").await.unwrap_err();
        assert_eq!(
            error.etcd(),
            Some(EtcdError::PermissionNotGranted),
            "other keys than were granted"
        );

        users.grant_role("alice", "jobs").await.unwrap();
        assert_eq!(users.get("alice").await.unwrap().roles, ["jobs"]);
        users.revoke_role("alice", "jobs").await.unwrap();
        let error = users.revoke_role("alice", "jobs").await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::RoleNotGranted));
        assert_eq!(roles.list().await.unwrap().roles, ["jobs"]);
        roles.delete("jobs").await.unwrap();
        assert_eq!(
            roles.get("jobs").await.unwrap_err().etcd(),
            Some(EtcdError::RoleNotFound)
        );
        users.delete("bob").await.unwrap();
        assert_eq!(
            users.get("bob").await.unwrap_err().etcd(),
            Some(EtcdError::UserNotFound)
        );
    });
}

#[test]
fn who_may_not_is_refused_once_authentication_is_enabled() {
    let Some(cluster) = own_etcd(1) else {
        return run(nothing_of_it());
    };
    let has_status = Binary::find().unwrap().line() >= Line::V3_5;
    run(async {
        let client = Client::connect(cluster.endpoints()).await.unwrap();
        let error = client.authentication().enable().await.unwrap_err();
        assert_eq!(error.etcd(), Some(EtcdError::RootUserNotFound));
        client.users().add("root", PASSWORD).await.unwrap();
        client.roles().add("root").await.unwrap();
        client.users().grant_role("root", "root").await.unwrap();
        client.users().add("alice", PASSWORD).await.unwrap();
        client.roles().add("jobs").await.unwrap();
        let jobs = KeyRange::prefix("jobs/");
        client.roles().grant("jobs", PermissionType::Readwrite, jobs).await.unwrap();
        client.users().grant_role("alice", "jobs").await.unwrap();
        match has_status {
            true => assert!(!client.authentication().status().await.unwrap().enabled),
            false => unimplemented(client.authentication().status().await),
        }
        client.authentication().enable().await.unwrap();
        assert_eq!(
            client.users().list().await.unwrap_err().etcd(),
            Some(EtcdError::UserEmpty)
        );

        let (alice, root) = (
            login(&cluster, "alice", PASSWORD).await,
            login(&cluster, "root", PASSWORD).await,
        );
        let (alice, root) = (alice.unwrap(), root.unwrap());
        alice.put("jobs/1", "").await.unwrap();
        let refused = [
            alice.put("other", "").await.unwrap_err(),
            alice.users().list().await.unwrap_err(),
        ];
        assert!(
            refused.iter().all(|error| error.etcd() == Some(EtcdError::PermissionDenied)),
            "{refused:?}"
        );
        if has_status {
            assert!(root.authentication().status().await.unwrap().enabled);
        }
        root.users().change_password("alice", ANOTHER).await.unwrap();
        let error = login(&cluster, "alice", PASSWORD).await.unwrap_err();
        assert_eq!(
            (error.code(), error.etcd()),
            (Code::InvalidArgument, Some(EtcdError::AuthFailed))
        );
        login(&cluster, "alice", ANOTHER).await.unwrap().put("jobs/2", "").await.unwrap();
        root.authentication().disable().await.unwrap();
        client.put("other", "").await.unwrap();
    });
}

#[test]
fn a_password_is_in_no_debug_of_a_call() {
    run(async {
        let client = client().await;
        let shown = format!(
            "{:?} {:?}",
            client.users().add("alice", PASSWORD),
            client.users().change_password("alice", PASSWORD)
        );
        assert!(shown.contains("alice") && !shown.contains(PASSWORD), "{shown}");
    });
}

async fn nothing_of_it() {
    let client = client().await;
    let (users, roles) = (client.users(), client.roles());
    unimplemented(users.add("a", "b").await);
    unimplemented(users.get("a").await);
    unimplemented(users.list().await);
    unimplemented(users.delete("a").await);
    unimplemented(users.change_password("a", "b").await);
    unimplemented(users.grant_role("a", "b").await);
    unimplemented(users.revoke_role("a", "b").await);
    unimplemented(roles.add("a").await);
    unimplemented(roles.get("a").await);
    unimplemented(roles.list().await);
    unimplemented(roles.delete("a").await);
    unimplemented(roles.grant("a", PermissionType::Read, "b").await);
    unimplemented(roles.revoke("a", "b").await);
    unimplemented(client.authentication().enable().await);
    unimplemented(client.authentication().disable().await);
    unimplemented(client.authentication().status().await);
}
