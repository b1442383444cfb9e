//! Comparisons and cuts of random histories, held against what they are to bring about.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Change, Comparison, Cutter, Limits, Need};
use crate::core::jitter::Jitter;
use crate::pb::mvccpb::KeyValue;
use crate::types::Revision;

type Keys = BTreeMap<Bytes, Bytes>;

const SEEDS: u64 = 300;

fn below(random: &mut Jitter, bound: u64) -> u64 {
    random.next_u64() % bound
}

fn key(random: &mut Jitter) -> Bytes {
    format!("{:02}", below(random, 20)).into()
}

fn value(random: &mut Jitter) -> Bytes {
    vec![b'v'; below(random, 4) as usize].into()
}

fn apply(keys: &mut Keys, change: &Change) {
    match &change.value {
        Some(value) => keys.insert(change.key.clone(), value.clone()),
        None => keys.remove(&change.key),
    };
}

fn stored(keys: &Keys, lease: i64) -> Vec<KeyValue> {
    let kv = |(key, value): (&Bytes, &Bytes)| KeyValue {
        key: key.clone(),
        value: value.clone(),
        lease,
        ..KeyValue::default()
    };
    keys.iter().map(kv).collect()
}

fn random_keys(random: &mut Jitter) -> Keys {
    (0..below(random, 15)).map(|_| (key(random), value(random))).collect()
}

/// Pieces of random lengths, and then the end.
fn pieces(random: &mut Jitter, mut kvs: Vec<KeyValue>) -> Vec<Option<Vec<KeyValue>>> {
    let mut pieces = Vec::new();
    while !kvs.is_empty() {
        let len = 1 + below(random, kvs.len() as u64) as usize;
        pieces.push(Some(kvs.drain(..len).collect()));
    }
    pieces.push(None);
    pieces.reverse();
    pieces
}

fn compared(random: &mut Jitter, removes: bool, source: Vec<KeyValue>, copy: Vec<KeyValue>) -> Vec<Change> {
    let (mut source, mut copy) = (pieces(random, source), pieces(random, copy));
    let mut comparison = Comparison::new(removes);
    let mut changes = Vec::new();
    loop {
        while let Some(change) = comparison.poll_change() {
            changes.push(change);
        }
        match comparison.need() {
            Need::Source => comparison.handle_source(source.pop().expect("it has not ended")),
            Need::Copy => comparison.handle_copy(copy.pop().expect("it has not ended")),
            Need::Nothing => return changes,
        }
    }
}

#[test]
fn a_comparison_makes_the_copy_what_the_source_is_with_the_fewest_changes() {
    for seed in 0..SEEDS {
        let mut random = Jitter::new(seed);
        let (source, mut copy) = (random_keys(&mut random), random_keys(&mut random));
        let changes = compared(&mut random, true, stored(&source, 0), stored(&copy, 0));
        let keys = source.keys().chain(copy.keys()).collect::<std::collections::BTreeSet<_>>();
        let differ = keys.iter().filter(|key| source.get(**key) != copy.get(**key)).count();
        assert_eq!(changes.len(), differ, "seed {seed}");
        changes.iter().for_each(|change| apply(&mut copy, change));
        assert_eq!(copy, source, "seed {seed}");
    }
}

#[test]
fn a_comparison_that_removes_nothing_leaves_what_only_the_copy_has() {
    for seed in 0..SEEDS {
        let mut random = Jitter::new(seed);
        let (source, mut copy) = (random_keys(&mut random), random_keys(&mut random));
        let mut expected = copy.clone();
        expected.extend(source.clone());
        let changes = compared(&mut random, false, stored(&source, 0), stored(&copy, 0));
        changes.iter().for_each(|change| apply(&mut copy, change));
        assert_eq!(copy, expected, "seed {seed}");
    }
}

#[test]
fn a_copied_key_that_hangs_on_a_lease_is_put_without_one() {
    let keys = Keys::from([("k".into(), "v".into())]);
    let mut random = Jitter::new(0);
    let changes = compared(&mut random, true, stored(&keys, 0), stored(&keys, 7));
    assert_eq!(changes.len(), 1);
    // The source's leases are no reason.
    assert!(compared(&mut random, true, stored(&keys, 7), stored(&keys, 0)).is_empty());
}

/// Revisions of one to a few changes of different keys, and now and then of many.
fn history(random: &mut Jitter) -> Vec<(Revision, Vec<Change>)> {
    let revision = |random: &mut Jitter| {
        let most = if below(random, 5) == 0 { 20 } else { 3 };
        let keys: std::collections::BTreeSet<_> = (0..=below(random, most)).map(|_| key(random)).collect();
        let change = |key| Change {
            key,
            value: (below(random, 3) > 0).then(|| value(random)),
        };
        keys.into_iter().map(change).collect()
    };
    (0..below(random, 20))
        .map(|at| (Revision(10 + 2 * at as i64), revision(random)))
        .collect()
}

#[test]
fn cuts_keep_to_the_limits_and_show_only_states_that_the_source_had() {
    let mut parts = 0;
    for seed in 0..SEEDS {
        let mut random = Jitter::new(seed);
        let limits = Limits {
            changes: 1 + below(&mut random, 8) as usize,
            bytes: 2 + below(&mut random, 30) as usize,
        };
        let history = history(&mut random);
        let mut cutter = Cutter::new(limits);
        let (mut source, mut copy, mut done) = (Keys::new(), Keys::new(), 0);
        for (revision, changes) in &history {
            cutter.handle_revision(*revision, changes.clone());
        }
        while let Some(cut) = cutter.poll_cut() {
            assert!(cut.changes.len() <= limits.changes, "seed {seed}: {cut:?}");
            let bytes: usize = cut.changes.iter().map(Change::bytes).sum();
            assert!(
                bytes <= limits.bytes || cut.changes.len() == 1,
                "seed {seed}: {cut:?}"
            );
            let keys: std::collections::HashSet<_> = cut.changes.iter().map(|change| &change.key).collect();
            assert_eq!(keys.len(), cut.changes.len(), "seed {seed}: {cut:?}");
            cut.changes.iter().for_each(|change| apply(&mut copy, change));
            let Some(completes) = cut.completes else {
                parts += 1;
                continue;
            };
            while done < history.len() && history[done].0 <= completes {
                history[done].1.iter().for_each(|change| apply(&mut source, change));
                done += 1;
            }
            assert_eq!(copy, source, "seed {seed} at {completes}");
        }
        assert!(cutter.is_empty() && done == history.len(), "seed {seed}");
    }
    assert!(parts > SEEDS, "no revision was cut: {parts}");
}

#[test]
fn a_revision_that_fits_is_never_cut() {
    for seed in 0..SEEDS {
        let mut random = Jitter::new(seed);
        let limits = Limits {
            changes: 20,
            bytes: usize::MAX,
        };
        let mut cutter = Cutter::new(limits);
        for (revision, changes) in history(&mut random) {
            cutter.handle_revision(revision, changes);
        }
        while let Some(cut) = cutter.poll_cut() {
            assert!(cut.completes.is_some(), "seed {seed}: {cut:?}");
        }
    }
}
