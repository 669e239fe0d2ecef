//! Scenario files as text.

/// A scenario of OPT-350M with a batch of 16 on so many nodes of four A100 in one zone and of four V100 in another, called `a` and
/// `v`, and the link `wan` between the zones; `more` stands after it.
pub(crate) fn two_kinds(about: &str, nodes: u32, zones: [&str; 2], capacity: &str, more: &str) -> String {
    let [a, v] = zones;
    let group = |name: &str, gpu: &str, zone: &str| {
        format!(
            "[[nodes]]\nname = \"{name}\"\ncount = {nodes}\ngpus_per_node = 4\ngpu = \"{gpu}\"\nzone = \"{zone}\"\n\n"
        )
    };
    format!(
        "schema_version = 1\nabout = \"{about}\"\nmodel = {{ name = \"opt-350m\" }}\ntraining = {{ global_batch = 16 }}\n\n\
         {}{}[[network.links]]\nname = \"wan\"\nbetween = [\"{a}\", \"{v}\"]\ncapacity = \"{capacity}\"\nlatency = \"15 ms\"\n\n{more}",
        group("a", "A100-40", a),
        group("v", "V100-16", v),
    )
}

/// A plan for it as the table `name`: a pipeline of two stages at TP 4, on these devices of either kind.
pub(crate) fn two_stages(name: &str, devices: &str) -> String {
    format!(
        "[{name}]\nmicro_batch = 2\n[[{name}.pipelines]]\nmicro_batches = 8\nstages = [\n    \
         {{ layers = \"0-12\", tp = 4, devices = [\"a:{devices}\"] }},\n    \
         {{ layers = \"13-25\", tp = 4, devices = [\"v:{devices}\"] }},\n]\n"
    )
}
