"""From Python and from the command: the same JSON."""

import pytest
import tideplan
from conftest import answer, timeless

GROUPS = {row["name"]: row["group"] for row in tideplan.scenarios()}
QUICK = [name for name, group in GROUPS.items() if group == "quick"]
REPLAY = [name for name, group in GROUPS.items() if group == "replay"]
BOTH = QUICK + REPLAY


@pytest.mark.parametrize("name", BOTH)
def test_plan_and_simulate(command, name, tmp_path):
    ours = answer(tideplan.plan, name, max_simulations=20)
    theirs = command("plan", name, "--max-simulations", 20, "--json")
    assert timeless(ours) == timeless(theirs)

    plan = ours["best"]["plan"] if isinstance(ours, dict) and ours["best"] else None
    explain = name == "quickstart"
    words = ["--explain"] * explain
    if plan is not None:
        tideplan.results.Plan(ours).save(tmp_path / "plan.toml")
        words += ["--plan", tmp_path / "plan.toml"]
    assert answer(tideplan.simulate, name, plan, explain=explain) == command("simulate", name, "--json", *words)


@pytest.mark.parametrize("name", BOTH)
def test_replay(command, name):
    ours = answer(tideplan.replay, name, policies=["static", "reactive"], until="10 min")
    theirs = command("replay", name, "--policy", "static,reactive", "--until", "10 min", "--json")
    assert ours == theirs


@pytest.mark.parametrize("name", BOTH)
def test_compare(command, name):
    ours = answer(tideplan.compare, name, planners=["megatron", "amp"])
    theirs = command("compare", name, "--planners", "megatron,amp", "--json")
    assert timeless(ours) == timeless(theirs)


def test_words_and_overrides(command):
    scenario = tideplan.Scenario.from_words("opt-350m", {"a100-40": 8, "v100-16": 8}, inter="50 Gbps", batch=256)
    ours = tideplan.plan(scenario, max_simulations=20, threads=1)
    theirs = command(
        *"plan --model opt-350m --gpus a100-40:8,v100-16:8 --inter".split(), "50 Gbps",
        *"--batch 256 --max-simulations 20 --json".split(),
    )
    assert timeless(ours.to_dict()) == timeless(theirs)

    ours = tideplan.plan(tideplan.Scenario.builtin().set("network.links.wan.capacity", "100 Gbps"), max_simulations=20)
    theirs = command("plan", "--set", 'network.links.wan.capacity="100 Gbps"', "--max-simulations", 20, "--json")
    assert timeless(ours.to_dict()) == timeless(theirs)


def test_a_file_and_a_dict_are_the_same():
    import sys

    if sys.version_info < (3, 11):
        pytest.skip("needs tomllib")
    import tomllib

    text = tideplan.command("init", "--model", "opt-350m", "--gpus", "a100-40:8")
    data = tomllib.loads(text)
    from_dict = tideplan.Scenario.from_dict(data, "opt-350m")
    from_words = tideplan.Scenario.from_words("opt-350m", "a100-40:8")
    assert tideplan.plan(from_dict, max_simulations=9).digest == tideplan.plan(from_words, max_simulations=9).digest


def test_validate_and_collective(command):
    assert tideplan.validate(by="gpu").to_dict() == command("validate", "--by", "gpu", "--json")
    given = dict(
        op="all_reduce", algorithm="ring", ranks=8, bytes="64 MiB", topology="ring", bandwidth="25 GB/s", latency="2 us"
    )
    words = [f"--{k}={v}" for k, v in given.items()]
    assert tideplan.collective(**given).to_dict() == command("collective", *words, "--json")


def test_shards_merge(tmp_path, command):
    parts = [tmp_path / f"{i}.json" for i in range(3)]
    for i, part in enumerate(parts):
        tideplan.plan("opt350-a100x32", shard=(i, 3), part=part, max_simulations=30)
    ours = tideplan.merge(parts)
    theirs = command("merge", *parts, "--json")
    assert timeless(ours.to_dict()) == timeless(theirs)
    assert ours.plan is not None
