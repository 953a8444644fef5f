"""JSON text that keeps tuples, bytes, paths and dictionary keys: the encoding of worker messages.

A value that JSON cannot express becomes an object with one key, its tag:

    (1, 2)      {"$tuple": [1, 2]}
    b"\\x00"     {"$bytes": "AA=="}               base64
    Path("a")   {"$path": "a"}
    {1: "x"}    {"$dict": [[1, "x"]]}            for a key that is not a string or starts with "$"

None, bool, int, float (infinity and NaN included), str, list and other dictionaries are plain
JSON. Every other type is refused, because the receiver would get a different value.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path, PurePath
from typing import Any


def dumps(value: Any) -> str:
    """Encode a value as one line of JSON text; `loads` returns an equal value of the same types.

    Raises:
        TypeError: the value contains an object of another type.
    """
    return json.dumps(_encode(value))


def loads(text: str | bytes) -> Any:
    """Decode text that `dumps` wrote.

    Raises:
        ValueError: the text is not JSON.
    """
    return json.loads(text, object_hook=_decode)


def _encode(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [_encode(item) for item in value]}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: _encode(item) for key, item in value.items()}
        return {"$dict": [[_encode(key), _encode(item)] for key, item in value.items()]}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, PurePath):
        return {"$path": str(value)}
    kind = type(value)
    raise TypeError(
        f"a worker message cannot carry {kind.__module__}.{kind.__qualname__}; use numbers, str,"
        " bytes, Path, list, tuple, dict or None"
    )


def _decode(fields: dict[str, Any]) -> Any:
    match fields:
        case {"$tuple": items}:
            return tuple(items)
        case {"$bytes": text}:
            return base64.b64decode(text)
        case {"$path": text}:
            return Path(text)
        case {"$dict": items}:
            return dict(items)
        case _:
            return fields
