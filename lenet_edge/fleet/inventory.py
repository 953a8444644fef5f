"""Inventory of a fleet: the file fleet.toml, which lists the boards and their ssh addresses.

[boards.pi5-a]                    # the name: letters, digits, - and _
ssh = "pi@pi5-a.local"            # an argument of ssh; ~/.ssh/config has the rest
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
    """A board of the inventory; `number` is its position, which determines its port."""

    name: str
    ssh: str
    number: int = 0
    python: str = "python3"
    tags: tuple[str, ...] = ()


def read_inventory(path: Path, names: Sequence[str] = ()) -> list[Entry]:
    """Return the boards of an inventory.

    Args:
        path: the TOML file.
        names: names or tags of the boards to return; empty for all boards.

    Raises:
        LenetEdgeError: the file is missing or malformed, or no board has one of the names.
        MissingPackageError: this Python needs a package to read TOML.
    """
    try:
        boards = _parse(path.read_text(encoding="utf-8"))["boards"]
        entries = [_entry(number, *item) for number, item in enumerate(boards.items())]
    except OSError as error:
        raise LenetEdgeError(
            f"cannot read {path}: {error.strerror}; docs/fleet.md shows an example"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        cause = f"no [{error.args[0]}.NAME]" if isinstance(error, KeyError) else str(error)
        raise LenetEdgeError(f"{path}: {cause}; docs/fleet.md shows an example") from error
    unknown = set(names) - {name for entry in entries for name in (entry.name, *entry.tags)}
    if unknown:
        raise LenetEdgeError(f"{path} has no board or tag named {', '.join(sorted(unknown))}")
    return [entry for entry in entries if not names or {entry.name, *entry.tags} & set(names)]


def _parse(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise MissingPackageError("tomli", EXTRA) from None
    document: dict[str, Any] = tomllib.loads(text)
    return document


def _entry(number: int, name: str, facts: Mapping[str, Any]) -> Entry:
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name, re.ASCII):
        raise ValueError(f"{name!r} is not a name of letters, digits, - and _")
    for key, value in facts.items():
        if not isinstance(value, _KEYS.get(key, ())):
            raise ValueError(f"board {name}: {key} = {value!r} is no setting of a board")
    if "ssh" not in facts:
        raise ValueError(f"board {name} has no ssh = ADDRESS")
    if not facts["ssh"] or facts["ssh"].startswith("-"):  # ssh would read it as an option
        raise ValueError(f"board {name}: ssh = {facts['ssh']!r} is not an address")
    return Entry(
        name, facts["ssh"], number, facts.get("python", "python3"), tuple(facts.get("tags", ()))
    )
