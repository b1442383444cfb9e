//! Processes that contend for one lock, each with a word, tasks that take turns, and messages
//! that are late. One seed is one run. A witness knows who holds the lock and which keys
//! there are, and counts for how long others are kept waiting.

use std::cell::Cell;
use std::collections::VecDeque;

use word::{Rule, Taken, Terms, Use, Word};

mod atomics {
    pub(super) use std::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};
}

#[allow(dead_code, reason = "not all of it is simulated")]
#[path = "../../src/concurrency/word.rs"]
mod word;

const PROCESSES: usize = 3;
const TASKS: usize = 4;
const HOLDS: u32 = 6;
const HANDED_MAX: u32 = 3;
/// Every message has arrived and everybody has had a turn long before.
const STEPS_MAX: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Away,
    Waits,
    Holds(i64, u32),
}

#[derive(Debug)]
struct Task {
    state: State,
    left: u32,
}

/// What one process has on the way, to etcd or back; and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Rest,
    /// Task, and whether the request has been carried out, as which key.
    Registers(usize, Option<i64>),
    /// The key, and whether it is deleted.
    Deletes(bool),
}

struct Process {
    word: Word,
    turn: Cell<bool>,
    tasks: Vec<Task>,
    line: VecDeque<usize>,
    way: Way,
    /// What the recall watch has still to hear.
    puts: u32,
    lingers: bool,
    /// Grants of others since its key is in the queue.
    passed_over: u32,
}

struct Run {
    chance: u64,
    off: Option<Rule>,
    revision: i64,
    /// (create_revision, process), the oldest first.
    queue: VecDeque<(i64, usize)>,
    processes: Vec<Process>,
    last: (i64, u32),
}

/// What the witness saw.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    TwoHold,
    HoldsWithoutKey,
    TokenFell,
    KeptWaiting,
    NeverDone,
    Left,
}

impl Run {
    fn new(seed: u64, off: Option<Rule>) -> Run {
        let process = |number: usize| {
            let mut word = Word::new();
            word.off = off;
            Process {
                word,
                turn: Cell::new(true),
                tasks: (0..TASKS)
                    .map(|_| Task {
                        state: State::Away,
                        left: HOLDS,
                    })
                    .collect(),
                line: VecDeque::new(),
                way: Way::Rest,
                puts: 0,
                lingers: number > 0 && seed % 2 == 0,
                passed_over: 0,
            }
        };
        Run {
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            off,
            revision: 1,
            queue: VecDeque::new(),
            processes: (0..PROCESSES).map(process).collect(),
            last: (0, 0),
        }
    }

    /// A number below `bound`: xorshift64 (Marsaglia, 2003).
    fn below(&mut self, bound: usize) -> usize {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        usize::try_from(self.chance >> 33).expect("31 bits") % bound
    }

    fn run(mut self) -> Result<(), Wrong> {
        for _ in 0..STEPS_MAX {
            let process = self.below(PROCESSES);
            match self.below(8) {
                0 => self.ask(process)?,
                1 => self.finish(process),
                2 => self.give_up(process),
                3 => self.etcd(process),
                4 => self.answer(process)?,
                5 => self.hear(process),
                6 => self.watch(process),
                _ => self.next_turn(process)?,
            }
            self.witness()?;
        }
        self.wind_up()
    }

    fn terms(&self, process: usize) -> Terms {
        Terms {
            handed_max: HANDED_MAX,
            handed_time_max: u64::MAX,
            linger: u64::from(self.processes[process].lingers),
            kept_time_max: u64::MAX,
            one_token_per_key: false,
        }
    }

    /// A task wants the lock.
    fn ask(&mut self, process: usize) -> Result<(), Wrong> {
        let task = self.below(TASKS);
        let own = &mut self.processes[process];
        if own.tasks[task].state != State::Away || own.tasks[task].left == 0 {
            return Ok(());
        }
        own.tasks[task].state = State::Waits;
        if own.line.is_empty() && own.turn.replace(false) {
            return self.take(process, task, false);
        }
        assert!(own.word.enter());
        own.line.push_back(task);
        Ok(())
    }

