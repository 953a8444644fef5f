"""Additions to the package that the documents describe, applied to a copy of it."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

import lenet_edge

ROOT = Path(__file__).parents[1]
PACKAGE = Path(lenet_edge.__file__).parent
TABLE = "lenet_edge/formats.py"


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def documented_files(text: str) -> dict[str, str]:
    """Return the code blocks of a page by the path that the line before each block names."""
    blocks = re.findall(
        r"`(lenet_edge/[\w/]+\.py)`:\n\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL
    )
    return dict(blocks)


def shell_lines(text: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def link_package(folder: Path, changed: tuple[str, ...]) -> Path:
    """Make a package of links to the files of this one; folders in `changed` are real folders."""
    copy = folder / "lenet_edge"
    for name in ("", *changed):
        (copy / name).mkdir(parents=True, exist_ok=True)
    for name in ("", *changed):
        for path in (PACKAGE / name).iterdir():
            target = copy / name / path.name
            if path.name != "__pycache__" and not target.exists():
                target.symlink_to(path)
    return copy


def add_documented(text: str, root: Path) -> None:
    """Write the files of a page into the package in `root`; rows go into the table of formats."""
    for name, code in documented_files(text).items():
        path = root / name
        content = code
        if name == TABLE:
            table = path.read_text(encoding="utf-8")
            assert table.count("\n)\nBY_NAME") == 1
            row = textwrap.indent(code.rstrip(), "    ")
            content = table.replace("\n)\nBY_NAME", f"\n{row},\n)\nBY_NAME")
            path.unlink()
        assert not path.exists(), f"{path} exists"
        path.write_text(content, encoding="utf-8")


def copy_package(folder: Path) -> None:
    """Copy the package, its tests and its settings."""
    for name in ("lenet_edge", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__py*"))
    shutil.copy(ROOT / "pyproject.toml", folder)
