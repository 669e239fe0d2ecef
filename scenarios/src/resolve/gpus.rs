//! `[[gpus]]`: GPUs of one's own, from their datasheets, in front of the catalogue.

use crate::fault::{At, Faults};
use crate::format::{GpuTable, ScenarioFile};
use crate::read::Name;
use sim_models::device::catalogue::{Peaks, Sources};
use sim_models::device::{Catalogue, Gpu};
use sim_models::units::Bytes;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// PCIe 4.0 x16, bytes/s: 16 GT/s with 128b/130b coding.
const PCIE: f64 = 31.5e9;
/// An A100's (whitepaper, table 4): of the sizes in between.
const CACHE: Bytes = Bytes(40 << 20);

/// The GPUs that nodes may have.
pub(super) struct Gpus {
    catalogue: Cow<'static, Catalogue>,
    /// Names of those at fault.
    at_fault: BTreeSet<String>,
}

impl Gpus {
    /// Those of the file and of the shipped catalogue.
    pub(super) fn new(file: &ScenarioFile, faults: &mut Faults) -> Gpus {
        let mut gpus = Gpus { catalogue: Cow::Borrowed(Catalogue::builtin()), at_fault: BTreeSet::new() };
        let mut own: Vec<Gpu> = Vec::new();
        for At { value: table, .. } in file.gpus.iter().flat_map(|g| &g.value) {
            let Some(name) = &table.name else { continue };
            let same = |gpu: &Gpu| gpu.name.eq_ignore_ascii_case(name.value.0.trim());
            if own.iter().any(same) {
                let message = format!("two GPUs are called `{}`", name.value.0);
                faults.push(name.place, "T0301", message, "each needs a name of its own");
            } else if Catalogue::builtin().gpus().iter().any(same) {
                let message = format!("`{}` is a GPU of the catalogue: its figures are known", name.value.0);
                faults.push(name.place, "T0301", message, "give a GPU of your own another name");
            } else if let Some(gpu) = gpu(table, &name.value) {
                own.push(gpu);
            } else {
                gpus.at_fault.insert(name.value.0.clone());
            }
        }
        if !own.is_empty() {
            gpus.catalogue = Cow::Owned(Catalogue::builtin().with(Catalogue::of(own)));
        }
        gpus
    }

    /// The GPU of that name.
    pub(super) fn find(&self, name: &At<Name>, faults: &mut Faults) -> Option<Gpu> {
        if self.at_fault.contains(&name.value.0) {
            return None;
        }
        match self.catalogue.find(&name.value.0) {
            Ok(gpu) => Some(gpu.clone()),
            Err(error) => {
                let message = format!("unknown GPU `{}`", name.value.0);
                let help = format!("did you mean `{}`? a GPU of your own needs `[[gpus]]`", error.nearest);
                faults.push(name.place, "T0303", message, help);
                None
            }
        }
    }
}

fn gpu(t: &GpuTable, name: &Name) -> Option<Gpu> {
    let figures = &t.tflops.as_ref()?.value;
    let peak = |figure: &Option<At<crate::read::Factor>>| figure.as_ref().map(|f| f.value.0 * 1e12);
    let peaks = Peaks {
        fp32: Some(peak(&figures.fp32)?),
        tf32: peak(&figures.tf32),
        fp16: peak(&figures.fp16),
        bf16: peak(&figures.bf16),
        fp8: peak(&figures.fp8),
        fp4: peak(&figures.fp4),
    };
    let nvlink = t.nvlink.as_ref().map(|r| r.value.0.as_bytes_per_s());
    let said = || "the scenario's `[[gpus]]`".to_string();
    Some(Gpu {
        name: name.0.trim().to_string(),
        architecture: t.architecture.as_ref().map_or_else(String::new, |a| a.value.0.to_lowercase()),
        family: Vec::new(),
        label_gb: Vec::new(),
        form: if nvlink.is_some() { "sxm" } else { "pcie" }.into(),
        memory: t.memory.as_ref()?.value.0,
        memory_bandwidth: t.memory_bandwidth.as_ref()?.value.0.as_bytes_per_s(),
        peaks,
        multiprocessors: t.multiprocessors.as_ref()?.value.u32(),
        cache: t.cache.as_ref().map_or(CACHE, |c| c.value.0),
        power_w: None,
        nvlink,
        pcie: t.pcie.as_ref().map_or(PCIE, |r| r.value.0.as_bytes_per_s()),
        peer_access: true,
        sources: Sources {
            peaks: said(),
            memory: said(),
            bandwidth: said(),
            multiprocessors: said(),
            links: said(),
        },
    })
}
