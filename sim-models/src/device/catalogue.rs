//! The device catalogue: what each GPU is, from its maker's documents, found by the many names people give it.
//!
//! The figures and their sources are in `catalogue.toml`, embedded; [`Catalogue::from_toml`] reads a user's own in the
//! same form. What a GPU *reaches* of its peaks is the roofline's business.

use crate::units::Bytes;
use crate::workload::Precision;
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// Number format of an operator's operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// 32 bits, on the ordinary units.
    Fp32,
    /// 32 bits in memory, 19 in the tensor core.
    Tf32,
    /// IEEE half.
    Fp16,
    /// bfloat16.
    Bf16,
    /// 8 bits, any of its layouts.
    Fp8,
    /// 4 bits, any of its block-scaled layouts.
    Fp4,
}

impl Format {
    /// Bytes of one element in memory.
    pub fn bytes(self) -> f64 {
        match self {
            Format::Fp32 | Format::Tf32 => 4.0,
            Format::Fp16 | Format::Bf16 => 2.0,
            Format::Fp8 => 1.0,
            Format::Fp4 => 0.5,
        }
    }
}

impl From<Precision> for Format {
    fn from(precision: Precision) -> Format {
        match precision {
            Precision::Fp32 => Format::Fp32,
            Precision::Fp16 => Format::Fp16,
            Precision::Bf16 => Format::Bf16,
            Precision::Fp8 => Format::Fp8,
            Precision::Fp4 => Format::Fp4,
        }
    }
}

/// Dense peaks in FLOP/s (no sparsity); `None` where the GPU has no unit for the format.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peaks {
    /// Without tensor cores (AMD: with matrix cores).
    pub fp32: Option<f64>,
    /// Tensor cores.
    pub tf32: Option<f64>,
    /// Tensor cores with 32-bit accumulation, where the GPU has any.
    pub fp16: Option<f64>,
    /// As `fp16`.
    pub bf16: Option<f64>,
    /// As `fp16`.
    pub fp8: Option<f64>,
    /// As `fp16`.
    pub fp4: Option<f64>,
}

/// The document behind each figure: its title, and the table or column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// Of the peaks.
    pub peaks: String,
    /// Of the memory's size.
    pub memory: String,
    /// Of the memory's bandwidth.
    pub bandwidth: String,
    /// Of the number of multiprocessors.
    pub multiprocessors: String,
    /// Of NVLink (xGMI) and PCIe.
    pub links: String,
}

/// One GPU. Every rate is positive and finite.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gpu {
    /// Canonical name: `A100-80`, `RTX-3090`.
    pub name: String,
    /// Architecture in lower case: `ampere`, `cdna3`.
    pub architecture: String,
    /// What its name may begin with, lower case without separators: `a100`, `rtx3090`.
    pub family: Vec<String>,
    /// Memory sizes, in GB, that a label may give.
    pub label_gb: Vec<u32>,
    /// `sxm`, `pcie`, `nvl`, `superchip`, `oam`.
    pub form: String,
    /// Memory that programs can use.
    pub memory: Bytes,
    /// Memory bandwidth, bytes/s.
    pub memory_bandwidth: f64,
    /// Dense peaks.
    pub peaks: Peaks,
    /// Streaming multiprocessors (compute units). At least 1.
    pub multiprocessors: u32,
    /// Last cache before the memory.
    pub cache: Bytes,
    /// Board power, W, where it is known.
    pub power_w: Option<f64>,
    /// NVLink or xGMI, bytes/s per GPU and direction; on cards, what a bridge gives where one is fitted.
    pub nvlink: Option<f64>,
    /// To the host, bytes/s per direction.
    pub pcie: f64,
    /// Whether its driver lets cards read each other's memory over PCIe; consumer cards' does not.
    pub peer_access: bool,
    /// Where the figures come from.
    pub sources: Sources,
}

impl Gpu {
    /// Peak of a training precision, FLOP/s: fp32 without tensor cores; a 16-bit format that the GPU has no unit for
    /// runs at the fp32 peak.
    pub fn peak(&self, precision: Precision) -> f64 {
        self.peak_of(Format::from(precision))
    }

    /// Peak of a format, FLOP/s. A format without a unit is computed in the next wider one that has: fp4 in fp8, fp8
    /// in bf16 or fp16, tf32 and the 16-bit formats in fp32.
    pub fn peak_of(&self, format: Format) -> f64 {
        let p = &self.peaks;
        let wide = p.fp32.or(p.fp16).or(p.bf16).unwrap_or(f64::MIN_POSITIVE);
        let half = p.bf16.or(p.fp16).unwrap_or(wide);
        match format {
            Format::Fp32 => wide,
            Format::Tf32 => p.tf32.unwrap_or(wide),
            Format::Fp16 => p.fp16.unwrap_or(wide),
            Format::Bf16 => p.bf16.unwrap_or(wide),
            Format::Fp8 => p.fp8.unwrap_or(half),
            Format::Fp4 => p.fp4.or(p.fp8).unwrap_or(half),
        }
    }

