//! Gradient rings of all parts once their cuts are known, where they wait for the last passes: one for each run of layers between
//! borders of any part, the last layers first. A ring begins when all its ranks are done with their passes, and after the one
//! before where some rank is in both.

use super::placed::PlacedPart;

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
}

/// The end of the iteration by the rings of these parts.
pub fn in_turn(parts: &[&Ends<'_>]) -> u64 {
    let mut stages: Vec<usize> = parts.iter().map(|p| p.done.len() - 1).collect();
    let mut end = parts.first().map_or(0, |p| p.part.of.cost.layers);
    let (mut over, mut before) = (0, 0);
    while end > 0 {
        let begins = |(p, s): (&&Ends<'_>, &usize)| p.borders[*s];
        let first = parts.iter().zip(&stages).map(begins).max().unwrap_or(0);
        let (mut ready, mut time) = (before, 0);
        for (p, s) in parts.iter().zip(&stages) {
            let cost = p.part.of.cost;
            ready = ready.max(p.done[*s]);
            let ring = p.part.views[0].around.ring(*s);
            time = time.max(ring.time(cost, &cost.stages[*s], first, end).reduce);
        }
        let sent = ready + time;
        let mut common = true;
        for (p, s) in parts.iter().zip(&mut stages) {
            if p.borders[*s] == first {
                over = over.max(sent + p.after[*s]);
                *s = s.saturating_sub(1);
            } else {
                common = false;
            }
        }
        before = if common { 0 } else { sent };
        end = first;
    }
    over
}