    fn next_turn(&mut self, process: usize) -> Result<(), Wrong> {
        let own = &mut self.processes[process];
        if !own.turn.get() {
            return Ok(());
        }
        let Some(task) = own.line.pop_front() else {
            return Ok(());
        };
        own.turn.set(false);
        self.take(process, task, true)
    }

    fn take(&mut self, process: usize, task: usize, entered: bool) -> Result<(), Wrong> {
        match self.processes[process].word.take(entered, true, false) {
            Taken::Granted(created, sequence) => self.hold(process, task, created, sequence),
            Taken::Fresh => {
                self.processes[process].way = Way::Registers(task, None);
                Ok(())
            }
            Taken::Stale => {
                self.processes[process].tasks[task].state = State::Away;
                self.processes[process].way = Way::Deletes(false);
                Ok(())
            }
        }
    }

    fn hold(&mut self, process: usize, task: usize, created: i64, sequence: u32) -> Result<(), Wrong> {
        if (created, sequence) <= self.last {
            return Err(Wrong::TokenFell);
        }
        self.last = (created, sequence);
        let waiting: Vec<usize> = self.queue.iter().map(|(_, process)| *process).collect();
        for other in waiting.into_iter().filter(|other| *other != process) {
            self.processes[other].passed_over += 1;
            // Everybody before it has all of a key's grants, and one may be on its way already.
            let bound = u32::try_from(PROCESSES).expect("few") * (HANDED_MAX + 2) + self.slack();
            if self.processes[other].passed_over > bound {
                return Err(Wrong::KeptWaiting);
            }
        }
        self.processes[process].passed_over = 0;
        self.processes[process].tasks[task].state = State::Holds(created, sequence);
        Ok(())
    }

    /// What is granted before a recall is heard, where somebody lingers: all of it at most.
    fn slack(&self) -> u32 {
        let lingering = self.processes.iter().filter(|process| process.lingers);
        let tasks = u32::try_from(lingering.count() * TASKS).expect("few");
        tasks * HOLDS
    }

    /// A guard ends.
    fn finish(&mut self, process: usize) {
        let holds = |task: &Task| matches!(task.state, State::Holds(..));
        let terms = self.terms(process);
        let own = &mut self.processes[process];
        let Some(task) = own.tasks.iter_mut().find(|task| holds(task)) else {
            return;
        };
        (task.state, task.left) = (State::Away, task.left - 1);
        match own.word.end(1, true, &terms) {
            true => {
                own.turn.set(true);
                self.settle(process);
            }
            false => self.delete(process),
        }
    }

    fn give_up(&mut self, process: usize) {
        let own = &mut self.processes[process];
        if own.line.is_empty() {
            return;
        }
        let task = own.line.remove(own.line.len() / 2).expect("somebody waits");
        own.tasks[task].state = State::Away;
        own.word.leave();
        self.settle(process);
    }

    fn settle(&mut self, process: usize) {
        let own = &self.processes[process];
        let free = own.line.is_empty();
        if own.word.collect(|| (free && own.turn.replace(false)).then_some(())).is_some() {
            self.delete(process);
        }
    }

    fn delete(&mut self, process: usize) {
        self.processes[process].way = Way::Deletes(false);
        if self.off == Some(Rule::Releasing) {
            // As a driver would have it that does not wait for the answer.
            self.processes[process].turn.set(true);
        }
    }

    /// A request is carried out.
    fn etcd(&mut self, process: usize) {
        match self.processes[process].way {
            Way::Registers(task, None) => {
                self.revision += 1;
                self.queue.push_back((self.revision, process));
                self.processes[process].way = Way::Registers(task, Some(self.revision));
                self.processes[process].passed_over = 0;
                for (_, other) in self.processes.iter_mut().enumerate().filter(|(other, _)| *other != process)
                {
                    other.puts += 1;
                }
            }
            Way::Deletes(false) => {
                self.revision += 1;
                self.queue.retain(|(_, owner)| *owner != process);
                self.processes[process].way = Way::Deletes(true);
            }
            _ => {}
        }
    }

