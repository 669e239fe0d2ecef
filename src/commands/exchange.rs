//! `tideplan import` of other tools' plans and clusters, and `tideplan export`.

use super::print;
use crate::cli::{Export, Import, ToTool};
use crate::failure::{Answer, Failure};
use crate::host::note;
use crate::report::table::Table;
use crate::{read, write};
use scenarios::Overrides;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use sim_search::exchange::{self, MetisFiles, Refusal};
use std::path::Path;

/// Kinds of plans that are laid on a scenario.
pub(super) const PLANS: [&str; 6] =
    ["metis-plan", "sailor-plan", "galvatron-plan", "megatron-plan", "deepspeed-plan", "torchtitan-plan"];

/// Kinds of clusters that become scenarios.
pub(super) const CLUSTERS: [&str; 2] = ["metis-cluster", "sailor-cluster"];

fn refused(path: &Path) -> impl FnOnce(Refusal) -> Failure {
    move |refusal| Failure::new(format!("{}: {}", path.display(), refusal.problem), refusal.help)
}

fn text_of(path: &Path) -> Result<String, Failure> {
    read::text(path, "a file of text")
}

/// Files by what they are called: Metis's are told apart by their names.
struct Named {
    name: String,
    text: String,
}

fn metis_files(args: &Import) -> Result<Vec<Named>, Failure> {
    let named = |path: &std::path::PathBuf| {
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Ok(Named { name, text: text_of(path)? })
    };
    args.files.iter().map(named).collect()
}

fn the<'a>(files: &'a [Named], what: &str, is: impl Fn(&str) -> bool) -> Result<(&'a str, &'a str), Failure> {
    let found = files.iter().find(|f| is(&f.name));
    found.map(|f| (f.name.as_str(), f.text.as_str())).ok_or_else(|| {
        Failure::new(
            format!("no {what} among the files"),
            "Metis's files: RANKED.txt hostfile clusterfile.json DeviceType.*.json",
        )
    })
}

/// The one file that there should be.
fn only(args: &Import) -> Result<&Path, Failure> {
    match &args.files[..] {
        [file] => Ok(file),
        files => Err(Failure::new(format!("{} files for one `{}`", files.len(), args.kind), "one file")),
    }
}

pub(super) fn clusters(args: &Import) -> Result<Answer, Failure> {
    let text = if args.kind == "metis-cluster" {
        let files = metis_files(args)?;
        let host = the(&files, "hostfile", |n| n.contains("hostfile"))?;
        let cluster = the(&files, "clusterfile", |n| n.contains("clusterfile"))?;
        exchange::metis_scenario(host, cluster).map_err(refused(&args.files[0]))?
    } else {
        let file = only(args)?;
        exchange::sailor_scenario(&text_of(file)?).map_err(refused(file))?
    };
    write::whole(&args.out, text.as_bytes())?;
    print(&format!("wrote a scenario to {}\n", args.out.display()))?;
    Ok(Answer::Yes)
}

pub(super) fn plans(args: &Import) -> Result<Answer, Failure> {
    let Some(name) = &args.scenario else {
        return Err(Failure::new("a plan is laid on a scenario", "`--scenario SCENARIO`"));
    };
    let mut overrides = Overrides { without_plan: true, ..Overrides::default() };
    for set in &args.sets {
        overrides.set(set)?;
    }
    let scenario = scenarios::load(name, &overrides)?.scenario;
    let plan = if args.kind == "metis-plan" {
        metis(args, &scenario)?
    } else {
        let file = only(args)?;
        let text = text_of(file)?;
        let read = match args.kind.as_str() {
            "sailor-plan" => exchange::from_sailor,
            "galvatron-plan" => exchange::from_galvatron,
            "megatron-plan" => exchange::from_megatron,
            "deepspeed-plan" => exchange::from_deepspeed,
            _ => exchange::from_torchtitan,
        };
        read(&scenario, &text).map_err(refused(file))?
    };
    let text = toml::to_string(&plan).map_err(|e| Failure::new(format!("cannot write the plan: {e}"), ""))?;
    write::whole(&args.out, text.as_bytes())?;
    print(&format!(
        "wrote a plan for `{}` to {}{}\n",
        scenario.name,
        args.out.display(),
        short(&scenario, &plan)
    ))?;
    Ok(Answer::Yes)
}

