"""Type check of the modules that are discovered by name or named by strings.

mypy cannot follow `importlib.import_module`. So `interface_assignments` writes a module that
assigns every runtime, converter and layer reader to a variable of its protocol, and
`check_with_mypy` checks that module.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lenet_edge
from lenet_edge import formats

ROOT = Path(__file__).parents[1]
_FIELDS = {
    "layers": "LayerReader",
    "graph": "GraphReader",
    "converter": "Converter",
    "check": "Callable[[Path], None]",
    "parts": "Callable[[Path], set[str]]",
    "contract_reader": "ContractReader",
    "contract_writer": "ContractWriter",
    "companion": "CompanionWriter",
}
_HEAD = """\
from collections.abc import Callable
from pathlib import Path

from lenet_edge.artifacts.embedded import ContractReader
from lenet_edge.export.converter import CompanionWriter, ContractWriter, Converter
from lenet_edge.inspection.graph import GraphReader
from lenet_edge.inspection.layer import LayerReader
from lenet_edge.runtimes import DetectsAbsence, IsDeployable, RefusesFiles, RuntimeModule
"""


def interface_assignments() -> str:
    """Return a module that assigns every discovered module to a variable of its protocol."""
    checks: list[tuple[str, str]] = []
    for path in sorted((Path(lenet_edge.__file__).parent / "runtimes").glob("[!_]*.py")):
        text, module = path.read_text(encoding="utf-8"), f"lenet_edge.runtimes.{path.stem}"
        checks.append((module, "RuntimeModule"))
        if "\ndef absence(" in text:
            checks.append((module, "DetectsAbsence"))
        if "\ndef refusal(" in text:
            checks.append((module, "RefusesFiles"))
        if "\nDEPLOYABLE" in text:
            checks.append((module, "IsDeployable"))
    for format in formats.FORMATS:
        for field, protocol in _FIELDS.items():
            if reference := getattr(format, field):
                checks.append((reference, protocol))
    return _HEAD + "".join(assignment(*check, n) for n, check in enumerate(checks))


def assignment(reference: str, protocol: str, number: int) -> str:
    """Return lines that assign a module, or a function of one, to a variable of a protocol."""
    parent, _, name = reference.replace(":", ".").rpartition(".")
    return f"from {parent} import {name} as _{number}\n_checked_{number}: {protocol} = _{number}\n"


def check_with_mypy(folder: Path, text: str, root: Path = ROOT) -> str:
    """Return what mypy finds wrong with a module of this text; "" if nothing."""
    # A cache of its own for a copy of the package: the paths of its modules differ.
    cache = ROOT / ".mypy_cache" / ("" if root == ROOT else "copy")
    path = folder / "interfaces_checked.py"
    path.write_text(text, encoding="utf-8")
    # NumPy 2.5 declares types that mypy cannot read for Python 3.10.
    version = "{}.{}".format(*sys.version_info)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"),
               "--python-version", version, "--cache-dir", str(cache), str(path)]  # fmt: skip
    process = subprocess.run(
        command, cwd=root, env={**os.environ, "MYPYPATH": str(root)}, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    return "" if process.returncode == 0 else process.stdout + process.stderr
