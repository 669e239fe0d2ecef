//! What dealing is held to: as good as trying everything, and the same on any number of threads.

use super::work::Work;
use super::{Dealing, Dealt, Job, deal};
use crate::laws::small::Tiny;
use crate::{Method, Stopped};
use sim_core::{SimDuration, SimTime};
use sim_models::iteration::Options;
use sim_models::jobs::{JobPlan, simulate_jobs};
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;

fn tiny(model: (u32, u32), batch: u32, wan: bool) -> Scenario {
    Tiny {
        experts: None,
        model,
        batch: (batch, vec![2]),
        groups: vec![("A100-40", 2, 4, 'a'), ("V100-16", 2, 4, if wan { 'b' } else { 'a' })],
        memory: None,
        network: (100, 10),
        wan: (8000, 5),
        changing: 0,
        leaves: None,
        ways: Vec::new(),
    }
    .scenario()
}

fn jobs(wan: bool) -> Vec<Job> {
    let job = |name: &str, scenario, iterations, weight| {
        let start = SimDuration::from_ps(weight * 1_000_000_000);
        Job { name: name.into(), scenario, iterations, start, weight, nodes: None }
    };
    vec![job("small", tiny((3, 512), 8, wan), 3, 2), job("large", tiny((4, 1024), 12, wan), 1, 3)]
}

fn dealt(jobs: &[Job], method: Method, threads: usize) -> Dealt {
    let together = |plans: &[Plan]| {
        let mut list = Vec::new();
        for (job, plan) in jobs.iter().zip(plans) {
            list.push(JobPlan { scenario: &job.scenario, plan, start: job.start });
        }
        let done = simulate_jobs(&jobs[0].scenario, &list, &Options::default()).ok()?;
        done.jobs.iter().all(|j| j.fits()).then(|| done.jobs.iter().map(|j| j.time.as_ps()).collect())
    };
    let options = Dealing { max_simulations: u64::MAX, at: SimTime::ZERO, method, threads };
    deal(jobs, &options, &together, &mut |_| None)
}

#[test]
fn two_jobs_on_sixteen_mixed_gpus_get_what_trying_everything_gives_them() {
    for wan in [false, true] {
        let jobs = jobs(wan);
        let (found, all) = (dealt(&jobs, Method::BranchAndBound, 1), dealt(&jobs, Method::Exhaustive, 2));
        let value = |d: &Dealt| d.best.as_ref().map(|b| b.value);
        assert!(value(&found).is_some());
        assert_eq!(value(&found), value(&all));
        assert!(found.lower <= value(&all).unwrap_or(0));
        assert!(found.even.is_none_or(|even| value(&found) <= Some(even)));
        assert_eq!((found.stopped, found.deals), (Stopped::Done, 7));
        for d in [&found, &all] {
            let c = &d.counts;
            assert_eq!(c.considered, c.bounded + c.simulated + c.expanded + c.open, "{c:?}");
        }
        let again = dealt(&jobs, Method::BranchAndBound, 2);
        assert_eq!((again.digest, again.best), (found.digest, found.best));
    }
}

/// Two of three are alike: what is known of one on some nodes is known of the other.
#[test]
fn three_jobs_get_what_trying_everything_gives_them() {
    let mut jobs = jobs(false);
    jobs.push(Job { name: "again".into(), iterations: 2, ..jobs[0].clone() });
    let (found, all) = (dealt(&jobs, Method::BranchAndBound, 1), dealt(&jobs, Method::Exhaustive, 2));
    let value = |d: &Dealt| d.best.as_ref().map(|b| b.value);
    assert!(value(&found).is_some());
    assert_eq!((value(&found), found.stopped), (value(&all), Stopped::Done));
    assert_eq!(found.lower, value(&all).unwrap_or(0), "proven");
    assert!(found.searches < all.counts.simulated * 3, "{} {:?}", found.searches, all.counts);
}

#[test]
fn a_job_keeps_the_nodes_that_are_its_own() {
    let mut jobs = jobs(false);
    jobs[0].nodes = Some(vec![vec![1], vec![]]);
    let best = dealt(&jobs, Method::BranchAndBound, 1).best.expect("both fit");
    assert_eq!(best.nodes[0], [vec![1], vec![]]);
    assert_eq!(best.nodes[1], [vec![0], vec![0, 1]]);
    let on_its_own = |(group, index): (&str, u32)| group == "g0" && index >= 4;
    assert!(best.plans[0].devices().all(on_its_own));
}

/// Whatever nodes two jobs get, what they are worth by their work is no less than the sum over all shares says.
#[test]
fn shares_of_work_are_worth_no_less_than_the_least_of_all() {
    for jobs in [jobs(false), jobs(true)] {
        let work = Work::new(&jobs);
        let (mut looked_at, mut near) = (0, 0.0f64);
        for a in 0..=12u32 {
            for v in (0..=12u32).filter(|v| (1..24).contains(&(a + *v))) {
                let (mine, others) = (work.least(0, &[a, v]), work.least(1, &[12 - a, 12 - v]));
                let sum = mine * u128::from(jobs[0].weight) + others * u128::from(jobs[1].weight);
                let least = work.least_sum(&[0, 1], &[12, 12]);
                assert!(least > 0 && least <= sum, "{a} {v}: {least} {sum}");
                near = near.max(least as f64 / sum as f64);
                looked_at += 1;
            }
        }
        assert!(looked_at == 167 && near > 0.9, "{looked_at} {near}");
    }
}
