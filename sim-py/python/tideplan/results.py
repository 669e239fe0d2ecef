"""What commands answer: plain data with names, tables and pictures."""

from __future__ import annotations

import copy
import html
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _toml

if TYPE_CHECKING:
    import pandas


class Result:
    """An answer. :meth:`to_dict` is the JSON object that the command prints with ``--json``; ``result["key"]`` is a value of it."""

    def __init__(self, data: dict[str, Any], page: str | Callable[[], str] | None = None) -> None:
        self._data = data
        self._page = page

    def to_dict(self) -> dict[str, Any]:
        """A copy of all of it, as the command prints it."""
        return copy.deepcopy(self._data)

    def __getitem__(self, key: str) -> Any:
        return self._data[key]

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def __getstate__(self) -> dict[str, Any]:
        # A page that is not made yet does not travel.
        return {"_data": self._data, "_page": self._page if isinstance(self._page, str) else None}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._data == other._data  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]

    def report(self) -> str | None:
        """The command's report as a page of HTML, or ``None`` where it has none."""
        if callable(self._page):
            self._page = self._page()
        return self._page

    def save_report(self, path: str | os.PathLike[str]) -> None:
        """Writes :meth:`report` to a file."""
        page = self.report()
        if page is None:
            raise ValueError("there is no report of this result")
        Path(path).write_text(page, encoding="utf-8")

    def _repr_html_(self) -> str:
        pictures = re.findall(r"<svg.*?</svg>", self.report() or "", re.DOTALL)
        return f"<pre>{html.escape(repr(self))}</pre>" + "\n".join(pictures)


def _frame(rows: list[dict[str, Any]]) -> pandas.DataFrame:
    try:
        import pandas
    except ImportError:
        raise ImportError("`to_pandas` needs pandas: pip install tideplan[pandas]") from None
    return pandas.DataFrame(rows)


def _seconds(time: float | None) -> str:
    return "-" if time is None else f"{time:.4g} s"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100.0 * share:.1f} %"


def shape(plan: dict[str, Any]) -> str:
    """A plan in a line."""
    parts = []
    for pipeline in plan["pipelines"]:
        stages = " | ".join(
            f"{s['layers']} tp {s.get('tp', 1)} on {','.join(s['devices'])}" for s in pipeline["stages"]
        )
        parts.append(f"{pipeline.get('replicas', 1)} x [{stages}] x {pipeline['micro_batches']}")
    return f"micro-batch {plan['micro_batch']}: " + " + ".join(parts)


