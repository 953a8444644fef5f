"""Settings files in TOML, read within limits of size and depth.

A settings file may come from anybody. Python's parser needs quadratic time for long dotted keys,
and recurses into nested arrays. So the text is bounded before it is parsed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lenet_edge.errors import MissingPackageError
from lenet_edge.support.regular_file import open_regular_file

MAX_BYTES = 2**18
_MAX_DOTS = 100  # in a line; a key of n parts takes the parser n * n steps


def read_settings(path: Path) -> str:
    """Return the text of a settings file.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
        ValueError: it has more than `MAX_BYTES`, or is not UTF-8.
    """
    with open_regular_file(path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    return content.decode()


def parse_toml(text: str, extra: str) -> dict[str, Any]:
    """Return the document in a TOML text.

    Args:
        text: the text, as `read_settings` returns it.
        extra: the extra of this package that installs a parser for Python 3.10.

    Raises:
        ValueError: the text is not TOML, or it is nested too deeply.
        MissingPackageError: this Python has no parser.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > _MAX_DOTS:
            raise ValueError(f"line {number} has more than {_MAX_DOTS} dots")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise MissingPackageError("tomli", extra) from None
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    return document
