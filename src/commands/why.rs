//! `plan --why-not PLAN.toml`: at which step of the ladder a plan falls, and by how much.

use super::plan::{Best, in_full};
use crate::failure::Failure;
use crate::report::table::seconds;
use serde_json::{Value, json};
use sim_models::iteration::Iteration;
use sim_models::layout::Layout;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use sim_models::units::Bytes;
use sim_search::Found;

/// What became of the plan.
pub(super) struct Why {
    /// `memory`, `simulation`, or `none`: it is the best or better.
    step: &'static str,
    /// Its time, s.
    time_s: f64,
    /// By which share of the best time it is slower; negative when it is faster.
    slower: Option<f64>,
    /// Bytes that its fullest device lacks, and which it is.
    lacks: Option<(u64, String)>,
    /// Whether it is the best plan itself.
    same: bool,
    /// Shares of device time, of the plan and of the best: compute, exposed communication, bubble.
    shares: [Option<[f64; 3]>; 2],
    /// No plan of the space is faster than the best.
    proven: bool,
}

/// Holds a plan against the best.
pub(super) fn of(
    scenario: &Scenario,
    found: &Found,
    best: Option<&Best>,
    plan: &Plan,
    at: sim_core::SimTime,
) -> Result<Why, Failure> {
    let (_, iteration): (Layout, Iteration) = in_full(scenario, plan, at)?;
    let time_s = iteration.time.as_secs_f64();
    let best_s = best.map(|(_, _, i)| i.time.as_secs_f64());
    let slower = best_s.map(|b| time_s / b - 1.0);
    let lacks = iteration.shortfall().filter(|(_, lack)| *lack > 0);
    let lacks = lacks.map(|(d, lack)| (u64::try_from(lack).unwrap_or(u64::MAX), d.id.clone()));
    let step = if lacks.is_some() {
        "memory"
    } else if slower.is_some_and(|s| s > 0.0) {
        "simulation"
    } else {
        "none"
    };
    Ok(Why {
        step,
        time_s,
        slower,
        lacks,
        same: best.is_some_and(|(p, ..)| p == plan),
        shares: [Some(shares(&iteration)), best.map(|(_, _, i)| shares(i))],
        proven: found.gap() == Some(0.0),
    })
}

/// Shares of all device time: compute, exposed communication, bubble.
fn shares(iteration: &Iteration) -> [f64; 3] {
    let mut sums = [0.0; 3];
    for d in &iteration.devices {
        let n = f64::from(d.count);
        for (sum, part) in sums.iter_mut().zip([d.busy_s, d.exposed_comm_s, d.bubble_s]) {
            *sum += part * n;
        }
    }
    let all: f64 = sums.iter().sum();
    sums.map(|s| s / all)
}

impl Why {
    pub(super) fn json(&self) -> Value {
        json!({
            "falls_at": self.step,
            "iteration_time_s": self.time_s,
            "slower_by": self.slower,
            "lacking_bytes": self.lacks.as_ref().map(|l| l.0),
            "device": self.lacks.as_ref().map(|l| &l.1),
            "is_best": self.same,
            "shares": self.shares[0].map(|[c, e, b]| json!({ "compute": c, "exposed_comm": e, "bubble": b })),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::from("\nwhy not that plan: ");
        match (&self.lacks, self.slower) {
            (Some((lack, device)), _) => {
                text += &format!(
                    "it falls at memory: {device} lacks {:.2} GiB (it would take {})\n",
                    Bytes(*lack).as_gib(),
                    seconds(self.time_s)
                );
            }
            (None, _) if self.same => text += "it is the best plan\n",
            (None, Some(slower)) if slower > 0.0 => {
                text += &format!(
                    "it fits, and is slower when simulated: {}, {:.1} % more\n",
                    seconds(self.time_s),
                    100.0 * slower
                );
                if let [Some(its), Some(best)] = self.shares {
                    let parts = ["compute", "exposed communication", "bubble"];
                    let part = |(i, name): (usize, &&str)| {
                        format!("{name} {:.1} % ({:.1} %)", 100.0 * its[i], 100.0 * best[i])
                    };
                    let parts: Vec<String> = parts.iter().enumerate().map(part).collect();
                    text += &format!("of its device time (of the best plan's): {}\n", parts.join(", "));
                }
            }
            (None, Some(_)) => {
                text += &format!(
                    "it takes {}, as little as the best found or less: {}\n",
                    seconds(self.time_s),
                    if self.proven {
                        "it is outside of the space searched"
                    } else {
                        "the search has not come to it"
                    }
                );
            }
            (None, None) => text += &format!("it fits and takes {}\n", seconds(self.time_s)),
        }
        text
    }
}
