//! When an iteration used which channel, and what it found there: enough to know when another start gives the same run.

use super::world::Channel;
use sim_core::{
    CapacitySource, Network, Observer, Rate, ResourceId, SimDuration, SimTime, TaskGraph, TaskId,
    graph::TaskView,
};

/// A channel had this rate while it was in use from `from` to `to`, both included, ps from the iteration's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) channel: u32,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) rate: u64,
}

/// Whether an iteration that starts at `start` ns finds in every segment what was found there before: then every event of it
/// is the same, and so is its digest.
pub(crate) fn holds(segments: &[Segment], channels: &[Channel], start: u64) -> bool {
    segments.iter().all(|s| {
        let line = &channels[s.channel as usize].line;
        // Rates change on whole nanoseconds, and so does the start.
        let Some(from) = start.checked_add(s.from / 1_000) else { return false };
        line.at(from) == s.rate && line.next_change(from).is_none_or(|c| c - start > s.to / 1_000)
    })
}

/// Watches a run. A channel is in use while a transfer over one of its resources is under way.
pub(crate) struct Uses<'a> {
    graph: &'a TaskGraph,
    net: &'a Network,
    channel_of: &'a [Option<u32>],
    origin: SimDuration,
    /// By channel: transfers under way, and the open segment.
    open: Vec<(u32, Segment)>,
    pub(crate) segments: Vec<Segment>,
}

impl<'a> Uses<'a> {
    pub(crate) fn new(
        graph: &'a TaskGraph,
        net: &'a Network,
        channel_of: &'a [Option<u32>],
        channels: usize,
        origin: SimTime,
    ) -> Self {
        let none = Segment { channel: 0, from: 0, to: 0, rate: 0 };
        let origin = SimDuration::from_ps(origin.as_ps());
        Uses { graph, net, channel_of, origin, open: vec![(0, none); channels], segments: Vec::new() }
    }

    /// The channels of a task, each as often as the task uses it.
    fn channels(&self, task: TaskId) -> impl Iterator<Item = (u32, ResourceId)> + use<'a> {
        let uses = match self.graph.view(task) {
            TaskView::Transfer(transfer) => transfer.uses,
            _ => &[],
        };
        let channel_of = self.channel_of;
        uses.iter().filter_map(move |(r, _)| channel_of[r.index()].map(|c| (c, *r)))
    }
}

impl Observer for Uses<'_> {
    #[inline]
    fn transfer_began(&mut self, now: SimTime, task: TaskId, _tag: u32) {
        for (channel, resource) in self.channels(task) {
            let (count, open) = &mut self.open[channel as usize];
            if *count == 0 {
                let rate = self.net.capacity(resource).at(now.saturating_add(self.origin)).raw();
                *open = Segment { channel, from: now.as_ps(), to: 0, rate };
            }
            *count += 1;
        }
    }

    #[inline]
    fn task_finished(&mut self, now: SimTime, task: TaskId, _tag: u32) {
        for (channel, _) in self.channels(task) {
            let (count, open) = &mut self.open[channel as usize];
            *count -= 1;
            if *count == 0 {
                // A change at the very instant of the finish was seen by the run.
                self.segments.push(Segment { to: now.as_ps(), ..*open });
            }
        }
    }

    fn capacity_changed(&mut self, now: SimTime, resource: ResourceId, capacity: Rate) {
        let Some(channel) = self.channel_of[resource.index()] else { return };
        let (count, open) = &mut self.open[channel as usize];
        if *count > 0 && open.rate != capacity.raw() {
            if now.as_ps() > open.from {
                self.segments.push(Segment { to: now.as_ps() - 1, ..*open });
            }
            *open = Segment { from: now.as_ps(), rate: capacity.raw(), ..*open };
        }
    }
}
