//! A collective as an activity of a scenario's network: a start, then bytes at a capped rate over the real links.
//!
//! The model says how long a group takes when nothing else is on its links; what else is on them, and what a trace leaves of
//! them, the network says. So [`Nccl::group_time`] gives what a transfer needs: the latency before the first byte, the bytes
//! that pass each node's cards each way (on one node: each GPU's links), and the most that they pass at. Alone on links of
//! the stated rate the activity takes exactly `seconds`.

use super::nccl::Nccl;
use super::ways::{Stated, Way};
use super::{Algorithm, CollectiveError, CollectiveKind, CollectiveModel, Evidence, Group, Protocol};
use crate::link::{LinkModel, StreamRate};
use crate::units::Bytes;
use serde::Serialize;

/// The wire's part of NCCL's latency of a hop under LL, s (`tuning.toml`): what a stated latency has beyond it is added.
const WIRE_S: f64 = 2.7e-6;

/// The links of a group, as a scenario states them.
#[derive(Clone, Copy, Debug)]
pub struct Wires<'a> {
    /// Between GPUs of a node. `None`: as the GPU's maker joins them.
    pub inside: Option<&'a LinkModel>,
    /// From a node to the next; of unlike nodes the slowest. Needed by groups of several nodes.
    pub between: Option<&'a LinkModel>,
    /// A node's NIC each way, bytes/s: no transfer passes faster. Above 0.
    pub nic: f64,
    /// Latency of a hop between nodes besides the link's, s: that of a zone link.
    pub added_s: f64,
}

/// What a transfer that stands for the collective needs.
///
/// Laws (checked by tests over every GPU): `latency_s + bytes / rate` is `seconds` but for the rounding of a byte;
/// `lower_s` is monotone in the size and at most `seconds` at that size and any larger one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GroupTime {
    /// Before the first byte, s.
    pub latency_s: f64,
    /// Bytes that pass each node's cards, each way; on one node each GPU's links.
    pub bytes: u64,
    /// The most that they pass at, bytes/s, above 0; infinite where there are none.
    pub rate: f64,
    /// Alone on its links, s: 0 on one rank.
    pub seconds: f64,
    /// At least this at any larger size too, s.
    pub lower_s: f64,
    /// What it stands on.
    pub evidence: Evidence,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The protocol.
    pub protocol: Protocol,
}

impl Nccl {
    /// A collective of a group over a scenario's links; sizes are nccl-tests' ([`super`]).
    ///
    /// A link of a constant rate is taken as the wire between nodes (headers and collisions take their share of it) and as
    /// what transfers reach inside one; a measured curve as what transfers reach, start included, at the size of a
    /// message: a rank's part of the buffer. NCCL's choice of algorithm and protocol is among the times over these links.
    ///
    /// # Errors
    /// More ranks a node than GPUs, or several nodes and no link between them.
    pub fn group_time(
        &self,
        wires: &Wires<'_>,
        kind: CollectiveKind,
        bytes: Bytes,
        group: Group,
    ) -> Result<GroupTime, CollectiveError> {
        let gpus = self.fabric().gpus_per_node.max(self.fabric().domain);
        if group.per_node() > gpus {
            return Err(CollectiveError::Crowded { ranks: group.per_node(), gpus });
        }
        if group.nodes() > 1 && wires.between.is_none() {
            return Err(CollectiveError::NoNetwork { nodes: group.nodes() });
        }
        if group.ranks() == 1 {
            return Ok(GroupTime {
                latency_s: 0.0,
                bytes: 0,
                rate: f64::INFINITY,
                seconds: 0.0,
                lower_s: 0.0,
                evidence: Evidence::Calibrated,
                algorithm: Algorithm::Ring,
                protocol: Protocol::Simple,
            });
        }
        let best = self.best(wires, kind, bytes, group, LinkModel::transfer_rate);
        let lower = self.best(wires, kind, bytes, group, |link, _, streams| link.best_rate(streams));
        let (seconds, crossed) = (best.seconds(), libm::ceil(best.crossed));
        let before = best.before();
        let rate = if crossed > 0.0 { crossed / (seconds - before) } else { f64::INFINITY };
        // The least of the ways is monotone over constant rates, and curves are replaced by their best.
        let lower_s = lower.seconds();
        let model = self.time(kind, bytes, Group { nodes: 1, ..group });
        let besides = self.besides_s;
        Ok(GroupTime {
            latency_s: before + besides,
            bytes: crossed as u64,
            rate,
            seconds: seconds + besides,
            lower_s: lower_s + besides,
            evidence: model.map_or(Evidence::Extrapolated, |estimate| estimate.evidence),
            algorithm: best.algorithm,
            protocol: best.protocol,
        })
    }

