//! The model's laws on every GPU of the catalogue, published figures it was not fitted on, what descriptions mean, and
//! that a fit finds what made the data.

use super::fit::{Sample, fit};
use super::*;
use crate::device::Catalogue;
use proptest::prelude::*;

fn fabric(gpu: &str, gpus_per_node: u32, intra: &str, inter: &str) -> Fabric {
    let text = Description {
        gpu,
        gpus_per_node,
        intra,
        inter,
        remarks: "",
        used: gpus_per_node,
        several_nodes: !inter.is_empty(),
    };
    describe(&text).unwrap_or_else(|e| panic!("{gpu}, {inter}: {e}"))
}

fn gib(n: f64) -> Bytes {
    Bytes((n * 1_073_741_824.0) as u64)
}

#[test]
fn shipped_parameters_are_what_the_program_writes() {
    let text = include_str!("parameters.toml");
    let shipped = Parameters::from_toml(text).unwrap();
    assert_eq!(shipped.to_toml(), text);
    assert_eq!(&shipped, Parameters::builtin());
    assert!(tuning::Tuning::builtin().architecture("hopper").nvls > 0.0);
}

#[test]
fn bad_parameters_are_refused() {
    let text = include_str!("parameters.toml");
    for (from, to, says) in [
        ("[start_us]", "[strat_us]", "`start_us` is missing"),
        ("spread = 0.12", "spread = 0.0", "spread = 0: expected"),
        ("max = 0.98", "max = nan", "below `max`"),
        ("sources = [", "sources = [[", "do not read"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = Parameters::from_toml(&text.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let unknown = format!(
        "{text}\n[speed]\nabout = \"\"\nunit = \"1\"\nprior = 1.0\nspread = 1.0\nmin = 0.0\nmax = 2.0\nvalue = 1.0\nsource = \"\"\n"
    );
    assert!(Parameters::from_toml(&unknown).unwrap_err().to_string().contains("`speed` is no parameter"));
}

#[test]
fn descriptions() {
    // GPU, a node, intra, inter -> wiring, cards, Gb/s a card, latency added, stated.
    let mesh = Wiring::Mesh(50e9);
    for (gpu, per_node, intra, inter, wiring, cards, gbps, added, stated) in [
        (
            "A100-80GB-SXM",
            8,
            "NVLink 3 / NVSwitch",
            "AWS EFA (2x p4de.24xlarge; 400 Gb/s per node)",
            Wiring::Switch,
            4,
            100.0,
            20e-6,
            true,
        ),
        (
            "H100-80GB-SXM",
            8,
            "",
            "AWS EFA (2x p5.48xlarge; 3200 Gb/s per node)",
            Wiring::Switch,
            32,
            100.0,
            20e-6,
            true,
        ),
        ("H200-141GB-SXM", 8, "NVLink 4", "AWS EFA p5en", Wiring::Switch, 16, 200.0, 10e-6, true),
        ("V100-32GB-SXM2", 4, "NVLink", "Omni-Path 400 Gb/s per node", mesh, 2, 200.0, 10e-6, true),
        (
            "V100-32GB-SXM2",
            8,
            "NVLink",
            "4 x EDR InfiniBand, 100 Gb/s each",
            Wiring::CubeMesh,
            4,
            100.0,
            0.0,
            true,
        ),
        ("V100-16GB", 4, "", "p3.8xlarge 10 Gb/s", mesh, 2, 5.0, 0.0, true),
        ("A100-80GB", 4, "NVLink pairwise + PCIe", "2x100GbE", Wiring::Pairs, 2, 100.0, 80e-6, true),
        ("GB10 (DGX Spark)", 1, "", "1 QSFP cable 200 Gb/s RoCE", Wiring::Pcie, 1, 200.0, 0.0, true),
        ("GH200-96GB", 4, "", "Alps Slingshot", Wiring::Mesh(150e9), 4, 200.0, 3e-6, true),
        ("V100-16GB", 4, "", "GCP VM network", mesh, 1, 50.0, 80e-6, true),
        ("V100-16GB", 1, "", "GCP VM network", mesh, 1, 16.0, 80e-6, true),
        ("A100-40GB", 1, "", "GCP VM network", Wiring::Switch, 1, 24.0, 80e-6, true),
        ("H100", 8, "NVSwitch", "InfiniBand NDR", Wiring::Switch, 8, 400.0, 0.0, false),
        ("H100", 8, "NVSwitch", "400 Gbps per GPU RoCEv2", Wiring::Switch, 8, 400.0, 0.0, true),
        ("H100", 8, "NVSwitch", "3.2 Tbps per node InfiniBand", Wiring::Switch, 8, 400.0, 0.0, true),
        ("L40S", 8, "PCIe Gen4", "100G Ethernet", Wiring::Pcie, 1, 100.0, 80e-6, true),
        ("MI300X", 8, "xGMI", "400 Gb/s x8 RoCE", Wiring::Mesh(64e9), 8, 400.0, 0.0, true),
        ("GPU type not stated (docs use A100)", 8, "", "RoCE 8x200Gb/s", Wiring::Switch, 8, 200.0, 0.0, true),
    ] {
        let fabric = fabric(gpu, per_node, intra, inter);
        let net = fabric.network.unwrap();
        assert_eq!(fabric.wiring, wiring, "{gpu}");
        let got = (net.cards, net.card_rate / 0.125e9, net.added_latency_s, net.stated);
        let close = (got.1 - gbps).abs() < 1e-6 && (got.2 - added).abs() < 1e-12;
        assert!(got.0 == cards && close && got.3 == stated, "{gpu}, {inter}: {got:?}");
    }
}

#[test]
fn what_no_one_can_know_is_refused() {
    let text = Description {
        gpu: "RTX-3090",
        gpus_per_node: 8,
        used: 8,
        several_nodes: true,
        ..Description::default()
    };
    for inter in ["", "inter-node fabric not stated in repo", "MIT cluster network", "Ethernet", "???"] {
        let error = describe(&Description { inter, ..text }).unwrap_err();
        assert!(matches!(error, DescribeError::NoRate { .. }), "{inter}: {error}");
    }
    let error = describe(&Description { gpu: "H101", ..text }).unwrap_err().to_string();
    assert!(error.contains("`H100`"), "{error}");
    assert!(describe(&Description { gpu: "not stated: A100 or H100", ..text }).is_err());
    let fabric = fabric("A100", 8, "", "");
    let model = Nccl::new(fabric).unwrap();
    let none = model.time(CollectiveKind::AllReduce, Bytes(1), Group::new(16, 2).unwrap());
    assert_eq!(none.unwrap_err(), CollectiveError::NoNetwork { nodes: 2 });
    let crowded = model.time(CollectiveKind::AllReduce, Bytes(1), Group::new(16, 1).unwrap());
    assert_eq!(crowded.unwrap_err(), CollectiveError::Crowded { ranks: 16, gpus: 8 });
    assert!(Group::new(0, 1).is_err() && Group::new(4, 0).is_err() && Group::new(5, 2).is_err());
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Nccl::new(fabric.with_network(Network::rdma(1, bad))).is_err());
        assert!(Nccl::new(Fabric { pcie: bad, ..fabric }).is_err());
    }
    assert!(Nccl::new(fabric.with_network(Network::wide_area(1e9, 0.0, 1e6))).is_err());
}

#[test]
fn algorithms_by_name() {
    let model = Nccl::new(fabric("H100", 8, "", "8x 400 Gb/s InfiniBand")).unwrap();
    let (size, group) = (gib(1.0), Group::new(64, 8).unwrap());
    let best = model.time(CollectiveKind::AllReduce, size, group).unwrap();
    for algorithm in [
        Algorithm::Ring,
        Algorithm::Tree,
        Algorithm::DoubleBinaryTree,
        Algorithm::HalvingDoubling,
        Algorithm::Direct,
        Algorithm::Hierarchical,
        Algorithm::Nvls,
    ] {
        let time = model.time_by(algorithm, CollectiveKind::AllReduce, size, group).unwrap();
        assert_eq!(time.algorithm, algorithm);
        assert!(time.seconds > 0.0 && time.seconds.is_finite());
        if algorithm == best.algorithm {
            assert_eq!(time, best);
        }
    }
    let pat =
        model.time_by(Algorithm::Pat, CollectiveKind::AllGather, size, Group::new(8, 8).unwrap()).unwrap();
    assert_eq!(pat.protocol, Protocol::Simple);
    let error = model.time_by(Algorithm::Pat, CollectiveKind::AllReduce, size, group).unwrap_err();
    assert!(matches!(error, CollectiveError::Impossible { possible, .. } if possible.len() == 7));
    // A wide-area link is bound by its window: 1 MiB a round trip of 100 ms.
    let wan = fabric("A100", 8, "", "").with_network(Network::wide_area(1.25e9, 0.1, 1_048_576.0));
    let pair = Group::new(2, 2).unwrap();
    let sent = Nccl::new(wan).unwrap().time(CollectiveKind::SendRecv, Bytes(104_857_600), pair).unwrap();
    assert!(sent.seconds > 10.0, "{sent:?}");
}

#[test]
fn kinds_by_name() {
    for kind in CollectiveKind::ALL {
        assert_eq!(CollectiveKind::from_name(kind.name()), Some(kind));
    }
    assert_eq!(CollectiveKind::from_name("AllReduce"), Some(CollectiveKind::AllReduce));
    assert_eq!(CollectiveKind::from_name("p2p"), Some(CollectiveKind::SendRecv));
    assert_eq!(CollectiveKind::from_name("collective (intra-node)"), None);
    assert_eq!(Algorithm::from_name("NVLS_TREE"), Some(Algorithm::Nvls));
    assert_eq!(Algorithm::from_name("magic"), None);
}

#[test]
fn evidence() {
    let size = Bytes(1 << 20);
    let of = |fabric: Fabric, bytes, ranks, nodes| {
        Nccl::new(fabric)
            .unwrap()
            .time(CollectiveKind::AllReduce, bytes, Group::new(ranks, nodes).unwrap())
            .unwrap()
            .evidence
    };
    let stated = fabric("A100", 8, "NVSwitch", "8x 200 Gb/s InfiniBand");
    assert_eq!(of(stated, size, 16, 2), Evidence::Calibrated);
    assert_eq!(of(stated, gib(1e3), 16, 2), Evidence::Extrapolated);
    assert_eq!(of(fabric("A100", 8, "NVSwitch", "InfiniBand"), size, 16, 2), Evidence::Extrapolated);
    let priors = Nccl::with_values(stated, Parameters::builtin().priors().values()).unwrap();
    let guess = priors.time(CollectiveKind::AllReduce, size, Group::new(8, 1).unwrap()).unwrap();
    assert_eq!(guess.evidence, Evidence::Extrapolated);
}

/// Samples that a model with these values would measure, every seventh thrice as slow.
fn synthetic(values: parameters::Values, outliers: bool) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (gpu, inter) in [
        ("A100", "8x 200 Gb/s InfiniBand"),
        ("H100", "8x 400 Gb/s InfiniBand"),
        ("L40S", "100 Gb/s Ethernet"),
    ] {
        let fabric = fabric(gpu, 8, "", inter);
        for (i, (ranks, nodes)) in [(2, 1), (8, 1), (16, 2), (64, 8)].into_iter().enumerate() {
            for octave in 10..32 {
                let sample = Sample {
                    source: gpu.to_string(),
                    fabric,
                    kind: CollectiveKind::AllReduce,
                    bytes: 1 << octave,
                    group: Group::new(ranks, nodes).unwrap(),
                    algorithm: None,
                    from_host: false,
                    seconds: 1.0,
                };
                let seconds = sample.predicted(values).unwrap();
                let odd = outliers && (i + octave as usize).is_multiple_of(7);
                samples.push(Sample { seconds: if odd { 3.0 * seconds } else { seconds }, ..sample });
            }
        }
    }
    samples
}