class Plan(Result):
    """What a search found."""

    @property
    def best(self) -> Iteration | None:
        """The best plan's iteration; ``None`` where no plan is feasible."""
        best = self._data["best"]
        return None if best is None else Iteration(best, self._page)

    @property
    def plan(self) -> dict[str, Any] | None:
        """The best plan, as plain data."""
        return None if self._data["best"] is None else self._data["best"]["plan"]

    @property
    def iteration_time_s(self) -> float | None:
        """Its time, s."""
        return None if self._data["best"] is None else self._data["best"]["iteration_time_s"]

    @property
    def lower_bound_s(self) -> float | None:
        """No plan of the space is faster, s; ``None`` where another objective than time is searched."""
        return self._data["lower_bound_s"]

    @property
    def gap(self) -> float | None:
        """How far the best is above the bound, a share of the best."""
        return self._data["gap"]

    @property
    def proven_optimal(self) -> bool:
        """Whether no plan of the space is better."""
        return self._data["proven_optimal"]

    @property
    def stopped(self) -> str:
        """Why the search ended: done, simulations, seconds or interrupt."""
        return self._data["stopped"]

    @property
    def ranked(self) -> list[dict[str, Any]]:
        """The best plans, best first: ``plan``, ``iteration_time_s``, ``objective_value``."""
        return self._data["ranked"]

    @property
    def counts(self) -> dict[str, Any]:
        """Nodes of the search by what became of them."""
        return self._data["counts"]

    @property
    def digest(self) -> str:
        """A digest of the search: the same at any number of threads, from the command and from here."""
        return self._data["digest"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the best plan as ``PLAN.toml``."""
        if self.plan is None:
            raise ValueError("no plan is feasible")
        Path(path).write_text(_toml.dumps(self.plan, "plan"), encoding="utf-8")

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each ranked plan: time (s), value, micro-batch, shape."""
        rows = [
            {
                "iteration_time_s": r.get("iteration_time_s", r.get("own_estimate_s")),
                "objective_value": r.get("objective_value"),
                "micro_batch": r["plan"]["micro_batch"],
                "plan": shape(r["plan"]),
            }
            for r in self.ranked
        ]
        return _frame(rows)

    def __repr__(self) -> str:
        if self.plan is None:
            return "<Plan: no plan is feasible>"
        proof = "proven optimal" if self.proven_optimal else f"gap {_percent(self.gap)}, stopped: {self.stopped}"
        return f"<Plan {_seconds(self.iteration_time_s)}, {proof}; {shape(self.plan)}>"


class Iteration(Result):
    """One simulated iteration of a plan."""

    @property
    def iteration_time_s(self) -> float:
        """Its time, s."""
        return self._data["iteration_time_s"]

    @property
    def time_interval_s(self) -> list[float] | None:
        """Nine times in ten it is between these, s, as far as layer times go."""
        return self._data["time_interval_s"]

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second."""
        return self._data["tokens_per_s"]

    @property
    def mfu(self) -> float | None:
        """Model FLOP/s over the peak of all GPUs in the plan."""
        return self._data["mfu"]

    @property
    def fits(self) -> bool:
        """Whether every GPU's memory suffices."""
        return self._data["fits"]

    @property
    def evidence(self) -> str:
        """How layer times are known."""
        return self._data["evidence"]

    @property
    def devices(self) -> list[dict[str, Any]]:
        """One a stage of unlike pipelines: times (s) and memory (bytes) by part; ``count`` says for how many GPUs."""
        return self._data["devices"]

    @property
    def digest(self) -> str:
        """A digest of every event."""
        return self._data["digest"]

    @property
    def plan(self) -> dict[str, Any] | None:
        """The plan, where a search found it."""
        return self._data.get("plan")

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each of :attr:`devices`, memory by part in columns ``memory.*`` (bytes)."""
        rows = []
        for device in self.devices:
            row = {k: v for k, v in device.items() if k != "memory"}
            row.update({f"memory.{part}": v for part, v in (device.get("memory") or {}).items()})
            rows.append(row)
        return _frame(rows)

    def __repr__(self) -> str:
        fits = "" if self.fits else ", does not fit into memory"
        return f"<Iteration {_seconds(self.iteration_time_s)}, {self.tokens_per_s:,.0f} tokens/s{fits}>"


class Replay(Result):
    """A job through a trace, by policy."""

    @property
    def policies(self) -> list[dict[str, Any]]:
        """One a policy: tokens, switches, times (s), ``regret`` against the best in hindsight, ``curve`` of (s, tokens)."""
        return self._data["policies"]

    @property
    def upper_bound_tokens(self) -> int | None:
        """No policy trains on more."""
        return self._data["upper_bound_tokens"]

    @property
    def digest(self) -> str:
        """A digest of all of it."""
        return self._data["digest"]

    def to_pandas(self) -> pandas.DataFrame:
        """A row a policy."""
        return _frame([{k: v for k, v in p.items() if not isinstance(v, (list, dict))} for p in self.policies])

    def curves(self) -> pandas.DataFrame:
        """Tokens over time: columns ``policy``, ``time_s``, ``tokens``."""
        return _frame(
            [{"policy": p["policy"], "time_s": t, "tokens": n} for p in self.policies for t, n in p.get("curve", [])]
        )

    def __repr__(self) -> str:
        lines = [f"  {p['policy']:<16} {p['tokens']:>16,} tokens, {p['switches']} switches" for p in self.policies]
        return "\n".join(["<Replay", *lines, ">"])


class Comparison(Result):
    """Planners side by side, under one judge."""

    @property
    def scenarios(self) -> list[dict[str, Any]]:
        """One a scenario, with a row a planner in ``planners``; a planner without a plan has an ``error``."""
        return self._data["scenarios"]

    @property
    def geometric_mean(self) -> list[dict[str, Any]]:
        """A planner's times over the best ones', as a geometric mean."""
        return self._data["geometric_mean"]

    def row(self, planner: str, scenario: str | None = None) -> dict[str, Any]:
        """The row of a planner, in the first or the named scenario."""
        for case in self.scenarios:
            if scenario in (None, case["scenario"]):
                for row in case["planners"]:
                    if row["planner"] == planner:
                        return row
        raise KeyError((planner, scenario))

    def to_pandas(self) -> pandas.DataFrame:
        """A row a scenario and planner: times in s, memory in bytes."""
        rows = []
        for case in self.scenarios:
            for row in case["planners"]:
                rows.append({"scenario": case["scenario"], **{k: v for k, v in row.items() if k != "plan"}})
        return _frame(rows)

    def __repr__(self) -> str:
        lines = ["<Comparison"]
        for case in self.scenarios:
            lines.append(f"  {case['scenario']}")
            for row in case["planners"]:
                said = row["error"] or _seconds(row["iteration_time_s"])
                lines.append(f"    {row['planner']:<16} {said}")
        return "\n".join([*lines, ">"])


class Validation(Result):
    """Predicted against measured."""

    @property
    def overall(self) -> dict[str, Any]:
        """Figures of all rows: errors are shares of the measured time."""
        return self._data["overall"]

    @property
    def sources(self) -> list[dict[str, Any]]:
        """The same by source."""
        return self._data["sources"]

    @property
    def budget_broken(self) -> list[str]:
        """Where the shipped rows are further off than the committed budget."""
        return self._data["budget_broken"]

    def to_pandas(self) -> pandas.DataFrame:
        """A row a source."""
        return _frame([{k: v for k, v in s.items() if not isinstance(v, (list, dict))} for s in self.sources])

    def __repr__(self) -> str:
        o = self.overall
        return f"<Validation of {o['n']} rows: mean {_percent(o['mape'])}, median {_percent(o['median_ape'])}>"


class Collective(Result):
    """One collective operation."""

    @property
    def time_s(self) -> float:
        """Its time, s."""
        return self._data["time_s"]

    @property
    def bus_bandwidth_bytes_per_s(self) -> float:
        """As nccl-tests count it, bytes/s."""
        return self._data["bus_bandwidth_bytes_per_s"]

    @property
    def digest(self) -> str:
        """A digest of every event."""
        return self._data["digest"]

    def __repr__(self) -> str:
        return f"<Collective {_seconds(self.time_s)}, {self.bus_bandwidth_bytes_per_s / 1e9:.4g} GB/s on the bus>"


class Calibration(Result):
    """A device or fabric fitted to measurements; ``path`` is the file that a scenario names."""

    def __init__(self, data: dict[str, Any], path: Path) -> None:
        super().__init__(data)
        self.path = path

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "path": self.path}

    def __repr__(self) -> str:
        return f"<Calibration in {self.path}>"
