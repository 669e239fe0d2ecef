//! `tideplan replay`: a job through a trace, by policy.

use super::{load, print, print_json};
use crate::cli;
use crate::failure::{Answer, Failure};
use crate::host::{host, note};
use crate::report::replay as show;
use crate::write;
use indicatif::ProgressBar;
use scenarios::quantity;
use sim_models::scenario::Scenario;
use sim_search::replay::{Options, POLICIES, Report, Sweep, replay_with, sweep};

/// What `--sweep` asks for.
enum Swept {
    Link(Sweep),
    /// Fixed cost of a switch, ns, and the replay at it.
    Switch(Vec<(u64, Report)>),
}

pub(super) fn run(args: &cli::Replay) -> Result<Answer, Failure> {
    let (loaded, overrides) = load(&args.scenario, &args.over, true)?;
    let scenario = &loaded.scenario;
    let mut options = Options { threads: args.threads.map_or(0, usize::from), ..Options::default() };
    if !args.policy.is_empty() {
        options.policies.clone_from(&args.policy);
    }
    for name in &options.policies {
        if !POLICIES.iter().any(|p| p.0 == name) {
            let names: Vec<&str> = POLICIES.iter().map(|p| p.0).collect();
            return Err(Failure::new(
                format!("no policy is called `{name}`"),
                format!("one of {}", names.join(", ")),
            ));
        }
    }
    let time = |text: &String| quantity::nanoseconds(text).map_err(|e| Failure::new(e.to_string(), e.help()));
    options.until = args.until.as_ref().map(time).transpose()?;
    options.start = args.over.at.as_ref().map(|_| overrides.at.as_ps() / 1_000);
    options.memoise = !args.no_reuse;
    let sweeps: Vec<Asked> = args.sweep.iter().map(|text| asked(scenario, text)).collect::<Result<_, _>>()?;
    let bar = progress_bar();
    let go = |options: &Options| {
        let report = replay_with(scenario, options, &mut |name| bar.set_message(name.to_string()));
        report.map_err(|e| Failure::new(e.to_string(), "`--until` and `[replay]` say where a replay ends"))
    };
    let report = go(&options)?;
    // Tokens of each policy at each seed; the first seed's report is shown.
    let mut seeded: Vec<Report> = Vec::new();
    for seed in 1..=args.seeds.unwrap_or(0) {
        seeded.push(go(&Options { jitter: Some(seed), ..options.clone() })?);
    }
    let mut swept = Vec::new();
    for ask in sweeps {
        swept.push(match ask {
            Asked::Link(link, range) => {
                let start = report.start;
                let found = sweep(scenario, &link, range, start, options.threads);
                Swept::Link(found.ok_or_else(|| Failure::new(format!("no link is called `{link}`"), ""))?)
            }
            Asked::Switch(from, to) => {
                let mut at = Vec::new();
                let mut cost = from;
                while cost <= to {
                    at.push((cost, go(&Options { switch_cost: Some(cost), ..options.clone() })?));
                    cost = (cost * 2).max(1);
                }
                if at.last().is_some_and(|a| a.0 < to) {
                    at.push((to, go(&Options { switch_cost: Some(to), ..options.clone() })?));
                }
                Swept::Switch(at)
            }
        });
    }
    bar.finish_and_clear();
    if let Some(path) = &args.csv {
        write::whole(path, show::csv(&report).as_bytes())?;
    }
    if let Some(path) = &args.html {
        let (links, costs) = split(&swept);
        write::whole(path, show::html(scenario, &report, &links, &costs).as_bytes())?;
        note!("wrote {}", path.display());
    }
    if let Some(path) = &args.timeline {
        let window = match &args.window {
            Some(text) => window(text)?,
            None => (report.start, report.start.saturating_add(60_000_000_000)),
        };
        let timeline = show::timeline(scenario, &report, window);
        write::whole(path, timeline.to_string().as_bytes())?;
        note!("wrote {}: open it in https://ui.perfetto.dev", path.display());
    }
    let (links, costs) = split(&swept);
    if args.over.json {
        print_json(&show::json(&report, &seeded, &links, &costs))?;
    } else {
        print(&show::text(scenario, &report, &seeded, &links, &costs))?;
    }
    // A job that never finished an iteration under any policy is an answer of no.
    Ok(if report.outcomes.iter().all(|o| o.tokens == 0) { Answer::No } else { Answer::Yes })
}

type Costs<'a> = Vec<&'a [(u64, Report)]>;

fn split(swept: &[Swept]) -> (Vec<&Sweep>, Costs<'_>) {
    let links = swept.iter().filter_map(|s| if let Swept::Link(sweep) = s { Some(sweep) } else { None });
    let costs =
        swept.iter().filter_map(|s| if let Swept::Switch(at) = s { Some(at.as_slice()) } else { None });
    (links.collect(), costs.collect())
}

enum Asked {
    Link(String, (f64, f64)),
    Switch(u64, u64),
}

/// `link X scale 0.25..4`, or `switch 2 s..600 s`.
fn asked(scenario: &Scenario, text: &str) -> Result<Asked, Failure> {
    let help = "for example `--sweep \"link wan scale 0.25..4\"` or `--sweep \"switch 2 s..600 s\"`";
    let wrong = || Failure::new(format!("`{text}` is no sweep"), help);
    let text_of = text.trim();
    if let Some(range) = text_of.strip_prefix("switch ") {
        let (from, to) = range.split_once("..").ok_or_else(wrong)?;
        let time = |t: &str| quantity::nanoseconds(t).map_err(|e| Failure::new(e.to_string(), e.help()));
        let (from, to) = (time(from)?, time(to)?);
        if from > to || from == 0 {
            return Err(Failure::new(
                format!("`{range}` does not go from a smaller to a larger cost above zero"),
                help,
            ));
        }
        return Ok(Asked::Switch(from, to));
    }
    let rest = text_of.strip_prefix("link ").ok_or_else(wrong)?;
    let (link, range) = rest.rsplit_once(" scale ").ok_or_else(wrong)?;
    let link = link.trim();
    if !scenario.zone_links.iter().any(|l| l.name == link) {
        let names: Vec<&str> = scenario.zone_links.iter().map(|l| l.name.as_str()).collect();
        let help = if names.is_empty() {
            "there are no links between zones".into()
        } else {
            format!("one of {}", names.join(", "))
        };
        return Err(Failure::new(format!("no link is called `{link}`"), help));
    }
    let (from, to) = range.split_once("..").ok_or_else(wrong)?;
    let factor = |t: &str| t.trim().parse::<f64>().ok().filter(|f| *f > 0.0 && *f <= 1e6);
    match (factor(from), factor(to)) {
        (Some(from), Some(to)) if from < to => Ok(Asked::Link(link.into(), (from, to))),
        _ => Err(Failure::new(
            format!("`{range}` does not go from a smaller to a larger factor above zero"),
            help,
        )),
    }
}

/// `600 s..660 s`.
fn window(text: &str) -> Result<(u64, u64), Failure> {
    let help = "for example `--window \"600 s..660 s\"`";
    let (from, to) =
        text.split_once("..").ok_or_else(|| Failure::new(format!("`{text}` is no window"), help))?;
    let time = |t: &str| quantity::nanoseconds(t).map_err(|e| Failure::new(e.to_string(), e.help()));
    let (from, to) = (time(from)?, time(to)?);
    if from >= to {
        return Err(Failure::new(format!("`{text}` ends before it begins"), help));
    }
    Ok((from, to))
}

fn progress_bar() -> ProgressBar {
    if !host().draws() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}
