"""Plain Python data as TOML text: strings, booleans, integers, finite floats, lists, dicts with string keys."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import InputError, InputTypeError, Problem

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_MOST_DEEP = 64


def dumps(data: Mapping[str, Any], name: str) -> str:
    """The text of ``data``, a key a line in the first two levels; ``name`` is what errors call it."""
    if not isinstance(data, Mapping):
        raise InputTypeError([Problem(f"a {type(data).__name__} where a dict is expected", file=name)])
    lines: list[str] = []
    tables: list[str] = []
    for key, value in data.items():
        where = _join("", key, name)
        if isinstance(value, Mapping):
            tables.append(f"\n[{_key(key)}]")
            tables += _lines(value, where, name)
        elif _is_list(value) and len(value) > 0 and all(isinstance(v, Mapping) for v in value):
            for i, table in enumerate(value):
                tables.append(f"\n[[{_key(key)}]]")
                tables += _lines(table, f"{where}[{i}]", name)
        else:
            lines.append(f"{_key(key)} = {value_of(value, where, name)}")
    return "\n".join(lines + tables) + "\n"


def value_of(value: Any, where: str, name: str, deep: int = 0) -> str:
    """One value as inline TOML; ``where`` is its path."""
    if deep > _MOST_DEEP:
        raise InputError([Problem(f"`{where}` is nested too deep, or holds itself", file=name)])
    item = getattr(value, "item", None)
    if callable(item) and type(value).__module__.split(".")[0] == "numpy":
        if getattr(value, "ndim", 0) == 0:
            value = item()
        else:
            value = value.tolist()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InputError([Problem(f"`{where}` is no text that UTF-8 can hold", file=name)]) from None
        # TOML's basic strings are JSON's, but for what may stand unescaped.
        return json.dumps(value).replace("\x7f", "\\u007f") if value.isascii() else _text(value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise InputError([Problem(f"`{where}` is {value}: beyond 64 bits", file=name)])
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError([Problem(f"`{where}` is {value}", file=name, hint="a finite number")])
        text = repr(value)
        return text if "." in text or "e" in text else f"{text}.0"
    if isinstance(value, Mapping):
        inner = _lines(value, where, name, deep + 1)
        return "{ " + ", ".join(inner) + " }" if inner else "{}"
    if _is_list(value):
        return "[" + ", ".join(value_of(v, f"{where}[{i}]", name, deep + 1) for i, v in enumerate(value)) + "]"
    hint = "leave the key out" if value is None else "text, a number, a boolean, a list or a dict"
    what = "None" if value is None else f"a {type(value).__name__}"
    raise InputTypeError([Problem(f"`{where}` is {what}", file=name, hint=hint)])


def _lines(table: Mapping[str, Any], where: str, name: str, deep: int = 0) -> list[str]:
    lines = []
    for key, value in table.items():
        inside = _join(where, key, name)
        lines.append(f"{_key(key)} = {value_of(value, inside, name, deep)}")
    return lines


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def _key(key: str) -> str:
    return key if _BARE.match(key) else value_of(key, "a key", "")


def _join(where: str, key: Any, name: str) -> str:
    if not isinstance(key, str):
        raise InputTypeError([Problem(f"a key of `{where or name}` is a {type(key).__name__}", file=name, hint="text")])
    return f"{where}.{key}" if where else key


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
