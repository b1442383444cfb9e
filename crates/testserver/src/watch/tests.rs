//! What watchers see, and when, with the ticks made by hand.

use super::*;
use crate::pb::{DeleteRequest, PutRequest};
use crate::store::Write;

/// A store and its watches, with one stream.
struct Scene {
    store: Store,
    watches: Watches,
    stream: StreamId,
}

impl Scene {
    fn new() -> Scene {
        let mut watches = Watches::new(Header::default(), 1000);
        let stream = watches.open();
        Scene {
            store: Store::new(),
            watches,
            stream,
        }
    }

    fn write(&mut self, body: impl FnOnce(&mut Write<'_>)) {
        let mut write = Write::new(&mut self.store);
        body(&mut write);
        let events = write.commit();
        self.watches.handle_events(&self.store, self.store.revision(), &events);
    }

    fn put(&mut self, key: &str, value: &str) {
        let request = PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..PutRequest::default()
        };
        self.write(|write| drop(write.put(&request, &|_| true)));
    }

    fn delete(&mut self, key: &str) {
        let request = DeleteRequest {
            key: key.to_owned().into(),
            ..DeleteRequest::default()
        };
        self.write(|write| drop(write.delete(&request)));
    }

    fn create(&mut self, request: &WatchCreate) -> WatchResponse {
        self.watches.create(self.stream, request, &self.store);
        let created = self.watches.pop(self.stream).unwrap();
        assert!(created.created);
        created
    }

    fn tick(&mut self) {
        self.watches.handle_tick(&self.store);
    }

    fn sent(&mut self) -> Vec<WatchResponse> {
        std::iter::from_fn(|| self.watches.pop(self.stream)).collect()
    }

    /// The revisions of the events sent.
    fn revisions(&mut self) -> Vec<i64> {
        let events = self.sent().into_iter().flat_map(|response| response.events);
        events.map(|event| event.kv.unwrap().mod_revision).collect()
    }
}

fn on(key: &'static str) -> WatchCreate {
    WatchCreate {
        key: key.into(),
        ..WatchCreate::default()
    }
}

#[test]
fn a_watch_from_now_on_is_served_at_once() {
    let mut scene = Scene::new();
    scene.put("k", "before");
    assert_eq!(scene.create(&on("k")).header.unwrap().revision, 2);
    let future = WatchCreate {
        start_revision: 4,
        ..on("k")
    };
    scene.create(&future);
    scene.put("k", "1");
    scene.put("other", "2");
    let sent = scene.sent();
    assert_eq!((sent.len(), sent[0].watch_id), (1, 0));
    assert_eq!(sent[0].events[0].kv.as_ref().unwrap().value, "1");
    scene.put("k", "3");
    assert_eq!(scene.revisions(), [5, 5]);
}

#[test]
fn a_watch_of_the_past_waits_for_the_tick() {
    let mut scene = Scene::new();
    for value in ["1", "2", "3"] {
        scene.put("k", value);
    }
    let past = WatchCreate {
        start_revision: 3,
        ..on("k")
    };
    scene.create(&past);
    scene.put("k", "4");
    assert_eq!(scene.revisions(), [0; 0]);
    scene.tick();
    assert_eq!(scene.revisions(), [3, 4, 5]);
    scene.put("k", "5");
    assert_eq!(scene.revisions(), [6]);
    scene.tick();
    assert_eq!(scene.revisions(), [0; 0]);
}

#[test]
fn a_watch_of_the_present_revision_is_one_of_the_past() {
    let mut scene = Scene::new();
    scene.put("k", "1");
    let present = WatchCreate {
        start_revision: 2,
        ..on("k")
    };
    scene.create(&present);
    assert_eq!(scene.revisions(), [0; 0]);
    scene.tick();
    assert_eq!(scene.revisions(), [2]);
}

