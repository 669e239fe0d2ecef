//! The measured runs that are shipped.

use super::row::{Row, read};

/// Sailor's runs (their plans are in them), and those of other sources whose licence lets them be carried: see NOTICE.
const FILES: [&str; 6] = [
    include_str!("../../data/sailor.csv"),
    include_str!("../../data/vtrain.csv"),
    include_str!("../../data/llm-foundry.csv"),
    include_str!("../../data/megatron-bridge.csv"),
    include_str!("../../data/simumax.csv"),
    include_str!("../../data/papers.csv"),
];

/// All shipped rows.
pub fn shipped() -> Vec<Row> {
    FILES.iter().flat_map(|text| read(text).expect("the shipped rows are well formed: tested")).collect()
}