/// Whether it fits, said as it is imported.
fn short(scenario: &Scenario, plan: &Plan) -> String {
    let Ok(layout) = sim_models::layout::Layout::new(scenario, plan) else { return String::new() };
    let needs = sim_models::iteration::memory_needs(scenario, plan, &layout);
    let lack = needs.iter().filter_map(|(need, has)| need.0.checked_sub(has.0)).max().filter(|l| *l > 0);
    lack.map_or(String::new(), |l| {
        format!("; it lacks {:.2} GiB on a device", l as f64 / (1u64 << 30) as f64)
    })
}

/// The first of Metis's ranked plans that is one, and what became of those before it.
fn metis(args: &Import, scenario: &Scenario) -> Result<Plan, Failure> {
    let files = metis_files(args)?;
    let profile = |n: &str| n.starts_with("DeviceType.") && n.ends_with(".json");
    let given = MetisFiles {
        ranked: the(&files, "ranked output", |n| {
            !profile(n) && !n.contains("hostfile") && !n.contains("clusterfile")
        })?,
        hostfile: the(&files, "hostfile", |n| n.contains("hostfile"))?,
        clusterfile: the(&files, "clusterfile", |n| n.contains("clusterfile"))?,
        profiles: files
            .iter()
            .filter(|f| profile(&f.name))
            .map(|f| (f.name.as_str(), f.text.as_str()))
            .collect(),
    };
    let list = exchange::from_metis(scenario, &given).map_err(refused(&args.files[0]))?;
    let mut table = Table::new(["rank", "cost, ms", "made again", ""]);
    let mut costs = (0, 0);
    let mut best = None;
    for (rank, checked) in list.into_iter().enumerate() {
        if let Some(ms) = checked.cost_ms {
            costs.1 += 1;
            costs.0 += usize::from((ms / checked.ranked.cost_ms - 1.0).abs() < 1e-3);
        }
        let again = checked.cost_ms.map_or("-".into(), |ms| format!("{ms:.2}"));
        let slip = if checked.first_stage_alone { "; its cost is that of the first stage alone" } else { "" };
        let verdict = match &checked.plan {
            Ok(_) => format!("a plan{slip}"),
            Err(refusal) => format!("{}{slip}", refusal.problem),
        };
        if rank < 10 || (best.is_none() && checked.plan.is_ok()) {
            table.row([(rank + 1).to_string(), format!("{:.2}", checked.ranked.cost_ms), again, verdict]);
        }
        if best.is_none() {
            best = checked.plan.ok();
        }
    }
    note!("{}", table.to_string().trim_end());
    if costs.1 > 0 {
        note!("{} of {} costs are the same when made again (to 0.1 %)", costs.0, costs.1);
    }
    best.ok_or_else(|| Failure::new("none of its ranked plans is one for the scenario", "the table says why"))
}

pub(super) fn export(args: &Export) -> Result<Answer, Failure> {
    let loaded = super::load(&args.scenario, &args.over, false)?.0;
    let scenario = &loaded.scenario;
    let plan = scenarios::load_plan_for(&args.plan, scenario)?;
    let written = match args.to {
        ToTool::Megatron => exchange::to_megatron(scenario, &plan),
        ToTool::Deepspeed => exchange::to_deepspeed(scenario, &plan),
        ToTool::Torchtitan => exchange::to_torchtitan(scenario, &plan),
    };
    let text = written.map_err(|refusal| {
        let problem = format!("{} cannot run this plan: {}", args.to.name(), refusal.problem);
        Failure::new(problem, refusal.help)
    })?;
    if let Some(path) = &args.out {
        write::whole(path, text.as_bytes())?;
        note!("wrote {}", path.display());
    }
    if args.over.json {
        super::print_json(&serde_json::json!({ "to": args.to.name(), "text": text }))?;
    } else if args.out.is_none() {
        print(&text)?;
    }
    Ok(Answer::Yes)
}
