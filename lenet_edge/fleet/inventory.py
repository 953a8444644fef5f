"""The inventory of a fleet, fleet.toml: which boards there are and how to reach them.

[boards.pi5-a]                    # the name: letters, digits, - and _
ssh = "pi@pi5-a.local"            # as ssh takes it; the rest is in ~/.ssh/config
python = "lenet/bin/python"       # of the venv with lenet-edge[fleet] and a runtime
tags = ["kitchen", "pi5"]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_edge.errors import LenetEdgeError, MissingPackageError
from lenet_edge.fleet.connection import EXTRA

DEFAULT = Path("fleet.toml")
_KEYS = {"ssh": str, "python": str, "tags": list}


@dataclass(frozen=True)
class Entry:
    """A board of the inventory; `number` is its place there, and gives it a port of its own."""

    name: str
    ssh: str
    number: int = 0
    python: str = "python3"
    tags: tuple[str, ...] = ()


def read(path: Path, names: Sequence[str] = ()) -> list[Entry]:
    """Return the boards of an inventory.

    Args:
        path: the TOML file.
        names: names or tags to choose by; all boards if there are none.

    Raises:
        LenetEdgeError: the file is missing or not what it should be; or nothing has such a name.
        MissingPackageError: this Python needs a package to read TOML.
    """
    try:
        boards = _parse(path.read_text(encoding="utf-8"))["boards"]
        entries = [_entry(number, *of_one) for number, of_one in enumerate(boards.items())]
    except OSError as error:
        raise LenetEdgeError(
            f"cannot read {path}: {error.strerror}; docs/fleet.md shows one"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"no [{error.args[0]}.NAME]" if isinstance(error, KeyError) else str(error)
        raise LenetEdgeError(f"{path}: {said}; docs/fleet.md shows one") from error
    unknown = set(names) - {word for one in entries for word in (one.name, *one.tags)}
    if unknown:
        raise LenetEdgeError(f"{path} has no board or tag named {', '.join(sorted(unknown))}")
    return [one for one in entries if not names or {one.name, *one.tags} & set(names)]


def _parse(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise MissingPackageError("tomli", EXTRA) from None
    found: dict[str, Any] = tomllib.loads(text)
    return found


def _entry(number: int, name: str, facts: Mapping[str, Any]) -> Entry:
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name, re.ASCII):
        raise ValueError(f"{name!r} is no name of letters, digits, - and _")
    for key, value in facts.items():
        if not isinstance(value, _KEYS.get(key, ())):
            raise ValueError(f"board {name}: {key} = {value!r} is not what it takes")
    if "ssh" not in facts:
        raise ValueError(f"board {name} has no ssh = ADDRESS")
    if not facts["ssh"] or facts["ssh"].startswith("-"):  # ssh would take it for an option
        raise ValueError(f"board {name}: ssh = {facts['ssh']!r} is no address")
    return Entry(
        name, facts["ssh"], number, facts.get("python", "python3"), tuple(facts.get("tags", ()))
    )
