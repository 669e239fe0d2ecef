//! A scenario as one JSON object, for planners in other languages: sizes in bytes, times in seconds, rates in bytes/s. What it
//! holds is listed in docs/planners.md.

use super::View;
use serde_json::{Value, json};
use sim_core::SimTime;
use sim_models::scenario::Scenario;

/// Message sizes at which rates are given, bytes.
const SIZES: [f64; 4] = [65_536.0, 1_048_576.0, 16_777_216.0, 268_435_456.0];

/// The scenario at an instant of its traces.
pub fn describe(scenario: &Scenario, at: SimTime) -> Value {
    let view = View::new(scenario, at);
    let (model, training) = (&scenario.model, &scenario.training);
    let layer = |l: u32| json!({ "parameters": model.parameters(l, 1) });
    let pools: Vec<Value> = (0..view.pools.len()).map(|p| pool(&view, p)).collect();
    json!({
        "schema_version": 1,
        "name": scenario.name,
        "model": {
            "name": model.name,
            "layers": model.layers(),
            "hidden": model.hidden,
            "seq_len": model.seq_len,
            "vocab": model.vocab,
            "boundary_bytes": view.activation_bytes(1),
            "by_layer": (0..model.layers()).map(layer).collect::<Vec<_>>(),
        },
        "training": {
            "global_batch": training.global_batch,
            "precision": training.precision,
            "optimizer": training.optimizer,
            "memory_reserve_bytes": training.memory_reserve.0,
        },
        "search": { "micro_batches": view.micro_batches(), "max_stages": scenario.search.max_stages },
        "groups": scenario.groups.iter().map(|g| json!({
            "name": g.name, "gpu": g.gpu.name, "zone": g.zone, "nodes": g.nodes,
            "gpus_per_node": g.gpus_per_node, "memory_bytes": g.gpu.memory.0,
        })).collect::<Vec<_>>(),
        "pools": pools,
    })
}

fn pool(view: &View<'_>, p: usize) -> Value {
    let pool = &view.pools[p];
    let mut times = Vec::new();
    for micro_batch in view.micro_batches() {
        for tp in view.tps(p) {
            let Some(column) = view.column(p, micro_batch, tp) else { continue };
            let by_layer = |l: usize| {
                let forward = column.forward_s(l, l + 1);
                json!([forward, column.pass_s(l, l + 1) - forward, column.update_s(l, l + 1)])
            };
            times.push(json!({
                "micro_batch": micro_batch,
                "tp": tp,
                "forward_backward_update_s": (0..view.layers).map(by_layer).collect::<Vec<_>>(),
                "memory_bytes_in_flight_1": (0..view.layers).map(|l| view.layer_memory(micro_batch, tp, l)).collect::<Vec<_>>(),
            }));
        }
    }
    let rates = |to: usize, inside: bool| {
        let at = |bytes: f64| json!([bytes, view.rate(p, to, inside, bytes, 1)]);
        SIZES.map(at)
    };
    let links: Vec<Value> = (0..view.pools.len())
        .map(|to| json!({ "to": to, "bytes_and_rate": rates(to, false), "seconds_for_1_byte": view.send_s(p, to, false, 1.0, 1) }))
        .collect();
    json!({
        "gpu": pool.gpu,
        "zone": pool.zone,
        "gpus_per_node": pool.per_node,
        "memory_bytes": pool.memory.0,
        "devices": pool.devices.iter().map(|d| view.scenario.device_name(*d)).collect::<Vec<_>>(),
        "inside_node_bytes_and_rate": rates(p, true),
        "to_pools": links,
        "layer_times": times,
    })
}
