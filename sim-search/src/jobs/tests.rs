//! What dealing is held to: as good as trying everything, and the same on any number of threads.

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
    let job = |name: &str, scenario, iterations| Job { name: name.into(), scenario, iterations, nodes: None };
    vec![job("small", tiny((3, 512), 8, wan), 3), job("large", tiny((4, 1024), 12, wan), 1)]
}

fn dealt(jobs: &[Job], method: Method, threads: usize) -> Dealt {
    let together = |plans: &[Plan]| {
        let mut list = Vec::new();
        for (job, plan) in jobs.iter().zip(plans) {
            list.push(JobPlan { scenario: &job.scenario, plan, start: SimDuration::ZERO });
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
