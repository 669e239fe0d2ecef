"""Runs the command in this process, and gives what it says as data."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from . import _core, _toml
from .errors import InputError, InputTypeError, InternalError, Problem, of_json

#: A planner: takes the scenario as plain data, gives a plan as plain data.
Planner = Callable[[dict[str, Any]], Any]


class Progress(NamedTuple):
    """How far a search is: rounds done, plans simulated, the best time so far and the bound, seconds."""

    rounds: int
    simulated: int
    best_s: float | None
    bound_s: float


class Ran(NamedTuple):
    """What a command said: its exit status (0, or 1 where the answer is no), results, and notes."""

    code: int
    out: str
    notes: str

    def json(self) -> Any:
        return json.loads(self.out)


def run(
    words: list[str],
    scenarios: Mapping[str, str] | None = None,
    planners: Mapping[str, Planner] | None = None,
    progress: Any = False,
    best_so_far: bool = False,
) -> Ran:
    """Runs the command; raises :class:`InputError` where it cannot run."""
    for word in words:
        if "\0" in word:
            raise InputError([Problem(f"{word!r} has a zero character")])
    planners = dict(planners or {})

    def ask(name: str, scenario: str, answer: _core.Answer) -> None:
        # A thread of its own, which nobody waits for longer than the time that planners have.
        work = threading.Thread(target=_answer, args=(planners[name], scenario, answer), daemon=True)
        work.start()

    with _shown(progress) as tell:
        code, out, notes, problems = _core.run(
            words, dict(scenarios or {}), list(planners), ask if planners else None, tell, best_so_far
        )
    if code == _core.PANIC:
        raise InternalError(f"tideplan has a fault of its own: {problems}")
    if problems:
        raise of_json(problems)
    return Ran(code, out, notes)


def _answer(planner: Planner, scenario: str, answer: _core.Answer) -> None:
    try:
        plan = planner(json.loads(scenario))
    except BaseException as error:  # noqa: B902: whatever a user's function raises is that planner's answer.
        answer.fail(f"{type(error).__name__}: {error}")
        return
    try:
        answer.give(json.dumps(_plain_plan(plan), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        answer.fail(f"returned no plan: {error}")


def _plain_plan(plan: Any) -> Any:
    if isinstance(plan, tuple) and len(plan) == 2:
        return {"plan": _plain_plan(plan[0]), "own_estimate_s": plan[1]}
    best = getattr(plan, "plan", None)
    if best is not None and not isinstance(plan, Mapping):
        return best
    if not isinstance(plan, Mapping):
        raise TypeError(f"a {type(plan).__name__} where a dict is expected")
    return dict(plan)


@contextmanager
def _shown(progress: Any) -> Iterator[Callable[..., None] | None]:
    """``progress`` may be a function of a :class:`Progress`, true or false; ``None`` shows a bar on a terminal."""
    if callable(progress):
        yield lambda *at: progress(Progress(*at))
        return
    if progress is None:
        progress = sys.stderr is not None and sys.stderr.isatty()
    if not progress:
        yield None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield None
        return
    with tqdm(unit=" plans", desc="search", leave=False) as bar:

        def tell(rounds: int, simulated: int, best_s: float | None, bound_s: float) -> None:
            best = "-" if best_s is None else f"{best_s:.4g} s"
            bar.set_postfix_str(f"best {best}, at least {bound_s:.4g} s", refresh=False)
            bar.update(simulated - bar.n)

        yield tell


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder."""
    # A command that an interrupt left to run on may still write there.
    with tempfile.TemporaryDirectory(prefix="tideplan-", ignore_cleanup_errors=True) as path:
        yield Path(path)


def options(**given: Any) -> list[str]:
    """Options as words: ``max_seconds=3`` becomes ``--max-seconds=3``; ``None`` and false are left out."""
    words = []
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            words.append(flag)
        elif isinstance(value, (list, tuple)):
            words += [f"{flag}={word_of(v, name)}" for v in value]
        else:
            words.append(f"{flag}={word_of(value, name)}")
    return words


def options_of(arguments: Mapping[str, Any], *others: str, **changed: Any) -> list[str]:
    """The options among a function's ``arguments``, a copy of its first ``locals()``: all but ``others``, with ``changed`` in their place."""
    return options(**{**{name: value for name, value in arguments.items() if name not in others}, **changed})


def word_of(value: Any, name: str) -> str:
    """One value as a word of the command line."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        if hasattr(value, "item") and not isinstance(value, bool):
            return word_of(value.item(), name)
        raise InputTypeError([Problem(f"`{name}` is a {type(value).__name__}", hint="text or a number")])
    return str(value)


def plan_file(plan: Any, into: Path, name: str = "plan") -> Path:
    """A plan as a file: a path as it is, plain data or a result written to ``into``."""
    if isinstance(plan, (str, os.PathLike)):
        return Path(plan)
    inner = getattr(plan, "plan", None)
    if inner is not None and not isinstance(plan, Mapping):
        plan = inner
    if not isinstance(plan, Mapping):
        raise InputTypeError([Problem(f"a {type(plan).__name__} where a plan is expected", hint="a dict, a file or a Plan")])
    path = into / f"{name}.toml"
    path.write_text(_toml.dumps(plan, name), encoding="utf-8")
    return path
