//! Holds what the tasks noted against what etcd has recorded.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tenure_history::{
    Claim, History, Outcome, Stored, Violation, Write, check_claims, check_nothing_left, check_register,
};

use crate::desk::queue_name;
use crate::evidence::{fenced, greatest, read};
use crate::note::{Hold, Note, Take};
use crate::recorder::Recorded;
use crate::wish::NAMES;

/// What all tasks together noted. A clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Notes>>);

#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) leases: HashSet<i64>,
    /// Whose keys somebody deleted: until they hear of it they are mistaken.
    pub(crate) revoked: HashSet<i64>,
    /// That the server did not know any more, whoever revoked them.
    unknown: HashSet<i64>,
    holds: Vec<Hold>,
    writes: HashMap<String, Vec<Write>>,
    gone: Vec<(String, i64, String)>,
    puts: Vec<(String, Option<i64>)>,
    takes: Vec<Take>,
    pub(crate) counts: BTreeMap<String, u64>,
    /// The network carries out some requests twice.
    pub(crate) copies: bool,
}

impl Notes {
    /// An etcd leader that stood still takes leases for expired that the next leader has renewed, and has them
    /// revoked when it goes on (etcd issue 15247; seen with 3.6.16 in 2 resumes of 20): nobody can know
    /// before a renewal is refused. To be called where leaders stood still.
    pub(crate) fn excuse_resumed_leaders(&mut self) {
        let by_etcd: Vec<i64> = self.unknown.difference(&self.revoked).copied().collect();
        self.counts.insert("revoked-by-etcd".to_owned(), by_etcd.len() as u64);
        self.revoked.extend(by_etcd);
    }
}

impl Seen {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, note: Note) {
        let mut notes = self.lock();
        match note {
            Note::Lease(lease) => drop(notes.leases.insert(lease)),
            Note::Unknown(lease) => drop(notes.unknown.insert(lease)),
            Note::Held(hold) => notes.holds.push(hold),
            Note::Wrote(register, write) => notes.writes.entry(register).or_default().push(write),
            Note::Gone(key, lease, known) => notes.gone.push((key, lease, known)),
            Note::Put(value, revision) => notes.puts.push((value, revision)),
            Note::Took(take) => notes.takes.push(take),
            Note::Count(what) => *notes.counts.entry(what).or_default() += 1,
        }
    }

    pub(crate) fn count(&self, what: &str) {
        self.note(Note::Count(what.to_owned()));
    }

    /// How often anything was acquired.
    pub(crate) fn acquisitions(&self) -> usize {
        self.lock().holds.len()
    }
}

/// What was found, and what there was.
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    pub(crate) summary: String,
    /// How often each recipe was held.
    pub(crate) recipes: BTreeMap<String, usize>,
    pub(crate) handed_over: usize,
}

pub(crate) fn judge(notes: &Notes, recorded: &Recorded) -> Verdict {
    let mut violations = Vec::new();
    let (mut overlaps, mut waited) = (0, 0);
    for name in NAMES {
        match History::fold(name, &recorded.events) {
            Ok(history) => {
                let found = of_name(notes, recorded, name, &history);
                violations.extend(found.iter().map(|violation| format!("{name}: {violation}")));
                overlaps += unfenced_overlaps(notes, name, &history);
                waited += history.handoffs();
            }
            Err(violation) => violations.push(format!("{name}: {violation}")),
        }
    }
    violations.extend(dead_leases(notes, recorded));
    violations.extend(of_queue(notes, recorded));
    let is_mistaken = |lease: &i64| notes.revoked.contains(lease);
    for (key, _, known) in notes.gone.iter().filter(|(_, lease, _)| !is_mistaken(lease)) {
        violations.push(format!(
            "{key}: valid ({known}), and its key is gone: {}",
            recorded.end_of(key)
        ));
    }
    if let Some(torn) = notes.counts.get("torn-transfer") {
        violations.push(format!("{torn} transactions saw accounts that do not add up"));
    }
    let mut recipes = BTreeMap::new();
    for hold in &notes.holds {
        *recipes.entry(hold.recipe.clone()).or_default() += 1;
    }
    let handed_over = notes.holds.iter().filter(|hold| hold.token.sequence > 0).count();
    let mistaken = notes.holds.iter().filter(|hold| is_mistaken(&hold.lease())).count();
    let mut summary = format!(
        "{} acquisitions {recipes:?}, {handed_over} handed over within a session, {waited} keys waited; {mistaken} \
         under leases that were revoked; {overlaps} unfenced overlaps; {} sessions; {} revisions; {} items put, {} \
         taken; {:?}",
        notes.holds.len(),
        notes.leases.len(),
        recorded.events.last().map_or(0, |event| event.revision),
        notes.puts.len(),
        notes.takes.len(),
        notes.counts
    );
    let _ = write!(summary, "; registers: {}", outcomes(notes));
    Verdict {
        violations,
        summary,
        recipes,
        handed_over,
    }
}

/// Nothing is left: no key in a queue, no lease of ours.
pub(crate) fn left(notes: &Notes, recorded: &Recorded, alive: &[i64]) -> Vec<String> {
    let ours: Vec<i64> = notes.leases.iter().copied().collect();
    let histories = NAMES.iter().filter_map(|name| History::fold(name, &recorded.events).ok());
    let left = histories.flat_map(|history| check_nothing_left(&history, &ours, alive));
    left.map(|violation| violation.to_string()).collect()
}

