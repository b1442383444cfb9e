//! What a task wants next: one of the recipes, on one of a few names that they share.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tenure::{Error, MultiLock, Mutex, Semaphore};

use crate::desk::Kit;
use crate::grip::Grip;

const A: &str = "mixed/a";
/// It lingers.
const B: &str = "mixed/b";
/// Each of its keys has one token.
const C: &str = "mixed/c";
const RW: &str = "mixed/rw";
const SEM: &str = "mixed/sem";
const LEAD: &str = "mixed/lead";
/// Here all recipes meet.
const ANY: &str = "mixed/any";
/// Every queue there is.
pub(crate) const NAMES: [&str; 7] = [A, B, C, RW, SEM, LEAD, ANY];
/// The permits of a name; of the last one nobody is alone for long.
const PERMITS: [(&str, u32); 2] = [(SEM, 5), (ANY, 3)];
/// For so long the key of one of the names lingers.
const LINGER: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Mutex(&'static str),
    Read(&'static str),
    Write(&'static str),
    /// So many of so many.
    Permits(&'static str, u32, u32),
    Several(Vec<&'static str>),
    Lead,
}

impl Wish {
    pub(crate) fn choose(dice: &mut Rng) -> Wish {
        match dice.u64(..100) {
            0..=19 => Wish::Mutex(A),
            20..=34 => Wish::Mutex(B),
            35..=42 => Wish::Mutex(C),
            43..=49 => Wish::Mutex(if dice.bool() { ANY } else { RW }),
            50..=63 => Wish::Read(if dice.bool() { ANY } else { RW }),
            64..=71 => Wish::Write(if dice.bool() { ANY } else { RW }),
            72..=83 => {
                let (name, of) = PERMITS[dice.usize(..2)];
                Wish::Permits(name, dice.u32(1..=of), of)
            }
            84..=95 => {
                let mut names: Vec<_> = [A, B, C, RW, ANY].into_iter().filter(|_| dice.bool()).collect();
                if names.is_empty() {
                    names.push(B);
                }
                Wish::Several(names)
            }
            _ => Wish::Lead,
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let names = match self {
            Wish::Mutex(name) | Wish::Read(name) | Wish::Write(name) | Wish::Permits(name, ..) => vec![*name],
            Wish::Several(names) => names.clone(),
            Wish::Lead => vec![LEAD],
        };
        names.into_iter().map(str::to_owned).collect()
    }

    pub(crate) fn recipe(&self) -> &'static str {
        match self {
            Wish::Mutex(B) => "lingering",
            Wish::Mutex(_) => "mutex",
            Wish::Read(_) => "reader",
            Wish::Write(_) => "writer",
            Wish::Permits(..) => "semaphore",
            Wish::Several(_) => "multi",
            Wish::Lead => "election",
        }
    }

    /// Whether nobody else has it at the same time.
    pub(crate) fn is_alone(&self) -> bool {
        !matches!(self, Wish::Read(_) | Wish::Permits(..))
    }

    /// Waits for it.
    pub(crate) async fn get(&self, kit: &Kit) -> Result<Grip, Error> {
        Ok(match self {
            Wish::Mutex(name) => Grip::Mutex(mutex(kit, name).lock().await?),
            Wish::Read(name) => Grip::Read(kit.rw_lock(name).read().await?),
            Wish::Write(name) => Grip::Write(kit.rw_lock(name).write().await?),
            Wish::Permits(name, count, of) => Grip::Permits(semaphore(kit, name, *of).acquire(*count).await?),
            Wish::Several(names) => Grip::Several(several(kit, names).lock().await?),
            Wish::Lead => Grip::Lead(kit.session.election(LEAD).campaign("a leader").await?),
        })
    }

    /// Takes it if it is free.
    pub(crate) async fn get_now(&self, kit: &Kit) -> Result<Option<Grip>, Error> {
        Ok(match self {
            Wish::Mutex(name) => mutex(kit, name).try_lock().await?.map(Grip::Mutex),
            Wish::Read(name) => kit.rw_lock(name).try_read().await?.map(Grip::Read),
            Wish::Write(name) => kit.rw_lock(name).try_write().await?.map(Grip::Write),
            Wish::Permits(name, count, of) => {
                semaphore(kit, name, *of).try_acquire(*count).await?.map(Grip::Permits)
            }
            Wish::Several(names) => several(kit, names).try_lock().await?.map(Grip::Several),
            Wish::Lead => None,
        })
    }
}

/// One name lingers, one has a token for each key, the others are handed over.
fn mutex(kit: &Kit, name: &str) -> Mutex {
    let mutex = kit.session.mutex(name);
    match name {
        B => mutex.linger(LINGER),
        C => mutex.one_token_per_key(),
        _ => mutex,
    }
}

fn semaphore(kit: &Kit, name: &str, of: u32) -> Semaphore {
    kit.session.semaphore(name, of)
}

fn several(kit: &Kit, names: &[&str]) -> MultiLock {
    kit.session.multi_lock(names.iter().copied())
}

/// The handles that readers share are made once.
pub(crate) fn shared_names() -> Arc<[&'static str]> {
    Arc::from([RW, ANY])
}
