//! Who uses what: flat tables of resources and of transfers under way, linked both ways.

use crate::capacity::Cursor;
use crate::graph::Use;

/// The place of one use in the member list of its resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub flow: u32,
    /// Index in `Table::uses`.
    pub use_at: u32,
    /// The other resource of a transfer of two, and its weight there; [`NO_OTHER`] for transfers of one or many.
    pub other: u32,
    pub weight: u32,
}

/// See [`Member::other`].
pub(super) const NO_OTHER: u32 = u32::MAX;

/// The part of a transfer that every solve reads.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hot {
    pub rate: u64,
    /// The solve that last fixed its rate.
    pub fixed: u32,
}

/// One use of a transfer under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlowUse {
    pub resource: u32,
    pub weight: u32,
}

/// One resource.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resource {
    pub capacity: u64,
    /// Sum of the weights of its members.
    pub weight: u64,
    /// The run that last touched it; another run's state is void.
    pub run: u64,
    pub cursor: Cursor,
    /// A capacity change waits in the queue.
    pub awaits: bool,
    pub dirty: bool,
    /// The solve that last saw it.
    pub seen: u32,
    /// Where it stands among the used ones.
    pub place: u32,
}

/// The rest of a transfer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    pub cap: u64,
    pub uses: u32,
    pub count: u32,
    /// The solve that last reached it.
    pub seen: u32,
    pub id: u32,
    /// Where it stands among the active ones.
    pub place: u32,
}

/// Both tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub resources: Vec<Resource>,
    pub members: Vec<Vec<Member>>,
    pub hot: Vec<Hot>,
    pub flows: Vec<Flow>,
    pub uses: Vec<FlowUse>,
    /// Where each use stands among the members of its resource.
    places: Vec<u32>,
    /// Slots of the transfers under way.
    pub active: Vec<u32>,
    /// Resources with members.
    pub used: Vec<u32>,
    /// Transfers under way that have a cap.
    pub capped: usize,
    /// Free slots by the logarithm of their room for uses.
    free: Vec<Vec<u32>>,
    pub dirty: Vec<u32>,
}

/// Room for `count` uses, as a power of two.
fn class(count: usize) -> usize {
    count.next_power_of_two().trailing_zeros() as usize
}

impl Table {
    pub(super) fn reset(&mut self, resources: usize) {
        for &r in &self.used {
            self.members[r as usize].clear();
        }
        self.used.clear();
        self.active.clear();
        self.hot.clear();
        self.flows.clear();
        self.uses.clear();
        self.places.clear();
        self.dirty.clear();
        self.capped = 0;
        for slots in &mut self.free {
            slots.clear();
        }
        if self.resources.len() < resources {
            self.resources.resize(resources, Resource::default());
            self.members.resize_with(resources, Vec::new);
        }
    }

    #[inline]
    pub(super) fn mark(&mut self, resource: u32) {
        let r = &mut self.resources[resource as usize];
        if !r.dirty {
            r.dirty = true;
            self.dirty.push(resource);
        }
    }

    /// Adds a transfer with rate 0; true when it has all its resources to itself.
    pub(super) fn add(&mut self, id: u32, cap: u64, uses: &[Use]) -> (u32, bool) {
        let room = class(uses.len());
        if self.free.len() <= room {
            self.free.resize_with(room + 1, Vec::new);
        }
        let slot = match self.free[room].pop() {
            Some(slot) => slot,
            None => {
                let start = self.uses.len();
                self.uses.resize(start + (1 << room), FlowUse { resource: 0, weight: 0 });
                self.places.resize(self.uses.len(), 0);
                self.hot.push(Hot::default());
                self.flows.push(Flow { uses: start as u32, ..Flow::default() });
                (self.flows.len() - 1) as u32
            }
        };
        let flow = &mut self.flows[slot as usize];
        self.hot[slot as usize] = Hot::default();
        flow.cap = cap;
        flow.count = uses.len() as u32;
        flow.seen = 0;
        flow.id = id;
        flow.place = self.active.len() as u32;
        let first = flow.uses;
        self.active.push(slot);
        self.capped += usize::from(cap != u64::MAX);
        let mut alone = true;
        for (i, &(resource, weight)) in uses.iter().enumerate() {
            let r = &mut self.resources[resource.index()];
            let members = &mut self.members[resource.index()];
            let use_at = first + i as u32;
            if members.is_empty() {
                r.place = self.used.len() as u32;
                self.used.push(resource.0);
                alone &= !r.dirty;
            } else {
                alone = false;
            }
            r.weight += u64::from(weight);
            self.uses[use_at as usize] = FlowUse { resource: resource.0, weight };
            self.places[use_at as usize] = members.len() as u32;
            let (other, other_weight) = match uses {
                [a, b] => {
                    let other = if i == 0 { b } else { a };
                    (other.0.0, other.1)
                }
                _ => (NO_OTHER, 0),
            };
            members.push(Member { flow: slot, use_at, other, weight: other_weight });
        }
        if !alone {
            for &(resource, _) in uses {
                self.mark(resource.0);
            }
        }
        (slot, alone)
    }

    /// Takes a transfer out and marks what it leaves to others. Gives where it stood among the active ones.
    pub(super) fn remove(&mut self, slot: u32) -> usize {
        let flow = self.flows[slot as usize];
        for use_at in flow.uses..flow.uses + flow.count {
            let FlowUse { resource, weight } = self.uses[use_at as usize];
            let place = self.places[use_at as usize];
            let members = &mut self.members[resource as usize];
            members.swap_remove(place as usize);
            if let Some(moved) = members.get(place as usize) {
                self.places[moved.use_at as usize] = place;
            }
            let r = &mut self.resources[resource as usize];
            r.weight -= u64::from(weight);
            if members.is_empty() {
                let at = r.place;
                self.used.swap_remove(at as usize);
                if let Some(&moved) = self.used.get(at as usize) {
                    self.resources[moved as usize].place = at;
                }
            } else {
                self.mark(resource);
            }
        }
        let at = flow.place as usize;
        self.active.swap_remove(at);
        if let Some(&moved) = self.active.get(at) {
            self.flows[moved as usize].place = flow.place;
        }
        self.capped -= usize::from(flow.cap != u64::MAX);
        self.free[class(flow.count as usize)].push(slot);
        at
    }
}
