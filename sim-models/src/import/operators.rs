//! Profiles of single operators: vidur, LLMServingSim, SimuMax, and our own CSV.

use super::{Context, ImportError, ModelSizes, OperatorPoint, Profile, error, size, time, tp_of};
use crate::device::operator::Stream;
use crate::device::{Format, Operator};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The columns of our operator CSV. `operator` is `gemm`, `attention` or a kind of memory-bound kernel; `m,n,k` are a
/// product's sizes, or queries, keys and width of attention, whose `batch` counts sequences x heads; `bytes` is for
/// memory-bound kernels; `accumulate` is 1 where a product is added to a 32-bit buffer.
pub const COLUMNS: &str = "name,operator,pass,format,batch,kv_batch,m,n,k,causal,bytes,time_us,accumulate";

/// A CSV file by column names.
struct Rows<'a> {
    context: &'a Context,
    headers: BTreeMap<String, usize>,
    reader: csv::Reader<&'a [u8]>,
}

impl<'a> Rows<'a> {
    fn open(text: &'a str, context: &'a Context, needed: &[&str]) -> Result<Rows<'a>, ImportError> {
        let mut reader =
            csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(text.as_bytes());
        let names = reader.headers().map_err(|e| error(context, "line 1", e.to_string()))?;
        let headers: BTreeMap<String, usize> =
            names.iter().enumerate().map(|(i, n)| (n.to_owned(), i)).collect();
        if let Some(missing) = needed.iter().find(|n| !headers.contains_key(**n)) {
            return Err(error(context, "line 1", format!("no column `{missing}`")));
        }
        Ok(Rows { context, headers, reader })
    }

    fn each(mut self, mut row: impl FnMut(&Row<'_>) -> Result<(), ImportError>) -> Result<(), ImportError> {
        for record in self.reader.records() {
            let record = record.map_err(|e| {
                let line = e.position().map_or(0, csv::Position::line);
                error(self.context, &format!("line {line}"), e.to_string())
            })?;
            let place = format!("line {}", record.position().map_or(0, csv::Position::line));
            row(&Row { context: self.context, headers: &self.headers, record: &record, place })?;
        }
        Ok(())
    }
}

struct Row<'a> {
    context: &'a Context,
    headers: &'a BTreeMap<String, usize>,
    record: &'a csv::StringRecord,
    place: String,
}

impl Row<'_> {
    fn text(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|i| self.record.get(*i)).unwrap_or("")
    }

    /// `None` where the cell is empty or the column is not there.
    fn number(&self, name: &str) -> Result<Option<f64>, ImportError> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| error(self.context, &self.place, format!("`{name}` is `{text}`: expected a number")))
    }

    fn size(&self, name: &str) -> Result<u64, ImportError> {
        let value = self.number(name)?;
        let value = value
            .ok_or_else(|| error(self.context, &self.place, format!("`{name}` is empty: expected a size")))?;
        size(self.context, &format!("{}, `{name}`", self.place), value)
    }

    fn point(
        &self,
        name: &str,
        op: Operator,
        format: Format,
        value: f64,
        unit: f64,
    ) -> Result<OperatorPoint, ImportError> {
        Ok(OperatorPoint {
            name: name.to_owned(),
            op,
            format,
            seconds: time(self.context, &self.place, value, unit)?,
        })
    }
}

