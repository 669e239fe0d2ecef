//! Gradient rings of all parts once their cuts are known, where they wait for the last passes: one for each run of layers between
//! borders of any part, the last layers first. A ring begins when all its ranks are done with their passes, and after the one
//! before where some rank is in both.

use super::placed::PlacedPart;
use std::ops::Range;

/// A part with one of its cuts: when its stages are done, and what comes after their last ring.
pub struct Ends<'p> {
    part: &'p PlacedPart<'p>,
    /// First 0, last the number of layers.
    borders: Vec<usize>,
    /// By stage.
    done: Vec<u64>,
    after: Vec<u64>,
}

impl<'p> Ends<'p> {
    /// Of a part with these borders; `None` where its rings do not wait.
    pub fn new(part: &'p PlacedPart<'p>, borders: Vec<usize>) -> Option<Ends<'p>> {
        let (cost, around) = (part.of.cost, &part.views[0].around);
        if !cost.recipe.waits() {
            return None;
        }
        let after = |(s, layers): (usize, &[usize])| {
            let stage = &cost.stages[s];
            stage.update(layers[0], layers[1], around.replicas())
                + around.ring(s).time(cost, stage, layers[0], layers[1]).gather
        };
        let after = borders.windows(2).enumerate().map(after).collect();
        Some(Ends { part, done: part.done(&borders), borders, after })
    }

    /// How long the ring of layers of its stage `s` takes at least.
    fn ring(&self, s: usize, layers: &Range<usize>) -> u64 {
        let cost = self.part.of.cost;
        self.part.views[0].around.ring(s).time(cost, &cost.stages[s], layers.start, layers.end).reduce
    }
}

/// One ring of all parts.
struct Ring {
    layers: Range<usize>,
    /// The stage of each part.
    stages: Vec<usize>,
    /// When all of them are done with their passes.
    ready: u64,
    /// What comes after it in the parts whose stage begins with it.
    after: u64,
    /// Whether the stages of all parts do.
    common: bool,
}

impl Ring {
    /// That of the layers up to `end`.
    fn up_to(parts: &[&Ends<'_>], end: usize) -> Ring {
        let stage = |p: &&Ends<'_>| p.borders.partition_point(|b| *b < end) - 1;
        let stages: Vec<usize> = parts.iter().map(stage).collect();
        let of = || parts.iter().zip(&stages);
        let first = of().map(|(p, s)| p.borders[*s]).max().unwrap_or(0);
        let begins = |(p, s): &(&&Ends<'_>, &usize)| p.borders[**s] == first;
        Ring {
            layers: first..end,
            ready: of().map(|(p, s)| p.done[*s]).max().unwrap_or(0),
            after: of().filter(begins).map(|(p, s)| p.after[*s]).max().unwrap_or(0),
            common: of().all(|of| begins(&of)),
            stages,
        }
    }

    /// How long it takes, or one of these layers of it.
    fn time(&self, parts: &[&Ends<'_>], layers: &Range<usize>) -> u64 {
        parts.iter().zip(&self.stages).map(|(p, s)| p.ring(*s, layers)).max().unwrap_or(0)
    }
}

/// Parts whose cuts are known.
pub struct InTurn<'p> {
    parts: Vec<&'p Ends<'p>>,
    /// Their rings, the first layers first.
    rings: Vec<Ring>,
    /// By layer, which of them it is in.
    of: Vec<usize>,
}

impl<'p> InTurn<'p> {
    /// Of these parts, if any.
    pub fn new(parts: Vec<&'p Ends<'p>>) -> Option<InTurn<'p>> {
        let mut rings = Vec::new();
        let mut end = parts.first()?.part.of.cost.layers;
        while end > 0 {
            let ring = Ring::up_to(&parts, end);
            end = ring.layers.start;
            rings.push(ring);
        }
        rings.reverse();
        let of = rings.iter().enumerate().flat_map(|(i, ring)| ring.layers.clone().map(move |_| i)).collect();
        Some(InTurn { parts, rings, of })
    }

    /// The end of the iteration by their rings.
    pub fn end(&self) -> u64 {
        let (mut end, mut before) = (0, 0);
        for ring in self.rings.iter().rev() {
            let sent = ring.ready.max(before) + ring.time(&self.parts, &ring.layers);
            end = end.max(sent + ring.after);
            before = if ring.common { 0 } else { sent };
        }
        end
    }

    /// The rings of the layers of a stage of one more part, the last first: how long each takes where it takes `own` for that
    /// part alone, with what comes after it and when the others are ready.
    fn of_stage(
        &self,
        layers: Range<usize>,
        own: impl Fn(&Range<usize>) -> u64,
    ) -> impl Iterator<Item = (u64, u64, u64)> {
        let mut end = layers.end;
        std::iter::from_fn(move || {
            let ring = (end > layers.start).then(|| &self.rings[self.of[end - 1]])?;
            let piece = ring.layers.start.max(layers.start)..end;
            end = piece.start;
            let after = if end == ring.layers.start { ring.after } else { 0 };
            Some((own(&piece).max(ring.time(&self.parts, &piece)), after, ring.ready))
        })
    }

    /// The rings of the layers of a stage of one more part that is done by `done`, after rings that are by `before`: when they
    /// are sent, and the end of the iteration by what the others do then.
    pub(super) fn sent(
        &self,
        layers: Range<usize>,
        own: impl Fn(&Range<usize>) -> u64,
        (done, before): (u64, u64),
    ) -> (u64, u64) {
        let next = |(sent, end): (u64, u64), (time, after, ready): (u64, u64, u64)| {
            let sent = sent.max(done).max(ready) + time;
            (sent, end.max(sent + after))
        };
        self.of_stage(layers, own).fold((before, 0), next)
    }

    /// How long they take, one after another.
    pub(super) fn time(&self, layers: Range<usize>, own: impl Fn(&Range<usize>) -> u64) -> u64 {
        self.of_stage(layers, own).map(|(time, ..)| time).sum()
    }
}