    fn matches(&self, name: &ParsedName) -> bool {
        name.label_gb.iter().all(|gb| self.label_gb.contains(gb))
            && name.forms.iter().all(|f| self.form == *f)
    }
}

/// A name that no entry of the catalogue answers to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown GPU `{name}`: the nearest in the catalogue is `{nearest}`")]
pub struct UnknownGpu {
    /// The name as given.
    pub name: String,
    /// The canonical name nearest to it in spelling.
    pub nearest: String,
}

/// Why a catalogue could not be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CatalogueError {
    /// Not TOML, an unknown or missing key, a value of the wrong type; the message has the line.
    #[error("the catalogue does not read: {0}")]
    Parse(String),
    /// A figure out of its range.
    #[error("GPU `{gpu}`: `{field}` is {value}: expected {expected}")]
    Figure {
        /// Its name.
        gpu: String,
        /// The key.
        field: &'static str,
        /// What stands there.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// No entry at all.
    #[error("the catalogue is empty: expected at least one `[[gpu]]`")]
    Empty,
}

/// GPUs, found by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalogue {
    gpus: Vec<Gpu>,
}

impl Catalogue {
    /// The shipped catalogue.
    pub fn builtin() -> &'static Catalogue {
        static BUILTIN: OnceLock<Catalogue> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            Catalogue::from_toml(include_str!("catalogue.toml"))
                .expect("a unit test reads the shipped catalogue")
        })
    }

    /// Reads a catalogue in the form of the shipped `catalogue.toml`.
    ///
    /// # Errors
    /// See [`CatalogueError`].
    pub fn from_toml(text: &str) -> Result<Catalogue, CatalogueError> {
        let file: File = toml::from_str(text).map_err(|e| CatalogueError::Parse(e.to_string()))?;
        if file.gpu.is_empty() {
            return Err(CatalogueError::Empty);
        }
        let gpus = file.gpu.into_iter().map(Entry::check).collect::<Result<_, _>>()?;
        Ok(Catalogue { gpus })
    }

    /// Of these GPUs. Their names are not compared: of two with one name, the first is found.
    pub fn of(gpus: Vec<Gpu>) -> Catalogue {
        Catalogue { gpus }
    }

    /// All of them, in the order of the file.
    pub fn gpus(&self) -> &[Gpu] {
        &self.gpus
    }

    /// `self` with the GPUs of `other` in front: where both answer to a name, `other`'s is found.
    #[must_use]
    pub fn with(&self, other: Catalogue) -> Catalogue {
        Catalogue { gpus: other.gpus.into_iter().chain(self.gpus.iter().cloned()).collect() }
    }

    /// The GPU a name means. Case, vendor and separators do not matter; a memory size (`80GB`) and a form (`SXM4`,
    /// `PCIe`) choose within the family, whose first entry is meant when neither is said.
    ///
    /// ```
    /// let catalogue = sim_models::device::Catalogue::builtin();
    /// for (name, canonical) in [("NVIDIA A100-SXM4-40GB", "A100-40"), ("gh200", "GH200-96"), ("titan rtx", "Titan-RTX")] {
    ///     assert_eq!(catalogue.find(name).unwrap().name, canonical);
    /// }
    /// assert_eq!(catalogue.find("H101").unwrap_err().nearest, "H100");
    /// ```
    ///
    /// # Errors
    /// No entry answers to the name, or none of its family has that memory or form.
    pub fn find(&self, name: &str) -> Result<&Gpu, UnknownGpu> {
        let exact = self.gpus.iter().find(|g| g.name.eq_ignore_ascii_case(name.trim()));
        exact
            .or_else(|| self.by_family(name))
            .ok_or_else(|| UnknownGpu { name: name.chars().take(80).collect(), nearest: self.nearest(name) })
    }

    fn by_family(&self, name: &str) -> Option<&Gpu> {
        let words = words(name);
        // The longest head of the name that is a family: `RTX 6000 Ada` before `RTX 6000`.
        (1..=words.len()).rev().find_map(|n| {
            let head: String = words[..n].iter().map(|w| w.text.as_str()).collect();
            let of_family = |g: &&Gpu| g.family.contains(&head);
            self.gpus.iter().find(of_family)?;
            let rest = ParsedName::qualifiers(&words[n..])?;
            self.gpus.iter().filter(of_family).find(|g| g.matches(&rest))
        })
    }

    fn nearest(&self, name: &str) -> String {
        let plain = |s: &str| -> Vec<char> {
            let letters = s.chars().filter(char::is_ascii_alphanumeric).take(80);
            letters.map(|c| c.to_ascii_lowercase()).collect()
        };
        let wanted: Vec<char> = words(name).iter().flat_map(|w| plain(&w.text)).take(80).collect();
        let distance = |gpu: &&Gpu| {
            let names = gpu.family.iter().map(String::as_str).chain([gpu.name.as_str()]);
            names.map(|n| mismatch(&plain(n), &wanted)).min()
        };
        self.gpus.iter().min_by_key(distance).map(|g| g.name.clone()).unwrap_or_default()
    }
}

