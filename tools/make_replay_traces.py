#!/usr/bin/env python3
"""Makes the traces of the replay scenarios, scenarios/traces/*.csv, from the data folder.

    python3 tools/make_replay_traces.py DATA scenarios/traces

Each file's head says its source and what is derived. Nothing is copied verbatim.
"""
import csv
import random
import sys
from pathlib import Path

ZHEJIANG = """\
# Source: Zhejiang Lab LLM Trace Program (2024), cluster_2000_A100, 2024-05-24 00:00-01:00,
# github.com/zhejianglab/Zhejiang-Lab-Cluster-Traces, CC BY 4.0."""


def rows(path):
    with open(path, newline="") as file:
        yield from csv.DictReader(file)


def write(path, head, header, lines):
    path.write_text(head.strip() + "\n" + header + "\n" + "".join(line + "\n" for line in lines))


def two_regions(data, out):
    pair = "gcp:us-central1-a->gcp:asia-south1-a"
    levels = [float(r["bandwidth_bps"]) for r in rows(data / "skyplane/pairs_resampled.csv") if r["pair"] == pair]
    draw = random.Random(1)
    lines, at, level = [], 0.0, len(levels) - 1
    while at < 6 * 3600:
        lines.append(f"{at:.0f},wan,{levels[level]:.0f}")
        at += max(60.0, draw.expovariate(1 / 900))
        level = draw.choice([i for i in range(len(levels)) if i != level])
    head = f"""
# Bandwidth of {pair} over six hours. Levels: measured by Skyplane in four campaigns of 2022 (iperf3, 64
# connections): {", ".join(f"{l / 1e9:.2f}" for l in levels)} Gbit/s. Derived: which level holds when is made up, a Markov chain over the four
# with 15 minutes in each on average, seed 1. Made by tools/make_replay_traces.py.
# Source: github.com/skyplane-project/skyplane, Apache-2.0."""
    write(out / "skyplane-central1-asia-south1.csv", head, "time_s,link,bandwidth_bps", lines)


def ports(data):
    """Load of each port, the busier direction, by the time in s from 255 s on, where all are there."""
    found = {}
    for r in rows(data / "zhejiang-a100/leaf_ports_5s.csv"):
        at = float(r["time_s"])
        if at >= 255:
            found.setdefault(r["link"], {})[at - 255] = max(int(r["in_bps"]), int(r["out_bps"]))
    return {name: load for name, load in found.items() if len(load) >= 665}


def zhejiang(data, out):
    load = ports(data)
    # Ports of as many leaves as there are, in turn, the busiest of each first.
    mean = {name: sum(v.values()) / len(v) for name, v in load.items()}
    by_leaf = {}
    for name in sorted(load, key=lambda n: -mean[n]):
        by_leaf.setdefault(name.split(":")[0], []).append(name)
    chosen, turn = [], 0
    while len(chosen) < 32:
        for leaf in sorted(by_leaf):
            if turn < len(by_leaf[leaf]) and len(chosen) < 32:
                chosen.append(by_leaf[leaf][turn])
        turn += 1
    lines = []
    for at in range(0, 3340, 10):
        for node, name in enumerate(chosen):
            both = [load[name].get(float(at + d)) for d in (0, 5)]
            both = [b for b in both if b is not None]
            if both:
                lines.append(f"{at},{node},{sum(both) / len(both) / 1e6:.0f}")
    head = f"""
# Load on the NICs of 32 nodes, Mbit/s, an hour in bins of 10 s: the busier direction of 32 leaf-switch ports of 200 Gb/s on
# {len(by_leaf)} leaves, the busiest of each first. Derived: which port is a node's is a choice. Made by tools/make_replay_traces.py.
{ZHEJIANG}"""
    write(out / "zhejiang-32-ports.csv", head, "time_s,node,load_bps", lines)
    name = "Leaf-7:37"
    lines = [f"{at:g},{name},{bps}" for at, bps in sorted(load[name].items())]
    head = f"""
# Load of the leaf-switch port {name}, bit/s, the busier direction, in bins of 5 s, from 255 s on, rebased to 0: among the most
# bursty of 423. Made by tools/make_replay_traces.py.
{ZHEJIANG}"""
    write(out / "zhejiang-leaf-7-37.csv", head, "time_s,link,load_bps", lines)


