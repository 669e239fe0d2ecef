//! A paragraph on every error code: what it means, why it is refused, what to write.

/// What a code means, at length; case does not matter.
///
/// ```
/// assert!(scenarios::explain("t0105").unwrap().contains("400 Gbps"));
/// assert!(scenarios::explain("T9999").is_none());
/// ```
pub fn explain(code: &str) -> Option<&'static str> {
    TEXTS.iter().find(|(c, _)| c.eq_ignore_ascii_case(code.trim())).map(|(_, text)| *text)
}

/// Every code that has an explanation, in order.
pub fn codes() -> impl Iterator<Item = &'static str> {
    TEXTS.iter().map(|(code, _)| *code)
}

const TEXTS: &[(&str, &str)] = &[
    // The file.
    (
        "T0101",
        "\
The text is not TOML. All places where the parser stumbled are listed; the first is usually the cause of the rest. A \
frequent one: a size or rate without its quotes, `nic = 100 Gbps` for `nic = \"100 Gbps\"`.",
    ),
    (
        "T0102",
        "\
A key or table that the format does not have. It is refused rather than passed over, because a misspelt key would \
otherwise leave its default in force without a word. `tideplan schema` prints every key, and the nearest one is offered. \
Tables that a later version reads are unknown to this one.",
    ),
    (
        "T0103",
        "\
A key that must be there is missing. Some keys may be missing only where a measured value is shipped: `nic` and `inside` \
of GPUs without shipped curves, `capacity` and `latency` of a link without a trace that gives them.",
    ),
    (
        "T0104",
        "\
The value is of another type: a text where a number is wanted, a number where a list is. Counts are whole numbers, \
without quotes and without a decimal point; a table that may come several times is written `[[nodes]]`, with two brackets.",
    ),
    (
        "T0105",
        "\
A size, rate or time without its unit. A bare `400` could be bits or bytes, GB or GiB, so none is assumed. Write \
`\"400 Gbps\"`, `\"80 GiB\"`, `\"5 us\"`, with the quotes; on the command line the same without them. GB is 10^9 bytes, GiB 2^30, and \
`bps` counts bits while `B/s` counts bytes.",
    ),
    (
        "T0106",
        "\
The text is not a number with a unit of the kind that is wanted. Case counts: `Gbps` is bits, `GB/s` bytes. Sizes: B, KB to \
TB, KiB to TiB. Rates: bps, Kbps to Tbps, B/s, KB/s to TB/s, KiB/s to GiB/s. Times: ps, ns, us, ms, s, min, h, d.",
    ),
    (
        "T0107",
        "\
A number outside its range: negative, zero where something must be there, not a number, infinite, or larger than the \
simulator counts. Time is counted in picoseconds and reaches 213 days, rates reach 281 TB/s, sizes 2^60 bytes.",
    ),
    (
        "T0108",
        "\
A key whose value is one of a few words has another. The nearest one is offered.",
    ),
    (
        "T0109",
        "\
A file that is named cannot be read: it is not there, is a folder, may not be opened, is too large (16 MiB for a scenario \
or a plan, 512 MiB for a table) or is not UTF-8. A file that a scenario names is looked for beside the scenario; one that \
the command line names, in the current folder.",
    ),
    (
        "T0110",
        "\
The file says a version of the format that this program does not read. It reads `schema_version = 1`.",
    ),
    (
        "T0111",
        "\
The name is neither a built-in scenario (`tideplan list scenarios`) nor a file. A name with a `/` or a `.` in it is always \
taken as a path.",
    ),
    (
        "T0112",
        "\
An option of the command line leads nowhere. `--set PATH=VALUE` goes through tables by key and through lists by index or by \
the `name` of the element: `--set nodes.a100.count=8`, `--set network.links.0.capacity=\"3 Gbps\"`. A name with a dot in it \
stands in double quotes inside the path. `--trace LINK=FILE` takes the name of a link.",
    ),
    (
        "T0113",
        "\
A name or a range that cannot be read. Layers are `\"0-12\"`, or `\"7\"` for one; an empty range is no stage: leave the stage \
out. Devices are `\"a100:0-15\"`, or `\"a100:3\"` for one, by the name of the node group and counted from 0; device `i` is on \
node `i / gpus_per_node` of its group. Names have 1 to 100 characters.",
    ),
    // The plan against the scenario: sim_models::plan_check.
    (
        "T0201",
        "\
A count of the plan is zero: the micro-batch, the replicas, the micro-batches or the tensor parallelism. Each is at least 1; \
a pipeline that should do nothing is left out.",
    ),
    ("T0202", "The plan has no pipelines. At least one group of `[[plan.pipelines]]` trains the model."),
    (
        "T0203",
        "\
The plan does not train the global batch: over all pipelines, replicas x micro-batches x micro-batch must be the batch \
exactly. More micro-batches than the batch holds would train samples twice, fewer would leave some out, and times of such \
plans cannot be compared. Pipelines may take different numbers of micro-batches: write them as separate groups.",
    ),
    ("T0204", "A pipeline has no stages. Every pipeline holds the whole model, in at least one stage."),
    (
        "T0205",
        "\
The stages of a pipeline do not hold every layer once, in order. Layer 0 is the embedding, the last is the head, the blocks \
are between; a stage starts at the layer after the last of the stage before it.",
    ),
    (
        "T0206",
        "\
The plan names a device that is not there: a node group of another name, an index past its last GPU, or more devices than \
the cluster has.",
    ),
    (
        "T0207",
        "\
A stage has a number of devices that is not replicas x tp. Its list names those of all replicas, replica by replica: the \
first `tp` are the first replica.",
    ),
    ("T0208", "A device is in two places of the plan. Each device is in one stage of one pipeline, once."),
    (
        "T0209",
        "\
The devices of one replica of a stage are not where its parallelism can use them: unevenly spread over nodes, of two node \
groups, or on several nodes where layer times were only measured inside one. A replica's devices are the next `tp x cp` of \
its list: name whole nodes, or devices of one node. Groups over several nodes need layer times from a device model.",
    ),
    (
        "T0210",
        "\
There are no layer times for a stage at this micro-batch and tensor parallelism on its GPU. Where layers were measured, what \
was not is not made up: the help lists what was, `profile` of the node group takes a table of one's own, and `extrapolate = \
true` in `[search]` lets the roofline carry the table on. Everywhere, the tensor parallelism must divide the attention heads.",
    ),
    (
        "T0211",
        "\
Fields of the plan that do not go together. `zero` is 0 to 3 (arXiv 1910.02054); with 2 or 3 gradients or parameters are \
exchanged in every micro-batch, so all pipelines must have the same stages and micro-batches. `in_flight` belongs to the \
schedule `zero-bubble` and is at least the number of stages.",
    ),
    (
        "T0212",
        "\
An interleaved schedule gives every stage several ranges of layers, `\"0-3,8-11\"`, one for each virtual stage: as many for \
every stage, in the order in which an activation goes through them, and micro-batches in a multiple of the stages. Other \
schedules take one range a stage.",
    ),
    (
        "T0213",
        "\
Context or expert parallelism that the model or the devices do not allow. `cp` divides the sequence. `ep` divides the \
experts of a layer and the devices of the stage, all its replicas together, and is 1 for a model without experts.",
    ),
    // What the scenario refers to.
    (
        "T0301",
        "Two things of a kind have the same name. Plans call node groups by name, traces and events call links: each needs its own.",
    ),
    (
        "T0302",
        "A trace or an event is of a link that nobody has. Links are the `name`s of `[[network.links]]`.",
    ),
    (
        "T0303",
        "\
The GPU is neither in the catalogue (`tideplan list devices`) nor one of `[[gpus]]`, which defines GPUs from their datasheets. \
Names are matched by family, so `NVIDIA A100-SXM4-40GB` and \
`A100-40` are the same; a memory size that the family does not come in is not.",
    ),
    (
        "T0304",
        "\
The model is neither a built-in one nor given by its sizes, or both at once. A built-in one needs its `name` alone; a model of \
one's own another name and at least `blocks`, `hidden`, `heads`, `seq_len` and `vocab`. Sizes over a built-in's name are \
refused because its measured layer times would not be those of the changed model.",
    ),
    (
        "T0306",
        "\
The table of layer times cannot be read, or is of another model: it must give every layer of the model (blocks, and one each \
for embedding and head) at each micro-batch and tensor parallelism that it has.",
    ),
    (
        "T0307",
        "\
A link does not join two zones that have nodes: one of them is of no node group, both are the same, or they are joined \
already. Nodes of one zone need no link; between two zones there is at most one.",
    ),
    (
        "T0308",
        "\
Nothing says how fast one transfer between two of the nodes is, or their NIC: the GPUs, or the zones, are not among the shipped \
curves. Give `[network]` a `rate`; between zones a link in `[[network.links]]` will do too.",
    ),
    (
        "T0309",
        "\
The cluster has no nodes, or more than 1,000,000 GPUs, or more than 256 groups of nodes. Alike nodes of one zone are one group, \
with `count`.",
    ),
    (
        "T0310",
        "Two keys say the same thing in different ways, or one needs another that is not there. Keep the one that is meant.",
    ),
    (
        "T0311",
        "\
The device file of a node group cannot be read, or is of another GPU. `tideplan calibrate PROFILE --gpu GPU --out FILE` writes \
one; its constants are shares of the catalogue's figures for that GPU, so it serves no other.",
    ),
    (
        "T0312",
        "\
The fabric file of a node group cannot be read, or is of other nodes. `tideplan calibrate LOG --gpu GPU --out FILE` writes one; \
it serves the nodes that were measured.",
    ),
    (
        "T0313",
        "\
A job of `[[jobs]]` does not fit the cluster or the other jobs: its `nodes` are none of the cluster's, its plan uses a device \
outside them, two jobs want the same GPU, or there are more than 16. Jobs share NICs and links; each GPU has one job.",
    ),
    (
        "T0314",
        "\
The uplinks of a leaf switch have a capacity that is not above zero, or beyond what rates reach: NIC of a node, times the nodes \
below a full leaf, over `oversubscription` (and over the rails of a pod).",
    ),
    // Traces and events.
    (
        "T0401",
        "\
The trace's header lacks a column. A trace is CSV with `time_s`, the values (`bandwidth_bps`, or what `column` names) and, where \
it has several links, `link`; the order does not matter, `latency_s` may be there, other columns are passed over.",
    ),
    (
        "T0402",
        "\
A row of the trace has no number where one must be, or a negative, infinite or too large one. Zero is allowed: the link is down. \
If many rows are too large, `unit` or `scale` of the trace is wrong.",
    ),
    (
        "T0403",
        "\
The times of a trace must increase from row to row of the same link: a row that goes backwards, or comes twice, has no \
meaning that is not a guess. Sort the file, or drop the repeated rows.",
    ),
    (
        "T0404",
        "\
There is nothing in the trace: the file is empty, has only its header, or has no rows of this link. `select` says which `link` \
of the file is meant when it is not called as in the scenario.",
    ),
    (
        "T0405",
        "A link has two traces, or two of its events hold at the same time. A link has one trace; an event ends before the next begins.",
    ),
    ("T0406", "No trace of that name is shipped. One of your own is named by `file`."),
    (
        "T0407",
        "\
An event is of one thing: a `link` (its `capacity`, `latency`, or `down`), `nodes` (`down` or `slowdown`), `gpus` (`slowdown`), \
a `zone` that is cut off, or the `network`, which switches to one of its configurations.",
    ),
    (
        "T0408",
        "\
Two points of a trace lie so far apart that the grid it is put on would have millions of cells between them, all of one value. \
Often a time is in another unit; else a longer cell, or a part of the trace, is meant.",
    ),
];
