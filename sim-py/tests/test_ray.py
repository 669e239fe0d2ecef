"""A Ray cluster of three nodes, bound to 127.0.0.1: the answers are those of the command, whatever the number of shards, and
also when a node is lost."""

import os
import time

import pytest
import tideplan

# Before Ray is read: addresses are those of the loopback, not of the machine.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
ray = pytest.importorskip("ray")

SCENARIO = "opt350-a100x32"
NODE = {"node_ip_address": "127.0.0.1", "num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(**NODE)
        ray.init(address=cluster.address, _node_ip_address="127.0.0.1", log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def alive():
    return sum(node["Alive"] for node in ray.nodes())


def by_command(command, shards, tmp_path):
    """What `plan --shard I/N` for each I and `merge` say."""
    parts = [tmp_path / f"{i}.json" for i in range(shards)]
    for i, part in enumerate(parts):
        command("plan", SCENARIO, "--shard", f"{i}/{shards}", "--part", part, "--json")
    return command("merge", *parts, "--json")


def same(found, theirs):
    ours = found.to_dict()
    for answer in (ours, theirs):
        answer.pop("search_time_s")
    assert ours == theirs
    whole = tideplan.plan(SCENARIO)
    assert (found.plan, found.lower_bound_s, found.gap) == (whole.plan, whole.lower_bound_s, whole.gap)
    assert found.best.digest == whole.best.digest


@pytest.mark.parametrize("shards", [1, 3, 12])
def test_shards_give_the_answer_of_the_command(cluster, command, tmp_path, shards):
    import tideplan.ray

    assert alive() == 3
    seen = []
    found = tideplan.ray.plan(SCENARIO, shards=shards, on_part=lambda i, part: seen.append(i))
    assert sorted(seen) == list(range(shards))
    same(found, by_command(command, shards, tmp_path))


def test_sweeps_come_in_their_order(cluster):
    import tideplan.ray

    found = tideplan.ray.sweep(SCENARIO, [{"nodes.a100.count": n} for n in (2, 4, 8)])
    times = [plan.iteration_time_s for plan in found]
    assert times == sorted(times, reverse=True) and len(set(times)) == 3


def test_replays_and_comparisons_are_those_of_one_process(cluster):
    import tideplan.ray

    options = {"policies": ["static"], "until": "10 min"}
    names = ["replay-two-regions", "replay-faults"]
    assert tideplan.ray.replay(names, **options) == [tideplan.replay(name, **options) for name in names]
    found = tideplan.ray.compare([SCENARIO], planners=["megatron"])
    ours, theirs = (c.row("megatron") for c in (found[0], tideplan.compare(SCENARIO, planners=["megatron"])))
    assert ours["iteration_time_s"] == theirs["iteration_time_s"]


# Last: the cluster is smaller after it.
def test_a_node_that_is_lost_changes_nothing(cluster, command, tmp_path):
    import tideplan.ray

    lost = []

    def lose(i, part):
        if not lost:
            lost.append(max(cluster.worker_nodes, key=lambda node: node.node_id))
            cluster.remove_node(lost[0], allow_graceful=False)

    found = tideplan.ray.plan(SCENARIO, shards=12, on_part=lose)
    assert lost
    # It is missed by its heartbeat.
    end = time.monotonic() + 60
    while alive() > 2 and time.monotonic() < end:
        time.sleep(0.5)
    assert alive() == 2
    same(found, by_command(command, 12, tmp_path))
