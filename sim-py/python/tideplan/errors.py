"""What can go wrong, as exceptions that carry where and what would be right."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with what was given.

    ``code`` is stable, such as ``T0101`` (``tideplan.explain(code)`` has a paragraph on it), or ``None`` where no file is at
    fault; ``line`` and ``column`` count from 1; ``hint`` says what would be right.
    """

    message: str
    code: str | None = None
    file: str | None = None
    line: int | None = None
    column: int | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = self.file or ""
        if self.line is not None:
            place += f":{self.line}:{self.column}"
        text = f"{place}: {self.message}" if place else self.message
        if self.code:
            text += f" [{self.code}]"
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class TideplanError(Exception):
    """Base of all errors of this package.

    ``problems`` has all that is wrong; ``code``, ``file``, ``line``, ``column`` and ``hint`` are those of the first.
    """

    def __init__(self, problems: list[Problem] | str) -> None:
        if isinstance(problems, str):
            problems = [Problem(problems)]
        self.problems: list[Problem] = list(problems)
        super().__init__("\n".join(str(p) for p in self.problems))

    def __reduce__(self) -> Any:
        return (type(self), (self.problems,))

    @property
    def code(self) -> str | None:
        return self.problems[0].code

    @property
    def file(self) -> str | None:
        return self.problems[0].file

    @property
    def line(self) -> int | None:
        return self.problems[0].line

    @property
    def column(self) -> int | None:
        return self.problems[0].column

    @property
    def hint(self) -> str | None:
        return self.problems[0].hint


class InputError(TideplanError, ValueError):
    """A scenario, a plan, a file or an option is not what it should be."""


class InputTypeError(InputError, TypeError):
    """A value of a type that has no place there."""


class InternalError(TideplanError, RuntimeError):
    """A fault of tideplan itself."""


def of_json(text: str) -> InputError:
    """The error that the command describes."""
    return InputError([Problem(**problem) for problem in json.loads(text)])