#[test]
fn a_fit_finds_what_made_the_data() {
    let shipped = Parameters::builtin();
    let truth = shipped
        .bounded(&[20.0, 35.0, 1.5, 0.8, 1.3, 0.97, 0.7, 0.88, 0.8, 24.0, 0.72, 0.4, 1.0, 0.5, 0.25, 0.9]);
    let samples = synthetic(truth, true);
    let list: Vec<&Sample> = samples.iter().collect();
    let (found, fitted) = fit(&list, shipped);
    assert_eq!(found.sources, ["A100", "H100", "L40S"]);
    assert_eq!(fitted.len(), Name::ALL.len());
    let clean = synthetic(truth, false);
    let worst = clean
        .iter()
        .map(|s| (s.predicted(found.values()).unwrap() / s.seconds - 1.0).abs())
        .fold(0.0, f64::max);
    assert!(worst < 0.12, "{worst}: {found:?}");
    // The same again, in any order of the rows.
    let reversed: Vec<&Sample> = samples.iter().rev().collect();
    assert_eq!(fit(&reversed, shipped).0.to_toml(), found.to_toml());
}

#[test]
fn a_fit_without_data_is_the_prior() {
    let (found, _) = fit(&[], Parameters::builtin());
    for name in Name::ALL {
        let (p, prior) = (found.get(name).value, found.get(name).prior);
        assert!((p / prior - 1.0).abs() < 1e-3, "{name:?}: {p} {prior}");
    }
    assert!(found.sources.is_empty());
}

