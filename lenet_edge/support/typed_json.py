"""Validate dataclasses built from untrusted JSON against their type annotations.

Python does not check annotations: ``TensorSpec(**facts)`` accepts a string as a shape. The error
would then occur far from the code that read the file.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from typing import Any


def check_types(value: Any, annotation: Any = None, where: str = "") -> None:
    """Check that a value has its annotated type, down to the last item in it.

    Integers must fit into 64 bits. Strings must be valid UTF-8.

    Args:
        value: a dataclass instance, or the value of one of its fields.
        annotation: the expected type; the class of the value by default.
        where: the path of names to the value, for the error message.

    Raises:
        ValueError: the type is wrong; the message names the place and the value.
    """
    annotation = type(value) if annotation is None else annotation
    origin, parameters = typing.get_origin(annotation), typing.get_args(annotation)
    # NumPy 2.5 defines NDArray as a type alias. Its value has the array type as its origin.
    while value_of_alias := getattr(origin, "__value__", None):
        origin = typing.get_origin(value_of_alias)
    if origin in (typing.Union, types.UnionType):
        _check_optional(value, parameters, where)
    elif annotation is Any or (
        origin is typing.Literal and isinstance(value, str) and value in parameters
    ):
        return
    elif origin is tuple and parameters[-1] is Ellipsis and isinstance(value, tuple):
        for index, item in enumerate(value):
            check_types(item, parameters[0], f"{where}[{index}]")
    elif origin is tuple and isinstance(value, tuple) and len(value) == len(parameters):
        for index, (item, item_type) in enumerate(zip(value, parameters, strict=True)):
            check_types(item, item_type, f"{where}[{index}]")
    elif origin is dict and isinstance(value, dict):
        for key, item in value.items():
            check_types(key, parameters[0], f"{where}, a key")
            check_types(item, parameters[1], f"{where}[{key!r:.40}]")
    elif (np := sys.modules.get("numpy")) and origin is np.ndarray and isinstance(value, origin):
        if not np.isfinite(value).all():
            raise ValueError(f"{where} contains values that are not finite numbers")
    elif (
        isinstance(annotation, type)
        and dataclasses.is_dataclass(annotation)
        and isinstance(value, annotation)
    ):
        for name, field_type in _field_types(annotation).items():
            check_types(getattr(value, name), field_type, f"{where}.{name}".lstrip("."))
    elif not _is_scalar_of(value, annotation):
        raise ValueError(f"{where} is {value!r:.60}")


def _check_optional(value: Any, types_of_union: tuple[Any, ...], where: str) -> None:
    if value is None and type(None) in types_of_union:
        return
    for annotation in types_of_union:
        if annotation is not type(None):
            check_types(value, annotation, where)  # all unions here are "X | None"


@functools.cache
def _field_types(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _is_scalar_of(value: Any, annotation: Any) -> bool:
    """Return whether a scalar has the annotated type; an int is accepted as a float."""
    kind = (int, float) if annotation is float else annotation
    if not isinstance(kind, (type, tuple)) or not isinstance(value, kind):
        return False
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return not isinstance(value, str) or not any("\ud800" <= c <= "\udfff" for c in value)
