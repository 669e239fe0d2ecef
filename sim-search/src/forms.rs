//! The closed forms by which published planners rank, for any uniform plan: what each of them would say of a run that was
//! measured. All are given the same layer times, those of the plan as it is laid out, and the same links with nothing else on
//! them, so they differ in their form alone.

use crate::planners::View;
use crate::planners::sailor::cost::{StageTerms, estimate_s};
use sim_core::SimTime;
use sim_models::iteration::SimulateError;
use sim_models::layout::Layout;
use sim_models::plan::Plan;
use sim_models::scenario::{DeviceId, Scenario};

/// A planner's closed form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Equation 1 of arXiv 2104.04473: (m + p - 1) x slowest stage.
    Megatron,
    /// AMP: fill, pace of the slowest stage, one activation a boundary, longest gradient ring.
    Amp,
    /// Metis: the same with the rate inside a node, elements for bytes, and the optimizer twice.
    Metis,
    /// Sailor's planner.
    Sailor,
    /// Alpa: all stages + (m - 1) x slowest, transfers and a share of the ring within a stage.
    Alpa,
    /// Varuna: transfers beside compute.
    Varuna,
    /// Piper: the pace of the slowest stage alone.
    Piper,
    /// Galvatron: fill, pace, ring.
    Galvatron,
}

impl Form {
    /// All of them.
    pub const ALL: [Form; 8] = [
        Form::Megatron,
        Form::Amp,
        Form::Metis,
        Form::Sailor,
        Form::Alpa,
        Form::Varuna,
        Form::Piper,
        Form::Galvatron,
    ];

    /// The planner's name.
    pub fn name(self) -> &'static str {
        match self {
            Form::Megatron => "megatron",
            Form::Amp => "amp",
            Form::Metis => "metis",
            Form::Sailor => "sailor",
            Form::Alpa => "alpa",
            Form::Varuna => "varuna",
            Form::Piper => "piper",
            Form::Galvatron => "galvatron",
        }
    }
}

/// A plan's stages in a form's terms, s.
struct Terms {
    steps: Vec<f64>,
    updates: Vec<f64>,
    /// To the next stage, over the slowest pair; 0 for the last.
    sends: Vec<f64>,
    /// Boundary activation at the rate inside a node, in elements.
    sends_inside: Vec<f64>,
    rings: Vec<f64>,
    rings_inside: Vec<f64>,
    micro_batches: f64,
}

/// The estimates of `plan` by every form of [`Form::ALL`], in order, s.
///
/// # Errors
/// Where it is no plan for the scenario.
pub fn estimates(scenario: &Scenario, plan: &Plan, at: SimTime) -> Result<[f64; 8], SimulateError> {
    let layout = Layout::new(scenario, plan).map_err(SimulateError::Plan)?;
    let terms = Terms::of(&View::new(scenario, at), plan, &layout);
    Ok(Form::ALL.map(|form| terms.time_s(form)))
}

impl Terms {
    fn of(view: &View<'_>, plan: &Plan, layout: &Layout) -> Terms {
        let stages = layout.pipelines.iter().map(|p| p.stages.len()).max().unwrap_or(0);
        let bytes = view.activation_bytes(plan.micro_batch);
        let element = view.scenario.training.precision.activation_bytes() as f64;
        let mut terms = Terms {
            steps: vec![0.0; stages],
            updates: vec![0.0; stages],
            sends: vec![0.0; stages],
            sends_inside: vec![0.0; stages],
            rings: vec![0.0; stages],
            rings_inside: vec![0.0; stages],
            micro_batches: layout.pipelines.iter().map(|p| f64::from(p.micro_batches)).fold(0.0, f64::max),
        };
        let rank_at =
            |p: usize, s: usize| layout.pipelines[p].stages.clone().nth(s).map(|r| &layout.ranks[r]);
        for s in 0..stages {
            let (mut ring, mut gradients) = (Vec::<DeviceId>::new(), 0.0f64);
            for p in 0..layout.pipelines.len() {
                let Some(rank) = rank_at(p, s) else { continue };
                let Some(cost) = rank.times.cost_of(&rank.layers) else { continue };
                let step = cost.forward.as_secs_f64() + cost.backward.as_secs_f64();
                terms.steps[s] = terms.steps[s].max(step);
                terms.updates[s] = terms.updates[s].max(cost.update.as_secs_f64());
                ring.push(rank.devices[0]);
                let held: f64 = rank
                    .layers
                    .chunks()
                    .iter()
                    .map(|r| view.gradient_bytes(r.first as usize, r.last as usize + 1, rank.tp))
                    .sum();
                gradients = gradients.max(held);
                if let Some(next) = rank_at(p, s + 1) {
                    let time = view.hop_s(rank.devices[0], next.devices[0], bytes, 1);
                    terms.sends[s] = terms.sends[s].max(time);
                    let pool = view.pool_of(rank.devices[0]);
                    let inside = view.rate(pool, pool, true, bytes, 1);
                    terms.sends_inside[s] = terms.sends_inside[s].max(bytes / element / inside);
                }
            }
            let n = ring.len() as f64;
            terms.rings[s] = view.ring_s(&ring, gradients);
            let pool = view.pool_of(ring[0]);
            terms.rings_inside[s] =
                2.0 * (n - 1.0) / n * gradients / view.rate(pool, pool, true, gradients, 1);
        }
        terms
    }

    fn time_s(&self, form: Form) -> f64 {
        let most = |list: &[f64]| list.iter().copied().fold(0.0, f64::max);
        let sum = |list: &[f64]| list.iter().sum::<f64>();
        let (m, p) = (self.micro_batches, self.steps.len() as f64);
        let (slowest, fill) = (most(&self.steps), sum(&self.steps));
        match form {
            Form::Megatron => (m + p - 1.0) * slowest,
            Form::Amp => (m - 1.0) * slowest + fill + sum(&self.sends) + most(&self.rings),
            Form::Metis => {
                let optimizer = 2.0 * most(&self.updates);
                (m - 1.0) * slowest + fill + sum(&self.sends_inside) + most(&self.rings_inside) + optimizer
            }
            Form::Sailor => {
                let stage = |s: usize| StageTerms {
                    step_s: self.steps[s],
                    update_s: self.updates[s],
                    sync_s: self.rings[s],
                    send_s: self.sends[s],
                };
                let stages: Vec<StageTerms> = (0..self.steps.len()).map(stage).collect();
                estimate_s(&stages, m as u32)
            }
            Form::Alpa => {
                let stage = |s: usize| self.steps[s] + self.sends[s] + self.rings[s] / m;
                let all: Vec<f64> = (0..self.steps.len()).map(stage).collect();
                sum(&all) + (m - 1.0) * most(&all)
            }
            Form::Varuna => {
                let pace = slowest.max(most(&self.sends));
                (m - 1.0) * pace + fill + 2.0 * sum(&self.sends) + most(&self.rings)
            }
            Form::Piper => {
                let before = |s: usize| if s == 0 { 0.0 } else { self.sends[s - 1] };
                let load = |s: usize| self.steps[s] + 2.0 * (before(s) + self.sends[s]) + self.rings[s] / m;
                m * (0..self.steps.len()).map(load).fold(0.0, f64::max)
            }
            Form::Galvatron => (m - 1.0) * slowest + fill + most(&self.rings),
        }
    }
}
