//! What a search hands out and takes back: its state between two rounds, and what became of every node.

use super::expand::State;
use super::{Candidate, Counts, Found, NearestMiss, Progress, Ranked, Search, Stopped, choose};
use crate::rules::Rule;
use crate::tree::Key;
use serde::{Deserialize, Serialize};
use sim_core::Digest;

/// Told of a search under way, and asked what it should do.
pub trait Watch: Send {
    /// Before each round: go on, or why the search ends.
    fn stop(&mut self, progress: &Progress) -> Option<Stopped>;

    /// After each round: whether it should hand out its state.
    fn wants_state(&mut self) -> bool {
        false
    }

    /// When it stops: whether it should hand out its state.
    fn wants_last_state(&mut self) -> bool {
        false
    }

    /// The state that was wanted.
    fn state(&mut self, _: Saved) {}
}

impl<F: FnMut(&Progress) -> Option<Stopped> + Send> Watch for F {
    fn stop(&mut self, progress: &Progress) -> Option<Stopped> {
        self(progress)
    }
}

/// A search between two rounds: it goes on from here as if it had never stopped.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Which space with which costs and options.
    pub space: String,
    /// Whether what looks best was simulated to the end of it; a search that stopped before that begins anew.
    seeded: bool,
    queue: Vec<Waiting>,
    stuck: Vec<u64>,
    tried: Vec<Key>,
    counts: Counts,
    ranked: Vec<Ranked>,
    pareto: Vec<Candidate>,
    nearest: Option<(i64, usize, u32)>,
    rounds: u64,
    nodes: u64,
    digest: String,
    elsewhere: u64,
    log: Option<Vec<(Key, Fate)>>,
    /// Over all the rest: what it says is taken at its word.
    seal: String,
}

impl Saved {
    fn sealed(mut self) -> Saved {
        self.seal = self.digest_of_the_rest();
        self
    }

    /// Whether it is as it was saved.
    pub(super) fn is_whole(&mut self) -> bool {
        let seal = std::mem::take(&mut self.seal);
        seal == self.digest_of_the_rest()
    }

    /// Asked while there is no seal.
    fn digest_of_the_rest(&self) -> String {
        let mut digest = Digest::EMPTY;
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        for chunk in bytes.chunks(8) {
            digest.add(chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), chunk.len() as u64);
        }
        digest.to_string()
    }
}

/// A node of the queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Waiting {
    bound: u64,
    key: Key,
    opened: bool,
    better: bool,
    low: u64,
    enough: Option<u64>,
    from: u64,
    after: Option<(u64, Vec<u32>)>,
}

/// What became of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Nothing under it is faster than this, ps: thrown out, or left when the search stopped.
    Bound(u64),
    /// Children of it with lower bounds were looked at; nothing else under it is faster than this, ps.
    Rest(u64),
    /// A rule threw it out.
    Rule(Rule),
    /// A plan, simulated: its time, ps, or that it was cut off as slower than others.
    Simulated(Option<u64>),
}

impl Fate {
    /// What it says that no plan is faster than, ps.
    pub(crate) fn claims(&self) -> Option<u64> {
        match self {
            Fate::Bound(bound) | Fate::Rest(bound) => Some(*bound),
            Fate::Rule(_) | Fate::Simulated(_) => None,
        }
    }
}

