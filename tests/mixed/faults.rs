//! What happens to members and to the ways to them: the faults of `tests/failover`, one
//! after the other in a random order, round after round.

use std::thread::sleep;

use fastrand::Rng;
use tenure_etcd::Cluster;
use tenure_proxy::{Direction, Door, Ending, Flow, Proxy};

use crate::support::{calm, within};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Killed,
    LeaderStopped,
    FollowerStopped,
    Terminated,
    Leaderless,
    CutOff,
    LeaderCutOff,
    HalfOpen,
    Bytewise,
    Late,
    Resets,
    Refusing,
    /// A member is removed and another added: it takes long.
    Exchanged,
}

const OF_ONE: [Fault; 9] = [
    Fault::Killed,
    Fault::LeaderStopped,
    Fault::Terminated,
    Fault::CutOff,
    Fault::HalfOpen,
    Fault::Bytewise,
    Fault::Late,
    Fault::Resets,
    Fault::Refusing,
];
const OF_THREE: [Fault; 3] = [Fault::FollowerStopped, Fault::Leaderless, Fault::LeaderCutOff];
/// How long all is left alone between two.
const CALM_MILLIS: std::ops::Range<u64> = 100..900;

/// A cluster and a proxy before each member.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) dice: Rng,
    /// How often which fault was played.
    pub(crate) played: Vec<Fault>,
}

impl Stage {
    pub(crate) fn new(cluster: Cluster, dice: Rng) -> Stage {
        let proxy = |endpoint: &String| Proxy::start(endpoint).expect("a proxy");
        Stage {
            proxies: cluster.endpoints().iter().map(proxy).collect(),
            cluster,
            dice,
            played: Vec::new(),
        }
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.proxies.iter().map(|proxy| proxy.endpoint().to_owned()).collect()
    }

    /// All faults, each once, unless it is enough before.
    pub(crate) fn round(&mut self, is_enough: impl Fn() -> bool) {
        let mut faults = OF_ONE.to_vec();
        if self.proxies.len() > 1 {
            faults.extend(OF_THREE);
        }
        self.dice.shuffle(&mut faults);
        for fault in faults {
            if !is_enough() {
                self.play(fault);
            }
        }
    }

    pub(crate) fn play(&mut self, fault: Fault) {
        let any = self.dice.usize(..self.proxies.len());
        match fault {
            Fault::Killed => {
                self.cluster.member(any).kill();
                self.wait(50..500);
                self.cluster.member(any).restart().expect("it starts");
            }
            Fault::LeaderStopped => self.stopped(&[self.leader()], 100..900),
            Fault::FollowerStopped => self.stopped(&[(self.leader() + 1) % 3], 100..1500),
            Fault::Leaderless => self.stopped(&[any, (any + 1) % 3], 200..1200),
            Fault::Terminated => {
                self.cluster.member(any).terminate().expect("it stops");
                self.cluster.member(any).restart().expect("it starts");
            }
            Fault::CutOff => self.cut_off(any),
            Fault::LeaderCutOff => self.cut_off(self.leader()),
            Fault::HalfOpen => {
                for direction in [Direction::Up, Direction::Down] {
                    self.flows(any, &[(direction, Flow::Hold)], 50..500);
                }
            }
            Fault::Bytewise => {
                let both = [Direction::Up, Direction::Down].map(|direction| (direction, Flow::Bytewise));
                self.flows(any, &both, 100..600);
            }
            Fault::Late => {
                let late = Flow::Delay(within(&mut self.dice, 1..100));
                self.flows(any, &[(Direction::Down, late)], 100..600);
            }
            Fault::Resets => self.resets(),
            Fault::Refusing => {
                self.proxies[any].door(Door::Refusing);
                self.proxies[any].cut(Ending::Reset);
                self.wait(50..500);
                self.proxies[any].heal();
            }
            Fault::Exchanged => self.exchange((self.leader() + 1) % 3),
        }
        self.played.push(fault);
        sleep(calm(&mut self.dice, CALM_MILLIS));
    }

    fn leader(&self) -> usize {
        self.cluster.leader_index().expect("a leader")
    }

    fn wait(&mut self, millis: std::ops::Range<u64>) {
        sleep(within(&mut self.dice, millis));
    }

    fn stopped(&mut self, members: &[usize], millis: std::ops::Range<u64>) {
        for member in members {
            self.cluster.member(*member).pause().expect("it runs");
        }
        self.wait(millis);
        for member in members {
            self.cluster.member(*member).resume().expect("it runs");
        }
    }

    fn cut_off(&mut self, member: usize) {
        self.proxies[member].black_hole();
        self.wait(100..700);
        self.proxies[member].heal();
    }

    fn flows(&mut self, member: usize, flows: &[(Direction, Flow)], millis: std::ops::Range<u64>) {
        for (direction, flow) in flows {
            self.proxies[member].flow(*direction, *flow);
        }
        self.wait(millis);
        self.proxies[member].heal();
    }

    /// In the middle of answers.
    fn resets(&mut self) {
        for _ in 0..10 {
            let any = self.dice.usize(..self.proxies.len());
            let bytes = self.dice.u64(1..150);
            self.proxies[any].cut_after(Direction::Down, bytes, Ending::Reset);
            self.wait(5..60);
        }
        self.proxies.iter().for_each(Proxy::heal);
    }

    fn exchange(&mut self, member: usize) {
        self.cluster.remove(member).expect("the others agree");
        self.proxies.remove(member);
        self.cluster.add().expect("the others agree");
        let added = self.cluster.endpoints().pop().expect("it was added");
        self.proxies.push(Proxy::start(&added).expect("a proxy"));
    }
}