    /// An answer arrives, or the news that nobody older is left.
    fn answer(&mut self, process: usize) -> Result<(), Wrong> {
        match self.processes[process].way {
            Way::Registers(task, Some(created)) if self.queue.front() == Some(&(created, process)) => {
                self.processes[process].way = Way::Rest;
                self.processes[process].word.granted(created, 0);
                self.hold(process, task, created, 0)
            }
            Way::Deletes(true) => {
                let own = &mut self.processes[process];
                own.way = Way::Rest;
                own.word.freed();
                own.turn.set(true);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The recall watch hears one put.
    fn hear(&mut self, process: usize) {
        let own = &mut self.processes[process];
        if own.puts > 0 {
            own.puts -= 1;
            if own.lingers && self.off != Some(Rule::Watched) {
                own.word.recall();
                self.settle(process);
            }
        }
    }

    /// The watch begins or ends, or a key has lingered long enough.
    fn watch(&mut self, process: usize) {
        let others = self.queue.iter().any(|(_, other)| *other != process);
        let watches = self.processes[process].lingers && self.off != Some(Rule::Watched);
        let step = self.below(6);
        let word = &self.processes[process].word;
        match step {
            0 if watches => word.unwatched(),
            1 if watches => {
                word.watched(others);
            }
            2 if watches => word.let_go(),
            _ => {}
        }
        self.settle(process);
    }

    fn witness(&self) -> Result<(), Wrong> {
        let mut holders = 0;
        for (number, process) in self.processes.iter().enumerate() {
            if self.off.is_none() {
                process.word.check();
            }
            for task in &process.tasks {
                if let State::Holds(created, _) = task.state {
                    holders += 1;
                    if self.queue.front() != Some(&(created, number)) {
                        return Err(Wrong::HoldsWithoutKey);
                    }
                }
            }
        }
        match holders {
            0 | 1 => Ok(()),
            _ => Err(Wrong::TwoHold),
        }
    }

    /// Everybody gets what they wait for, wants no more, and lingering ends.
    fn wind_up(mut self) -> Result<(), Wrong> {
        for step in 0..STEPS_MAX {
            let process = step % PROCESSES;
            self.finish(process);
            self.etcd(process);
            self.answer(process)?;
            self.hear(process);
            self.next_turn(process)?;
            self.witness()?;
        }
        if self.processes.iter().any(|process| !process.line.is_empty() || process.way != Way::Rest) {
            return Err(Wrong::NeverDone);
        }
        for process in 0..PROCESSES {
            if self.processes[process].word.in_use() == Use::Lingers {
                self.processes[process].word.let_go();
                self.settle(process);
            }
            self.etcd(process);
            self.answer(process)?;
        }
        let free = self.processes.iter().all(|process| process.turn.get());
        if !self.queue.is_empty() || !free {
            return Err(Wrong::Left);
        }
        Ok(())
    }
}

/// How many runs: `TENURE_SEEDS`, or a few.
fn seeds() -> u64 {
    std::env::var("TENURE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(200)
}

#[test]
fn one_holds_it_others_are_served_and_nothing_is_left() {
    for seed in 0..seeds() {
        assert_eq!(Run::new(seed, None).run(), Ok(()), "seed {seed}");
    }
}

#[test]
fn a_grant_after_the_release_began_is_caught() {
    let wrong = (0..seeds()).find_map(|seed| Run::new(seed, Some(Rule::Releasing)).run().err());
    assert!(
        matches!(
            wrong,
            Some(Wrong::HoldsWithoutKey | Wrong::TwoHold | Wrong::TokenFell)
        ),
        "{wrong:?}"
    );
}

#[test]
fn lingering_without_a_watch_is_caught() {
    let wrong = (0..seeds()).find_map(|seed| Run::new(seed, Some(Rule::Watched)).run().err());
    assert!(
        matches!(wrong, Some(Wrong::NeverDone | Wrong::KeptWaiting)),
        "{wrong:?}"
    );
}