def spot(data, out):
    lines, last = [], None
    for r in rows(data / "spot-parcae/trace_hl_15_25.csv"):
        if r["live_nodes"] != last:
            lines.append(f"{float(r['time_s']):g},v100,{r['live_nodes']}")
            last = r["live_nodes"]
    lines.append(f"3600,v100,{last}")
    head = """
# Live spot nodes over an hour, of high availability and low intensity of preemptions. Made by tools/make_replay_traces.py.
# Source: Parcae (NSDI'24), github.com/JF-D/Parcae, aws/traces (a 12 h AWS p3 trace), MIT."""
    write(out / "parcae-high.csv", head, "time_s,node_group,available", lines)
    there, lines = set(), {}
    with open(data / "spot-oobleck/p3-trace.csv") as file:
        for ms, what, node in csv.reader(file):
            there.add(node) if what == "add" else there.discard(node)
            lines[int(ms) // 1000] = len(there)
    head = """
# Live spot nodes over 11 hours, counted from events. Made by tools/make_replay_traces.py.
# Source: Oobleck (SOSP'23), github.com/SymbioticLab/Oobleck, tools/simulator/traces/p3-trace.csv, MIT."""
    write(out / "oobleck-p3.csv", head, "time_s,node_group,available", [f"{t},nodes,{n}" for t, n in sorted(lines.items())])


def elastic(data, out):
    lines = [f"{float(r['time_s']):g},a100,{r['gpus']}" for r in rows(data / "sailor/a100_trace_original.csv")]
    lines.append("5400,a100,16")
    head = """
# A100s that a cloud gives over an hour and a half. Made by tools/make_replay_traces.py.
# Source: Sailor (SOSP'25), github.com/eth-easl/sailor, a100_trace_original, MIT."""
    write(out / "sailor-a100.csv", head, "time_s,node_group,available", lines)


def stragglers(data, out):
    jobs = [f"job{n:03}" for n in range(79, 87)]
    ratios = {job: [] for job in jobs}
    for r in rows(data / "mlperf_steps/step_ratio.csv"):
        if r["job"] in ratios:
            ratios[r["job"]].append(float(r["ratio_to_median"]))
    lines = []
    for i in range(2, min(len(r) for r in ratios.values())):
        for node, job in enumerate(jobs):
            lines.append(f"{10 * (i - 2)},{node},{max(1.0, ratios[job][i]):.3f}")
    head = """
# How much slower than usual each of eight nodes computes, every 10 s: logged step times of eight MLPerf Training runs over the
# median of their run (not below 1), the first two steps left out. Derived: a run's steps are read as one node's slowness, a
# step as 10 s. Made by tools/make_replay_traces.py.
# Source: result logs of mlcommons/training_results v3.0 to v5.1, Apache-2.0."""
    write(out / "mlperf-steps-8.csv", head, "time_s,node,slowdown", lines)


def faults(data, out):
    events = []
    for r in rows(data / "infinitehbd/faults.csv"):
        events.append((round(float(r["time_days"]) * 86_400), r["event"] != "fault_start", r["node"]))
    events.sort()
    open_faults, lines, known = {}, [], set()
    for at, ends, node in events:
        if node not in known:
            known.add(node)
            lines.append((0, node, 1))
        n = open_faults.get(node, 0) + (-1 if ends else 1)
        open_faults[node] = max(0, n)
        lines.append((at, node, int(open_faults[node] == 0)))
    kept, last = [], {}
    for at, node, up in sorted(lines, key=lambda l: l[0]):
        if last.get(node, (None, None))[1] != up and last.get(node, (-1, None))[0] != at:
            kept.append(f"{at},{node},{up}")
            last[node] = (at, up)
    head = """
# Which of 400 GPU servers are up, 349 days: 584 faults on 231 of them; overlapping faults of one server are one. Those that are
# not here never fail. Made by tools/make_replay_traces.py.
# Source: stepfun-ai/InfiniteHBD-Trace (SIGCOMM'25, arXiv 2502.03885), Apache-2.0."""
    write(out / "infinitehbd-400.csv", head, "time_s,node,up", kept)


def main():
    data, out = Path(sys.argv[1]) / "traces", Path(sys.argv[2])
    for make in (two_regions, zhejiang, spot, elastic, stragglers, faults):
        make(data, out)


if __name__ == "__main__":
    main()
