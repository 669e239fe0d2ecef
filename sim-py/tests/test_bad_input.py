"""What is wrong is an exception that says what and where; nothing ends the interpreter."""

import pickle
import time

import pytest
import tideplan
from tideplan import InputError, InputTypeError, Scenario


def test_faults_of_a_file_have_a_place(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('schema_version = 1\nmodel = { name = "opt-350m" }\n[training]\nglobal_batch = -3\n')
    with pytest.raises(InputError) as caught:
        tideplan.plan(path)
    error = caught.value
    faults = {(p.code, p.line) for p in error.problems}
    assert ("T0107", 4) in faults, error
    assert error.file == str(path) and error.code and error.hint
    assert "T0107" in str(error) and tideplan.explain("T0107")
    again = pickle.loads(pickle.dumps(error))
    assert again.problems == error.problems and type(again) is InputError


@pytest.mark.parametrize(
    "value, kind, says",
    [
        (float("nan"), InputError, "training.global_batch"),
        (float("inf"), InputError, "training.global_batch"),
        (None, InputTypeError, "leave the key out"),
        (object(), InputTypeError, "object"),
        ({1: 2}, InputTypeError, "key"),
        (2**70, InputError, "64 bits"),
        ("many", InputError, "a whole number|nodes"),
        (1.5, InputError, "a whole number|nodes"),
        (b"x", InputTypeError, "bytes"),
        ("\ud800", InputError, "UTF-8"),
    ],
)
def test_values_of_a_dict(value, kind, says):
    data = {"schema_version": 1, "model": {"name": "opt-350m"}, "training": {"global_batch": value}}
    with pytest.raises(kind, match=says):
        tideplan.plan(data)
    with pytest.raises(InputError):
        tideplan.plan(Scenario.builtin().set("training.global_batch", value))


def test_a_dict_that_holds_itself():
    data = {"schema_version": 1}
    data["model"] = {"name": data}
    with pytest.raises(InputError, match="nested"):
        tideplan.plan(data)


def test_missing_keys_and_unknown_ones():
    with pytest.raises(InputError) as caught:
        tideplan.plan({"schema_version": 1, "modell": {}})
    assert any("lacks" in p.message for p in caught.value.problems)
    assert any("modell" in p.message for p in caught.value.problems)


@pytest.mark.parametrize("scenario", ["nope", "no/such/file.toml", "", "-h", "--help", "a\0b", "x" * 10_000])
def test_scenarios_that_are_not(scenario):
    with pytest.raises(InputError):
        tideplan.plan(scenario)


@pytest.mark.parametrize("scenario", [3, 3.5, [], True, object()])
def test_scenarios_of_a_wrong_type(scenario):
    with pytest.raises(InputTypeError):
        tideplan.plan(scenario)


@pytest.mark.parametrize(
    "options",
    [
        {"top": -1},
        {"top": "many"},
        {"threads": 0},
        {"max_simulations": float("nan")},
        {"max_seconds": -1},
        {"objective": "best"},
        {"planner": "nobody"},
        {"tokens": "2 much"},
        {"shard": (3, 2), "part": "p.json"},
        {"shard": 3},
        {"why_not": {"micro_batch": 1}},
        {"why_not": 3},
    ],
)
def test_options(options):
    with pytest.raises(InputError):
        tideplan.plan("opt350-a100x32", **{"max_simulations": 5, **options})


def test_plans():
    for plan in [{}, {"micro_batch": 1}, {"micro_batch": 1, "pipelines": []}, 3, "no.toml", {"micro_batch": float("nan")}]:
        with pytest.raises(InputError):
            tideplan.simulate("opt350-a100x32", plan)
    for plan in ({}, 3):
        with pytest.raises(InputError):
            tideplan.compare("opt350-a100x32", plans=[plan])


def test_planners_that_fail_are_rows():
    good = tideplan.plan("opt350-a100x32", max_simulations=20)

    def raises(scenario):
        raise KeyError("where")

    def leaves(scenario):
        raise SystemExit(3)

    def interrupts(scenario):
        raise KeyboardInterrupt

    def returns_a_set(scenario):
        return {1, 2}

    def returns_nothing(scenario):
        return None

    def returns_nan(scenario):
        return {"micro_batch": float("nan")}

    def returns_itself(scenario):
        plan = {}
        plan["pipelines"] = plan
        return plan

    def lacks_keys(scenario):
        return {"micro_batch": 1}

    def estimates_nonsense(scenario):
        return good.plan, -1.0

    def sleeps(scenario):
        time.sleep(60)

    def spins(scenario):
        end = time.monotonic() + 5
        while time.monotonic() < end:
            pass

    def works(scenario):
        assert scenario["model"]["layers"] > 2
        return good.plan, good.iteration_time_s

    bad = [
        raises, leaves, interrupts, returns_a_set, returns_nothing, returns_nan, returns_itself, lacks_keys,
        estimates_nonsense, sleeps, spins,
    ]
    result = tideplan.compare("opt350-a100x32", planners=[*bad, works], max_seconds=0.5)
    for planner in bad:
        row = result.row(planner.__name__)
        assert row["error"] and row["iteration_time_s"] is None, row
    assert "where" in result.row("raises")["error"]
    assert result.row("sleeps")["out_of_time"] and result.row("spins")["out_of_time"]
    row = result.row("works")
    assert row["iteration_time_s"] == good.iteration_time_s == row["own_estimate_s"]

    with pytest.raises(InputError, match="where"):
        tideplan.plan("opt350-a100x32", planner=raises)
    with pytest.raises(InputError):
        tideplan.plan("opt350-a100x32", planner=sleeps, max_seconds=0.2)
    assert tideplan.plan("opt350-a100x32", planner=works).plan == good.plan
    with pytest.raises(InputTypeError):
        tideplan.compare("opt350-a100x32", planners=[3])
    with pytest.raises(InputError, match="two planners"):
        tideplan.compare("opt350-a100x32", planners={"amp": works})


def test_device_models_that_fail():
    scenario = Scenario.builtin("opt350-a100x32")
    for gives in [None, 3, (1, 2), ("a", 1, 1), (float("nan"), 1, 1), (-1, 0, 0)]:
        with pytest.raises(InputError, match="layer 0"):
            scenario.with_device_model("a100", lambda layer, gives=gives: gives)
    with pytest.raises(InputError, match="v100"):
        scenario.with_device_model("v100", lambda layer: (1, 1, 1))
    with pytest.raises(ZeroDivisionError):
        scenario.with_device_model("a100", lambda layer: 1 / 0)
    with pytest.raises(InputTypeError):
        scenario.with_device_model("a100", lambda layer: (1, 1, 1), micro_batches=["x"])


def test_parts_that_are_missing(tmp_path):
    part = tmp_path / "1.json"
    tideplan.plan("opt350-a100x32", shard=(1, 4), part=part, max_simulations=5)
    with pytest.raises(InputError, match="3 of 4 parts are missing: 0/4, 2/4 to 3/4"):
        tideplan.merge([part])
    with pytest.raises(InputError):
        tideplan.merge([tmp_path / "none.json"])
    with pytest.raises(InputError):
        tideplan.merge([])


def test_other_commands():
    with pytest.raises(InputError):
        tideplan.command("no-such-command")
    with pytest.raises(InputError):
        tideplan.collective("all_reduce", algorithm="ring", ranks=-1, bytes=1, topology="ring", bandwidth="1", latency="1")
    with pytest.raises(InputError):
        tideplan.replay("quickstart", policies=["none such"])
    with pytest.raises(InputError):
        tideplan.validate("no.csv")
    with pytest.raises(InputError):
        tideplan.calibrate("no.csv", gpu="A100-40", out="/no/such/folder/x.toml")
