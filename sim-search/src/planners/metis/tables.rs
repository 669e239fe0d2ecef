//! What Metis knows of a model and a cluster, in Metis's own units: milliseconds, megabytes, and bandwidths whose "GB/s" are
//! 1024 x 1024 bytes a millisecond.

use std::collections::BTreeMap;

/// Profile of a model on one kind of GPU at one TP and micro-batch: a file `DeviceType.KIND_tpT_bsB.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Forward and backward of each layer, ms.
    pub layers_ms: Vec<f64>,
    /// Forward and backward of the whole model beyond the sum of its layers, ms.
    pub sync_ms: f64,
    /// Memory of each layer, MB.
    pub memory_mb: Vec<f64>,
}

/// A model's profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// By (kind, TP, micro-batch).
    pub entries: BTreeMap<(usize, u32, u32), Entry>,
    /// Optimizer step of the whole model at TP 1, ms; as Metis takes it, twice what the file says.
    pub optimizer_ms: f64,
    /// Making one micro-batch, ms.
    pub batch_generator_ms: f64,
    /// Parameters of the first layer, of a middle one and of the last, bytes.
    pub parameter_bytes: [f64; 3],
    /// Share of each layer in the model's time, at TP 1 and micro-batch 1 of the first kind.
    pub normal: Vec<f64>,
    /// Width of the model.
    pub hidden: f64,
    /// Tokens of a sample.
    pub sequence: f64,
    /// Entries of the vocabulary.
    pub vocabulary: f64,
    /// Largest TP and micro-batch it was profiled at.
    pub most_tp: u32,
    /// See `most_tp`.
    pub most_batch: u32,
}

/// A kind of GPU in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    /// Its name.
    pub name: String,
    /// Memory, GB.
    pub memory_gb: f64,
    /// Bandwidth inside its nodes, "GB/s".
    pub inside: f64,
    /// Bandwidth between nodes, "GB/s". The published code returns the one inside instead; see [`super::cost`].
    pub between: f64,
    /// Its nodes.
    pub nodes: usize,
}

/// A cluster: nodes of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Kinds of GPU.
    pub kinds: Vec<Kind>,
    /// GPUs of every node.
    pub per_node: usize,
}

impl Cluster {
    /// All GPUs.
    pub fn devices(&self) -> usize {
        self.kinds.iter().map(|k| k.nodes).sum::<usize>() * self.per_node
    }

    /// The kind of each node when kinds stand in this order.
    pub fn nodes_in(&self, sequence: &[usize]) -> Vec<usize> {
        sequence.iter().flat_map(|k| std::iter::repeat_n(*k, self.kinds[*k].nodes)).collect()
    }
}

impl Profile {
    /// Layers of the model.
    pub fn layers(&self) -> usize {
        self.normal.len()
    }

    /// Time of layers `first .. end` on a kind, ms.
    pub fn time_ms(&self, kind: usize, tp: u32, batch: u32, first: usize, end: usize) -> Option<f64> {
        Some(self.entries.get(&(kind, tp, batch))?.layers_ms.get(first..end)?.iter().sum())
    }

    /// Bytes of the parameters of layers `first .. end` on one of `tp` ranks. An empty range that touches the first or the
    /// last layer counts them, and less a middle one, as in the published code.
    pub fn stage_bytes(&self, tp: u32, first: usize, end: usize) -> f64 {
        let [input, middle, output] = self.parameter_bytes;
        let mut blocks = end as f64 - first as f64;
        let mut bytes = 0.0;
        let tp = f64::from(tp);
        if first == 0 {
            bytes += input / tp;
            blocks -= 1.0;
        }
        if end == self.layers() {
            bytes += output / tp;
            blocks -= 1.0;
        }
        bytes + middle / tp * blocks
    }

    /// *Elements* that pass from layer `end - 1` to layer `end`; where `end` is the last layer, the published code takes the
    /// logits.
    pub fn boundary(&self, end: usize, batch: u32, tp: u32) -> f64 {
        let batch = f64::from(batch);
        if end + 1 == self.layers() {
            batch * self.sequence * self.vocabulary / f64::from(tp)
        } else {
            batch * self.sequence * self.hidden
        }
    }
}

/// Powers of two that make up a micro-batch, largest first: how an odd one is looked up.
pub fn slices(batch: u32) -> impl Iterator<Item = u32> {
    (0..32).rev().map(|i| 1u32 << i).filter(move |bit| batch & bit != 0)
}
