"""Results, progress, interrupts, device models."""

import os
import pickle
import signal
import sys
import threading
import time

import pytest
import tideplan
from tideplan import Scenario


def test_results_have_tables_and_pictures():
    pandas = pytest.importorskip("pandas")
    found = tideplan.plan("opt350-a100x32", max_simulations=20)
    assert isinstance(found.to_pandas(), pandas.DataFrame) and len(found.to_pandas()) == len(found.ranked)
    assert "opt" not in repr(found) and "micro-batch" in repr(found)
    assert found._repr_html_().count("<svg") == tideplan.simulate("opt350-a100x32", found)._repr_html_().count("<svg") > 0
    assert len(found.best.to_pandas()) == len(found.best.devices)
    again = pickle.loads(pickle.dumps(found))
    assert again == found and again._repr_html_()

    replayed = tideplan.replay("replay-two-regions", policies=["static"], until="10 min")
    assert set(replayed.to_pandas()["policy"]) >= {"static"}
    assert not replayed.curves().empty and "<svg" in replayed._repr_html_()

    compared = tideplan.compare(["opt350-a100x32", "quickstart"], planners=["megatron", "amp"])
    assert len(compared.to_pandas()) == 4 and "<svg" in compared._repr_html_()

    assert tideplan.validate().to_pandas()["n"].sum() > 100


def test_without_pandas(monkeypatch):
    found = tideplan.plan("opt350-a100x32", max_simulations=5)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"tideplan\[pandas\]"):
        found.to_pandas()


def test_no_picture_runs_what_it_is_given(tmp_path):
    scenario = Scenario.from_dict(
        {
            "schema_version": 1,
            "about": "<script>alert(1)</script>",
            "model": {"name": "opt-350m"},
            "training": {"global_batch": 16, "precision": "fp32"},
            "nodes": [{"name": "a", "count": 1, "gpus_per_node": 4, "gpu": "A100-40"}],
        }
    )
    found = tideplan.plan(scenario, max_simulations=10)
    compared = tideplan.compare(scenario, plans={"mine": found})
    for html in (found._repr_html_(), compared._repr_html_(), found.report(), compared.report()):
        assert "<script>alert" not in html


def test_progress_and_threads():
    seen = []
    # Nothing is known of a bound before the first plans are simulated, some 190.
    found = tideplan.plan("quickstart", max_simulations=300, progress=seen.append)
    assert len(seen) > 3 and 0 < seen[-1].bound_s <= found.lower_bound_s and seen[-1].best_s >= found.iteration_time_s

    def stops(at):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="^enough$") as raised:
        tideplan.plan("quickstart", max_simulations=200, progress=stops)
    assert raised.type is RuntimeError
    assert tideplan.plan("quickstart", max_simulations=300, threads=1).digest == found.digest


def test_a_panic_is_a_fault_of_our_own(monkeypatch):
    from tideplan import _core

    monkeypatch.setattr(_core, "run", lambda *_: (_core.PANIC, "", "", "index out of bounds"))
    with pytest.raises(tideplan.InternalError, match="a fault of its own: index out of bounds"):
        tideplan.plan("opt350-a100x32")


def test_the_lock_is_free_while_a_search_runs():
    ticks = []
    done = threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.005)

    thread = threading.Thread(target=tick)
    thread.start()
    tideplan.plan("quickstart", max_simulations=100)
    done.set()
    thread.join()
    assert len(ticks) > 3


def test_an_interrupt_ends_a_search_with_the_best_so_far():
    sent = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    sent.start()
    found = tideplan.plan("quickstart", max_simulations=10_000_000, max_seconds=60)
    assert found.stopped == "interrupt"
    # And the next search is its own.
    assert tideplan.plan("opt350-a100x32", max_simulations=5).stopped != "interrupt"


def test_an_interrupt_of_anything_else_is_raised():
    sent = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))

    def sleeps(scenario):
        time.sleep(5)

    sent.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        tideplan.compare("opt350-a100x32", planners=[sleeps])
    assert time.monotonic() - start < 4


def test_searches_beside_each_other():
    alone = tideplan.plan("opt350-a100x32", max_simulations=30).digest
    found = []

    def search():
        found.append(tideplan.plan("opt350-a100x32", max_simulations=30).digest)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 4


def test_a_device_model_is_what_the_plan_runs_on():
    layers = []

    def model(layer):
        layers.append(layer)
        return 1e-3 * layer.micro_batch / layer.tp, 2e-3 * layer.micro_batch / layer.tp, 0.0

    base = Scenario.from_words("opt-350m", "a100-40:4", batch=16)
    scenario = base.with_device_model("a100-40", model, micro_batches=(1, 2))
    assert {(la.micro_batch, la.tp) for la in layers} == {(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4)}
    found = tideplan.plan(scenario)
    busy = found.best.devices[0]["busy_s"]
    # 16 sequences on 4 GPUs, 26 layers of 3 ms a sequence: the same however they are cut.
    assert busy == pytest.approx(16 / 4 * 26 * 3e-3, rel=1e-6)
    assert tideplan.simulate(scenario, found).digest == found.best.digest
    assert tideplan.plan(pickle.loads(pickle.dumps(scenario))).digest == found.digest


def test_typed():
    from pathlib import Path

    folder = Path(tideplan.__file__).parent
    assert (folder / "py.typed").exists() and (folder / "_core.pyi").exists()
    for name in tideplan.__all__:
        assert getattr(tideplan, name).__doc__, name