/// A word of a name, in lower case, and whether it stood in parentheses.
struct Word {
    text: String,
    aside: bool,
}

/// What a name says after its family.
struct ParsedName {
    label_gb: Vec<u32>,
    forms: Vec<&'static str>,
}

/// Words that tell no GPU from another.
const NOISE: &[&str] = &[
    "nvidia",
    "amd",
    "instinct",
    "tesla",
    "geforce",
    "quadro",
    "gpu",
    "gpus",
    "graphics",
    "tensor",
    "core",
    "card",
    "hbm2",
    "hbm2e",
    "hbm3",
    "hbm3e",
    "gddr6",
    "gddr6x",
    "gddr7",
    "dgx",
    "hgx",
    "class",
    "gb",
    "gib",
    "nvlink",
    "nvl72",
    "blackwell",
    "server",
    "workstation",
    "edition",
    "fhhl",
    "80c",
];

fn words(name: &str) -> Vec<Word> {
    let mut list = Vec::new();
    let mut depth = 0u32;
    let mut text = String::new();
    for c in name.chars().take(200).chain([' ']) {
        if c.is_ascii_alphanumeric() {
            text.push(c.to_ascii_lowercase());
            continue;
        }
        if !text.is_empty() && !NOISE.contains(&text.as_str()) {
            list.push(Word { text: std::mem::take(&mut text), aside: depth > 0 });
        }
        text.clear();
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    list
}

impl ParsedName {
    /// `None` where a word outside parentheses says something unknown (`Ti`, `v2`): it may mean another GPU.
    fn qualifiers(words: &[Word]) -> Option<ParsedName> {
        let mut parsed = ParsedName { label_gb: Vec::new(), forms: Vec::new() };
        for word in words {
            let text = word.text.as_str();
            let digits = text.trim_end_matches("gib").trim_end_matches("gb").trim_end_matches('g');
            let has_unit = digits.len() < text.len();
            if let (Ok(gb), true) = (digits.parse::<u32>(), has_unit || !word.aside) {
                parsed.label_gb.push(gb);
            } else if let Some(form) = form(text) {
                parsed.forms.push(form);
            } else if !word.aside {
                return None;
            }
        }
        Some(parsed)
    }
}

fn form(word: &str) -> Option<&'static str> {
    match word {
        "sxm" | "sxm2" | "sxm3" | "sxm4" | "sxm5" | "sxm6" => Some("sxm"),
        "pcie" | "pci" | "pcie3" | "pcie4" | "pcie5" => Some("pcie"),
        "nvl" => Some("nvl"),
        "oam" => Some("oam"),
        _ => None,
    }
}