    fn best(
        &self,
        wires: &Wires<'_>,
        kind: CollectiveKind,
        bytes: Bytes,
        group: Group,
        rate: impl Fn(&LinkModel, Bytes, u32) -> f64,
    ) -> Way {
        let part = Bytes((bytes.0 / u64::from(group.ranks())).max(1));
        let m = group.per_node();
        // A constant rate without a latency leaves the hop to NCCL; a curve holds its start.
        let hop = |link: &LinkModel| (link.latency_s > 0.0 || measured(link)).then_some(link.latency_s);
        let inside = wires.inside.map(|link| (rate(link, part, 1), hop(link)));
        let between = wires.between.map(|link| {
            let reached = rate(link, Bytes(part.0.saturating_mul(u64::from(m))), m);
            let beyond = (link.latency_s - WIRE_S).max(0.0);
            (reached.min(wires.nic), beyond + wires.added_s)
        });
        let between_measured = wires.between.is_some_and(measured);
        let shape = self.shape_over(group, Stated { inside, between, between_measured });
        let ways = shape.nccl(kind, bytes.0 as f64);
        let best = ways.into_iter().reduce(|a, b| if b.seconds() < a.seconds() { b } else { a });
        best.expect("every operation has a way")
    }
}

fn measured(link: &LinkModel) -> bool {
    matches!(link.rate, StreamRate::Fitted(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::{Fabric, Network};
    use crate::device::Catalogue;
    use crate::link::fitted_inside_node;
    use proptest::prelude::*;

    fn nccl(gpu: &str) -> Nccl {
        Nccl::new(Fabric::of(Catalogue::builtin().find(gpu).unwrap(), 8)).unwrap()
    }

    fn wires<'a>(inside: Option<&'a LinkModel>, between: Option<&'a LinkModel>) -> Wires<'a> {
        Wires { inside, between, nic: 1e15, added_s: 0.0 }
    }

    /// Over the maker's links and a network without a latency of its own it is the model's time.
    #[test]
    fn the_maker_s_links_give_the_model_s_time() {
        for (gpu, cards) in [("A100", 200e9 / 8.0), ("H100", 400e9 / 8.0), ("MI300X", 400e9 / 8.0)] {
            let alone = nccl(gpu);
            let with = Nccl::new(alone.fabric().with_network(Network::rdma(8, cards))).unwrap();
            let link = LinkModel::constant(8.0 * cards, 0.0);
            for (ranks, nodes) in [(2, 1), (8, 1), (16, 2), (64, 8)] {
                let group = Group::new(ranks, nodes).unwrap();
                for kind in CollectiveKind::ALL {
                    for octave in [4, 16, 20, 24, 30] {
                        let bytes = Bytes(1 << octave);
                        let time = with.time(kind, bytes, group).unwrap();
                        let over = alone.group_time(&wires(None, Some(&link)), kind, bytes, group).unwrap();
                        let same = (over.seconds / time.seconds - 1.0).abs() < 1e-12;
                        assert!(same, "{gpu}, {kind:?}, {group:?}, {bytes}: {over:?}, {time:?}");
                        assert_eq!((over.algorithm, over.protocol), (time.algorithm, time.protocol));
                    }
                }
            }
        }
    }

    /// A ring over 10 GB/s cards carries 2 (n - 1) / n of the buffer at what RDMA leaves of them.
    #[test]
    fn what_crosses_a_node() {
        let link = LinkModel::constant(10e9, 5e-6);
        let big = Bytes(1 << 34);
        let time = nccl("A100")
            .group_time(&wires(None, Some(&link)), CollectiveKind::AllReduce, big, Group::new(64, 8).unwrap())
            .unwrap();
        assert_eq!(
            (time.algorithm, time.bytes),
            (Algorithm::Ring, (big.0 as f64 * 2.0 * 63.0 / 64.0) as u64)
        );
        assert!((8.5e9..10e9).contains(&time.rate), "{time:?}");
        // A card of its own caps it; a zone link's latency is paid on each of 14 crossings.
        let slow = Wires { nic: 1e9, ..wires(None, Some(&link)) };
        let far = Wires { added_s: 1e-3, ..wires(None, Some(&link)) };
        let group = Group::new(64, 8).unwrap();
        let of = |w: &Wires<'_>| nccl("A100").group_time(w, CollectiveKind::AllReduce, big, group).unwrap();
        assert!(of(&slow).rate <= 1e9 && of(&slow).seconds > 9.0 * time.seconds);
        assert!(of(&far).latency_s >= 14e-3 && of(&far).seconds >= time.seconds + 14e-3, "{:?}", of(&far));
    }

    #[test]
    fn curves_are_taken_as_measured() {
        let curve = LinkModel {
            latency_s: 0.0,
            rate: StreamRate::Fitted(fitted_inside_node("V100-16").unwrap().to_vec()),
        };
        let (group, bytes) = (Group::new(4, 1).unwrap(), Bytes(1 << 28));
        let time =
            nccl("V100-16").group_time(&wires(Some(&curve), None), CollectiveKind::AllReduce, bytes, group);
        let time = time.unwrap();
        let measured = 1.5 * bytes.0 as f64 / curve.transfer_rate(Bytes(bytes.0 / 4), 1);
        assert!((time.seconds / measured - 1.0).abs() < 0.02, "{time:?}, {measured}");
    }

    #[test]
    fn what_no_group_can_be() {
        let model = nccl("A100");
        let of = |ranks, nodes| {
            let group = Group::new(ranks, nodes).unwrap();
            model.group_time(&wires(None, None), CollectiveKind::AllReduce, Bytes(1), group)
        };
        assert_eq!(of(16, 2).unwrap_err(), CollectiveError::NoNetwork { nodes: 2 });
        assert_eq!(of(16, 1).unwrap_err(), CollectiveError::Crowded { ranks: 16, gpus: 8 });
        assert_eq!(of(1, 1).unwrap().seconds, 0.0);
    }

    proptest! {
        #[test]
        fn a_start_and_bytes_at_a_rate(
            gpu in 0..Catalogue::builtin().gpus().len(),
            shape in (1u32..9, 1u32..70),
            kind in 0usize..6,
            sizes in (0u32..44, any::<u64>(), any::<u64>()),
            stated in (any::<bool>(), 1e6f64..1e12, 0.0f64..1e-3),
            network in (1e6f64..1e12, 0.0f64..0.1, 1e6f64..1e12),
        ) {
            let model = Nccl::new(Fabric::of(&Catalogue::builtin().gpus()[gpu], 8)).unwrap();
            let inside = LinkModel::constant(stated.1, stated.2);
            let between = LinkModel::constant(network.0, network.1);
            let wires = Wires {
                inside: stated.0.then_some(&inside),
                between: Some(&between),
                nic: network.2,
                added_s: stated.2,
            };
            let group = Group::new(shape.0 * shape.1, shape.1).unwrap();
            let of = |bytes: u64| model.group_time(&wires, CollectiveKind::ALL[kind], Bytes(bytes), group).unwrap();
            let (a, b) = (sizes.1 >> (20 + sizes.0), sizes.2 >> (20 + sizes.0));
            let (small, large) = (of(a.min(b)), of(a.max(b)));
            for time in [small, large] {
                let whole = time.latency_s + if time.bytes > 0 { time.bytes as f64 / time.rate } else { 0.0 };
                prop_assert!((whole - time.seconds).abs() <= 1e-9 * time.seconds, "{time:?}");
                prop_assert!(time.latency_s >= 0.0 && time.rate > 0.0 && time.lower_s <= time.seconds, "{time:?}");
                prop_assert!(group.nodes() == 1 || time.bytes == 0 || time.rate <= 2.0 * network.2, "{time:?}");
            }
            prop_assert!(small.lower_s <= large.lower_s && small.lower_s <= large.seconds, "{small:?} {large:?}");
        }
    }

    /// Between products a collective takes the same longer at any size, alone and over a scenario's links.
    #[test]
    fn among_products_each_takes_longer() {
        let gpu = Catalogue::builtin().find("B200").unwrap();
        let alone = Nccl::of(gpu, 8).unwrap();
        let among = alone.in_training(1.0, 1.0);
        let group = Group::new(8, 1).unwrap();
        for bytes in [Bytes(1 << 10), Bytes(1 << 30)] {
            let [a, b] = [alone, among]
                .map(|n| n.group_time(&wires(None, None), CollectiveKind::AllGather, bytes, group).unwrap());
            assert!((b.seconds - a.seconds - 23.6e-6).abs() < 1e-9 && b.lower_s > a.lower_s);
            let [a, b] = [alone, among].map(|n| n.time(CollectiveKind::AllGather, bytes, group).unwrap());
            assert!((b.seconds - a.seconds - 23.6e-6).abs() < 1e-9);
        }
    }
}
