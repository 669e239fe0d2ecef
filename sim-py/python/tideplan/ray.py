"""The same commands on a Ray cluster: ``pip install tideplan[ray]`` on every node.

A task is one shard of a search, or one scenario. It keeps nothing outside itself, so that Ray runs it again where its worker
or node is lost, and its answer does not depend on where or how often it ran. Files that a scenario names (traces, profiles)
must lie at the same path on every node; a scenario from a dict, from words or with a device model needs none.

Results are those of the command: ``tideplan plan --shard I/N --part F`` for each I, and ``tideplan merge``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import commands, results
from ._run import folder
from .errors import InputError, InputTypeError, Problem
from .scenario import Like, Scenario, scenario_of

try:
    import ray as _ray
except ImportError:
    raise ImportError("`tideplan.ray` needs Ray: pip install tideplan[ray]") from None

#: How often a task is run again where its worker or node is lost.
RETRIES = 20


def plan(
    scenario: Like = "quickstart",
    *,
    shards: int,
    threads: int = 1,
    progress: Any = None,
    on_part: Callable[[int, results.Plan], None] | None = None,
    retries: int = RETRIES,
    **options: Any,
) -> results.Plan:
    """Searches in ``shards`` parts, a Ray task each, and merges what they found.

    ``threads`` are those of a task, for which it is given as many CPUs; ``options`` are those of :func:`tideplan.plan`
    (``max_simulations`` and ``max_seconds`` hold for each shard). ``on_part(i, found)`` is called with what a shard found, as
    shards end; ``progress`` shows how many have.

    The answer depends on the number of shards only where a shard stops before its end, and never on the cluster. Raises
    :class:`tideplan.InputError`, and what Ray raises where a task is lost more than ``retries`` times.
    """
    of = scenario_of(scenario)
    if isinstance(shards, bool) or not isinstance(shards, int):
        raise InputTypeError([Problem(f"`shards` is a {type(shards).__name__}", hint="a whole number from 1")])
    if not 1 <= shards <= 65_536:
        raise InputError([Problem(f"`shards` is {shards}", hint="from 1 to 65536")])
    refused = {"shard", "part", "checkpoint", "certificate", "why_not", "planner"} & options.keys()
    if refused:
        raise InputError([Problem(f"`{sorted(refused)[0]}` does not go with shards")])
    task = _remote(_shard, threads, retries)
    refs = [task.remote(of, (i, shards), {**options, "threads": threads}) for i in range(shards)]
    with folder() as into:
        files: list[Path] = [into / f"{i}.json" for i in range(shards)]
        for i, (found, part) in _as_they_come(refs, progress, "shards"):
            files[i].write_bytes(part)
            if on_part is not None:
                on_part(i, results.Plan(found))
        return commands.merge(files, scenario=of)


def sweep(
    scenario: Like | Sequence[Like],
    overrides: Iterable[Mapping[str, Any]] | None = None,
    *,
    threads: int = 1,
    progress: Any = None,
    on_result: Callable[[int, results.Plan], None] | None = None,
    retries: int = RETRIES,
    **options: Any,
) -> list[results.Plan]:
    """:func:`tideplan.plan` for many scenarios, or for one with each of ``overrides`` (dicts of path and value), a task each.

    Results are in the order of what was given; ``on_result(i, found)`` is called as they come.
    """
    if overrides is not None:
        base = scenario_of(scenario)  # type: ignore[arg-type]
        scenarios = [_with(base, one) for one in overrides]
    else:
        scenarios = _several(scenario)
    return _each(commands.plan, scenarios, threads, progress, on_result, retries, {**options, "threads": threads})


def compare(
    scenarios: Like | Sequence[Like] | None = None,
    *,
    suite: bool = False,
    threads: int = 1,
    progress: Any = None,
    on_result: Callable[[int, results.Comparison], None] | None = None,
    retries: int = RETRIES,
    **options: Any,
) -> list[results.Comparison]:
    """:func:`tideplan.compare` for each scenario, or for each of the ``suite``, a task each."""
    if suite:
        given = [Scenario(row["name"]) for row in commands.scenarios() if row["group"] == "suite"]
    else:
        given = _several(scenarios)
    return _each(commands.compare, given, threads, progress, on_result, retries, {**options, "threads": threads})


def replay(
    scenarios: Like | Sequence[Like],
    *,
    traces: Mapping[str, Sequence[Any]] | None = None,
    threads: int = 1,
    progress: Any = None,
    on_result: Callable[[int, results.Replay], None] | None = None,
    retries: int = RETRIES,
    **options: Any,
) -> list[results.Replay]:
    """:func:`tideplan.replay` for each scenario, a task each; with ``traces``, files by link, for each file in its turn."""
    given = _several(scenarios)
    for link, files in (traces or {}).items():
        given = [scenario_of(one).with_trace(link, file) for one in given for file in files]
    return _each(commands.replay, given, threads, progress, on_result, retries, {**options, "threads": threads})


def _shard(of: Scenario, shard: tuple[int, int], options: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """What a part found, for people and for ``merge``."""
    with folder() as into:
        file = into / "part.json"
        found = commands.plan(of, shard=shard, part=file, progress=False, **options)
        return found.to_dict(), file.read_bytes()


def _one(function: Callable[..., Any], scenario: Scenario, options: dict[str, Any]) -> Any:
    return function(scenario, **options)


def _remote(function: Callable[..., Any], threads: int, retries: int) -> Any:
    if not _ray.is_initialized():
        raise InputError([Problem("Ray is not started", hint="`ray.init()`, or `ray.init(address=...)`")])
    return _ray.remote(num_cpus=threads, max_retries=retries, scheduling_strategy="SPREAD")(function)


def _each(
    function: Callable[..., Any],
    scenarios: Sequence[Like],
    threads: int,
    progress: Any,
    on_result: Callable[[int, Any], None] | None,
    retries: int,
    options: dict[str, Any],
) -> list[Any]:
    task = _remote(_one, threads, retries)
    refs = [task.remote(function, scenario_of(one), options) for one in scenarios]
    answers: list[Any] = [None] * len(refs)
    for i, answer in _as_they_come(refs, progress, "scenarios"):
        answers[i] = answer
        if on_result is not None:
            on_result(i, answer)
    return answers


def _as_they_come(refs: Sequence[Any], progress: Any, unit: str) -> Iterator[tuple[int, Any]]:
    """What tasks answer, with their number, in the order in which they end; whatever goes wrong ends the others."""
    index = {ref: i for i, ref in enumerate(refs)}
    waiting = list(refs)
    bar = _bar(len(refs), progress, unit)
    try:
        while waiting:
            ready, waiting = _ray.wait(waiting, num_returns=1)
            for ref in ready:
                try:
                    answer = _ray.get(ref)
                except _ray.exceptions.RayTaskError as error:
                    raise error.cause if isinstance(error.cause, Exception) else error from None
                bar(1)
                yield index[ref], answer
    finally:
        bar(0)
        for ref in waiting:
            _ray.cancel(ref, force=True)


def _bar(total: int, progress: Any, unit: str) -> Callable[[int], None]:
    """Counts what is done; told nothing more, it goes."""
    if callable(progress):
        done = [0]

        def count(n: int) -> None:
            done[0] += n
            if n:
                progress(done[0], total)

        return count
    if progress:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return lambda _: None
        bar = tqdm(total=total, unit=f" {unit}", leave=False)
        return lambda n: bar.update(n) if n else bar.close()
    return lambda _: None


def _with(base: Scenario, overrides: Mapping[str, Any]) -> Scenario:
    if not isinstance(overrides, Mapping):
        raise InputTypeError([Problem(f"a {type(overrides).__name__} among the overrides", hint="dicts of path and value")])
    for path, value in overrides.items():
        base = base.set(path, value)
    return base


def _several(scenarios: Any) -> list[Like]:
    if scenarios is None:
        return []
    return list(scenarios) if isinstance(scenarios, (list, tuple)) else [scenarios]
