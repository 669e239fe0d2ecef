#!/usr/bin/env python3
"""Makes scenarios/traces/zhejiang-leaf-9-53.csv from the data folder.

    python3 tools/make_quickstart_trace.py DATA > scenarios/traces/zhejiang-leaf-9-53.csv

Input: DATA/traces/zhejiang-a100/leaf_ports_5s.csv (Zhejiang Lab LLM Trace Program, cluster_2000_A100, CC BY 4.0):
octets in and out of leaf-switch ports of 200 Gb/s, in bins of 5 s. Output: what one port leaves free,
share = 1 - (in + out) / 400 Gb/s, from 255 s on (where all ports are there), rebased to 0. Port Leaf-9:53 is among
the busiest (mean load 7.6 %) and the most varied (4 to 27 %) of the 423.
"""
import csv
import sys

PORT = "Leaf-9:53"
START_S = 255.0
BOTH_WAYS_BPS = 400e9

HEAD = """\
# Share of a link that is left free, over an hour: 1 - (in + out) / 400 Gb/s of the 200 Gb/s leaf-switch port Leaf-9:53, in
# bins of 5 s, from 255 s on, rebased to 0. Derived: it is the load that the jobs of that hour offered to a fabric inside one
# cluster, read as what a job of one's own would find left. Made by tools/make_quickstart_trace.py.
# Source: Zhejiang Lab LLM Trace Program (2024), cluster_2000_A100, 2024-05-24 00:00-01:00,
# github.com/zhejianglab/Zhejiang-Lab-Cluster-Traces, CC BY 4.0."""


def main() -> None:
    path = f"{sys.argv[1]}/traces/zhejiang-a100/leaf_ports_5s.csv"
    print(HEAD)
    print("time_s,link,share")
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            time_s = float(row["time_s"])
            if row["link"] == PORT and time_s >= START_S:
                share = 1 - (int(row["in_bps"]) + int(row["out_bps"])) / BOTH_WAYS_BPS
                print(f"{time_s - START_S:g},{PORT},{share:.4f}")


if __name__ == "__main__":
    main()
