#!/usr/bin/env python3
"""What a search costs in shards: CPU seconds of each, of the merge, and bytes of the parts (docs/scaling.md).

    tools/scaling.py SCENARIO SHARDS [--workers W] [OPTIONS OF plan ...]

Every shard is a process with one thread; W of them run beside each other (1 by default).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

COMMAND = os.environ.get("TIDEPLAN", "target/release/tideplan")


def run(words):
    """What a command answers, and its CPU seconds."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen([COMMAND, *words, "--json"], stdout=out)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode not in (0, 1):
            sys.exit(child.returncode)
        out.seek(0)
        return json.load(out), used.ru_utime + used.ru_stime


def row(name, answer, cpu, more=""):
    gap = "-" if answer["gap"] is None else f"{100 * answer['gap']:.2f} %"
    counts = answer["counts"]
    print(
        f"{name:>8} {cpu:8.2f} CPU s  gap {gap:>8}  {answer['stopped']:<11} rounds {answer['rounds']:>5}  "
        f"considered {counts['considered']:>7}  simulated {counts['simulated']:>6} {more}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenario")
    parser.add_argument("shards", type=int)
    parser.add_argument("--workers", type=int, default=1)
    args, options = parser.parse_known_args()
    plan = ["plan", args.scenario, "--threads", "1", *options]
    answer, one = run(plan)
    row("one", answer, one)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.json" for i in range(args.shards)]

        def shard(i):
            return run([*plan, "--shard", f"{i}/{args.shards}", "--part", str(files[i])])

        start = time.monotonic()
        with ThreadPoolExecutor(args.workers) as pool:
            parts = list(pool.map(shard, range(args.shards)))
        wall = time.monotonic() - start
        for i, (answer, cpu) in enumerate(parts):
            row(f"{i}/{args.shards}", answer, cpu, f"{files[i].stat().st_size / 1024:.0f} KiB")
        answer, cpu = run(["merge", *map(str, files)])
        row("merge", answer, cpu)
        times = [cpu for _, cpu in parts]
        mean = sum(times) / len(times)
        print(
            f"shards: {sum(times):.2f} CPU s in {wall:.2f} s, {mean:.2f} on average, {min(times):.2f} to {max(times):.2f}; "
            f"longest / mean {max(times) / mean:.2f}; one / longest {one / max(times):.2f}"
        )


if __name__ == "__main__":
    main()