fn any_fabric() -> impl Strategy<Value = Fabric> {
    let gpus = Catalogue::builtin().gpus().len();
    let network =
        (1u32..64, 1e6f64..1e12, 0.0f64..1.0, any::<bool>(), any::<bool>(), 0.0f64..1.0, 1.0f64..8.0);
    let wiring = (0u32..4, 1e6f64..1e13);
    (0..gpus, 1u32..20, network, wiring).prop_map(|(gpu, per_node, net, (way, rate))| {
        let mut fabric = Fabric::of(&Catalogue::builtin().gpus()[gpu], per_node);
        match way {
            1 => fabric.wiring = Wiring::Pairs,
            2 => fabric.wiring = Wiring::Pcie,
            3 => fabric.wiring = Wiring::Mesh(rate),
            _ => {}
        }
        let (cards, card_rate, added_latency_s, staged, tcp, collisions, oversubscription) = net;
        let flow_rate = tcp.then_some(card_rate / 3.0);
        let network = Network {
            cards,
            card_rate,
            added_latency_s,
            rendezvous_s: added_latency_s / 3.0,
            staged,
            collisions,
            relative_share: 0.9,
            simple_only: staged,
            tcp,
            flow_rate,
            oversubscription,
            stated: true,
        };
        fabric.with_network(network)
    })
}

