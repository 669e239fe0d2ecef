#!/usr/bin/env python3
"""Makes the tables of docs/collectives.md by running `tideplan collective`.

    python3 tools/compare_conventions.py target/release/tideplan [DATA]

Without DATA: the two conventions against each other, class by class. With DATA, a folder that holds
peers/astra-sim/collectives_grid.csv and runs/collectives.csv: against ASTRA-sim's own times, and against measured
all-reduces of nccl-tests. Standard library only; about a minute and a half.
"""
import csv
import functools
import json
import math
import os
import subprocess
import sys

OPS = ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]
ALGORITHMS = ["ring", "direct", "halving_doubling", "double_binary_tree"]
TOPOLOGIES = ["ring", "switch", "full"]
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@functools.cache
def time_s(convention, op, algorithm, topology, ranks, size, bandwidth, latency, splits):
    """Seconds, or None where the algorithm does not do the operation. `size` counts the whole buffer."""
    if convention == "astra-sim" and op == "all_gather":
        size = size / ranks
    command = [sys.argv[1], "collective", "--json", "--convention", convention, "--op", op,
               "--algorithm", algorithm, "--topology", topology, "--ranks", str(ranks),
               "--bytes", f"{size:.0f} B", "--bandwidth", bandwidth, "--latency", latency,
               "--splits", str(splits)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return json.loads(run.stdout)["time_s"]
    if "does no" in run.stderr:
        return None
    sys.exit(f"{' '.join(command)}\n{run.stderr}")


def row(cells):
    print("| " + " | ".join(str(c) for c in cells) + " |")


def head(cells):
    row(cells)
    row(["---"] * len(cells))


def against_each_other():
    """Time by `astra-sim` over time by `tideplan`: 50 GiB/s, 500 ns."""
    cases = [(8, 64 * KIB, 1), (8, 64 * KIB, 4), (8, GIB, 1), (8, GIB, 4), (64, 64 * KIB, 4), (64, GIB, 4)]
    names = {64 * KIB: "64 KiB", GIB: "1 GiB"}
    head(["operation", "algorithm", "topology"] + [f"{n} ranks, {names[b]}, K={k}" for n, b, k in cases])
    for op in OPS:
        for algorithm in ALGORITHMS:
            for topology in TOPOLOGIES:
                cells = []
                for ranks, size, splits in cases:
                    ours, theirs = (time_s(c, op, algorithm, topology, ranks, size, "50 GiB/s", "500 ns", splits)
                                    for c in ("tideplan", "astra-sim"))
                    if ours is not None:
                        cells.append(f"{theirs / ours:.2f}")
                if cells:
                    row([op, algorithm, topology] + cells)


def against_astra_sim(data):
    """Every congestion-aware row of the grid, by class."""
    algorithms = {"halvingDoubling": "halving_doubling", "doubleBinaryTree": "double_binary_tree"}
    topologies = {"FullyConnected": "full"}
    classes = {}
    with open(f"{data}/peers/astra-sim/collectives_grid.csv", newline="") as file:
        for r in csv.DictReader(file):
            if r["backend"] != "Aware":
                continue
            algorithm = algorithms.get(r["algorithm"], r["algorithm"])
            topology = topologies.get(r["topology"], r["topology"].lower())
            ranks, size = int(r["npus"]), int(r["bytes"])
            if r["collective"] == "all_gather":
                size *= ranks
            args = (r["collective"], algorithm, topology, ranks, size,
                    f"{r['bw_GBps']} GiB/s", f"{r['lat_ns']} ns", int(r["splits"]))
            want = float(r["max_ns"]) * 1e-9
            off = [time_s(c, *args) / want for c in ("astra-sim", "tideplan")]
            classes.setdefault((topology, algorithm), []).append(off)
    head(["topology", "algorithm", "rows", "within 1 %", "largest difference", "`tideplan` over ASTRA-sim"])
    everything = [off for offs in classes.values() for off in offs]
    for (topology, algorithm), offs in [*sorted(classes.items()), (("all", ""), everything)]:
        differences = [abs(a - 1) for a, _ in offs]
        ours = sorted(t for _, t in offs)
        row([topology, algorithm, len(offs), sum(d <= 0.01 for d in differences),
             f"{100 * max(differences):.2f} %", f"{ours[0]:.2f} to {ours[-1]:.2f}"])


# Convention, topology, splits. A hop between GPUs is one link on `ring`, two on `switch`.
MODELS = [("tideplan", "switch", 1), ("tideplan", "switch", 4), ("astra-sim", "ring", 1), ("astra-sim", "ring", 4),
          ("astra-sim", "switch", 1), ("astra-sim", "switch", 4)]


def all_reduce(model, gpus, size, gb_per_s, hop_us):
    convention, topology, splits = model
    latency = hop_us / (2 if topology == "switch" else 1)
    return time_s(convention, "all_reduce", "ring", topology, gpus, size,
                  f"{gb_per_s:.4g} GB/s", f"{latency * 1e6:.0f} ps", splits)


def error(model, gpus, measured, gb_per_s, hop_us):
    """Mean of |log(predicted / measured)|, which sees twice too fast and twice too slow alike."""
    logs = [abs(math.log(all_reduce(model, gpus, b, gb_per_s, hop_us) / t)) for b, t in measured.items()]
    return sum(logs) / len(logs)


def fit(model, gpus, measured, gb_per_s):
    """The rate and the latency of a hop with the least error: a grid that closes in."""
    best = (math.inf, gb_per_s, 3.0)
    step = 2.0
    while step > 1.02:
        factors = [step ** k for k in (-2, -1, 0, 1, 2)]
        _, w, l = best
        best = min([best] + [(error(model, gpus, measured, w * f, l * g), w * f, l * g)
                             for f in factors for g in factors])
        step **= 0.6
    return best


def against_nccl_tests(data):
    groups = [("A100-SXM (DGX-class, 8 GPU/node)", 8, 300), ("A100-SXM (DGX-class, 8 GPU/node)", 4, 300),
              ("V100-SXM2", 8, 150)]
    sizes = [1 << k for k in range(20, 31)]
    measured = {}
    with open(f"{data}/runs/collectives.csv", newline="") as file:
        for r in csv.DictReader(file):
            key = (r["gpu"], r["gpus"])
            if r["source"].startswith("vTrain") and r["inplace"] == "0" and int(r["size_bytes"]) in sizes:
                measured.setdefault(key, {})[int(r["size_bytes"])] = float(r["time_us"]) * 1e-6
    names = [f"`{c}`, {t}, K={k}" for c, t, k in MODELS]
    gpu, gpus, wire = groups[0]
    print("\nTimes in us, A100 x 8, 300 GB/s and 3.4 us a hop:\n")
    head(["MiB", "measured"] + names)
    for size in sizes:
        times = [all_reduce(m, gpus, size, wire, 3.4) for m in MODELS]
        row([size // MIB, f"{measured[gpu, str(gpus)][size] * 1e6:.0f}"] + [f"{t * 1e6:.0f}" for t in times])
    print("\nTypical error, exp(mean |log(predicted / measured)|) - 1, with the wire's figures, then fitted:\n")
    head(["GPUs"] + names)
    for gpu, gpus, wire in groups:
        times = measured[gpu, str(gpus)]
        percent = lambda e: f"{100 * (math.exp(e) - 1):.0f} %"
        row([f"{gpu[:4]} x {gpus}"] + [percent(error(m, gpus, times, wire, 3.4)) for m in MODELS])
        fits = [fit(m, gpus, times, wire) for m in MODELS]
        row([f"{gpu[:4]} x {gpus}, fitted"] + [f"{percent(e)} ({w:.0f} GB/s, {l:.1f} us)" for e, w, l in fits])


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or not os.access(sys.argv[1], os.X_OK):
        sys.exit(__doc__)
    against_each_other()
    if len(sys.argv) == 3:
        print()
        against_astra_sim(sys.argv[2])
        against_nccl_tests(sys.argv[2])
