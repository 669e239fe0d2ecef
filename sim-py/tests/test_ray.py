"""A local Ray instance, bound to 127.0.0.1: the answers are those of one process, whatever the number of shards."""

import pytest
import tideplan

ray = pytest.importorskip("ray")

SCENARIO = "opt350-a100x32"


@pytest.fixture(scope="module", autouse=True)
def instance():
    ray.init(
        address="local",
        num_cpus=2,
        _node_ip_address="127.0.0.1",
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


def by_command(shards, tmp_path):
    parts = [tmp_path / f"{i}.json" for i in range(shards)]
    for i, part in enumerate(parts):
        tideplan.plan(SCENARIO, shard=(i, shards), part=part)
    return tideplan.merge(parts)


def answer(plan):
    found = plan.to_dict()
    found.pop("search_time_s")
    return found


@pytest.mark.parametrize("shards", [1, 3, 12])
def test_shards_give_the_answer_of_the_command(tmp_path, shards):
    import tideplan.ray

    seen = []
    found = tideplan.ray.plan(SCENARIO, shards=shards, on_part=lambda i, part: seen.append(i))
    assert sorted(seen) == list(range(shards))
    assert answer(found) == answer(by_command(shards, tmp_path))
    whole = tideplan.plan(SCENARIO)
    assert (found.iteration_time_s, found.lower_bound_s) == (whole.iteration_time_s, whole.lower_bound_s)


def test_sweeps_come_in_their_order():
    import tideplan.ray

    found = tideplan.ray.sweep(SCENARIO, [{"nodes.a100.count": n} for n in (2, 4, 8)])
    times = [plan.iteration_time_s for plan in found]
    assert times == sorted(times, reverse=True) and len(set(times)) == 3
