//! How the work of one iteration grows with GPUs: instructions counted by valgrind's callgrind, of a run with the iteration less
//! those of one without it. Llama-3 405B in pipelines of 64 GPUs (TP 8, eight stages, 16 micro-batches), 64 to 131,072 GPUs;
//! laid out, folded (or not), lowered and run. Fails where growth is faster than n log n.
//!
//! `cargo bench --bench scale -- [--most GPUS] [--most-unfolded GPUS] [--svg F.svg]`
#![allow(missing_docs, reason = "a bench is no library")]

use scenarios::{Overrides, load_text};
use sim_core::SimTime;
use sim_models::fold::Folding;
use sim_models::iteration::Simulator;
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use std::fmt::Write;
use std::process::Command;

/// Set for the process that valgrind watches: `GPUS FOLD RUNS`.
const CHILD: &str = "TIDEPLAN_SCALE_CHILD";

fn scenario(gpus: u32) -> String {
    let replicas = gpus / 64;
    let mut text = format!(
        "schema_version = 1\nmodel = {{ name = \"llama-3.1-405b\" }}\n\
         training = {{ global_batch = {}, precision = \"bf16\" }}\n[[nodes]]\nname = \"h100\"\ncount = {}\ngpus_per_node = 8\n\
         gpu = \"H100\"\nnic = \"3.2 Tbps\"\nnics = 8\n[network]\nrate = \"3.2 Tbps\"\nlatency = \"10 us\"\n\
         [plan]\nmicro_batch = 1\nsequence_parallel = true\n[[plan.pipelines]]\nreplicas = {replicas}\nmicro_batches = 16\nstages = [\n",
        16 * replicas,
        gpus / 8
    );
    for stage in 0..8 {
        let (first, device) = (16 * stage, stage * replicas * 8);
        let layers = format!("{first}-{}", first + 15);
        let _ = writeln!(
            text,
            "{{ layers = \"{layers}\", tp = 8, devices = [\"h100:{device}-{}\"] }},",
            device + replicas * 8 - 1
        );
    }
    text + "]\n"
}

/// Reads the scenario, and runs its iteration so many times.
fn child(arguments: &str) {
    let mut numbers = arguments.split(' ').map(|n| n.parse::<u32>().expect("a number"));
    let mut next = || numbers.next().expect("three numbers");
    let (gpus, fold, runs) = (next(), next() == 1, next());
    let loaded = load_text(&scenario(gpus), "scale.toml", None, &Overrides::default());
    let scenario = loaded.unwrap_or_else(|f| panic!("{}", f[0])).scenario;
    let (plan, fabric) = (scenario.plan.as_ref().expect("its plan"), Fabric::new(&scenario));
    let mut simulator = Simulator::new(&scenario, &fabric);
    for _ in 0..runs {
        let layout = Layout::new(&scenario, plan).expect("a plan");
        let folding = if fold { Folding::of(&layout) } else { Folding::none(&layout) };
        let outcome = simulator.run(plan, &layout, &folding, SimTime::ZERO, None).expect("it ends");
        assert!(outcome.finished, "no cut-off");
    }
}

/// Instructions of one process; `None` without valgrind.
fn instructions(gpus: u32, fold: bool, runs: u32) -> Option<u64> {
    let own = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .env(CHILD, format!("{gpus} {} {runs}", u32::from(fold)))
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find(|l| l.contains("Collected :")).unwrap_or_else(|| panic!("{text}"));
    line.rsplit(' ').next()?.parse().ok()
}

/// Points of (GPUs, instructions) as a picture, both axes in powers of ten, with n log n through the last of each line.
fn svg(lines: &[(&str, Vec<(u32, u64)>)]) -> String {
    let (width, height) = (640.0, 420.0);
    let x = |n: f64| 60.0 + libm::log2(n / 64.0) / 11.0 * (width - 90.0);
    let y = |i: f64| height - 40.0 - (libm::log10(i) - 5.0) / 7.0 * (height - 70.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <text x=\"60\" y=\"16\">instructions of one iteration, by GPUs; dashed: n log n</text>\n"
    );
    for power in 5..=12 {
        let at = y(libm::pow(10.0, f64::from(power)));
        let _ = writeln!(
            out,
            "<text x=\"8\" y=\"{at:.0}\">10^{power}</text><path d=\"M60 {at:.0}H610\" stroke=\"#ddd\"/>"
        );
    }
    for step in 0..=11 {
        let n = 64u32 << step;
        let _ = writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{:.0}\" font-size=\"9\">{n}</text>",
            x(n.into()) - 10.0,
            height - 20.0
        );
    }
    for ((name, points), colour) in lines.iter().zip(["#0072b2", "#d55e00"]) {
        let Some(&(last, count)) = points.last() else { continue };
        let scale = count as f64 / (f64::from(last) * libm::log2(f64::from(last)));
        let path = |f: &dyn Fn(&(u32, u64)) -> f64| {
            let place = |p: &(u32, u64)| format!("{:.1},{:.1}", x(p.0.into()), y(f(p)));
            points.iter().map(place).collect::<Vec<_>>().join(" ")
        };
        let law = path(&|p| scale * f64::from(p.0) * libm::log2(f64::from(p.0)));
        let own = path(&|p| p.1 as f64);
        let _ = writeln!(
            out,
            "<polyline points=\"{law}\" fill=\"none\" stroke=\"{colour}\" stroke-dasharray=\"4 4\"/>"
        );
        let _ = writeln!(
            out,
            "<polyline points=\"{own}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        );
        let _ = writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{:.0}\" fill=\"{colour}\">{name}</text>",
            x(last.into()) - 60.0,
            y(count as f64) - 8.0
        );
    }
    out + "</svg>\n"
}

fn main() {
    if let Ok(arguments) = std::env::var(CHILD) {
        return child(&arguments);
    }
    let arguments: Vec<String> = std::env::args().collect();
    let value = |key: &str| arguments.iter().position(|a| a == key).and_then(|i| arguments.get(i + 1));
    let most = |key: &str| value(key).and_then(|v| v.parse().ok()).unwrap_or(131_072u32);
    let mut lines = Vec::new();
    for (name, fold, most) in [("folded", true, most("--most")), ("unfolded", false, most("--most-unfolded"))]
    {
        let mut points: Vec<(u32, u64)> = Vec::new();
        for gpus in (0..12).map(|k| 64u32 << k).filter(|n| *n <= most) {
            let (Some(with), Some(without)) = (instructions(gpus, fold, 1), instructions(gpus, fold, 0))
            else {
                eprintln!("no valgrind: nothing is counted");
                return;
            };
            let own = with - without;
            let law = own as f64 / (f64::from(gpus) * libm::log2(f64::from(gpus)));
            println!("| {name} | {gpus} | {own} | {law:.0} |");
            points.push((gpus, own));
        }
        let laws = points.iter().map(|p| p.1 as f64 / (f64::from(p.0) * libm::log2(f64::from(p.0))));
        let laws: Vec<f64> = laws.collect();
        if let Some((last, before)) = laws.split_last() {
            let highest = before.iter().copied().fold(0.0, f64::max);
            assert!(before.is_empty() || *last <= highest, "{name}: faster than n log n: {laws:?}");
        }
        lines.push((name, points));
    }
    if let Some(path) = value("--svg") {
        std::fs::write(path, svg(&lines)).expect("a file");
    }
}
