//! Endpoints that come and go while the client runs, and how many connections each has.

use std::time::Duration;

use tenure::{Code, Config, EtcdError};

use crate::fleet::{Fate, Fleet, Reply};
use crate::peer::patiently;

#[tokio::test]
async fn endpoints_are_added_and_removed_while_calls_run() {
    let fleet = Fleet::new(&[("a", Fate::Lives), ("b", Fate::Lives)]);
    let client = fleet.client(&["a"], Config::new()).await;
    client.endpoints().add("b:2379").unwrap();
    assert_eq!(client.endpoints().list(), ["http://a", "http://b:2379"]);
    patiently("a put at the new one", async {
        while fleet.asked_of("b") == 0 {
            client.put("key", "").await.unwrap();
        }
    })
    .await;
    // In another spelling than it was added with.
    assert!(client.endpoints().remove("http://A:2379/").unwrap());
    assert!(!client.endpoints().remove("a").unwrap());
    let before = fleet.asked_of("a");
    for _ in 0..20 {
        client.put("key", "").await.unwrap();
    }
    assert_eq!(fleet.asked_of("a"), before);
    let error = client.endpoints().remove("b:2379").unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
}

#[tokio::test]
async fn what_is_in_flight_at_an_endpoint_that_is_removed_is_answered() {
    let fleet = Fleet::scripted(&[("a", Fate::Lives), ("b", Fate::Lives)], None, |_| {
        Reply::After(Duration::from_millis(300))
    });
    let client = fleet.client(&["a"], Config::new()).await;
    let put = tokio::spawn(client.put("key", "").into_future());
    patiently("the put", async {
        while fleet.asked().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    client.endpoints().set(["b"]).unwrap();
    put.await.unwrap().expect("an answer of the endpoint that is none any more");
    client.put("key", "").await.unwrap();
    assert_eq!((fleet.asked_of("a"), fleet.asked_of("b")), (1, 1));
}

#[tokio::test]
async fn the_members_that_serve_clients_become_the_endpoints() {
    let fleet = Fleet::new(&[("a", Fate::Lives), ("b", Fate::Lives)]);
    let client = fleet.client(&["a"], Config::new()).await;
    fleet.list(&[
        (&["http://b:2379"], false),
        (&[], false),
        (&["http://c:2379"], true),
    ]);
    assert_eq!(client.endpoints().sync().await.unwrap(), ["http://b:2379"]);
    client.put("key", "").await.unwrap();
    assert_eq!(fleet.asked_of("b"), 1);
    fleet.list(&[(&[], false)]);
    client.endpoints().sync().await.expect_err("nobody could be asked any more");
    assert_eq!(client.endpoints().list(), ["http://b:2379"]);
}

#[tokio::test]
async fn the_members_of_another_cluster_do_not_become_the_endpoints() {
    let fleet = Fleet::new(&[("a", Fate::Lives), ("b", Fate::Lives)]);
    let client = fleet.client(&["a"], Config::new()).await;
    fleet.list(&[(&["http://a:2379"], false)]);
    fleet.belongs_to(7);
    client.endpoints().sync().await.unwrap();
    fleet.list(&[(&["http://b:2379"], false)]);
    fleet.belongs_to(8);
    let error = client.endpoints().sync().await.unwrap_err();
    assert_eq!(error.etcd(), Some(EtcdError::ClusterIdMismatch), "{error}");
    assert_eq!(client.endpoints().list(), ["http://a"]);
    fleet.belongs_to(7);
    assert_eq!(client.endpoints().sync().await.unwrap(), ["http://b:2379"]);
}

#[tokio::test]
async fn members_are_synced_at_an_interval() {
    let fleet = Fleet::new(&[("a", Fate::Lives), ("b", Fate::Lives)]);
    fleet.list(&[(&["http://a:2379", "http://b:2379"], false)]);
    let config = Config::new().sync_interval(Duration::from_millis(20));
    let client = fleet.client(&["a"], config).await;
    patiently("the second endpoint", async {
        while client.endpoints().list().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn calls_alone_and_watches_alone_share_one_connection_and_both_have_two() {
    let fleet = Fleet::new(&[("a", Fate::Lives)]);
    let client = fleet.client(&["a"], Config::new()).await;
    for _ in 0..20 {
        client.put("key", "").await.unwrap();
    }
    assert_eq!(fleet.dials_of("a"), 1);
    let watch = client.watch("key").timeout(Duration::from_secs(3600)).into_future();
    let watch = tokio::spawn(watch);
    patiently("the stream", async {
        while !fleet.asked().iter().any(|asked| &*asked.key == b"/etcdserverpb.Watch/Watch") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    patiently("a put apart from it", async {
        loop {
            client.put("key", "").await.unwrap();
            let asked = fleet.asked();
            let watched = asked.iter().find(|asked| &*asked.key == b"/etcdserverpb.Watch/Watch");
            if asked.last().map(|put| put.dial) != watched.map(|watched| watched.dial) {
                return;
            }
        }
    })
    .await;
    assert_eq!(fleet.dials_of("a"), 2);
    watch.abort();
}

#[tokio::test]
async fn connections_grow_as_streams_fill_them_up_to_their_bound() {
    let fleet = Fleet::scripted(&[("a", Fate::Lives)], None, |_| {
        Reply::After(Duration::from_millis(100))
    });
    let config = Config::new().connections_max(3).streams_full(4);
    let client = fleet.client(&["a"], config).await;
    for _ in 0..4 {
        let puts: Vec<_> = (0..30).map(|_| tokio::spawn(client.put("key", "").into_future())).collect();
        for put in puts {
            put.await.unwrap().unwrap();
        }
    }
    assert_eq!(fleet.dials_of("a"), 3);
}

#[tokio::test]
async fn a_client_that_is_gone_leaves_no_task_that_would_ask_for_members() {
    let fleet = Fleet::new(&[("a", Fate::Lives)]);
    let config = Config::new().sync_interval(Duration::from_secs(3600));
    drop(fleet.client(&["a"], config).await);
    let tasks = tokio::runtime::Handle::current().metrics();
    patiently("the end of the tasks", async {
        while tasks.num_alive_tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
