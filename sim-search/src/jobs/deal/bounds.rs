//! What a deal holds, whole or in part, and what it is worth at least.

use super::rest::{Rest, each};
use super::{Dealer, Key, Known, Own};

impl Dealer<'_> {
    /// The ways to deal to the next job; the last one gets what is left.
    pub(super) fn children(&self, key: &Key) -> Vec<Key> {
        let left = self.left(key);
        let jobs = self.dealt_to.len() - key.len() / self.blocks.len();
        if jobs == 1 {
            return if left.iter().any(|l| *l > 0) { vec![[&key[..], &left].concat()] } else { Vec::new() };
        }
        let mut list = Vec::new();
        each(&left, &mut |own| {
            // Every job has a block at least.
            let rest: u32 = left.iter().zip(own).map(|(l, o)| l - o).sum();
            if own.iter().any(|o| *o > 0) && rest >= jobs as u32 - 1 {
                list.push([&key[..], own].concat());
            }
        });
        list
    }

    /// Blocks of each group that are not dealt yet.
    pub(super) fn left(&self, key: &[u32]) -> Vec<u32> {
        let mut left = self.blocks.clone();
        for own in key.chunks(left.len()) {
            left.iter_mut().zip(own).for_each(|(l, o)| *l -= o);
        }
        left
    }

    /// Each job with its blocks, as far as they are dealt.
    pub(super) fn owns(&self, key: &[u32]) -> Vec<Own> {
        let fixed = (0..self.jobs.len()).filter(|j| self.fixed[*j].is_some()).map(|j| (j, Vec::new()));
        let dealt = self.dealt_to.iter().zip(key.chunks(self.blocks.len()));
        fixed.chain(dealt.map(|(j, own)| (*j, own.to_vec()))).collect()
    }

    /// No deal that begins like this is worth less.
    pub(super) fn bound(&self, key: &[u32]) -> u128 {
        let decided = self.owns(key).iter().map(|(j, own)| self.worth(*j, own)).fold(0, u128::saturating_add);
        let next = key.len() / self.blocks.len();
        let rest = &self.dealt_to[next.min(self.dealt_to.len())..];
        if rest.is_empty() {
            return decided;
        }
        let left = self.left(key);
        decided.saturating_add(match &self.rest {
            Some(table) => table.least(next, &left),
            None => {
                let apart = rest.iter().map(|j| self.worth(*j, &left)).fold(0, u128::saturating_add);
                let starts = rest.iter().map(|j| self.jobs[*j].worth(0)).fold(0, u128::saturating_add);
                apart.max(self.work.least_sum(rest, &self.counts(&left)).saturating_add(starts))
            }
        })
    }

    /// What the jobs without nodes are worth at least, by all that is known by now.
    pub(super) fn table(&self) -> Option<Rest> {
        Rest::new(&self.blocks, self.dealt_to.len(), &|k, own| self.worth(self.dealt_to[k], own))
    }

    /// The deal that is worth the least by what is known, of those in which each job has nodes of one group.
    pub(super) fn each_in_one_group(&self) -> Option<Key> {
        let least = |k: usize, own: &[u32]| match own.iter().filter(|o| **o > 0).count() {
            1 => self.worth(self.dealt_to[k], own),
            _ => u128::MAX,
        };
        Rest::new(&self.blocks, self.dealt_to.len(), &least)?.best(&self.blocks, &least)
    }

    /// What is known of a job on its nodes: of the first that is the same.
    pub(super) fn known(&self, own: &Own) -> Option<&Known> {
        self.known.get(&self.first_like(own))
    }

    pub(super) fn first_like(&self, (j, own): &Own) -> Own {
        (self.like[*j], own.clone())
    }

    /// What job `j` is worth at least on so many blocks.
    pub(super) fn worth(&self, j: usize, own: &[u32]) -> u128 {
        match self.lower(j, own) {
            u64::MAX => u128::MAX,
            time => self.jobs[j].worth(time),
        }
    }

    /// No iteration of job `j` on so many blocks is shorter, ps.
    fn lower(&self, j: usize, own: &[u32]) -> u64 {
        let counts = match &self.fixed[j] {
            Some(nodes) => nodes.iter().map(|n| n.len() as u32).collect(),
            None => self.counts(own),
        };
        let alone = self.work.least(j, &counts) / u128::from(self.jobs[j].iterations);
        let known = self.known(&(j, own.to_vec())).map_or(0, |known| known.lower);
        u64::try_from(alone).unwrap_or(u64::MAX).max(known)
    }

    /// Nodes that so many blocks are at most.
    pub(super) fn counts(&self, blocks: &[u32]) -> Vec<u32> {
        let of = |((b, size), nodes): ((&u32, &u32), &Vec<u32>)| (b * size).min(nodes.len() as u32);
        blocks.iter().zip(&self.block).zip(&self.nodes).map(of).collect()
    }

    /// The nodes of every job, by group.
    pub(super) fn shares(&self, key: &[u32]) -> Vec<Vec<Vec<u32>>> {
        let groups = self.blocks.len();
        let mut shares: Vec<Vec<Vec<u32>>> =
            self.fixed.iter().map(|own| own.clone().unwrap_or_else(|| vec![Vec::new(); groups])).collect();
        let mut next = vec![0usize; groups];
        for (j, own) in self.dealt_to.iter().zip(key.chunks(groups)) {
            for g in 0..groups {
                let end = (next[g] + (own[g] * self.block[g]) as usize).min(self.nodes[g].len());
                shares[*j][g] = self.nodes[g][next[g]..end].to_vec();
                next[g] = end;
            }
        }
        shares
    }
}