proptest! {
    #[test]
    fn laws_hold_on_every_fabric(
        fabric in any_fabric(),
        kind in 0usize..6,
        shape in (1u32..20, prop_oneof![Just(1u32), 1u32..5, 1u32..20_000]),
        sizes in (0u32..64, any::<u64>(), any::<u64>()),
    ) {
        let (per_node, nodes) = (shape.0.min(fabric.gpus_per_node), shape.1);
        let group = Group::new(per_node * nodes, nodes).unwrap();
        let model = Nccl::new(fabric).unwrap();
        let pair = [Bytes(sizes.1 >> sizes.0), Bytes(sizes.2 >> sizes.0)];
        let checked = check_laws(&model, CollectiveKind::ALL[kind], pair, group);
        prop_assert!(checked.is_ok(), "{}", checked.unwrap_err());
    }

    #[test]
    fn no_text_makes_it_panic(gpu in ".{0,30}", intra in ".{0,30}", inter in "[0-9a-zA-Z x./()-]{0,40}|.{0,40}") {
        let text = Description { gpu: &gpu, gpus_per_node: 8, intra: &intra, inter: &inter, used: 8, several_nodes: true, remarks: &intra };
        let _ = describe(&text);
        if let Ok(fabric) = describe(&Description { gpu: "A100", ..text }) {
            prop_assert!(fabric.check().is_ok(), "{fabric:?}");
        }
    }
}
