"""Inventory of a fleet: the file fleet.toml, which lists the boards and their ssh addresses.

[boards.pi5-a]                    # the name: letters, digits, - and _
ssh = "pi@pi5-a.local"            # an argument of ssh; ~/.ssh/config has the rest
python = "lenet/bin/python"       # of the venv with lenet-edge[fleet] and a runtime
tags = ["kitchen", "pi5"]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_edge.errors import LenetEdgeError
from lenet_edge.fleet.certificates import EXTRA
from lenet_edge.support.printable import make_printable
from lenet_edge.support.toml_file import parse_toml, read_settings
from lenet_edge.support.typed_json import check_types

DEFAULT = Path("fleet.toml")
MAX_BOARDS = 4096  # each has a port above the scheduler's
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
        boards = parse_toml(read_settings(path), EXTRA).get("boards")
        if not isinstance(boards, dict) or not boards:
            raise ValueError("no [boards.NAME]")
        if len(boards) > MAX_BOARDS:
            raise ValueError(f"{len(boards):,} boards; at most {MAX_BOARDS:,} have a port")
        entries = [_entry(number, *item) for number, item in enumerate(boards.items())]
    except OSError as error:
        raise LenetEdgeError(
            f"cannot read {path}: {error.strerror}; docs/fleet.md shows an example"
        ) from error
    except ValueError as error:
        cause = make_printable(" ".join(str(error).split()))
        raise LenetEdgeError(f"{path}: {cause}; docs/fleet.md shows an example") from error
    unknown = set(names) - {name for entry in entries for name in (entry.name, *entry.tags)}
    if unknown:
        raise LenetEdgeError(f"{path} has no board or tag named {', '.join(sorted(unknown))}")
    return [entry for entry in entries if not names or {entry.name, *entry.tags} & set(names)]


def _entry(number: int, name: str, facts: Any) -> Entry:
    if not re.fullmatch(r"[A-Za-z0-9][\w-]{0,62}", name, re.ASCII):
        raise ValueError(f"{name!r:.80} is not a name of 1 to 63 letters, digits, - and _")
    if not isinstance(facts, dict):
        raise ValueError(f"board {name}: {facts!r:.80} is not a table of settings")
    for key, value in facts.items():
        if key not in _KEYS or not isinstance(value, _KEYS[key]):
            raise ValueError(f"board {name}: {key:.80} = {value!r:.80} is no setting of a board")
    entry = Entry(
        name,
        facts.get("ssh", ""),
        number,
        facts.get("python", "python3"),
        tuple(facts.get("tags", ())),
    )
    try:
        check_types(entry)
    except ValueError as error:
        raise ValueError(f"board {name}: {error} is no setting of a board") from None
    if "ssh" not in facts:
        raise ValueError(f"board {name} has no ssh = ADDRESS")
    # ssh would read a leading hyphen as an option. No address and no path has control characters.
    if not entry.ssh or entry.ssh.startswith("-") or not entry.ssh.isprintable():
        raise ValueError(f"board {name}: ssh = {entry.ssh!r:.80} is not an address")
    if not entry.python.isprintable():
        raise ValueError(f"board {name}: python = {entry.python!r:.80} is not a path")
    return entry
