"""A planner of one's own beside Tideplan's, under the same judge.

    python examples/my_planner.py                             # the suite: about a minute and a half
    python examples/my_planner.py suite-a100x8 quickstart     # some scenarios

It tries alike pipelines on one kind of GPU at a time, cut into stages of about as many seconds, and takes the one whose slowest
stage, filled and drained, is through first. It knows neither links nor what waits for them: the judge does.
"""

import itertools
import math
import sys

import tideplan

#: Of a GPU's memory, what one micro-batch in flight may need: the others need some, too.
ROOM = 0.6


def balanced(seconds, stages):
    """Where to cut the layers into so many stages, each next to its share of the seconds; the first layer of each stage."""
    ends = list(itertools.accumulate(seconds))
    first = [0]
    for i in range(1, stages):
        share = ends[-1] * i / stages
        at = min(range(len(ends)), key=lambda layer: abs(ends[layer] - share)) + 1
        # No stage is empty.
        first.append(min(max(at, first[-1] + 1), len(seconds) - (stages - i)))
    return first


def candidates(scenario):
    """Pairs of an estimate (s) and a plan."""
    batch, layers = scenario["training"]["global_batch"], scenario["model"]["layers"]
    reserve = scenario["training"]["memory_reserve_bytes"]
    for pool in scenario["pools"]:
        gpus = len(pool["devices"])
        for times in pool["layer_times"]:
            micro_batch, tp = times["micro_batch"], times["tp"]
            passes = [forward + backward for forward, backward, _ in times["forward_backward_update_s"]]
            for stages in range(1, min(scenario["search"]["max_stages"], layers) + 1):
                # As many pipelines as fit and share the micro-batches evenly.
                pipelines = min(gpus // (tp * stages), batch // micro_batch)
                while pipelines and batch % (pipelines * micro_batch):
                    pipelines -= 1
                if not pipelines:
                    continue
                first = balanced(passes, stages)
                parts = [slice(a, b) for a, b in zip(first, [*first[1:], layers])]
                memory = max(sum(times["memory_bytes_in_flight_1"][part]) for part in parts)
                if memory > ROOM * (pool["memory_bytes"] - reserve):
                    continue
                share = batch // (pipelines * micro_batch)
                estimate = max(sum(passes[part]) for part in parts) * (share + stages - 1)
                width = pipelines * tp
                plan = {
                    "micro_batch": micro_batch,
                    "pipelines": [
                        {
                            "replicas": pipelines,
                            "micro_batches": share,
                            "stages": [
                                {
                                    "layers": f"{part.start}-{part.stop - 1}",
                                    "tp": tp,
                                    "devices": pool["devices"][i * width : (i + 1) * width],
                                }
                                for i, part in enumerate(parts)
                            ],
                        }
                    ],
                }
                yield estimate, plan


def balanced_stages(scenario):
    """The planner: takes a scenario as plain data, gives a plan and its own estimate of its time (s)."""
    estimate, plan = min(candidates(scenario), key=lambda pair: pair[0])
    return plan, estimate


def main(names):
    given = [tideplan.Scenario.builtin(name) for name in names]
    result = tideplan.compare(given or None, suite=not names, planners=[balanced_stages, "tideplan", "megatron"])
    ratios = []
    for case in result.scenarios:
        rows = {row["planner"]: row for row in case["planners"]}
        own, ours = rows["balanced_stages"], rows["tideplan"]
        if own["error"] or ours["error"]:
            print(f"{case['scenario']:<28} {own['error'] or ours['error']}")
            continue
        ratios.append(own["iteration_time_s"] / ours["iteration_time_s"])
        print(
            f"{case['scenario']:<28} {own['iteration_time_s']:9.3f} s (its estimate {own['own_estimate_s']:.3f} s), "
            f"tideplan {ours['iteration_time_s']:.3f} s: {ratios[-1]:.3f} times as long"
        )
    if ratios:
        print(f"geometric mean: {math.prod(ratios) ** (1 / len(ratios)):.3f} times as long over {len(ratios)} scenarios")


if __name__ == "__main__":
    main(sys.argv[1:])