impl Search<'_> {
    /// The state between two rounds.
    pub(super) fn save(&self, space: &str, nodes: u64) -> Saved {
        let waiting = |((bound, key), state): (&(u64, Key), &State)| Waiting {
            bound: *bound,
            key: key.clone(),
            opened: state.opened,
            better: state.better,
            low: state.low,
            enough: state.enough,
            from: state.from,
            after: state.after.clone(),
        };
        Saved {
            space: space.to_string(),
            seeded: true,
            queue: self.queue.iter().map(waiting).collect(),
            stuck: self.stuck.iter().map(|(bound, _)| *bound).collect(),
            tried: self.tried.iter().cloned().collect(),
            counts: self.counts.clone(),
            ranked: self.ranked.iter().cloned().collect(),
            pareto: self.pareto.clone(),
            nearest: self.nearest.map(|(lacks, t, m)| (i64::try_from(lacks).unwrap_or(i64::MAX), t, m)),
            rounds: self.rounds,
            nodes,
            digest: format!("{:032x}", self.digest.as_u128()),
            elsewhere: self.share.as_ref().map_or(0, |share| share.elsewhere),
            log: self.log.clone(),
            seal: String::new(),
        }
        .sealed()
    }

    /// The state of a search that has to begin anew.
    pub(super) fn unseeded(space: &str) -> Saved {
        Saved {
            space: space.to_string(),
            seeded: false,
            queue: Vec::new(),
            stuck: Vec::new(),
            tried: Vec::new(),
            counts: Counts::default(),
            ranked: Vec::new(),
            pareto: Vec::new(),
            nearest: None,
            rounds: 0,
            nodes: 0,
            digest: format!("{:032x}", Digest::EMPTY.as_u128()),
            elsewhere: 0,
            log: None,
            seal: String::new(),
        }
        .sealed()
    }

    /// Takes a state back; how many nodes were opened before it, `None` where it begins anew.
    pub(super) fn restore(&mut self, saved: Saved) -> Option<u64> {
        if !saved.seeded {
            return None;
        }
        self.queue = saved
            .queue
            .into_iter()
            .map(|w| {
                let state = State {
                    opened: w.opened,
                    better: w.better,
                    low: w.low,
                    enough: w.enough,
                    from: w.from,
                    after: w.after,
                    ..State::default()
                };
                ((w.bound, w.key), state)
            })
            .collect();
        self.stuck = saved.stuck.into_iter().map(|bound| (bound, Key::new())).collect();
        self.tried = saved.tried.into_iter().collect();
        self.counts = saved.counts;
        self.ranked = saved.ranked.into_iter().collect();
        self.pareto = saved.pareto;
        self.nearest = saved.nearest.map(|(lacks, t, m)| (i128::from(lacks), t, m));
        self.rounds = saved.rounds;
        self.digest = u128::from_str_radix(&saved.digest, 16).map_or(Digest::EMPTY, Digest::from_u128);
        if let Some(share) = &mut self.share {
            share.elsewhere = saved.elsewhere;
        }
        if self.log.is_some() {
            self.log = saved.log;
        }
        Some(saved.nodes)
    }

    /// Remembers what became of a node.
    pub(super) fn log(&mut self, key: &Key, fate: Fate) {
        if let Some(log) = &mut self.log {
            log.push((key.clone(), fate));
        }
    }
}

/// Adds up the counts of several searches.
impl std::ops::AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        for (rule, n) in &other.pruned {
            add(self.pruned.entry(*rule).or_default(), *n);
        }
        for (sum, more) in [
            (&mut self.considered, other.considered),
            (&mut self.bounded, other.bounded),
            (&mut self.simulated, other.simulated),
            (&mut self.expanded, other.expanded),
            (&mut self.open, other.open),
        ] {
            add(sum, more);
        }
    }
}

/// Joins what the shards of one space found: the least time, ties by key; the least bound; counts added. `None` of no parts,
/// or of parts that are not of one deal.
pub fn merge(parts: Vec<Found>, top: usize) -> Option<Found> {
    let mut parts = parts.into_iter();
    let mut all = parts.next()?;
    for part in parts {
        if part.dealt != all.dealt {
            return None;
        }
        all.ranked.extend(part.ranked);
        part.pareto.into_iter().for_each(|c| choose(&mut all.pareto, c));
        all.counts += &part.counts;
        // A shard without a plan that ended has none; one that did not end knows nothing of its time.
        all.lower_bound_ps = all.lower_bound_ps.min(part.lower_bound_ps);
        all.stopped = all.stopped.max(part.stopped);
        all.rounds = all.rounds.saturating_add(part.rounds);
        all.digest.add_digest(part.digest);
        let nearer = |a: &NearestMiss, b: &NearestMiss| a.lacking_bytes <= b.lacking_bytes;
        all.nearest_miss = match (all.nearest_miss, part.nearest_miss) {
            (Some(a), Some(b)) => Some(if nearer(&a, &b) { a } else { b }),
            (a, b) => a.or(b),
        };
        all.log.extend(part.log);
    }
    all.ranked.sort_unstable();
    // What looked best of all is in every shard.
    all.ranked.dedup();
    all.ranked.truncate(top);
    Some(all)
}

/// A large number as decimal digits.
pub(super) mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::search) fn serialize<S: Serializer>(n: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(n)
    }

    pub(in crate::search) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u128, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A digest as hexadecimal digits.
pub(super) mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use sim_core::Digest;

    pub(in crate::search) fn serialize<S: Serializer>(d: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", d.as_u128()))
    }

    pub(in crate::search) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(Digest::from_u128).map_err(D::Error::custom)
    }
}