#[test]
fn a_tick_gives_a_thousand_revisions_at_most() {
    let mut scene = Scene::new();
    for _ in 0..1500 {
        scene.put("k", "x");
    }
    let all = WatchCreate {
        start_revision: 1,
        ..on("k")
    };
    scene.create(&all);
    scene.tick();
    assert_eq!(scene.revisions(), (2..=1001).collect::<Vec<_>>());
    scene.put("k", "x");
    scene.tick();
    assert_eq!(scene.revisions(), (1002..=1502).collect::<Vec<_>>());
}

#[test]
fn a_stream_that_is_not_read_falls_behind_and_loses_nothing() {
    let mut scene = Scene::new();
    scene.create(&on("k"));
    for _ in 0..RESPONSES_MAX + 10 {
        scene.put("k", "x");
    }
    scene.tick();
    let first = i64::try_from(RESPONSES_MAX).unwrap() + 2;
    assert_eq!(scene.revisions(), (2..first).collect::<Vec<_>>());
    scene.tick();
    assert_eq!(scene.revisions(), (first..first + 10).collect::<Vec<_>>());
}

#[test]
fn what_is_compacted_cancels_the_watch() {
    let mut scene = Scene::new();
    for value in ["1", "2", "3"] {
        scene.put("k", value);
    }
    scene.store.compact(3).unwrap();
    for start_revision in [2, 3] {
        let past = WatchCreate {
            start_revision,
            ..on("k")
        };
        scene.create(&past);
    }
    scene.tick();
    let sent = scene.sent();
    assert_eq!(
        (sent[0].watch_id, sent[0].canceled, sent[0].compact_revision),
        (0, true, 3)
    );
    assert_eq!((sent[1].watch_id, sent[1].events.len()), (1, 2));
    scene.tick();
    scene.put("k", "4");
    assert_eq!(scene.revisions(), [5], "it is told once, and sees nothing more");
}

#[test]
fn a_compacted_watch_keeps_its_id_until_the_client_cancels_it_too() {
    let mut scene = Scene::new();
    for value in ["1", "2", "3"] {
        scene.put("k", value);
    }
    scene.store.compact(3).unwrap();
    let past = WatchCreate {
        start_revision: 2,
        watch_id: 7,
        ..on("k")
    };
    scene.create(&past);
    scene.tick();
    assert_eq!(scene.sent()[0].compact_revision, 3);
    scene.tick();
    scene.put("k", "4");
    scene.watches.progress(scene.stream, 5);
    assert!(scene.sent().is_empty(), "it is over, and no progress is told");
    assert!(scene.create(&past).cancel_reason.contains("duplicate watch ID"));
    scene.watches.cancel(scene.stream, 7, 5);
    assert_eq!((scene.sent()[0].watch_id, scene.create(&past).watch_id), (7, 7));
}

#[test]
fn filters_and_previous_values() {
    let mut scene = Scene::new();
    let deletes = WatchCreate {
        filters: vec![filter::NO_PUT],
        prev_kv: true,
        ..on("k")
    };
    let puts = WatchCreate {
        filters: vec![filter::NO_DELETE],
        ..on("k")
    };
    scene.create(&deletes);
    scene.create(&puts);
    scene.put("k", "1");
    scene.delete("k");
    let sent = scene.sent();
    let kinds: Vec<_> = sent.iter().map(|response| (response.watch_id, response.events[0].kind)).collect();
    assert_eq!(kinds, [(1, event::PUT), (0, event::DELETE)]);
    let deletion = &sent[1].events[0];
    assert_eq!(deletion.prev_kv.as_ref().unwrap().value, "1");
    assert_eq!(deletion.kv.as_ref().unwrap().mod_revision, 3);
}

#[test]
fn what_one_revision_deletes_and_creates_again_has_no_previous_value() {
    let mut scene = Scene::new();
    scene.put("k", "1");
    let all = WatchCreate {
        prev_kv: true,
        ..on("k")
    };
    scene.create(&all);
    scene.write(|write| {
        write.delete_key(&"k".into());
        let again = PutRequest {
            key: "k".into(),
            value: "2".into(),
            ..PutRequest::default()
        };
        write.put(&again, &|_| true).unwrap();
    });
    let events = scene.sent().remove(0).events;
    let previous: Vec<_> = events.iter().map(|event| event.prev_kv.is_some()).collect();
    assert_eq!(previous, [true, false]);
}

