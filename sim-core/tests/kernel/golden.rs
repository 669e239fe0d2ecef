//! Golden digests: the same on every machine, in debug and in release, until the kernel changes what it dispatches.

use crate::workloads::phold::Phold;
use crate::workloads::ring::{Links, Ring};
use crate::workloads::workload::{Topology, all_to_all};
use sim_core::generate::{Fcfs, Flows, Symmetry};
use sim_core::*;

#[test]
fn digests_are_those_of_the_record() {
    let flows = |topology, hosts| {
        let (net, graph) = all_to_all(topology, hosts, 123);
        let mut digests = [Solver::Incremental, Solver::Full].map(|solver| {
            let run =
                Executor::with_solver(solver).run(&graph, &net, &RunOptions::default(), &mut NoObserver);
            run.unwrap().digest.to_string()
        });
        assert_eq!(digests[0], digests[1], "{topology:?}");
        std::mem::take(&mut digests[0])
    };
    assert_eq!(flows(Topology::Star, 24), "994102c788f65e171e3fbad74cd0d070");
    assert_eq!(flows(Topology::Mesh, 24), "9d2780e6b0506dd81b26b25ca681f32c");
    assert_eq!(flows(Topology::Tree, 24), "030901f2380ecec391a8b7b1e1a75b24");
    assert_eq!(flows(Topology::FatTree, 24), "01aca977d31b061521f33ce9b1371fa7");

    let mut engine = Engine::new(Phold::new(1_000, 100_000, 1));
    Phold::fill(&mut engine);
    assert_eq!(
        engine.run(&Limits::default()).unwrap().digest.to_string(),
        "b6872979882c60ef96daee2d0ab89647"
    );

    let links = Links(16);
    let run = |mut world: Fcfs| {
        let mut program = Ring::new(16, 1 << 20, 4);
        world.run(&mut program, &links, &links, &RunOptions::default(), &mut NoObserver).unwrap()
    };
    let whole = run(Fcfs::new(16));
    let ordered = run(Fcfs::new(16).ordered());
    let folded = run(Fcfs::folded(16, Symmetry::Rotation, &links, &links).unwrap());
    assert_eq!((whole.end, whole.end), (ordered.end, folded.end));
    assert_eq!(whole.digest.to_string(), "d7187c9238adb155a9a224ebb94b910f");
    assert_eq!(folded.digest.to_string(), "50d3f40584af3fe198f9e5e23e3afe36");

    let net = crate::support::network(&vec![CapacityProfile::constant(Rate::from_raw(1 << 46)); 16]);
    let mut program = Ring::new(16, 1 << 20, 4);
    let mut shared = Flows::new(16, SimDuration::from_ps(500_000));
    let shared = shared.run(&mut program, &links, &net, &RunOptions::default(), &mut NoObserver).unwrap();
    assert_eq!(shared.digest.to_string(), "ce96d7d385da88c48c210940b320cccc");
}