fn of_name(notes: &Notes, recorded: &Recorded, name: &str, history: &History) -> Vec<Violation> {
    // Times of who is mistaken prove nothing; what he wrote under his fence does.
    let held = |hold: &Hold| hold.held.clone().filter(|_| !notes.revoked.contains(&hold.lease()));
    let claims = claims(notes, name, held);
    let mut found = check_claims(history, &claims);
    let alone: Vec<Claim> =
        claims.into_iter().filter(|claim| claim.kind() == tenure_history::Kind::Alone).collect();
    let owns =
        |at: i64, one: &Stored| history.owner_at(at).is_some_and(|owner| owner.created == one.token.created);
    for (register, is_fenced) in [(fenced(name), true), (greatest(name), false)] {
        let puts = recorded.puts(|key| key == register.as_bytes());
        let mut known = HashSet::new();
        // A copy that the network made is nobody's write where the register may take it.
        let mut is_copy =
            |at: i64, one: &Stored| !known.insert(one.id) && notes.copies && (!is_fenced || owns(at, one));
        let stored = puts.iter().filter_map(|(at, value)| Some((*at, read(value)?)));
        let stored: Vec<Stored> = stored.filter(|(at, one)| !is_copy(*at, one)).map(|(_, one)| one).collect();
        let writes = notes.writes.get(&register).map_or(&[][..], |writes| &writes[..]);
        found.extend(check_register(
            writes,
            &alone,
            stored.get(1..).unwrap_or_default(),
        ));
    }
    found
}

fn claims(notes: &Notes, name: &str, held: impl Fn(&Hold) -> Option<Range<u64>>) -> Vec<Claim> {
    let of_name = notes.holds.iter().filter(|hold| hold.names.iter().any(|other| other == name));
    let claim = |hold: &Hold| Claim {
        client: format!("{} {}", hold.client, hold.recipe),
        key: format!("{name}/{}", hold.entry).into_bytes(),
        token: hold.token,
        revisions: hold.revisions.clone(),
        held: held(hold),
    };
    // One that was never valid was told so: it claims nothing.
    of_name.filter(|hold| hold.held.is_some()).map(claim).collect()
}

/// How often two acted at once that must not, where one of them had not looked.
fn unfenced_overlaps(notes: &Notes, name: &str, history: &History) -> usize {
    let acted = |hold: &Hold| hold.acted.clone().or(hold.held.clone());
    let found = check_claims(history, &claims(notes, name, acted));
    found.iter().filter(|violation| matches!(violation, Violation::Overlap { .. })).count()
}

/// Who was granted something, or was told that it is his, after its key was seen to be gone.
fn dead_leases(notes: &Notes, recorded: &Recorded) -> Vec<String> {
    let gone = recorded.gone();
    let mut found = Vec::new();
    for hold in notes.holds.iter().filter(|hold| !notes.revoked.contains(&hold.lease())) {
        let Some(held) = &hold.held else { continue };
        for name in &hold.names {
            let key = format!("{name}/{}", hold.entry);
            let gone = gone.get(&(key.as_bytes(), hold.token.created));
            if let Some(gone) = gone.filter(|gone| held.end > **gone) {
                let late = (held.end - gone) / 1000;
                found.push(format!(
                    "{}: {key} was valid {late} us after it was seen to be gone",
                    hold.client
                ));
            }
        }
    }
    found
}

/// Items are put once, nobody works on one that somebody else has, and what is done is gone.
fn of_queue(notes: &Notes, recorded: &Recorded) -> Vec<String> {
    let mut found = Vec::new();
    let items = format!("{}#queue/item/", queue_name());
    let puts = recorded.puts(|key| key.starts_with(items.as_bytes()));
    let mut by_value: HashMap<&str, Vec<i64>> = HashMap::new();
    for (revision, value) in &puts {
        by_value.entry(value).or_default().push(*revision);
    }
    for (value, revision) in &notes.puts {
        let there = by_value.get(value.as_str()).map_or(&[][..], |there| &there[..]);
        let is_right = revision.map_or(there.len() <= 1, |revision| there == [revision]);
        if !is_right {
            found.push(format!(
                "the item {value}, put at {revision:?}, is there at {there:?}"
            ));
        }
    }
    let mut takes: Vec<&Take> =
        notes.takes.iter().filter(|take| !notes.revoked.contains(&take.lease)).collect();
    takes.sort_by_key(|take| (take.item, take.held.start));
    for pair in takes.windows(2).filter(|pair| pair[0].item == pair[1].item) {
        if pair[0].held.end > pair[1].held.start {
            found.push(format!("two work on one item: {:?} and {:?}", pair[0], pair[1]));
        }
        if pair[0].done == Some(Outcome::Applied) {
            found.push(format!(
                "an item was done, and taken again: {:?} and {:?}",
                pair[0], pair[1]
            ));
        }
    }
    found
}

fn outcomes(notes: &Notes) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for write in notes.writes.values().flatten() {
        *counts.entry(format!("{:?}", write.outcome)).or_default() += 1;
    }
    format!("{counts:?}")
}
