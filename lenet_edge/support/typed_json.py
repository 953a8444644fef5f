"""Hold what was made of somebody's JSON to the types that its dataclass declares.

Python does not: ``TensorSpec(**facts)`` takes a text for a shape, and what stumbles over it stands
far from the file that holds it.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from typing import Any


def check(value: Any, kind: Any = None, where: str = "") -> None:
    """Make sure that a value is of a declared type, down to the last item in it.

    Whole numbers fit into 64 bits, text can be written as UTF-8.

    Args:
        value: a dataclass, or what one of its fields holds.
        kind: the annotation; the value's own class if left out.
        where: the names that lead to the value, for the error.

    Raises:
        ValueError: it is not; the message says where and what is there.
    """
    kind = type(value) if kind is None else kind
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        _check_union(value, of, where)
    elif kind is Any:
        return
    elif origin is tuple and of[-1] is Ellipsis and isinstance(value, tuple):
        for place, item in enumerate(value):
            check(item, of[0], f"{where}[{place}]")
    elif origin is tuple and isinstance(value, tuple) and len(value) == len(of):
        for place, (item, its) in enumerate(zip(value, of, strict=True)):
            check(item, its, f"{where}[{place}]")
    elif origin is dict and isinstance(value, dict):
        for key, item in value.items():
            check(key, of[0], f"{where}, a key")
            check(item, of[1], f"{where}[{key!r:.40}]")
    elif (np := sys.modules.get("numpy")) and origin is np.ndarray and isinstance(value, origin):
        if not np.isfinite(value).all():
            raise ValueError(f"{where} holds what is no number")
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, kind):
        for name, its in _fields(kind).items():
            check(getattr(value, name), its, f"{where}.{name}".lstrip("."))
    elif not _is_plain(value, kind):
        raise ValueError(f"{where} is {value!r:.60}")


def _check_union(value: Any, kinds: tuple[Any, ...], where: str) -> None:
    if value is None and type(None) in kinds:
        return
    for kind in kinds:
        if kind is not type(None):
            check(value, kind, where)  # ours are all "something or None"


@functools.cache
def _fields(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _is_plain(value: Any, kind: Any) -> bool:
    if kind is float:
        kind = (int, float)
    if not isinstance(kind, (type, tuple)) or not isinstance(value, kind):
        return False
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return not isinstance(value, str) or not any("\ud800" <= c <= "\udfff" for c in value)
