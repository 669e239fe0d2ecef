"""Scenarios: what is trained, on what GPUs, over what network."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from . import _toml
from ._run import options, run, word_of
from .errors import InputError, InputTypeError, Problem

#: Head of a table of layer times.
_COLUMNS = "micro_batch,tp,first_layer,last_layer,forward_us,backward_us,update_us"


class Layer(NamedTuple):
    """One layer at one micro-batch and tensor-parallel degree, as a device model is asked for it.

    ``layer`` counts from 0, the embedding, to ``layers - 1``, the head; ``parameters`` are the layer's own, unsplit.
    """

    gpu: str
    micro_batch: int
    tp: int
    layer: int
    layers: int
    parameters: int
    hidden: int
    seq_len: int
    vocab: int
    precision: str


#: Seconds of a layer's forward pass, of its backward pass (both of one micro-batch), and of its optimizer step.
DeviceModel = Callable[[Layer], tuple[float, float, float]]


@dataclass(frozen=True)
class Scenario:
    """A scenario. Immutable: :meth:`set` and the like give another one. It pickles, so that it travels to other machines;
    files that it names do not travel with it.

    Make one with :meth:`from_file`, :meth:`builtin`, :meth:`from_dict` or :meth:`from_words`. Whether its content is right is
    found out when it is used, or by :meth:`check`.
    """

    name: str
    text: str | None = None
    sets: tuple[tuple[str, str], ...] = ()
    traces: tuple[tuple[str, str], ...] = ()
    instant: str | None = None
    profiles: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Scenario:
        """The scenario of a TOML file. Raises :class:`InputError` where there is no such file."""
        path = Path(path)
        if not path.is_file():
            raise InputError([Problem("no such file", file=str(path), code="T0109")])
        text = str(path)
        # A name with a separator is a path to the command, never a built-in or an option.
        return cls(text if os.path.isabs(text) else os.path.join(".", text))

    @classmethod
    def builtin(cls, name: str = "quickstart") -> Scenario:
        """A built-in one; :func:`tideplan.scenarios` lists them. Raises :class:`InputError` where there is none of that name."""
        from .commands import scenarios

        names = [row["name"] for row in scenarios()]
        if name not in names:
            raise InputError([Problem(f"no built-in scenario is called `{name}`", code="T0111", hint=", ".join(names))])
        return cls(name)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], name: str = "scenario") -> Scenario:
        """The same tables and keys as a file, as a dict. Quantities are text with units (``"100 Gbps"``).

        Raises :class:`InputTypeError` for a value of a type that TOML does not have, :class:`InputError` for NaN and the like,
        each with the path of the value.
        """
        if not isinstance(name, str) or not name or any(c in name for c in "/\\\0") or name.startswith("-"):
            raise InputError([Problem(f"{name!r} is no name of a scenario", hint="a word")])
        return cls(name, _toml.dumps(data, name))

    @classmethod
    def from_words(
        cls,
        model: str,
        gpus: str | Mapping[str, int],
        inter: str | None = None,
        batch: int | None = None,
        precision: str | None = None,
    ) -> Scenario:
        """As ``tideplan plan --model ... --gpus ...``: a model known by name on GPUs known by name.

        ``gpus`` is ``"a100-80:16,v100-16:16"`` or a dict of counts; ``inter`` the rate between nodes, ``batch`` the sequences of
        an iteration. Raises :class:`InputError` for a name that is not known.
        """
        if isinstance(gpus, Mapping):
            gpus = ",".join(f"{gpu}:{word_of(count, 'gpus')}" for gpu, count in gpus.items())
        words = options(model=model, gpus=gpus, inter=inter, batch=batch, precision=precision)
        return cls(model, run(["init", *words]).out)

    def set(self, path: str, value: Any) -> Scenario:
        """With one value in place of another: ``scenario.set("nodes.a100.count", 8)``."""
        if not isinstance(path, str) or not path.strip() or "=" in path:
            raise InputError([Problem(f"{path!r} is no path of a value", hint="training.global_batch")])
        return replace(self, sets=(*self.sets, (path, _toml.value_of(value, path, self.name))))

    def with_trace(self, link: str, file: str | os.PathLike[str]) -> Scenario:
        """With the CSV file in place of a link's trace."""
        return replace(self, traces=(*self.traces, (link, os.fspath(file))))

    def at(self, instant: str) -> Scenario:
        """With iterations (and a replay) starting at an instant of the traces, such as ``"600 s"``."""
        return replace(self, instant=instant)

    def check(self) -> Scenario:
        """Itself; raises :class:`InputError` with all its faults where it has any."""
        self.describe()
        return self

    def describe(self) -> dict[str, Any]:
        """What a planner is given, as plain data: model, training, groups, pools with layer times (s), rates, memory (bytes)."""
        caught: list[dict[str, Any]] = []

        def planner(scenario: dict[str, Any]) -> None:
            caught.append(scenario)
            raise InterruptedError

        self.run("compare", options(planners="describe"), planners={"describe": planner})
        return caught[0]

    def with_device_model(
        self,
        group: str,
        model: DeviceModel,
        micro_batches: Iterable[int] = (1, 2, 4, 8),
        tps: Iterable[int] | None = None,
    ) -> Scenario:
        """With the layer times of a node group from a Python function, which is asked once for each layer, micro-batch and
        tensor-parallel degree (by default the powers of two within a node) and becomes a table of layer times.

        ``model`` takes a :class:`Layer` and gives forward, backward and update times in seconds; those at ``tp > 1`` contain the
        layer's own all-reduce. Results call them measured, as those of any table. Raises :class:`InputError` where a time is not
        a number of seconds; what ``model`` raises is passed on.
        """
        about = self.describe()
        groups = {g["name"]: g for g in about["groups"]}
        if group not in groups:
            raise InputError([Problem(f"no group of nodes is called `{group}`", hint=", ".join(groups))])
        of = groups[group]
        if tps is None:
            tps = [2**i for i in range(11) if 2**i <= of["gpus_per_node"]]
        shape = about["model"]
        by_layer = shape["by_layer"]
        rows = [_COLUMNS]
        for micro_batch in micro_batches:
            for tp in tps:
                for layer, own in enumerate(by_layer):
                    asked = Layer(
                        of["gpu"], micro_batch, tp, layer, len(by_layer), own["parameters"],
                        shape["hidden"], shape["seq_len"], shape["vocab"], about["training"]["precision"],
                    )
                    times = ",".join(repr(1e6 * t) for t in _times(model(asked), asked))
                    rows.append(f"{micro_batch},{tp},{layer},{layer},{times}")
                    tp_or_batch = (micro_batch, tp)
                    if not all(isinstance(n, int) and n > 0 for n in tp_or_batch):
                        raise InputTypeError([Problem(f"{tp_or_batch} are no micro-batch and TP", hint="whole numbers from 1")])
        table = "\n".join(rows) + "\n"
        return replace(self, profiles=(*self.profiles, (group, table)))

    def words(self, into: Path) -> list[str]:
        """Its name and overrides as words of the command line; tables are written to ``into``."""
        words = [self.name]
        words += [f"--set={path}={value}" for path, value in self.sets]
        for group, table in self.profiles:
            file = into / f"{hashlib.sha256(table.encode()).hexdigest()[:16]}.csv"
            file.write_text(table, encoding="utf-8")
            words.append(f"--set=nodes.{_toml.value_of(group, 'group', self.name)}.profile={json.dumps(str(file))}")
        words += [f"--trace={link}={file}" for link, file in self.traces]
        return words + options(at=self.instant)

    def run(self, command: str, words: list[str], planners: Any = None) -> Any:
        """Runs a command on it that prints JSON, and returns that."""
        from ._run import folder

        with folder() as into:
            given = {self.name: self.text} if self.text is not None else {}
            return run([command, *self.words(into), *words, "--json"], given, planners).json()


