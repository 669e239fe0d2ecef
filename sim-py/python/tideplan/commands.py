"""The commands as functions. Options are those of ``tideplan COMMAND --help``; times are seconds, memory bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import results
from ._run import Planner, folder, options, options_of, plan_file, run
from .errors import InputError, InputTypeError, Problem
from .scenario import Like, Scenario, scenario_of

Pathlike = str | os.PathLike[str]


def plan(
    scenario: Like = "quickstart",
    *,
    objective: str = "time",
    tokens: str | float | None = None,
    deadline: float | None = None,
    budget: float | None = None,
    top: int = 5,
    threads: int | None = None,
    max_simulations: int | None = None,
    max_seconds: float | None = None,
    checkpoint: Pathlike | None = None,
    shard: tuple[int, int] | None = None,
    part: Pathlike | None = None,
    certificate: Pathlike | None = None,
    why_not: Any = None,
    planner: str | Planner = "tideplan",
    progress: Any = None,
) -> results.Plan:
    """Searches the plan that trains fastest (``objective="time"``), costs least (``"cost"``) or is best over a history
    (``"robust"``).

    ``tokens`` (``"2T"``), ``deadline`` (days), ``budget`` (dollars); ``max_simulations`` ends the search at the same place
    everywhere, ``max_seconds`` does not; ``checkpoint`` is a file to go on from. ``why_not`` is a plan to hold against the best.
    ``shard=(i, n)`` searches one part of n into the file ``part``, for :func:`merge`. ``planner`` is a name or a function.

    ``progress`` is a function of a :class:`tideplan.Progress`, or whether to show a bar (needs tqdm; by default on a terminal).
    An interrupt (Ctrl-C) ends the search at the end of its round: the result is the best so far, ``stopped == "interrupt"``.

    Raises :class:`tideplan.InputError`; that no plan is feasible is no error but a result whose ``best`` is ``None``.
    """
    arguments = {**locals()}
    of = scenario_of(scenario)
    planners = {}
    if callable(planner):
        planners = {_name(planner): planner}
        planner = next(iter(planners))
    if shard is not None and not (isinstance(shard, (tuple, list)) and len(shard) == 2):
        raise InputTypeError([Problem(f"{shard!r} is no shard", hint="(i, n) with i from 0 and below n")])
    with folder() as into:
        words = options_of(
            arguments,
            "scenario",
            "progress",
            shard=None if shard is None else f"{shard[0]}/{shard[1]}",
            why_not=None if why_not is None else plan_file(why_not, into),
            planner=planner,
        )
        data = _run(of, "plan", words, into, planners, progress, best_so_far=True)
    return results.Plan(data, _page_of(of, data))


def merge(parts: Sequence[Pathlike], *, scenario: Like | None = None) -> results.Plan:
    """Joins what the shards of a search found: one file for each. An error says which are missing.

    ``scenario`` is needed where it has a device model of Python's: that of every shard.
    """
    with folder() as into:
        files = [os.fspath(p) for p in parts]
        of = None if scenario is None else scenario_of(scenario)
        if of is not None and of.profiles:
            # The tables lay elsewhere when the shards ran.
            sets = [word.removeprefix("--set=") for word in of.words(into) if word.startswith("--set=")]
            for i, file in enumerate(files):
                part = json.loads(Path(file).read_bytes())
                part["origin"]["sets"] = sets
                files[i] = str(into / f"part-{i}.json")
                Path(files[i]).write_text(json.dumps(part), encoding="utf-8")
        data = run(["merge", "--json", "--", *files]).json()
    return results.Plan(data, None if of is None else _page_of(of, data))


def simulate(
    scenario: Like,
    plan: Any = None,
    *,
    explain: bool = False,
    timeline: Pathlike | None = None,
    links: Pathlike | None = None,
    fold: bool = True,
) -> results.Iteration:
    """Simulates one iteration of ``plan`` (a dict, a file, a result; by default the scenario's own).

    ``explain`` adds the critical path, time and memory by part, and what would help most, in ``result["explain"]``;
    ``timeline`` writes a file for Perfetto, ``links`` a CSV of what shared links carried. Raises :class:`tideplan.InputError`.
    """
    arguments = {**locals()}
    of = scenario_of(scenario)
    with folder() as into:
        path = None if plan is None else plan_file(plan, into)
        words = options_of(arguments, "scenario", "fold", plan=path, no_fold=not fold)
        data = _run(of, "simulate", words, into)

    def page() -> str:
        with folder() as into:
            path = None if plan is None else plan_file(plan, into)
            html = into / "report.html"
            _run(of, "simulate", options(plan=path, html=html), into)
            return html.read_text(encoding="utf-8")

    return results.Iteration(data, page)


def replay(
    scenario: Like,
    *,
    policies: Iterable[str] | None = None,
    until: str | None = None,
    sweep: Sequence[str] = (),
    seeds: int | None = None,
    threads: int | None = None,
    reuse: bool = True,
) -> results.Replay:
    """Runs a job through the scenario's traces by policy (by default all), up to ``until`` (``"2 h"``).

    ``sweep`` asks what if (``"link wan scale 0.25..4"``, ``"switch 2 s..600 s"``), ``seeds`` repeats with measured jitter.
    An interrupt is raised at once. Raises :class:`tideplan.InputError`.
    """
    arguments = {**locals()}
    of = scenario_of(scenario)
    with folder() as into:
        html = into / "report.html"
        policy = None if policies is None else ",".join(policies)
        words = options_of(arguments, "scenario", "policies", "reuse", policy=policy, no_reuse=not reuse, html=html)
        data = _run(of, "replay", words, into)
        return results.Replay(data, html.read_text(encoding="utf-8"))


def compare(
    scenarios: Like | Sequence[Like] | None = None,
    *,
    planners: Sequence[str | Planner] | Mapping[str, str | Planner] | None = None,
    plans: Mapping[str, Any] | Sequence[Any] = (),
    suite: bool = False,
    judge: str = "simulate",
    max_seconds: float = 60.0,
    simulations: int | None = None,
    threads: int | None = None,
) -> results.Comparison:
    """Planners side by side under one judge, on scenarios or on the ``suite``.

    A planner is a name of :func:`tideplan.planners` or a function, which takes the scenario as :meth:`Scenario.describe` gives it
    and gives a plan as a dict, or a pair of a plan and its estimate (s). One that raises, gives no plan, or takes more than
    ``max_seconds`` has a row with an ``error``; a function that never returns goes on in a thread of its own until Python ends.
    ``plans`` are plans by name. Raises :class:`tideplan.InputError` for scenarios and names that are not right.
    """
    arguments = {**locals()}
    names: list[str] = []
    functions: dict[str, Planner] = {}
    for name, who in _named(planners or ()):
        if callable(who):
            if name in names or name in _builtin_planners():
                raise InputError([Problem(f"two planners are called `{name}`", hint="a dict of planners by name")])
            functions[name] = who
        elif not isinstance(who, str):
            raise InputTypeError([Problem(f"a {type(who).__name__} where a planner is expected", hint="a name or a function")])
        names.append(name if callable(who) else who)
    with folder() as into:
        given: dict[str, str] = {}
        words = ["compare"]
        over: list[str] | None = None
        for one in _several(scenarios):
            of = scenario_of(one)
            name, *own = of.words(into)
            if over not in (None, own):
                raise InputError([Problem("scenarios with different overrides", hint="compare them one by one")])
            if of.name in words[1:]:
                raise InputError([Problem(f"two scenarios are called `{of.name}`", hint="other names")])
            over = own
            words.append(name)
            if of.text is not None:
                given[of.name] = of.text
        html = into / "report.html"
        words += over or []
        chosen = ",".join(names) if names else None
        words += options_of(arguments, "scenarios", "plans", planners=chosen, html=html, json=True)
        files = plans.items() if isinstance(plans, Mapping) else ((f"plan-{i + 1}", p) for i, p in enumerate(plans))
        words += [f"--plan={plan_file(p, into, _file_name(name))}" for name, p in files]
        data = run(words, given, functions).json()
        return results.Comparison(data, html.read_text(encoding="utf-8"))


def validate(
    runs: Pathlike | None = None,
    *,
    plans: Pathlike | None = None,
    oom: Pathlike | None = None,
    by: str | None = None,
    tier: str | None = None,
    collectives: Pathlike | None = None,
    predictions: Pathlike | None = None,
) -> results.Validation:
    """Holds the cost model against measured runs: the shipped ones, or a CSV of one's own (docs/validate.md)."""
    arguments = {**locals()}
    with folder() as into:
        html = into / "report.html"
        words = options_of(arguments, html=html, json=True)
        data = run(["validate", *words]).json()
        return results.Validation(data, html.read_text(encoding="utf-8"))


def calibrate(
    profiles: Pathlike | Sequence[Pathlike],
    *,
    gpu: str,
    out: Pathlike,
    kind: str | None = None,
    network: str | None = None,
    model: str | None = None,
    precision: str | None = None,
    tp: int | None = None,
    micro_batch: int | None = None,
    source: str | None = None,
) -> results.Calibration:
    """Fits a GPU, or a fabric, to measurements and writes the file ``out`` that a scenario names as ``device`` or ``fabric``."""
    words = options_of({**locals()}, "profiles", json=True)
    files = [profiles] if isinstance(profiles, (str, os.PathLike)) else list(profiles)
    data = run(["calibrate", *words, "--", *(os.fspath(f) for f in files)]).json()
    return results.Calibration(data, Path(out))


def collective(
    op: str,
    *,
    algorithm: str,
    ranks: int,
    bytes: str | int,
    topology: str,
    bandwidth: str,
    latency: str,
    splits: int = 1,
    convention: str = "tideplan",
    fold: bool = True,
) -> results.Collective:
    """Simulates one collective operation message by message; ``bytes`` is the whole buffer (``"64 MiB"``, or a number)."""
    arguments = {**locals()}
    size = f"{bytes} B" if isinstance(bytes, int) and not isinstance(bytes, bool) else bytes
    words = options_of(arguments, "fold", bytes=size, no_fold=not fold, json=True)
    return results.Collective(run(["collective", *words]).json())


def scenarios() -> list[dict[str, Any]]:
    """The built-in scenarios: ``name``, ``about`` and the like."""
    return run(["list", "scenarios", "--json"]).json()["scenarios"]


def planners() -> list[dict[str, Any]]:
    """The planners: ``name``, ``about``, ``source``, ``leaves_out``."""
    return run(["list", "planners", "--json"]).json()["planners"]


def explain(code: str) -> str:
    """A paragraph on an error code."""
    return run(["explain", code]).out


def command(*words: str) -> str:
    """Any command of the command line, in this process: what it prints. Raises :class:`tideplan.InputError` where it cannot run."""
    return run([str(w) for w in words]).out


def _run(
    of: Scenario,
    name: str,
    words: list[str],
    into: Path,
    planners: Mapping[str, Planner] | None = None,
    progress: Any = False,
    best_so_far: bool = False,
) -> dict[str, Any]:
    given = {of.name: of.text} if of.text is not None else {}
    words = [name, *of.words(into), *words, "--json"]
    return run(words, given, planners, progress, best_so_far).json()


def _page_of(of: Scenario, data: dict[str, Any]) -> Callable[[], str] | None:
    """The report of a search is that of its best plan's iteration."""
    if data["best"] is None:
        return None
    best = data["best"]["plan"]
    return lambda: simulate(of, best).report() or ""


def _several(scenarios: Any) -> list[Any]:
    if scenarios is None:
        return []
    if isinstance(scenarios, (list, tuple)):
        return list(scenarios)
    return [scenarios]


def _named(planners: Any) -> list[tuple[str, Any]]:
    if isinstance(planners, str) or callable(planners):
        planners = [planners]
    if isinstance(planners, Mapping):
        return [(n, who) for n, who in planners.items()]
    return [(_name(who) if callable(who) else who, who) for who in planners]


def _name(function: Any) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name) or "own"


def _file_name(name: str) -> str:
    if not name or not all(c.isalnum() or c in "-_." for c in name) or name.startswith("."):
        raise InputError([Problem(f"{name!r} is no name of a plan", hint="letters, digits, `-`, `_`, `.`")])
    return name


def _builtin_planners() -> list[str]:
    return [p["name"] for p in planners()]