/// Forward operators of a decoder layer on one rank, by vidur's names.
fn decoder(s: &ModelSizes, gated: bool, tokens: u64, tp: u64) -> [(&'static str, Operator); 10] {
    let heads = (s.heads / tp).max(1);
    let kv = (s.kv_heads / tp).max(1);
    let ffn = (s.ffn_hidden / tp).max(1);
    let (h, t) = (s.hidden, tokens as f64);
    let memory = |kind, elements: f64| Operator::Memory { kind, bytes: 2.0 * elements };
    let width = (heads + 2 * kv) * s.head_width;
    let (up, act) = if gated { (2, 3.0) } else { (1, 2.0) };
    [
        ("emb", memory(Stream::Gather, 2.0 * t * h as f64)),
        ("input_layernorm", memory(Stream::Norm, 2.0 * t * h as f64)),
        ("attn_pre_proj", Operator::gemm(tokens, width, h)),
        ("attn_rope", memory(Stream::Rotary, 2.0 * t * ((heads + kv) * s.head_width) as f64)),
        ("attn_post_proj", Operator::gemm(tokens, h, heads * s.head_width)),
        ("post_attention_layernorm", memory(Stream::Norm, 2.0 * t * h as f64)),
        ("mlp_up_proj", Operator::gemm(tokens, up * ffn, h)),
        ("mlp_act", memory(Stream::Activation, act * t * ffn as f64)),
        ("mlp_down_proj", Operator::gemm(tokens, h, ffn)),
        ("add", memory(Stream::Add, 3.0 * t * h as f64)),
    ]
}

/// Medians over vidur's repeats, ms. Its kernels run in fp16.
pub(super) fn vidur(text: &str, context: &Context) -> Result<Profile, ImportError> {
    let needed =
        ["num_tokens", "num_tensor_parallel_workers", "n_head", "n_kv_head", "n_embd", "n_expanded_embd"];
    let mut profile = Profile::default();
    Rows::open(text, context, &needed)?.each(|row| {
        let (tokens, tp) = (row.size("num_tokens")?, row.size("num_tensor_parallel_workers")?);
        let (hidden, heads) = (row.size("n_embd")?, row.size("n_head")?);
        let sizes = ModelSizes {
            hidden,
            heads,
            kv_heads: row.size("n_kv_head")?,
            head_width: (hidden / heads).max(1),
            ffn_hidden: row.size("n_expanded_embd")?,
        };
        let gated = row.text("use_gated_mlp").eq_ignore_ascii_case("true");
        // Models without a second norm run attention and MLP side by side, and add both to the residual.
        let parallel = row.number("time_stats.post_attention_layernorm.median")?.is_none();
        for (name, op) in decoder(&sizes, gated, tokens, tp) {
            let op = match op {
                Operator::Memory { kind: Stream::Add, bytes } if parallel => {
                    Operator::Memory { kind: Stream::Add, bytes: bytes / 3.0 * 5.0 }
                }
                other => other,
            };
            match row.number(&format!("time_stats.{name}.median"))? {
                Some(ms) => profile.operators.push(row.point(name, op, Format::Fp16, ms, 1e-3)?),
                None => profile.skipped += 1,
            }
        }
        Ok(())
    })?;
    Ok(profile)
}

/// LLMServingSim's `dense.csv`: bf16, us. Its names stand beside vidur's. The context gives the model's sizes.
pub(super) fn llm_serving_sim(text: &str, context: &Context) -> Result<Profile, ImportError> {
    const NAMES: [(&str, &str); 6] = [
        ("qkv_proj", "attn_pre_proj"),
        ("o_proj", "attn_post_proj"),
        ("gate_up_proj", "mlp_up_proj"),
        ("down_proj", "mlp_down_proj"),
        ("act_fn", "mlp_act"),
        ("rotary_emb", "attn_rope"),
    ];
    let sizes = context.sizes.ok_or_else(|| {
        error(context, "context", "the file does not give the model's sizes: give a model".into())
    })?;
    let folder = context.file.rsplit(['/', '\\']).nth(1).unwrap_or("");
    let tp = match folder.strip_prefix("tp").and_then(|n| n.parse::<u32>().ok()).filter(|n| *n > 0) {
        Some(tp) => tp,
        None => tp_of(context, &["_tp"])?,
    };
    let mut profile = Profile::default();
    Rows::open(text, context, &["layer", "tokens", "time_us"])?.each(|row| {
        let operators = decoder(&sizes, true, row.size("tokens")?, u64::from(tp));
        let ours = NAMES.iter().find(|(theirs, _)| *theirs == row.text("layer")).map(|(_, ours)| *ours);
        let found = ours.and_then(|name| operators.into_iter().find(|(n, _)| *n == name));
        match (found, row.number("time_us")?) {
            (Some((name, op)), Some(us)) => {
                profile.operators.push(row.point(name, op, Format::Bf16, us, 1e-6)?)
            }
            _ => profile.skipped += 1,
        }
        Ok(())
    })?;
    Ok(profile)
}

/// SimuMax' system files: the share of `tflops` that a shape reached. Causal attention is counted there with all its
/// arithmetic.
pub(super) fn simumax(text: &str, context: &Context) -> Result<Profile, ImportError> {
    #[derive(Deserialize)]
    struct File {
        accelerator: Accelerator,
    }
    #[derive(Deserialize)]
    struct Accelerator {
        op: BTreeMap<String, Kernel>,
    }
    #[derive(Deserialize)]
    struct Kernel {
        tflops: f64,
        #[serde(default)]
        accurate_efficient_factor: Option<BTreeMap<String, f64>>,
    }
    let file: File = serde_json::from_str(text)
        .map_err(|e| error(context, &format!("line {}", e.line()), format!("not of this kind: {e}")))?;
    let mut profile = Profile::default();
    for (kernel, entry) in &file.accelerator.op {
        let shapes = entry.accurate_efficient_factor.iter().flatten();
        for (shape, share) in shapes {
            let fields: BTreeMap<&str, &str> = shape.split(", ").filter_map(|p| p.split_once('=')).collect();
            let number = |name: &str| {
                let text = fields.get(name).copied().unwrap_or("");
                let value = text.parse().unwrap_or(f64::NAN);
                size(context, &format!("{kernel}: {shape}: `{name}`"), value)
            };
            let op = match kernel.as_str() {
                "matmul" => Operator::Gemm {
                    batch: number("b")?,
                    m: number("m")?,
                    n: number("n")?,
                    k: number("k")?,
                    accumulate: fields.get("accumulate") == Some(&"True"),
                    grouped: false,
                },
                // Experts' products; the sizes are the forward pass's in every stage.
                "group_matmul" => {
                    let (m, n, k) = (number("M")?, number("N")?, number("K")?);
                    let (m, n, k) = match fields.get("stage").copied().unwrap_or("") {
                        "bwd_grad_act" => (m, k, n),
                        "bwd_grad_w" => (n, k, m),
                        _ => (m, n, k),
                    };
                    Operator::Gemm {
                        batch: number("ng")?,
                        m,
                        n,
                        k,
                        accumulate: fields.get("accumulate") == Some(&"True"),
                        grouped: true,
                    }
                }
                "sdp_fwd" | "sdp_bwd" => Operator::Attention {
                    heads: number("batch")?.saturating_mul(number("head_num")?),
                    kv_heads: number("batch")?.saturating_mul(number("kv_head_num")?),
                    queries: number("seq_len")?,
                    keys: number("seq_len")?,
                    // Scores and values differ in width in some models: the mean has the same arithmetic.
                    width: (number("qk_head_dim")? + number("v_head_dim")?) / 2,
                    causal: true,
                    backward: kernel == "sdp_bwd",
                },
                _ => {
                    profile.skipped += 1;
                    continue;
                }
            };
            let full = match op {
                Operator::Attention { .. } => 2.0 * op.flop(),
                _ => op.flop(),
            };
            let seconds =
                time(context, &format!("{kernel}: {shape}"), full / (entry.tflops * 1e12 * share), 1.0)?;
            profile.operators.push(OperatorPoint { name: kernel.clone(), op, format: Format::Bf16, seconds });
        }
    }
    Ok(profile)
}

pub(super) fn csv(text: &str, context: &Context) -> Result<Profile, ImportError> {
    let mut profile = Profile::default();
    Rows::open(text, context, &["operator", "format", "time_us"])?.each(|row| {
        let fail = |what: String| error(context, &row.place, what);
        let format = row.text("format");
        let format: Format = serde_json::from_value(serde_json::Value::from(format)).map_err(|_| {
            fail(format!("`format` is `{format}`: expected fp32, tf32, fp16, bf16, fp8 or fp4"))
        })?;
        let flag = |name: &str| matches!(row.text(name), "1" | "true" | "True");
        let backward = match row.text("pass") {
            "" | "forward" => false,
            "backward" => true,
            other => return Err(fail(format!("`pass` is `{other}`: expected forward or backward"))),
        };
        let batch = if row.text("batch").is_empty() { 1 } else { row.size("batch")? };
        let kv = if row.text("kv_batch").is_empty() { batch } else { row.size("kv_batch")? };
        let op = match row.text("operator") {
            gemm @ ("gemm" | "grouped_gemm") => Operator::Gemm {
                batch,
                m: row.size("m")?,
                n: row.size("n")?,
                k: row.size("k")?,
                accumulate: flag("accumulate"),
                grouped: gemm == "grouped_gemm",
            },
            "attention" => Operator::Attention {
                heads: batch,
                kv_heads: kv,
                queries: row.size("m")?,
                keys: row.size("n")?,
                width: row.size("k")?,
                causal: flag("causal"),
                backward,
            },
            other => {
                let kind = Stream::from_name(other).ok_or_else(|| {
                    let kinds = Stream::ALL.map(Stream::name).join(", ");
                    fail(format!("`operator` is `{other}`: expected gemm, grouped_gemm, attention, {kinds}"))
                })?;
                let bytes = row.number("bytes")?.unwrap_or(0.0);
                if !(1.0..=1e15).contains(&bytes) {
                    return Err(fail(format!("`bytes` is {bytes}: expected 1 to 10^15")));
                }
                Operator::Memory { kind, bytes }
            }
        };
        let name = if row.text("name").is_empty() { row.text("operator") } else { row.text("name") };
        let us = row.number("time_us")?.ok_or_else(|| fail("`time_us` is empty: expected a time".into()))?;
        profile.operators.push(row.point(name, op, format, us, 1e-6)?);
        Ok(())
    })?;
    Ok(profile)
}

/// Points as our operator CSV.
pub fn to_csv(points: &[OperatorPoint]) -> String {
    let mut text = format!("{COLUMNS}\n");
    for p in points {
        let format = format!("{:?}", p.format).to_lowercase();
        let (name, us) = (p.name.replace([',', '"', '\n'], " "), p.seconds * 1e6);
        // Writing to a String does not fail.
        let _ = match p.op {
            Operator::Gemm { batch, m, n, k, accumulate, grouped } => {
                let operator = if grouped { "grouped_gemm" } else { "gemm" };
                writeln!(
                    text,
                    "{name},{operator},,{format},{batch},,{m},{n},{k},,,{us:.4},{}",
                    u8::from(accumulate)
                )
            }
            Operator::Attention { heads, kv_heads, queries, keys, width, causal, backward } => {
                let pass = if backward { "backward" } else { "forward" };
                let causal = u8::from(causal);
                writeln!(
                    text,
                    "{name},attention,{pass},{format},{heads},{kv_heads},{queries},{keys},{width},{causal},,{us:.4},"
                )
            }
            Operator::Memory { kind, bytes } => {
                writeln!(text, "{name},{},,{format},,,,,,,{bytes:.0},{us:.4},", kind.name())
            }
        };
    }
    text
}