def _times(times: Any, asked: Layer) -> tuple[float, float, float]:
    where = f"the device model at micro-batch {asked.micro_batch}, TP {asked.tp}, layer {asked.layer}"
    try:
        forward, backward, update = (float(t) for t in times)
    except (TypeError, ValueError):
        raise InputTypeError([Problem(f"{where} gave {times!r}", hint="three numbers of seconds")]) from None
    if not all(0.0 <= t < 1e6 for t in (forward, backward, update)):
        raise InputError([Problem(f"{where} gave {times!r}", hint="three numbers of seconds from 0")])
    return forward, backward, update


#: What is taken for a scenario: one, the name of a built-in, a file, or a dict as in a file.
Like = Scenario | str | os.PathLike[str] | Mapping[str, Any]


def scenario_of(given: Like) -> Scenario:
    """A scenario from what is taken for one."""
    if isinstance(given, Scenario):
        return given
    if isinstance(given, Mapping):
        return Scenario.from_dict(given)
    if isinstance(given, os.PathLike):
        return Scenario.from_file(given)
    if isinstance(given, str):
        if any(c in given for c in "/\\."):
            return Scenario.from_file(given)
        return Scenario(given) if not given.startswith("-") else Scenario.builtin(given)
    raise InputTypeError(
        [Problem(f"a {type(given).__name__} where a scenario is expected", hint="a Scenario, a name, a file or a dict")]
    )
