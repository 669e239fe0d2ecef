//! What jobs that have no nodes yet are worth at least together, by the blocks that are left for them.
//!
//! With `L(k, own)` no more than what the k-th job is worth on so many blocks of each group,
//!
//! ```text
//!   G(k, left) = least over own <= left of L(k, own) + G(k + 1, left - own)
//! ```
//!
//! is the least over all ways to deal what is left to the jobs from the k-th on; the last one gets all that is left.

/// Most pairs of blocks left and blocks of a job, all jobs together: with more, no table is made.
const MOST_PAIRS: u64 = 1 << 23;

/// `G` for every job and every number of blocks. See the head of this file.
pub(super) struct Rest {
    /// What a block of each group adds to an index.
    strides: Vec<usize>,
    tables: Vec<Vec<u128>>,
}

impl Rest {
    /// Of so many jobs, by what each is worth at least on some blocks; `None` where the blocks are too many.
    pub(super) fn new(blocks: &[u32], jobs: usize, least: &dyn Fn(usize, &[u32]) -> u128) -> Option<Rest> {
        let mut pairs = jobs.max(1) as u64;
        let (mut strides, mut states) = (Vec::with_capacity(blocks.len()), 1usize);
        for of_group in blocks.iter().map(|b| u64::from(*b)) {
            pairs = pairs
                .checked_mul((of_group + 1).saturating_mul(of_group + 2) / 2)
                .filter(|p| *p <= MOST_PAIRS)?;
            strides.push(states);
            states *= of_group as usize + 1;
        }
        let mut rest = Rest { strides, tables: vec![Vec::new(); jobs] };
        for k in (0..jobs).rev() {
            let mut alone = vec![u128::MAX; states];
            each(blocks, &mut |own| {
                if own.iter().any(|o| *o > 0) {
                    alone[rest.index(own)] = least(k, own);
                }
            });
            rest.tables[k] = match rest.tables.get(k + 1) {
                None => alone,
                Some(others) => {
                    let mut table = alone.clone();
                    each(blocks, &mut |left| {
                        let all = rest.index(left);
                        let mut best = u128::MAX;
                        each(left, &mut |own| {
                            let own = rest.index(own);
                            best = best.min(alone[own].saturating_add(others[all - own]));
                        });
                        table[all] = best;
                    });
                    table
                }
            };
        }
        Some(rest)
    }

    /// What the jobs from the k-th on, one at least, are worth at least on what is left.
    pub(super) fn least(&self, k: usize, left: &[u32]) -> u128 {
        self.tables[k][self.index(left)]
    }

    /// The first deal of all these blocks that is worth the least, job by job; `None` where none is worth anything.
    pub(super) fn best(&self, blocks: &[u32], least: &dyn Fn(usize, &[u32]) -> u128) -> Option<Vec<u32>> {
        let (mut key, mut left) = (Vec::new(), blocks.to_vec());
        for k in 0..self.tables.len() {
            let aim = self.least(k, &left);
            let mut first = None;
            each(&left, &mut |own| {
                let others =
                    || self.least(k + 1, &left.iter().zip(own).map(|(l, o)| l - o).collect::<Vec<u32>>());
                let is_it = match k + 1 < self.tables.len() {
                    true => own.iter().any(|o| *o > 0) && least(k, own).saturating_add(others()) == aim,
                    false => own == left,
                };
                if first.is_none() && is_it {
                    first = Some(own.to_vec());
                }
            });
            let own = first.filter(|_| aim < u128::MAX)?;
            left.iter_mut().zip(&own).for_each(|(l, o)| *l -= o);
            key.extend(own);
        }
        Some(key)
    }

    fn index(&self, blocks: &[u32]) -> usize {
        blocks.iter().zip(&self.strides).map(|(b, stride)| *b as usize * stride).sum()
    }
}

/// Calls `f` with all numbers of blocks up to `limit`, in order, from none.
pub(super) fn each(limit: &[u32], f: &mut dyn FnMut(&[u32])) {
    let mut own = vec![0; limit.len()];
    loop {
        f(&own);
        let Some(g) = (0..limit.len()).rev().find(|g| own[*g] < limit[*g]) else { return };
        own[g] += 1;
        own[g + 1..].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The least over all deals, one by one.
    fn all(list: &[Vec<u128>], blocks: &[u32], index: &dyn Fn(&[u32]) -> usize) -> u128 {
        let (first, others) = list.split_first().expect("a job");
        let mut best = u128::MAX;
        each(blocks, &mut |own| {
            let left: Vec<u32> = blocks.iter().zip(own).map(|(b, o)| b - o).collect();
            let some = own.iter().any(|o| *o > 0);
            let value = match others.is_empty() {
                true if left.iter().all(|l| *l == 0) => first[index(own)],
                true => u128::MAX,
                false => first[index(own)].saturating_add(all(others, &left, index)),
            };
            best = if some { best.min(value) } else { best };
        });
        best
    }

    proptest! {
        #[test]
        fn the_table_is_the_least_of_all_deals(
            blocks in prop::collection::vec(0u32..4, 1..3), jobs in 1usize..4, values in prop::collection::vec(0u128..50, 48),
        ) {
            let index = |own: &[u32]| own.iter().fold(0, |at, o| at * 4 + *o as usize);
            let list: Vec<Vec<u128>> = values.chunks(16).map(<[u128]>::to_vec).collect();
            let rest = Rest::new(&blocks, jobs, &|k, own| list[k][index(own)]).expect("few blocks");
            let least = all(&list[..jobs], &blocks, &index);
            prop_assert_eq!(rest.least(0, &blocks), least);
            let best = rest.best(&blocks, &|k, own| list[k][index(own)]);
            prop_assert_eq!(best.is_some(), least < u128::MAX);
            if let Some(key) = best {
                let worth: u128 = key.chunks(blocks.len()).zip(&list).map(|(own, l)| l[index(own)]).sum();
                prop_assert_eq!(worth, least);
                prop_assert!((0..blocks.len()).all(|g| key.iter().skip(g).step_by(blocks.len()).sum::<u32>() == blocks[g]));
            }
        }
    }

    #[test]
    fn too_many_blocks_have_no_table() {
        assert!(Rest::new(&[16; 4], 2, &|_, _| 0).is_none());
        assert!(Rest::new(&[u32::MAX; 3], 2, &|_, _| 0).is_none());
    }
}