#[test]
fn a_watch_that_cannot_be_is_answered_with_why() {
    let mut scene = Scene::new();
    let reversed = WatchCreate {
        range_end: "a".into(),
        ..on("z")
    };
    let negative = WatchCreate {
        start_revision: -1,
        ..on("k")
    };
    let chosen = WatchCreate {
        watch_id: 5,
        ..on("k")
    };
    assert_eq!(scene.create(&chosen).watch_id, 5);
    for (request, reason) in [
        (reversed, "range is empty"),
        (negative, "compacted"),
        (chosen, "duplicate watch ID"),
    ] {
        let response = scene.create(&request);
        assert_eq!((response.watch_id, response.canceled), (-1, true));
        assert!(
            response.cancel_reason.contains(reason),
            "{}",
            response.cancel_reason
        );
    }
    let ids: Vec<i64> = (0..7).map(|_| scene.create(&on("k")).watch_id).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4, 6, 7]);
}

#[test]
fn a_cancel_is_answered_once() {
    let mut scene = Scene::new();
    scene.create(&on("k"));
    for _ in 0..2 {
        scene.watches.cancel(scene.stream, 0, 1);
    }
    scene.put("k", "1");
    let sent = scene.sent();
    assert_eq!(sent.len(), 1);
    assert!(sent[0].canceled && sent[0].cancel_reason.is_empty());
}

#[test]
fn progress_is_told_only_where_all_is_seen() {
    let mut scene = Scene::new();
    scene.watches.progress(scene.stream, 1);
    assert!(scene.sent().is_empty(), "there is no watch");
    scene.create(&on("k"));
    scene.watches.progress(scene.stream, 1);
    assert_eq!(scene.sent()[0].watch_id, -1);
    scene.put("x", "1");
    let past = WatchCreate {
        start_revision: 1,
        ..on("k")
    };
    scene.create(&past);
    scene.watches.progress(scene.stream, 2);
    assert!(scene.sent().is_empty(), "one is behind");
    scene.tick();
    scene.watches.progress(scene.stream, 2);
    assert_eq!(scene.sent()[0].header.as_ref().unwrap().revision, 2);
}

#[test]
fn a_quiet_watch_that_asked_is_told_of_progress_at_the_interval() {
    let mut scene = Scene::new();
    let notified = WatchCreate {
        progress_notify: true,
        ..on("k")
    };
    scene.create(&notified);
    scene.create(&on("k"));
    scene.put("k", "1");
    assert_eq!(scene.sent().len(), 2);
    scene.watches.handle_progress_tick(2);
    assert!(scene.sent().is_empty(), "it had an event");
    scene.watches.handle_progress_tick(2);
    let sent = scene.sent();
    assert_eq!((sent.len(), sent[0].watch_id, sent[0].events.len()), (1, 0, 0));
}

#[test]
fn a_large_revision_comes_in_fragments_where_they_were_asked_for() {
    let mut scene = Scene::new();
    for fragment in [false, true] {
        let all = WatchCreate {
            range_end: "z".into(),
            fragment,
            ..on("a")
        };
        scene.create(&all);
    }
    let value = "x".repeat(600);
    scene.write(|write| {
        for key in ["a", "b", "c"] {
            let request = PutRequest {
                key: key.into(),
                value: value.clone().into(),
                ..PutRequest::default()
            };
            write.put(&request, &|_| true).unwrap();
        }
    });
    let sent = scene.sent();
    let pieces: Vec<_> = sent
        .iter()
        .map(|response| (response.watch_id, response.events.len(), response.fragment))
        .collect();
    assert_eq!(pieces, [(0, 3, false), (1, 1, true), (1, 1, true), (1, 1, false)]);
}