/// Insertions and deletions that turn one into the other, less the length of their common beginning.
fn mismatch(a: &[char], b: &[char]) -> i64 {
    let mut row: Vec<i64> = (0..).take(b.len() + 1).collect();
    for (x, next) in a.iter().zip(1..) {
        let mut corner = row[0];
        row[0] = next;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + 2 * i64::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    let common = (0..).zip(a.iter().zip(b)).take_while(|(_, (x, y))| x == y).last().map_or(0, |(i, _)| i + 1);
    row[b.len()] - common
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    gpu: Vec<Entry>,
}

/// An entry as written: TFLOP/s, GB/s, MiB.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    architecture: String,
    family: Vec<String>,
    #[serde(default)]
    label_gb: Vec<u32>,
    form: String,
    tflops: Tflops,
    memory_bytes: u64,
    bandwidth: f64,
    multiprocessors: u32,
    cache_mib: f64,
    power_w: f64,
    nvlink: Option<f64>,
    pcie: f64,
    #[serde(default = "yes")]
    peer_access: bool,
    sources: Sources,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tflops {
    fp32: Option<f64>,
    tf32: Option<f64>,
    fp16: Option<f64>,
    bf16: Option<f64>,
    fp8: Option<f64>,
    fp4: Option<f64>,
}

impl Entry {
    fn check(self) -> Result<Gpu, CatalogueError> {
        let name = self.name.clone();
        let fail = |field, value: String, expected| CatalogueError::Figure {
            gpu: name.clone(),
            field,
            value,
            expected,
        };
        let rate = |field, value: f64, unit: f64| {
            let expected = "a number above 0 and at most 10^7, in the unit of the file's head";
            if value > 0.0 && value <= 1e7 {
                Ok(value * unit)
            } else {
                Err(fail(field, value.to_string(), expected))
            }
        };
        let some = |field, value: Option<f64>, unit| value.map(|v| rate(field, v, unit)).transpose();
        if self.name.trim().is_empty() {
            return Err(fail("name", "empty".into(), "a name"));
        }
        if self.multiprocessors == 0 {
            return Err(fail("multiprocessors", "0".into(), "at least 1"));
        }
        if self.memory_bytes == 0 {
            return Err(fail("memory_bytes", "0".into(), "at least 1"));
        }
        let t = &self.tflops;
        let peaks = Peaks {
            fp32: some("tflops.fp32", t.fp32, 1e12)?,
            tf32: some("tflops.tf32", t.tf32, 1e12)?,
            fp16: some("tflops.fp16", t.fp16, 1e12)?,
            bf16: some("tflops.bf16", t.bf16, 1e12)?,
            fp8: some("tflops.fp8", t.fp8, 1e12)?,
            fp4: some("tflops.fp4", t.fp4, 1e12)?,
        };
        if peaks.fp32.is_none() && peaks.fp16.is_none() && peaks.bf16.is_none() {
            return Err(fail("tflops", "without fp32, fp16 and bf16".into(), "at least one of these"));
        }
        let spelling =
            |s: &String| s.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        Ok(Gpu {
            architecture: self.architecture.to_lowercase(),
            family: self.family.iter().map(spelling).collect(),
            label_gb: self.label_gb,
            form: self.form.to_lowercase(),
            memory: Bytes(self.memory_bytes),
            memory_bandwidth: rate("bandwidth", self.bandwidth, 1e9)?,
            peaks,
            multiprocessors: self.multiprocessors,
            cache: Bytes::from_f64(rate("cache_mib", self.cache_mib, f64::from(1 << 20))?),
            power_w: Some(rate("power_w", self.power_w, 1.0)?),
            nvlink: some("nvlink", self.nvlink, 1e9)?,
            pcie: rate("pcie", self.pcie, 1e9)?,
            peer_access: self.peer_access,
            sources: self.sources,
            name: self.name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_by_family() {
        for (name, expected) in [
            ("A100-40", "A100-40"),
            ("A100-40GB-SXM", "A100-40"),
            ("NVIDIA A100-SXM4-40GB", "A100-40"),
            ("A100-SXM4-80GB", "A100-80"),
            ("A100 (SXM/80GB not stated)", "A100-80"),
            ("A100-SXM (DGX-class, 8 GPU/node)", "A100-80"),
            ("a100 pcie 40 GB", "A100-40-PCIe"),
            ("NVIDIA A100 80GB PCIe", "A100-80-PCIe"),
            ("GH200-96GB", "GH200-96"),
            ("GH-96", "GH200-96"),
            ("NVIDIA GH200 480GB", "GH200-96"),
            ("gh200", "GH200-96"),
            ("GH200 144GB HBM3e", "GH200-144"),
            ("H100 SXM5", "H100"),
            ("H100-80GB-SXM", "H100"),
            ("NVIDIA H100 80GB HBM3", "H100"),
            ("NVIDIA H100 PCIe", "H100-PCIe"),
            ("NVIDIA H100 NVL", "H100-NVL"),
            ("H200-141GB-SXM", "H200"),
            ("V100-SXM2-16GB", "V100-16"),
            ("V100-16GB-SXM2", "V100-16"),
            ("V100-SXM2", "V100-16"),
            ("V100-32GB-SXM2", "V100-32"),
            ("Tesla V100-PCIE-32GB", "V100-32-PCIe"),
            ("Tesla T4", "T4"),
            ("Tesla P100-SXM2-16GB", "P100"),
            ("NVIDIA A10G", "A10G"),
            ("A40-48GB", "A40"),
            ("NVIDIA RTX A5000", "RTX-A5000"),
            ("B200-SXM", "B200"),
            ("GB200 NVL72", "GB200"),
            ("GB10 (DGX Spark)", "GB10"),
            ("NVIDIA GeForce RTX 3090", "RTX-3090"),
            ("rtx4090", "RTX-4090"),
            ("RTX 2080 Ti", "RTX-2080"),
            ("RTX 2080 8GB", "RTX-2080-8"),
            ("TITAN RTX", "Titan-RTX"),
            ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
            ("AMD Instinct MI300X OAM", "MI300X"),
            ("mi355x", "MI355X"),
        ] {
            let found = Catalogue::builtin().find(name).map(|g| g.name.as_str());
            assert_eq!(found, Ok(expected), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_says_the_nearest() {
        for (name, nearest) in
            [("A200", "A100-80"), ("RTX 3090 Ti", "RTX-3090"), ("MI300A", "MI300X"), ("V100-64GB", "V100-16")]
        {
            let error = Catalogue::builtin().find(name).unwrap_err();
            assert_eq!(error.nearest, nearest, "{error}");
        }
        for name in ["", " ", "GPU", "((((", "\u{1F980}", &"a".repeat(10_000)] {
            assert!(Catalogue::builtin().find(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn every_name_finds_its_own_entry_and_no_two_are_alike() {
        let catalogue = Catalogue::builtin();
        for (i, gpu) in catalogue.gpus().iter().enumerate() {
            assert_eq!(catalogue.find(&gpu.name).map(|g| g.name.as_str()), Ok(gpu.name.as_str()));
            assert!(catalogue.gpus()[..i].iter().all(|g| g.name != gpu.name), "{} twice", gpu.name);
            let flop_a_byte = gpu.peak(Precision::Fp16) / gpu.memory_bandwidth;
            assert!((15.0..500.0).contains(&flop_a_byte), "{}: {flop_a_byte}", gpu.name);
        }
    }

    /// A slip in a catalogue is a fault of factors: halved peaks, bits for bytes.
    #[test]
    fn peaks_stand_in_the_usual_proportions() {
        for gpu in Catalogue::builtin().gpus() {
            let p = &gpu.peaks;
            let ratio = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a / b);
            let near = |r: Option<f64>, low: f64, high: f64| r.is_none_or(|r| (low..=high).contains(&r));
            assert!(near(ratio(p.fp8, p.fp16), 1.9, 2.1), "{} fp8", gpu.name);
            assert!(near(ratio(p.fp4, p.fp8), 1.9, 3.1), "{} fp4", gpu.name);
            assert!(near(ratio(p.fp16, p.tf32), 1.9, 2.1), "{} tf32", gpu.name);
            assert!(near(ratio(p.bf16, p.fp16), 1.0, 1.0), "{} bf16", gpu.name);
        }
    }

    #[test]
    fn a_format_without_a_unit_runs_in_a_wider_one() {
        let v100 = Catalogue::builtin().find("V100-16").unwrap();
        assert_eq!(v100.peak(Precision::Bf16), v100.peak(Precision::Fp32));
        assert_eq!(v100.peak_of(Format::Fp8), 125e12);
        assert_eq!(v100.peak_of(Format::Tf32), 15.7e12);
    }

    #[test]
    fn bad_catalogues_say_what_is_wrong() {
        let good = "[[gpu]]\nname = \"X1\"\narchitecture = \"x\"\nfamily = [\"x1\"]\nform = \"pcie\"\n\
                    tflops = { fp32 = 10 }\nmemory_bytes = 1000\nbandwidth = 100\nmultiprocessors = 10\n\
                    cache_mib = 4\npower_w = 100\npcie = 16\n[gpu.sources]\npeaks = \"a\"\nmemory = \"a\"\n\
                    bandwidth = \"a\"\nmultiprocessors = \"a\"\nlinks = \"a\"\n";
        let mine = Catalogue::from_toml(good).unwrap();
        assert_eq!(Catalogue::builtin().with(mine).find("X1").unwrap().name, "X1");
        for (from, to, part) in [
            ("bandwidth = 100", "bandwidth = nan", "bandwidth"),
            ("bandwidth = 100", "bandwidth = inf", "bandwidth"),
            ("fp32 = 10", "fp32 = -1", "tflops.fp32"),
            ("fp32 = 10", "fp8 = 10", "at least one"),
            ("fp32 = 10", "fp33 = 10", "fp33"),
            ("multiprocessors = 10", "multiprocessors = 0", "at least 1"),
            ("memory_bytes = 1000", "memory_bytes = -1", "line"),
            ("pcie = 16", "", "pcie"),
        ] {
            let error = Catalogue::from_toml(&good.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(part), "{to}: {error}");
        }
        assert_eq!(Catalogue::from_toml(""), Err(CatalogueError::Empty));
    }
}
